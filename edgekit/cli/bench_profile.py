"""``edgekit bench profile``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.output import print_json, print_table, progress_bar


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.option("--threads", type=int, help="CPU threads; the profile's number by default.")
@click.option("--delegate", metavar="KIND", help="xnnpack, none or edgetpu; the profile's pick by default.")
@click.option("--device", metavar="ID", help="Device profile; detected by default.")
@click.option("--engine", metavar="NAME", help="litert, tflite-runtime or tensorflow; the first installed by default.")
@click.option("--op-ms", default=20.0, show_default=True, metavar="MS", help="About so long each operator is run.")
@click.option("--roofline/--no-roofline", default=True, help="Measure the machine's ceiling, too.  [default: yes]")
@click.option("--all", "every", is_flag=True, help="Show each operator, not only kinds of them.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, raw samples included.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the profile as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it exists.")
def command(
    model: Path,
    threads: int | None,
    delegate: str | None,
    device: str | None,
    engine: str | None,
    op_ms: float,
    roofline: bool,
    every: bool,
    as_json: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Show what each operator of MODEL takes.

    Each operator is run as a model of its own, on the values that it has in MODEL, and each of the delegate's partitions as one. Beside
    the times stand multiply-accumulates, the bytes that are read and written, and what that reaches of the machine's measured ceiling.
    """
    from edgekit.bench.op_times import GROUP_FIELDS, OP_FIELDS
    from edgekit.bench.profile import profile
    from edgekit.files import check_writable, write_whole
    from edgekit.report.fields import table
    from edgekit.report.units import milliseconds

    if output is not None:
        check_writable(output, overwrite=overwrite)
    with progress_bar() as progress:
        found = profile(
            model, delegate=delegate, device=device, threads=threads, engine=engine, op_ms=op_ms, roofline=roofline,
            progress=progress,
        )  # fmt: skip
    if output is not None:
        import json

        text = json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        write_whole(output, f"{text}\n".encode(), overwrite=overwrite)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(
        f"{found.model}: {milliseconds(found.whole_ns)} a run on {found.delegate}, {found.threads} "
        f"thread{'s' if found.threads > 1 else ''}, {found.engine}; its operators alone take {100 * found.explained:.0f} % of that"
    )
    print_table("by operator", *table(GROUP_FIELDS, found.by_name()))
    print_table("by partition", *table(GROUP_FIELDS, found.by_partition()))
    if every:
        print_table("each", *table(OP_FIELDS, found.ops))
    if found.roofline is not None:
        peaks = ", ".join(f"{value:.3g} GMAC/s in {dtype}" for dtype, value in found.roofline.peak_gmacs.items())
        fast, slow = max(found.roofline.bandwidth_gbs.values()), min(found.roofline.bandwidth_gbs.values())
        click.echo(f"the machine's ceiling, measured: {peaks}; {slow:.3g} to {fast:.3g} GB/s, by size")
