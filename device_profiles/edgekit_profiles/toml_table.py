"""One table of a profile's TOML being read: each key once, with its type, range and unit checked.

What is wrong is collected, so that a file's author learns of all of it at once; in its place a value is passed on that
lets reading go on and never reaches a profile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from edgekit.records import Record
from edgekit_profiles.profile import UNKNOWN

T = TypeVar("T")

#: Keys that came with a later schema than 1. A file of an older one reads as if they were not known.
KEYS_SINCE: dict[str, int] = {
    "role": 2, "fallback": 2, "device_tree_compatible": 2, "cpu_flags": 2, "usb_ids": 2, "pci_ids": 2, "product": 2,
    "options": 2, "machines": 2,
}  # fmt: skip

#: Units that keys end with: the word for each, and what people write in its place.
_UNITS: dict[str, tuple[str, frozenset[str]]] = {
    "hz": ("hertz", frozenset({"khz", "mhz", "ghz", "hertz", "kilohertz", "megahertz", "gigahertz"})),
    "bytes": (
        "bytes",
        frozenset({"byte", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "kilobytes", "megabytes", "gigabytes"}),
    ),
    "c": (
        "degrees Celsius",
        frozenset({"f", "k", "mc", "celsius", "fahrenheit", "kelvin", "millic", "millicelsius", "deg", "degrees"}),
    ),
}
#: A file with more wrong things than this is not a profile, and nobody reads on.
LIMIT_PROBLEMS = 100
_SHOWN = 80


class Problem(Record):
    """One thing that is wrong with a file.

    Attributes:
        origin: the file.
        table: the table in it, ``top level`` for what stands above all; ``None`` for the file as a whole.
        key: the key in the table; ``None`` for the table as a whole.
        seen: what stands there, as text; ``None`` when nothing does.
        expected: what was expected.
        text: the same in a sentence, without the file's name.
    """

    origin: str
    table: str | None
    key: str | None
    seen: str | None
    expected: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name; ``message`` is the whole sentence."""
        return {
            "file": self.origin,
            "table": self.table,
            "key": self.key,
            "seen": self.seen,
            "expected": self.expected,
            "message": str(self),
        }


def closest(text: str, known: Collection[str]) -> str:
    """A sentence that names the most similar of some words, for the end of a message; empty when none is similar."""
    found = _similar(text, known)
    return f" Did you mean {found!r}?" if found is not None else ""


