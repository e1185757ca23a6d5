"""The job on the device: ``main`` reads the request in its folder, measures, and writes what came of it there.

It is started by the agent in a session of its own, and reads nothing from it afterwards: the connection may end. In the folder are
``request.json``, the models and samples under their hashes, ``progress`` (a JSON array on each line: step, done, total), and in the end
``report.json`` and ``outcome.json``, which is written last: ``{"report": whether there is one, "interrupted": …, "error": …}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bench.energy import no_source
from edgekit.bench.remote.request import read_request
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.runner import Progress, run_tasks
from edgekit.bench.tasks import Task
from edgekit.errors import EdgekitError


def measure(folder: Path, settings: Mapping[str, Any], progress: Progress) -> BenchmarkReport:
    """Measure what a request asks for.

    Args:
        folder: where the models and samples are.
        settings: see ``Request``.
        progress: called as ``progress(step, done, total)``.

    Returns:
        See ``edgekit.benchmark``.

    Raises:
        EdgekitError: see there.
        KeyboardInterrupt: it came before anything was measured.
    """
    method, rows = read_request(settings)
    report = run_tasks(
        [
            Task(case, method, folder / model, None if samples is None else folder / samples, error)
            for case, model, samples, error in rows
        ],
        method,
        progress,
    )
    cases = []
    for result, (case, model, _, _) in zip(report.cases, rows, strict=True):
        # The file's name here says nothing to anybody.
        error = None if result.error is None else result.error.replace(str(folder / model), case.model)
        cases.append(dataclasses.replace(result, error=error))
    host = dict(report.host)
    if not any(launch.energy for result in cases for launch in result.launches):
        host["no_energy_source"] = {"value": no_source(), "source": "edgekit.bench.energy"}
    return dataclasses.replace(report, host=host, cases=tuple(cases))


def main() -> None:
    """Do what the folder in the arguments asks for; the lock in them is held until this process ends."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = json.loads((folder / "request.json").read_bytes())
    outcome: dict[str, Any] = {"report": False, "interrupted": False, "error": None}
    with open(folder / "progress", "w", encoding="utf-8") as lines:

        def tell(step: str, done: int, total: int) -> None:
            lines.write(f"{json.dumps([step, done, total])}\n")
            lines.flush()
            _log(f"{step} {done}/{total}" if total else step)

        _log(f"edgekit {__version__}, Python {sys.version.split()[0]}, process {os.getpid()}")
        try:
            report = measure(folder, settings, tell)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing that could be interrupted is left
            _write(folder / "report.json", json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
            outcome.update(report=True, interrupted=report.interrupted)
        except KeyboardInterrupt:
            outcome["interrupted"] = True
        except EdgekitError as error:
            outcome["error"] = str(error)
        except Exception as error:  # a bug of ours must not look like a machine that went away
            traceback.print_exc()
            outcome["error"] = f"{type(error).__name__}: {error}"
    _log(f"ended: {json.dumps(outcome)}")
    _write(folder / "outcome.json", json.dumps(outcome))


def _log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
