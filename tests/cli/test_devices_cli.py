"""``edgekit devices``: list, show, detect, validate."""

from __future__ import annotations

import json
from pathlib import Path

import machine_trees as trees
import profile_texts
import pytest
from click.testing import CliRunner, Result

from edgekit.cli import SUMMARIES, cli
from edgekit.cli.devices import command
from edgekit.host import read_host
from edgekit_profiles import detect, load_profile
from edgekit_profiles.loader import profile_files

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
    assert [(item["id"], item["user"]) for item in items] == [(file.id, file.user) for file in profile_files()]
    assert [item["id"] for item in items if item["user"]] == ["mine"]
    assert [item["id"] for item in items if item["role"] == "accessory"] == ["coral-usb"]
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
        item["error"] == f"{own_folder / 'mine.toml'}: schema 7 was seen, this edgekit reads up to 2. Update edgekit."
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
    assert "[[clusters]] number 1: the key 'max_khz' was seen, 'max_hz', in hertz, was expected." in result.output


def test_show_every_rule_and_option(own_folder: Path) -> None:
    """What a profile can have beside the plain facts."""
    (own_folder / "mine.toml").write_text(profile_texts.MINE)
    words = " ".join(run("show", "mine").stdout.replace("│", " ").split())
    for text in (
        "me,my-board",
        "18d1:9302",
        "1ac1:089a",
        "asimddp",
        "weight_cache=/var/cache/mine",
        "fallback xnnpack, none",
    ):
        assert text in words
    (own_folder / "gadget.toml").write_text(profile_texts.GADGET)
    words = " ".join(run("show", "gadget").stdout.replace("│", " ").split())
    assert "role accessory its delegates come before those of the machine" in words
    assert "recognised by USB 0bda:2838" in words


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
    assert len(data["candidates"]) == len(profile_files())
    assert data["host"]["machine"] == host.to_json()["machine"]
    assert data["root"] == "/"


def test_detect_a_recorded_machine(tmp_path: Path) -> None:
    """The machine that a folder is a recording of, and what is attached to it."""
    root = trees.plant(tmp_path / "pi", {**trees.RASPBERRY_PI_5, **trees.CORAL_USB})
    result = run("detect", "--root", str(root), "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["id"], data["root"]) == ("raspberry-pi-5", str(root))
    assert data["attached"] == [{"id": "coral-usb", "name": "Coral USB Accelerator"}]
    assert data["host"]["device_tree_model"]["value"] == "Raspberry Pi 5 Model B Rev 1.0"
    words = " ".join(run("detect", "--root", str(root), "--explain").stdout.replace("│", " ").split())
    assert "device raspberry-pi-5 (Raspberry Pi 5)" in words
    assert "attached coral-usb (Coral USB Accelerator)" in words
    assert "/proc/device-tree/model" in words


def test_detect_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    result = run("detect", "--root", str(tmp_path / "missing"))
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_validate(own_folder: Path, tmp_path: Path) -> None:
    """Nothing is wrong: what the profile is, and what to know of it."""
    path = own_folder / "mine.toml"
    path.write_text(profile_texts.MINE)
    result = run("validate", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}: valid: mine (My board)\n")
    board = tmp_path / "board.toml"
    board.write_text(OWN.replace('id = "mine"', 'id = "raspberry-pi-5"'))
    result = run("validate", str(board))
    assert result.exit_code == 0
    assert result.stdout == (
        f"{board}: valid: raspberry-pi-5 (My [board])\n"
        f"{board}: note: Among your own profiles ({own_folder}) the file must be named raspberry-pi-5.toml.\n"
        f"{board}: note: Among your own profiles it is used in place of edgekit's own raspberry-pi-5.\n"
        f"{board}: note: It has no table [match]: it is never detected, and used when it is named (--device raspberry-pi-5).\n"
        f"{board}: note: It is of schema 1, which is read; the newest is 2.\n"
    )


def test_validate_rules_that_hold_nowhere(own_folder: Path) -> None:
    """The names are texts, so a wrong one is no error, but it is worth a word."""
    path = own_folder / "mine.toml"
    path.write_text(
        profile_texts.MINE.replace('["Linux"]', '["linux"]').replace('["aarch64"]\ndevice', '["arm"]\ndevice')
    )
    result = run("validate", str(path))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        f"{path}: note: [match], key 'system': 'linux' is no name that edgekit knows; those are Linux, Android, Darwin, Windows.",
        f"{path}: note: [match], key 'machine': 'arm' is no name that edgekit knows; those are aarch64, arm64, armv6l, armv7l, "
        "armv8l, x86_64, AMD64, ARM64, i386, i686, riscv64.",
    ]


def test_validate_edgekits_own() -> None:
    """They are valid, and there is nothing to add."""
    files = [file.path for file in profile_files()]
    result = run("validate", "--json", *files)
    assert result.exit_code == 0
    assert [(item["valid"], item["notes"], item["problems"]) for item in json.loads(result.stdout)] == [
        (True, [], []) for _ in files
    ]


def test_validate_what_is_wrong(own_folder: Path) -> None:
    """Exit code 1; each line names the file, the table and the key, what was seen and what was expected."""
    path = own_folder / "mine.toml"
    path.write_text(profile_texts.MINE.replace("max_hz", "max_mhz").replace("limit_c = 95", "limit_c = 950"))
    result = run("validate", str(path))
    assert result.exit_code == 1
    assert result.stdout == (
        f"{path}: [[clusters]] number 1: the key 'max_mhz' was seen, 'max_hz', in hertz, was expected.\n"
        f"{path}: [thermal], key 'limit_c': 950 was seen, a number from -50 to 200, in degrees Celsius, was expected.\n"
    )
    (item,) = json.loads(run("validate", str(path), "--json").stdout)
    assert (item["file"], item["valid"], item["id"]) == (str(path), False, None)
    assert [(problem["table"], problem["key"]) for problem in item["problems"]] == [
        ("[[clusters]] number 1", "max_mhz"),
        ("[thermal]", "limit_c"),
    ]


def test_validate_a_newer_schema(own_folder: Path) -> None:
    """Nothing else is said of a file that this edgekit cannot know."""
    path = own_folder / "mine.toml"
    path.write_text(profile_texts.MINE.replace("schema = 2", "schema = 3\nnew = 1"))
    result = run("validate", str(path))
    assert result.exit_code == 1
    assert result.stdout == f"{path}: schema 3 was seen, this edgekit reads up to 2. Update edgekit.\n"


def test_validate_a_file_whose_name_is_not_its_id(own_folder: Path) -> None:
    """Among the user's own profiles that is wrong: it would not be found."""
    path = own_folder / "other.toml"
    path.write_text(profile_texts.MINE)
    result = run("validate", str(path))
    assert result.exit_code == 1
    assert result.stdout == f"{path}: top level, key 'id': 'mine' was seen, the file's name 'other' was expected.\n"


def test_validate_several_files(own_folder: Path) -> None:
    """Each is checked; one that cannot be read makes the exit code 2."""
    good, bad, missing = own_folder / "mine.toml", own_folder / "bad.toml", own_folder / "missing.toml"
    good.write_text(profile_texts.MINE)
    bad.write_text("schema: 2")
    result = run("validate", str(bad), str(missing), str(good))
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{bad}: is not valid TOML: ")
    assert lines[1].startswith(f"no such device profile: {missing}. ")
    assert lines[2:] == [f"{good}: valid: mine (My board)"]
    assert run("validate", str(bad), str(good)).exit_code == 1
    assert run("validate").exit_code == 2
