"""``edgekit_profiles.loader``: where profiles lie, the user's own, and files that cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from profile_texts import GADGET, MINE, MINE_OF_SCHEMA_1

from edgekit.errors import ProfileError
from edgekit_profiles import list_profiles, load_profile
from edgekit_profiles.loader import ProfileFile, glance, profile_files, user_folder
from edgekit_profiles.profile import Cluster, Thermal


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles, so that those of who runs the tests do not count."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(folder))
    return folder


def test_a_users_own_profile(own_folder: Path) -> None:
    """A file in the folder of own profiles is listed and loads; what it does not know is ``None``."""
    ours = [item.id for item in list_profiles()]
    (own_folder / "mine.toml").write_text(MINE)
    (own_folder / "notes.txt").write_text("not a profile")
    assert [item.id for item in list_profiles()] == sorted([*ours, "mine"])
    profile = load_profile("mine")
    assert profile.user
    assert profile.origin == str(own_folder / "mine.toml")
    assert profile.clusters == (Cluster("cores", 2, 1_000_000_000, None, "its data sheet"),)
    assert profile.thermal == Thermal(None, 95.0, "its data sheet")


def test_a_users_own_profile_wins_by_id(own_folder: Path) -> None:
    """Of two files with the same id the user's is loaded, also one of an older schema."""
    (own_folder / "raspberry-pi-5.toml").write_text(MINE_OF_SCHEMA_1.replace('id = "mine"', 'id = "raspberry-pi-5"'))
    assert load_profile("raspberry-pi-5").name == "My board"
    assert [item.id for item in profile_files() if item.user] == ["raspberry-pi-5"]


def test_a_profile_by_its_path(tmp_path: Path) -> None:
    """A path is loaded as it is; the file may have any name."""
    path = tmp_path / "any name.toml"
    path.write_text(MINE)
    assert load_profile(path).id == "mine"
    assert load_profile(str(path)).name == "My board"


