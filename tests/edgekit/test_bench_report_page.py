"""A benchmark's page shows what was measured, says whether to believe it, and holds everything in itself."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bench_machines import board, offline_case, operators, server_case, timed_case, warm_launch
from bench_reports import case, conditions, launch, report

from edgekit.bench import BenchmarkReport
from edgekit.bench.accuracy import Accuracy
from edgekit.errors import DataError
from edgekit.report.bench_html import bench_page
from edgekit.report.profile_parts import read_profile
from edgekit.report.units import milliseconds

HOSTILE = "<script>alert('&')</script>\"><img src=x onerror=1>"
VOID = {"meta", "link", "img"}


class Seen(HTMLParser):
    """The tags, attributes and text of a page, in which everything that opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert [] == self.open

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
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, tags as blanks."""
        return " ".join(self.words)

    def names(self) -> set[str]:
        """The tags' names."""
        return {tag for tag, _ in self.tags}


def page_of(*cases: Any, **options: Any) -> Seen:
    """The page of a benchmark of these cases."""
    return Seen(bench_page([("", board(*cases))], **options))


def titles(seen: Seen) -> list[str]:
    """The pictures' names, in order."""
    return [str(attrs["aria-label"]) for tag, attrs in seen.tags if tag == "svg"]


class TestSingle:
    """One case."""

    def test_everything_is_on_it(self) -> None:
        """The verdict, the figures, how it was measured and on what."""
        text = page_of(timed_case("m.tflite", 2.0)).text
        for words in ("Benchmark of m.tflite", "VALID", "2.00 ms", "p99", "memory", "51.00 MB", "Board 5", "Cortex-A76",
                      "1 case, 5 launches", "single-stream", "random, valid for type", "24,576", "2023-11-14 22:13 UTC",
                      "warmest zone", "highest frequency", "no source"):  # fmt: skip
            assert words in text, words

    def test_pictures(self) -> None:
        """Distribution, runs over time, launches, loading and memory."""
        assert [
            "Time of a run",
            "Over the launches",
            "Median of each launch",
            "Before the second run",
            "Memory of the process",
        ] == titles(page_of(timed_case("m.tflite", 2.0)))

    def test_energy_where_it_was_measured(self) -> None:
        """With its interval and source; below zero it has no length, and is told."""
        energy = {"joules": 3.0, "seconds": 1.0, "inferences": 200, "idle_w": 2.0, "source": "the rails"}
        launches = [warm_launch(number, 2.0, energy=energy) for number in range(5)]
        seen = page_of(case("m", *launches))
        assert "Energy per inference" in titles(seen)
        assert "5 mJ per inference (5 mJ to 5 mJ), idle's 2.00 W subtracted, the rails" in seen.text
        less = [dataclasses.replace(item, energy={**energy, "joules": 1.0}) for item in launches]
        assert "-5 mJ" in page_of(case("m", *less)).text

    def test_wrong_is_said_above_everything(self) -> None:
        """INVALID with its reasons stands before the figures."""
        bad = [launch([2e6] * 20, conditions({}, {"throttled": 0x4})) for _ in range(5)]
        text = Seen(bench_page([("", report(case("m", *bad)))])).text
        assert text.index("INVALID") < text.index("reports throttling") < text.index("Figures")

    def test_interrupted_is_said(self) -> None:
        """In the verdict and where it says how it was measured; a case without launches does no harm."""
        seen = Seen(bench_page([("", board(timed_case("m", 2.0, launches=2), case("late"), interrupted=True))]))
        assert "it was interrupted, and holds what was measured until then" in seen.text
        assert "ended early" in seen.text
        assert "It was not measured." in seen.text

    def test_nothing_measured_is_a_page_too(self) -> None:
        """Every case failed."""
        seen = page_of(case("m", error="it broke"), case("n", error="it broke too"))
        assert "2 failed" in seen.text
        assert "m: it broke" in seen.text
        assert [] == titles(seen)

    def test_old_file_has_its_page(self, tmp_path: Path) -> None:
        """Schema 1 has no moments, no conditions and no warm-up counts."""
        path = tmp_path / "old.json"
        report(case("m", *(launch([1e6 + k for k in range(40)], None) for _ in range(3)))).save(path)
        data = json.loads(path.read_text())
        data["schema"] = 1
        for item in data["cases"][0]["launches"]:
            for key in (
                "steady_started_unix_s",
                "conditions",
                "warmup_runs",
                "settled",
                "energy",
                "trials",
                "workers",
                "samples",
            ):
                item.pop(key, None)
        path.write_text(json.dumps(data))
        assert "Over the launches" in titles(Seen(bench_page([("", BenchmarkReport.read(path))])))

    @pytest.mark.parametrize("runs", [1, 2, 3])
    def test_few_runs_can_be_drawn(self, runs: int) -> None:
        """One launch of one run, too; no number on the page is none."""
        page = bench_page(
            [("", board(case("m", warm_launch(0, 2.0, runs=20, total_ns=(10**6,) * runs, warmup_ns=()))))]
        )
        assert "nan" not in re.sub(r"<style>.*</style>", "", page, flags=re.S).lower()


