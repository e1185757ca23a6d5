"""``benchmark``: each case in child processes, the launches of several cases interleaved, until the interval is narrow."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgekit.bench.known_pace import KnownPace
from edgekit.bench.launch import OFFLINE, SCENARIOS, SERVER, SINGLE_STREAM, Case
from edgekit.bench.results import BenchmarkReport, with_ratios
from edgekit.bench.scenarios import TRIAL_S
from edgekit.bench.tasks import SEED, Method, Task
from edgekit.errors import OptionError, one_of
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.runtime.engines import ENGINES

Source = str | os.PathLike[str] | bytes | ModelFile
Models = Source | Sequence[Source] | Mapping[str, Source]
Progress = Callable[[str, int, int], None]

#: The width of the median's interval at which launches end: that for a rerun is below 5 % then.
TARGET = 0.03
_OFFLINE_S = 2.0


def benchmark(
    models: Models,
    *,
    runs: int | None = None,
    warmup: int | None = None,
    launches: int | None = None,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    batch: int | None = None,
    scenario: str = SINGLE_STREAM,
    workers: int | None = None,
    latency_bound_ms: float | None = None,
    percentile: int = 99,
    rate_per_s: float | None = None,
    least_s: float | None = None,
    target: float = TARGET,
    budget_s: float | None = None,
    data: Any = None,
    data_name: str = "data",
    preprocessing: Preprocessing | None = None,
    meter_csv: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure models in processes of their own, as an application would run them.

    Each launch is a new process that loads the model, runs it once, warms up until its times have no trend any more, and then
    measures. Launches differ by more than runs do, so there are several, and more until the interval of the median over
    launches is narrow or the time is over. The launches of several models are interleaved, every second round in reverse, so that
    a slow minute of the machine meets all of them.

    A ``KeyboardInterrupt`` ends it: the report then holds what was measured, and is marked as ``interrupted``.

    Args:
        models: one model (path, bytes or ``ModelFile``), several, or several by name.
        runs: steady runs of each launch; ``None`` for about a second of them.
        warmup: runs between the first one and the steady ones; ``None`` for as many as it takes.
        launches: processes for each model, exactly; ``None`` for at least 5 and as many as the interval takes.
        delegate: see ``edgekit.load``, as the next three.
        device: a profile id.
        threads: CPU threads.
        engine: an engine's name.
        batch: samples in one run, which the model's first size must leave open; ``None`` for the model's own.
        scenario: ``"single-stream"``: one run after another. ``"server"``: queries that arrive at random, and the highest rate at
            which they are answered in time. ``"offline"``: samples per second.
        workers: of ``"server"`` and ``"offline"``: sessions beside each other; ``None`` for as many as there are processors for.
        latency_bound_ms: of ``"server"``, where it must be given: what a query may take from its arrival, in milliseconds.
        percentile: of ``"server"``: per cent of the queries that must be within the bound.
        rate_per_s: of ``"server"``: try this rate and search none; the report has ``passed`` when it was valid in every launch.
        least_s: the least time of a trial of ``"server"`` (5 s) or of a launch of ``"offline"`` (2 s).
        target: the width of the median's 95 % interval, as a share of it, at which launches end.
        budget_s: after so many seconds no launch begins beyond the first five; ``None`` for a minute for each case,
            three for the server scenario.
        data: real inputs: an array ``[n, …]``, such arrays by input name, or a list of samples, as ``Session.run`` takes them;
            ``None`` for random ones.
        data_name: what to call them in the report.
        preprocessing: of images in ``data``; ``None`` for what the models' manifests say.
        meter_csv: the file that an external power meter's program writes; ``None`` for the machine's own energy counter, if any.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The report. A model that fails is in it with its error; ``passed`` is false then.

    Raises:
        EdgekitError: an option is not valid, a file is not a model, or the data do not fit; nothing was measured then.
        KeyboardInterrupt: it came before anything was measured.
    """
    # Before any other name is here: all that was given, but what `prepared` has no use for.
    options = {name: value for name, value in locals().items() if name not in ("models", "progress")}
    method, pattern = prepared(**options)
    return run_cases([(name, model, pattern) for name, model in named_models(models)], method, progress)


