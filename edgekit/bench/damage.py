"""Whether what was read from a benchmark's file is what its fields say.

Files are edited, cut and made by other programs. What is derived of them would end in the middle with an error of numpy's; a sentence that
names the field is of more use.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgekit.errors import DataError

if typing.TYPE_CHECKING:
    from edgekit.bench.results import BenchmarkReport

_Check = Callable[[Any], bool]

#: Whole numbers in files are times, sizes and counts; numpy holds them in 64 bits.
_MOST = 2**62
#: Moments from 1970 to the year 9999.
_LAST_UNIX_S = 253_402_300_799.0


def check_whole(report: BenchmarkReport, origin: str) -> None:
    """Refuse a benchmark with a value of another kind than its field's.

    Args:
        report: as it was read.
        origin: what to call it in messages.

    Raises:
        DataError: naming the first field that is wrong.
    """
    try:
        _object(report, "")
        for number, result in enumerate(report.cases, 1):
            place = f"case {number}"
            _object(result.case, place)
            known_ns = result.known_pace_ns
            _require(known_ns is None or (_number(known_ns) and known_ns > 0), f"{place}, known_pace_ns", known_ns)
            _require(result.error is None or isinstance(result.error, str), f"{place}, error", result.error)
            for count, launch in enumerate(result.launches, 1):
                where = f"{place}, launch {count}"
                _object(launch, where)
                _mapping(launch.asked, _ASKED, f"{where}, asked")
                _mapping(launch.got, _GOT, f"{where}, got")
                if launch.energy is not None:
                    _mapping(launch.energy, _ENERGY, f"{where}, energy")
                for trial in launch.trials:
                    _object(trial, f"{where}, a trial")
                for sample in launch.conditions:
                    _mapping(sample, _SAMPLE, f"{where}, conditions")
                    if sample.get("facts") is not None:
                        _mapping(sample["facts"], _FACTS, f"{where}, facts")
    except _WrongError as error:
        raise DataError(
            f"{origin} is damaged: {error}. Measure again, or take the file as edgekit wrote it."
        ) from error


def check_fields(items: Iterable[Any], origin: str) -> None:
    """Refuse dataclasses with a value of another kind than its field's.

    Args:
        items: as they were read.
        origin: what to call the file in messages.

    Raises:
        DataError: naming the first field that is wrong.
    """
    try:
        for item in items:
            _object(item, type(item).__name__)
    except _WrongError as error:
        raise DataError(
            f"{origin} is damaged: {error}. Measure again, or take the file as edgekit wrote it."
        ) from error


class _WrongError(Exception):
    """A value that is not what its field holds."""


def _require(right: bool, place: str, value: Any) -> None:
    if not right:
        shown = repr(value)
        raise _WrongError(f"{place} is {shown if len(shown) <= 60 else f'{shown[:60]}…'}, which cannot be")


def _object(item: Any, place: str) -> None:
    """Each field of a dataclass against its annotation."""
    hints = typing.get_type_hints(type(item), localns=_names())
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        _require(_fits(value, hints[field.name], field.name), f"{place}, {field.name}" if place else field.name, value)


def _names() -> dict[str, Any]:
    """What annotations name that their modules import for type checkers only."""
    from edgekit.bench.results import CaseResult

    return {"CaseResult": CaseResult}


def _fits(value: Any, hint: Any, name: str) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option, name) for option in inside)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inside[0], name) for item in value)
    if hint is type(None):
        return value is None
    if hint is float:
        return _number(value) and (not name.endswith("_unix_s") or 0 <= value <= _LAST_UNIX_S)
    if hint is int:
        return _whole(value) and (value >= 0 or not name.endswith(("_ns", "_bytes")))
    if origin is not None:  # a mapping
        return isinstance(value, Mapping) and all(_fits(item, inside[1], name) for item in value.values())
    return hint is Any or isinstance(value, hint)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST


def _number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) <= _MOST
    )


def _moment(value: Any) -> bool:
    return _number(value) and 0 <= value <= _LAST_UNIX_S


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _or_nothing(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _all(check: _Check) -> _Check:
    return lambda value: isinstance(value, Mapping) and all(check(item) for item in value.values())


def _mapping(value: Any, known: Mapping[str, tuple[bool, _Check]], place: str) -> None:
    _require(isinstance(value, Mapping), place, value)
    for key, (needed, check) in known.items():
        if key not in value:
            _require(not needed, f"{place}, {key}", None)
        else:
            _require(check(value[key]), f"{place}, {key}", value[key])


def _usb(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return _or_nothing(_all(_number))(value.get("accelerators")) and _or_nothing(_number)(value.get("fastest_port"))


#: By key: whether it must be there, and what it may be; other keys are anything.
_ASKED: Mapping[str, tuple[bool, _Check]] = {
    "delegate": (True, _text), "threads": (False, _or_nothing(_whole)), "reason": (False, _or_nothing(_text)),
}  # fmt: skip
_GOT: Mapping[str, tuple[bool, _Check]] = {"delegate": (True, _text)}
_ENERGY: Mapping[str, tuple[bool, _Check]] = {
    "joules": (True, _number), "seconds": (True, _number), "inferences": (True, _whole),
    "idle_w": (False, _or_nothing(_number)), "source": (True, _text),
}  # fmt: skip
_NUMBERS = ("busy_s", "steal_s", "own_s", "quota_s", "swap_pages", "throttle_count")
_SAMPLE: Mapping[str, tuple[bool, _Check]] = {
    "at_s": (True, _number), "unix_s": (False, _moment), **{key: (False, _or_nothing(_number)) for key in _NUMBERS},
    **{key: (False, _or_nothing(_all(_number))) for key in ("khz", "limit_khz", "thermal_c")},
    "governors": (False, _or_nothing(_all(_text))), "throttled": (False, _or_nothing(_whole)),
}  # fmt: skip
_FACTS: Mapping[str, tuple[bool, _Check]] = {
    "cores": (False, _or_nothing(_whole)), "model": (False, _or_nothing(_text)),
    "trip_c": (False, _or_nothing(_all(_number))), "usb": (False, _or_nothing(_usb)),
}  # fmt: skip
