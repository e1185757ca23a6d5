"""``sweep``: every combination of models, delegates, threads and batches as one benchmark; what fails is a row."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from edgekit.bench.launch import Case
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.runner import Models, Progress, check_cases, named_models, prepared, run_cases
from edgekit.bench.tasks import Method
from edgekit.errors import OptionError


def sweep(
    models: Models,
    *,
    delegates: Sequence[str | None] = (None,),
    threads: Sequence[int | None] = (None,),
    batches: Sequence[int | None] = (None,),
    progress: Progress | None = None,
    **options: Any,
) -> BenchmarkReport:
    """Measure models on delegates, with numbers of threads, in batches: every combination is a case, all interleaved.

    Args:
        models: see ``benchmark``.
        delegates: delegates by name; ``None`` among them is the device profile's pick.
        threads: numbers of CPU threads; ``None`` is the profile's number.
        batches: samples in one run; ``None`` is the model's own. A model whose first size is fixed at another number fails there.
        progress: called as ``progress(step, done, total)``.
        options: what ``benchmark`` takes besides.

    Returns:
        The report: a case for each combination, models first, then delegates, threads and batches in the order given. Each
        one's ratio is to the first case.

    Raises:
        EdgekitError: see ``benchmark``.
    """
    method, patterns = combinations(delegates=delegates, threads=threads, batches=batches, **options)
    named = named_models(models)
    return run_cases(
        [(name, model, case) for (name, model), case in itertools.product(named, patterns)], method, progress
    )


def combinations(
    *,
    delegates: Sequence[str | None] = (None,),
    threads: Sequence[int | None] = (None,),
    batches: Sequence[int | None] = (None,),
    **options: Any,
) -> tuple[Method, list[Case]]:
    """The options of ``sweep`` in two parts: how to measure, and each way to run a model, whose name is not known yet.

    Args:
        delegates: see ``sweep``, as the next two.
        threads: see there.
        batches: see there.
        options: what ``benchmark`` takes besides.

    Raises:
        EdgekitError: an option is not valid.
    """
    for name, values in (("delegates", delegates), ("threads", threads), ("batches", batches)):
        if not values:
            raise OptionError(f"no {name} to sweep over: at least one was expected; None is the default.")
        if len(set(values)) < len(values):
            raise OptionError(f"{name} has a value twice: {', '.join(map(str, values))}.")
    taken = [name for name in ("delegate", "batch") if name in options]
    if taken:
        raise OptionError(
            f"sweep takes {taken[0]}{'s' if taken[0] == 'delegate' else 'es'}, a list, in place of {taken[0]}."
        )
    method, pattern = prepared(**options)
    patterns = [
        dataclasses.replace(pattern, delegate=delegate, threads=count, batch=batch)
        for delegate, count, batch in itertools.product(delegates, threads, batches)
    ]
    check_cases(patterns)
    return method, patterns