def test_the_folder_of_own_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EDGEKIT_CONFIG_DIR, else XDG_CONFIG_HOME, else the home folder."""
    assert user_folder() == str(tmp_path / "devices")
    monkeypatch.delenv("EDGEKIT_CONFIG_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert user_folder() == "/xdg/edgekit/devices"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/maker")
    assert user_folder() == "/home/maker/.config/edgekit/devices"


def test_an_unknown_id(own_folder: Path) -> None:
    """The message lists what there is, names the closest and says where own profiles go."""
    with pytest.raises(ProfileError) as caught:
        load_profile("rasberry-pi-5")
    assert str(caught.value) == (
        f"unknown device 'rasberry-pi-5'. Did you mean 'raspberry-pi-5'? Known devices: "
        f"{', '.join(item.id for item in profile_files())}. Your own go as TOML files into {own_folder}."
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 2", "schema: 2", "is not valid TOML: "),
        ("schema = 2", "x = " + "[" * 100_000, "is not valid TOML for edgekit: it is nested too deeply."),
        ("schema = 2", "schema = 3", ": schema 3 was seen, this edgekit reads up to 2. Update edgekit."),
        (
            "cores = 2",
            "cores = 0",
            ": [[clusters]] number 1, key 'cores': 0 was seen, a whole number from 1 to 4096 was",
        ),
    ],
    ids=["not TOML", "nested too deeply", "newer schema", "wrong value"],
)
def test_a_wrong_file(own_folder: Path, old: str, new: str, message: str) -> None:
    """The message begins with the file."""
    path = own_folder / "mine.toml"
    path.write_text(MINE.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile("mine")
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_file_whose_name_is_not_its_id(own_folder: Path) -> None:
    """Otherwise an id could not be found without reading every file."""
    (own_folder / "other.toml").write_text(MINE)
    with pytest.raises(ProfileError, match="key 'id': 'mine' was seen, the file's name 'other' was expected"):
        load_profile("other")


def test_files_that_are_not_text(own_folder: Path) -> None:
    """Bytes that are not UTF-8, a folder, a file that is much too large, a missing file, a name that no file can have."""
    path = own_folder / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match=r"is not UTF-8 text \(byte 0\): a TOML file was expected"):
        load_profile("mine")
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ProfileError, match="more than 1048576 bytes, a device profile of a few kilobytes was expected"):
        load_profile("mine")
    path.unlink()
    path.mkdir()
    with pytest.raises(ProfileError, match=r"cannot read the device profile .*: Is a directory"):
        load_profile("mine")
    with pytest.raises(ProfileError, match=r"no such device profile: .*missing\.toml"):
        load_profile(own_folder / "missing.toml")
    with pytest.raises(ProfileError, match=r"cannot read the device profile .*: embedded null byte"):
        load_profile("my\0board.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINE_OF_SCHEMA_1, {"machine": ("aarch64",), "device_tree_model": ("My Board",)}),
        (MINE_OF_SCHEMA_1.replace("\n", "\r\n"), {"machine": ("aarch64",), "device_tree_model": ("My Board",)}),
        (GADGET, {"usb_ids": ("0bda:2838",), "role": ("accessory",)}),
        (GADGET.replace('"0bda:2838"]', '"0bda:2838", "0bda:2832"]'), {"usb_ids": ("0bda:2838", "0bda:2832"), "role": ("accessory",)}),
        (GADGET.replace("usb_ids", "# a comment = []\nusb_ids"), {"usb_ids": ("0bda:2838",), "role": ("accessory",)}),
        (GADGET.replace("[match]", "[match] # rules"), None),
        (GADGET.replace('["0bda:2838"]', '[\n"0bda:2838"]'), None),
        (GADGET.replace('["0bda:2838"]', '["0bda:2838"] # a comment'), None),
        (GADGET.replace('["0bda:2838"]', "['0bda:2838']"), None),
        (GADGET.replace("0bda:2838", "\\u0030bda:2838"), None),
        (GADGET.replace("usb_ids =", '"usb_ids" ='), None),
        (GADGET.replace("usb_ids =", "  usb_ids ="), None),
        (GADGET.replace("usb_ids = ", "usb_ids="), None),
        (GADGET + "#" * 40_000, None),
        (GADGET.replace('"My gadget"', '"""\n[match]\nusb_ids = ["aaaa:bbbb"]\n"""'), None),
        ("not a profile", None),
    ],
    ids=[
        "two rules", "lines of Windows", "an accessory", "two ids", "a comment line", "a comment behind the table's name",
        "several lines", "a comment behind a rule", "other quotation marks", "an escape", "a quoted key",
        "a key behind spaces", "no spaces", "a long file", "a table's name in a text", "no rules",
    ],
)  # fmt: skip
def test_a_glance_at_a_file(own_folder: Path, text: str, expected: dict[str, tuple[str, ...]] | None) -> None:
    """The rules in edgekit's own way of writing them; whatever is written otherwise must be parsed."""
    path = own_folder / "mine.toml"
    path.write_bytes(text.encode())
    assert glance(ProfileFile("mine", str(path), True)) == expected


def test_a_glance_at_a_file_that_is_not_there(own_folder: Path) -> None:
    """Loading it says what is wrong."""
    assert glance(ProfileFile("mine", str(own_folder / "mine.toml"), True)) is None


def test_to_json() -> None:
    """A profile as plain JSON types, every part with its source, ``None`` for the unknown."""
    data = load_profile("generic-x86_64-linux").to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["clusters"] == [
        {"name": "x86-64 cores", "cores": None, "max_hz": None, "features": None, "source": "unknown"}
    ]
    assert data["match"]["machine"] == ["x86_64"]
    assert data["threads"]["default"] == 1


def test_importing_reads_no_toml() -> None:
    """The package costs little until a profile is loaded."""
    code = "import sys, edgekit_profiles; print([n for n in ('tomllib', 'tomli', 'pathlib', 'click', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
