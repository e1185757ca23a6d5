"""``edgekit setup``, with the real venv and pip on tiny wheels: no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_wheels import write_lock, write_wheel

from edgekit.cli import cli
from edgekit_convert.environments import lock as locks


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an environment of one wheel would be made."""
    write_wheel(tmp_path / "shelf", "only_tiny")
    write_lock(tmp_path / "locks", {"only_tiny": "1.0"})
    monkeypatch.setattr(locks, "_FOLDER", tmp_path / "locks")
    monkeypatch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(tmp_path / "made"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    return tmp_path / "made"


def test_made_looked_at_and_removed(tiny: Path) -> None:
    """What it takes is said before it begins; results on stdout, progress on stderr."""
    runner = CliRunner()
    before = runner.invoke(cli, ["setup", "tiny", "--status", "--json"])
    assert (1, "absent") == (before.exit_code, json.loads(before.stdout)["state"])
    assert not tiny.exists()

    made = runner.invoke(cli, ["setup", "tiny", "--json"])
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert ("tiny", "ready", {"only_tiny": "1.0"}) == (found["name"], found["state"], found["versions"])
    assert found["folder"].startswith(str(tiny))
    first, *steps = made.stderr.splitlines()
    assert first.startswith(f"Making an environment for tests in {tiny}")
    assert "1.0 kB to download, 1.0 kB on the disk" in first
    assert first.endswith("After an interruption the same command goes on where it was.")
    assert any(line.startswith("Fetching 1 packages") for line in steps)

    again = runner.invoke(cli, ["setup", "tiny", "--status"])
    assert again.exit_code == 0
    assert "only_tiny" in again.stdout
    assert "ready" in again.stdout

    gone = runner.invoke(cli, ["setup", "tiny", "--remove", "--json"])
    assert gone.exit_code == 0
    assert gone.stderr.startswith(f"Removing {tiny}")
    assert ("absent", True) == (json.loads(gone.stdout)["state"], json.loads(gone.stdout)["freed_bytes"] > 1000)
    nothing = runner.invoke(cli, ["setup", "tiny", "--remove"])
    assert "there was none" in nothing.stdout
    assert not nothing.stderr


def test_wrong_usage(tiny: Path) -> None:
    """Unknown names and contrary options end with 2 and one line."""
    runner = CliRunner()
    unknown = runner.invoke(cli, ["setup", "huge"])
    assert (2, "edgekit: error: unknown environment 'huge': expected one of tiny.\n") == (
        unknown.exit_code,
        unknown.stderr,
    )
    both = runner.invoke(cli, ["setup", "tiny", "--status", "--remove"])
    assert (2, "edgekit: error: both --status and --remove were given: use one of them.\n") == (
        both.exit_code,
        both.stderr,
    )
