"""``edgekit.records``: frozen records made without generating code."""

from __future__ import annotations

import pytest

from edgekit.records import Record


class Point(Record):
    """Two numbers, the second with a default and a check."""

    x: int
    y: int = 2

    def _check(self) -> None:
        if self.y < 0:
            raise ValueError("below")


def test_values_by_position_name_and_default() -> None:
    """All three ways give the same record."""
    assert Point(1) == Point(1, 2) == Point(x=1, y=2)
    assert (Point(1).x, Point(1).y) == (1, 2)
    assert Point._fields == ("x", "y")


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        pytest.param((), {}, "missing argument 'x'", id="missing"),
        pytest.param((1, 2, 3), {}, "takes 2 values, 3 were given", id="too many"),
        pytest.param((1,), {"x": 1}, "unexpected or repeated argument 'x'", id="twice"),
        pytest.param((1,), {"z": 1}, "unexpected or repeated argument 'z'", id="unknown"),
    ],
)
def test_wrong_arguments(values: tuple[int, ...], named: dict[str, int], message: str) -> None:
    """Arguments that do not fit the fields are refused."""
    with pytest.raises(TypeError, match=message):
        Point(*values, **named)


def test_records_do_not_change() -> None:
    """Neither setting nor deleting works; a copy with other values does."""
    point = Point(1)
    with pytest.raises(AttributeError, match="cannot be changed"):
        point.x = 3  # type: ignore[misc]  # that it is refused is what is tested
    with pytest.raises(AttributeError, match="cannot be changed"):
        del point.x
    assert point._replace(x=3) == Point(3, 2)
    assert point == Point(1, 2)


def test_comparison_and_repr() -> None:
    """Equal by type and values, usable in sets, shown by name."""

    class Other(Record):
        x: int
        y: int

    assert Point(1, 2) != Other(1, 2)
    assert Point(1, 2) != (1, 2)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_checks_run() -> None:
    """A subclass's check refuses values, also in a copy."""
    with pytest.raises(ValueError, match="below"):
        Point(1, -1)
    with pytest.raises(ValueError, match="below"):
        Point(1)._replace(y=-1)
