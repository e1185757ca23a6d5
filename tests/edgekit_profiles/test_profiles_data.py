"""Edgekit's own device profiles: what is delivered, that every fact has a source, and what holds for all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import profile_texts
import pytest

import edgekit_profiles
from edgekit.runtime.delegates import KINDS
from edgekit_profiles import DeviceProfile, list_profiles, load_profile
from edgekit_profiles.detect import _WEIGHTS
from edgekit_profiles.loader import glance, profile_files
from edgekit_profiles.obstacles import _CHECKS
from edgekit_profiles.parse import check_profile
from edgekit_profiles.profile import NEEDS, SCHEMA, UNKNOWN, Accelerator, Cluster, Memory, Thermal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(edgekit_profiles.__file__).parent / "data"
IDS = (
    "apple-m-series", "coral-dev-board", "coral-usb", "generic-aarch64-linux", "generic-android-arm64",
    "generic-armv7-linux", "generic-x86_64-avx2-linux", "generic-x86_64-avx512vnni-linux", "generic-x86_64-linux",
    "jetson-orin-nano", "raspberry-pi-3b-plus", "raspberry-pi-3b-plus-32bit", "raspberry-pi-4b", "raspberry-pi-4b-32bit",
    "raspberry-pi-5", "raspberry-pi-5-32bit", "raspberry-pi-zero-2-w", "raspberry-pi-zero-2-w-32bit", "rk3588",
)  # fmt: skip
#: How each architecture's programs are named, and the Python wheels that they can install.
RUNTIMES = {
    "aarch64": ["ai-edge-litert", "tflite-runtime"],
    "arm64": ["ai-edge-litert", "tflite-runtime"],
    "x86_64": ["ai-edge-litert", "tflite-runtime"],
    "armv7l": ["tflite-runtime"],
    "armv8l": ["tflite-runtime"],
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No profiles of the user's own, so that those of who runs the tests do not count."""
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(tmp_path))


def parts(profile: DeviceProfile) -> list[object]:
    """Every part of a profile that has a source."""
    return [
        *(item for item in (profile.match, profile.memory, profile.thermal) if item is not None),
        *profile.clusters, *profile.accelerators, *profile.delegates, profile.threads, *profile.runtimes,
    ]  # fmt: skip


def test_the_ids() -> None:
    """What is delivered; each loads, is of the newest schema, and is not the user's."""
    profiles = list_profiles()
    assert [item.id for item in profiles] == list(IDS)
    assert {(item.user, item.schema) for item in profiles} == {(False, SCHEMA)}


@pytest.mark.parametrize("profile_id", IDS)
def test_every_fact_has_a_source(profile_id: str) -> None:
    """A source that is "unknown" stands only beside facts that are unknown (the loader refuses the rest)."""
    profile = load_profile(profile_id)
    assert profile.match is not None
    for part in parts(profile):
        fields: dict[str, object] = part._asdict()  # type: ignore[attr-defined]  # each part is a Record
        facts = [value for name, value in fields.items() if name not in ("name", "source")]
        assert fields["source"] != UNKNOWN or facts == [None] * len(facts)
        assert len(str(fields["source"])) >= len(UNKNOWN)


@pytest.mark.parametrize("profile_id", IDS)
def test_delegates(profile_id: str) -> None:
    """Each lists every delegate that its hardware may have, so that a plan gives a reason that fits the device for each."""
    profile = load_profile(profile_id)
    listed = sorted(rule.kind for rule in profile.delegates)
    if profile.role == "accessory":
        assert listed == sorted(item.kind for item in profile.accelerators)
    else:
        npu = ["npu"] if any(item.kind == "npu" for item in profile.accelerators) or "android" in profile_id else []
        assert listed == sorted([kind for kind in KINDS if kind != "npu"] + npu)
    assert profile.fallback is not None
    assert set(profile.fallback) <= {"xnnpack", "none"}


@pytest.mark.parametrize("profile_id", IDS)
def test_runtimes(profile_id: str) -> None:
    """Only interpreters with wheels for the programs there: none of LiteRT's for 32-bit Arm, none at all for Android."""
    profile = load_profile(profile_id)
    assert profile.match is not None
    packages = [item.package for item in profile.runtimes]
    if profile.role == "accessory" or profile.match.system == ("Android",):
        assert packages == []
    elif profile.match.system == ("Darwin",):
        assert [(item.package, item.machines) for item in profile.runtimes] == [("ai-edge-litert", ("arm64",))]
    else:
        for machine in profile.match.machine:
            assert packages == RUNTIMES[machine]
        for item in profile.runtimes:
            assert item.machines is not None
            assert {"armv8l": "armv7l", "arm64": "aarch64"}.get(
                profile.match.machine[0], profile.match.machine[0]
            ) in item.machines


@pytest.mark.parametrize("profile_id", IDS)
def test_threads(profile_id: str) -> None:
    """The number to start with is one of those worth trying, and no more than the device's alike cores."""
    profile = load_profile(profile_id)
    assert profile.threads.default in profile.threads.worth_trying
    if profile.clusters and profile.clusters[0].cores is not None:
        assert profile.threads.default <= profile.clusters[0].cores