class TestScenarios:
    """Server and offline."""

    def test_server_shows_its_trials(self) -> None:
        """A point for each trial, hollow where it was not valid, under the bound."""
        page = bench_page([("", board(server_case()))])
        seen = Seen(page)
        assert "Rate against latency" in titles(seen)
        assert "highest valid rate" in seen.text
        assert "145 per s" in seen.text
        circles = [attrs["class"] for tag, attrs in seen.tags if tag == "circle"]
        assert (7, 1) == (circles.count("s1"), circles.count("hollow"))
        assert "160 per s (search): p99 of 600 answers" in seen.text

    def test_offline_shows_its_throughput(self) -> None:
        """Of each launch, with the samples per second."""
        seen = page_of(offline_case())
        assert "Throughput of each launch" in titles(seen)
        assert "samples per second" in seen.text
        assert "Time of a run" not in titles(seen)


class TestSeveral:
    """Cases beside each other."""

    def test_sweep_is_a_table_with_its_failures(self) -> None:
        """Delegates across, threads down, the failed one named; shaded by ratio, the fastest most."""
        cases = [
            timed_case("m", median, delegate=delegate, threads=threads)
            for (delegate, threads), median in zip(
                [("xnnpack", 1), ("xnnpack", 2), ("none", 1)], (4.0, 2.0, 8.0), strict=True
            )
        ]
        page = bench_page([("", board(*cases, case("m", error="it broke", delegate="none", threads=2)))])
        table = re.search(r'<table class="heat">.*?</table>', page, re.S)
        assert table is not None
        one, two, three = (milliseconds(item.interval.value) for item in cases if item.interval is not None)
        assert [["", "xnnpack", "none"], ["1 thread", one, three], ["2 threads", two, "failed"]] == [
            re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in table[0].split("</tr>")[:-1]
        ]
        shades = [float(value) for value in re.findall(r"--of:([\d.]+)", table[0])]
        assert pytest.approx([0.375, 0.0, 0.75], abs=0.01) == shades

    def test_ratios_have_their_intervals(self) -> None:
        """Against the first one, with a picture of the medians besides."""
        seen = page_of(timed_case("a", 2.0), timed_case("b", 1.0))
        assert ["Median run", "Against the first"] == titles(seen)[:2]
        assert "Time as a multiple of that of a" in seen.text

    def test_many_cases_are_folded(self) -> None:
        """Few are open, many are not; each is a heading that the keyboard reaches."""
        few, many = (page_of(*(timed_case(str(k), 1.0, launches=2) for k in range(count))) for count in (2, 5))
        for seen, count, shown in ((few, 2, 2), (many, 5, 0)):
            folds = [attrs for tag, attrs in seen.tags if tag == "details" and "id" in attrs]
            assert (count, shown) == (len(folds), sum("open" in attrs for attrs in folds))

    def test_links_lead_somewhere(self) -> None:
        """Each link at the top is to a part of the page."""
        seen = page_of(*(timed_case(str(k), 1.0, launches=2) for k in range(3)), profiles=[operators()])
        places = {attrs["id"] for _, attrs in seen.tags if "id" in attrs}
        links = [str(attrs["href"]) for tag, attrs in seen.tags if tag == "a"]
        assert len(links) >= 6
        assert {link.removeprefix("#") for link in links} == places

    def test_files_are_compared(self) -> None:
        """Ratios and differences, each benchmark's verdict and machine, and whose is which."""
        slow = dataclasses.replace(board(timed_case("m", 3.0)), host={"cpu_model": {"value": "Other", "source": "x"}})
        seen = Seen(bench_page([("a.json", board(timed_case("m", 2.0))), ("b.json", slow)]))
        for words in ("Compared with a.json", "1.500", "the processor differs: Cortex-A76 → Other", "a.json: m", "b.json: m",
                      "The machine (b.json)"):  # fmt: skip
            assert words in seen.text, words
        assert "Against a.json" in titles(seen)


