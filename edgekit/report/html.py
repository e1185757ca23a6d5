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
from edgekit.report.svg import Bar

_STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1b2129;--soft:#5a6573;--line:#dce1e7;--s0:#8a97a8;
--s1:#0b7a75;--good:#19714a;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--page:#12161b;--card:#1b2128;--text:#e7ebf0;--soft:#9ca8b6;--line:#323b46;
--s0:#7d8a9a;--s1:#35b8ae;--good:#62c995;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 8px;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:36px 0 12px}
h3{font-size:1rem;margin:0 0 10px}p{margin:0 0 12px;max-width:46rem}.lead{color:var(--soft);font-size:1.05rem}
.soft,figcaption,footer{color:var(--soft);font-size:.875rem}footer{margin-top:40px}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));margin-bottom:14px}
.tiles{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin:20px 0 14px}
.card,.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0;min-width:0}
.tile b{display:block;font-size:1.7rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.875rem;color:var(--soft)}
svg{display:block;width:100%;max-width:460px;height:auto;font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow:visible}
svg text{fill:var(--text)}svg .tick{fill:var(--soft);font-size:12px}svg .value{font-weight:600}
svg .s0{fill:var(--s0)}svg .s1{fill:var(--s1)}svg .grid{stroke:var(--line);stroke-width:1}
svg .whisker{stroke:var(--text);stroke-width:1.5;fill:none}svg .mark{stroke:var(--text);stroke-width:1.5}
figure{margin:0}figcaption{margin-top:8px}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;margin-bottom:14px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:8px 11px;border-top:1px solid var(--line);overflow-wrap:break-word}
.short{white-space:nowrap}thead th{border-top:0;color:var(--soft);font-weight:600}tbody th{font-weight:600}
tbody:first-child tr:first-child>*{border-top:0}
td.good{color:var(--good);font-weight:600}td.bad{color:var(--bad);font-weight:600}
.gallery{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,minmax(92px,1fr));margin-bottom:14px}
.gallery figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px;text-align:center}
.gallery .wrong{border-color:var(--bad)}.gallery img{width:100%;height:auto;display:block;border-radius:4px}
.gallery figcaption{margin-top:6px;line-height:1.35;white-space:pre-line}.wrong figcaption{color:var(--bad)}
code{font:.9em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
@media(max-width:640px){.gallery{grid-template-columns:repeat(4,1fr);gap:8px}.gallery figure{padding:5px}
h1{font-size:1.45rem}.tile b{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr;gap:10px}
table,tbody,tr,tbody th,td{display:block}thead{display:none}tr{border-top:1px solid var(--line);padding:10px 14px}
tbody tr:first-child{border-top:0}tbody th,td{border:0;padding:1px 0;overflow-wrap:anywhere;white-space:normal}
td[data-label]::before{content:attr(data-label) ": ";color:var(--soft);font-weight:400}}
"""


#: A cell of at most this many characters is never broken into lines.
_SHORT = 22


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
        return f'<div class="tiles">{cells}</div>'


@dataclass(frozen=True)
class Bars:
    """A picture of bars over an axis that begins at zero.

    Attributes:
        title: above it.
        unit: of the axis.
        items: from the top.
        caption: below it.
        top: where the axis ends; ``None`` for a round number.
    """

    title: str
    unit: str
    items: Sequence[Bar]
    caption: str = ""
    top: float | None = None

    def html(self) -> str:
        """The markup."""
        return _figure(self.title, svg.bars(self.title, self.unit, self.items, self.top), self.caption)


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
        return _figure(self.title, svg.distributions(self.title, self.unit, self.items), self.caption)


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
    """

    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()
    good: Sequence[bool | None] = ()

    def html(self) -> str:
        """The markup."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        marks = list(self.good) or [None] * len(self.rows)
        body = "".join(self._row(row, mark) for row, mark in zip(self.rows, marks, strict=True))
        return f'<div class="scroll"><table>{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table></div>'

    def _row(self, cells: Sequence[str], mark: bool | None) -> str:
        inner = f'<th scope="row"{_class(cells[0])}>{escape(cells[0])}</th>'
        for number, cell in enumerate(cells[1:], 1):
            shade = "" if mark is None or number != 1 else "good" if mark else "bad"
            # On a phone each row becomes a small list, and a cell carries its column's heading.
            title = self.columns[number] if self.columns else ""
            label = f' data-label="{escape(title)}"' if title else ""
            inner += f"<td{_class(cell, shade)}{label}>{escape(cell)}</td>"
        return f"<tr>{inner}</tr>"


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
    """

    title: str
    parts: Sequence[Part]

    def html(self) -> str:
        """The markup."""
        return f"<section><h2>{escape(self.title)}</h2>{''.join(part.html() for part in self.parts)}</section>"


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
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>'
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{"".join(part.html() for part in parts)}'
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def _figure(title: str, picture: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="card"><h3>{escape(title)}</h3>{picture}{below}</figure>'
