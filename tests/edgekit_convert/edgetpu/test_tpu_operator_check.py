"""The operator check: agreement with what the compiler did, where the cut falls, and what the compiler refuses."""

from __future__ import annotations

import json
from pathlib import Path

import one_op_models as graphs
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema
from one_op_models import T, one_op, options

from edgekit.errors import ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams
from edgekit_convert import graph as editing
from edgekit_convert.edgetpu import check, mapped_in
from edgekit_convert.edgetpu.attach import plain

#: The pairs, and what of each stayed on the CPU, as it stands in the compiled file.
PAIRS = {
    "mobilenet_v1_0.25_128_quant": (31, {}),
    "keras_lstm_mnist_ptq": (6, {}),
    "deeplabv3_mnv2_dm05_pascal_quant": (
        64,
        {"RESIZE_BILINEAR": 3, "QUANTIZE": 1, "CONCATENATION": 1, "CONV_2D": 2, "ARG_MAX": 1},
    ),
}


def model(content: bytes) -> ModelFile:
    """Read a model that a test made."""
    return ModelFile.read(content)


@pytest.mark.parametrize("name", PAIRS)
def test_it_agrees_with_the_compiler_op_for_op(name: str, assets: Path) -> None:
    """What the check says of each operator is what the compiler did with it."""
    source = ModelFile.read(assets / "edgetpu" / f"{name}.tflite")
    truth = mapped_in(source, ModelFile.read(assets / "edgetpu" / f"{name}_edgetpu.tflite"))
    report = check(source)
    mapped, left = PAIRS[name]
    counted: dict[str, int] = {}
    for op in report.left:
        counted[op.name] = counted.get(op.name, 0) + 1
    assert list(truth) == [op.mapped for op in report.ops]
    assert (mapped, left, 1) == (len(report.mapped), counted, report.parts)
    assert report.refused is None


