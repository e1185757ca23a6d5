"""Times a model on one delegate in a process of its own, which ``edgekit.runtime.trial`` starts for ``measure``.

It is given ``delegate``, ``threads``, ``options``, ``seed``, ``warmup_ns``, ``measure_ns``, ``fewest`` and ``most`` (runs), and the model's
bytes. Its result is ``engine``, ``load_ns``, ``runs_ns`` and ``partitions``, or ``error``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edgekit.bench.inputs import random_inputs
from edgekit.errors import EdgekitError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.runtime.trial import enter


def measure(about: Mapping[str, Any], content: bytes, tell: Callable[[str], None]) -> dict[str, Any]:
    """Load the model and run it for as long as was asked.

    Args:
        about: see the module.
        content: the model.
        tell: called with what is done next, in the past tense.

    Raises:
        EdgekitError: the model cannot be loaded or run so.
    """
    clock = time.perf_counter_ns
    spec = DelegateSpec(about["delegate"], about["threads"], about["options"])
    tell("loaded the model")
    start = clock()
    with Session(ModelFile.read(content), DelegateChoice(spec, "measured"), io="native") as session:
        load_ns = clock() - start
        inputs = random_inputs(session.inputs, about["seed"])

        def runs(budget_ns: int, fewest: int) -> list[int]:
            times: list[int] = []
            until = clock() + budget_ns
            while len(times) < fewest or (len(times) < about["most"] and clock() < until):
                before = clock()
                session.run(inputs)
                times.append(clock() - before)
            return times

        tell("ran the model")
        runs(about["warmup_ns"], 1)
        times = runs(about["measure_ns"], about["fewest"])
        try:
            report = session.partitions
            partitions = {"partitions": report.partitions, "outside": report.outside}
        except EngineError:  # an engine that does not tell
            partitions = None
        tell("freed the model")
        return {"engine": session.engine, "load_ns": load_ns, "runs_ns": times, "partitions": partitions}


def main() -> None:
    """Answer one request."""
    about, content, tell, give = enter()
    try:
        give(measure(about, content, tell))
    except EdgekitError as error:
        give({"error": str(error)})
