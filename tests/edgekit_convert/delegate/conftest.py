"""A cache folder of the tests' own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_for_delegates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is learned in one test is remembered in the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_for_delegates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own cache folder is left alone."""
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(cache_for_delegates))
    return cache_for_delegates
