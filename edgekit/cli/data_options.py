"""Options for data, and for what is measured on them, that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

#: How a command is told an option.
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

#: What stands in the help for data.
DATA = "DATA"


def normalize_option(text: str) -> Decorator:
    """``--normalize``.

    Args:
        text: what follows the formula in the help.
    """
    return click.option("--normalize", metavar="MEAN,STD", help=f"(x - MEAN) / STD{text}")


def color_option(text: str = "") -> Decorator:
    """``--color``.

    Args:
        text: what the help says besides.
    """
    return click.option("--color", type=click.Choice(["rgb", "bgr"]), help=f"The colour order of training{text}.")


def samples_option(of: str = "") -> Decorator:
    """``--samples``.

    Args:
        of: what the samples are of, where there is more than one data set.
    """
    return click.option(
        "--samples",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        help=f"Use at most this many samples{of}, spread evenly.",
    )


resize_option: Decorator = click.option(
    "--resize", metavar="WxH|SIDE", help="Resize images to this size, or their shorter side to one number."
)

crop_option: Decorator = click.option(
    "--crop", metavar="WxH", help="Cut the centre out of images, after the resize: --resize 256 --crop 224x224."
)

metric_option: Decorator = click.option(
    "--metric",
    default="accuracy",
    show_default=True,
    metavar="accuracy|MODULE:FUNCTION",
    help="The task's figure where there are labels; a function takes (outputs, labels).",
)
