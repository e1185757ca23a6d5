"""``edgekit lint``."""

from __future__ import annotations

import click

from edgekit.cli.data_options import DATA, color_option, crop_option, normalize_option, resize_option, samples_option
from edgekit.cli.output import console, print_json, progress_bar
from edgekit.cli.source_options import read_shapes, source_options


@click.command("lint")
@click.argument("source")
@click.option(
    "--calibration",
    metavar=DATA,
    help="Representative data, as for `edgekit convert`; without it only the structure is looked at.",
)
@normalize_option(", as in training.")
@resize_option
@color_option()
@crop_option
@samples_option()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    calibration: str | None,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
    samples: int,
    signature: str | None,
    shapes: tuple[str, ...],
    model: str | None,
    channels_last: bool | None,
    trust_source: bool,
    as_json: bool,
) -> None:
    """Say what in a float model will hurt in int8, and the fix.

    SOURCE is a .keras, .h5, .onnx, .pt2 or float .tflite file, a PyTorch state dict (with --model), or a SavedModel folder.

    What a conversion mends by itself is a note. Exit code 1 when warnings are left.
    """
    from rich.text import Text

    from edgekit_convert.frontends import Opening
    from edgekit_convert.frontends.shapes import fixed_shapes
    from edgekit_convert.lint.source import lint_source

    with progress_bar() as progress:
        report = lint_source(
            source,
            calibration,
            normalize=normalize,
            resize=resize,
            color=color,
            crop=crop,
            samples=samples,
            opening=Opening(
                signature,
                fixed_shapes(read_shapes(shapes)),
                trust_source=trust_source,
                model=model,
                channels_last=channels_last,
            ),
            progress=progress,
        )
    if as_json:
        print_json(report.to_json())
    else:
        out = console()
        for finding in report.findings:
            warning = finding.level == "warning"
            text = Text(f"{finding.level}: ", style="bold yellow" if warning else "dim")
            text.append(f"{finding.text} [{finding.code}]\n")
            text.append(f"    {finding.fix}", style="dim")
            out.print(text, soft_wrap=True)
        warnings = sum(1 for finding in report.findings if finding.level == "warning")
        notes = len(report.findings) - warnings
        seen = f"ranges from {report.samples} samples" if report.unmeasured is None else report.unmeasured
        out.print(Text(f"{source}: {_count(warnings, 'warning')}, {_count(notes, 'note')}; {seen}."), soft_wrap=True)
    if not report.passed:
        ctx.exit(1)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
