"""Measures one case in a process of its own: ``python -m edgekit.bench.worker``, request on stdin, result on stdout.

The request is a JSON object: ``model`` (a path), ``delegate``, ``device``, ``threads``, ``engine`` (as in
``edgekit.load``), ``runs``, ``warmup``, ``seed``. The result is a ``Launch``, or ``{"error": …}`` with exit code 1.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.api import load
from edgekit.bench.inputs import random_inputs
from edgekit.bench.results import Launch
from edgekit.errors import EdgekitError
from edgekit.runtime.engines import ENGINES, installed
from edgekit.runtime.latency import RunRecord
from edgekit.runtime.session import Session


def measure(request: Mapping[str, Any]) -> Launch:
    """Load the model and run it, in the calls that an application would make.

    Args:
        request: see the module.

    Raises:
        EdgekitError: the model cannot be loaded or run here.
    """
    clock = time.perf_counter_ns
    started_unix_s = time.time()
    engine_import_ns = _import_engine(request["engine"])
    before = resident_bytes()
    start = clock()
    session = load(
        request["model"],
        delegate=request["delegate"],
        device=request["device"],
        threads=request["threads"],
        engine=request["engine"],
        io="native",
    )
    load_ns = clock() - start
    with session:
        after = resident_bytes()
        inputs = random_inputs(session.inputs, request["seed"])
        first = _run(session, inputs, 1)
        warmup = _run(session, inputs, request["warmup"])
        cpu_start, wall_start = time.process_time_ns(), clock()
        steady = _run(session, inputs, request["runs"])
        steady_wall_ns, steady_cpu_ns = clock() - wall_start, time.process_time_ns() - cpu_start
        asked = session.asked
        partitions = session.partitions
        return Launch(
            started_unix_s=started_unix_s,
            asked={
                "delegate": asked.spec.kind,
                "threads": asked.spec.threads,
                "reason": asked.reason,
                "profile": asked.profile_id,
                "rejected": {item.kind: item.reason for item in asked.rejected},
            },
            got={**partitions.to_json(), "delegate": session.got},
            engine=session.engine,
            threads=asked.spec.threads or 1,
            engine_import_ns=engine_import_ns,
            load_ns=load_ns,
            first_run_ns=first[0].total_ns,
            warmup_ns=tuple(record.total_ns for record in warmup),
            total_ns=tuple(record.total_ns for record in steady),
            invoke_ns=tuple(record.invoke_ns for record in steady),
            steady_wall_ns=steady_wall_ns,
            steady_cpu_ns=steady_cpu_ns,
            rss_before_load_bytes=before,
            rss_after_load_bytes=after,
            peak_rss_bytes=peak_bytes(),
        )


def _run(session: Session, inputs: Mapping[str, Any], count: int) -> list[RunRecord]:
    """Run ``count`` times and return each run's times."""
    # A log of exactly this many runs keeps the phases apart and every sample, however many there are.
    session.latency.restart(max(1, count))
    for _ in range(count):
        session.run(inputs)
    return session.latency.records()


def _import_engine(name: str | None) -> int:
    """Import what the engine will import, and return how long it took.

    A program pays this once, whatever it loads; without this line it would count as the model's load time.
    """
    chosen = name or next(iter(installed()), None)
    if chosen is None:
        return 0
    start = time.perf_counter_ns()
    with contextlib.suppress(ImportError):  # loading says it with its remedy
        importlib.import_module(ENGINES[chosen] if chosen == "tensorflow" else f"{ENGINES[chosen]}.interpreter")
    return time.perf_counter_ns() - start


def resident_bytes() -> int | None:
    """Resident memory of this process now; ``None`` where ``/proc`` does not tell."""
    return _proc_status("VmRSS")


def peak_bytes() -> int | None:
    """Most resident memory that this process had; ``None`` where the system does not tell.

    Linux's ``ru_maxrss`` begins with what the parent process had (getrusage(2): it is inherited through fork and
    kept by execve), so it is asked only where there is no ``/proc``.
    """
    found = _proc_status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others KiB


def _proc_status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def main() -> int:
    """Answer one request."""
    # What native code prints on stdout goes to stderr; the result alone goes to the real stdout.
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer = measure(json.load(sys.stdin)).to_json()
    except EdgekitError as error:
        answer = {"error": str(error)}
    with result:
        json.dump(answer, result)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
