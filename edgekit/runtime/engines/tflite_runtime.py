"""The engine ``tflite-runtime``: the frozen package of that name (2.14.0, numpy 1)."""

from __future__ import annotations

from edgekit.runtime.engines.interpreter import Loaded

NAME = "tflite-runtime"


def load() -> Loaded:
    """Import the package.

    Raises:
        ImportError: it is not installed, or was built for another numpy.
    """
    import numpy as np

    if int(np.__version__.split(".")[0]) >= 2:
        raise ImportError(
            f"tflite-runtime needs numpy 1, and numpy {np.__version__} is installed "
            "(`pip install 'edgekit[tflite-runtime]'` in an environment of its own)"
        )
    import tflite_runtime
    from tflite_runtime import interpreter

    return Loaded(NAME, f"tflite-runtime {tflite_runtime.__version__}", interpreter)
