"""``edgekit.cache``: where what may be forgotten lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekit.cache import cache_folder
from edgekit_convert.delegate import remembered


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folders of Linux")
def test_the_order_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of edgekit's own, the system's, the home folder; without a home none."""
    assert os.environ["EDGEKIT_CACHE_DIR"] == cache_folder()
    monkeypatch.delenv("EDGEKIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert "/somewhere/edgekit" == cache_folder()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert "/home/me/.cache/edgekit" == cache_folder()
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cache_folder() is None
    assert remembered.cache_folder() is None


def test_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned of delegates lies in the same folder."""
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path))
    assert (str(tmp_path), tmp_path) == (cache_folder(), remembered.cache_folder())
