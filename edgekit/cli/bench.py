"""``edgekit bench``: measures models, and leaves ``compare``, ``history``, ``profile`` and ``report`` to their own files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from edgekit.cli.bench_files import Files, check_files, file_options, write_files
from edgekit.cli.bench_options import list_of, share
from edgekit.cli.bench_remote import measure, remote_options
from edgekit.cli.bench_table import print_report
from edgekit.cli.data_options import DATA, color_option, crop_option, normalize_option, resize_option
from edgekit.cli.output import print_json

#: Further commands by their first word → the module that holds ``command``.
_OTHERS: dict[str, str] = {
    "compare": "bench_compare", "history": "bench_history", "profile": "bench_profile", "report": "bench_report",
    "clean": "bench_remote",
}  # fmt: skip


_EPILOG = """
\b
edgekit bench compare A.json B.json ...   compares files that -o wrote
edgekit bench history FOLDER NEW.json     keeps them, and shows how each case went
edgekit bench profile MODEL               measures each operator
edgekit bench report FILE.json ...        makes a page, CSV or Markdown of them
edgekit bench clean ssh://HOST            ends what --on began there, and removes it
"""


class _Command(click.Command):
    """Measures models, unless the first word names another command; a model file of such a name is ``./compare``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Leave the command line to another command where it names one."""
        if args and args[0] in _OTHERS:
            other: click.Command = importlib.import_module(f"edgekit.cli.{_OTHERS[args[0]]}").command
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("bench", cls=_Command, epilog=_EPILOG)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--runs", type=int, help="Steady runs of each launch.  [default: about a second of them]")
@click.option("--warmup", type=int, help="Runs between the first one and the steady ones.  [default: until steady]")
@click.option("--launches", type=int, help="Processes for each case.  [default: at least 5, as many as --target takes]")
@click.option(
    "--target", default="3%", show_default=True, callback=share, metavar="SHARE",
    help="End when the median's 95 % interval is so narrow.",
)  # fmt: skip
@click.option(
    "--budget",
    type=float,
    metavar="SECONDS",
    help="Begin no more launches after this.  [default: 60 for each case, server 180]",
)
@click.option("--threads", callback=list_of(int), metavar="N[,N...]", help="CPU threads; the profile's by default.")
@click.option(
    "--delegate", callback=list_of(str), metavar="KIND[,...]",
    help="xnnpack, none, gpu or edgetpu; the profile's pick by default.",
)  # fmt: skip
@click.option("--batch", callback=list_of(int), metavar="N[,N...]", help="Samples in one run; the model's by default.")
@click.option("--device", metavar="ID", help="Device profile; detected by default.")
@click.option("--engine", metavar="NAME", help="litert, tflite-runtime or tensorflow; the first installed by default.")
@click.option(
    "--scenario", type=click.Choice(["single-stream", "server", "offline"]), default="single-stream", show_default=True,
    help="One after another; at random times within a bound; as many as possible.",
)  # fmt: skip
@click.option(
    "--workers", type=int, help="server, offline: sessions beside each other; one for each processor by default."
)
@click.option("--latency-bound", type=float, metavar="MS", help="server: what a query may take from its arrival.")
@click.option("--percentile", type=int, default=99, show_default=True, help="server: how many of 100 must keep it.")
@click.option(
    "--rate", type=float, metavar="PER_SECOND", help="server: try this rate instead of searching the highest."
)
@click.option("--least", type=float, metavar="SECONDS", help="server, offline: the least time of a measurement.")
@click.option("--data", metavar=DATA, help="Real inputs, as for `edgekit verify`.  [default: random ones]")
@normalize_option(".  [default: as the model's manifest says]")
@resize_option
@color_option()
@crop_option
@click.option(
    "--meter-csv", type=click.Path(path_type=Path), metavar="FILE", help="What an external power meter writes."
)
@click.option("--require-valid", is_flag=True, help="Exit code 1 unless the verdict is VALID.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole benchmark as JSON, raw samples included.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the benchmark as JSON.")
@remote_options
@file_options
@click.option(
    "--profile", is_flag=True, help="For --html: measure each operator, too, as `edgekit bench profile` does."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    models: tuple[Path, ...],
    target: float,
    budget: float | None,
    threads: tuple[int | None, ...],
    delegate: tuple[str | None, ...],
    batch: tuple[int | None, ...],
    latency_bound: float | None,
    rate: float | None,
    least: float | None,
    data: str | None,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
    require_valid: bool,
    as_json: bool,
    output: Path | None,
    files: Files,
    profile: bool,
    **options: Any,
) -> None:
    """Measure load, first run, warm-up and steady latency of models.

    Each MODEL is measured in processes of its own, interleaved with the others, on every combination of the delegates,
    threads and batches that are given. With several cases each one's median is compared with the first one's. A case that
    fails is a row of the table, and the exit code is 1. Ctrl-C ends it and shows what was measured so far.
    """
    from edgekit.files import check_writable

    if output is not None:
        check_writable(output, overwrite=files.overwrite)
    verified = check_files(ctx, files, models, output, as_json=as_json, profile=profile)
    if data is not None:
        from edgekit.cli.bench_data import read_data

        samples, preprocessing = read_data(
            data, models, batch, normalize=normalize, resize=resize, color=color, crop=crop
        )  # fmt: skip
        options.update(data=samples, data_name=data, preprocessing=preprocessing)
    report = measure(
        ctx, models, delegates=delegate, threads=threads, batches=batch, target=target, budget_s=budget,
        latency_bound_ms=latency_bound, rate_per_s=rate, least_s=least, **options,
    )  # fmt: skip
    if report.interrupted:
        click.echo("interrupted: this is what was measured until then.", err=True)
    if output is not None:
        report.save(output, overwrite=files.overwrite)
    if as_json:
        print_json(report.to_json())
    elif not files.to_stdout:
        print_report(report, here=ctx.params.get("on") is None)
    write_files(files, report, models, verified, profile=profile)
    if not report.passed or (require_valid and not report.verdict.valid):
        ctx.exit(1)
