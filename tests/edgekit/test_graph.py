"""``edgekit.graph``: what a flatbuffer describes, and the check that nothing in it leaves the file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ModelFileError
from edgekit.graph import OPERATORS, Graph, parse
from edgekit.tensors import QuantParams

BUILDERS: dict[str, Callable[[], bytes]] = {
    "dense_float": models.dense_float,
    "dense_open_batch": lambda: models.dense_float(open_batch=True),
    "dense_without_signature": lambda: models.dense_float(signature=False),
    "dense_int8": models.dense_int8,
    "conv_float": models.conv_float,
    "add_two_inputs": models.add_two_inputs,
    "fixed_reshape": models.fixed_reshape,
    "custom_op": models.custom_op,
}
every_model = pytest.mark.parametrize("name", sorted(BUILDERS))


def read(content: bytes) -> Graph:
    """The graph of a file that messages call ``the model``."""
    return parse(content, "the model")


def names_of(enum: type) -> dict[int, str]:
    """An enumeration of the schema package, by code."""
    return {code: name for name, code in vars(enum).items() if not name.startswith("_")}


def tensor_of(content: bytes, name: str) -> Any:
    """One tensor of the main subgraph by name."""
    return next(tensor for tensor in read(content).main.tensors if tensor.name == name)


def change_tensor(name: str, **values: Any) -> Callable[[Any], None]:
    """An edit that sets fields of one tensor of the main subgraph."""

    def change(model: Any) -> None:
        tensor = next(item for item in model.subgraphs[0].tensors if item.name == name.encode())
        for field, value in values.items():
            setattr(tensor, field, value)

    return change


class TestWhatIsRead:
    """The same as LiteRT's own schema package reads."""

    @every_model
    def test_tensors(self, name: str) -> None:
        """Name, sizes, type, place of the data, and quantisation of each tensor."""
        content = BUILDERS[name]()
        expected = models.unpacked(content)
        types = names_of(schema.TensorType)
        wanted = []
        for index, tensor in enumerate(expected.subgraphs[0].tensors):
            shape = tuple(int(size) for size in tensor.shape)
            quant = None
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                found = tensor.quantization
                quant = QuantParams(
                    tuple(found.scale.tolist()), tuple(found.zeroPoint.tolist()), found.quantizedDimension
                )
            data = expected.buffers[tensor.buffer].data
            wanted.append(
                (
                    index,
                    tensor.name.decode(),
                    shape,
                    shape if tensor.shapeSignature is None else tuple(int(size) for size in tensor.shapeSignature),
                    types[tensor.type].lower(),
                    quant,
                    None if data is None else bytes(data),
                    tensor.isVariable,
                )
            )
        seen = [
            (
                t.index,
                t.name,
                t.shape,
                t.shape_signature,
                t.dtype,
                t.quant,
                None if t.data is None else bytes(t.data),
                t.is_variable,
            )
            for t in read(content).main.tensors
        ]
        assert wanted == seen

    @every_model
    def test_operators(self, name: str) -> None:
        """Name, version, inputs and outputs of each operator."""
        content = BUILDERS[name]()
        expected = models.unpacked(content)
        builtin = names_of(schema.BuiltinOperator)
        wanted = []
        for index, op in enumerate(expected.subgraphs[0].operators):
            code = expected.operatorCodes[op.opcodeIndex]
            custom = code.builtinCode == schema.BuiltinOperator.CUSTOM
            own = code.customCode.decode() if custom else builtin[code.builtinCode]
            wanted.append((index, own, custom, code.version, tuple(op.inputs), tuple(op.outputs)))
        seen = [(op.index, op.name, op.custom, op.version, op.inputs, op.outputs) for op in read(content).main.ops]
        assert wanted == seen

    @every_model
    def test_edges_and_signatures(self, name: str) -> None:
        """Inputs, outputs, description, and the names that the signature gives."""
        content = BUILDERS[name]()
        expected = models.unpacked(content)
        main = expected.subgraphs[0]

        def pairs(items: Any) -> tuple[tuple[str, int], ...]:
            return tuple((item.name.decode(), item.tensorIndex) for item in items)

        wanted = (
            3,
            expected.description.decode(),
            "main",
            tuple(main.inputs),
            tuple(main.outputs),
            [
                (item.signatureKey.decode(), item.subgraphIndex, pairs(item.inputs), pairs(item.outputs))
                for item in expected.signatureDefs or []
            ],
        )
        graph = read(content)
        seen = (
            graph.version,
            graph.description,
            graph.main.name,
            graph.main.inputs,
            graph.main.outputs,
            [(item.key, item.subgraph, item.inputs, item.outputs) for item in graph.signatures],
        )
        assert wanted == seen

    def test_metadata(self) -> None:
        """Named byte blocks, an empty one among them."""

        def change(model: Any) -> None:
            model.metadata = []
            for name, data in ((b"first", b"some bytes"), (b"second", None)):
                buffer, item = schema.BufferT(), schema.MetadataT()
                buffer.data = None if data is None else list(data)
                item.name, item.buffer = name, len(model.buffers)
                model.buffers.append(buffer)
                model.metadata.append(item)

        graph = read(models.edited(models.dense_float(), change))
        assert {"first": b"some bytes", "second": b""} == graph.metadata

    def test_several_subgraphs(self) -> None:
        """Further subgraphs are read as well, and the first is the main one."""
        content = models.edited(
            models.dense_float(),
            lambda model: model.subgraphs.append(models.unpacked(models.dense_float()).subgraphs[0]),
        )
        graph = read(content)
        assert (2, 2) == (len(graph.subgraphs), len(graph.subgraphs[1].ops))
        assert graph.main is graph.subgraphs[0]

    def test_constant_outside_the_flatbuffer(self) -> None:
        """A buffer that names a place behind the flatbuffer is read from there."""
        content = models.dense_float()
        weights = bytes(tensor_of(content, "weights").data)
        index = next(item.buffer for item in models.unpacked(content).subgraphs[0].tensors if item.name == b"weights")

        def point_to(place: int) -> Callable[[Any], None]:
            def change(model: Any) -> None:
                model.buffers[index].data = None
                model.buffers[index].offset, model.buffers[index].size = place, len(weights)

            return change

        length = len(models.edited(content, point_to(1 << 20)))
        moved = models.edited(content, point_to(length))
        assert length == len(moved)
        assert weights == bytes(tensor_of(moved + weights, "weights").data)
        with pytest.raises(ModelFileError, match=f"a buffer of {len(weights)} bytes at byte {length} lies outside"):
            read(moved + weights[:-1])

    def test_operator_codes_of_old_files(self) -> None:
        """A code that stands only in the old field is read from there, and said to be old."""

        def change(model: Any) -> None:
            for code in model.operatorCodes:
                code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0

        old = read(models.edited(models.dense_float(), change))
        assert (["FULLY_CONNECTED", "SOFTMAX"], True) == ([op.name for op in old.main.ops], old.old_operator_codes)
        assert not read(models.dense_float()).old_operator_codes
        assert not read(models.add_two_inputs()).old_operator_codes, "ADD is 0 in both fields of every file"

    @pytest.mark.parametrize(("name", "flex"), [("Mystery", False), ("FlexErf", True)])
    def test_custom_operators(self, name: str, flex: bool) -> None:
        """A custom operator has its own name; TensorFlow's are known by its first letters."""
        op = read(models.custom_op(name)).main.ops[0]
        assert (name, True, flex) == (op.name, op.custom, op.is_flex)

    def test_absent_inputs(self) -> None:
        """A bias may be absent, and anything of a custom operator."""
        assert read(models.edited(models.dense_float(), _op(inputs=[0, 1, -1]))).main.ops[0].inputs == (0, 1, -1)
        assert read(models.edited(models.custom_op(), _op(inputs=[-1, 0]))).main.ops[0].inputs == (-1, 0)

    def test_options(self) -> None:
        """A scalar of the builtin options by field number, or its default where the file leaves it out."""
        conv = read(models.conv_float()).main.ops[0]
        assert (1, 1) == (conv.option(1, "i", 0), conv.option(2, "i", 0)), "stride_w, stride_h"
        assert 17 == conv.option(40, "i", 17)
        assert 17 == read(models.custom_op()).main.ops[0].option(0, "i", 17), "no options at all"

    def test_constant_as_an_array(self) -> None:
        """A constant comes as numpy sees it, and cannot be written to."""
        weights = tensor_of(models.dense_float(), "weights")
        array = weights.array()
        np.testing.assert_allclose(
            array @ np.ones(8, np.float32) + tensor_of(models.dense_float(), "bias").array(),
            models.dense_logits(np.ones((1, 8), np.float32))[0],
            rtol=1e-5,
        )
        assert ((4, 8), "float32", False, 32) == (
            array.shape,
            str(array.dtype),
            array.flags.writeable,
            weights.elements,
        )

    def test_an_activation_has_no_array(self) -> None:
        """Only constants have data."""
        with pytest.raises(ModelFileError, match=r"'x' has no plain constant data \(float32\)"):
            tensor_of(models.dense_float(), "x").array()

    def test_data_of_buffer_zero_is_nobody_s(self) -> None:
        """Buffer 0 stands for "no data", whatever a file writes into it."""

        def change(model: Any) -> None:
            model.buffers[0].data = [1, 2, 3, 4, 5]

        assert tensor_of(models.edited(models.dense_float(), change), "x").data is None

    def test_bytes_behind_the_flatbuffer_are_ignored(self) -> None:
        """What follows does not change what is read."""
        content = models.dense_int8()
        assert read(content).main.ops[0].inputs == read(content + b"anything at all").main.ops[0].inputs

    def test_operator_names_are_the_schema_s(self) -> None:
        """Every code of the schema's ``BuiltinOperator`` has its name here, in the same place."""
        codes = names_of(schema.BuiltinOperator)
        assert [codes[code] for code in range(len(codes))] == list(OPERATORS)