def test_the_cut_is_named_with_its_reason(assets: Path) -> None:
    """Of deeplab the enlarged pixel ends the mapped part, a parallel branch stays in it, and the rest waits behind the cut."""
    report = check(ModelFile.read(assets / "edgetpu" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    cut = [(op.name, op.code) for op in report.cut]
    assert [("RESIZE_BILINEAR", "precision"), ("RESIZE_BILINEAR", "precision"), ("ARG_MAX", "operator")] == cut
    assert "enlarges 1 x 1 to 33 x 33" in (report.cut[0].reason or "")
    behind = [op for op in report.left if op.code == "behind-cut"]
    assert ["QUANTIZE", "CONCATENATION", "CONV_2D", "CONV_2D", "RESIZE_BILINEAR"] == [op.name for op in behind]
    assert f"needs the result of operator {report.cut[0].index} (RESIZE_BILINEAR)" in (behind[0].reason or "")
    assert report.share_ops == pytest.approx(64 / 72)
    assert 0.5 < (report.share_macs or 0) < 1
    assert f"cut at operator {report.cut[0].index} (RESIZE_BILINEAR)" in report.summary()


def test_more_parts_are_counted_when_asked_for(assets: Path) -> None:
    """With the compiler's option for more parts, what waits behind the cut is mapped as well."""
    source = ModelFile.read(assets / "edgetpu" / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    report = check(source, multiple=True)
    assert 2 == report.parts
    assert {"RESIZE_BILINEAR": 2, "ARG_MAX": 1} == {
        name: sum(op.name == name for op in report.left) for name in {op.name for op in report.left}
    }


def chain(*, float_in: bool = False, version: int = 1) -> bytes:
    """A row through LOGISTIC, LEAKY_RELU (which the Edge TPU lacks) and TANH; a second LOGISTIC runs beside it."""
    b = models.Builder()
    quant = QuantParams((0.05,), (0,))
    x = b.tensor("x", (1, 8), "float32" if float_in else "int8", quant=None if float_in else quant)
    a, c, d, e = (b.tensor(name, (1, 8), "int8", quant=quant) for name in "acde")
    first = x
    if float_in:
        first = b.tensor("q", (1, 8), "int8", quant=quant)
        b.op("QUANTIZE", [x], [first], options("QuantizeOptions"))
    b.op("LOGISTIC", [first], [a], version=2)
    b.op("LEAKY_RELU", [a], [c], options("LeakyReluOptions", alpha=0.1), version=version)
    b.op("TANH", [c], [d], version=2)
    b.op("LOGISTIC", [first], [e], version=2)
    return b.build({"x": x}, {"d": d, "e": e})


def test_an_operator_that_the_edge_tpu_lacks_ends_the_part() -> None:
    """What comes before it and what runs beside it is mapped, what needs its result is not."""
    report = check(model(chain()))
    assert [True, False, False, True] == [op.mapped for op in report.ops]
    assert [None, "operator", "behind-cut", None] == [op.code for op in report.ops]


def test_an_edge_of_floats_stays_on_the_cpu_and_does_not_end_the_part() -> None:
    """The QUANTIZE of a float input runs on the CPU first; the part begins behind it."""
    report = check(model(chain(float_in=True)))
    assert [False, True, False, False, True] == [op.mapped for op in report.ops]
    assert "type" == report.ops[0].code
    assert "'x' is float32: int8 or uint8 was expected" == report.ops[0].reason
    assert "cut at operator 2 (LEAKY_RELU)" in report.summary()


def test_nothing_is_mapped_of_a_float_model() -> None:
    """The compiler refuses a model that is not quantised, and the report says so for each operator that it could map."""
    report = check(model(models.conv_float()))
    assert () == report.mapped
    assert 0 == report.parts
    assert "no operator computes on 8-bit integers" in (report.refused or "")
    assert {"type"} == {op.code for op in report.ops}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(chain(version=2), None, id="version of 2.3"),
        pytest.param(
            one_op("QUANTIZE", [T((1, 8))], [T((1, 8))], options("QuantizeOptions"), version=3),
            "QUANTIZE version 3) came after",
            id="version of 2.7",
        ),
        pytest.param(one_op("GELU", [T((1, 8))], [T((1, 8))], options("GeluOptions")), "GELU", id="operator of 2.9"),
        pytest.param(graphs.reshape(computed=True), "RESHAPE) has a size that is computed", id="computed size"),
    ],
)
def test_what_the_compiler_refuses_whole(content: bytes, words: str | None) -> None:
    """Operators from after the compiler, and sizes that are not known before, make it refuse the file."""
    report = check(model(content))
    if words is None:
        assert report.refused is None
        return
    assert words in (report.refused or "")
    assert () == report.mapped
    assert report.summary().startswith("the Edge TPU compiler would refuse this file: ")


def test_constants_behind_the_flatbuffer_are_refused_and_brought_in() -> None:
    """The compiler does not look behind the flatbuffer; what edgekit gives it has everything inside."""
    from ai_edge_litert.tools import flatbuffer_utils

    inside = model(models.dense_int8())
    assert check(inside).refused is None
    edited = flatbuffer_utils.read_model_from_bytearray(bytearray(inside.content))
    weights = next(buffer for buffer in edited.buffers if buffer.data is not None and len(buffer.data) >= 32)
    data, weights.data = bytes(weights.data), None
    weights.offset, weights.size = 1 << 20, len(data)
    raw = editing.write(edited)
    content = raw.ljust(1 << 20, b"\0") + data
    outside = model(content)
    assert "lie behind the flatbuffer" in (check(outside).refused or "")
    assert check(model(plain(outside))).refused is None


def test_a_compiled_model_is_refused(assets: Path) -> None:
    """A model that was compiled already is not compiled again."""
    report = check(ModelFile.read(assets / "edgetpu" / "keras_lstm_mnist_ptq_edgetpu.tflite"))
    assert "compiled for the Edge TPU already" in (report.refused or "")


def test_older_runtimes_have_fewer_operators(assets: Path) -> None:
    """A runtime before 14 has no LSTM, one before 13 no QUANTIZE; the reason says which one has it."""
    source = ModelFile.read(assets / "edgetpu" / "keras_lstm_mnist_ptq.tflite")
    assert 1 == len(check(source, runtime=13).mapped)
    reason = check(source, runtime=13).ops[1].reason
    assert "it needs Edge TPU runtime 14, 13 was asked for" == reason
    before = check(source, runtime=12)
    assert ["runtime", "runtime"] == [op.code for op in before.ops if op.name == "QUANTIZE"]
    with pytest.raises(OptionError, match="runtime 15: from 10 to 14"):
        check(source, runtime=15)


def test_the_report_is_json(assets: Path) -> None:
    """Everything in the report survives JSON, with the shares and each operator's reason."""
    report = check(ModelFile.read(assets / "edgetpu" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    again = json.loads(json.dumps(report.to_json()))
    assert (72, 64) == (again["operators"], again["mapped"])
    assert [op.index for op in report.cut] == again["cut"]
    assert report.ops[-1].reason == again["ops"][-1]["reason"]
    assert all(op["source"] for op in again["ops"] if not op["mapped"])


def test_what_was_not_compiled_is_no_truth(assets: Path) -> None:
    """A model without a compiled part, or one of another source, tells nothing of a model."""
    folder = assets / "edgetpu"
    lstm, mobilenet = (ModelFile.read(folder / f"{name}.tflite") for name in list(PAIRS)[1::-1])
    with pytest.raises(ModelFileError, match="has no part that was compiled for the Edge TPU"):
        mapped_in(lstm, mobilenet)
    deeplab = ModelFile.read(folder / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite")
    with pytest.raises(ModelFileError, match="was not made from"):
        mapped_in(mobilenet, deeplab)


def test_operators_of_other_kinds_do_not_hide_each_other() -> None:
    """Of two operators whose outputs have the same name, as damaged tools write it, only as many count as stayed."""
    b = models.Builder()
    quant = QuantParams((0.05,), (0,))
    x, y, z = (b.tensor(name, (1, 8), "int8", quant=quant) for name in ("x", "same", "same"))
    b.op("LOGISTIC", [x], [y], version=2)
    b.op("LOGISTIC", [y], [z], version=2)
    source = model(b.build({"x": x}, {"z": z}))
    compiled = models.Builder()
    x, y, z = (compiled.tensor(name, (1, 8), "int8", quant=quant) for name in ("x", "part", "same"))
    compiled.op("CUSTOM", [x], [y])
    compiled.codes[0].customCode = b"edgetpu-custom-op"
    compiled.op("LOGISTIC", [y], [z], version=2)
    assert 1 == mapped_in(source, model(compiled.build({"x": x}, {"z": z}))).count(False)


def test_the_schema_knows_the_operators_of_the_table() -> None:
    """Each operator of the table is one of TensorFlow Lite's."""
    from edgekit_convert.edgetpu.operators import TAKEN

    assert {name for name in TAKEN if not hasattr(schema.BuiltinOperator, name)} == set()
