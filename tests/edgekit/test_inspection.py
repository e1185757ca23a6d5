"""``edgekit.inspection``: types, operators, multiply-accumulates, and what a delegate takes."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import ModelFileError
from edgekit.graph import parse
from edgekit.inspection import OpSummary, count_macs, inspect, op_type
from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams

SCALE = QuantParams((0.1,), (0,))


def one_op(
    name: str,
    shapes: list[tuple[int, ...]],
    output: tuple[int, ...],
    *,
    options: tuple[str, object] | None = None,
    dtypes: tuple[str, ...] = (),
    constants: tuple[int, ...] = (),
) -> bytes:
    """A model of one operator; quantised where the type is an integer, all float32 by default."""
    b = models.Builder()
    kinds = dtypes or ("float32",) * (len(shapes) + 1)
    tensors = []
    for index, (shape, dtype) in enumerate(zip([*shapes, output], kinds, strict=True)):
        quant = SCALE if dtype in ("int8", "uint8", "int16") else None
        data = np.zeros(shape, dtype) if index in constants else None
        tensors.append(b.tensor(f"t{index}", shape, dtype, data=data, quant=quant))
    b.op(name, tensors[:-1], tensors[-1:], options)  # type: ignore[arg-type]
    inputs = {f"t{i}": i for i in range(len(shapes)) if i not in constants}
    return b.build(inputs, {f"t{len(shapes)}": len(shapes)})


def macs(content: bytes) -> int:
    """The count for a one-operator model."""
    main = parse(content, "the model").main  # not read for running: these have no strides
    return count_macs(main, main.ops[0])


def test_float_model(dense_float_file: Path) -> None:
    """Everything that is known of a float model."""
    seen = inspect(dense_float_file)
    content = models.dense_float()
    assert (str(dense_float_file), len(content)) == (seen.path, seen.size_bytes)
    assert (ModelFile.read(content).sha256, "made by edgekit's tests") == (seen.sha256, seen.description)
    assert (
        OpSummary(0, "FULLY_CONNECTED", "float", 32, "logits"),
        OpSummary(1, "SOFTMAX", "float", 0, "probabilities"),
    ) == seen.ops
    assert (32, 0.0, False, seen.ops) == (seen.macs, seen.int8_mac_share, seen.fully_int8, seen.float_ops)
    assert (("serving_default",), 1, (), (), False) == (
        seen.signatures,
        seen.subgraphs,
        seen.custom_ops,
        seen.flex_ops,
        seen.old_operator_codes,
    )
    assert {"FULLY_CONNECTED": 1, "SOFTMAX": 1} == seen.op_counts()
    assert (None, None) == (seen.manifest, seen.load_error)
    assert "xnnpack: 2 of 2 operators in 1 partition" == str(seen.partitions)
    assert (seen.engine or "").startswith("ai-edge-litert ")


def test_int8_model() -> None:
    """An int8 model is fully int8, and its multiply-accumulates are."""
    seen = inspect(models.dense_int8())
    assert (True, 1.0, ()) == (seen.fully_int8, seen.int8_mac_share, seen.float_ops)
    assert ("the model", [OpSummary(0, "FULLY_CONNECTED", "int8", 32, "logits")]) == (seen.path, list(seen.ops))


def test_sources(dense_int8_file: Path) -> None:
    """A path, its text, bytes and a ``ModelFile`` are described alike."""
    model = ModelFile.read(dense_int8_file)
    expected = inspect(dense_int8_file)
    assert [expected] * 2 == [inspect(source) for source in (str(dense_int8_file), model)]


def test_manifest_is_shown() -> None:
    """What edgekit wrote into the file is part of the description."""
    content = models.with_manifest(models.dense_int8(), labels=("a", "b", "c", "d"))
    seen = inspect(content, partitions=False)
    assert seen.manifest is not None
    assert ("a", "b", "c", "d") == seen.manifest.labels


def test_without_loading() -> None:
    """On request no interpreter is opened."""
    seen = inspect(models.dense_int8(), partitions=False)
    assert (None, None, None) == (seen.partitions, seen.engine, seen.load_error)


def test_model_that_no_interpreter_takes() -> None:
    """It is described all the same, with the reason why it does not load."""
    seen = inspect(models.custom_op("Mystery"))
    assert (("Mystery",), (), None, None) == (seen.custom_ops, seen.flex_ops, seen.partitions, seen.engine)
    assert "Mystery" in (seen.load_error or "")
    assert (None, False) == (seen.int8_mac_share, seen.fully_int8)


def test_flex_operators_are_apart() -> None:
    """TensorFlow's own operators need the Flex delegate, custom ones another remedy."""
    seen = inspect(models.custom_op("FlexErf"), partitions=False)
    assert ((), ("FlexErf",)) == (seen.custom_ops, seen.flex_ops)


