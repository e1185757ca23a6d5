"""A benchmark's conditions can be read from a tree that was recorded on another machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import machine_trees
import power_trees
import pytest
import tiny_models as models

from edgekit.bench.runner import prepared, run_cases
from edgekit.modelfile import ModelFile

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
ZONE = "sys/class/thermal/thermal_zone0/temp"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({FIRMWARE: "4\n"}, "throttled", "throttling"),
        ({FIRMWARE: "1\n"}, "under-voltage", "under-voltage"),
        ({ZONE: "84000\n"}, "temperature", "84 °C"),
    ],
    ids=["throttled", "under-voltage", "hot"],
)
def test_recorded_machine_decides_the_verdict(tmp_path: Path, changes: dict[str, str], code: str, words: str) -> None:
    """Firmware flags and a thermal zone of a recorded board, through a whole benchmark: INVALID, with that reason."""
    root = machine_trees.plant(tmp_path, {**power_trees.PI5, **changes})
    method, pattern = prepared(runs=12, warmup=1, launches=1, delegate="none")
    report = run_cases(
        [("m", ModelFile.read(models.dense_int8()), pattern)], dataclasses.replace(method, root=str(root))
    )
    found = report.verdict
    assert "INVALID" == found.level
    assert words in dict(zip(found.codes, found.reasons, strict=True))[code]
