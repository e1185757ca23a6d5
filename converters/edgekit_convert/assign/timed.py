"""Times of models that are to be compared: each run for a moment in turn, so that a slow moment meets all of them.

Needs nothing of edgekit but its device part, so that ``timer.Elsewhere`` can run this file by path in another Python, which has
another runtime and another numpy: a JSON request comes on standard input, the answer goes to standard output.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from edgekit.bench.inputs import random_inputs
from edgekit.errors import DelegateError, EngineError
from edgekit.inspection import left_outside
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import installed, open_engine

if TYPE_CHECKING:
    from edgekit.runtime.engines import Engine

#: Rounds that are run however long they take.
FEWEST = 9


def timed(
    models: Mapping[str, bytes],
    spec: DelegateSpec,
    *,
    rounds: int,
    round_ns: int,
    limit_ns: float = math.inf,
    engine_name: str | None = None,
) -> dict[str, float | None]:
    """Median nanoseconds of one run of each model, all in turn.

    Args:
        models: flatbuffers by any name.
        spec: the delegate and threads.
        rounds: turns of each model.
        round_ns: about so long each model runs in a turn.
        limit_ns: fewer rounds, but not fewer than ``FEWEST``, where all would take longer than this.
        engine_name: the interpreter; ``None`` for the first that is installed.

    Returns:
        Times by name; ``None`` for what the interpreter cannot run.
    """
    engines: dict[str, Engine] = {}
    runs: dict[str, int] = {}
    once = 0
    for key, content in models.items():
        try:
            model = ModelFile.read(content)
            engine = open_engine(model, spec, engine_name)
            values = random_inputs(model.inputs)
            for place, item in enumerate(model.inputs):
                engine.set_input(place, values[item.name])
            engine.invoke()
        except (EngineError, DelegateError):
            continue
        engines[key] = engine
        single = max(1, min(runs_of(engine, 3)))
        runs[key] = max(1, round_ns // single)
        once += runs[key] * single
    samples: dict[str, list[int]] = {key: [] for key in engines}
    order = list(engines)
    for number in range(int(max(min(rounds, FEWEST), min(rounds, limit_ns / max(1, once))))):
        for key in order if number % 2 == 0 else reversed(order):
            samples[key] += runs_of(engines[key], runs[key])
    for engine in engines.values():
        engine.close()
    return {key: float(median(samples[key])) if key in samples else None for key in models}


def runs_of(engine: Engine, times: int) -> list[int]:
    """Nanoseconds of single runs: of many short ones most are undisturbed, which a sum would not show."""
    clock, invoke = time.perf_counter_ns, engine.invoke
    found = []
    for _ in range(times):
        start = clock()
        invoke()
        found.append(clock() - start)
    return found


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    spec = DelegateSpec(request["delegate"], request["threads"])
    contents = {key: Path(path).read_bytes() for key, path in request["models"].items()}
    # A Python that has it was named for it.
    name = "tflite-runtime" if "tflite-runtime" in installed() else None
    if request["kind"] == "version":
        return {"version": open_engine(ModelFile.read(next(iter(contents.values()))), spec, name).version}
    if request["kind"] == "outside":
        return {"outside": sorted(left_outside(next(iter(contents.values())), spec, name))}
    limit = request["limit_ns"]
    times = timed(
        contents, spec, rounds=request["rounds"], round_ns=request["round_ns"],
        limit_ns=math.inf if limit is None else limit, engine_name=name,
    )  # fmt: skip
    return {"times": times}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
