"""``edgekit_profiles.detect``: which profile a recorded machine is, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import machine_trees as trees
import pytest
from recorded_machines import MACHINES, PI_4B_32BIT, RecordedMachine

from edgekit.host import Fact, HostFacts, read_host
from edgekit_profiles import detect, list_profiles
from edgekit_profiles.profile import SCHEMA

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


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_recorded_machines(tmp_path: Path, machine: RecordedMachine) -> None:
    """Each recorded machine is what it is, with every profile scored; a general profile is said to be one."""
    detection = detect(read_host(trees.plant(tmp_path / "root", machine.files)))
    assert (detection.profile.id if detection.profile is not None else None) == machine.profile
    assert detection.reason.startswith(f"unknown, using {machine.profile}: ") == machine.unknown
    assert sorted(item.profile_id for item in detection.candidates) == sorted(item.id for item in list_profiles())
    assert (detection.candidates[0].score > 0) == (machine.profile is not None)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_quick_way_finds_the_same(tmp_path: Path, machine: RecordedMachine) -> None:
    """Leaving out files whose rules do not hold changes neither the profile, nor the reason, nor what is attached."""
    host = read_host(trees.plant(tmp_path / "root", machine.files))
    quick, thorough = detect(host, thorough=False), detect(host)
    assert (quick.profile, quick.reason, quick.attached) == (thorough.profile, thorough.reason, thorough.attached)
    assert len(quick.candidates) <= 2
    assert set(quick.candidates) <= set(thorough.candidates)


def test_every_profile_of_a_machine_is_found_on_a_recorded_one() -> None:
    """None of edgekit's own goes without a machine that it was tried on."""
    tried = {machine.profile for machine in MACHINES}
    assert {item.id for item in list_profiles() if item.role == "machine"} == tried - {None}


@dataclass(frozen=True)
class Case:
    """A recorded machine, the profile that it is, its score and the reason."""

    name: str
    files: Mapping[str, str | bytes]
    expected: str
    score: int
    reason: str


