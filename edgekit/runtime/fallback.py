"""Loading a model on the first delegate that takes it, with a record of each that did not: never a silent fallback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateChoice
from edgekit.runtime.engines import open_engine

if TYPE_CHECKING:
    from edgekit.runtime.engines import Engine
    from edgekit.runtime.signatures import Entry

#: Delegates that are part of every interpreter: when they refuse a model, it is the model's fault and no device's.
BUILT_IN: tuple[str, ...] = ("xnnpack", "none")


class Fallback(Record):
    """A delegate that a model could not be loaded on, so that another one runs it.

    Attributes:
        delegate: which.
        reason: why, with what the native code said.
    """

    delegate: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return self._asdict()


def open_first(
    model: ModelFile, choices: Sequence[DelegateChoice], engine: str | None = None, entry: Entry | None = None
) -> tuple[Engine, DelegateChoice, tuple[Fallback, ...]]:
    """Load a model on the first of some delegates that takes it.

    Each one that does not is a warning of the logger ``edgekit``.

    Args:
        model: a checked model.
        choices: the delegates, best first; at least one.
        engine: an engine's name; ``None`` for the first that is installed.
        entry: the signature to run; ``None`` for the main one.

    Returns:
        The engine; the delegate that it runs on, with the fallback as its reason where there was one; and each one that
        refused.

    Raises:
        EngineError: no interpreter, or it refused the model.
        DelegateError: the delegate cannot be loaded, and none of the others either.
    """
    refused: list[Fallback] = []
    first: EngineError | DelegateError | None = None
    for choice in choices:
        try:
            opened = open_engine(model, choice.spec, engine, entry)
        except (EngineError, DelegateError) as error:
            first = first or error
            refused.append(Fallback(choice.spec.kind, str(error)))
            continue
        if not refused:
            return opened, choice, ()
        told = "; ".join(f"{item.delegate} could not be used: {item.reason}" for item in refused)
        import logging

        logging.getLogger("edgekit").warning("%s: %s runs the model, because %s", model.name, choice.spec.kind, told)
        return opened, choice._replace(reason=told), tuple(refused)
    if first is None:
        raise DelegateError("no delegate was named to load the model on: at least one was expected.")
    more = [item for item in refused[1:] if item.reason != str(first)]
    if more:
        also = " ".join(f"Then {item.delegate} was tried: {item.reason}" for item in more)
        raise type(first)(f"{first} {also}") from first
    raise first


def unmet(require: str, why: str, remedy: str) -> DelegateError:
    """The error for a delegate that was required and is not what runs the model; the command line exits with 1 on it.

    Args:
        require: the delegate.
        why: what came instead, as the rest of the sentence.
        remedy: what to do, as a sentence.
    """
    error = DelegateError(f"{require} was required {why}. {remedy}")
    error.exit_code = 1  # the usage is right and the files are readable: what was asked for is not there
    return error


def check_required(require: str, choice: DelegateChoice, engine: Engine) -> None:
    """Raise where a delegate that must take the whole model did not.

    Args:
        require: the delegate.
        choice: the one that the model was loaded on.
        engine: the loaded model.

    Raises:
        DelegateError: another one runs it, or it left operators outside; or the delegate is unknown.
        EngineError: the engine does not tell what a built-in delegate took.
    """
    choice.spec._replace(kind=require)  # knows which there are
    remedy = "Drop --require to accept that, or convert the model for this delegate."
    try:
        report = engine.partitions()
    except EngineError as error:
        if require in BUILT_IN:
            raise
        raise unmet(
            require, f"to take the whole model, and that is not known: {str(error).rstrip('.')}", remedy
        ) from error
    if choice.spec.kind != require or (report.outside and require != "none"):
        raise unmet(require, f"to take the whole model, and got {report}", remedy)


def not_loaded(require: str, error: EngineError | DelegateError) -> EngineError | DelegateError:
    """What the refusal of a required delegate means: of an accelerator that it is not to be had here."""
    if require in BUILT_IN:
        return error
    remedy = "Drop --require to run the model without it, or `edgekit plan` to see what can run it here."
    return unmet(require, f"and cannot be used: {str(error).rstrip('.')}", remedy)
