"""What is not edgekit's own: the errors of frameworks, and functions of the caller's that make models."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from edgekit.errors import DataError, OptionError
from edgekit_convert.calibration.data import load_function


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line without a full stop.

    Args:
        error: any exception.
    """
    # A KeyError's text is its key in quotes, however long the sentence that somebody made of it.
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    return text[:400].rstrip(".")


def model_of(
    factory: Callable[[], Any] | str,
    is_model: Callable[[Any], bool],
    what: str,
    origin: str | os.PathLike[str],
    told: Callable[[BaseException], str] = first_line,
) -> tuple[Any, str]:
    """The model whose weights a file holds, from the function that was named with ``--model``.

    Args:
        factory: the function, ``module:function``, or the model itself.
        is_model: whether something is a model of the framework's.
        what: such a model, with its article.
        origin: what to call the weights in messages.
        told: what an error of the function's says.

    Returns:
        The model, and what to call the function.

    Raises:
        OptionError: there is no such function, or it makes no model.
    """
    name = factory if isinstance(factory, str) else getattr(factory, "__name__", "the function")
    if isinstance(factory, str):
        if not re.fullmatch(r"[\w.]+:\w+", factory):
            raise OptionError(f"--model {factory}: MODULE:FUNCTION was expected, such as resnet:resnet20.")
        try:
            factory = load_function(factory)
        except DataError as error:
            raise OptionError(f"--model {name}: {error}") from error
    if is_model(factory):
        return factory, name
    try:
        model = factory()
    except Exception as error:  # the caller's code may raise anything
        raise OptionError(
            f"--model {name} raised {type(error).__name__}: {told(error)}. It is called without arguments, and must return {what}, "
            f"the one whose weights {origin} holds."
        ) from error
    if not is_model(model):
        raise OptionError(f"--model {name} returned a {type(model).__name__}: {what} was expected.")
    return model, name
