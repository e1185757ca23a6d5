"""Measures one case in a process of its own: ``python -m edgekit.bench.worker``, request on stdin, answers on stdout.

The request is a JSON object: ``model`` (a path), ``case`` (a ``Case``), ``runs`` and ``warmup`` (a number, or ``null`` for as many
as it takes), ``seed``, ``samples`` (a path that ``save_samples`` wrote, or ``null`` for random inputs), ``least_s`` (of a scenario with
several workers), ``confirms`` (whether the case's rate is one that a search found), ``meter_csv`` (see ``benchmark``), ``full_ns`` (what earlier launches found the
fixed piece of work to take at full pace, see ``edgekit.bench.pace``, or ``null``). The answers are JSON objects, one on a
line: ``{"progress": [step, done, total]}`` any number of times, then a ``Launch``, or ``{"error": …}`` with exit code 1.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.api import load
from edgekit.bench import phases
from edgekit.bench.energy import Meter
from edgekit.bench.inputs import load_samples, random_inputs
from edgekit.bench.launch import SINGLE_STREAM, Case, Launch
from edgekit.bench.memory import resident_bytes
from edgekit.errors import EdgekitError
from edgekit.modelfile import ModelFile
from edgekit.runtime.engines import ENGINES, installed
from edgekit.runtime.session import Session

if TYPE_CHECKING:
    from edgekit.bench.scenarios import Tell

_clock = time.perf_counter_ns


def measure(request: Mapping[str, Any], tell: Tell) -> Launch:
    """Load the model and run it, in the calls that an application would make.

    Args:
        request: see the module.
        tell: called as ``tell(step, done, total)``.

    Raises:
        EdgekitError: the model cannot be loaded or run here.
    """
    started_unix_s = time.time()
    case = Case.from_json(request["case"])
    meter = Meter.find(csv=request["meter_csv"])
    steady = phases.Steady(meter, None if meter is None else meter.idle_w(), request["full_ns"])
    engine_import_ns = _import_engine(case.engine)
    # A model that was converted with this batch has a signature for it; any other one's first size is set by the inputs.
    signature = None if case.batch is None else ModelFile.read(request["model"]).batch_signature(case.batch)
    before = resident_bytes()
    workers = 1 if case.scenario == SINGLE_STREAM else phases.worker_count(case.workers, case.threads)
    open_session = functools.partial(
        load,
        request["model"],
        signature=signature,
        delegate=case.delegate,
        device=case.device,
        threads=1 if case.threads is None and workers > 1 else case.threads,
        engine=case.engine,
        io="native",
    )
    start = _clock()
    session = open_session()
    load_ns = _clock() - start
    with session:
        after = resident_bytes()
        inputs = _inputs(request, case, session)
        session.latency.restart(1)
        session.run(inputs[0])
        (first,) = session.latency.records()
        warm = phases.warm_up(session, inputs, request["warmup"])
        asked, partitions = session.asked, session.partitions if signature is None else None
        if case.scenario == SINGLE_STREAM:
            phases.single_stream(steady, session, inputs, request["runs"], case.batch)
        else:
            phases.several(
                steady, session, open_session, workers, inputs, case, seed=request["seed"], least_s=request["least_s"],
                confirms=request["confirms"], tell=tell,
            )  # fmt: skip
        if partitions is None:
            # The interpreter tells what a delegate took of the first signature only; this one has the same operators.
            with functools.partial(open_session, signature=None)() as other:
                partitions = other.partitions
        return Launch(
            started_unix_s=started_unix_s,
            asked={
                # What was asked for first, also when another one runs because that could not be loaded.
                "delegate": session.fallbacks[0].delegate if session.fallbacks else asked.spec.kind,
                "threads": asked.spec.threads,
                "reason": asked.reason,
                "profile": asked.profile_id,
                "rejected": {item.kind: item.reason for item in asked.rejected},
            },
            got={**partitions.to_json(), "delegate": asked.spec.kind if partitions.partitions else "none"},
            engine=session.engine,
            threads=asked.spec.threads or 1,
            engine_import_ns=engine_import_ns,
            load_ns=load_ns,
            first_run_ns=first.total_ns,
            warmup_ns=tuple(warm.times_ns),
            total_ns=tuple(record.total_ns for record in steady.records),
            invoke_ns=tuple(record.invoke_ns for record in steady.records),
            steady_wall_ns=steady.wall_ns,
            steady_cpu_ns=steady.cpu_ns,
            rss_before_load_bytes=before,
            rss_after_load_bytes=after,
            peak_rss_bytes=steady.peak_rss_bytes,
            warmup_runs=warm.runs,
            settled=warm.settled,
            steady_started_unix_s=steady.started_unix_s,
            samples=steady.samples,
            workers=workers,
            trials=tuple(steady.trials),
            energy=steady.energy,
            pace_runs=tuple(steady.pace.runs),
            pace_ns=tuple(steady.pace.times_ns),
        )


def _inputs(request: Mapping[str, Any], case: Case, session: Session) -> phases.Inputs:
    """Real samples where there are some, else one random input, which every run gets; an array where there is one input."""
    if request["samples"] is not None:
        found = load_samples(Path(request["samples"]), session.inputs)
    else:
        found = [random_inputs(session.inputs, request["seed"], case.batch)]
    return [next(iter(row.values())) for row in found] if len(session.inputs) == 1 else found


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


def main() -> int:
    """Answer one request."""
    # What native code prints on stdout goes to stderr; the answers alone go to the real stdout.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        json.dump(answer, answers)
        answers.write("\n")
        answers.flush()

    with answers:
        try:
            answer = measure(
                json.load(sys.stdin), lambda step, done, total: say({"progress": [step, done, total]})
            ).to_json()
        except EdgekitError as error:
            answer = {"error": str(error)}
        say(answer)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