class TestAccuracy:
    """Accuracy against latency."""

    KNOWN: ClassVar = {
        (name, name * 64): Accuracy("accuracy", value, value - 0.01, value + 0.01, "90 samples of x.npz")
        for name, value in (("a", 0.9), ("b", 0.7), ("c", 0.6))
    }

    def cases(self) -> list[Any]:
        """Three models; the third is slower than the second and less right."""
        return [timed_case(name, median, sha256=name * 64) for name, median in (("a", 4.0), ("b", 1.0), ("c", 2.0))]

    def test_front_is_marked(self) -> None:
        """Full points and words for what is worth a choice, a line through them; the figures in a table."""
        page = bench_page([("", board(*self.cases()))], accuracy=self.KNOWN)
        picture = re.search(r'<svg[^>]*aria-label="Accuracy against latency".*?</svg>', page, re.S)
        assert picture is not None
        assert ["s1", "s1", "hollow"] == re.findall(r'<circle class="(\w+)"', picture[0])
        assert "the front" in picture[0]
        text = Seen(page).text
        assert "90.00 % (89.0 to 91.0)" in text
        assert 2 == text.count("on the front") - text.count("points are on the front")

    def test_unknown_ones_are_named(self) -> None:
        """What has no figure is said, and without any there is no picture."""
        seen = page_of(*self.cases(), timed_case("d", 1.0), accuracy=self.KNOWN)
        assert "Of these no accuracy is known: d." in seen.text
        assert "Accuracy against latency" not in titles(page_of(*self.cases()))

    def test_metrics_are_kept_apart(self) -> None:
        """A share and another figure do not share an axis."""
        known = {**self.KNOWN, ("c", "c" * 64): Accuracy("mean_error", 3.25, None, None, "x")}
        seen = page_of(*self.cases(), accuracy=known)
        assert ["Accuracy against latency", "Mean_error against latency"] == titles(seen)[:2]
        assert "3.25" in seen.text


class TestOperators:
    """A profile's part of the page."""

    def test_bars_roofline_and_tables(self) -> None:
        """By operator, with the ceiling; the model by its name."""
        seen = page_of(timed_case("m", 2.0), profiles=[operators()])
        assert ["Time by operator", "Roofline"] == titles(seen)[-2:]
        assert "Operators of m.tflite on xnnpack" in seen.text
        assert "at most 40 GMAC/s in int8, 50 GB/s" in seen.text

    def test_many_kinds_are_put_together(self) -> None:
        """Ten bars, and one of the rest."""
        page = bench_page([("", board(timed_case("m", 2.0)))], profiles=[operators(25)])
        assert "15 other kinds" in page

    def test_without_a_ceiling_there_is_no_roofline(self) -> None:
        """The bars are there all the same."""
        seen = page_of(timed_case("m", 2.0), profiles=[dataclasses.replace(operators(), roofline=None)])
        assert "Roofline" not in titles(seen)

    def test_file_is_read_again(self, tmp_path: Path) -> None:
        """What `bench profile` writes, and nothing else."""
        path = tmp_path / "p.json"
        path.write_text(json.dumps(operators().to_json()))
        assert operators() == read_profile(path)
        for content, message in (("{", "is not a profile"), ("[]", "is not a profile"), ('{"type":"edgekit-profile","schema":9}', "has schema 9"),
                                 ('{"type":"edgekit-profile","schema":1}', "is damaged")):  # fmt: skip
            path.write_text(content)
            with pytest.raises(DataError, match=message):
                read_profile(path)
        with pytest.raises(DataError, match="no such file"):
            read_profile(tmp_path / "none")

    def test_file_that_was_changed_is_refused(self, tmp_path: Path) -> None:
        """A value of another kind is named, and a profile without operators is none."""
        path, data = tmp_path / "p.json", operators().to_json()
        path.write_text(json.dumps({**data, "operators": []}))
        with pytest.raises(DataError, match="holds no operator"):
            read_profile(path)
        data["operators"][1]["median_ns"] = "x"
        path.write_text(json.dumps(data))
        with pytest.raises(DataError, match="OpTime, median_ns is 'x', which cannot be"):
            read_profile(path)


