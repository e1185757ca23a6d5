"""``edgekit devices``: list, show, detect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekit.cli import SUMMARIES, cli
from edgekit.cli.devices import command
from edgekit.host import read_host
from edgekit_profiles import detect, load_profile

OWN = """
schema = 1
id = "mine"
name = "My [board]"

[[clusters]]
name = "cores"
cores = "unknown"
max_hz = 1_500_000_000
features = ["asimd"]
source = "its data sheet"

[[delegates]]
kind = "xnnpack"
needs = []
source = "tried"

[threads]
default = 1
worth_trying = [1, 2]
source = "measured"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(folder))
    return folder


def run(*arguments: str) -> Result:
    """Run ``edgekit devices`` in this process."""
    return CliRunner().invoke(cli, ["devices", *arguments])


def test_summary() -> None:
    """``edgekit --help`` says what the command's own help says."""
    assert (command.help or "").split("\n")[0] == SUMMARIES["devices"]


def test_list(own_folder: Path) -> None:
    """Every profile, edgekit's and the user's, and which one is this machine."""
    (own_folder / "mine.toml").write_text(OWN)
    result = run("list", "--json")
    assert result.exit_code == 0
    items = json.loads(result.stdout)
    assert [(item["id"], item["user"]) for item in items] == [
        ("generic-aarch64-linux", False),
        ("generic-x86_64-linux", False),
        ("mine", True),
        ("raspberry-pi-5", False),
    ]
    this = detect(read_host()).profile
    assert this is not None
    assert [item["id"] for item in items if item["this_machine"]] == [this.id]
    table = run("list").stdout
    assert "My [board]" in table
    assert "Raspberry Pi 5" in table


def test_list_with_a_damaged_profile(own_folder: Path) -> None:
    """The others are listed, the damaged one says what is wrong, and the exit code is 1."""
    (own_folder / "mine.toml").write_text(OWN.replace("schema = 1", "schema = 7"))
    result = run("list", "--json")
    assert result.exit_code == 1
    (item,) = [item for item in json.loads(result.stdout) if item["id"] == "mine"]
    assert (
        item["error"] == f"{own_folder / 'mine.toml'}: schema 7 was seen, this edgekit reads up to 1. Update edgekit."
    )
    result = run("list")
    assert result.exit_code == 1
    assert "Raspberry Pi 5" in result.stdout
    assert "not valid: " in result.stdout


def test_show() -> None:
    """Each fact with its source."""
    result = run("show", "raspberry-pi-5")
    assert result.exit_code == 0
    for text in (
        "Cortex-A76",
        "2.4 GHz",
        "16 GiB",
        "slower from 80 °C, limit 85 °C",
        "Raspberry Pi documentation",
        "xnnpack",
    ):
        assert text in result.stdout
    assert json.loads(run("show", "raspberry-pi-5", "--json").stdout) == load_profile("raspberry-pi-5").to_json()


def test_show_what_is_not_known(own_folder: Path) -> None:
    """A fact that is not known says so; a profile can be named by its path."""
    path = own_folder / "mine.toml"
    path.write_text(OWN)
    for name in ("mine", str(path)):
        result = run("show", name)
        assert result.exit_code == 0
        assert "unknown x cores, up to 1.5 GHz, features asimd" in result.stdout


def test_show_an_unknown_device() -> None:
    """Exit code 2, one message, no traceback."""
    result = run("show", "rasberry-pi-5")
    assert result.exit_code == 2
    assert result.output.startswith("edgekit: error: unknown device 'rasberry-pi-5'. Did you mean 'raspberry-pi-5'?")


def test_show_a_damaged_profile(own_folder: Path) -> None:
    """Exit code 2, and what is wrong with it."""
    (own_folder / "mine.toml").write_text(OWN.replace("max_hz", "max_khz"))
    result = run("show", "mine")
    assert result.exit_code == 2
    assert "[[clusters]] number 1: the key 'max_hz' is missing, a whole number from 1000000" in result.output


def test_detect() -> None:
    """The profile with the reason; with --explain every fact with where it was read, and every score."""
    host = read_host()
    expected = detect(host)
    assert expected.profile is not None
    short = run("detect")
    assert short.exit_code == 0
    assert expected.profile.id in short.stdout
    assert "/proc/meminfo" not in short.stdout
    long = run("detect", "--explain").stdout
    for text in (
        "/proc/meminfo (MemTotal)",
        "logical_cores",
        "sched_getaffinity",
        "raspberry-pi-5",
        "generic-aarch64-linux",
    ):
        assert text in long
    data = json.loads(run("detect", "--json").stdout)
    assert data["id"] == expected.profile.id
    assert len(data["candidates"]) == 3
    assert data["host"]["machine"] == host.to_json()["machine"]
