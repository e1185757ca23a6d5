"""Pages hold everything in themselves, and what they show is what they were given."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from edgekit.report import html, svg
from edgekit.report.png import grey_png
from edgekit.report.svg import Bar

HOSTILE = "<script>alert('&')</script>"
VOID = {"meta", "link", "img"}


class Structure(HTMLParser):
    """Collects tags, attributes and text, and checks that what opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an empty tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note text outside the style sheet."""
        if self.open[-1:] != ["style"]:
            self.text += data


def everything(text: str) -> str:
    """A page with each kind of part, all of whose texts are ``text``."""
    bars = html.Bars(text, text, [Bar(text, 3.0, text, 2.0, 4.0), Bar(text, 1.0, text, series=1)], text)
    parts: list[html.Part] = [
        html.Tiles([html.Tile(text, text, text)]),
        html.Row([bars, html.Distributions(text, text, [(text, [1.0, 2.0, 3.0])], text)]),
        html.Section(
            text, [html.Text(text), html.Text(text, soft=True), html.Table([(text, text)], (text, text), [True])]
        ),
        html.Gallery([html.Picture(grey_png(np.zeros((2, 2), np.uint8)), text, wrong=True)]),
    ]
    return html.page(text, text, parts, text)


def read(page: str) -> Structure:
    """Parse a page; every tag must be closed."""
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    return structure


class TestPage:
    """The document."""

    def test_nothing_comes_from_outside(self) -> None:
        """No script, and no address but inline data; the browser is told to load nothing else."""
        structure = read(everything("plain"))
        assert not {"script", "iframe", "object"} & {tag for tag, _ in structure.tags}
        addresses = [value for _, attrs in structure.tags for name, value in attrs.items() if name in ("src", "href")]
        assert addresses
        assert all(address is not None and address.startswith("data:") for address in addresses)
        style = re.search(r"<style>(.*)</style>", everything("plain"), re.S)
        assert style is not None
        assert not re.search(r"url\(|@import|https?:", style.group(1))
        policies = [
            attrs["content"] for tag, attrs in structure.tags if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]

    def test_texts_are_text(self) -> None:
        """Markup in a name, a label or a caption is shown, not obeyed, wherever it stands."""
        structure = read(everything(HOSTILE))
        assert "script" not in {tag for tag, _ in structure.tags}
        assert read(everything("plain")).text.count("plain") == structure.text.count(HOSTILE)

    def test_light_and_dark_and_phone(self) -> None:
        """The style sheet follows the system's colours and the window's width."""
        page = everything("plain")
        assert "@media(prefers-color-scheme:dark)" in page
        assert "@media(max-width:640px)" in page
        assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in page


class TestTable:
    """Tables."""

    def test_cells_carry_their_headings_for_phones(self) -> None:
        """Where a row becomes a list, each cell still says what it is."""
        structure = read(html.Table([("a", "1"), ("b", "2")], ("name", "count")).html())
        assert [attrs["data-label"] for tag, attrs in structure.tags if tag == "td"] == ["count", "count"]
        assert structure.text == "namecounta1b2"

    def test_verdict_colours_the_second_cell_only(self) -> None:
        """Passed, failed and neither."""
        table = html.Table([("a", "yes", "x"), ("b", "no", "x"), ("c", "–", "x")], good=[True, False, None])
        cells = [attrs.get("class", "") for tag, attrs in read(table.html()).tags if tag == "td"]
        assert cells == ["good short", "short", "bad short", "short", "short", "short"]


class TestSvg:
    """Pictures."""

    def test_bars_begin_at_zero_and_are_as_long_as_their_values(self) -> None:
        """Twice the value is twice the length, and the axis' first mark is 0 where the bars begin."""
        root = ElementTree.fromstring(svg.bars("t", "kB", [Bar("a", 40, "40 kB"), Bar("b", 80, "80 kB")]))
        first, second = root.findall("rect")
        assert float(second.attrib["width"]) == pytest.approx(2 * float(first.attrib["width"]), rel=0.01)
        axis = root.findall("line")[0]
        assert float(axis.attrib["x1"]) == float(first.attrib["x"])
        ticks = [text.text for text in root.findall("text") if text.attrib["class"] == "tick"]
        assert ticks == ["0", "20", "40", "60", "80 kB"]

    def test_interval_is_drawn_to_scale(self) -> None:
        """A whisker from 25 to 75 of 100 spans half of the bar at 100."""
        root = ElementTree.fromstring(svg.bars("t", "%", [Bar("a", 100, "", 25, 75)], top=100))
        whisker = root.find("path")
        assert whisker is not None
        left, right = re.findall(r"M([\d.]+),[\d.]+H([\d.]+)", whisker.attrib["d"])[0]
        bar = root.find("rect")
        assert bar is not None
        assert float(right) - float(left) == pytest.approx(float(bar.attrib["width"]) / 2, rel=0.01)

    @pytest.mark.parametrize(
        ("top", "expected"),
        [(0.35, [0, 0.1, 0.2, 0.3, 0.4]), (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (843, [0, 200, 400, 600, 800, 1000])],
        ids=["below-one", "one", "hundreds"],
    )
    def test_ticks_are_round_and_reach_the_top(self, top: float, expected: list[float]) -> None:
        """A few multiples of 1, 2 or 5, the last at or above the value."""
        assert expected == pytest.approx(svg.ticks(top))

    @pytest.mark.parametrize(
        "top", [10.0**power * factor for power in range(-9, 12) for factor in (1, 1.01, 3.3, 9.99)]
    )
    def test_number_of_ticks_stays_small(self, top: float) -> None:
        """From three to six marks at every size of number."""
        marks = svg.ticks(top)
        assert 3 <= len(marks) <= 6
        assert marks[-1] >= top * (1 - 1e-9)

    def test_all_zero_bars_can_be_drawn(self) -> None:
        """Nothing measured is a bar of no length, not a division by zero."""
        root = ElementTree.fromstring(svg.bars("t", "ms", [Bar("a", 0, "0 ms")]))
        assert [rect.attrib["width"] for rect in root.findall("rect")] == ["0.0"]

    def test_distribution_marks_the_median(self) -> None:
        """The line of each series stands where its median is on the axis."""
        root = ElementTree.fromstring(svg.distributions("t", "ms", [("a", [1.0] * 50 + [2.0] * 51), ("b", [4.0] * 9)]))
        lines = root.findall("line")
        grid = [float(line.attrib["x1"]) for line in lines if line.attrib["class"] == "grid"]
        marks = [float(line.attrib["x1"]) for line in lines if line.attrib["class"] == "mark"]
        zero, end = grid[0], grid[-1]
        assert pytest.approx([(mark - zero) / (end - zero) for mark in marks], abs=0.01) == [2 / 5, 4 / 5]

    def test_what_lies_beyond_the_axis_is_told(self) -> None:
        """One outlier in a thousand is not drawn and not hidden."""
        assert "1000 runs, 1 beyond the axis" in svg.distributions("t", "ms", [("a", [1.0] * 999 + [500.0])])


def test_png_holds_the_pixels() -> None:
    """Pillow reads back what was encoded."""
    image_module = pytest.importorskip("PIL.Image")
    import io

    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    picture = image_module.open(io.BytesIO(grey_png(pixels)))
    assert np.array_equal(pixels, np.asarray(picture))


def test_gallery_embeds_the_png() -> None:
    """The image's address is the file itself."""
    png = grey_png(np.zeros((2, 2), np.uint8))
    structure = read(html.Gallery([html.Picture(png, "a digit")]).html())
    (image,) = (attrs for tag, attrs in structure.tags if tag == "img")
    assert image["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
