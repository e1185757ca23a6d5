"""What a profile's TOML holds, checked: each key once, with its type and range, and none that does not exist.

Errors name the file, the table and the key, what was seen and what was expected. Files of older schemas are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgekit.errors import ProfileError
from edgekit.runtime.delegates import KINDS
from edgekit_profiles.profile import (
    NEEDS,
    ROLES,
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
from edgekit_profiles.toml_table import Problem, Table
from edgekit_profiles.toml_table import closest as closest

_ACCELERATOR_KINDS = ("gpu", "edgetpu", "npu")
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
#: A number above this is no schema to come but a mistake.
_LATER = 1_000_000
#: What an accessory is recognised by; everything else is the machine's.
_ACCESSORY_RULES = ("usb_ids", "pci_ids")


def parse_profile(data: Mapping[str, Any], origin: str, *, user: bool) -> DeviceProfile:
    """Check what a TOML file holds and make a profile of it.

    Args:
        data: the file as a dict.
        origin: the file's name, for messages.
        user: whether it is the user's own.

    Raises:
        ProfileError: a key is missing, unknown or of the wrong type, a value is out of range, or the schema is newer.
            With several of these it tells the first, and how many there are.
    """
    profile, problems = check_profile(data, origin, user=user)
    if profile is None:
        more = len(problems) - 1
        others = "1 more thing is" if more == 1 else f"{more} more things are"
        advice = f" {others} wrong with it: edgekit devices validate lists everything." if more else ""
        raise ProfileError(f"{problems[0]}{advice}")
    return profile


def check_profile(
    data: Mapping[str, Any], origin: str, *, user: bool
) -> tuple[DeviceProfile | None, tuple[Problem, ...]]:
    """Check what a TOML file holds, all of it.

    Args:
        data: the file as a dict.
        origin: the file's name, for messages.
        user: whether it is the user's own.

    Returns:
        The profile and nothing, or ``None`` and everything that is wrong.
    """
    problems: list[Problem] = []
    schema = data.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or not 1 <= schema <= _LATER:
        schema = SCHEMA  # reading the key will say what is wrong with it
    if schema > SCHEMA:
        text = f"schema {schema} was seen, this edgekit reads up to {SCHEMA}. Update edgekit."
        expected = f"a whole number from 1 to {SCHEMA}"
        return None, (Problem(origin, "top level", "schema", str(schema), expected, text),)
    top = Table(origin, "top level", data, schema, problems)
    profile = _profile(top, origin, user)
    return (None, tuple(problems)) if problems else (profile, ())


def _profile(top: Table, origin: str, user: bool) -> DeviceProfile:
    schema = top.integer("schema", 1, SCHEMA)
    profile_id = top.text("id")
    if profile_id and (not set(profile_id) <= _ID_CHARACTERS or not profile_id[0].isalnum()):
        top.wrong("id", profile_id, "lower-case letters, digits, '-', '_' and '.'")
    name = top.text("name")
    role = top.choice("role", ROLES, default="machine")
    match, memory, thermal = top.table("match"), top.table("memory"), top.table("thermal")
    delegates = _delegates(top)
    listed = tuple(dict.fromkeys(rule.kind for rule in delegates)) or KINDS
    return top.done(
        DeviceProfile(
            schema=schema,
            id=profile_id,
            name=name,
            role=role,
            match=_match(match, role, schema) if match else None,
            clusters=tuple(_cluster(item) for item in top.tables("clusters")),
            memory=_memory(memory) if memory else None,
            accelerators=tuple(_accelerator(item) for item in top.tables("accelerators")),
            delegates=delegates,
            # An accessory's fallbacks are the machine's delegates; a machine's are among those that it lists.
            fallback=top.choices("fallback", KINDS if role == "accessory" else listed),
            threads=_threads(top.required_table("threads")),
            runtimes=tuple(_runtime(item) for item in top.tables("runtimes")),
            thermal=_thermal(thermal) if thermal else None,
            origin=origin,
            user=user,
        )
    )


def _match(table: Table, role: str, schema: int) -> MatchRules:
    rules = MatchRules(
        system=table.texts("system"),
        machine=table.texts("machine"),
        device_tree_model=table.texts("device_tree_model"),
        device_tree_compatible=table.texts("device_tree_compatible"),
        cpu_flags=table.texts("cpu_flags"),
        usb_ids=table.device_ids("usb_ids"),
        pci_ids=table.device_ids("pci_ids"),
        product=table.texts("product"),
        source=table.source(),
    )
    given = [key for key in MatchRules._fields if key != "source" and table.has(key)]
    if role == "accessory":
        for key in given:
            if key not in _ACCESSORY_RULES:
                expected = f"{' or '.join(_ACCESSORY_RULES)}"
                table.report(
                    key, key, expected,
                    f": the key {key!r} was seen. An accessory is recognised by {expected} alone: "
                    "the machine that it is attached to has a profile of its own.",
                )  # fmt: skip
    if not given and schema >= 2:
        expected = f"at least one of {', '.join(key for key in MatchRules._fields if key != 'source')}"
        table.report(None, None, expected, f": no rule was seen, {expected} was expected (or no table [match] at all).")
    return table.done(rules)


def _cluster(table: Table) -> Cluster:
    return table.done(
        Cluster(
            name=table.text("name"),
            cores=table.integer_or_unknown("cores", 1, 4096),
            max_hz=table.integer_or_unknown("max_hz", 1_000_000, 100_000_000_000),
            features=table.texts_or_unknown("features"),
            source=table.source(),
        )
    )


def _memory(table: Table) -> Memory:
    sizes = table.integers_or_unknown("sizes_bytes", 1024 * 1024, 1 << 50)
    return table.done(Memory(sizes, table.source()))


def _accelerator(table: Table) -> Accelerator:
    return table.done(
        Accelerator(
            name=table.text("name"),
            kind=table.choice("kind", _ACCELERATOR_KINDS),
            interfaces=table.texts_or_unknown("interfaces"),
            source=table.source(),
        )
    )


def _delegates(top: Table) -> tuple[DelegateRule, ...]:
    rules: list[DelegateRule] = []
    for table in top.tables("delegates", required=True):
        kind = table.choice("kind", KINDS)
        if any(rule.kind == kind for rule in rules) and table.has("kind"):
            table.wrong("kind", kind, "each delegate once")
        rule = DelegateRule(
            kind=kind,
            needs=table.choices("needs", NEEDS, required=True) or (),
            limits=table.texts("limits"),
            source=table.source(),
            options=MappingProxyType(table.options("options")),
        )
        rules.append(table.done(rule))
    return tuple(rules)


def _threads(table: Table) -> ThreadAdvice:
    default = table.integer("default", 1, 1024)
    worth_trying = table.integers("worth_trying", 1, 1024)
    return table.done(ThreadAdvice(default, worth_trying, table.source()))


def _runtime(table: Table) -> RuntimeWheel:
    return table.done(
        RuntimeWheel(
            package=table.text("package"),
            version=table.text("version"),
            pythons=table.texts_or_unknown("pythons"),
            limits=table.texts("limits"),
            source=table.source(),
            machines=table.texts_or_unknown("machines"),
        )
    )


def _thermal(table: Table) -> Thermal:
    return table.done(
        Thermal(
            throttle_from_c=table.number_or_unknown("throttle_from_c", -50, 200),
            limit_c=table.number_or_unknown("limit_c", -50, 200),
            source=table.source(),
        )
    )
