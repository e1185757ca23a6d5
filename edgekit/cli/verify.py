"""``edgekit verify``."""

from __future__ import annotations

import click

from edgekit.cli.output import print_json, progress_bar
from edgekit.cli.proof import print_verification


@click.command("verify")
@click.argument("float_model")
@click.argument("int8_model")
@click.option("--data", required=True, metavar="DATA", help="What to compare on, as for `edgekit convert`.")
@click.option("--normalize", metavar="MEAN,STD", help="(x - MEAN) / STD.  [default: as the int8 model's manifest says]")
@click.option("--resize", metavar="WxH", help="Resize images to this size.")
@click.option("--color", type=click.Choice(["rgb", "bgr"]), help="The colour order of training.")
@click.option(
    "--metric",
    default="accuracy",
    show_default=True,
    metavar="accuracy|MODULE:FUNCTION",
    help="The task's figure where there are labels; a function takes (outputs, labels).",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Use at most this many samples, spread evenly.",
)
@click.option("--device", metavar="ID", help="A device profile, whose delegate runs both.  [default: this machine]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    float_model: str,
    int8_model: str,
    data: str,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    metric: str,
    samples: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Compare a quantised model with its float original on data.

    FLOAT_MODEL is a .keras, .h5 or float .tflite file, or a SavedModel folder; INT8_MODEL a .tflite file, whoever made it.
    Exit code 1 when a check fails.
    """
    from edgekit.api import verify

    with progress_bar() as progress:
        report = verify(
            float_model,
            int8_model,
            data,
            normalize=normalize,
            resize=resize,
            color=color,
            metric=metric,
            samples=samples,
            device=device,
            progress=progress,
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_verification(report.to_json())
    if not report.passed:
        ctx.exit(1)
