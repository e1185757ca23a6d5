"""Latencies that are to be compared: all files in one process, a few milliseconds of each in turn, several processes.

A processor that changes its clock, or another program, then meets all files alike: files are compared within a round, which takes
some milliseconds, and only the ratios are put together. Run as ``python interleaved.py REQUEST`` it is one such process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.inputs import random_inputs
from edgekit.bench.results import Ratio
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine
from edgekit_convert.assign.timed import runs_of

#: About so long each file runs in a round; the first run of a turn, which finds other files' data in the caches, is left out.
_TURN_NS = 3_000_000
_RESAMPLES, _SEED = 1000, 0

#: Nanoseconds by file, launch and round.
Times = dict[str, list[list[float]]]


def measure(
    files: Mapping[str, str | Path], *, rounds: int, launches: int, threads: int = 1, timeout_s: float = 900
) -> Times:
    """Time files on XNNPACK.

    Args:
        files: paths by any name.
        rounds: turns that each file has in a process.
        launches: processes.
        threads: of the delegate.
        timeout_s: for one process.

    Returns:
        The median time of one run in each round of each launch; files that do not run are left out.
    """
    request = {"files": {name: str(path) for name, path in files.items()}, "rounds": rounds, "threads": threads}
    found: Times = {}
    for number in range(launches):
        command = [sys.executable, __file__, json.dumps({**request, "first": number})]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=True)
        for name, times in json.loads(done.stdout.splitlines()[-1]).items():
            found.setdefault(name, []).append(times)
    return {name: times for name, times in found.items() if len(times) == launches}


def ratio(times: Times, name: str, to: str) -> Ratio:
    """How much longer one file takes than another.

    Args:
        times: what ``measure`` returned.
        name: the file.
        to: what it is compared with.

    Returns:
        The median over launches of the median over a launch's rounds of the ratio within a round; the interval is a
        bootstrap over launches (2.5 % and 97.5 % of 1000 resamples, fixed seed).
    """
    of_launch = np.array(
        [np.median(np.array(a) / np.array(b)) for a, b in zip(times[name], times[to], strict=True)], np.float64
    )
    if len(of_launch) < 2:
        return Ratio(float(of_launch[0]), None, None)
    drawn = np.random.default_rng(_SEED).integers(0, len(of_launch), (_RESAMPLES, len(of_launch)))
    low, high = np.percentile(np.median(of_launch[drawn], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(of_launch)), float(low), float(high))


def median_ns(times: Times, name: str) -> float:
    """The median over launches of a file's median, for a column of absolute times."""
    return float(np.median([np.median(rounds) for rounds in times[name]]))


def _launch(request: dict[str, Any]) -> dict[str, list[float]]:
    """One process: every file opened, then timed in turn."""
    spec = DelegateSpec("xnnpack", request["threads"])
    engines, turns = {}, {}
    for name, path in request["files"].items():
        model = ModelFile.read(Path(path))
        try:
            engine = open_engine(model, spec)
            values = random_inputs(model.inputs)
            for place, item in enumerate(model.inputs):
                engine.set_input(place, values[item.name])
            engine.invoke()
        except Exception as error:  # whatever a peer's file does to the interpreter: the others are timed
            print(f"{name}: {error}", file=sys.stderr)
            continue
        engines[name] = engine
        turns[name] = max(3, min(400, _TURN_NS // max(1, int(np.median(runs_of(engine, 5))))))
    times: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    for number in range(request["rounds"]):
        start = (number + request["first"]) % max(1, len(order))
        for name in [*order[start:], *order[:start]]:
            times[name].append(float(np.median(runs_of(engines[name], turns[name])[1:])))
    return times


if __name__ == "__main__":
    print(json.dumps(_launch(json.loads(sys.argv[1]))))