class TestNotAModel:
    """What is no flatbuffer of this kind at all."""

    def test_empty(self) -> None:
        """An empty file is said to be empty."""
        with pytest.raises(ModelFileError, match=r"^the model is empty: a \.tflite model was expected\.$"):
            read(b"")

    @pytest.mark.parametrize("content", [b"abc", b"\x1c\0\0\0TFL", b"\x1c\0\0\0TFL2" + bytes(64), b"PK\x03\x04" * 20])
    def test_wrong_identifier(self, content: bytes) -> None:
        """The message shows the four bytes that were found and what may have happened."""
        with pytest.raises(ModelFileError, match=r"is not a \.tflite model: bytes 4\.\.8 are b'.*expected b'TFL3'"):
            read(content)

    @pytest.mark.parametrize("seed", range(20))
    def test_random_bytes(self, seed: int) -> None:
        """Noise behind the right identifier is damaged, never another exception."""
        generator = np.random.default_rng(seed)
        for size in (8, 9, 40, 400, 4000):
            noise = generator.bytes(size)
            with pytest.raises(ModelFileError, match="the model is damaged or cut short"):
                read(struct.pack("<I", seed * 4) + b"TFL3" + noise)

    def test_newer_schema(self) -> None:
        """Another schema version is not guessed at."""

        def change(model: Any) -> None:
            model.version = 4

        with pytest.raises(ModelFileError, match="schema version 4, expected 3"):
            read(models.edited(models.dense_float(), change))


