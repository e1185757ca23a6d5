"""Benchmarks: cases measured in processes of their own, raw samples kept, everything else derived."""

from __future__ import annotations

from edgekit.bench.results import BenchmarkReport as BenchmarkReport
from edgekit.bench.results import Case as Case
from edgekit.bench.results import CaseResult as CaseResult
from edgekit.bench.results import Launch as Launch
from edgekit.bench.results import Ratio as Ratio
from edgekit.bench.runner import benchmark as benchmark

__all__ = ["BenchmarkReport", "Case", "CaseResult", "Launch", "Ratio", "benchmark"]
