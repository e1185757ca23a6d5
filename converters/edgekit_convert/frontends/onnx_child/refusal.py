"""The one exception that reaches the user as it is."""

from __future__ import annotations

import re

#: Where in its own source onnxruntime gives up: file, line and function.
_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\)(?: const)? (?=[A-Z])")


class RefusedError(Exception):
    """A model that cannot be taken.

    Attributes:
        kind: which of edgekit's errors it becomes: ``"file"``, ``"quantised"`` or ``"conversion"``.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def first_line(error: BaseException) -> str:
    """What an exception says, in one line and without the full stop."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = _PLACE.sub("", text)
    return text[:400].rstrip(".")
