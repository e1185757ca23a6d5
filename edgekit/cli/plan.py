"""``edgekit plan``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click

from edgekit.cli.delegated import Seen, look, print_outside
from edgekit.cli.output import print_json, print_pairs, print_table
from edgekit.errors import DelegateError, EngineError
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit_profiles import choose_for, find_target


@dataclass(frozen=True)
class _Loaded:
    """What the picked delegate took of the model, or why that is not known.

    Attributes:
        engine: the interpreter, or ``None`` when the model was not loaded.
        partitions: what the delegate took.
        mac_share: its share of the multiply-accumulates; ``None`` when the model has none.
        problem: why the model was not loaded.
        failed: whether the target is this machine and cannot run the model so.
        seen: why operators are outside; of another machine, what is predicted for it from the runtime here.
    """

    engine: str | None = None
    partitions: PartitionReport | None = None
    mac_share: float | None = None
    problem: str | None = None
    failed: bool = False
    seen: Seen = field(default_factory=Seen)


@click.command("plan")
@click.argument("model")
@click.option("--device", metavar="ID", help="The device it is for: a profile's id or file. Default: this machine.")
@click.option("--threads", type=int, metavar="N", help="CPU threads. Default: what the profile says.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(ctx: click.Context, model: str, device: str | None, threads: int | None, as_json: bool) -> None:
    """Say which delegate would run a model here, and why not the others."""
    file = ModelFile.read(model)
    target = find_target(device)
    choice = choose_for(target, file, threads)
    loaded = _load(file, choice.spec) if target.here else _predict(file, choice.spec, target.name)
    if as_json:
        print_json(
            {
                "model": file.name,
                "model_sha256": file.sha256,
                "device": {
                    "id": choice.profile_id,
                    "name": target.profile.name if target.profile is not None else None,
                    "is_this_machine": target.here,
                    "reason": target.reason,
                },
                "pick": {"delegate": choice.spec.kind, "threads": choice.spec.threads, "reason": choice.reason},
                "rejected": [{"delegate": item.kind, "reason": item.reason} for item in choice.rejected],
                **_json(loaded),
            }
        )
    else:
        where = "this machine" if target.here else "another machine than this one"
        print_pairs(
            f"Plan for {file.name}",
            [
                ("device", f"{choice.profile_id or 'no profile'}, {where}: {target.reason}"),
                ("delegate", f"{choice.spec.kind}, {_threads(choice.spec)}"),
                ("why", choice.reason),
                *_pairs(loaded),
            ],
        )
        print_outside(loaded.seen)
        print_table("Not used", ("delegate", "why not"), [(item.kind, item.reason) for item in choice.rejected])
    if loaded.failed:
        ctx.exit(1)


def _load(model: ModelFile, spec: DelegateSpec) -> _Loaded:
    try:
        opened = open_engine(model, spec)
        report, engine = opened.partitions(), opened.version
        opened.close()
    except (EngineError, DelegateError) as error:
        return _Loaded(problem=str(error), failed=True)
    seen = inspect(model, partitions=False)
    outside = set(report.outside)
    taken = sum(op.macs for op in seen.ops if op.index not in outside)
    return _Loaded(engine, report, taken / seen.macs if seen.macs else None, seen=look(model, spec))


def _predict(model: ModelFile, spec: DelegateSpec, device: str) -> _Loaded:
    """What the runtime here takes, as a prediction for a device that is not here; of XNNPACK only."""
    seen = look(model, spec, target=device) if spec.kind == "xnnpack" else Seen()
    return _Loaded(problem=f"this machine is not {device}", seen=seen)


def _threads(spec: DelegateSpec) -> str:
    return "1 thread" if spec.threads == 1 else f"{spec.threads} threads"


def _pairs(loaded: _Loaded) -> list[tuple[str, str]]:
    if loaded.partitions is None:
        pairs = [("would take", f"{'not loaded' if loaded.failed else 'not tried'}: {loaded.problem}")]
        if loaded.seen.report is not None:
            pairs.append(("predicted", f"{loaded.seen.report.partitions}, as {loaded.seen.report.runtime} does here"))
        return pairs
    pairs = [("would take", str(loaded.partitions))]
    if loaded.mac_share is not None:
        pairs.append(("of the work", f"{100 * loaded.mac_share:.1f} % of the multiply-accumulates"))
    return [*pairs, ("tried with", str(loaded.engine))]


def _json(loaded: _Loaded) -> dict[str, Any]:
    return {
        "engine": loaded.engine,
        "partitions": loaded.partitions.to_json() if loaded.partitions is not None else None,
        "mac_share": loaded.mac_share,
        "problem": loaded.problem,
        "delegate": loaded.seen.to_json(),
    }