def test_custom_operators_of_other_subgraphs_count() -> None:
    """A custom operator in a loop's body hinders as much."""
    body = models.unpacked(models.custom_op("Mystery"))

    def change(model: object) -> None:
        body.subgraphs[0].operators[0].opcodeIndex = len(model.operatorCodes)  # type: ignore[attr-defined]
        model.operatorCodes.append(body.operatorCodes[0])  # type: ignore[attr-defined]
        model.subgraphs.append(body.subgraphs[0])  # type: ignore[attr-defined]

    seen = inspect(models.edited(models.dense_float(), change), partitions=False)
    assert (2, ("Mystery",), 2) == (seen.subgraphs, seen.custom_ops, len(seen.ops))


def test_damaged_file() -> None:
    """Damage is an error, not a description."""
    with pytest.raises(ModelFileError):
        inspect(models.dense_int8()[:200])


@pytest.mark.parametrize(
    "content",
    [models.dense_float(), models.with_manifest(models.dense_int8(), tools={"a": "1"}), models.custom_op()],
    ids=["float", "manifest", "custom"],
)
def test_json_form(content: bytes) -> None:
    """The JSON form is plain JSON and holds what the object holds."""
    seen = inspect(content)
    data = json.loads(json.dumps(seen.to_json(), allow_nan=False))
    assert (seen.macs, seen.fully_int8, seen.load_error) == (data["macs"], data["fully_int8"], data["load_error"])
    assert [list(spec.shape) for spec in seen.inputs] == [item["shape"] for item in data["inputs"]]
    assert [op.name for op in seen.float_ops] == [item["name"] for item in data["float_ops"]]
    assert (seen.manifest is None) == (data["manifest"] is None)


def stored(weights: str, activations: str = "float32", name: str = "FULLY_CONNECTED") -> bytes:
    """One layer whose weights go through a DEQUANTIZE first."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8), activations), b.tensor("y", (1, 4), activations)
    quant = SCALE if weights == "int8" else None
    w = b.tensor("w", (4, 8), weights, data=np.zeros((4, 8), weights), quant=quant)
    f = b.tensor("w_float", (4, 8))
    b.op("DEQUANTIZE", [w], [f])
    b.op(name, [x, f], [y])
    return b.build({"x": x}, {"y": y})


@dataclass(frozen=True)
class Scheme:
    """One layer, how its weights are held, and their bytes."""

    id: str
    content: bytes
    scheme: str
    weight_bytes: int


SCHEMES = [
    Scheme("float", one_op("FULLY_CONNECTED", [(1, 8), (4, 8)], (1, 4), constants=(1,)), "float", 128),
    Scheme("static int8", models.dense_int8(), "int8", 32),
    Scheme(
        "int16 activations",
        one_op("FULLY_CONNECTED", [(1, 8), (4, 8)], (1, 4), dtypes=("int16", "int8", "int16"), constants=(1,)),
        "int16x8",
        32,
    ),
    Scheme(
        "dynamic",
        one_op("FULLY_CONNECTED", [(1, 8), (4, 8)], (1, 4), dtypes=("float32", "int8", "float32"), constants=(1,)),
        "dynamic",
        32,
    ),
    Scheme(
        "a table of int8 is only stored so",
        one_op("GATHER", [(4, 8), (1,)], (1, 8), dtypes=("int8", "int32", "float32"), constants=(0,)),
        "weights",
        32,
    ),
    Scheme("int8 weights computed in float", stored("int8"), "weights", 32),
    Scheme("float16", stored("float16"), "float16", 64),
]


@pytest.mark.parametrize("case", SCHEMES, ids=lambda case: case.id)
def test_schemes(case: Scheme) -> None:
    """How each layer's weights are held and used, whoever made the file."""
    seen = inspect(case.content, partitions=False)
    assert [(case.scheme, case.weight_bytes, 32)] == [
        (layer.scheme, layer.weight_bytes, layer.weight_elements) for layer in seen.layers
    ]
    assert ({case.scheme: 1}, 1.0) == (seen.schemes(), seen.weight_share(case.scheme))


