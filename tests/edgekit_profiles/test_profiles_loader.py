"""``edgekit_profiles.loader``: edgekit's own profiles, the user's, and what is wrong with a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgekit_profiles
from edgekit.errors import ProfileError
from edgekit.runtime.delegates import KINDS
from edgekit_profiles import list_profiles, load_profile
from edgekit_profiles.loader import profile_files, user_folder
from edgekit_profiles.profile import NEEDS, SCHEMA, UNKNOWN, Accelerator, Cluster, Memory, Thermal
from edgekit_profiles.resolver import _CHECKS

DATA = Path(edgekit_profiles.__file__).parent / "data"

MINE = """
schema = 1
id = "mine"
name = "My board"

[match]
machine = ["aarch64"]
device_tree_model = ["My Board"]
source = "its boot log"

[[clusters]]
name = "cores"
cores = 2
max_hz = 1_000_000_000
features = "unknown"
source = "its data sheet"

[memory]
sizes_bytes = [536_870_912]
source = "its data sheet"

[[delegates]]
kind = "xnnpack"
needs = []
source = "tried"

[threads]
default = 2
worth_trying = [1, 2]
source = "measured"

[thermal]
throttle_from_c = "unknown"
limit_c = 95
source = "its data sheet"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles, so that those of who runs the tests do not count."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(folder))
    return folder


def test_the_ids_of_edgekits_own_profiles() -> None:
    """What is delivered; each loads, and is not the user's."""
    profiles = list_profiles()
    assert [item.id for item in profiles] == ["generic-aarch64-linux", "generic-x86_64-linux", "raspberry-pi-5"]
    assert [item.user for item in profiles] == [False, False, False]


def test_every_fact_of_edgekits_own_profiles_has_a_source() -> None:
    """A source that is "unknown" stands only beside facts that are unknown (the loader refuses the rest)."""
    for profile in list_profiles():
        parts = [
            profile.match, *profile.clusters, profile.memory, *profile.accelerators, *profile.delegates, profile.threads,
            *profile.runtimes, profile.thermal,
        ]  # fmt: skip
        for part in parts:
            assert part is not None
            facts = [value for name, value in part._asdict().items() if name not in ("name", "source")]
            assert part.source != UNKNOWN or facts == [None] * len(facts)
            assert len(part.source) >= len(UNKNOWN)


def test_edgekits_own_profiles_know_every_delegate() -> None:
    """Each lists all delegates, so that a plan gives a reason that fits the device for each."""
    for profile in list_profiles():
        assert sorted(rule.kind for rule in profile.delegates) == sorted(KINDS)


def test_every_need_is_checked_by_the_resolver() -> None:
    """A need that a profile can name is one that the resolver knows how to check."""
    assert sorted(_CHECKS) == sorted(NEEDS)


def test_the_facts_of_a_raspberry_pi_5() -> None:
    """Facts reach the profile with their units and sources."""
    profile = load_profile("raspberry-pi-5")
    assert profile.schema == SCHEMA
    assert profile.name == "Raspberry Pi 5"
    (cluster,) = profile.clusters
    assert cluster == Cluster(
        "Arm Cortex-A76 (Broadcom BCM2712)", 4, 2_400_000_000, ("asimd", "asimddp", "asimdhp", "fphp"), cluster.source
    )
    assert profile.memory == Memory(tuple(gib * 2**30 for gib in (1, 2, 4, 8, 16)), profile.memory.source)  # type: ignore[union-attr]  # compared as a whole
    assert profile.thermal == Thermal(80.0, 85.0, profile.thermal.source)  # type: ignore[union-attr]  # compared as a whole
    assert "raspberrypi.com/documentation" in profile.thermal.source
    (gpu,) = profile.accelerators
    assert gpu == Accelerator("VideoCore VII (V3D 7.1)", "gpu", ("Vulkan", "OpenGL ES 3.1"), gpu.source)
    assert [rule.kind for rule in profile.delegates] == ["edgetpu", "xnnpack", "gpu", "none"]
    assert [item.package for item in profile.runtimes] == ["ai-edge-litert", "tflite-runtime"]
    assert profile.threads.default == 4