PI = trees.RASPBERRY_PI_5
LINUX = "operating system 'Linux' (/proc/sys/kernel/ostype)"
AARCH64 = f"architecture 'aarch64' (/proc/sys/kernel/arch); {LINUX}"
CASES = (
    Case(
        "Raspberry Pi 5", PI, "raspberry-pi-5", 211,
        f"board 'Raspberry Pi 5 Model B Rev 1.0' (/proc/device-tree/model); {AARCH64}",
    ),
    Case(
        "Raspberry Pi 5 of another revision", _named(PI, "Raspberry Pi 5 Model B Rev 1.1"), "raspberry-pi-5", 211,
        f"board 'Raspberry Pi 5 Model B Rev 1.1' (/proc/device-tree/model); {AARCH64}",
    ),
    Case(
        "Raspberry Pi 500", _named(PI, "Raspberry Pi 500 Rev 1.0"), "generic-aarch64-linux", 11,
        "unknown, using generic-aarch64-linux: no profile is for the board 'Raspberry Pi 500 Rev 1.0' "
        f"(/proc/device-tree/model); {AARCH64}",
    ),
    Case(
        "Compute Module 5", _named(PI, "Raspberry Pi Compute Module 5 Rev 1.0"), "generic-aarch64-linux", 11,
        "unknown, using generic-aarch64-linux: no profile is for the board 'Raspberry Pi Compute Module 5 Rev 1.0' "
        f"(/proc/device-tree/model); {AARCH64}",
    ),
    Case(
        "an Arm server", trees.AARCH64_SERVER, "generic-aarch64-linux", 11,
        f"unknown, using generic-aarch64-linux: nothing here names the machine; {AARCH64}",
    ),
    Case(
        "a 32-bit system on a 64-bit kernel", PI_4B_32BIT, "raspberry-pi-4b-32bit", 211,
        "board 'Raspberry Pi 4 Model B Rev 1.4' (/proc/device-tree/model); architecture 'armv7l' (/bin/sh (ELF header); "
        f"the kernel's is 'aarch64', /proc/cpuinfo (CPU architecture)); {LINUX}",
    ),
    Case(
        "a PC", trees.X86_64_PC, "generic-x86_64-avx512vnni-linux", 17,
        "unknown, using generic-x86_64-avx512vnni-linux: nothing here names the machine; "
        "architecture 'x86_64' (/proc/sys/kernel/arch); processor features 'avx2', 'avx512f', 'avx512_vnni' "
        f"(/proc/cpuinfo (flags)); {LINUX}",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_score_and_reason(tmp_path: Path, case: Case) -> None:
    """What holds is in the reason with where it was read, and a general profile says what it knows no better for."""
    detection = detect(read_host(trees.plant(tmp_path / "root", case.files)))
    assert detection.profile is not None
    assert (detection.profile.id, detection.reason) == (case.expected, case.reason)
    assert (detection.candidates[0].profile_id, detection.candidates[0].score) == (case.expected, case.score)


def test_why_others_do_not_fit(tmp_path: Path) -> None:
    """Each profile that fits less has its score, each that does not the rules that failed."""
    host = read_host(trees.plant(tmp_path / "root", {**PI, "bin/sh": trees.elf("aarch64")}))
    found = {item.profile_id: item for item in detect(host).candidates}
    assert (found["raspberry-pi-5"].score, found["generic-aarch64-linux"].score) == (211, 11)
    assert found["generic-x86_64-linux"].reasons == (
        "architecture is 'aarch64' (/bin/sh (ELF header)), 'x86_64' was expected",
    )
    assert found["rk3588"].reasons[0] == (
        "device tree 'rockchip,rk3588' or 'rockchip,rk3588s' not among those found "
        "(/sys/firmware/devicetree/base/compatible)"
    )
    assert (
        found["generic-x86_64-avx2-linux"].reasons[1] == "the processor does not have avx2 (/proc/cpuinfo (Features))"
    )
    assert found["generic-android-arm64"].reasons == (
        "operating system is 'Linux' (/proc/sys/kernel/ostype), 'Android' was expected",
    )
    assert found["coral-usb"].reasons == (
        "USB device '1a6e:089a' or '18d1:9302' not among those found (/sys/bus/usb/devices)",
    )


def test_what_is_attached(tmp_path: Path) -> None:
    """An accessory is found beside the machine, and never is the machine."""
    detection = detect(read_host(trees.plant(tmp_path / "root", {**PI, **trees.CORAL_USB})))
    assert detection.profile is not None
    assert detection.profile.id == "raspberry-pi-5"
    assert [item.id for item in detection.attached] == ["coral-usb"]
    assert [item.profile_id for item in detection.candidates][-1] == "coral-usb"
    assert detection.candidates[-1].reasons == ("USB device '18d1:9302' (/sys/bus/usb/devices)",)
    alone = detect(HostFacts(usb_ids=Fact(("1a6e:089a",), "/sys/bus/usb/devices")))
    assert (alone.profile, [item.id for item in alone.attached]) == (None, ["coral-usb"])


def test_an_accessory_needs_one_of_its_ids(own_folder: Path) -> None:
    """On USB or on PCI: one id is enough, and the machine's own rules do not count."""
    rules = 'usb_ids = ["1234:5678"]\npci_ids = ["abcd:ef01"]'
    text = OWN.format(id="gadget", rules=rules).replace("schema = 1", 'schema = 2\nrole = "accessory"')
    (own_folder / "gadget.toml").write_text(text)
    for host in (HostFacts(usb_ids=Fact(("1234:5678",), "a")), HostFacts(pci_ids=Fact(("abcd:ef01",), "b"))):
        for thorough in (True, False):
            assert [item.id for item in detect(host, thorough=thorough).attached] == ["gadget"]
    assert detect(HostFacts(usb_ids=Fact(("1234:5679",), "a"))).attached == ()


NOTHING_FITS = {
    "Windows": HostFacts(system=Fact("Windows", "sys.platform"), machine=Fact("AMD64", "PROCESSOR_ARCHITECTURE")),
    "macOS on an Intel processor": HostFacts(system=Fact("Darwin", "uname"), machine=Fact("x86_64", "uname")),
    "ARMv6": HostFacts(system=Fact("Linux", "uname"), machine=Fact("armv6l", "uname")),
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
    assert {item.score for item in detection.candidates} == {0}


def test_a_translated_python_on_a_mac() -> None:
    """The programs' architecture decides: an Intel Python that Rosetta translates cannot load Arm libraries."""
    host = HostFacts(
        system=Fact("Darwin", "uname"),
        machine=Fact("arm64", "sysctl hw.optional.arm64"),
        userland=Fact("x86_64", "uname"),
    )
    assert detect(host).profile is None
    profile = detect(host._replace(userland=Fact("arm64", "uname"))).profile
    assert profile is not None
    assert profile.id == "apple-m-series"


@pytest.mark.parametrize(("product", "expected"), [("Box 2", True), ("Box 2 Rev B", True), ("Box 20", False)])
def test_a_product_of_the_users_own(own_folder: Path, product: str, expected: bool) -> None:
    """A profile can name a product by the beginning of its name, in whole words."""
    text = OWN.format(id="box", rules='product = ["Box 2"]').replace("schema = 1", "schema = 2")
    (own_folder / "box.toml").write_text(text)
    host = HostFacts(product=Fact(product, "/sys/class/dmi/id/product_name"))
    assert (detect(host).profile is not None) == expected
    assert (detect(host, thorough=False).profile is not None) == expected


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
    text = f"{own_folder / 'generic-x86_64-linux.toml'}: schema 99 was seen, this edgekit reads up to {SCHEMA}. Update edgekit."
    assert [record.getMessage() for record in caplog.records] == [
        f"a device profile is left out of the detection: {text}"
    ]
    assert detection.candidates[-1].reasons == (f"not valid: {text}",)


def test_the_quick_way_leaves_out_what_cannot_fit(own_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file whose rules do not hold is not even parsed, nor is one that fits less than another."""
    host = HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname"))
    damaged = OWN.format(id="other", rules='machine = ["riscv64"]').replace("[threads]", "[threads")
    (own_folder / "other.toml").write_text(damaged)
    (own_folder / "zzz.toml").write_text(OWN.format(id="zzz", rules='system = ["Linux"]'))
    quick = detect(host, thorough=False)
    assert [item.profile_id for item in quick.candidates] == ["generic-x86_64-linux"]
    assert caplog.records == []
    assert "other" in [item.profile_id for item in detect(host).candidates]
    assert len(caplog.records) == 1


def test_the_quick_way_goes_on_after_a_damaged_profile(own_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The best fitting file is not valid: it is left out with one log record, and the next best is found."""
    host = HostFacts(system=Fact("Linux", "uname"), machine=Fact("x86_64", "uname"))
    rules = 'machine = ["x86_64"]\nsystem = ["Linux"]'
    (own_folder / "aaa.toml").write_text(OWN.format(id="aaa", rules=rules).replace("default = 1", "default = 0"))
    quick = detect(host, thorough=False)
    assert quick.profile is not None
    assert quick.profile.id == "generic-x86_64-linux"
    assert [item.reasons[0][:10] for item in quick.candidates if item.profile_id == "aaa"] == ["not valid:"]
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
