"""Pictures show the numbers that they were given, at the places where the axis says."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from edgekit.report.axes import Axis
from edgekit.report.distribution import histogram
from edgekit.report.forest import Estimate, forest
from edgekit.report.scatter import Dot, Line, Scatter, scatter
from edgekit.report.sparks import ASCII, BLOCKS, counts, spark
from edgekit.report.svg import Bar, bars
from edgekit.report.timeline import Stretch, timeline

HOSTILE = "<script>'&\""


def drawn(svg: str) -> ElementTree.Element:
    """A picture as a tree; it is well-formed and has a name."""
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    title = root.find("title")
    assert title is not None
    assert title.text == root.attrib["aria-label"]
    return root


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The elements of a class."""
    return [item for item in root.iter() if name in item.attrib.get("class", "").split()]


class TestAxis:
    """Where values lie."""

    @pytest.mark.parametrize(
        "values",
        [(1.0, 1.04), (0.0,), (-3.0, 5.0), (1e-9, 2e-9), (0.3, 40.0), (1.0, 1e6), (0.0, 1e6), (2.0, 2.0), (1e-6, 1e9)],
        ids=str,
    )
    def test_all_values_lie_on_it(self, values: tuple[float, ...]) -> None:
        """Marks ascend around the values, few of them, and the values lie between the ends in their order."""
        axis = Axis.around(values)
        assert 2 <= len(axis.marks) <= 8
        assert sorted(set(axis.marks)) == list(axis.marks)
        assert axis.marks[0] <= min(values) * (1 + 1e-9) + 1e-15
        assert axis.marks[-1] >= max(values) * (1 - 1e-9)
        places = [axis.at(value) for value in sorted(values)]
        assert sorted(places) == places
        assert all(0 <= place <= 1 for place in places)

    def test_far_apart_is_logarithmic(self) -> None:
        """Equal ratios are equally far apart from a factor of five on; never where a value is not above zero."""
        assert [False, True, False] == [Axis.around(values).log for values in ((1, 4.9), (1, 100), (0, 100))]
        axis = Axis.around((1.0, 100.0))
        assert 0.5 == pytest.approx(axis.at(10.0))
        assert [axis.at(0.0), axis.at(1e9)] == [0.0, 1.0]

    def test_numbers_are_told_apart(self) -> None:
        """As many digits as the marks need; what is no number does not count."""
        axis = Axis.around((2.395, 2.401, math.nan, math.inf))
        texts = [axis.text(mark) for mark in axis.marks]
        assert ["2.394", "2.396", "2.398", "2.400", "2.402"] == texts

    def test_number_that_would_touch_the_last_is_left_out(self) -> None:
        """The unit stands behind the last number, and the one before makes room."""
        axis = Axis((1.0, 3.0, 10.0, 30.0, 100.0, 10000.0, 30000.0), log=True)
        texts = axis.texts("units of it", 330)
        assert ("1", "30000 units of it", "") == (texts[0], texts[-1], texts[-2])


class TestSpark:
    """Histograms of letters."""

    def test_letters_follow_the_counts(self) -> None:
        """The fullest column has the highest letter, an empty one a blank, and one that holds a single value is seen."""
        assert "█▁ ▄" == spark([1000, 1, 0, 500])
        assert "@. =" == spark([1000, 1, 0, 500], blocks=False)
        assert "" == spark([])
        assert len(BLOCKS) == len(ASCII)
        assert ASCII.isascii()

    def test_columns_are_from_the_smallest_to_the_p99(self) -> None:
        """A slow run in a thousand does not push the others together; none of those below is lost."""
        values = [*np.linspace(100, 200, 999), 1e9]
        found = counts(values, 10)
        assert 990 == sum(found)
        assert max(found) - min(found) <= 2

    def test_wide_spread_has_columns_of_one_ratio(self) -> None:
        """Two humps a factor of a hundred apart are both seen apart from the ends."""
        found = counts([*np.full(500, 1.0), *np.full(20, 10.0), *np.full(500, 100.0)], 9)
        assert [500, 0, 0, 0, 20, 0, 0, 0, 500] == found

    def test_alike_values_stand_in_the_middle(self) -> None:
        """And without values there is nothing."""
        assert [0, 0, 7, 0, 0] == counts([5.0] * 7, 5)
        assert [] == counts([], 5)