def test_the_readme_explains_every_key() -> None:
    """Each key that a file can have stands in the table of its section of data/README.md."""
    text = (DATA / "README.md").read_text(encoding="utf-8")
    sections = {
        part.split("\n", 1)[0].split("`")[1] if "`" in part.split("\n", 1)[0] else "": part
        for part in text.split("\n## ")
    }
    assert sorted(sections) == sorted(
        ["", "[[accelerators]]", "[[clusters]]", "[[delegates]]", "[[runtimes]]", "[match]", "[memory]", "[thermal]", "[threads]"]
    )  # fmt: skip
    profile = load_profile("raspberry-pi-5")
    parts = {
        "[match]": profile.match, "[[clusters]]": profile.clusters[0], "[memory]": profile.memory,
        "[[accelerators]]": profile.accelerators[0], "[[delegates]]": profile.delegates[0], "[threads]": profile.threads,
        "[[runtimes]]": profile.runtimes[0], "[thermal]": profile.thermal,
    }  # fmt: skip
    for section, part in parts.items():
        assert part is not None
        explained = [line.split("`")[1] for line in sections[section].split("\n") if line.startswith("| `")]
        assert sorted(explained) == sorted(part._fields)


def test_a_users_own_profile(own_folder: Path) -> None:
    """A file in the folder of own profiles is listed and loads; what it does not know is ``None``."""
    (own_folder / "mine.toml").write_text(MINE)
    (own_folder / "notes.txt").write_text("not a profile")
    assert [item.id for item in list_profiles()] == [
        "generic-aarch64-linux", "generic-x86_64-linux", "mine", "raspberry-pi-5",
    ]  # fmt: skip
    profile = load_profile("mine")
    assert profile.user
    assert profile.origin == str(own_folder / "mine.toml")
    assert profile.clusters == (Cluster("cores", 2, 1_000_000_000, None, "its data sheet"),)
    assert profile.thermal == Thermal(None, 95.0, "its data sheet")
    assert profile.accelerators == ()


def test_a_users_own_profile_wins_by_id(own_folder: Path) -> None:
    """Of two files with the same id the user's is loaded."""
    (own_folder / "raspberry-pi-5.toml").write_text(MINE.replace('id = "mine"', 'id = "raspberry-pi-5"'))
    assert load_profile("raspberry-pi-5").name == "My board"
    assert [item.user for item in profile_files()] == [False, False, True]


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
        "unknown device 'rasberry-pi-5'. Did you mean 'raspberry-pi-5'? Known devices: generic-aarch64-linux, "
        f"generic-x86_64-linux, raspberry-pi-5. Your own go as TOML files into {own_folder}."
    )


@dataclass(frozen=True)
class Wrong:
    """A profile that is wrong: what is replaced in ``MINE`` by what, and what the message says."""

    name: str
    old: str
    new: str
    message: str