def test_layers_without_weights() -> None:
    """Computed operands and biases are no weights, and operators without any are not listed."""
    assert () == inspect(one_op("BATCH_MATMUL", [(2, 3, 5), (2, 5, 4)], (2, 3, 4)), partitions=False).layers
    assert () == inspect(models.add_two_inputs(), partitions=False).layers
    assert inspect(models.add_two_inputs(), partitions=False).weight_share("int8") is None


def test_int16_is_not_int8() -> None:
    """Work with 16-bit activations is counted apart, and such a file is not fully int8."""
    content = one_op("FULLY_CONNECTED", [(1, 8), (4, 8)], (1, 4), dtypes=("int16", "int8", "int16"), constants=(1,))
    seen = inspect(content, partitions=False)
    assert (0.0, 1.0, False) == (seen.int8_mac_share, seen.int16_mac_share, seen.fully_int8)
    assert ["FULLY_CONNECTED"] == [op.name for op in seen.int16_ops]


@dataclass(frozen=True)
class Work:
    """One operator, and its multiply-accumulates counted by hand."""

    id: str
    content: bytes
    macs: int


def _batch_matmul(adjoint: bool) -> tuple[str, object]:
    options = models.schema.BatchMatMulOptionsT()
    options.adjX = adjoint
    return "BatchMatMulOptions", options


_SHAPE = (4,)
WORK = [
    Work("FULLY_CONNECTED, batch of 3", one_op("FULLY_CONNECTED", [(3, 8), (4, 8), (4,)], (3, 4)), 3 * 4 * 8),
    Work("CONV_2D", one_op("CONV_2D", [(1, 6, 5, 3), (7, 3, 2, 3), (7,)], (1, 6, 5, 7)), (6 * 5 * 7) * (3 * 2 * 3)),
    Work("grouped CONV_2D", one_op("CONV_2D", [(1, 6, 5, 4), (8, 3, 3, 2), (8,)], (1, 6, 5, 8)), 6 * 5 * 8 * 3 * 3 * 2),
    Work(
        "DEPTHWISE_CONV_2D",
        one_op("DEPTHWISE_CONV_2D", [(1, 6, 5, 3), (1, 3, 2, 6), (6,)], (1, 6, 5, 6)),
        (6 * 5 * 6) * (3 * 2),
    ),
    Work(
        "TRANSPOSE_CONV",
        one_op(
            "TRANSPOSE_CONV",
            [_SHAPE, (7, 3, 2, 4), (1, 5, 6, 4)],
            (1, 10, 12, 7),
            dtypes=("int32", "float32", "float32", "float32"),
            constants=(0,),
        ),
        (5 * 6 * 4) * (7 * 3 * 2),
    ),
    Work("BATCH_MATMUL", one_op("BATCH_MATMUL", [(2, 3, 5), (2, 5, 4)], (2, 3, 4)), 2 * 3 * 4 * 5),
    Work(
        "BATCH_MATMUL, left transposed",
        one_op("BATCH_MATMUL", [(2, 5, 3), (2, 5, 4)], (2, 3, 4), options=_batch_matmul(True)),
        2 * 3 * 4 * 5,
    ),
    Work(
        "CONV_3D",
        one_op("CONV_3D", [(1, 4, 6, 5, 3), (2, 3, 3, 3, 7), (7,)], (1, 4, 6, 5, 7)),
        (4 * 6 * 5 * 7) * (2 * 3 * 3 * 3),
    ),
    Work(
        "CONV_3D_TRANSPOSE",
        one_op(
            "CONV_3D_TRANSPOSE",
            [(5,), (2, 3, 3, 7, 4), (1, 2, 5, 6, 4)],
            (1, 4, 10, 12, 7),
            dtypes=("int32", "float32", "float32", "float32"),
            constants=(0,),
        ),
        (2 * 5 * 6 * 4) * (2 * 3 * 3 * 7),
    ),
    Work("ADD is not counted", one_op("ADD", [(1, 8), (1, 8)], (1, 8)), 0),
]


@pytest.mark.parametrize("case", WORK, ids=lambda case: case.id)
def test_multiply_accumulates(case: Work) -> None:
    """Each output value's products, or for transposed convolutions each input value's."""
    assert case.macs == macs(case.content)