@pytest.mark.parametrize("name", ["raspberry-pi-3b-plus", "raspberry-pi-4b", "raspberry-pi-5", "raspberry-pi-zero-2-w"])
def test_a_board_with_a_32_bit_system(name: str) -> None:
    """The board is the same; the programs, and so the runtimes and the features that they see, are not."""
    wide, narrow = load_profile(name), load_profile(f"{name}-32bit")
    assert wide.match is not None
    assert narrow.match is not None
    assert wide.match.device_tree_model == narrow.match.device_tree_model
    assert (wide.match.machine, narrow.match.machine) == (("aarch64",), ("armv7l", "armv8l"))
    assert [item.max_hz for item in wide.clusters] == [item.max_hz for item in narrow.clusters]
    assert (wide.memory.sizes_bytes if wide.memory else None) == (narrow.memory.sizes_bytes if narrow.memory else None)
    # The armv7l wheel of tflite-runtime has no XNNPACK, so its own kernels come first there.
    assert [rule.kind for rule in wide.delegates if rule.kind in ("xnnpack", "none")] == ["xnnpack", "none"]
    assert [rule.kind for rule in narrow.delegates if rule.kind in ("xnnpack", "none")] == ["none", "xnnpack"]


def test_what_recognises_a_profile_is_its_own() -> None:
    """No two profiles have the same rules: of two that fit alike the name would decide."""
    rules = [
        (profile.role, profile.match._replace(source="") if profile.match else None) for profile in list_profiles()
    ]
    assert len(rules) == len(set(rules)) == len(IDS)


def test_a_glance_sees_what_parsing_does() -> None:
    """The load path chooses among the files by their rules without parsing them."""
    for file in profile_files():
        profile = load_profile(file.id)
        assert profile.match is not None
        seen = glance(file)
        assert seen is not None
        assert seen.pop("role", ("machine",)) == (profile.role,)
        assert seen == {
            name: value for name, value in profile.match._asdict().items() if name != "source" and value != ()
        }


def test_every_need_is_checked_by_the_resolver() -> None:
    """A need that a profile can name is one that the resolver knows how to check."""
    assert sorted(_CHECKS) == sorted(NEEDS)


def test_the_facts_of_a_raspberry_pi_5() -> None:
    """Facts reach the profile with their units and sources."""
    profile = load_profile("raspberry-pi-5")
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


def test_the_facts_of_an_rk3588_board() -> None:
    """Two kinds of cores, a GPU and an NPU."""
    profile = load_profile("rk3588")
    assert [(item.name, item.cores, item.max_hz) for item in profile.clusters] == [
        ("Arm Cortex-A76", 4, 2_400_000_000),
        ("Arm Cortex-A55", 4, 1_800_000_000),
    ]
    assert [item.kind for item in profile.accelerators] == ["gpu", "npu"]
    assert [rule.needs for rule in profile.delegates if rule.kind == "npu"] == [("npu-library",)]
    assert profile.threads.default == 4


def test_the_coral_usb_accelerator() -> None:
    """Something attached to a machine, found by both of the ids that it has."""
    profile = load_profile("coral-usb")
    assert profile.role == "accessory"
    assert profile.match is not None
    assert profile.match.usb_ids == ("1a6e:089a", "18d1:9302")
    assert [rule.kind for rule in profile.delegates] == ["edgetpu"]


def test_the_readme_explains_every_key(tmp_path: Path) -> None:
    """Each key that a file can have stands in the table of its section of data/README.md."""
    text = (DATA / "README.md").read_text(encoding="utf-8")
    sections = {
        part.split("\n", 1)[0].split("`")[1] if "`" in part.split("\n", 1)[0] else part.split("\n", 1)[0]: part
        for part in text.split("\n## ")
    }
    (tmp_path / "mine.toml").write_text(profile_texts.MINE)
    profile = load_profile("mine")
    records = {
        "[match]": profile.match, "[[clusters]]": profile.clusters[0], "[memory]": profile.memory,
        "[[accelerators]]": profile.accelerators[0], "[[delegates]]": profile.delegates[0], "[threads]": profile.threads,
        "[[runtimes]]": profile.runtimes[0], "[thermal]": profile.thermal,
    }  # fmt: skip
    for section, part in records.items():
        assert part is not None
        explained = [line.split("`")[1] for line in sections[section].split("\n") if line.startswith("| `")]
        assert sorted(explained) == sorted(part._fields)
    tables = (
        "match",
        "clusters",
        "memory",
        "accelerators",
        "delegates",
        "threads",
        "runtimes",
        "thermal",
        "origin",
        "user",
    )
    top = [line.split("`")[1] for line in sections["Top level"].split("\n") if line.startswith("| `")]
    assert sorted(top) == sorted(name for name in profile._fields if name not in tables)
    for need in NEEDS:
        assert f"`{need}`" in sections["[[delegates]]"]


def test_the_page_about_profiles() -> None:
    """docs/device-profiles.md has a row for each profile, the points of each rule, and an example that is valid."""
    text = (Path(__file__).parents[2] / "docs" / "device-profiles.md").read_text(encoding="utf-8")
    for profile_id in IDS:
        assert f"| `{profile_id.removesuffix('-32bit')}`" in text
    points: dict[str, int] = {}
    for row in text.split("| rule | points |\n|---|---|\n")[1].split("\n\n")[0].split("\n"):
        _, rules, number, _ = row.split("|")
        points.update(dict.fromkeys(rules.split("`")[1::2], int(number)))
    assert points == _WEIGHTS
    example = text.split("```toml\n")[1].split("```")[0]
    assert check_profile(tomllib.loads(example), "my-board.toml", user=True)[1] == ()