WRONG = (
    Wrong("no schema", "schema = 1", "", "top level: the key 'schema' is missing, a whole number from 1"),
    Wrong("newer schema", "schema = 1", "schema = 2", "schema 2 was seen, this edgekit reads up to 1. Update edgekit."),
    Wrong("schema is text", "schema = 1", 'schema = "1"', "top level, key 'schema': '1' was seen, a whole number"),
    Wrong("no name", 'name = "My board"', "", "top level: the key 'name' is missing, a text was expected"),
    Wrong("empty name", 'name = "My board"', 'name = " "', "top level, key 'name': ' ' was seen, a text that is not empty"),
    Wrong("id with capitals", 'id = "mine"', 'id = "Mine!"', "top level, key 'id': 'Mine!' was seen, lower-case letters"),
    Wrong("misspelt key", "max_hz = 1_000_000_000", "max_hertz = 1", "[[clusters]] number 1: the key 'max_hz' is missing"),
    Wrong(
        "key too many", "cores = 2", "cores = 2\nmax_mhz = 1000",
        "[[clusters]] number 1: the key 'max_mhz' was seen, which does not exist. Did you mean 'max_hz'? Keys that exist",
    ),
    Wrong(
        "table too many", "[thermal]", "[termal]",
        "top level: the key 'termal' was seen, which does not exist. Did you mean 'thermal'?",
    ),
    Wrong(
        "megahertz for hertz", "1_000_000_000", "1000",
        "[[clusters]] number 1, key 'max_hz': 1000 was seen, a whole number from 1000000 to 100000000000 was expected",
    ),
    Wrong(
        "millidegrees for degrees", "limit_c = 95", "limit_c = 95_000",
        "[thermal], key 'limit_c': 95000 was seen, a number from -50 to 200 was expected",
    ),
    Wrong("not a number", "limit_c = 95", "limit_c = nan", "[thermal], key 'limit_c': nan was seen, a number from"),
    Wrong("a boolean for a number", "cores = 2", "cores = true", "key 'cores': True was seen, a whole number from 1 to 4096"),
    Wrong("text for a list", 'machine = ["aarch64"]', 'machine = "aarch64"', "[match], key 'machine': 'aarch64' was seen, a list"),
    Wrong("numbers in a list of texts", '["aarch64"]', "[64]", "[match], key 'machine': 64 was seen, a text that is not empty"),
    Wrong("empty list", "worth_trying = [1, 2]", "worth_trying = []", "[threads], key 'worth_trying': [] was seen, a list of"),
    Wrong("unknown delegate", '"xnnpack"', '"xnpack"', "[[delegates]] number 1, key 'kind': 'xnpack' was seen, one of xnnpack, none"),
    Wrong("unknown need", "needs = []", 'needs = ["luck"]', "[[delegates]] number 1, key 'needs': 'luck' was seen, one of vulkan"),
    Wrong("no needs", "needs = []", "", "[[delegates]] number 1: the key 'needs' is missing, a list of texts was expected"),
    Wrong(
        "delegate twice", "[threads]", '[[delegates]]\nkind = "xnnpack"\nneeds = []\nsource = "tried"\n[threads]',
        "[[delegates]] number 2, key 'kind': 'xnnpack' was seen, each delegate once was expected",
    ),
    Wrong("a table for a list of tables", "[[delegates]]", "[delegates]", "top level, key 'delegates': {'kind': 'xnnpack'"),
    Wrong("a list of tables for a table", "[threads]", "[[threads]]", "top level, key 'threads': [{'default': 2"),
    Wrong("no source", 'source = "measured"', "", "[threads]: the key 'source' is missing, a text that says where this is"),
    Wrong("a fact of unknown source", 'source = "measured"', 'source = "unknown"', "[threads], key 'source': 'unknown' was seen"),
    Wrong("one fact of unknown source", 'source = "its data sheet"\n\n[memory]', 'source = "unknown"\n\n[memory]', "number 1, key 'source'"),
    Wrong("not TOML", "schema = 1", "schema: 1", "is not valid TOML: "),
    Wrong("nested too deeply", "schema = 1", "x = " + "[" * 100_000, "is not valid TOML for edgekit: it is nested too deeply."),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_file(own_folder: Path, wrong: Wrong) -> None:
    """The message names the file, the table and the key, what was seen and what was expected."""
    assert wrong.old in MINE
    path = own_folder / "mine.toml"
    path.write_text(MINE.replace(wrong.old, wrong.new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile("mine")
    assert str(caught.value).startswith(str(path))
    assert wrong.message in str(caught.value)


def test_no_delegates(own_folder: Path) -> None:
    """A profile without delegates is no help."""
    start, end = MINE.index("[[delegates]]"), MINE.index("[threads]")
    (own_folder / "mine.toml").write_text(MINE[:start] + MINE[end:])
    with pytest.raises(ProfileError, match=r"the key 'delegates' is missing, at least one table \[\[delegates\]\]"):
        load_profile("mine")


def test_a_file_whose_name_is_not_its_id(own_folder: Path) -> None:
    """Otherwise an id could not be found without reading every file."""
    (own_folder / "other.toml").write_text(MINE)
    with pytest.raises(ProfileError, match="key 'id': 'mine' was seen, the file's name 'other' was expected"):
        load_profile("other")


def test_files_that_are_not_text(own_folder: Path) -> None:
    """Bytes that are not UTF-8, a folder, a file that is much too large, a missing file."""
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
