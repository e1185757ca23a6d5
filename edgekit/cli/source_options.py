"""How a trained model is opened: options that every command shares which takes one in any form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

_OPTIONS = (
    click.option("--signature", metavar="NAME", help="Of a SavedModel or .tflite with several."),
    click.option(
        "--shape", "shapes", multiple=True, metavar="[NAME=]N,N,...",
        help="An input's sizes, the batch first, where the model leaves some open.  [default: as the data]",
    ),
    click.option("--model", metavar="MODULE:FUNCTION", help="For a file of weights alone: what makes its model."),
    click.option(
        "--channels-last/--channels-first", default=None,
        help="How inputs come out that the original takes with the channels first.  [default: last for ONNX and PyTorch]",
    ),
    click.option("--trust-source", is_flag=True, help="Run code that the model file carries (Lambda layers, objects in a .pt2)."),
)  # fmt: skip


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--signature``, ``--shape``, ``--model``, ``--channels-last/--channels-first`` and ``--trust-source``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """Shapes by input name from ``name=1,224,224,3`` or ``1,224,224,3``, which has the name ``""``.

    Raises:
        OptionError: a text is not of that form, or two are for one input.
    """
    from edgekit.errors import OptionError

    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            raise OptionError(
                f"--shape {text}: [NAME=] and whole numbers with commas were expected, as in image=1,224,224,3."
            ) from None
        if name in found:
            raise OptionError(f"--shape was given twice for {name or 'the only input'}: once was expected.")
        found[name] = shape
    return found or None
