"""The true lowest and highest value of chosen tensors, infinities and all; zero is not added."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet

#: Lowest and highest value by tensor name; NaN where a value was NaN.
Extremes = dict[str, tuple[float, float]]


def interpreter(content: bytes) -> Any:
    """An interpreter of LiteRT's own kernels that keeps every tensor.

    Raises:
        ConversionError: it refused the model.
    """
    from ai_edge_litert import interpreter as litert

    try:
        # A delegate would keep its intermediate values to itself.
        made = litert.Interpreter(
            model_content=content,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
            num_threads=1,
        )
        made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _refused(error) from error
    return made


def invoke(made: Any, inputs: dict[int, Array]) -> None:
    """Run it once.

    Args:
        made: what ``interpreter`` gave.
        inputs: by tensor index.

    Raises:
        ConversionError: it refused.
    """
    try:
        for index, value in inputs.items():
            made.set_tensor(index, value)
        made.invoke()
    except (ValueError, RuntimeError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> ConversionError:
    return ConversionError(
        f"the interpreter cannot run the float model: {' '.join(str(error).split())}. "
        "Custom and Flex operators have no kernel in the runtime that pip installs."
    )


def extremes(
    content: bytes,
    data: CalibrationSet,
    names: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Extremes:
    """Run a float model on every sample and keep the extremes of some tensors.

    Args:
        content: the model, all sizes fixed.
        data: representative data.
        names: the tensors; ``None`` for all float activations.
        progress: called with the number of samples done.

    Raises:
        ConversionError: the interpreter refused the model.
    """
    model = ModelFile.read(content)
    main = model.graph.main
    made = interpreter(content)
    places = dict(zip((spec.name for spec in model.inputs), main.inputs, strict=True))
    alive = {*main.inputs, *(index for op in main.ops for index in op.outputs)}
    watched = [
        main.tensors[index]
        for index in sorted(alive)
        if main.tensors[index].dtype == "float32" and (names is None or main.tensors[index].name in names)
    ]
    found: Extremes = {}
    for number, ready in enumerate(data, 1):
        invoke(made, {places[name]: value for name, value in ready.inputs.items()})
        for tensor in watched:
            value = made.get_tensor(tensor.index)
            if value.size:
                low, high = found.get(tensor.name, (np.inf, -np.inf))
                found[tensor.name] = (float(np.minimum(low, value.min())), float(np.maximum(high, value.max())))
        progress(number)
    return found
