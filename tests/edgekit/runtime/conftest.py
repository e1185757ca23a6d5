"""Fixtures of the runtime's tests."""

from __future__ import annotations

from typing import Any

import pytest
from sessions import Load

import edgekit
from edgekit import Session


@pytest.fixture
def load(engine: str | None, request: pytest.FixtureRequest) -> Load:
    """``edgekit.load`` with the interpreter under test and XNNPACK, closed when the test ends."""

    def loaded(source: Any, **options: Any) -> Session:
        session = edgekit.load(source, **{"delegate": "xnnpack", "engine": engine, **options})
        request.addfinalizer(session.close)
        return session

    return loaded