class TestHistogram:
    """The picture of a distribution."""

    def test_marks_stand_at_their_values(self) -> None:
        """The lines of p50 and p90 are as far apart as the axis says."""
        values = list(np.linspace(1.0, 2.0, 1001))
        root = drawn(histogram("t", "ms", values, {"p50": 1.5, "p90": 1.9}, [1.2]))
        middle, upper, rug = (float(item.attrib["x1"]) for item in of_class(root, "mark"))
        grid = [float(item.attrib["x1"]) for item in of_class(root, "grid")]
        unit = grid[1] - grid[0]  # 0.2 ms
        assert pytest.approx(2 * unit, rel=0.01) == upper - middle
        assert pytest.approx(1.5 * unit, rel=0.01) == middle - rug
        texts = [item.text or "" for item in root.iter("text")]
        assert {"p50 1.5 ms", "p90 1.9 ms"} <= set(texts)

    def test_thousands_of_values_are_a_small_picture(self) -> None:
        """The picture holds columns, not values; what lies beyond is counted."""
        random = np.random.default_rng(0)
        svg = histogram("t", "ms", [*random.normal(10, 0.1, 200_000), 500.0], {"p50": 10.0})
        assert len(svg) < 5_000
        assert "200,001 runs, " in svg
        assert "beyond the axis" in svg

    @pytest.mark.parametrize(
        "values", [[3.0], [3.0] * 50, [1e-6, 1e3], [0.0, 1.0]], ids=["one", "alike", "wide", "zero"]
    )
    def test_odd_values_can_be_drawn(self, values: list[float]) -> None:
        """No number in the picture is none."""
        assert "nan" not in histogram("t", "ms", values, {"p50": values[0]}).lower()


class TestTimeline:
    """Runs over launches."""

    def two(self, **changes: object) -> list[Stretch]:
        """Two launches of a second, a minute apart."""
        return [
            Stretch(
                f"launch {number}", begin, begin + 1.0,
                warm=[(begin + 0.1 + 0.01 * k, 4.0 - 0.1 * k) for k in range(20)],
                steady=[(begin + 0.4 + 0.001 * k, 2.0 + 0.01 * (k % 3)) for k in range(500)],
                **changes,  # type: ignore[arg-type]  # tracks
            )
            for number, begin in ((1, 0.0), (2, 60.0))
        ]  # fmt: skip

    def test_gap_is_drawn_and_short(self) -> None:
        """Two panels of equal width for two launches of equal length, with a gap that is not the minute between them."""
        panels = of_class(drawn(timeline("t", "ms", self.two())), "seen")
        (left, width), (other, other_width) = [
            (float(item.attrib["x"]), float(item.attrib["width"])) for item in panels
        ]
        assert width == other_width
        assert 0 < other - (left + width) < 10
        assert ["launch 1", "launch 2"] == [item[0].text for item in panels]

    def test_warm_up_is_apart_from_the_steady_runs(self) -> None:
        """Each has its own look, and warm-up lies to the left of the steady runs."""
        root = drawn(timeline("t", "ms", self.two()[:1]))
        dots = [float(item.attrib["cx"]) for item in of_class(root, "warm") if item.tag == "circle"]
        steady = next(item for item in of_class(root, "run") if "spread" not in item.attrib["class"])
        xs = [float(x) for x in re.findall(r"[ML]([\d.]+),", steady.attrib["d"])]
        assert len(dots) == 20
        assert max(dots) < min(xs)

    def test_bands_are_there_where_they_were_measured(self) -> None:
        """Temperature, frequency and pace each have a line and a unit; without them there is none."""
        track = [(0.2, 50.0), (0.8, 60.0), (60.5, 61.0)]
        first = self.two(temperature=track, frequency=[(0.2, 2400.0)], pace=[(0.5, 100.0), (0.6, 50.0)])
        texts = {item.text for item in drawn(timeline("t", "ms", first)).iter("text")}
        assert {"°C", "MHz", "pace %", "61", "2400"} <= texts
        assert not {"°C", "MHz", "pace %"} & {item.text for item in drawn(timeline("t", "ms", self.two())).iter("text")}

    def test_steady_value_is_not_blown_up(self) -> None:
        """A frequency that moves by a thousandth stays a nearly level line."""
        item = Stretch("a", 0.0, 1.0, frequency=[(0.1, 2400.0), (0.5, 2397.6), (0.9, 2400.0)])
        (line,) = of_class(drawn(timeline("t", "ms", [item])), "clock")
        heights = [float(y) for y in re.findall(r",([\d.]+)", line.attrib["d"])]
        assert max(heights) - min(heights) < 2

    def test_slow_run_is_an_arrow_at_the_edge(self) -> None:
        """It does not squeeze the others, and is not hidden."""
        (item,) = self.two()[:1]
        slow = Stretch(item.label, 0.0, 1.0, steady=[*item.steady, (0.95, 900.0)])
        svg = timeline("t", "ms", [slow])
        assert "l-2,-5z" in svg
        assert "l-2,-5z" not in timeline("t", "ms", [Stretch(item.label, 0.0, 1.0, steady=item.steady[:3])])

    def test_many_runs_are_a_small_picture(self) -> None:
        """Forty launches of twenty thousand runs each are as large as the picture is wide."""
        steady = [(number * 1e-5, 2.0 + (number % 7) * 0.01) for number in range(20_000)]
        launches = [Stretch(str(number), 0.0, 0.3, steady=steady) for number in range(40)]
        assert len(timeline("t", "ms", launches)) < 60_000