def prepared(
    *,
    runs: int | None = None,
    warmup: int | None = None,
    launches: int | None = None,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    batch: int | None = None,
    scenario: str = SINGLE_STREAM,
    workers: int | None = None,
    latency_bound_ms: float | None = None,
    percentile: int = 99,
    rate_per_s: float | None = None,
    least_s: float | None = None,
    target: float = TARGET,
    budget_s: float | None = None,
    data: Any = None,
    data_name: str = "data",
    preprocessing: Preprocessing | None = None,
    meter_csv: str | os.PathLike[str] | None = None,
) -> tuple[Method, Case]:
    """The options of ``benchmark`` in two parts: how to measure, and how to run a model, whose name is not known yet.

    Raises:
        EdgekitError: an option is not valid.
    """
    if least_s is None:
        least_s = _OFFLINE_S if scenario == OFFLINE else TRIAL_S
    meter = None if meter_csv is None else os.path.abspath(meter_csv)
    method = Method(runs, warmup, launches, target, budget_s, data, data_name, preprocessing, least_s, meter)
    method.check()
    bound_ns = None if latency_bound_ms is None else round(latency_bound_ms * 1e6)
    case = Case(
        "", "", 0, delegate, device, threads, engine, batch, scenario, workers, bound_ns, percentile, rate_per_s
    )  # fmt: skip
    check_cases([case])
    return method, case