@dataclass(frozen=True)
class Damage:
    """An edit that makes a file wrong, and words of the message."""

    id: str
    builder: Callable[[], bytes]
    change: Callable[[Any], object]
    words: str


def _op(**values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for field, value in values.items():
            setattr(model.subgraphs[0].operators[0], field, value)

    return change


def _graph(**values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for field, value in values.items():
            setattr(model.subgraphs[0], field, value)

    return change


def _quant(scale: list[float], zero_point: list[int], axis: int = 0) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        quantization = model.subgraphs[0].tensors[0].quantization
        quantization.scale, quantization.zeroPoint, quantization.quantizedDimension = scale, zero_point, axis

    return change


def _metadata(model: Any) -> None:
    item = schema.MetadataT()
    item.name, item.buffer = b"note", 99
    model.metadata = [item]


def _signature(field: str, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        signature = model.signatureDefs[0]
        setattr(signature if field == "subgraphIndex" else signature.outputs[0], field, value)

    return change


def _codes(field: str, value: int) -> Callable[[Any], None]:
    return lambda model: setattr(model.operatorCodes[0], field, value)


DAMAGES = [
    Damage(
        "constant too short",
        models.dense_float,
        change_tensor("weights", shape=[4, 9]),
        r"constant 'weights' of shape \[4, 9\] float32 has 128 bytes, not 144",
    ),
    Damage(
        "constant of another type",
        models.dense_float,
        change_tensor("weights", type=schema.TensorType.INT8),
        r"constant 'weights' of shape \[4, 8\] int8 has 128 bytes, not 32",
    ),
    Damage(
        "int4 constant",
        models.dense_int8,
        change_tensor("weights", type=schema.TensorType.INT4, shape=[4, 9]),
        r"constant 'weights' of shape \[4, 9\] int4 has 32 bytes, not 18",
    ),
    Damage("negative size", models.dense_float, change_tensor("x", shape=[-1, 8]), r"tensor 'x' has shape \[-1, 8\]"),
    Damage(
        "size below open", models.dense_float, change_tensor("x", shapeSignature=[-2, 8]), r"shape signature \[-2, 8\]"
    ),
    Damage("rank", models.dense_float, change_tensor("x", shape=[1] * 17), r"tensor 'x' has shape"),
    Damage(
        "signature of another rank",
        models.dense_float,
        change_tensor("x", shapeSignature=[-1, 8, 1]),
        r"shape \[1, 8\] and shape signature \[-1, 8, 1\]",
    ),
    Damage("unknown type", models.dense_float, change_tensor("x", type=100), "tensor 'x' has unknown type 100"),
    Damage("negative type", models.dense_float, change_tensor("x", type=-1), "tensor 'x' has unknown type -1"),
    Damage("buffer index", models.dense_float, change_tensor("x", buffer=77), "tensor 'x' refers to buffer 77 of 3"),
    Damage(
        "scales without zero points",
        models.dense_int8,
        _quant([0.5, 0.5], [0]),
        "tensor 'x' has 2 scales and 1 zero points",
    ),
    Damage(
        "scales of no axis",
        models.dense_int8,
        _quant([0.5] * 8, [0] * 8, axis=2),
        r"tensor 'x' of shape \[1, 8\] has 8 scales on axis 2",
    ),
    Damage(
        "scales of a wrong axis",
        models.dense_int8,
        _quant([0.5] * 8, [0] * 8, axis=0),
        r"tensor 'x' of shape \[1, 8\] has 8 scales on axis 0",
    ),
    Damage("NaN scale", models.dense_int8, _quant([float("nan")], [0]), "tensor 'x' has scale nan"),
    Damage("infinite scale", models.dense_int8, _quant([float("inf")], [0]), "tensor 'x' has scale inf"),
    Damage("negative scale", models.dense_int8, _quant([-0.5], [0]), "tensor 'x' has scale -0.5"),
    Damage(
        "operator's input",
        models.dense_float,
        _op(inputs=[0, 99, 2]),
        r"operator 0 \(FULLY_CONNECTED\) refers to tensor 99",
    ),
    Damage("operator's input below -1", models.dense_float, _op(inputs=[0, 1, -2]), "refers to tensor -2 of 5"),
    Damage(
        "operator's first input", models.dense_float, _op(inputs=[-1, 1, 2]), r"0 \(FULLY_CONNECTED\) lacks its input 0"
    ),
    Damage("one of two", models.add_two_inputs, _op(inputs=[0, -1]), r"operator 0 \(ADD\) lacks its input 1"),
    Damage("operator's output", models.dense_float, _op(outputs=[-1]), "refers to tensor -1 of 5"),
    Damage("operator's code", models.dense_float, _op(opcodeIndex=2), "operator 0 refers to operator code 2 of 2"),
    Damage("model's input", models.dense_float, _graph(inputs=[5]), "the list of inputs refers to tensor 5 of 5"),
    Damage("model's output", models.dense_float, _graph(outputs=[-1]), "the list of outputs refers to tensor -1 of 5"),
    Damage("no subgraph", models.dense_float, lambda model: setattr(model, "subgraphs", []), "there is no subgraph"),
    Damage("operator from the future", models.dense_float, _codes("builtinCode", 5000), "unknown operator code 5000"),
    Damage("metadata's buffer", models.dense_float, _metadata, "metadata 'note' refers to buffer 99 of 3"),
    Damage(
        "signature's subgraph",
        models.dense_float,
        _signature("subgraphIndex", 1),
        "signature 'serving_default' refers to subgraph 1 of 1",
    ),
    Damage(
        "signature's tensor",
        models.dense_float,
        _signature("tensorIndex", 5),
        "signature 'serving_default' maps 'probabilities' to tensor 5 of 5",
    ),
]


@pytest.mark.parametrize("case", DAMAGES, ids=lambda case: case.id)
def test_damage_is_named(case: Damage) -> None:
    """The message says what is wrong and where, and what to do."""
    read(case.builder())
    with pytest.raises(ModelFileError, match=case.words) as caught:
        read(models.edited(case.builder(), case.change))
    assert str(caught.value).startswith("the model is damaged or cut short (")
    assert str(caught.value).endswith("Copy or download the file again, or convert the model again.")


@dataclass(frozen=True)
class Reference:
    """A number of the flatbuffer's own that leads out of the file, and words of the message."""

    id: str
    form: str
    at: Callable[[bytes], int]
    value: int
    words: str


def _root(content: bytes) -> int:
    return int(struct.unpack_from("<I", content, 0)[0])


def _vtable(content: bytes) -> int:
    return _root(content) - int(struct.unpack_from("<i", content, _root(content))[0])


def _field(content: bytes, field: int) -> int:
    """Where a field of the root table lies."""
    return _root(content) + int(struct.unpack_from("<H", content, _vtable(content) + 4 + 2 * field)[0])


def _buffers(content: bytes) -> int:
    """Where the list of buffers begins, with its length."""
    return _field(content, 4) + int(struct.unpack_from("<I", content, _field(content, 4))[0])


OUTSIDE = "lies outside the file"
REFERENCES = [
    Reference("root", "<I", lambda c: 0, 1 << 20, f"a table at byte 1048576 {OUTSIDE}"),
    Reference("vtable before the file", "<i", _root, 1 << 20, f"the vtable of the table at byte .* {OUTSIDE}"),
    Reference("vtable behind the file", "<i", _root, -(1 << 20), f"the vtable of the table at byte .* {OUTSIDE}"),
    Reference("vtable too long", "<H", _vtable, 0xFFFE, "the table at byte .* is longer than the file"),
    Reference("vtable too short", "<H", _vtable, 2, "the table at byte .* is longer than the file"),
    Reference("vtable of half a field", "<H", _vtable, 7, "the table at byte .* is longer than the file"),
    Reference("table too long", "<H", lambda c: _vtable(c) + 2, 0xFFFF, "the table at byte .* is longer than the file"),
    Reference(
        "field behind its table", "<H", lambda c: _vtable(c) + 4, 400, "a field of the table at byte .* lies outside"
    ),
    Reference("list", "<I", lambda c: _field(c, 4), 0x7FFFFFF0, "an offset at byte .* points outside the file"),
    Reference("length", "<I", _buffers, 0x7FFFFFF0, "a vector of 2147483632 items at byte .* is longer than the file"),
    Reference("item", "<I", lambda c: _buffers(c) + 4, 0x7FFFFFF0, f"a table at byte .* {OUTSIDE}"),
]


@pytest.mark.parametrize("case", REFERENCES, ids=lambda case: case.id)
def test_references_that_leave_the_file(case: Reference) -> None:
    """Each of the format's own numbers is tested before it is followed, and the message names the byte."""
    content = bytearray(models.dense_float())
    struct.pack_into(case.form, content, case.at(bytes(content)), case.value)
    with pytest.raises(ModelFileError, match=case.words):
        read(bytes(content))


def mutants(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The file with each aligned 32-bit word overwritten or flipped in turn."""
    for at in range(0, len(content) - 3, 4):
        own = struct.unpack_from("<I", content, at)[0]
        values = {0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x40000000, 0x00FFFFFF, 0xFFFF, len(content), 1, 0}
        values |= {own ^ 0xFFFFFFFF, (own + 4) % 2**32, (own - 4) % 2**32}
        for value in sorted(values - {own}):
            yield f"word {at} = {value:#x}", content[:at] + struct.pack("<I", value) + content[at + 4 :]


def outcome(content: bytes) -> str:
    """How parsing ends: ``read``, ``refused``, or the exception that must not be."""
    try:
        read(content)
    except ModelFileError:
        return "refused"
    except Exception as error:
        return repr(error)
    return "read"


@every_model
def test_overwritten_words(name: str) -> None:
    """Whichever word is wrong, the file is read or refused: no other exception, and both do occur."""
    seen = {label: outcome(content) for label, content in mutants(BUILDERS[name]())}
    assert {label: result for label, result in seen.items() if result not in ("read", "refused")} == {}
    assert {"read", "refused"} == set(seen.values())


@every_model
def test_cut_at_every_length(name: str) -> None:
    """A file that lost its end is refused, however much is missing."""
    content = BUILDERS[name]()
    # Flatbuffers pad: the last bytes of a file may be zeros that nothing refers to.
    lengths = range(len(content.rstrip(b"\0")))
    assert {"refused"} == {outcome(content[:length]) for length in lengths}


@pytest.mark.parametrize("name", ["dense_int8", "add_two_inputs"])
def test_overwritten_bytes(name: str) -> None:
    """The same for single bytes."""
    content = BUILDERS[name]()
    for at in range(len(content)):
        for value in sorted({0, 0x80, 0xFF, content[at] ^ 1}):
            result = outcome(content[:at] + bytes([value]) + content[at + 1 :])
            assert result in ("read", "refused"), f"byte {at} = {value}: {result}"


def table_of(fields: dict[int, int], count: int) -> tuple[bytes, int]:
    """A vtable and its table with 32-bit fields: the bytes, and where the table starts in them."""
    slots = sorted(fields)
    vtable = struct.pack("<HH", 4 + 2 * count, 4 + 4 * len(slots))
    vtable += b"".join(struct.pack("<H", 4 + 4 * slots.index(i) if i in fields else 0) for i in range(count))
    vtable += bytes(-len(vtable) % 4)
    return vtable + struct.pack("<i", len(vtable)) + b"".join(struct.pack("<I", fields[i]) for i in slots), len(vtable)


def repeating(operators: int, fields: int) -> bytes:
    """A file whose list of operator codes names one and the same huge table, ``operators`` times."""
    head, start = table_of({0: 3, 1: 4 + 4}, 5)
    start += 8
    huge, place = table_of({0: 0}, fields)
    vector = struct.pack("<I", operators)
    targets = b"".join(struct.pack("<I", 4 * operators + place - 4 * i) for i in range(operators))
    content = struct.pack("<I", start) + b"TFL3" + head
    # The second field of the root holds the distance from itself to the vector, which follows at once.
    content = content[:-4] + struct.pack("<I", 4)
    return content + vector + targets + huge


def test_a_small_file_that_means_endless_work() -> None:
    """References to the same bytes over and over are refused before they cost minutes."""
    with pytest.raises(ModelFileError, match="refers to the same bytes over and over"):
        read(repeating(150, 30_000))


def test_an_honest_repetition_is_read() -> None:
    """Files share what is equal (vtables, strings): that many small tables in a row are no attack."""
    with pytest.raises(ModelFileError, match="there is no subgraph"):
        read(repeating(50_000, 4))


def test_too_long_a_list() -> None:
    """A list beyond any model's size is refused."""
    with pytest.raises(ModelFileError, match=r"a list of 250000 items at byte .*, at most 200000 are sane"):
        read(repeating(250_000, 4))
