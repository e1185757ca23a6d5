"""One HTML page with everything in it: no script, no font, no picture from outside, light and dark, phone and desk.

A page is a list of sections, a section a list of parts; each part draws itself. The page forbids the browser to load
anything (Content Security Policy), so that opening it asks no network.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from edgekit.report import svg
from edgekit.report.style import STYLE
from edgekit.report.svg import Bar

#: A cell of at most this many characters is never broken into lines.
_SHORT = 22
#: More large figures than this have less room each.
_WIDE_TILES = 4
#: More reasons than this are folded.
_MOST_REASONS = 6


class Part(Protocol):
    """Something that draws itself as HTML."""

    def html(self) -> str:
        """The markup."""


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: plain text.
        soft: whether it is an aside.
    """

    text: str
    soft: bool = False

    def html(self) -> str:
        """The markup."""
        return f'<p class="soft">{escape(self.text)}</p>' if self.soft else f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Tile:
    """One large figure.

    Attributes:
        label: what it is.
        value: the figure with its unit.
        note: a line below, such as an interval.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of large figures.

    Attributes:
        items: from the left.
    """

    items: Sequence[Tile]

    def html(self) -> str:
        """The markup."""
        cells = "".join(
            f'<div class="tile"><span>{escape(tile.label)}</span><b>{escape(tile.value)}</b>'
            f"<span>{escape(tile.note)}</span></div>"
            for tile in self.items
        )
        # Many are narrow, and a figure is not to be broken from its unit.
        many = " many" if len(self.items) > _WIDE_TILES else ""
        return f'<div class="tiles{many}">{cells}</div>'


@dataclass(frozen=True)
class Bars:
    """A picture of bars over an axis that begins at zero.

    Attributes:
        title: above it.
        unit: of the axis.
        items: from the top.
        caption: below it.
        top: where the axis ends; ``None`` for a round number.
        thin: whether there are many, so that each has less room.
    """

    title: str
    unit: str
    items: Sequence[Bar]
    caption: str = ""
    top: float | None = None
    thin: bool = False

    def html(self) -> str:
        """The markup."""
        picture = svg.bars(self.title, self.unit, self.items, self.top, thin=self.thin)
        return figure(self.title, picture, self.caption)


@dataclass(frozen=True)
class Distributions:
    """A picture of how values are spread, one row for each series.

    Attributes:
        title: above it.
        unit: of the values.
        items: name and values of each series.
        caption: below it.
    """

    title: str
    unit: str
    items: Sequence[tuple[str, Sequence[float]]]
    caption: str = ""

    def html(self) -> str:
        """The markup."""
        return figure(self.title, svg.distributions(self.title, self.unit, self.items), self.caption)


@dataclass(frozen=True)
class Row:
    """Pictures side by side where there is room.

    Attributes:
        parts: from the left.
    """

    parts: Sequence[Part]

    def html(self) -> str:
        """The markup."""
        return f'<div class="grid">{"".join(part.html() for part in self.parts)}</div>'


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading.

    Attributes:
        rows: cells as plain text.
        columns: headings; empty for none.
        good: for each row, whether it passed; ``None`` for neither. Colours the second cell.
        label: what the table is, for who cannot see it; then it can be scrolled with the keyboard, too.
    """

    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()
    good: Sequence[bool | None] = ()
    label: str = ""

    def html(self) -> str:
        """The markup."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        marks = list(self.good) or [None] * len(self.rows)
        body = "".join(self._row(row, mark) for row, mark in zip(self.rows, marks, strict=True))
        inner = f"{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody>"
        return f"{scroll(self.label)}<table>{inner}</table></div>"

    def _row(self, cells: Sequence[str], mark: bool | None) -> str:
        inner = f'<th scope="row"{_class(cells[0])}>{escape(cells[0])}</th>'
        for number, cell in enumerate(cells[1:], 1):
            shade = "" if mark is None or number != 1 else "good" if mark else "bad"
            # On a phone each row becomes a small list, and a cell carries its column's heading.
            title = self.columns[number] if self.columns else ""
            label = f' data-label="{escape(title)}"' if title else ""
            inner += f"<td{_class(cell, shade)}{label}>{escape(cell)}</td>"
        return f"<tr>{inner}</tr>"


def scroll(label: str) -> str:
    """The opening tag of a box that scrolls where what is in it is too wide.

    Args:
        label: what is in it; with one, the keyboard reaches the box.
    """
    named = f' tabindex="0" role="region" aria-label="{escape(label)}"' if label else ""
    return f'<div class="scroll"{named}>'


def _class(cell: str, shade: str = "") -> str:
    names = " ".join(name for name in (shade, "short" if len(cell) <= _SHORT else "") if name)
    return f' class="{names}"' if names else ""


