"""Models are measured in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.bench import benchmark
from edgekit.errors import DelegateError, ModelFileError, OptionError, ProfileError


@pytest.fixture(scope="module")
def two() -> edgekit.BenchmarkReport:
    """A float and an int8 model, three launches each."""
    named = {"float": models.dense_float(), "int8": models.dense_int8()}
    return benchmark(named, runs=7, warmup=3, launches=3, delegate="xnnpack", threads=2)


class TestPhases:
    """What a launch holds."""

    def test_each_phase_has_its_own_samples(self, two: edgekit.BenchmarkReport) -> None:
        """As many warm-up and steady samples as were asked for; the first run is apart."""
        for result in two.cases:
            assert [(len(a.warmup_ns), len(a.total_ns), len(a.invoke_ns)) for a in result.launches] == [(3, 7, 7)] * 3
            assert all(launch.first_run_ns > 0 and launch.load_ns > 0 for launch in result.launches)

    def test_invoke_is_a_part_of_the_total(self, two: edgekit.BenchmarkReport) -> None:
        """The interpreter's own time is within what the caller feels, and all runs within the wall time."""
        for result in two.cases:
            for launch in result.launches:
                assert all(0 < part <= whole for part, whole in zip(launch.invoke_ns, launch.total_ns, strict=True))
                assert sum(launch.total_ns) <= launch.steady_wall_ns

    def test_more_runs_than_a_session_remembers(self) -> None:
        """Every sample is kept, also when there are more than a session's own ring holds."""
        report = benchmark(models.dense_int8(), runs=5000, warmup=0, launches=1, delegate="none")
        assert (len(report.cases[0].launches[0].total_ns), len(report.cases[0].launches[0].warmup_ns)) == (5000, 0)

    def test_asked_got_and_threads_are_noted(self, two: edgekit.BenchmarkReport) -> None:
        """The delegate's name, its reason, what it took, and the threads."""
        launch = two.cases[1].launches[0]
        assert tuple(launch.asked[key] for key in ("delegate", "threads", "reason")) == (
            "xnnpack",
            2,
            "named by the caller",
        )
        assert (launch.got["delegate"], launch.got["operators"], launch.got["taken"], launch.threads) == (
            "xnnpack",
            1,
            1,
            2,
        )

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
    def test_memory_is_the_childs_own(self) -> None:
        """A large parent does not count: Linux's ru_maxrss of a child begins with its parent's memory."""
        large = np.ones(50_000_000)  # 400 MB
        launch = benchmark(models.dense_int8(), runs=1, warmup=0, launches=1, delegate="none").cases[0].launches[0]
        assert launch.rss_before_load_bytes is not None
        assert launch.rss_after_load_bytes is not None
        assert launch.peak_rss_bytes is not None
        assert 0 < launch.rss_before_load_bytes <= launch.rss_after_load_bytes <= launch.peak_rss_bytes < large.nbytes


class TestOrder:
    """How launches follow each other."""

    def test_launches_are_interleaved_and_every_second_round_is_reversed(self, two: edgekit.BenchmarkReport) -> None:
        """Float int8, int8 float, float int8."""
        started = [(launch.started_unix_s, result.case.model) for result in two.cases for launch in result.launches]
        assert [name for _, name in sorted(started)] == ["float", "int8", "int8", "float", "float", "int8"]

    def test_second_case_is_compared_with_the_first(self, two: edgekit.BenchmarkReport) -> None:
        """The ratio is of the medians shown."""
        first, other = two.cases
        assert first.ratio is None
        assert other.ratio is not None
        assert other.ratio.value == pytest.approx(other.summary.p50_ns / first.summary.p50_ns)
        assert other.ratio.low is not None
        assert other.ratio.high is not None
        assert other.ratio.low <= other.ratio.value <= other.ratio.high

    def test_progress_counts_launches(self) -> None:
        """From 0 to all of them."""
        seen: list[tuple[str, int, int]] = []
        benchmark(
            models.dense_int8(), runs=1, warmup=0, launches=2, delegate="none",
            progress=lambda step, done, total: seen.append((step, done, total)),
        )  # fmt: skip
        assert seen == [("Benchmarking", 0, 2), ("Benchmarking", 1, 2), ("Benchmarking", 2, 2)]


