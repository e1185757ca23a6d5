"""Operator versions: what each operator needs, and since when runtimes have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.package import versions

IMAGES = np.random.default_rng(5).uniform(-1, 1, (40, 12, 12, 3)).astype(np.float32)


def written(content: bytes) -> dict[str, int]:
    """The highest version of each operator that a file uses."""
    edited = editing.read(content)
    found: dict[str, int] = {}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    for op in edited.subgraphs[0].operators:
        code = edited.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found[name] = max(found.get(name, 0), code.version)
    return found


def all_first(content: bytes) -> bytes:
    """The same file with every operator at version 1, as litert-quantizer leaves them."""

    def change(model: Any) -> None:
        for code in model.operatorCodes:
            code.version = 1

    return models.edited(content, change)


def entry(content: bytes) -> bytes:
    """The ``min_runtime_version`` entry."""
    return ModelFile.read(content).graph.metadata["min_runtime_version"]


@pytest.mark.parametrize(
    "name",
    ["vww/vww_96_int8.tflite", "resnet8/pretrainedResnet_quant.tflite", "resnet8/pretrainedResnet.tflite", "ad/ad01_fp32.tflite"],
)  # fmt: skip
def test_versions_are_those_that_tflite_converter_writes(assets: Path, name: str) -> None:
    """From version 1 everywhere, the rules give what TFLiteConverter gave for the same graph."""
    content = (assets / "mlperf_tiny" / name).read_bytes()
    edited = editing.read(all_first(content))
    versions.fix_versions(edited)
    assert written(content) == written(editing.write(edited))


def test_int8_needs_more_than_float() -> None:
    """A converted file says of each operator what int8 needs, and runs as before."""
    content = all_first(models.dense_int8())
    assert {"FULLY_CONNECTED": 1} == written(content)
    fixed = versions.with_versions(content)
    assert {"FULLY_CONNECTED": 4} == written(fixed)
    assert b"1.14.0".ljust(16, b"\0") == entry(fixed)
    x = np.random.default_rng(0).uniform(-3, 3, (1, 8)).astype(np.float32)
    with edgekit.load(content, delegate="xnnpack") as before, edgekit.load(fixed, delegate="xnnpack") as after:
        np.testing.assert_array_equal(before.run(x), after.run(x))
        assert str(before.partitions) == str(after.partitions)


def test_a_float_file_stays_as_it_is() -> None:
    """Nothing to raise; the entry says what the operators need."""
    edited = editing.read(models.conv_float())
    assert () == versions.fix_versions(edited)
    assert b"1.6.0" == entry(versions.with_versions(models.conv_float())).rstrip(b"\0")


def test_the_entry_is_replaced_not_doubled() -> None:
    """A second time changes nothing."""
    once = versions.with_versions(models.dense_int8())
    twice = versions.with_versions(once)
    assert len(once) == len(twice)
    names = [item.name for item in editing.read(twice).metadata]
    assert [b"min_runtime_version"] == names


def test_what_was_raised_is_said() -> None:
    """One text for each operator code."""
    assert ("FULLY_CONNECTED 1 to 4",) == versions.fix_versions(editing.read(all_first(models.dense_int8())))


@pytest.mark.parametrize(
    ("content", "required"),
    [
        (models.dense_float(), "1.5.0"),
        (models.conv_float(), "1.6.0"),
        (models.dense_int8(), "1.14.0"),
        (models.custom_op(), None),
        (models.edited(models.dense_float(), lambda model: setattr(model.operatorCodes[1], "version", 99)), None),
    ],
    ids=["dense", "conv", "int8", "custom", "future"],
)
def test_required_runtime(content: bytes, required: str | None) -> None:
    """The newest of what its operators need; unknown where one is not in the table."""
    assert required == versions.required_runtime(content)


def test_dense_layers_with_a_scale_for_each_row() -> None:
    """No version tells of them; the oldest runtime in which they were seen to work does."""

    def per_channel(model: Any) -> None:
        quant = model.subgraphs[0].tensors[1].quantization
        quant.scale, quant.zeroPoint = [float(quant.scale[0])] * 4, [0] * 4

    assert "2.14.0" == versions.required_runtime(models.edited(models.dense_int8(), per_channel))


def two(name: str, types: tuple[str, str], shape: tuple[int, ...], options: tuple[str, Any] | None = None) -> int:
    """The version needed by an operator with two equal inputs."""
    b = models.Builder()
    quant = models.DENSE_INPUT if types[0] == "int8" else None
    ends = [b.tensor(f"t{i}", shape, types[i // 2], quant=quant) for i in range(3)]
    b.op(name, ends[:2], ends[2:], options)
    return versions.needed_version(name, b.ops[0], b.tensors)


@pytest.mark.parametrize(
    ("name", "types", "shape", "expected"),
    [
        ("ADD", ("float32", "float32"), (1, 4), 1),
        ("ADD", ("int8", "int8"), (1, 4), 2),
        ("MUL", ("int8", "int8"), (1, 4), 2),
        ("PAD", ("float32", "float32"), (1, 1, 1, 1, 4), 4),
        ("TRANSPOSE", ("int8", "int8"), (1, 1, 1, 1, 4), 4),
        ("TRANSPOSE", ("int8", "int8"), (1, 4), 2),
        ("BROADCAST_TO", ("float32", "float32"), (1, 4), 2),
        ("FULLY_CONNECTED", ("int8", "int8"), (4, 4), 6),
        ("RESHAPE", ("int8", "int8"), (1, 4), 1),
    ],
)
def test_rules(name: str, types: tuple[str, str], shape: tuple[int, ...], expected: int) -> None:
    """Type, rank and number of inputs decide."""
    options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT()) if name == "FULLY_CONNECTED" else None
    assert expected == two(name, types, shape, options)