@dataclass(frozen=True)
class Picture:
    """A small image.

    Attributes:
        png: the file.
        caption: below it; a line break in it is kept.
        wrong: whether to mark it.
    """

    png: bytes
    caption: str
    wrong: bool = False


@dataclass(frozen=True)
class Gallery:
    """Small images.

    Attributes:
        items: in reading order.
    """

    items: Sequence[Picture]

    def html(self) -> str:
        """The markup."""
        return f'<div class="gallery">{"".join(self._one(item) for item in self.items)}</div>'

    @staticmethod
    def _one(item: Picture) -> str:
        data = base64.b64encode(item.png).decode()
        shade = ' class="wrong"' if item.wrong else ""
        alt = escape(item.caption.replace("\n", ", "))
        return (
            f'<figure{shade}><img alt="{alt}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(item.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Section:
    """A heading and what follows.

    Attributes:
        title: the heading.
        parts: in order.
        anchor: its name in the address, for links on the page; letters, digits and ``-``.
    """

    title: str
    parts: Sequence[Part]
    anchor: str = ""

    def html(self) -> str:
        """The markup."""
        name = f' id="{escape(self.anchor)}"' if self.anchor else ""
        return f"<section{name}><h2>{escape(self.title)}</h2>{''.join(part.html() for part in self.parts)}</section>"


@dataclass(frozen=True)
class Details:
    """What can be folded, without a script.

    Attributes:
        title: what stays.
        parts: what is folded.
        shown: whether it is open at first.
        anchor: see ``Section``; with one, the title is a heading of the page.
    """

    title: str
    parts: Sequence[Part]
    shown: bool = False
    anchor: str = ""

    def html(self) -> str:
        """The markup."""
        name = f' id="{escape(self.anchor)}"' if self.anchor else ""
        title = f"<h2>{escape(self.title)}</h2>" if self.anchor else escape(self.title)
        inner = "".join(part.html() for part in self.parts)
        return f"<details{name}{' open' if self.shown else ''}><summary>{title}</summary>{inner}</details>"


@dataclass(frozen=True)
class Contents:
    """Links to sections of the page.

    Attributes:
        items: each section's anchor and title.
    """

    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """The markup."""
        links = "".join(f'<a href="#{escape(anchor)}">{escape(title)}</a>' for anchor, title in self.items)
        return f'<nav aria-label="On this page">{links}</nav>'


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons.

    Attributes:
        word: the verdict.
        reasons: a sentence each.
        good: ``True``, ``False``, or ``None`` for what lies between.
        note: what the word is of.
    """

    word: str
    reasons: Sequence[str]
    good: bool | None
    note: str = ""

    def html(self) -> str:
        """The markup."""
        shade = {True: "", False: " bad", None: " warn"}[self.good]
        items = [f"<li>{escape(reason)}</li>" for reason in self.reasons]
        shown = len(items) if len(items) <= _MOST_REASONS + 2 else _MOST_REASONS
        reasons = f"<ul>{''.join(items[:shown])}</ul>" if items else ""
        if items[shown:]:
            rest = "".join(items[shown:])
            reasons += f"<details><summary>{len(items) - shown} more</summary><ul>{rest}</ul></details>"
        note = f" {escape(self.note)}" if self.note else ""
        return f'<div class="card verdict{shade}"><b>{escape(self.word)}</b>{note}{reasons}</div>'


@dataclass(frozen=True)
class HeatTable:
    """A table of figures, shaded by their size; it stays a table on a phone, and scrolls.

    Attributes:
        title: above it.
        columns: headings; the first one is of the rows' names.
        rows: each one's name and its cells: a text, and a shade from 0 to 1, or ``None`` for none.
        caption: below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]
    caption: str = ""

    def html(self) -> str:
        """The markup."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>{"".join(self._cell(*cell) for cell in cells)}</tr>'
            for name, cells in self.rows
        )
        inner = (
            f'{scroll(self.title)}<table class="heat"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
        return figure(self.title, inner, self.caption)

    @staticmethod
    def _cell(text: str, shade: float | None) -> str:
        look = "" if shade is None else f' style="--of:{min(max(shade, 0.0), 1.0):.2f}"'
        return f"<td{look}>{escape(text)}</td>"


def page(title: str, lead: str, parts: Sequence[Part], footer: str = "") -> str:
    """The whole document.

    Args:
        title: the heading and the browser's title.
        lead: a sentence or two below it.
        parts: tiles, pictures, sections, in order.
        footer: the last line.

    Returns:
        HTML, to be saved as UTF-8.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head><body><main>'
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{"".join(part.html() for part in parts)}'
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def figure(title: str, picture: str, caption: str = "") -> str:
    """A card with a picture.

    Args:
        title: above it.
        picture: markup, whose texts are escaped.
        caption: below it.
    """
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="card"><h3>{escape(title)}</h3>{picture}{below}</figure>'