def run_cases(
    cases: Sequence[tuple[str, ModelFile, Case]], method: Method, progress: Progress | None = None
) -> BenchmarkReport:
    """Measure cases, interleaved.

    Args:
        cases: each with its model's name, the model, and how to run it; the pattern's name, hash and size are filled in here.
        method: how to measure.
        progress: called as ``progress(step, done, total)``.

    Returns:
        See ``benchmark``.

    Raises:
        EdgekitError: see ``benchmark``.
        KeyboardInterrupt: see ``benchmark``.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        tasks = []
        for number, (name, model, pattern) in enumerate(cases):
            case = dataclasses.replace(pattern, model=name, sha256=model.sha256, size_bytes=len(model.content))
            tasks.append(Task(case, method, _path_of(model, Path(folder) / f"model-{number}.tflite")))
        if method.data is not None:
            models = [model for _, model, _ in cases]
            for number, (task, model) in enumerate(zip(tasks, models, strict=True)):
                task.prepare(model, models, Path(folder) / f"samples-{number}.npz")
        return run_tasks(tasks, method, progress or (lambda step, done, total: None))


def run_tasks(tasks: Sequence[Task], method: Method, progress: Progress) -> BenchmarkReport:
    """Measure cases whose files are in place, interleaved.

    Args:
        tasks: the cases.
        method: how to measure.
        progress: called as ``progress(step, done, total)``.

    Returns:
        See ``benchmark``.

    Raises:
        KeyboardInterrupt: see ``benchmark``.
    """
    from edgekit import __version__
    from edgekit.host import read_host

    started, host = time.time(), read_host().to_json()
    known = KnownPace(host)
    for task in tasks:
        task.recall(known)
    interrupted = _Rounds(tasks, method, progress).run()
    known.keep({task.case: full_ns for task in tasks if (full_ns := task.own_pace_ns) is not None})
    return BenchmarkReport(
        __version__, host, started, method.runs, method.warmup, SEED,
        with_ratios(tuple(task.result() for task in tasks)), method.launches,
        None if method.launches is not None else method.target, method.budget(tasks),
        "random" if method.data is None else method.data_name, interrupted,
    )  # fmt: skip


@dataclass
class _Rounds:
    """Launches in rounds over all cases."""

    tasks: Sequence[Task]
    method: Method
    progress: Progress
    done: int = 0
    start: float = dataclasses.field(default_factory=time.monotonic)

    def run(self) -> bool:
        """Run rounds until every case has enough.

        Returns:
            Whether it was interrupted.
        """
        number = 0
        try:
            while wanting := [task for task in self.tasks if task.wants_more(number)]:
                if number >= self.method.least and self._over():
                    break
                for task in wanting if number % 2 == 0 else reversed(wanting):
                    if number >= self.method.least and self._over():
                        break
                    self.progress("Benchmarking", self.done, self.done + self._to_come(number))
                    task.launch(number, self.progress)
                    self.done += 1
                number += 1
        except KeyboardInterrupt:
            if not any(task.launches for task in self.tasks):
                raise
            return True
        self.progress("Benchmarking", self.done, self.done)
        return False

    def _over(self) -> bool:
        """Whether another launch would end after the time is over."""
        spent = time.monotonic() - self.start
        return spent + spent / max(1, self.done) > self.method.budget(self.tasks)

    def _to_come(self, number: int) -> int:
        """How many launches there will about be: those that are sure, and as many of the others as the time allows."""
        sure = sum(max(0, self.method.least - task.rounds) for task in self.tasks if task.wants_more(number))
        more = sum(max(0, task.needed() - max(task.rounds, self.method.least)) for task in self.tasks)
        if more and self.done:
            spent = time.monotonic() - self.start
            room = (self.method.budget(self.tasks) - spent) / (spent / self.done) - sure
            more = min(more, max(0, int(room)))
        return max(1, sure + more)


def check_cases(patterns: Sequence[Case]) -> None:
    """Refuse cases that make no sense, and names that nothing has, before anything runs.

    Args:
        patterns: how to run models.

    Raises:
        EdgekitError: the first thing that is wrong.
    """
    from edgekit.api import choose

    if not patterns:
        _none()
    for case in dict.fromkeys(patterns):
        one_of(case.scenario, SCENARIOS, "scenario")
        if case.engine is not None:
            one_of(case.engine, tuple(ENGINES), "engine")
        for name, value in (("batch", case.batch), ("workers", case.workers)):
            if value is not None and value < 1:
                raise OptionError(f"{name} is {value}: at least 1 was expected.")
        if case.scenario == SINGLE_STREAM and case.workers not in (None, 1):
            raise OptionError("single-stream runs one session: workers are for the scenarios server and offline.")
        if case.scenario == SERVER:
            if case.latency_bound_ns is None or case.latency_bound_ns <= 0:
                raise OptionError(
                    "the scenario server needs a latency bound above 0: what a query may take from its arrival."
                )
            if not 50 <= case.percentile <= 99:
                raise OptionError(f"percentile is {case.percentile}: a whole number from 50 to 99 was expected.")
            if case.rate_per_s is not None and not case.rate_per_s > 0:
                raise OptionError(f"a rate of {case.rate_per_s} per second: more than 0 was expected.")
        elif case.latency_bound_ns is not None or case.rate_per_s is not None:
            raise OptionError(f"{case.scenario} has no latency bound and no rate: they are of the scenario server.")
        choose(None, delegate=case.delegate, device=case.device, threads=case.threads)


def named_models(models: Models) -> list[tuple[str, ModelFile]]:
    """Each model, read and checked, with what to call it: its file name where that tells them apart.

    Args:
        models: see ``benchmark``.

    Raises:
        EdgekitError: a file is not a model, or there is none.
    """
    if isinstance(models, Mapping):
        return [(str(name), _read(source)) for name, source in models.items()] or _none()
    if isinstance(models, str | os.PathLike | bytes | ModelFile):
        models = [models]
    read = [_read(source) for source in models] or _none()
    names = [model.path.name if model.path else f"model {number}" for number, model in enumerate(read, 1)]
    if len(set(names)) < len(names):
        names = [str(model.path) if model.path else name for name, model in zip(names, read, strict=True)]
    return list(zip(names, read, strict=True))


def _none() -> NoReturn:
    raise OptionError("there is no model to benchmark: at least one was expected.")


def _read(source: Source) -> ModelFile:
    return source if isinstance(source, ModelFile) else ModelFile.read(source)


def _path_of(model: ModelFile, temporary: Path) -> Path:
    """Where the child process finds exactly these bytes."""
    if model.path is not None and model.path.is_file() and model.path.read_bytes() == model.content:
        return model.path.resolve()
    temporary.write_bytes(model.content)
    return temporary
