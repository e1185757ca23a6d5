"""``edgekit_profiles.detect``: which profile a recorded machine is, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import machine_trees as trees
import pytest

from edgekit.host import Fact, HostFacts, read_host
from edgekit_profiles import detect, list_profiles

ALL = ("generic-aarch64-linux", "generic-x86_64-linux", "raspberry-pi-5")
OWN = """
schema = 1
id = "{id}"
name = "Own"
[match]
{rules}
source = "its owner"
[[delegates]]
kind = "xnnpack"
needs = []
source = "tried"
[threads]
default = 1
worth_trying = [1]
source = "guess of its owner"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(folder))
    return folder


def _named(files: Mapping[str, str | bytes], model: str) -> dict[str, str | bytes]:
    name = model.encode() + b"\0"
    return {**files, "proc/device-tree/model": name, "sys/firmware/devicetree/base/model": name}


@dataclass(frozen=True)
class Case:
    """A recorded machine and the profile that it is."""

    name: str
    files: Mapping[str, str | bytes]
    expected: str
    score: int
    reason: str


PI = trees.RASPBERRY_PI_5
CASES = (
    Case(
        "Raspberry Pi 5", PI, "raspberry-pi-5", 111,
        "board 'Raspberry Pi 5 Model B Rev 1.0' (/proc/device-tree/model); architecture 'aarch64' (/proc/sys/kernel/arch); "
        "operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "Raspberry Pi 5 of another revision", _named(PI, "Raspberry Pi 5 Model B Rev 1.1"), "raspberry-pi-5", 111,
        "board 'Raspberry Pi 5 Model B Rev 1.1' (/proc/device-tree/model); architecture 'aarch64' (/proc/sys/kernel/arch); "
        "operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "Raspberry Pi 500", _named(PI, "Raspberry Pi 500 Rev 1.0"), "generic-aarch64-linux", 11,
        "architecture 'aarch64' (/proc/sys/kernel/arch); operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "Compute Module 5", _named(PI, "Raspberry Pi Compute Module 5 Rev 1.0"), "generic-aarch64-linux", 11,
        "architecture 'aarch64' (/proc/sys/kernel/arch); operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "a board without a profile", trees.BIG_LITTLE_BOARD, "generic-aarch64-linux", 11,
        "architecture 'aarch64' (/proc/cpuinfo (CPU architecture)); operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "an Arm server", trees.AARCH64_SERVER, "generic-aarch64-linux", 11,
        "architecture 'aarch64' (/proc/sys/kernel/arch); operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
    Case(
        "a PC", trees.X86_64_PC, "generic-x86_64-linux", 11,
        "architecture 'x86_64' (/proc/sys/kernel/arch); operating system 'Linux' (/proc/sys/kernel/ostype)",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_machines(tmp_path: Path, case: Case) -> None:
    """Each recorded machine is what it is, with every profile scored and the best one first."""
    detection = detect(read_host(trees.plant(tmp_path / "root", case.files)))
    assert detection.profile is not None
    assert (detection.profile.id, detection.reason) == (case.expected, case.reason)
    assert sorted(item.profile_id for item in detection.candidates) == sorted(ALL)
    assert (detection.candidates[0].profile_id, detection.candidates[0].score) == (case.expected, case.score)


def test_a_raspberry_pi_5_is_a_generic_arm_machine_too(tmp_path: Path) -> None:
    """The board's own name beats the generic profile, which fits as well."""
    detection = detect(read_host(trees.plant(tmp_path / "root", PI)))
    assert [(item.profile_id, item.score) for item in detection.candidates] == [
        ("raspberry-pi-5", 111),
        ("generic-aarch64-linux", 11),
        ("generic-x86_64-linux", 0),
    ]
    assert detection.candidates[2].reasons == (
        "architecture is 'aarch64' (/proc/sys/kernel/arch), 'x86_64' was expected",
    )


NOTHING_FITS = {
    "Windows": HostFacts(system=Fact("Windows", "sys.platform"), machine=Fact("AMD64", "PROCESSOR_ARCHITECTURE")),
    "macOS": HostFacts(system=Fact("Darwin", "uname"), machine=Fact("arm64", "uname")),
    "32-bit Arm": HostFacts(system=Fact("Linux", "uname"), machine=Fact("armv7l", "uname")),
    "nothing known": HostFacts(),
}


@pytest.mark.parametrize("name", NOTHING_FITS)
def test_machines_without_a_profile(name: str) -> None:
    """Where none fits there is an answer all the same: no profile, and what was seen."""
    host = NOTHING_FITS[name]
    machine, system = host.machine, host.system
    detection = detect(host)
    assert detection.profile is None
    assert detection.reason == (
        f"no device profile fits this machine (architecture {machine.value if machine else 'unknown'}, "
        f"operating system {system.value if system else 'unknown'})"
    )
    assert [item.score for item in detection.candidates] == [0, 0, 0]


def test_of_two_equal_profiles_the_users_own_wins(own_folder: Path) -> None:
    """A generic profile of the user's own takes the place of edgekit's."""
    rules = 'machine = ["x86_64"]\nsystem = ["Linux"]'
    (own_folder / "zzz.toml").write_text(OWN.format(id="zzz", rules=rules))
    detection = detect(HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname")))
    assert detection.profile is not None
    assert detection.profile.id == "zzz"


def test_a_profile_without_rules_is_never_detected(own_folder: Path) -> None:
    """It must be named, and says so."""
    (own_folder / "shy.toml").write_text(OWN.format(id="shy", rules=""))
    detection = detect(HostFacts())
    (shy,) = [item for item in detection.candidates if item.profile_id == "shy"]
    assert (shy.score, shy.reasons) == (0, ("it has no rules to be recognised by: name it with --device",))


def test_a_damaged_profile_does_not_keep_models_from_loading(
    own_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out with a log record and a candidate that says why; edgekit's own of that id is used."""
    (own_folder / "generic-x86_64-linux.toml").write_text("schema = 99")
    with caplog.at_level(logging.WARNING, logger="edgekit"):
        detection = detect(HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname")))
    assert detection.profile is not None
    assert (detection.profile.id, detection.profile.user) == ("generic-x86_64-linux", False)
    text = (
        f"{own_folder / 'generic-x86_64-linux.toml'}: schema 99 was seen, this edgekit reads up to 1. Update edgekit."
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"a device profile is left out of the detection: {text}"
    ]
    assert detection.candidates[-1].reasons == (f"not valid: {text}",)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_quick_way_finds_the_same(tmp_path: Path, case: Case) -> None:
    """Leaving out files that do not name the architecture changes neither the profile nor the reason."""
    host = read_host(trees.plant(tmp_path / "root", case.files))
    quick = detect(host, thorough=False)
    assert quick.profile == detect(host).profile
    assert (quick.reason, quick.candidates[0].score) == (case.reason, case.score)


def test_the_quick_way_leaves_out_other_architectures(own_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is for another architecture is not even parsed; one without such a rule is."""
    host = HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname"))
    (own_folder / "other.toml").write_text('damaged\nmachine = ["riscv64"]')
    (own_folder / "zzz.toml").write_text(OWN.format(id="zzz", rules='system = ["Linux"]'))
    quick = detect(host, thorough=False)
    assert [item.profile_id for item in quick.candidates] == ["generic-x86_64-linux", "zzz"]
    assert caplog.records == []
    assert "other" in [item.profile_id for item in detect(host).candidates]
    assert len(caplog.records) == 1


def test_profiles_that_are_given_are_the_only_ones() -> None:
    """A caller can choose among a few."""
    arm = [profile for profile in list_profiles() if profile.id == "generic-aarch64-linux"]
    detection = detect(HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname")), arm)
    assert detection.profile is None
    assert len(detection.candidates) == 1


def test_to_json() -> None:
    """The answer as plain JSON types."""
    host = HostFacts(system=Fact("Linux", "uname"), machine=Fact("aarch64", "uname"))
    data = detect(host).to_json()
    assert (data["id"], data["name"]) == ("generic-aarch64-linux", "64-bit Arm with Linux")
    assert data["candidates"][0] == {
        "id": "generic-aarch64-linux",
        "score": 11,
        "reasons": ["architecture 'aarch64' (uname)", "operating system 'Linux' (uname)"],
    }
    assert detect(HostFacts()).to_json()["id"] is None
