"""``edgekit convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from edgekit.cli.output import console, print_json, progress_bar
from edgekit.cli.proof import print_findings, print_verification
from edgekit.cli.source_options import read_shapes, source_options
from edgekit.report.units import size_text

if TYPE_CHECKING:
    from edgekit_convert import Conversion


@click.command("convert")
@click.argument("source")
@click.option("--calibration", required=True, metavar=DATA, help="Representative data; see below.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write the model.  [default: SOURCE's name with _int8.tflite or the recipe's name, in this folder]",
)
@click.option(
    "--recipe",
    type=click.Choice(["auto", "int8", "int16x8", "dynamic", "float16", "weights"]),
    default="auto",
    show_default=True,
    help="auto: int8 wherever there is a form of it. int8: the same, and fail when an operator has none. int16x8: int16 "
    "activations. dynamic: int8 weights, activations quantised at run time. float16, weights: only stored so.",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "default", "high"]),
    default="default",
    show_default=True,
    help="fast: true ranges and bias correction. default: equalisation and range search as well. high: weight rounding as "
    "well (minutes).",
)
@click.option(
    "--io",
    type=click.Choice(["int8", "uint8", "int16", "float32"]),
    help="What the file's inputs and outputs are.  [default: the recipe's own: int8, int16 for int16x8, else float32]",
)
@normalize_option(
    ", as in training; one pair, or all means, then all deviations. 'none' says that raw values are right."
)
@resize_option
@color_option("; images are given in RGB")
@crop_option
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one a line, in output order.")
@click.option(
    "--device",
    metavar="ID",
    help="The device that the model is for; see `edgekit devices list`. For one with an Edge TPU (coral-usb) the model is "
    "compiled where edgetpu_compiler is installed.  [default: this machine]",
)
@click.option("--verify", metavar=DATA, help="Further data that the proof runs on, with labels where there are some.")
@metric_option
@click.option(
    "--min-agreement",
    type=float,
    metavar="PERCENT",
    help="Gate: least share of samples with the float model's top class. What plain int8 misses, `auto` mends by leaving "
    "the cheapest set of operators in int16 or float.",
)
@click.option(
    "--max-drop", type=float, metavar="POINTS", help="Gate: largest loss of the metric on --verify data with labels."
)
@click.option("--min-sqnr", type=float, metavar="DB", help="Gate: least signal to noise of any output.")
@click.option(
    "--keep-failing", is_flag=True, help="Write a model that fails a gate all the same; the exit code stays 1."
)
@click.option(
    "--cost-table",
    type=click.Path(path_type=Path),
    help="Measured operator times (JSON): read where it exists, extended and written.",
)
@click.option(
    "--runtime-python",
    metavar="PYTHON",
    help="A Python whose runtime the target has, such as tflite-runtime: times are measured in it.",
)
@click.option(
    "--statistics",
    type=click.Path(path_type=Path),
    help="Activation statistics (.npz): read where it exists, else written after measuring.",
)
@samples_option(" of each data set")
@click.option(
    "--allow-custom", multiple=True, metavar="NAME", help="A custom operator that may stay in the model; repeatable."
)
@source_options
@click.option("--batch", type=int, metavar="N", help="A second signature, batch_N, for N samples in one run.")
@click.option("--overwrite", is_flag=True, help="Replace the output file when it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    calibration: str,
    output: Path | None,
    recipe: str,
    effort: str,
    io: str | None,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
    labels: Path | None,
    device: str | None,
    verify: str | None,
    metric: str,
    min_agreement: float | None,
    max_drop: float | None,
    min_sqnr: float | None,
    keep_failing: bool,
    cost_table: Path | None,
    runtime_python: str | None,
    statistics: Path | None,
    samples: int,
    allow_custom: tuple[str, ...],
    signature: str | None,
    shapes: tuple[str, ...],
    batch: int | None,
    model: str | None,
    channels_last: bool | None,
    trust_source: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn a trained model into a proven int8 .tflite file.

    SOURCE is a .keras, .h5, .onnx, .pt2 or float .tflite file, a PyTorch state dict (with --model), or a SavedModel folder.

    DATA is file.npy, file.npz:KEY, file.npz:x=KEY,y=KEY (y are labels), a folder of images (sub-folders are labels), or
    module:function.
    """
    from edgekit.api import convert

    target = (
        output if output is not None else Path(f"{Path(source).stem}_{'int8' if recipe == 'auto' else recipe}.tflite")
    )
    with progress_bar() as progress:
        result = convert(
            source,
            calibration,
            output=target,
            recipe=recipe,
            effort=effort,
            io=io,
            normalize=normalize,
            resize=resize,
            color=color,
            crop=crop,
            labels=read_labels(labels) if labels is not None else None,
            device=device,
            verify=verify,
            metric=metric,
            min_agreement=min_agreement,
            max_drop=max_drop,
            min_sqnr=min_sqnr,
            keep_failing=keep_failing,
            cost_table=cost_table,
            runtime_python=runtime_python,
            statistics=statistics,
            samples=samples,
            allow_custom=allow_custom,
            signature=signature,
            shapes=read_shapes(shapes),
            batch=batch,
            model=model,
            channels_last=channels_last,
            trust_source=trust_source,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json({"output": str(target), **result.to_json(), **_edgetpu_json(result, target)})
        ctx.exit(0 if _passed(result) else 1)
    print_findings([finding.to_json() for finding in result.findings])
    print_verification(result.report.to_json())
    before, after = len(result.float_model), len(result.model.content)
    console().print(
        f"{target}: {size_text(after)}, the float model is {size_text(before)} ({before / after:.1f} times as large)",
        soft_wrap=True,
    )
    _print_edgetpu(result, target)
    ctx.exit(0 if _passed(result) else 1)


def _passed(result: Conversion) -> bool:
    """Whether everything went well: the checks, and the compiler where one ran."""
    return result.report.passed and (result.edgetpu is None or result.edgetpu.failure is None)


def _print_edgetpu(result: Conversion, path: Path) -> None:
    """Say where the model for the Edge TPU is, or how to make it."""
    from edgekit_convert.edgetpu.compiler import compiled_path
    from edgekit_convert.edgetpu.step import how_to_compile

    wanted = result.edgetpu
    if wanted is None:
        return
    if wanted.compiled is not None:
        size = size_text(wanted.compiled.size_bytes)
        console().print(f"{compiled_path(path)}: {size}, compiled for the Edge TPU", soft_wrap=True, markup=False)
    elif wanted.failure is None:
        console().print(how_to_compile(path, wanted), soft_wrap=True, markup=False)


def _edgetpu_json(result: Conversion, path: Path) -> dict[str, Any]:
    """What the model's name adds to the JSON of a conversion for an Edge TPU: the compiled file, or the command that makes it."""
    from edgekit_convert.edgetpu.compiler import compiled_path

    wanted = result.edgetpu
    if wanted is None:
        return {}
    made = wanted.compiled is not None
    return {
        "edgetpu": {
            **wanted.to_json(),
            "output": str(compiled_path(path)) if made else None,
            "command": wanted.command(path),
        }
    }


def read_labels(path: Path) -> list[str]:
    """Class names from a text file, one a line.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    from edgekit.errors import DataError, from_os_error

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text file of labels: {error.reason} at byte {error.start}. UTF-8 was expected."
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path} has no labels: one class name a line was expected.")
    return names
