"""The folder for what edgekit may forget: answers and times that cost seconds to find again, and nothing else."""

from __future__ import annotations

import os
import sys


def cache_folder() -> str | None:
    """The folder for what edgekit may forget; ``None`` when there is no home folder to put it in.

    It is ``$EDGEKIT_CACHE_DIR``, else ``edgekit`` in the user's cache folder: ``$XDG_CACHE_HOME``, else ``~/.cache``;
    ``~/Library/Caches`` on macOS and ``%LOCALAPPDATA%`` on Windows.
    """
    named = os.environ.get("EDGEKIT_CACHE_DIR")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME")
    if sys.platform == "win32":
        base = base or os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = base or os.path.expanduser("~/Library/Caches")
    base = base or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else os.path.join(base, "edgekit")
