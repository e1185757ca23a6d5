"""What a profile's TOML holds, checked: each key once, with its type and range, and none that does not exist.

Errors name the file, the table and the key, what was seen and what was expected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from edgekit.errors import ProfileError
from edgekit.runtime.delegates import KINDS
from edgekit_profiles.profile import (
    NEEDS,
    SCHEMA,
    UNKNOWN,
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

T = TypeVar("T")

_ACCELERATOR_KINDS = ("gpu", "edgetpu", "npu")
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def closest(text: str, known: Collection[str]) -> str:
    """A sentence that names the most similar of some words, for the end of a message; empty when none is similar."""
    import difflib

    found = difflib.get_close_matches(text, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def parse_profile(data: Mapping[str, Any], origin: str, *, user: bool) -> DeviceProfile:
    """Check what a TOML file holds and make a profile of it.

    Args:
        data: the file as a dict.
        origin: the file's name, for messages.
        user: whether it is the user's own.

    Raises:
        ProfileError: a key is missing, unknown or of the wrong type, a value is out of range, or the schema is newer.
    """
    top = _Table(origin, "top level", data)
    schema = top.integer("schema", 1, 1_000_000)
    if schema > SCHEMA:
        raise ProfileError(f"{origin}: schema {schema} was seen, this edgekit reads up to {SCHEMA}. Update edgekit.")
    profile_id = top.text("id")
    if not set(profile_id) <= _ID_CHARACTERS or not profile_id[0].isalnum():
        raise top.wrong("id", profile_id, "lower-case letters, digits, '-', '_' and '.'")
    match, memory, thermal = top.table("match"), top.table("memory"), top.table("thermal")
    profile = DeviceProfile(
        schema=schema,
        id=profile_id,
        name=top.text("name"),
        match=_match(match) if match else None,
        clusters=tuple(_cluster(item) for item in top.tables("clusters")),
        memory=_memory(memory) if memory else None,
        accelerators=tuple(_accelerator(item) for item in top.tables("accelerators")),
        delegates=_delegates(top),
        threads=_threads(top.required_table("threads")),
        runtimes=tuple(_runtime(item) for item in top.tables("runtimes")),
        thermal=_thermal(thermal) if thermal else None,
        origin=origin,
        user=user,
    )
    top.finish()
    return profile


def _match(table: _Table) -> MatchRules:
    return table.done(
        MatchRules(
            system=table.texts("system"),
            machine=table.texts("machine"),
            device_tree_model=table.texts("device_tree_model"),
            source=table.source(),
        )
    )


def _cluster(table: _Table) -> Cluster:
    return table.done(
        Cluster(
            name=table.text("name"),
            cores=table.integer_or_unknown("cores", 1, 4096),
            max_hz=table.integer_or_unknown("max_hz", 1_000_000, 100_000_000_000),
            features=table.texts_or_unknown("features"),
            source=table.source(),
        )
    )


def _memory(table: _Table) -> Memory:
    sizes = table.integers_or_unknown("sizes_bytes", 1024 * 1024, 1 << 50)
    return table.done(Memory(sizes, table.source()))


def _accelerator(table: _Table) -> Accelerator:
    return table.done(
        Accelerator(
            name=table.text("name"),
            kind=table.choice("kind", _ACCELERATOR_KINDS),
            interfaces=table.texts_or_unknown("interfaces"),
            source=table.source(),
        )
    )


def _delegates(top: _Table) -> tuple[DelegateRule, ...]:
    rules: list[DelegateRule] = []
    for table in top.required_tables("delegates"):
        kind = table.choice("kind", KINDS)
        if any(rule.kind == kind for rule in rules):
            raise table.wrong("kind", kind, "each delegate once")
        needs = table.texts("needs", required=True)
        for need in needs:
            if need not in NEEDS:
                raise table.wrong("needs", need, f"one of {', '.join(NEEDS)}")
        rules.append(table.done(DelegateRule(kind, needs, table.texts("limits"), table.source())))
    return tuple(rules)


def _threads(table: _Table) -> ThreadAdvice:
    default = table.integer("default", 1, 1024)
    worth_trying = table.integers("worth_trying", 1, 1024)
    return table.done(ThreadAdvice(default, worth_trying, table.source()))


def _runtime(table: _Table) -> RuntimeWheel:
    return table.done(
        RuntimeWheel(
            package=table.text("package"),
            version=table.text("version"),
            pythons=table.texts_or_unknown("pythons"),
            limits=table.texts("limits"),
            source=table.source(),
        )
    )


def _thermal(table: _Table) -> Thermal:
    return table.done(
        Thermal(
            throttle_from_c=table.number_or_unknown("throttle_from_c", -50, 200),
            limit_c=table.number_or_unknown("limit_c", -50, 200),
            source=table.source(),
        )
    )


class _Table:
    """One TOML table being read: each key once, with its type and range checked."""

    def __init__(self, origin: str, name: str, data: Mapping[str, Any]) -> None:
        self._origin = origin
        self._name = name
        self._data = data
        self._read: list[str] = []
        self._facts: list[object] = []

    def wrong(self, key: str, seen: object, expected: str) -> ProfileError:
        """The error for a value that is not right."""
        shown = repr(seen)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return ProfileError(f"{self._origin}: {self._name}, key {key!r}: {shown} was seen, {expected} was expected.")

    def _get(self, key: str, expected: str, *, required: bool) -> Any:
        self._read.append(key)
        if key not in self._data and required:
            raise ProfileError(f"{self._origin}: {self._name}: the key {key!r} is missing, {expected} was expected.")
        return self._data.get(key)

    def text(self, key: str) -> str:
        """A string that is not empty."""
        return self._text(key, self._get(key, "a text", required=True))

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, value, "a text that is not empty")
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """One of some words."""
        expected = f"one of {', '.join(allowed)}"
        value = self._get(key, expected, required=True)
        if value not in allowed:
            raise self.wrong(key, value, expected)
        return str(value)

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of strings; empty when it is absent and need not be there."""
        value = self._get(key, "a list of texts", required=required)
        return () if value is None else self._texts(key, value)

    def _texts(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise self.wrong(key, value, "a list of texts")
        return tuple(self._text(key, item) for item in value)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number."""
        value = self._get(key, f"a whole number from {low} to {high}", required=True)
        return self._integer(key, value, low, high)

    def _integer(self, key: str, value: object, low: int, high: int) -> int:
        # A TOML boolean is a Python integer too, and is meant as something else.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of at least one whole number."""
        expected = f"a list of whole numbers from {low} to {high}"
        return self._integers(key, self._get(key, expected, required=True), low, high)

    def _integers(self, key: str, value: object, low: int, high: int) -> tuple[int, ...]:
        if not isinstance(value, list) or not value:
            raise self.wrong(key, value, f"a list of whole numbers from {low} to {high}")
        return tuple(self._integer(key, item, low, high) for item in value)

    def _fact(self, key: str, expected: str) -> Any:
        """A value that may be unknown: ``None`` then."""
        value = self._get(key, f"{expected}, or {UNKNOWN!r},", required=True)
        value = None if value == UNKNOWN else value
        self._facts.append(value)
        return value

    def integer_or_unknown(self, key: str, low: int, high: int) -> int | None:
        """A whole number, or ``None`` for ``"unknown"``."""
        value = self._fact(key, f"a whole number from {low} to {high}")
        return None if value is None else self._integer(key, value, low, high)

    def integers_or_unknown(self, key: str, low: int, high: int) -> tuple[int, ...] | None:
        """A list of whole numbers, or ``None`` for ``"unknown"``."""
        value = self._fact(key, f"a list of whole numbers from {low} to {high}")
        return None if value is None else self._integers(key, value, low, high)

    def texts_or_unknown(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or ``None`` for ``"unknown"``."""
        value = self._fact(key, "a list of texts")
        return None if value is None else self._texts(key, value)

    def number_or_unknown(self, key: str, low: float, high: float) -> float | None:
        """A number, or ``None`` for ``"unknown"``."""
        value = self._fact(key, f"a number from {low} to {high}")
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, value, f"a number from {low} to {high}")
        return float(value)

    def source(self) -> str:
        """Where the facts of this table are known from."""
        return self._text("source", self._get("source", "a text that says where this is known from", required=True))

    def table(self, key: str) -> _Table | None:
        """A table that may be absent."""
        value = self._get(key, f"a table [{key}]", required=False)
        return None if value is None else self._table(key, value)

    def required_table(self, key: str) -> _Table:
        """A table that must be there."""
        return self._table(key, self._get(key, f"a table [{key}]", required=True))

    def _table(self, key: str, value: object) -> _Table:
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"a table [{key}]")
        return _Table(self._origin, f"[{key}]", value)

    def tables(self, key: str) -> list[_Table]:
        """A list of tables that may be absent."""
        value = self._get(key, f"tables [[{key}]]", required=False)
        return [] if value is None else self._tables(key, value)

    def required_tables(self, key: str) -> list[_Table]:
        """A list of at least one table."""
        return self._tables(key, self._get(key, f"at least one table [[{key}]]", required=True))

    def _tables(self, key: str, value: object) -> list[_Table]:
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, value, f"tables [[{key}]]")
        return [_Table(self._origin, f"[[{key}]] number {number}", item) for number, item in enumerate(value, 1)]

    def done(self, result: T) -> T:
        """Pass the result on when every key of the table was known, and its facts have a source.

        Raises:
            ProfileError: there is a key that does not exist, or a fact of unknown source.
        """
        self.finish()
        if self._data.get("source") == UNKNOWN and not (self._facts and all(fact is None for fact in self._facts)):
            raise self.wrong(
                "source", UNKNOWN, f"where the facts are known from (or {UNKNOWN!r} for each of the facts as well)"
            )
        return result

    def finish(self) -> None:
        """Refuse keys that do not exist: a misspelt one would be a fact that silently does not count.

        Raises:
            ProfileError: there is one.
        """
        for key in self._data:
            if key not in self._read:
                raise ProfileError(
                    f"{self._origin}: {self._name}: the key {key!r} was seen, which does not exist.{closest(key, self._read)} "
                    f"Keys that exist there: {', '.join(self._read)}."
                )