class TestNames:
    """What a case is called."""

    def test_file_names_where_they_differ(self, dense_float_file: Path, dense_int8_file: Path) -> None:
        """Two files of different names go by them."""
        report = benchmark([dense_float_file, dense_int8_file], runs=1, warmup=0, launches=1, delegate="none")
        assert [result.case.model for result in report.cases] == ["dense_float.tflite", "dense_int8.tflite"]

    def test_paths_where_names_are_the_same(self, dense_int8_file: Path, tmp_path: Path) -> None:
        """Two files of one name go by their paths."""
        other = tmp_path / "other" / dense_int8_file.name
        other.parent.mkdir()
        other.write_bytes(dense_int8_file.read_bytes())
        report = benchmark([dense_int8_file, other], runs=1, warmup=0, launches=1, delegate="none")
        assert [str(dense_int8_file), str(other)] == [result.case.model for result in report.cases]

    def test_relative_path_is_found_by_the_child(self, dense_int8_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The child works in another folder, and the file is found all the same."""
        monkeypatch.chdir(dense_int8_file.parent)
        report = benchmark(Path(dense_int8_file.name), runs=1, warmup=0, launches=1, delegate="none")
        assert report.passed

    def test_users_files_do_not_stand_in_for_modules(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A json.py or an edgekit folder where the user works is not imported by the child."""
        (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
        (tmp_path / "edgekit").mkdir()
        (tmp_path / "edgekit" / "__init__.py").write_text("raise SystemExit('the wrong edgekit')")
        monkeypatch.chdir(tmp_path)
        assert benchmark(models.dense_int8(), runs=1, warmup=0, launches=1, delegate="none").passed


class TestFailures:
    """A case that fails is a row; a wrong request is an error before anything runs."""

    def test_model_that_the_interpreter_refuses_is_a_row(self) -> None:
        """The error is in the report, and the other model is measured."""
        report = benchmark(
            {"bad": models.custom_op(), "good": models.dense_float()}, runs=2, warmup=0, launches=2, delegate="none"
        )
        bad, good = report.cases
        assert not report.passed
        assert bad.error is not None
        assert "cannot run" in bad.error
        assert (bad.launches, len(good.launches), good.error) == ((), 2, None)

    def test_crash_of_the_child_is_told_with_its_last_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process killed by a signal gives the signal's name and what it said on stderr."""
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho 'a native library complains' >&2\nkill -SEGV $$\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        report = benchmark(models.dense_float(), runs=1, warmup=0, launches=3, delegate="none")
        expected = "the process that measured was killed by SIGSEGV and gave no result. Its last words: a native library complains"
        assert expected == report.cases[0].error

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"runs": 0}, "runs is 0"), ({"warmup": -1}, "warmup is -1"), ({"launches": 0}, "launches is 0")],
        ids=["runs", "warmup", "launches"],
    )
    def test_counts_are_checked(self, changes: dict[str, Any], message: str) -> None:
        """A count that cannot be is refused."""
        with pytest.raises(OptionError, match=message):
            benchmark(models.dense_float(), **changes)

    def test_unknown_names_are_told_before_anything_runs(self) -> None:
        """Engine, delegate and device."""
        with pytest.raises(OptionError, match="unknown engine 'x'"):
            benchmark(models.dense_float(), engine="x")
        with pytest.raises(DelegateError, match="unknown delegate 'x'"):
            benchmark(models.dense_float(), delegate="x")
        with pytest.raises(ProfileError, match="unknown device 'x'"):
            benchmark(models.dense_float(), device="x")

    def test_files_are_checked_before_anything_runs(self, dense_float_file: Path, tmp_path: Path) -> None:
        """A missing second file stops before the first one is measured."""
        with pytest.raises(ModelFileError, match="no such file"):
            benchmark([dense_float_file, tmp_path / "none.tflite"], progress=lambda *_: pytest.fail("it began"))

    def test_no_model_is_an_error(self) -> None:
        """An empty list is refused."""
        with pytest.raises(OptionError, match="no model to benchmark"):
            benchmark([])
