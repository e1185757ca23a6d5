"""``Field``: one figure of a row. A list of them feeds the table and the JSON, so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")

#: What a table shows where there is no value.
NOTHING = "–"


@dataclass(frozen=True)
class Field(Generic[Row]):
    """One figure.

    Attributes:
        key: its name in JSON, with the unit in it: ``p50_ns``.
        title: its column's heading.
        value: takes it from a row; plain JSON, ``None`` where the row has none.
        text: writes a value for people.
        column: whether tables show it; JSON always has it.
    """

    key: str
    title: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str] = str
    column: bool = True

    def cell(self, row: Row) -> str:
        """The row's value for people."""
        value = self.value(row)
        return NOTHING if value is None else self.text(value)


def table(fields: Sequence[Field[Row]], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The headings and cells of a table; a column that is empty in every row is left out.

    Args:
        fields: what can be shown.
        rows: what to show it of.
    """
    cells = [[field.cell(row) for row in rows] for field in fields]
    kept = [
        number
        for number, field in enumerate(fields)
        if field.column and (not rows or any(cell != NOTHING for cell in cells[number]))
    ]
    titles = [fields[number].title for number in kept]
    return titles, [[cells[number][row] for number in kept] for row in range(len(rows))]


def as_json(fields: Sequence[Field[Row]], row: Row) -> dict[str, Any]:
    """One row's values by key."""
    return {field.key: field.value(row) for field in fields}
