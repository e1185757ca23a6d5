"""``edgekit_profiles.parse``: what a file may hold, in each version of the format, and what is wrong with one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import profile_texts
import pytest

from edgekit.errors import ProfileError
from edgekit_profiles import load_profile
from edgekit_profiles.loader import check_file
from edgekit_profiles.parse import check_profile, parse_profile
from edgekit_profiles.profile import (
    SCHEMA,
    Accelerator,
    Cluster,
    DelegateRule,
    DeviceProfile,
    MatchRules,
    Memory,
    RuntimeWheel,
    Thermal,
    ThreadAdvice,
)
from edgekit_profiles.toml_table import LIMIT_PROBLEMS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MINE = profile_texts.MINE


def parsed(text: str) -> DeviceProfile:
    """The profile of a text."""
    return parse_profile(tomllib.loads(text), "mine.toml", user=True)


def messages(text: str) -> list[str]:
    """Everything that is wrong with a text."""
    profile, problems = check_profile(tomllib.loads(text), "mine.toml", user=True)
    assert (profile is None) == bool(problems)
    return [str(item) for item in problems]


def test_every_key() -> None:
    """Each key reaches the profile, and what is not known is ``None``."""
    assert parsed(MINE) == DeviceProfile(
        schema=SCHEMA,
        id="mine",
        name="My board",
        role="machine",
        match=MatchRules(
            system=("Linux",),
            machine=("aarch64",),
            device_tree_model=("My Board",),
            device_tree_compatible=("me,my-board",),
            cpu_flags=("asimd", "asimddp"),
            usb_ids=("18d1:9302",),
            pci_ids=("1ac1:089a",),
            product=("My Product",),
            source="its boot log",
        ),
        clusters=(Cluster("cores", 2, 1_000_000_000, None, "its data sheet"),),
        memory=Memory((536_870_912,), "its data sheet"),
        accelerators=(Accelerator("its NPU", "npu", None, "its data sheet"),),
        delegates=(
            DelegateRule("xnnpack", (), ("Slow.",), "tried", {"weight_cache": "/var/cache/mine"}),
            DelegateRule("none", (), (), "tried", {}),
        ),
        fallback=("xnnpack", "none"),
        threads=ThreadAdvice(2, (1, 2), "measured"),
        runtimes=(RuntimeWheel("ai-edge-litert", "2.3.0", ("3.11",), ("Large.",), "installed", ("aarch64",)),),
        thermal=Thermal(None, 95.0, "its data sheet"),
        origin="mine.toml",
        user=True,
    )


def test_a_file_of_the_first_schema() -> None:
    """It is still read; what came later is as if nobody had said anything."""
    profile = parsed(profile_texts.MINE_OF_SCHEMA_1)
    assert profile.schema == 1
    assert (profile.role, profile.fallback) == ("machine", None)
    assert profile.match == MatchRules(
        (), ("aarch64",), ("My Board",), (), (), (), (), (), "its boot log"
    )  # fmt: skip
    assert profile.delegates == (DelegateRule("xnnpack", (), (), "tried", {}),)
    assert [item.machines for item in profile.runtimes] == [None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "My board"', 'name = "My board"\nrole = "machine"', "top level: the key 'role' was seen"),
        ('name = "My board"', 'name = "My board"\nfallback = ["xnnpack"]', "top level: the key 'fallback' was seen"),
        ("[match]", '[match]\ncpu_flags = ["asimd"]', "[match]: the key 'cpu_flags' was seen"),
        ('pythons = ["3.11"]', 'pythons = ["3.11"]\nmachines = []', "[[runtimes]] number 1: the key 'machines' was seen"),
        ("needs = []", "needs = []\noptions = {}", "[[delegates]] number 1: the key 'options' was seen"),
    ],
    ids=["role", "fallback", "cpu_flags", "machines", "options"],
)  # fmt: skip
def test_a_newer_key_in_a_file_of_the_first_schema(old: str, new: str, message: str) -> None:
    """The message says which schema has it."""
    assert messages(profile_texts.MINE_OF_SCHEMA_1.replace(old, new, 1)) == [
        f"mine.toml: {message}, which a file of schema 1 does not have: schema = 2 was expected."
    ]


def test_an_accessory() -> None:
    """It is recognised by its ids alone, and needs no cores or memory."""
    profile = parsed(profile_texts.GADGET)
    assert (profile.role, profile.clusters, profile.memory) == ("accessory", (), None)
    assert profile.match is not None
    assert profile.match.usb_ids == ("0bda:2838",)


def test_an_empty_fallback() -> None:
    """It means that nothing is fallen back to, which is not the same as saying nothing."""
    assert parsed(MINE.replace('fallback = ["xnnpack", "none"]', "fallback = []")).fallback == ()
    assert parsed(MINE.replace('fallback = ["xnnpack", "none"]', "")).fallback is None


def test_to_json() -> None:
    """Options are a plain dict."""
    data: dict[str, Any] = parsed(MINE).to_json()
    assert data["delegates"][0]["options"] == {"weight_cache": "/var/cache/mine"}
    assert data["match"]["product"] == ["My Product"]
    assert data["fallback"] == ["xnnpack", "none"]


@dataclass(frozen=True)
class Wrong:
    """A profile that is wrong: what is replaced in ``MINE`` by what, and the message without the file's name."""

    name: str
    old: str
    new: str
    message: str


