"""``benchmark``: each case in child processes, the launches of several models interleaved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from edgekit.bench.results import BenchmarkReport, Case, CaseResult, Launch, with_ratios
from edgekit.errors import OptionError, one_of
from edgekit.modelfile import ModelFile
from edgekit.runtime.engines import ENGINES

Source = str | os.PathLike[str] | bytes | ModelFile
#: Of the random inputs.
SEED = 0
_QUOTED_LINES = 6


def benchmark(
    models: Source | Sequence[Source] | Mapping[str, Source],
    *,
    runs: int = 200,
    warmup: int = 20,
    launches: int = 3,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> BenchmarkReport:
    """Measure models in processes of their own, as an application would run them.

    Each launch is a new process that loads the model, runs it once, warms up, and then measures. The launches of
    several models are interleaved, every second round in reverse, so that a slow minute of the machine meets all of them.

    Args:
        models: one model (path, bytes or ``ModelFile``), several, or several by name.
        runs: steady runs of each launch.
        warmup: runs between the first one and the steady ones.
        launches: processes for each model.
        delegate: see ``edgekit.load``, as the next three.
        device: a profile id.
        threads: CPU threads.
        engine: an engine's name.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The report. A model that fails is in it with its error; ``passed`` is false then.

    Raises:
        EdgekitError: an option is not valid or a file is not a model; nothing was measured then.
    """
    for name, value, lowest in (("runs", runs, 1), ("warmup", warmup, 0), ("launches", launches, 1)):
        if value < lowest:
            raise OptionError(f"{name} is {value}: at least {lowest} was expected.")
    if engine is not None:
        one_of(engine, tuple(ENGINES), "engine")
    named = _named(models)
    from edgekit import __version__
    from edgekit.api import choose
    from edgekit.host import read_host

    choose(named[0][1], delegate=delegate, device=device, threads=threads)  # unknown names are told now, once
    tell = progress or (lambda step, done, total: None)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        tasks = [
            _Task(
                Case(name, model.sha256, len(model.content), delegate, device, threads, engine),
                _path_of(model, Path(folder) / f"model-{number}.tflite"),
            )
            for number, (name, model) in enumerate(named)
        ]
        done = 0
        for round_number in range(launches):
            for task in tasks if round_number % 2 == 0 else reversed(tasks):
                tell("Benchmarking", done, launches * len(tasks))
                task.launch(runs, warmup)
                done += 1
        tell("Benchmarking", done, done)
    cases = tuple(CaseResult(task.case, tuple(task.launches), task.error) for task in tasks)
    return BenchmarkReport(__version__, read_host().to_json(), started, runs, warmup, SEED, with_ratios(cases))


def _named(models: Source | Sequence[Source] | Mapping[str, Source]) -> list[tuple[str, ModelFile]]:
    """Each model, read and checked, with what to call it: its file name where that tells them apart."""
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


@dataclass
class _Task:
    """One case and what came of it so far."""

    case: Case
    path: Path
    launches: list[Launch] = field(default_factory=list)
    error: str | None = None

    def launch(self, runs: int, warmup: int) -> None:
        """Run one process; after a failure the case is left alone."""
        if self.error is not None:
            return
        case = self.case
        request = {
            "model": str(self.path), "delegate": case.delegate, "device": case.device, "threads": case.threads,
            "engine": case.engine, "runs": runs, "warmup": warmup, "seed": SEED,
        }  # fmt: skip
        answer, self.error = _ask_worker(request)
        if answer is not None:
            self.launches.append(Launch.from_json(answer))


def _ask_worker(request: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """Have a child process answer; either the answer or the error is ``None``."""
    import edgekit

    # `-m` puts the working folder first on the child's path: the one that this edgekit comes from, and not
    # the user's, whose files may have the names of modules.
    home = Path(edgekit.__file__).resolve().parent.parent
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.bench.worker"],
        input=json.dumps(request).encode(),
        capture_output=True,
        cwd=home,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None, _crash(done.returncode, done.stderr)
    if "error" in answer:
        return None, str(answer["error"])
    return answer, None


def _crash(returncode: int, stderr: bytes) -> str:
    """What to say of a child that ended without an answer."""
    if returncode < 0:
        try:
            how = f"was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            how = f"was killed by signal {-returncode}"
    else:
        how = f"ended with exit code {returncode}"
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    quoted = " | ".join(lines[-_QUOTED_LINES:]) or "nothing"
    return f"the process that measured {how} and gave no result. Its last words: {quoted}"
