"""The ``--golden`` form of ``edgekit verify``: a model checks itself."""

from __future__ import annotations

import click
from click.core import ParameterSource

from edgekit.cli.output import print_json, print_pairs, print_table
from edgekit.golden import GoldenReport

#: What the form takes beside ``--golden`` itself; ``device`` and ``as_json`` belong to both forms.
_OWN = ("delegate", "engine")
_BOTH = ("device", "as_json")


def check_usage(ctx: click.Context) -> None:
    """Refuse a mixture of the two forms of the command, and a pair that is not complete.

    Raises:
        click.UsageError: naming what is too much or missing.
    """
    given = {name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    shown = {item.name: item.human_readable_name if item.param_type_name == "argument" else item.opts[0]
             for item in ctx.command.params}  # fmt: skip
    if "golden" in given:
        extra = [text for name, text in shown.items() if name in given - {"golden", *_OWN, *_BOTH}]
        if extra:
            raise click.UsageError(
                f"--golden lets one model check itself, and takes no {', '.join(extra)}: drop one or the other.", ctx
            )
        return
    extra = [f"--{name}" for name in _OWN if name in given]
    if extra:
        raise click.UsageError(f"{', '.join(extra)}: only with --golden; a pair runs on the delegate of --device.", ctx)
    missing = [shown[name] for name in ("float_model", "int8_model", "data") if name not in given]
    if missing:
        raise click.UsageError(
            f"Missing {', '.join(missing)}: give FLOAT_MODEL INT8_MODEL --data DATA, or --golden MODEL.", ctx
        )


def run_golden(
    ctx: click.Context, file: str, *, delegate: str | None, device: str | None, engine: str | None, as_json: bool
) -> None:
    """Check ``file`` against its golden data, print the report, and exit with 1 when it fails."""
    from edgekit.api import verify_golden

    report = verify_golden(file, delegate=delegate, device=device, engine=engine)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if not report.passed:
        ctx.exit(1)


def _print(report: GoldenReport) -> None:
    print_pairs(
        report.model,
        [
            ("golden samples", str(report.count)),
            ("run with", f"{report.engine}, kernels: {report.kernel_set}"),
            ("recorded with", f"{report.recorded_engine}, kernels: {report.against}"),
            ("tolerance", f"in {'steps' if report.strict else 'dB'}: {report.reason}"),
        ],
    )
    rows = [
        (
            output.name,
            f"{output.steps:g} step{'' if output.steps == 1 else 's'}",
            "no error" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB",
            f"{100 * output.equal:.2f} %" + (f", {output.not_finite} NaN or infinite" if output.not_finite else ""),
            output.tolerance,
            "pass" if output.passed else "FAIL",
        )
        for output in report.outputs
    ]
    columns = ("output", "largest difference", "SQNR", "equal", "allowed", "")
    print_table("Golden outputs against what came out here", columns, rows)
