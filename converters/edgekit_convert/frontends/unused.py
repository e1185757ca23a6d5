"""Options that a kind of model has no use for: an error, so that nobody believes that they did something."""

from __future__ import annotations

from edgekit.errors import OptionError
from edgekit_convert.frontends.source import Opening

_OPTIONS = {
    "signature": ("signature (--signature)", "it has one way to be called"),
    "trust_source": ("trust_source (--trust-source)", "it carries no code that would be run"),
    "model": ("model (--model)", "it is a whole model, not weights alone"),
    "channels_last": ("channels_last (--channels-last, --channels-first)", "its inputs stay as they are"),
}


def refuse_unused(opening: Opening, what: str, *names: str) -> None:
    """Refuse options that were given and mean nothing here.

    Args:
        opening: the options.
        what: the kind of model, as a sentence begins: ``"a SavedModel"``.
        names: attributes of ``Opening`` that this kind has no use for.

    Raises:
        OptionError: one of them was given.
    """
    for name in names:
        if getattr(opening, name) not in (None, False) or (name == "channels_last" and opening.channels_last is False):
            option, why = _OPTIONS[name]
            raise OptionError(f"{what} has no use for {option}: {why}. Leave the option out.")
