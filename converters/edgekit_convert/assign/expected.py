"""The time of a model's run, from a table of its operators' times: a prediction, and none where the table lacks one of them."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable, form_of
from edgekit_convert.delegate.sizes import with_sizes
from edgekit_convert.graph.slices import Sliceable
from edgekit_profiles.plan import Expected


def expected(model: ModelFile, spec: DelegateSpec, path: Path) -> Expected | None:
    """What a run should take by a cost table.

    Args:
        model: the model.
        spec: the delegate and threads.
        path: a cost table that ``edgekit convert --cost-table`` wrote.

    Returns:
        The sum of the operators' times; ``None`` when the table is of another delegate, number of threads, machine or
        interpreter, or lacks an operator.

    Raises:
        DataError: the file cannot be read or is not a cost table.
        ConversionError: ai-edge-litert, which takes models apart, is not installed.
    """
    try:
        table = CostTable.open(path, spec)
    except OptionError:  # of another delegate or number of threads
        return None
    if not table.of_this_machine:
        return None
    content, _ = with_sizes(model)
    whole = Sliceable(content)
    total = 0.0
    for op in whole.main.ops:
        try:
            ns = table.ns(form_of(whole, op).key)
        except KeyError:
            return None
        if ns is None:
            return None
        total += ns
    by = f"the sum of its operators' times in {path.name}, without what passing between partitions takes"
    return Expected(total, by) if whole.main.ops else None
