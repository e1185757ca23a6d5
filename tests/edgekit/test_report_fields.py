"""One list of fields gives the table and the JSON; numbers are written with their units."""

from __future__ import annotations

import pytest

from edgekit.report.fields import Field, as_json, table
from edgekit.report.units import milliseconds, percent, share_text, size_text, times

FIELDS: tuple[Field[dict[str, int | None]], ...] = (
    Field("a_ns", "a", lambda row: row["a"], milliseconds),
    Field("b", "b", lambda row: row["b"]),
    Field("c", "c", lambda row: row["c"], column=False),
)


def test_table_and_json_come_from_the_same_values() -> None:
    """JSON has the value by key, the table its text under the heading."""
    row: dict[str, int | None] = {"a": 1_500_000, "b": 2, "c": 3}
    assert as_json(FIELDS, row) == {"a_ns": 1_500_000, "b": 2, "c": 3}
    assert table(FIELDS, [row]) == (["a", "b"], [["1.50 ms", "2"]])


def test_columns_without_any_value_are_left_out() -> None:
    """A column that some row has stays, with a dash for the others."""
    rows: list[dict[str, int | None]] = [{"a": None, "b": 1, "c": 1}, {"a": None, "b": None, "c": 1}]
    assert table(FIELDS, rows) == (["b"], [["1"], ["–"]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (milliseconds(123_456), "0.123 ms"),
        (milliseconds(12_345_678), "12.35 ms"),
        (milliseconds(1_234_567_890), "1235 ms"),
        (size_text(999), "1.0 kB"),
        (size_text(843_420), "843.4 kB"),
        (size_text(52_300_000), "52.30 MB"),
        (size_text(25_276_510_000), "25.28 GB"),
        (percent(0.98992), "98.99 %"),
        (times(2.898), "2.90×"),
        (share_text(0.5, 0.25, 0.75), "50.00 % (25.0–75.0)"),
    ],
)
def test_numbers_are_written_with_their_units(text: str, expected: str) -> None:
    """Each quantity in its unit."""
    assert expected == text
