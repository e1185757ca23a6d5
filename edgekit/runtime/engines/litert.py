"""The engine ``litert``: the Interpreter of ai-edge-litert."""

from __future__ import annotations

from edgekit.runtime.engines.interpreter import Loaded

NAME = "litert"


def load() -> Loaded:
    """Import the package.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    import ai_edge_litert
    from ai_edge_litert import interpreter

    return Loaded(NAME, f"ai-edge-litert {ai_edge_litert.__version__}", interpreter)
