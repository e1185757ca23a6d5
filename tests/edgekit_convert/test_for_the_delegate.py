"""Conversions for the delegate that will run the model: what is respelled, what stays in float, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_nets as nets

import edgekit
from edgekit.errors import OptionError
from edgekit.inspection import inspect

RANDOM = np.random.default_rng(5)
OTHER = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON")


def hard_swish() -> bytes:
    """Two hard-swishes on tensors large enough that the interpreter's own int8 kernel dominates, and a softmax."""
    net = nets.Net(seed=3)
    x = net.input(1, 40, 40, 8)
    for _ in range(2):
        x = net.conv(x, 16)
        x = net.simple("HARD_SWISH", [x], net.shape(x), ("HardSwishOptions", nets.schema.HardSwishOptionsT()))
    return net.finish(net.softmax(net.dense(net.reshape(net.mean(net.conv(x, 16)), 1, 16), 6)))


def residual() -> bytes:
    """Convolutions with a skip connection, which XNNPACK takes whole and runs faster in int8."""
    net = nets.Net(seed=4)
    x = net.conv(net.input(1, 40, 40, 16), 48, act=nets.RELU)
    x = net.add(x, net.conv(net.conv(x, 48, act=nets.RELU), 48), act=nets.RELU)
    return net.finish(net.dense(net.reshape(net.mean(x), 1, 48), 6))


def data_for(content: bytes, count: int = 24) -> Any:
    """Random samples of a network's input."""
    shape = nets.main_of(content).tensors[nets.main_of(content).inputs[0]].shape[1:]
    return RANDOM.normal(0, 1, (count, *shape)).astype(np.float32)


def convert(content: bytes, **options: Any) -> edgekit.Conversion:
    """Convert with little effort."""
    return edgekit.convert(content, data_for(content), effort="fast", **options)


def notes(done: edgekit.Conversion, code: str) -> list[str]:
    """The findings of one kind."""
    return [item.text for item in done.findings if item.code == code]


@pytest.mark.alone
def test_auto_leaves_in_float_what_the_delegate_lacks() -> None:
    """The delegate takes the delivered file whole, and each operator in float is named with its reason."""
    done = convert(hard_swish(), recipe="auto")
    seen = inspect(done.model)
    assert seen.partitions is not None
    assert {"SOFTMAX"} >= set(seen.partitions.outside_names())  # of six values, where nothing is gained
    assert seen.int8_mac_share is not None
    assert seen.int8_mac_share > 0.8
    assert done.report.passed
    assert 1 == len(notes(done, "placement"))
    assert any(
        "HARD_SWISH ×2" in text and "does not take it in int8" in text for text in notes(done, "placement-layers")
    )
    assert ("HARD_SWISH", "the delegate does not take it in int8") in done.report.float_ops
    placement = done.model.manifest.recipe["placement"] if done.model.manifest is not None else {}
    assert placement["chosen_ns"] < placement["int8_ns"]


def test_strict_int8_respells_and_tells_the_price() -> None:
    """Every operator is in int8; hard-swishes are spelled as operators that the delegate takes; what it leaves is named."""
    done = convert(hard_swish(), recipe="int8")
    seen = inspect(done.model)
    assert seen.fully_int8
    assert "HARD_SWISH" not in seen.op_counts()
    [line] = notes(done, "delegate-rewrite")
    assert "hard-swish ×2" in line
    assert "operators outside" in line
    assert any("SOFTMAX" in text and "int8" in text for text in notes(done, "partitions"))
    plain = convert(hard_swish(), recipe="int8", delegate_rules=False)
    assert 2 == inspect(plain.model).op_counts()["HARD_SWISH"]
    [price] = notes(plain, "strict-int8")
    assert "times the float model's" in price
    assert "The delegate does not take HARD_SWISH ×2, SOFTMAX" in price
    assert "recipe auto" in price
    assert [] == notes(plain, "delegate-rewrite")


def test_what_stays_in_float_is_refined_around() -> None:
    """At the default effort ranges are searched and biases corrected with the float operators in place."""
    content = hard_swish()
    data = data_for(content)
    fast, done = (edgekit.convert(content, data, effort=effort, recipe="auto") for effort in ("fast", "default"))
    assert {"HARD_SWISH"} <= {name for name, _ in done.report.float_ops}
    manifest = done.model.manifest
    assert manifest is not None
    assert {"bias-correction", "equalisation"} <= {step["name"] for step in manifest.recipe["refinements"]}
    assert done.report.on["calibration"].sqnr_db.value >= fast.report.on["calibration"].sqnr_db.value - 1


@pytest.mark.alone
def test_a_whole_network_is_the_same_file_either_way() -> None:
    """Where int8 is fastest: auto and int8, with and without rules, give the same flatbuffer."""
    options: list[dict[str, Any]] = [
        {"recipe": "auto"}, {"recipe": "int8"}, {"recipe": "auto", "delegate_rules": False},
        {"recipe": "int8", "delegate_rules": False},
    ]  # fmt: skip
    content, data = residual(), data_for(residual())
    done = [edgekit.convert(content, data, effort="fast", **item).model.sha256 for item in options]
    assert {done[0]} == set(done)


@pytest.mark.alone
@pytest.mark.skipif(not OTHER, reason="EDGEKIT_TFLITE_RUNTIME_PYTHON names no Python with tflite-runtime")
def test_another_runtime_is_another_target(tmp_path: Path) -> None:
    """What is fast in LiteRT is slow in tflite-runtime 2.14, whose times decide when it is named."""
    table = tmp_path / "costs.json"
    there = convert(residual(), recipe="auto", runtime_python=OTHER, cost_table=table)
    assert inspect(there.model).float_ops
    assert not inspect(convert(residual(), recipe="auto").model).float_ops
    assert "tflite-runtime 2.14" in table.read_text()


def test_a_runtime_that_cannot_be_used_is_refused_early(tmp_path: Path) -> None:
    """Before anything is converted."""
    with pytest.raises(OptionError, match="cannot be measured with"):
        convert(residual(), runtime_python=tmp_path / "python", output=tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_another_device_is_a_prediction() -> None:
    """Times of this machine say nothing certain of another device."""
    done = convert(hard_swish(), recipe="auto", device="raspberry-pi-5")
    assert any(text.startswith("predicted for raspberry-pi-5") for text in notes(done, "placement-predicted"))
