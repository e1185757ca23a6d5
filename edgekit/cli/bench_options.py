"""How the options of ``edgekit bench`` are read that hold more than one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_Read = Callable[[click.Context, click.Parameter, str | None], Any]


def list_of(kind: Callable[[str], Any]) -> _Read:
    """Reads ``1,2,4``; an option that is not given is one default.

    Args:
        kind: reads one value.
    """

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Any, ...]:
        if value is None:
            return (None,)
        try:
            return tuple(kind(part.strip()) for part in value.split(","))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: whole numbers with commas between them were expected.") from error

    return read


def share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Reads ``3%`` or ``0.03``."""
    if value is None:
        return None
    text = value.strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: a share such as 3% or 0.03 was expected.") from error