def test_open_sizes_count_once() -> None:
    """An open batch is counted as one sample."""
    assert 32 == inspect(models.dense_float(open_batch=True), partitions=False).macs


def test_whole_image_model() -> None:
    """A model's count is the sum of its operators'."""
    seen = inspect(models.conv_float(), partitions=False)
    assert (12 * 12 * 8) * (3 * 3 * 3) + 8 * 5 == seen.macs


@dataclass(frozen=True)
class Types:
    """One operator's tensor types, and what it computes on."""

    id: str
    content: bytes
    type: str


def _dense(x: str, w: str, y: str, *, constant: bool = True) -> bytes:
    return one_op("FULLY_CONNECTED", [(1, 8), (4, 8)], (1, 4), dtypes=(x, w, y), constants=(1,) if constant else ())


TYPES = [
    Types("all float", _dense("float32", "float32", "float32"), "float"),
    Types("all int8", _dense("int8", "int8", "int8"), "int8"),
    Types("uint8 of old files", _dense("uint8", "uint8", "uint8"), "int8"),
    Types("int16 activations", _dense("int16", "int8", "int16"), "int16"),
    Types("dynamic: int8 weights only", _dense("float32", "int8", "float32"), "hybrid"),
    Types("int8 in, float out", _dense("int8", "int8", "float32"), "hybrid"),
    Types("half floats", _dense("float16", "float16", "float16"), "float"),
    Types("QUANTIZE", one_op("QUANTIZE", [(1, 8)], (1, 8), dtypes=("float32", "int8")), "other"),
    Types("DEQUANTIZE", one_op("DEQUANTIZE", [(1, 8)], (1, 8), dtypes=("int8", "float32")), "other"),
    Types("indices", one_op("ADD", [(1, 8), (1, 8)], (1, 8), dtypes=("int32", "int32", "int32")), "other"),
]


@pytest.mark.parametrize("case", TYPES, ids=lambda case: case.id)
def test_operator_types(case: Types) -> None:
    """What an operator computes on, from the types of its activations and constants."""
    main = ModelFile.read(case.content).graph.main
    assert case.type == op_type(main, main.ops[0])


def test_share_of_a_mixed_model() -> None:
    """The share counts work, not operators."""
    b = models.Builder()
    x = b.tensor("x", (1, 8), "int8", quant=SCALE)
    w = b.tensor("w", (4, 8), "int8", data=np.zeros((4, 8), np.int8), quant=SCALE)
    h = b.tensor("h", (1, 4), "int8", quant=SCALE)
    f = b.tensor("f", (1, 4))
    v = b.tensor("v", (2, 4), data=np.zeros((2, 4), np.float32))
    y = b.tensor("y", (1, 2))
    b.op("FULLY_CONNECTED", [x, w], [h])
    b.op("DEQUANTIZE", [h], [f])
    b.op("FULLY_CONNECTED", [f, v], [y])
    seen = inspect(b.build({"x": x}, {"y": y}), partitions=False)
    assert (["int8", "other", "float"], False) == ([op.type for op in seen.ops], seen.fully_int8)
    assert seen.int8_mac_share is not None
    assert math.isclose(32 / 40, seen.int8_mac_share)
    assert ({"FULLY_CONNECTED": 2, "DEQUANTIZE": 1}, [2]) == (seen.op_counts(), [op.index for op in seen.float_ops])


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL", "TRANSPOSE_CONV", "CONV_3D"])
def test_tensors_without_axes(name: str) -> None:
    """A damaged file may give an operator scalars: counting them does not fail."""
    b = models.Builder()
    scalar = b.tensor("s", ())
    b.op(name, [scalar] * 3, [scalar])
    assert macs(b.build({"s": scalar}, {"s": scalar})) == 1


@pytest.mark.parametrize("name", ["dense_int8", "conv_float", "add_two_inputs"])
def test_damaged_files_are_described_or_refused(name: str) -> None:
    """Whichever word is overwritten, describing the file ends with a description or a ModelFileError."""
    content: bytes = getattr(models, name)()
    for at in range(0, len(content) - 3, 4):
        for value in (0xFFFFFFFF, 0x7FFFFFFF, 0, 1):
            mutant = content[:at] + struct.pack("<I", value) + content[at + 4 :]
            try:
                seen = inspect(mutant, partitions=False)
            except ModelFileError:
                continue
            json.dumps(seen.to_json(), allow_nan=False)