class TestDocument:
    """The file itself."""

    def everything(self, name: str) -> str:
        """A page with each kind of part, where every text is ``name``."""
        cases = [timed_case(f"{name}{k}", 2.0 + k, sha256=str(k) * 64, delegate=name) for k in range(3)]
        failed = case(name, error=name)
        profile = dataclasses.replace(operators(), model=name, delegate=name, engine=name)
        profile = dataclasses.replace(
            profile, ops=tuple(dataclasses.replace(op, name=name, output=name) for op in profile.ops)
        )
        known = {(f"{name}{k}", str(k) * 64): Accuracy(name, 0.5 + k, None, None, name) for k in range(3)}
        host = {name: {"value": name, "source": name}, "cpu_flags": {"value": [name], "source": name}}
        reports = [dataclasses.replace(board(*cases, failed, inputs=name), host=host) for _ in range(2)]
        return bench_page([(f"{name}.a", reports[0]), (f"{name}.b", reports[1])], accuracy=known, profiles=[profile])

    def test_texts_are_text(self) -> None:
        """Markup in a name, an error or a fact of the host is shown, not obeyed."""
        seen = Seen(self.everything(HOSTILE))
        assert not {"script", "img"} & seen.names()
        assert not [attrs for _, attrs in seen.tags if any(name.startswith("on") for name in attrs)]
        assert Seen(self.everything("plain")).names() == seen.names()
        assert HOSTILE in "".join(seen.words)

    def test_nothing_comes_from_outside(self) -> None:
        """No script and no address but inline data and places on the page; the browser is told to load nothing."""
        page = self.everything("plain")
        seen = Seen(page)
        assert not {"script", "iframe", "object", "embed", "video"} & seen.names()
        addresses = [
            str(value)
            for _, attrs in seen.tags
            for name, value in attrs.items()
            if name in ("src", "href", "xlink:href")
        ]
        assert addresses
        assert [] == [address for address in addresses if not address.startswith(("data:", "#"))]
        assert not re.search(r"url\(|@import|https?:", page)
        assert "default-src 'none'" in page

    def test_pictures_and_tables_have_names(self) -> None:
        """For who cannot see them; what scrolls can be reached with the keyboard."""
        seen = Seen(self.everything("plain"))
        assert all(attrs.get("aria-label") and attrs.get("role") == "img" for tag, attrs in seen.tags if tag == "svg")
        boxes = [attrs for tag, attrs in seen.tags if attrs.get("tabindex") == "0"]
        assert boxes
        assert all(attrs.get("aria-label") and attrs.get("role") == "region" for attrs in boxes)

    def test_thousands_of_runs_are_a_small_file(self) -> None:
        """Twenty cases of eight launches of two thousand runs: a third of a million times, below a megabyte."""
        cases = [timed_case(f"m{k}", 1.0 + k, launches=8, runs=2000) for k in range(20)]
        assert len(bench_page([("", board(*cases))]).encode()) < 1_000_000

    def test_is_the_same_each_time(self) -> None:
        """Two pages of one benchmark are one."""
        assert self.everything("x") == self.everything("x")
