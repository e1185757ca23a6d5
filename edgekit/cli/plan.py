"""``edgekit plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.delegated import Seen, look, print_outside
from edgekit.cli.output import print_json, print_pairs, print_table, progress_bar
from edgekit.modelfile import ModelFile
from edgekit.report.units import milliseconds
from edgekit.runtime.delegates import DelegateSpec

if TYPE_CHECKING:
    from edgekit_profiles.plan import Considered, Plan


@click.command("plan")
@click.argument("model")
@click.option("--device", metavar="ID", help="The device it is for: a profile's id or file. Default: this machine.")
@click.option("--threads", type=int, metavar="N", help="CPU threads. Default: what the profile says.")
@click.option(
    "--measure",
    is_flag=True,
    help="Try the accelerators and time what works, in processes of their own. Later loads follow the times.",
)
@click.option("--require", metavar="KIND", help="Exit with 1 unless this delegate can take the whole model.")
@click.option(
    "--cost-table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Predict times that were not measured from this file, which `edgekit convert` wrote.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    device: str | None,
    threads: int | None,
    measure: bool,
    require: str | None,
    cost_table: Path | None,
    as_json: bool,
) -> None:
    """Say which delegate would run a model here, and why not the others."""
    from edgekit import api

    file = ModelFile.read(model)
    with progress_bar(enabled=measure or require is not None) as progress:
        plan = api.plan(
            file,
            device=device,
            threads=threads,
            measure=measure,
            require=require,
            cost_table=cost_table,
            progress=progress,
        )
    seen = _outside(file, plan)
    if as_json:
        print_json({**plan.to_json(), "delegate": seen.to_json()})
    else:
        print_pairs(f"Plan for {file.name}", _pairs(plan, seen))
        print_outside(seen)
        print_table(
            "Delegates",
            ("delegate", "usable", "operators", "multiply-accumulates", "predicted", "measured"),
            [_row(item) for item in plan.delegates],
        )
        print_table(
            "Not used",
            ("delegate", "why not"),
            [(item.kind, item.reason) for item in plan.delegates if not item.picked],
        )
    if plan.unmet is not None:
        click.echo(f"edgekit: {plan.unmet}", err=True)
    if plan.failed:
        ctx.exit(1)


def _outside(model: ModelFile, plan: Plan) -> Seen:
    """Why operators are outside: of the pick here; of another machine what XNNPACK does, which the runtime here predicts."""
    spec = plan.choice.spec
    if plan.target.here:
        return Seen() if plan.pick.partitions is None or not _asked_again(spec) else look(model, spec)
    return look(model, spec, target=plan.target.name) if spec.kind == "xnnpack" else Seen()


def _asked_again(spec: DelegateSpec) -> bool:
    """Whether loading the model once more in this process is harmless; drivers are left to processes of their own."""
    return spec.kind in ("xnnpack", "none")


def _pairs(plan: Plan, seen: Seen) -> list[tuple[str, str]]:
    spec, pick, where = plan.choice.spec, plan.pick, "this machine"
    if not plan.target.here:
        where = "another machine than this one"
    threads = "1 thread" if spec.threads == 1 else f"{spec.threads} threads"
    pairs = [
        ("device", f"{plan.choice.profile_id or 'no profile'}, {where}: {plan.target.reason}"),
        *(("attached", f"{item.id} ({item.name})") for item in plan.target.attached),
        ("delegate", f"{spec.kind}, {threads}"),
        ("why", plan.choice.reason),
    ]
    if plan.unmet is not None:
        pairs.append(("required", plan.unmet))
    if pick.partitions is not None:
        pairs.append(("would take", str(pick.partitions)))
    elif plan.problem is not None:
        pairs.append(("would take", f"{'not loaded' if plan.target.here else 'not tried'}: {plan.problem}"))
    if seen.report is not None and not plan.target.here:
        pairs.append(("predicted", f"{seen.report.partitions}, as {seen.report.runtime} does here"))
    if pick.partitions is not None and pick.share is not None and pick.share.macs is not None:
        pairs.append(("of the work", f"{100 * pick.share.macs:.1f} % of the multiply-accumulates"))
    if pick.engine is not None:
        pairs.append(("tried with", pick.engine))
    pairs += [(f"note on {item.kind}", note) for item in plan.delegates for note in item.notes]
    if not plan.measured and plan.target.here and plan.problem is None:
        pairs.append(("measured", "nothing: `--measure` tries the accelerators and times what works"))
    return pairs


def _row(item: Considered) -> tuple[str, ...]:
    share, timed = item.share, item.timed
    usable = "no" if not item.available else "yes" if item.tried else "not tried"
    measured = "not measured"
    if timed is not None:
        low, high = min(timed.medians_ns), max(timed.medians_ns)
        measured = (
            f"{milliseconds(timed.ns)} ({milliseconds(low)} to {milliseconds(high)}, {len(timed.medians_ns)} launches)"
        )
    return (
        f"{item.kind} (picked)" if item.picked else item.kind,
        usable,
        "unknown" if share is None or share.operators is None else f"{100 * share.operators:.0f} %",
        "unknown" if share is None or share.macs is None else f"{100 * share.macs:.1f} %",
        "unknown" if item.expected is None else milliseconds(item.expected.ns),
        measured,
    )
