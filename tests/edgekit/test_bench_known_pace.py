"""The full pace of earlier benchmarks, which tells one that was slowed from its beginning to its end."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_models as models
from bench_reports import FULL, RUN, report, slowed_case

import edgekit
from edgekit.bench import BenchmarkReport, Case
from edgekit.bench.compare import compare
from edgekit.bench.known_pace import KEPT_S, KnownPace
from edgekit.bench.pace import full_pace_ns
from edgekit.bench.validity import verdict_of
from edgekit.errors import DataError

HOST: Mapping[str, Any] = {
    "machine": {"value": "x86_64"},
    "cpu_model": {"value": "Some Processor"},
    "cpu_governor": None,
}
CASE = Case("m.tflite", "00", 7, delegate="xnnpack", threads=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for each test, which is not there yet."""
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestKept:
    """What is remembered, of what and for how long."""

    def test_the_fastest_is_known_to_the_next_benchmark(self) -> None:
        """Of a slow and a fast one the fast one counts, in whichever order they were made."""
        assert KnownPace(HOST).of(CASE) is None
        for full_ns in (70.0, 50.0, 90.0):
            KnownPace(HOST).keep({CASE: full_ns})
        assert KnownPace(HOST).of(CASE) == 50.0

    @pytest.mark.parametrize("change", [{"sha256": "01"}, {"threads": 2}, {"delegate": "none"}, {"batch": 4}], ids=str)
    def test_each_case_has_its_own(self, change: dict[str, Any]) -> None:
        """Another model or another way of running it leaves the processor in another state."""
        KnownPace(HOST).keep({CASE: 50.0})
        assert KnownPace(HOST).of(dataclasses.replace(CASE, **change)) is None
        assert KnownPace(HOST).of(dataclasses.replace(CASE, model="renamed.tflite")) == 50.0

    def test_another_governor_is_another_matter(self) -> None:
        """A machine that was told to run slower is not disturbed."""
        KnownPace(HOST).keep({CASE: 50.0})
        assert KnownPace({**HOST, "cpu_governor": {"value": "powersave"}}).of(CASE) is None

    def test_after_a_day_without_it_it_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Slow benchmarks do not prolong it, one that is about as fast does."""
        start = time.time()
        known = KnownPace(HOST)
        for after, full_ns in ((0.0, 50.0), (0.5, 52.0), (1.2, 80.0)):
            monkeypatch.setattr(time, "time", lambda after=after: start + after * KEPT_S)
            known.keep({CASE: full_ns})
            assert KnownPace(HOST).of(CASE) == 50.0
        monkeypatch.setattr(time, "time", lambda: start + 1.6 * KEPT_S)
        assert KnownPace(HOST).of(CASE) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"a": 1}',
            '{"a": [1]}',
            '{"KEY": [NaN, NOW]}',
            '{"KEY": [-5, NOW]}',
            '{"KEY": ["x", NOW]}',
            f'{{"KEY": [1{"0" * 400}, NOW]}}',
            "[" * 100_000,
        ],
        ids=["empty", "list", "cut", "number", "short", "no-number", "negative", "text", "huge", "deep"],
    )
    def test_a_file_that_is_no_such_one_is_as_none(self, folder: Path, text: str) -> None:
        """It is replaced by the next benchmark."""
        KnownPace(HOST).keep({CASE: 50.0})
        (path,) = folder.iterdir()
        (key,) = json.loads(path.read_bytes())
        path.write_text(text.replace("KEY", key).replace("NOW", str(time.time())))
        assert KnownPace(HOST).of(CASE) is None
        KnownPace(HOST).keep({CASE: 60.0})
        assert KnownPace(HOST).of(CASE) == 60.0

    def test_a_folder_that_cannot_be_written_is_no_error(self, folder: Path) -> None:
        """A benchmark does not fail for what only the next one would have had."""
        folder.write_text("a file where the folder should be")
        KnownPace(HOST).keep({CASE: 50.0})
        assert KnownPace(HOST).of(CASE) is None


def known(full_ns: float, *shares: float, **options: Any) -> Any:
    """Launches that were slowed for these shares of their time, on a machine whose full pace is known."""
    return dataclasses.replace(slowed_case(*shares, **options), known_pace_ns=full_ns)


ALL_SLOW: dict[str, Any] = {"run": 1.8 * RUN, "full": round(1.8 * FULL)}


class TestCase:
    """What a known full pace changes."""

    def test_a_benchmark_that_was_slowed_throughout_is_told(self) -> None:
        """By itself it looks undisturbed; the reason says where it is known from."""
        assert verdict_of(slowed_case(0, 0, 0, 0, 0, **ALL_SLOW)).level == "VALID"
        result = known(FULL, 0, 0, 0, 0, 0, **ALL_SLOW)
        found = verdict_of(result)
        assert (found.level, found.codes) == ("NOISY", ("pace",))
        assert found.reasons[0].startswith("for 100 % of the time something slowed the processor")
        assert found.reasons[0].endswith("took 1.8 times as long as in an earlier benchmark of this model")
        assert result.lacks_full_pace
        assert not result.slowed
        assert result.steady == result.interval

    def test_the_runs_at_the_known_pace_count(self) -> None:
        """Three launches of nine that came to it give the figure, and not the six that look steady at a slower one."""
        slow = slowed_case(0, 0, 0, 0, 0, 0, **ALL_SLOW).launches
        result = dataclasses.replace(known(FULL, 0.2, 0.1, 0.2), launches=(*slowed_case(0.2, 0.1, 0.2).launches, *slow))
        assert result.slowed
        assert result.steady is not None
        assert result.steady.value == pytest.approx(RUN, rel=0.01)
        assert "earlier" not in verdict_of(result).reasons[0]

    def test_a_slower_known_pace_changes_nothing(self) -> None:
        """What was known was slowed itself."""
        shares = (0.6, 0.7, 0.6, 0.7, 0.6)
        assert known(2 * FULL, *shares).slowed_share == slowed_case(*shares).slowed_share

    def test_it_is_in_the_file(self) -> None:
        """The verdict can be found again, and a value that cannot be is refused."""
        before = report(known(FULL, 0, 0, 0, 0, 0, **ALL_SLOW))
        text = json.loads(json.dumps(before.to_json()))
        assert BenchmarkReport.from_json(text).cases[0].known_pace_ns == FULL
        assert BenchmarkReport.from_json(text).verdict == before.verdict
        del text["cases"][0]["known_pace_ns"]
        assert BenchmarkReport.from_json(text).cases[0].known_pace_ns is None

    @pytest.mark.parametrize("value", [0, -1.0, "fast", True])
    def test_a_damaged_one_is_named(self, tmp_path: Path, value: object) -> None:
        """As every other field of a file."""
        data = report(slowed_case(0, 0, 0)).to_json()
        data["cases"][0]["known_pace_ns"] = value
        path = tmp_path / "bench.json"
        path.write_text(json.dumps(data))
        with pytest.raises(DataError, match="case 1, known_pace_ns is"):
            BenchmarkReport.read(path)


class TestCompare:
    """Two benchmarks, of which at least one was slowed throughout."""

    def test_two_that_were_slowed_alike_have_a_ratio(self) -> None:
        """A machine that became slower for both does not stop a comparison."""
        before, after = (report(known(FULL, 0, 0, 0, 0, 0, **ALL_SLOW)) for _ in range(2))
        found = compare([before, after], fail_over=0.05)
        assert found.passed
        assert found.against[0].changes[0].ratio == pytest.approx(1)

    def test_one_that_was_slowed_throughout_is_not_compared(self) -> None:
        """As without the known pace: there is no ratio, and the gate does not pass."""
        before = report(known(FULL, 0, 0, 0, 0, 0))
        after = report(known(FULL, 0, 0, 0, 0, 0, **ALL_SLOW))
        (change,) = compare([before, after], fail_over=0.05).against[0].changes
        assert change.ratio is None
        assert "during all of the second of the two benchmarks" in str(change.error)


def test_a_benchmark_leaves_its_pace_and_the_next_one_finds_it(folder: Path) -> None:
    """Real benchmarks of a tiny model; between the two, the kept pace is made three times as fast as this machine can be."""
    options: dict[str, Any] = {"delegate": "none", "launches": 2, "runs": 100_000, "warmup": 5}
    first = edgekit.benchmark(models.dense_float(), **options)
    (case,) = first.cases
    assert case.known_pace_ns is None
    times = [value for launch in case.launches for value in launch.pace_ns]
    ((key, (full_ns, at)),) = json.loads((folder / "bench-pace.json").read_bytes()).items()
    assert full_ns == case.full_pace_ns == full_pace_ns(times)
    (folder / "bench-pace.json").write_text(json.dumps({key: [full_ns / 3, at]}))
    second = edgekit.benchmark(models.dense_float(), **options)
    assert second.cases[0].known_pace_ns == full_ns / 3
    assert second.cases[0].slowed_share == 1
    assert second.verdict.level != "VALID"
    assert "as in an earlier benchmark of this model" in " ".join(second.verdict.reasons)
