"""Benchmarks on another machine, by the system's own ``ssh``: send what is needed, run there, follow, fetch, clean up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.bench.remote.client import Remote as Remote
    from edgekit.bench.remote.client import benchmark_on as benchmark_on
    from edgekit.bench.remote.client import clean as clean
    from edgekit.bench.remote.errors import RemoteError as RemoteError

# The process on the device imports this package for its job alone.
_LAZY: dict[str, str] = {
    "Remote": "edgekit.bench.remote.client",
    "RemoteError": "edgekit.bench.remote.errors",
    "benchmark_on": "edgekit.bench.remote.client",
    "clean": "edgekit.bench.remote.client",
}

__all__ = ["Remote", "RemoteError", "benchmark_on", "clean"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'edgekit.bench.remote' has no attribute {name!r}")
