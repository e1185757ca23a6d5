"""How what a delegate leaves outside is found out and printed, when inspecting and when planning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.cli.output import console, print_table
from edgekit.errors import ConversionError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.report.fields import table
from edgekit.runtime.delegates import DelegateSpec

if TYPE_CHECKING:
    from edgekit_convert.delegate.report import DelegateReport


@dataclass(frozen=True)
class Seen:
    """What was found out.

    Attributes:
        report: the report, or ``None``.
        problem: why the runtime does not load the model, or ``None``.
        missing: which part of edgekit is not installed that reasons need, or ``None``.
    """

    report: DelegateReport | None = None
    problem: str | None = None
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The report's own, or ``None`` with what is in its way."""
        return {
            "report": self.report.to_json() if self.report is not None else None,
            "problem": self.problem,
            "missing": self.missing,
        }


def look(
    model: ModelFile,
    spec: DelegateSpec,
    *,
    measure: bool = False,
    python: str | None = None,
    target: str | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Seen:
    """Find out why a delegate leaves operators outside, as far as what is installed here allows.

    Args:
        model: the model.
        spec: the delegate and threads.
        measure: whether to measure times.
        python: another Python whose runtime is asked.
        target: the device that it is for, where that is not this machine.
        progress: called as ``progress(step, done, total)``.

    Raises:
        EngineError: the other Python has no runtime.
        DelegateError: the delegate cannot be loaded.
        OptionError: times of another Python's runtime, or a delegate that it cannot be asked about.
    """
    from edgekit_convert.delegate.learned import Capabilities
    from edgekit_convert.delegate.report import delegate_report

    learned = Capabilities(spec.kind, python=python) if python is not None else None
    try:
        report = delegate_report(model, spec, measure=measure, learned=learned, target=target, progress=progress)
    except ConversionError as error:
        return Seen(missing=str(error))
    except EngineError as error:
        return Seen(problem=str(error))
    return Seen(report)


def print_outside(seen: Seen) -> None:
    """Print what is left outside, a row for the operators of one name and reason, and what is to be known of it."""
    from rich.text import Text

    out = console()
    if seen.missing is not None:
        out.print(Text(f"Why operators are outside is not known: {seen.missing}", style="dim"), soft_wrap=True)
    report = seen.report
    if report is None:
        return
    if report.outside:
        from edgekit_convert.delegate.report import GROUP_FIELDS

        where = next((f" ({item.reason.where})" for item in report.outside if item.reason is not None), "")
        titles, rows = table(GROUP_FIELDS, report.groups())
        print_table(f"Left outside by {report.partitions.delegate}{where}", titles, rows)
    for note in report.notes:
        out.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
