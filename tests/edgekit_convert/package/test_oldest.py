"""The oldest runtime of a file: seen where one is at hand, computed where not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import EngineError
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.package import golden_data
from edgekit_convert.package.oldest import LOADED, VARIABLE, VERSIONS, oldest_runtime


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other runtime at hand."""
    monkeypatch.delenv(VARIABLE, raising=False)


def test_without_another_runtime_it_is_computed(alone: None) -> None:
    """The operator versions say it, and the entry says that they did."""
    found = oldest_runtime(models.dense_int8())
    assert (found.oldest, found.by, found.refused) == ("TensorFlow Lite 1.14.0", VERSIONS, None)
    assert found.proven.startswith("ai-edge-litert ")
    assert found.to_json()["operators_since"] == "TensorFlow Lite 1.14.0"


def test_a_file_that_announces_a_manifest(alone: None) -> None:
    """The flatbuffer part alone is enough."""
    assert oldest_runtime(models.announced(models.conv_float())).oldest == "TensorFlow Lite 1.6.0"


def test_tflite_runtime(tmp_path: Path) -> None:
    """Where the environment is at hand, the file is loaded there and its golden inputs agree."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    samples = [{"x": np.full((1, 8), value, np.float32)} for value in (-1.0, 0.5, 2.0)]
    flatbuffer = models.dense_int8()
    found = oldest_runtime(flatbuffer, golden_data.make(flatbuffer, samples, DelegateSpec("xnnpack", 1)))
    assert (found.oldest, found.by, found.refused) == ("tflite-runtime 2.14.0", LOADED, None)


def test_a_version_that_tflite_runtime_does_not_have(tmp_path: Path) -> None:
    """What it refuses is named, and the oldest is the runtime that did run it."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    newer = models.edited(models.dense_float(), lambda model: setattr(model.operatorCodes[0], "version", 12))
    found = oldest_runtime(newer)
    assert found.oldest == found.proven
    assert found.refused is not None
    assert found.refused.startswith("tflite-runtime 2.14.0: Didn't find op for builtin opcode 'FULLY_CONNECTED'")


def test_a_python_without_tflite_runtime() -> None:
    """It is refused, not proven."""
    found = oldest_runtime(models.dense_float(), python=sys.executable)
    assert found.oldest == found.proven
    assert found.refused is not None
    assert "No module named 'tflite_runtime'" in found.refused


def test_a_crash_stays_in_the_child(tmp_path: Path) -> None:
    """A runtime that dies takes nothing with it."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho tflite-runtime 0\nkill -SEGV $$\n")
    python.chmod(0o755)
    found = oldest_runtime(models.dense_float(), python=str(python))
    assert (found.oldest, found.refused) == (found.proven, "tflite-runtime 0: it crashed (SIGSEGV)")


def test_a_python_that_does_not_exist(tmp_path: Path) -> None:
    """Said, and nothing proven by it."""
    found = oldest_runtime(models.dense_float(), python=str(tmp_path / "absent"))
    assert found.refused is not None
    assert "could not be started" in found.refused


def test_a_model_that_does_not_run_here(alone: None) -> None:
    """Nothing is known of it."""
    with pytest.raises(EngineError, match="Mystery"):
        oldest_runtime(models.custom_op())