class TestScatter:
    """Points over two axes."""

    def test_points_lie_where_they_belong(self) -> None:
        """To the right is more, above is more; hollow and full ones differ; intervals reach to their ends."""
        dots = [
            Dot(1, 10, "a"),
            Dot(2, 30, "b", "2", filled=False, x_ends=(1.5, 2.5)),
            Dot(3, 20, "c", y_ends=(15, 25)),
        ]
        root = drawn(scatter(Scatter("t", "x", "y", dots, log=(False, False))))
        circles = list(root.iter("circle"))
        a, b, c = [(float(item.attrib["cx"]), float(item.attrib["cy"])) for item in circles]
        assert a[0] < b[0] < c[0]
        assert a[1] > c[1] > b[1]
        assert ["s1", "hollow", "s1"] == [item.attrib["class"] for item in circles]
        assert ["a", "b", "c"] == [item[0].text for item in circles]
        across, up = (item.attrib["d"] for item in of_class(root, "whisker"))
        left, right = (float(value) for value in re.findall(r"M([\d.]+),[\d.]+H([\d.]+)", across)[0])
        assert pytest.approx(b[0], abs=0.2) == (left + right) / 2
        low, high = (float(value) for value in re.findall(r"M[\d.]+,([\d.]+)V([\d.]+)", up)[0])
        assert low > c[1] > high

    def test_lines_are_told(self) -> None:
        """A limit is dashed, and both say what they are."""
        lines = [Line([(1, 1), (2, 2)], "the ceiling", "top"), Line([(1, 1), (2, 1)], "the limit", bound=True)]
        root = drawn(scatter(Scatter("t", "x", "y", [Dot(1, 1, "a")], lines)))
        assert ["the ceiling", "the limit"] == [item[0].text for item in root.iter("path") if len(item)]
        assert 1 == len(of_class(root, "bound"))


class TestForest:
    """Figures with intervals below each other."""

    def test_interval_lies_around_its_figure(self) -> None:
        """The whisker's ends are at the interval's, to scale, and the reference has its line."""
        root = drawn(
            forest("t", "×", [Estimate("a", 1.5, "1.5", 1.0, 2.0), Estimate("b", 2.5, "2.5", sound=False)], 1.0)
        )
        (whisker,) = [item for item in of_class(root, "whisker") if "H" in item.attrib["d"]]
        left, right = (float(v) for v in re.findall(r",[\d.]+v8M([\d.]+),[\d.]+H([\d.]+)", whisker.attrib["d"])[0])
        first, second = list(root.iter("circle"))
        assert pytest.approx(float(first.attrib["cx"]), abs=0.2) == (left + right) / 2
        (line,) = of_class(root, "bound")
        assert pytest.approx(float(line.attrib["x1"]), abs=0.2) == left
        assert ["s1", "hollow"] == [item.attrib["class"] for item in (first, second)]

    def test_long_names_keep_both_ends(self) -> None:
        """What tells two names apart is often at their end; the whole name is told besides."""
        name = f"{'model_' * 20}threads 2"
        root = drawn(forest("t", "", [Estimate(name, 1.0, "1.00 ms")]))
        shown = [item.text or "" for item in root.iter("text") if "…" in (item.text or "")]
        assert [True] == [text.startswith("model_") and text.endswith("threads 2") for text in shown]
        assert name in ElementTree.tostring(root, encoding="unicode")


def test_texts_are_text() -> None:
    """Markup in a name, a unit or a note is shown, not obeyed."""
    for svg in (
        histogram(HOSTILE, HOSTILE, [1.0, 2.0], {HOSTILE: 1.5}),
        timeline(HOSTILE, HOSTILE, [Stretch(HOSTILE, 0.0, 1.0, steady=[(0.5, 1.0), (0.6, 2.0)])]),
        scatter(Scatter(HOSTILE, HOSTILE, HOSTILE, [Dot(1, 1, HOSTILE, HOSTILE)], [Line([(1, 1), (2, 2)], HOSTILE, HOSTILE)])),
        forest(HOSTILE, HOSTILE, [Estimate(HOSTILE, 1.0, HOSTILE)]),
    ):  # fmt: skip
        root = drawn(svg)
        assert "script" not in {item.tag for item in root.iter()}
        assert root.attrib["aria-label"] == HOSTILE


def test_thin_bars_take_less_room_and_are_as_long() -> None:
    """Many bars below each other are lower; the axis is the same."""
    items = [Bar("a", 40, "40"), Bar("b", 80, "80", 70, 90)]
    thick, thin = (ElementTree.fromstring(bars("t", "ms", items, thin=value)) for value in (False, True))
    heights = [float(item.attrib["viewBox"].split()[3]) for item in (thick, thin)]
    assert heights[1] < heights[0]
    widths = [[item.attrib["width"] for item in root.findall("rect")] for root in (thick, thin)]
    assert widths[0] == widths[1]
