"""Benchmarks: cases measured in processes of their own, raw samples kept, everything else derived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.bench.combinations import sweep as sweep
    from edgekit.bench.results import BenchmarkReport as BenchmarkReport
    from edgekit.bench.results import Case as Case
    from edgekit.bench.results import CaseResult as CaseResult
    from edgekit.bench.results import Launch as Launch
    from edgekit.bench.results import Ratio as Ratio
    from edgekit.bench.results import Trial as Trial
    from edgekit.bench.runner import benchmark as benchmark

#: Where each name comes from. Other parts of edgekit use ``edgekit.bench.inputs`` in processes that measure, and are spared the rest.
_LAZY: dict[str, str] = {
    "BenchmarkReport": "edgekit.bench.results",
    "Case": "edgekit.bench.results",
    "CaseResult": "edgekit.bench.results",
    "Launch": "edgekit.bench.results",
    "Ratio": "edgekit.bench.results",
    "Trial": "edgekit.bench.results",
    "benchmark": "edgekit.bench.runner",
    "sweep": "edgekit.bench.combinations",
}

__all__ = ["BenchmarkReport", "Case", "CaseResult", "Launch", "Ratio", "Trial", "benchmark", "sweep"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'edgekit.bench' has no attribute {name!r}")
