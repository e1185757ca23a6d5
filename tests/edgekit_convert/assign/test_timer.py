"""``edgekit_convert.assign.timer``: measuring here and in another Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import small_nets as nets
import tiny_models as models

from edgekit.errors import OptionError
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.timer import Elsewhere, Here

SPEC = DelegateSpec("xnnpack", 1)
OTHER = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON")
needs_other = pytest.mark.skipif(not OTHER, reason="EDGEKIT_TFLITE_RUNTIME_PYTHON names no Python with tflite-runtime")


def gelu() -> bytes:
    """A network that LiteRT's XNNPACK takes but for its int8 HARD_SWISH."""
    net = nets.Net(seed=1)
    x = net.conv(net.input(1, 16, 16, 4), 8)
    x = net.simple("HARD_SWISH", [x], net.shape(x), ("HardSwishOptions", nets.schema.HardSwishOptionsT()))
    content = net.finish(net.dense(net.reshape(net.mean(x), 1, 8), 3))
    return nets.quantised(content, nets.samples(content, 4))


@pytest.mark.parametrize("timer", [Here(SPEC), Elsewhere(SPEC, sys.executable)], ids=["here", "in a process"])
def test_the_same_interpreter_answers_the_same(timer: Here | Elsewhere) -> None:
    """Version, times and what is left outside come from the interpreter itself, in this process or in another."""
    content = gelu()
    assert Here(SPEC).version(content) == timer.version(content)
    assert Here(SPEC).outside(content) == timer.outside(content)
    times = timer.timed({"a": content, "b": models.dense_float()}, rounds=3, round_ns=1000)
    assert ["a", "b"] == list(times)
    assert all(time is not None and time > 0 for time in times.values())


@pytest.mark.parametrize("timer", [Here(SPEC), Elsewhere(SPEC, sys.executable)], ids=["here", "in a process"])
def test_what_cannot_run_has_no_time(timer: Here | Elsewhere) -> None:
    """A model with a custom operator has no time, and the one beside it has."""
    times = timer.timed({"custom": models.custom_op(), "dense": models.dense_float()}, rounds=3, round_ns=1000)
    assert times["custom"] is None
    assert times["dense"] is not None


@needs_other
def test_another_runtime_takes_other_operators() -> None:
    """tflite-runtime 2.14 leaves more of an int8 graph outside than LiteRT does."""
    assert OTHER is not None
    other = Elsewhere(SPEC, OTHER)
    assert other.version(gelu()).startswith("tflite-runtime 2.14")
    assert Here(SPEC).outside(gelu()) < other.outside(gelu())
    table = CostTable(SPEC, timer=other)
    assert str(table.measured_on["engine"]).startswith("tflite-runtime 2.14")


@pytest.mark.parametrize("python", ["/nowhere/python", "no"], ids=["missing", "no Python"])
def test_a_python_that_cannot_be_used_is_named(python: str, tmp_path: Path) -> None:
    """One error that says what was expected."""
    if python == "no":
        script = tmp_path / "python"
        script.write_text("#!/bin/sh\nexit 3\n")
        script.chmod(0o755)
        python = str(script)
    with pytest.raises(OptionError, match=r"cannot be measured with.*A Python with numpy and tflite-runtime"):
        CostTable(SPEC, timer=Elsewhere(SPEC, python)).check_timer()