def _similar(text: str, known: Collection[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(text[:_SHOWN], list(known), n=1)
    return found[0] if found else None


def _shown(value: object) -> str:
    """A value as a message shows it."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out an integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _with_unit(key: str, expected: str) -> str:
    """What is expected of a key, with the unit that the key ends with."""
    unit = _UNITS.get(key.rpartition("_")[2])
    return f"{expected}, in {unit[0]}," if unit is not None else expected


def _in_other_unit(key: str, known: Collection[str]) -> str | None:
    """The known key that an unknown one means in another unit or without one."""
    base, _, unit = key.rpartition("_")
    for item in known:
        item_base, _, item_unit = item.rpartition("_")
        if item_unit not in _UNITS or not item_base:
            continue
        if (base.rstrip("s") == item_base.rstrip("s") and unit.lower() in _UNITS[item_unit][1]) or key == item_base:
            return item
    return None


class Table:
    """One TOML table being read.

    Args:
        origin: the file's name, for messages.
        name: the table as a message names it.
        data: what it holds.
        schema: the version of the format that the file was written in.
        problems: where what is wrong is collected.
    """

    def __init__(
        self, origin: str, name: str, data: Mapping[str, Any], schema: int, problems: list[Problem] | None = None
    ) -> None:
        self._origin = origin
        self._name = name
        self._data = data
        self._schema = schema
        self._problems = problems if problems is not None else []
        self._read: list[str] = []
        self._missing: dict[str, str] = {}
        self._facts: list[object] = []

    def report(self, key: str | None, seen: str | None, expected: str, text: str) -> None:
        """Note that something is wrong."""
        if len(self._problems) < LIMIT_PROBLEMS:
            shown = f"{self._name}{text}"
            self._problems.append(Problem(self._origin, self._name, key, seen, expected, shown))

    def wrong(self, key: str, seen: object, expected: str) -> None:
        """Note that a value is not right."""
        shown = _shown(seen)
        self.report(key, shown, expected.rstrip(","), f", key {key!r}: {shown} was seen, {expected} was expected.")

    def has(self, key: str) -> bool:
        """Whether the table holds a key."""
        return key in self._data

    def _get(self, key: str, expected: str, *, required: bool) -> Any:
        self._read.append(key)
        since = KEYS_SINCE.get(key, 1)
        if since > self._schema:
            if key in self._data:
                needed = f"schema = {since}"
                self.report(
                    key, _shown(self._data[key]), needed,
                    f": the key {key!r} was seen, which a file of schema {self._schema} does not have: {needed} was expected.",
                )  # fmt: skip
            return None
        if key not in self._data and required:
            self._missing[key] = expected
        return self._data.get(key)

    def text(self, key: str) -> str:
        """A string that is not empty."""
        return self._text(key, self._get(key, "a text", required=True))

    def _text(self, key: str, value: object) -> str:
        if key in self._missing:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.wrong(key, value, "a text that is not empty")
            return ""
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """One of some words; the default when the key is absent and there is one."""
        expected = f"one of {', '.join(allowed)}"
        value = self._get(key, expected, required=default is None)
        if value is None and (default is not None or key in self._missing):
            return default if default is not None else allowed[0]
        if value not in allowed:
            self.wrong(key, value, expected)
            return allowed[0]
        return str(value)

    def choices(self, key: str, allowed: Sequence[str], *, required: bool = False) -> tuple[str, ...] | None:
        """A list of some of some words, each once; ``None`` when it is absent."""
        expected = f"a list of some of {', '.join(allowed)}"
        value = self._get(key, expected, required=required)
        if value is None:
            return None
        if not isinstance(value, list):
            self.wrong(key, value, expected)
            return ()
        for number, item in enumerate(value):
            if item not in allowed:
                self.wrong(key, item, f"one of {', '.join(allowed)}")
                return ()
            if item in value[:number]:
                self.wrong(key, value, "each of them once")
                return ()
        return tuple(value)

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of strings; empty when it is absent and need not be there."""
        value = self._get(key, "a list of texts", required=required)
        return () if value is None else self._texts(key, value)

    def _texts(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.wrong(key, value, "a list of texts")
            return ()
        for item in value:
            if not isinstance(item, str) or not item.strip():
                self.wrong(key, item, "a text that is not empty")
                return ()
        return tuple(value)

    def device_ids(self, key: str) -> tuple[str, ...]:
        """A list of USB or PCI ids; empty when it is absent."""
        found = self.texts(key)
        for item in found:
            if len(item) != 9 or item[4] != ":" or not set(item[:4] + item[5:]) <= set("0123456789abcdef"):
                self.wrong(key, item, "a vendor's and a product's number such as '18d1:9302', in lower case,")
                return ()
        return found

    def options(self, key: str) -> dict[str, str]:
        """A table of texts; empty when it is absent."""
        value = self._get(key, f"a table {key} of texts", required=False)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, value, 'a table of texts such as { device = "usb" }')
            return {}
        for name, item in value.items():
            if not isinstance(item, str):
                self.wrong(f"{key}.{name}", item, "a text")
                return {}
        return dict(value)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number."""
        value = self._get(key, _with_unit(key, f"a whole number from {low} to {high}"), required=True)
        return low if key in self._missing else self._integer(key, value, low, high)

    def _integer(self, key: str, value: object, low: int, high: int) -> int:
        # A TOML boolean is a Python integer too, and is meant as something else.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(key, value, _with_unit(key, f"a whole number from {low} to {high}"))
            return low
        return value

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of at least one whole number."""
        expected = _with_unit(key, f"a list of whole numbers from {low} to {high}")
        value = self._get(key, expected, required=True)
        return (low,) if key in self._missing else self._integers(key, value, low, high)

    def _integers(self, key: str, value: object, low: int, high: int) -> tuple[int, ...]:
        if not isinstance(value, list) or not value:
            self.wrong(key, value, _with_unit(key, f"a list of whole numbers from {low} to {high}"))
            return (low,)
        before = len(self._problems)
        found: list[int] = []
        for item in value:
            found.append(self._integer(key, item, low, high))
            if len(self._problems) > before:  # one message is enough for a list
                break
        return tuple(found)

    def _fact(self, key: str, expected: str) -> Any:
        """A value that may be unknown: ``None`` then, and when it is missing."""
        value = self._get(key, f"{_with_unit(key, expected).rstrip(',')}, or {UNKNOWN!r},", required=True)
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
            self.wrong(key, value, _with_unit(key, f"a number from {low} to {high}"))
            return None
        return float(value)

    def source(self) -> str:
        """Where the facts of this table are known from."""
        return self._text("source", self._get("source", "a text that says where this is known from", required=True))

    def table(self, key: str) -> Table | None:
        """A table that may be absent."""
        value = self._get(key, f"a table [{key}]", required=False)
        return None if value is None else self._table(key, value)

    def required_table(self, key: str) -> Table:
        """A table that must be there."""
        value = self._get(key, f"a table [{key}]", required=True)
        return self._mute(key) if key in self._missing else self._table(key, value)

    def _table(self, key: str, value: object) -> Table:
        if not isinstance(value, dict):
            self.wrong(key, value, f"a table [{key}]")
            return self._mute(key)
        return Table(self._origin, f"[{key}]", value, self._schema, self._problems)

    def _mute(self, key: str) -> Table:
        """In place of a table that is not there: what it lacks is no news."""
        return Table(self._origin, f"[{key}]", {}, self._schema)

    def tables(self, key: str, *, required: bool = False) -> list[Table]:
        """A list of tables; of at least one when they must be there."""
        expected = f"at least one table [[{key}]]" if required else f"tables [[{key}]]"
        value = self._get(key, expected, required=required)
        if value is None:
            return []
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            self.wrong(key, value, f"tables [[{key}]]")
            return []
        return [
            Table(self._origin, f"[[{key}]] number {number}", item, self._schema, self._problems)
            for number, item in enumerate(value, 1)
        ]

    def done(self, result: T) -> T:
        """Pass the result on after the table as a whole was checked: all its keys exist, and its facts have a source."""
        self.finish()
        if self._data.get("source") == UNKNOWN and not (self._facts and all(fact is None for fact in self._facts)):
            self.wrong(
                "source", UNKNOWN, f"where the facts are known from (or {UNKNOWN!r} for each of the facts as well)"
            )
        return result

    def finish(self) -> None:
        """Note the keys that are missing, and those that do not exist: a misspelt one would silently not count."""
        for key in self._data:
            if key in self._read or len(self._problems) >= LIMIT_PROBLEMS:
                continue
            meant = _in_other_unit(key, self._read)
            if meant is not None:
                unit = _UNITS[meant.rpartition("_")[2]][0]
                expected = f"{meant!r}, in {unit}"
                self.report(
                    key,
                    _shown(self._data[key]),
                    expected,
                    f": the key {_shown(key)} was seen, {expected}, was expected.",
                )
            else:
                meant = _similar(key, [*self._missing, *self._read])
                guess = f" Did you mean {meant!r}?" if meant is not None else ""
                expected = f"one of {', '.join(self._read)}"
                self.report(
                    key, _shown(self._data[key]), expected,
                    f": the key {_shown(key)} was seen, which does not exist.{guess} "
                    f"Keys that exist there: {', '.join(self._read)}.",
                )  # fmt: skip
            self._missing.pop(meant or "", None)
        for key, expected in self._missing.items():
            self.report(key, None, expected.rstrip(","), f": the key {key!r} is missing, {expected} was expected.")