HZ = "a whole number from 1000000 to 100000000000, in hertz,"
WRONG = (
    Wrong("no schema", "schema = 2", "", "top level: the key 'schema' is missing, a whole number from 1 to 2 was expected."),
    Wrong("schema is text", "schema = 2", 'schema = "2"', "top level, key 'schema': '2' was seen, a whole number from 1 to 2 was"),
    Wrong("schema is zero", "schema = 2", "schema = 0", "top level, key 'schema': 0 was seen, a whole number from 1 to 2 was"),
    Wrong("schema is true", "schema = 2", "schema = true", "top level, key 'schema': True was seen, a whole number from 1 to 2"),
    Wrong("newer schema", "schema = 2", "schema = 3", "schema 3 was seen, this edgekit reads up to 2. Update edgekit."),
    Wrong("no name", 'name = "My board"', "", "top level: the key 'name' is missing, a text was expected."),
    Wrong("empty name", 'name = "My board"', 'name = " "', "top level, key 'name': ' ' was seen, a text that is not empty was"),
    Wrong("id with capitals", 'id = "mine"', 'id = "Mine!"', "top level, key 'id': 'Mine!' was seen, lower-case letters, digits"),
    Wrong("id that starts with a dot", 'id = "mine"', 'id = ".mine"', "top level, key 'id': '.mine' was seen, lower-case"),
    Wrong("unknown role", 'role = "machine"', 'role = "robot"', "top level, key 'role': 'robot' was seen, one of machine, acc"),
    Wrong(
        "megahertz for hertz", "1_000_000_000", "1000",
        f"[[clusters]] number 1, key 'max_hz': 1000 was seen, {HZ} was expected.",
    ),
    Wrong(
        "a number with its unit", "1_000_000_000", '"1 GHz"',
        f"[[clusters]] number 1, key 'max_hz': '1 GHz' was seen, {HZ} was expected.",
    ),
    Wrong(
        "key in megahertz", "max_hz = 1_000_000_000", "max_mhz = 1000",
        "[[clusters]] number 1: the key 'max_mhz' was seen, 'max_hz', in hertz, was expected.",
    ),
    Wrong(
        "key in megahertz beside the right one", "cores = 2", "cores = 2\nmax_mhz = 1000",
        "[[clusters]] number 1: the key 'max_mhz' was seen, 'max_hz', in hertz, was expected.",
    ),
    Wrong(
        "key in Fahrenheit", "limit_c = 95", "limit_f = 203",
        "[thermal]: the key 'limit_f' was seen, 'limit_c', in degrees Celsius, was expected.",
    ),
    Wrong(
        "key without its unit", "limit_c = 95", "limit = 95",
        "[thermal]: the key 'limit' was seen, 'limit_c', in degrees Celsius, was expected.",
    ),
    Wrong(
        "key in megabytes", "sizes_bytes = [536_870_912]", "size_mb = [512]",
        "[memory]: the key 'size_mb' was seen, 'sizes_bytes', in bytes, was expected.",
    ),
    Wrong(
        "megabytes for bytes", "[536_870_912]", "[512]",
        "[memory], key 'sizes_bytes': 512 was seen, a whole number from 1048576 to 1125899906842624, in bytes, was expected.",
    ),
    Wrong(
        "millidegrees for degrees", "limit_c = 95", "limit_c = 95_000",
        "[thermal], key 'limit_c': 95000 was seen, a number from -50 to 200, in degrees Celsius, was expected.",
    ),
    Wrong("not a number", "limit_c = 95", "limit_c = nan", "[thermal], key 'limit_c': nan was seen, a number from -50 to 200"),
    Wrong(
        "missing fact", "limit_c = 95", "",
        "[thermal]: the key 'limit_c' is missing, a number from -50 to 200, in degrees Celsius, or 'unknown', was expected.",
    ),
    Wrong(
        "misspelt key", "features = ", "feature = ",
        "[[clusters]] number 1: the key 'feature' was seen, which does not exist. Did you mean 'features'? Keys that exist "
        "there: name, cores, max_hz, features, source.",
    ),
    Wrong(
        "misspelt table", "[thermal]", "[termal]",
        "top level: the key 'termal' was seen, which does not exist. Did you mean 'thermal'?",
    ),
    Wrong("key like no other", "cores = 2", "cores = 2\nzzz = 1", "[[clusters]] number 1: the key 'zzz' was seen, which does not exist. Keys"),
    Wrong("a boolean for a number", "cores = 2", "cores = true", "[[clusters]] number 1, key 'cores': True was seen, a whole number"),
    Wrong(
        "a number too long to print", "cores = 2", "cores = 0x" + "f" * 9000,
        "[[clusters]] number 1, key 'cores': a number of thousands of digits was seen, a whole number from 1 to 4096 was expected.",
    ),
    Wrong("a long text", "cores = 2", f'cores = "{"x" * 500}"', f"[[clusters]] number 1, key 'cores': '{'x' * 76}... was seen, a whole"),
    Wrong("text for a list", '["aarch64"]', '"aarch64"', "[match], key 'machine': 'aarch64' was seen, a list of texts was expected."),
    Wrong("numbers in a list of texts", '["aarch64"]', "[64]", "[match], key 'machine': 64 was seen, a text that is not empty was"),
    Wrong("empty list", "worth_trying = [1, 2]", "worth_trying = []", "[threads], key 'worth_trying': [] was seen, a list of whole"),
    Wrong("a wrong number in a list", "[1, 2]", "[1, 0, -1]", "[threads], key 'worth_trying': 0 was seen, a whole number from 1"),
    Wrong(
        "an id in capitals", "18d1:9302", "18D1:9302",
        "[match], key 'usb_ids': '18D1:9302' was seen, a vendor's and a product's number such as '18d1:9302', in lower case, was",
    ),
    Wrong("an id without a colon", "1ac1:089a", "1ac1089a", "[match], key 'pci_ids': '1ac1089a' was seen, a vendor's and a"),
    Wrong("unknown delegate", '"xnnpack"\nneeds', '"xnpack"\nneeds', "[[delegates]] number 1, key 'kind': 'xnpack' was seen, one of"),
    Wrong("unknown need", "needs = []", 'needs = ["luck"]', "[[delegates]] number 1, key 'needs': 'luck' was seen, one of vulkan-"),
    Wrong("needs twice", "needs = []", 'needs = ["npu-library", "npu-library"]', "key 'needs': ['npu-library', 'npu-library'] was seen, each of"),
    Wrong("no needs", "needs = []", "", "[[delegates]] number 1: the key 'needs' is missing, a list of some of vulkan-driver, "),
    Wrong(
        "delegate twice", "[threads]", '[[delegates]]\nkind = "none"\nneeds = []\nsource = "tried"\n[threads]',
        "[[delegates]] number 3, key 'kind': 'none' was seen, each delegate once was expected.",
    ),
    Wrong("options that are no table", '{ weight_cache = "/var/cache/mine" }', '"fast"', "[[delegates]] number 1, key 'options': 'fast' was"),
    Wrong("an option that is no text", '"/var/cache/mine"', "1", "[[delegates]] number 1, key 'options.weight_cache': 1 was seen, a text"),
    Wrong("fallback that is not listed", '["xnnpack", "none"]', '["gpu"]', "top level, key 'fallback': 'gpu' was seen, one of xnnpack, none was"),
    Wrong("fallback that is no list", '["xnnpack", "none"]', '"none"', "top level, key 'fallback': 'none' was seen, a list of some of xnnp"),
    Wrong("a table for a list of tables", "[[clusters]]", "[clusters]", "top level, key 'clusters': {'name': 'cores', "),
    Wrong("a list of tables for a table", "[threads]", "[[threads]]", "top level, key 'threads': [{'default': 2"),
    Wrong("no machines", 'machines = ["aarch64"]\n', "", "[[runtimes]] number 1: the key 'machines' is missing, a list of texts, or 'unknown', was"),
    Wrong("no source", 'source = "measured"', "", "[threads]: the key 'source' is missing, a text that says where this is known from was"),
    Wrong("facts of unknown source", 'source = "measured"', 'source = "unknown"', "[threads], key 'source': 'unknown' was seen, where"),
    Wrong("one fact of unknown source", 'source = "its data sheet"\n\n[memory]', 'source = "unknown"\n\n[memory]', "[[clusters]] number 1, key 'source'"),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_file(wrong: Wrong) -> None:
    """One mistake is one message: it names the file, the table and the key, what was seen and what was expected."""
    assert MINE.count(wrong.old) >= 1
    (found,) = messages(MINE.replace(wrong.old, wrong.new, 1))
    assert found.startswith("mine.toml: ")
    assert wrong.message in found


def test_no_delegates() -> None:
    """A profile without delegates is no help."""
    start, end = MINE.index("[[delegates]]"), MINE.index("[threads]")
    assert messages(MINE[:start] + MINE[end:]) == [
        "mine.toml: top level: the key 'delegates' is missing, at least one table [[delegates]] was expected."
    ]


def test_no_threads() -> None:
    """Of a table that is missing only that is said, not what it lacks."""
    start, end = MINE.index("[threads]"), MINE.index("[[runtimes]]")
    assert messages(MINE[:start] + MINE[end:]) == [
        "mine.toml: top level: the key 'threads' is missing, a table [threads] was expected."
    ]


def test_match_without_a_rule() -> None:
    """It would fit every machine or none."""
    start, end = MINE.index("system = "), MINE.index('source = "its boot log"')
    (found,) = messages(MINE[:start] + MINE[end:])
    assert found.startswith(
        "mine.toml: [match]: no rule was seen, at least one of system, machine, device_tree_model, "
    )
    assert found.endswith(" was expected (or no table [match] at all).")


def test_an_accessory_with_a_machines_rule() -> None:
    """What it is attached to has a profile of its own."""
    assert messages(profile_texts.GADGET.replace("[match]", '[match]\nmachine = ["aarch64"]')) == [
        "mine.toml: [match]: the key 'machine' was seen. An accessory is recognised by usb_ids or pci_ids alone: the machine "
        "that it is attached to has a profile of its own."
    ]


def test_everything_at_once() -> None:
    """All mistakes of a file are told, in the order of its tables; loading tells the first and how many more there are."""
    text = MINE.replace("max_hz", "max_mhz").replace("limit_c", "limit_f").replace("default = 2", 'default = "two"')
    assert messages(text) == [
        "mine.toml: [[clusters]] number 1: the key 'max_mhz' was seen, 'max_hz', in hertz, was expected.",
        "mine.toml: [threads], key 'default': 'two' was seen, a whole number from 1 to 1024 was expected.",
        "mine.toml: [thermal]: the key 'limit_f' was seen, 'limit_c', in degrees Celsius, was expected.",
    ]
    with pytest.raises(ProfileError) as caught:
        parsed(text)
    assert str(caught.value) == (
        "mine.toml: [[clusters]] number 1: the key 'max_mhz' was seen, 'max_hz', in hertz, was expected. "
        "2 more things are wrong with it: edgekit devices validate lists everything."
    )
    with pytest.raises(
        ProfileError, match=r" 1 more thing is wrong with it: edgekit devices validate lists everything\.$"
    ):
        parsed(MINE.replace("max_hz", "max_mhz").replace("limit_c", "limit_f"))


def test_a_file_that_is_nothing_but_mistakes() -> None:
    """The list ends somewhere, and soon."""
    text = MINE + "".join(f"key_{number} = {number}\n" for number in range(20_000))
    assert len(messages(text)) == LIMIT_PROBLEMS


def test_a_problem_as_json() -> None:
    """The file, the table, the key, what was seen and what was expected, and all of it in a sentence."""
    _, problems = check_profile(tomllib.loads(MINE.replace("cores = 2", "cores = 0")), "mine.toml", user=True)
    assert [item.to_json() for item in problems] == [
        {
            "file": "mine.toml",
            "table": "[[clusters]] number 1",
            "key": "cores",
            "seen": "0",
            "expected": "a whole number from 1 to 4096",
            "message": "mine.toml: [[clusters]] number 1, key 'cores': 0 was seen, a whole number from 1 to 4096 was expected.",
        }
    ]


def test_checking_a_file(tmp_path: Path) -> None:
    """A file that is no TOML is one problem, a file that cannot be read an error."""
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    profile, problems = check_file(str(path))
    assert (profile, problems) == (load_profile(path), ())
    path.write_text("schema: 2")
    profile, (problem,) = check_file(str(path))
    assert profile is None
    assert (problem.table, problem.key, problem.expected) == (None, None, "a TOML file")
    assert str(problem).startswith(f"{path}: is not valid TOML: ")
    with pytest.raises(ProfileError, match=r"^no such device profile: .*missing\.toml\."):
        check_file(str(tmp_path / "missing.toml"))
