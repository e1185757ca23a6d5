"""Benchmarks are kept in a folder, read in order, compared and drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bench_reports import case, conditions, launch, report, steady

from edgekit.bench.history import add_to_history, read_history
from edgekit.bench.results import BenchmarkReport
from edgekit.errors import DataError, OptionError
from edgekit.report.trend import Point, span, trend

DAY_S = 86_400.0


def measured(day: int, median_ns: float = 1e6, **options: Any) -> BenchmarkReport:
    """A benchmark of one model on that day of 1970."""
    return report(case("m.tflite", *steady(median_ns, seed=day)), started_unix_s=day * DAY_S, **options)


class TestFolder:
    """What is put in comes out."""

    def test_benchmarks_come_back_in_order(self, tmp_path: Path) -> None:
        """Oldest first, whatever was added first; each with its label, or its day without."""
        folder = tmp_path / "a" / "history"
        for day, label in ((3, None), (1, "abc123"), (2, "v1.2+x")):
            add_to_history(folder, measured(day), label)
        history = read_history(folder)
        assert ["abc123", "v1.2+x", "1970-01-04"] == [entry.label for entry in history.entries]
        assert [measured(day) for day in (1, 2, 3)] == [entry.report for entry in history.entries]
        assert () == history.problems

    def test_same_again_is_replaced(self, tmp_path: Path) -> None:
        """One moment and label is one file."""
        assert add_to_history(tmp_path, measured(1), "a") == add_to_history(tmp_path, measured(1), "a")
        assert len(read_history(tmp_path).entries) == 1

    def test_other_files_are_told_or_left_alone(self, tmp_path: Path) -> None:
        """A text is left alone, JSON that is no benchmark is told, a benchmark of another name has that name."""
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "other.json").write_text("{}")
        measured(5).save(tmp_path / "before_the_change.json")
        history = read_history(tmp_path)
        assert ["before_the_change"] == [entry.label for entry in history.entries]
        assert len(history.problems) == 1
        assert "other.json is not a benchmark" in history.problems[0]

    @pytest.mark.parametrize("label", ["", "a/b", "../x", "a b", "ä", "x" * 61])
    def test_labels_that_are_no_names(self, tmp_path: Path, label: str) -> None:
        """Nothing outside the folder can be named."""
        with pytest.raises(OptionError, match="is not one"):
            add_to_history(tmp_path, measured(1), label)

    def test_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """A wrong name is told."""
        with pytest.raises(DataError, match="no such file"):
            read_history(tmp_path / "none")


class TestTrend:
    """How cases went."""

    def test_last_is_compared_with_the_one_before(self, tmp_path: Path) -> None:
        """By their labels; older ones do not matter."""
        for day, median in ((1, 9e6), (2, 1e6), (3, 1.2e6)):
            add_to_history(tmp_path, measured(day, median), f"c{day}")
        found = read_history(tmp_path).compare_latest(fail_over=0.05)
        assert ("c2", ["c3"], False) == (found.base, [item.label for item in found.against], found.passed)

    def test_one_cannot_be_compared(self, tmp_path: Path) -> None:
        """There is nothing before it."""
        add_to_history(tmp_path, measured(1))
        with pytest.raises(OptionError, match="at least two were expected"):
            read_history(tmp_path).compare_latest()

    def test_cases_over_time(self, tmp_path: Path) -> None:
        """Each case by itself; a day on which it failed or was not measured has no point."""
        both = [case("a", *steady(1e6)), case("b", *steady(2e6))]
        add_to_history(tmp_path, report(*both, started_unix_s=1.0), "x")
        add_to_history(tmp_path, report(both[0], case("b", error="it broke"), started_unix_s=2.0), "y")
        series = read_history(tmp_path).series()
        assert {"a": ["x", "y"], "b": ["x"]} == {
            name: [entry.label for entry, _ in results] for name, results in series.items()
        }

    def test_page(self, tmp_path: Path) -> None:
        """A section, a picture and a table for each case; what may not be believed is hollow; nothing comes from outside."""
        bad = [launch([2e6] * 20, conditions({}, {"throttled": 0x4})) for _ in range(5)]
        add_to_history(tmp_path, measured(1), "good")
        add_to_history(tmp_path, report(case("m.tflite", *bad), started_unix_s=2 * DAY_S), "bad")
        (tmp_path / "other.json").write_text("{}")
        page = read_history(tmp_path).html("Trends & more")
        assert page.count("<section>") == page.count("<svg") == page.count("<table>") == 1
        assert (1, 1) == (page.count('<circle class="s1"'), page.count('<circle class="whisker"'))
        assert "<h1>Trends &amp; more</h1>" in page
        assert "other.json is not a benchmark" in page
        assert "INVALID" in page
        assert [] == re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"|url\(|@import", page)

    def test_page_of_nothing(self, tmp_path: Path) -> None:
        """A folder without a timed case has no trend."""
        add_to_history(tmp_path, report(case("m", error="it broke")))
        with pytest.raises(DataError, match="no benchmark with a timed case"):
            read_history(tmp_path).html()


class TestPicture:
    """The trend's picture."""

    @pytest.mark.parametrize(
        ("low", "high"), [(1.0, 1.04), (0.0, 0.0), (5.0, 5.0), (2.31, 19.7), (1e-6, 3e-6), (99.9, 100.1)]
    )
    def test_axis_reaches_around_the_values(self, low: float, high: float) -> None:
        """Three to seven round numbers, evenly apart."""
        marks = span(low, high)
        assert 3 <= len(marks) <= 7
        assert marks[0] <= low + 1e-12
        assert marks[-1] >= high - 1e-12
        assert marks[1] - marks[0] == pytest.approx(marks[-1] - marks[-2])

    def test_points_lie_inside_and_in_order(self) -> None:
        """Left to right, higher values higher up, intervals around them, all within the picture."""
        points = [Point("a", 1.0, 0.9, 1.2), Point("b & c", 3.0, None, None, sound=False), Point("d", 2.0, 1.5, 2.5)]
        root = ElementTree.fromstring(trend("t", "ms", points))
        circles = [item for item in root if item.tag == "circle"]
        places = [(float(item.attrib["cx"]), float(item.attrib["cy"])) for item in circles]
        assert sorted(places) == places
        assert places[1][1] < places[2][1] < places[0][1]
        _, _, width, height = (float(value) for value in root.attrib["viewBox"].split())
        assert all(0 < x < width and 0 < y < height for x, y in places)
        assert ["s1", "whisker", "s1"] == [item.attrib["class"] for item in circles]
        whiskers = [item for item in root if item.tag == "path" and "stroke-opacity" not in item.attrib]
        assert len(whiskers) == 2
        assert "b & c: 3.00 ms" == circles[1][0].text

    def test_single_point(self) -> None:
        """One benchmark is a trend of one."""
        root = ElementTree.fromstring(trend("t", "ms", [Point("a", 1.0)]))
        assert [item.tag for item in root].count("circle") == 1
