"""Models are measured in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bench_reports
import numpy as np
import pytest
import tiny_models as models
from bench_reports import FULL, slowed_case

import edgekit
from edgekit.bench import benchmark, sweep
from edgekit.bench.known_pace import KnownPace
from edgekit.bench.runner import prepared
from edgekit.bench.tasks import Task
from edgekit.errors import DataError, DelegateError, ModelFileError, OptionError, ProfileError
from edgekit.preprocess import Preprocessing


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


class TestAutomatic:
    """What is not given is found out."""

    def test_warm_up_and_runs_end_by_themselves(self) -> None:
        """Without numbers there are warm-up runs until they settle, and about a second of others."""
        launch = benchmark(models.dense_int8(), launches=1, delegate="none").cases[0].launches[0]
        assert launch.settled is not None
        assert launch.warmup_runs is not None
        assert launch.warmup_runs >= len(launch.warmup_ns) > 0
        assert len(launch.total_ns) >= 5
        assert launch.conditions
        assert launch.steady_started_unix_s is not None
        assert launch.steady_started_unix_s > launch.started_unix_s

    def test_at_least_five_launches_whatever_the_budget(self) -> None:
        """A budget that is over at once leaves those that are sure."""
        report = benchmark(models.dense_int8(), runs=1, warmup=0, delegate="none", budget_s=0.001)
        assert len(report.cases[0].launches) == 5
        assert (report.launches, report.target, report.budget_s) == (None, 0.03, 0.001)

    def test_more_launches_until_the_interval_is_narrow(self, dense_int8_file: Path) -> None:
        """Launches that differ call for more; equal ones, and a number that was given, for none."""
        method, case = prepared()
        spread = [bench_reports.launch([value]) for value in (100, 104, 98, 102, 96)]
        task = Task(case, method, dense_int8_file)
        task.launches = spread
        assert task.wants_more(5)
        assert task.needed() > 5
        task.launches = [bench_reports.launch([100])] * 5
        assert (task.wants_more(5), task.needed()) == (False, 5)
        given = Task(case, prepared(launches=7)[0], dense_int8_file)
        given.launches = [*spread, *spread[:2]]
        assert (given.wants_more(6), given.wants_more(7)) == (True, False)

    def test_more_launches_until_there_are_runs_at_full_pace(self, dense_int8_file: Path) -> None:
        """Launches that agree with each other, all slower than what earlier benchmarks know, call for one more, and for one more again."""
        method, case = prepared()
        known, task = KnownPace({}), Task(case, method, dense_int8_file)
        task.launches = list(slowed_case(0, 0, 0, 0, 0).launches)
        task.recall(known)
        assert (task.wants_more(5), task.needed()) == (False, 5)
        known.keep({case: FULL / 2})
        task.recall(known)
        assert (task.wants_more(5), task.needed()) == (True, 6)
        task.launches += slowed_case(0).launches
        assert (task.wants_more(6), task.needed()) == (True, 7)
        assert task.own_pace_ns == pytest.approx(FULL, rel=0.05)


class TestInterrupt:
    """Ctrl-C."""

    def test_what_was_measured_is_kept_and_marked(self) -> None:
        """Ended before the third launch there are two, and the report did not pass."""

        def stop(step: str, done: int, total: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        report = benchmark(
            {"a": models.dense_int8(), "b": models.dense_float()},
            runs=2,
            warmup=0,
            launches=2,
            delegate="none",
            progress=stop,
        )
        assert report.interrupted
        assert not report.passed
        assert [len(result.launches) for result in report.cases] == [1, 1]
        assert report.verdict.level != "VALID"

    def test_nothing_measured_is_no_report(self) -> None:
        """The interrupt is the caller's."""

        def stop(step: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            benchmark(models.dense_int8(), runs=1, warmup=0, launches=1, delegate="none", progress=stop)

    def test_the_child_does_not_outlive_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupt while a process measures ends that process."""
        note = tmp_path / "pid"
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho $$ >{note}\necho \'{{"progress": ["one", 0, 1]}}\'\nexec sleep 600\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))

        def stop(step: str, done: int, total: int) -> None:
            if step == "one":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            benchmark(models.dense_int8(), launches=1, delegate="none", progress=stop)
        with pytest.raises(ProcessLookupError):
            os.kill(int(note.read_text()), 0)


class TestInputs:
    """Real data and batches."""

    def test_real_samples_are_run(self) -> None:
        """The report says what they were."""
        data = np.random.default_rng(0).uniform(-1, 1, (5, 8)).astype(np.float32)
        report = benchmark(
            models.dense_int8(), runs=7, warmup=0, launches=1, delegate="none", data=data, data_name="five.npy"
        )
        assert (report.passed, report.inputs) == (True, "five.npy")

    def test_data_that_do_not_fit_stop_it(self) -> None:
        """Before anything is measured."""
        with pytest.raises(DataError, match="sample 0"):
            benchmark(models.dense_int8(), data=np.zeros((2, 5)), progress=lambda *_: pytest.fail("it began"))

    def test_preprocessing_is_for_one_input(self) -> None:
        """With two it is not known which."""
        with pytest.raises(DataError, match="preprocessing is for one input, and the model has a, b"):
            benchmark(
                models.add_two_inputs(), data=[{"a": [[0.0] * 4], "b": [[0.0] * 4]}], preprocessing=Preprocessing(mean=(1.0,), std=(2.0,)),
                progress=lambda *_: pytest.fail("it began"),
            )  # fmt: skip

    def test_another_models_manifest_serves_a_model_without_one(self) -> None:
        """Float and int8 of one network: the raw images that suit the one suit the other."""
        plain = models.conv_float(size=12)
        name = edgekit.ModelFile.read(plain).inputs[0].name
        told = models.with_manifest(plain, preprocessing={name: Preprocessing(resize=(12, 12))})
        report = benchmark(
            {"plain": plain, "told": told},
            data=[np.zeros((24, 24, 3), np.uint8)],
            runs=1,
            warmup=0,
            launches=1,
            delegate="none",
        )
        assert report.passed

    def test_batch_counts_samples(self) -> None:
        """Six runs of four samples are 24."""
        report = benchmark(models.dense_float(open_batch=True), batch=4, runs=6, warmup=0, launches=1, delegate="none")
        launch = report.cases[0].launches[0]
        assert (len(launch.total_ns), launch.samples) == (6, 24)
        assert report.cases[0].throughput is not None

    @pytest.mark.parametrize("data", [None, np.zeros((2, 8))], ids=["random", "real"])
    def test_a_batch_s_own_signature_is_used(self, data: Any) -> None:
        """A model of one sample that was given a signature for four runs four, with random and with real inputs."""
        from edgekit_convert.graph.batch import with_batch

        model = with_batch(models.dense_float(), 4)
        report = benchmark(model, batch=4, runs=6, warmup=0, launches=1, delegate="xnnpack", data=data)
        (result,) = report.cases
        assert result.error is None
        assert result.launches[0].samples == 24
        assert result.launches[0].got["delegate"] == "xnnpack"

    @pytest.mark.parametrize("data", [None, np.zeros((2, 8))], ids=["random", "real"])
    def test_batch_without_room_is_a_row(self, data: Any) -> None:
        """A model whose first size is fixed fails there, and says why."""
        report = benchmark(models.dense_float(), batch=4, runs=1, launches=1, delegate="none", data=data)
        assert report.cases[0].error is not None
        assert "a batch of 4: the model's input" in report.cases[0].error


class TestScenarios:
    """In processes of their own."""

    def test_offline_has_a_throughput(self) -> None:
        """Samples in a time, on the workers that were asked for."""
        report = benchmark(
            models.dense_float(), scenario="offline", workers=2, launches=2, least_s=0.05, warmup=3, delegate="none"
        )
        (result,) = report.cases
        assert [(item.workers, item.total_ns, (item.samples or 0) >= 16) for item in result.launches] == [
            (2, (), True)
        ] * 2
        assert result.throughput is not None
        assert result.throughput.value > 0
        assert result.interval is None

    def test_named_rate_that_does_not_hold_is_no_pass(self) -> None:
        """A bound of a nanosecond; the case itself did not fail."""
        report = benchmark(
            models.dense_float(), scenario="server", latency_bound_ms=1e-6, rate_per_s=3000, launches=1, least_s=0.1, warmup=3,
            workers=1, delegate="none",
        )  # fmt: skip
        assert (report.passed, report.cases[0].error, report.cases[0].highest_rate_per_s) == (False, None, None)
        assert [item.purpose for item in report.cases[0].trials] == ["replay"]

    def test_search_is_confirmed_in_other_launches(self) -> None:
        """The first launch searches, the others try its rate on other arrivals."""
        report = benchmark(
            models.dense_float(), scenario="server", latency_bound_ms=5, percentile=50, launches=2, least_s=0.05, warmup=3,
            workers=1, delegate="none",
        )  # fmt: skip
        first, *others = report.cases[0].launches
        assert {item.purpose for item in first.trials} == {"search"}
        best = max((item.rate_per_s for item in first.trials if item.valid), default=None)
        assert (best is None) == (others == [])
        assert [item.trials[0].purpose for item in others] == ["confirm"] * len(others)
        assert [item.trials[0].seed for item in others] == list(range(1, len(others) + 1))
        assert [item.trials[0].rate_per_s for item in others[:1]] == [best][: len(others)]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"scenario": "x"}, "unknown scenario 'x'"),
            ({"scenario": "server"}, "needs a latency bound"),
            ({"scenario": "server", "latency_bound_ms": 5, "percentile": 100}, "percentile is 100"),
            ({"scenario": "server", "latency_bound_ms": 5, "rate_per_s": 0}, "a rate of 0"),
            ({"latency_bound_ms": 5}, "single-stream has no latency bound"),
            ({"scenario": "offline", "rate_per_s": 5}, "offline has no latency bound and no rate"),
            ({"workers": 2}, "single-stream runs one session"),
            ({"scenario": "offline", "workers": 0}, "workers is 0"),
            ({"batch": 0}, "batch is 0"),
            ({"target": 0}, "a target of 0"),
            ({"budget_s": -1}, "a budget of -1 s"),
            ({"least_s": 0}, "a least time of 0 s"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
    )
    def test_what_makes_no_sense_is_refused(self, options: dict[str, Any], message: str) -> None:
        """Before anything runs."""
        with pytest.raises(OptionError, match=message):
            benchmark(models.dense_float(), progress=lambda *_: pytest.fail("it began"), **options)


class TestSweep:
    """Every combination is a case."""

    def test_combinations_in_order_and_failures_as_rows(self) -> None:
        """Two delegates and two batches of a model without an open batch: two rows fail, two are measured."""
        report = sweep(
            models.dense_float(),
            delegates=["none", "xnnpack"],
            batches=[None, 2],
            threads=[1],
            runs=2,
            warmup=0,
            launches=1,
        )
        assert [(item.case.delegate, item.case.batch, item.error is None) for item in report.cases] == [
            ("none", None, True), ("none", 2, False), ("xnnpack", None, True), ("xnnpack", 2, False),
        ]  # fmt: skip
        assert not report.passed

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delegates": []}, "no delegates to sweep over"),
            ({"threads": [2, 2]}, "threads has a value twice"),
            ({"delegate": "none"}, "sweep takes delegates, a list"),
            ({"batch": 2}, "sweep takes batches, a list"),
        ],
        ids=["empty", "twice", "delegate", "batch"],
    )
    def test_wrong_lists_are_refused(self, options: dict[str, Any], message: str) -> None:
        """With what was seen."""
        with pytest.raises(OptionError, match=message):
            sweep(models.dense_float(), **options)

    def test_unknown_names_are_told_before_anything_runs(self) -> None:
        """A delegate that does not exist is a wrong request, not a failed row."""
        with pytest.raises(DelegateError, match="unknown delegate 'x'"):
            sweep(models.dense_float(), delegates=["none", "x"], progress=lambda *_: pytest.fail("it began"))


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
