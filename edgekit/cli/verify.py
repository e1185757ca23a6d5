"""``edgekit verify``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.data_options import (
    DATA,
    color_option,
    crop_option,
    metric_option,
    normalize_option,
    resize_option,
    samples_option,
)
from edgekit.cli.golden import check_usage, run_golden
from edgekit.cli.output import print_json, progress_bar
from edgekit.cli.proof import print_layers, print_verification
from edgekit.cli.source_options import read_shapes, source_options


@click.command("verify")
@click.argument("float_model", required=False)
@click.argument("int8_model", required=False)
@click.option("--golden", metavar="MODEL", help="Instead of a pair: let MODEL check itself against its golden data.")
@click.option(
    "--delegate", metavar="KIND", help="With --golden: xnnpack, none, gpu or edgetpu.  [default: the profile's]"
)
@click.option("--engine", metavar="NAME", help="With --golden: litert, tflite-runtime or tensorflow.")
@click.option("--data", metavar=DATA, help="What to compare on, as for `edgekit convert`.")
@normalize_option(".  [default: as the int8 model's manifest says]")
@resize_option
@color_option()
@crop_option
@metric_option
@samples_option()
@click.option("--device", metavar="ID", help="A device profile, whose delegate runs both.  [default: this machine]")
@click.option("--per-layer", is_flag=True, help="Compare each tensor inside the network as well.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page with everything, layers included.",
)
@source_options
@click.option("--overwrite", is_flag=True, help="Replace the page when it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    float_model: str | None,
    int8_model: str | None,
    golden: str | None,
    delegate: str | None,
    engine: str | None,
    data: str | None,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
    metric: str,
    samples: int,
    device: str | None,
    per_layer: bool,
    page: Path | None,
    signature: str | None,
    shapes: tuple[str, ...],
    model: str | None,
    channels_last: bool | None,
    trust_source: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare a quantised model with its float original on data.

    FLOAT_MODEL is a .keras, .h5, .onnx, .pt2 or float .tflite file, a PyTorch state dict (with --model), or a SavedModel folder;
    INT8_MODEL a .tflite file, whoever made it.
    With --golden MODEL a model that edgekit converted runs the inputs in its file here and compares with what came out at
    conversion. Exit code 1 when a check fails.
    """
    check_usage(ctx)
    if golden is not None:
        run_golden(ctx, golden, delegate=delegate, device=device, engine=engine, as_json=as_json)
        return
    assert float_model is not None  # check_usage has looked
    assert int8_model is not None
    assert data is not None
    from edgekit.api import verify

    if page is not None:
        from edgekit.report.verify_html import check_page

        check_page(page, (float_model, int8_model), overwrite=overwrite)
    with progress_bar() as progress:
        report = verify(
            float_model,
            int8_model,
            data,
            normalize=normalize,
            resize=resize,
            color=color,
            crop=crop,
            metric=metric,
            samples=samples,
            device=device,
            per_layer=per_layer or page is not None,
            signature=signature,
            shapes=read_shapes(shapes),
            model=model,
            channels_last=channels_last,
            trust_source=trust_source,
            progress=progress,
        )
    if page is not None:
        from edgekit.report.verify_html import save_page

        save_page(page, report.to_json(), float_model, int8_model, data, overwrite=overwrite)
    if as_json:
        print_json(report.to_json())
    else:
        print_verification(report.to_json())
        if per_layer and report.layers is not None:
            print_layers(report.layers.to_json())
        if page is not None:
            click.echo(str(page))
    if not report.passed:
        ctx.exit(1)
