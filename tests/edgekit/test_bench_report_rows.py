"""CSV and Markdown hold every figure of the one list of fields, and nothing in a name ends a cell."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from bench_machines import board, offline_case, server_case, timed_case
from bench_reports import case

from edgekit.bench.figures import FIELDS
from edgekit.report.bench_rows import (
    HISTOGRAM,
    PARTS,
    csv_text,
    histogram_field,
    machine_text,
    markdown_escape,
    markdown_text,
    samples_csv_text,
    with_histogram,
)
from edgekit.report.fields import as_json, table


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text by column."""
    return list(csv.DictReader(io.StringIO(text)))


class TestCsv:
    """A row for each case."""

    def test_every_figure_is_in_it(self) -> None:
        """Each field's value, and each part of those that hold several, under a name of its own."""
        reports = [("a", board(timed_case("m.tflite", 2.0), timed_case("n.tflite", 1.0))), ("b", board(server_case())),
                   ("c", board(offline_case()))]  # fmt: skip
        rows = rows_of(csv_text(reports))
        results = [result for _, report in reports for result in report.cases]
        assert ["a", "a", "b", "c"] == [row["benchmark"] for row in rows]
        for row, result in zip(rows, results, strict=True):
            for key, value in as_json(FIELDS, result).items():
                found = (
                    {column: None if value is None else value[part] for part, column in PARTS[key]}
                    if key in PARTS
                    else {key: value}
                )
                for column, expected in found.items():
                    text = (
                        ""
                        if expected is None
                        else str(expected).lower()
                        if isinstance(expected, bool)
                        else str(expected)
                    )
                    assert text == row[column], column

    def test_no_cell_holds_several_figures(self) -> None:
        """A field whose value is not a single one has its parts in the table."""
        results = [*board(timed_case("m", 2.0), timed_case("n", 1.0)).cases, server_case(), offline_case()]
        several = {
            key
            for result in results
            for key, value in as_json(FIELDS, result).items()
            if isinstance(value, dict | list)
        }
        assert several <= set(PARTS)
        assert set(PARTS) <= {field.key for field in FIELDS}

    def test_columns_are_the_same_for_every_benchmark(self) -> None:
        """So that files can be put together; each name once, and times with their unit."""
        heads = [
            csv_text([("", board(item))]).split("\n", 1)[0]
            for item in (timed_case("m", 2.0), server_case(), case("x", error="no"))
        ]
        assert 1 == len(set(heads))
        names = heads[0].split(",")
        assert len(set(names)) == len(names)
        assert {"median_ns", "median_low_ns", "peak_rss_bytes", "energy_per_inference_j", "reasons"} <= set(names)

    def test_failed_case_is_a_row(self) -> None:
        """With its error and without figures."""
        (row,) = rows_of(csv_text([("", board(case("x", error="it broke, twice\nor so")))]))
        assert ("it broke, twice\nor so", "", "0") == (row["error"], row["median_ns"], row["launches"])

    @pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "a,b", 'a"b', "a\nb", "ä → ∞", "\tx"])
    def test_names_are_text(self, name: str) -> None:
        """No name ends a cell, and none is a formula for a spreadsheet."""
        (row,) = rows_of(csv_text([("", board(timed_case(name, 1.0)))]))
        assert name == row["model"].removeprefix("'")
        assert not row["model"].startswith(("=", "+", "-", "@", "\t"))


class TestSamples:
    """A row for each run."""

    def test_all_runs_are_there(self) -> None:
        """First, warm-up and steady runs of each launch in order, as they were timed."""
        report = board(timed_case("m", 2.0, launches=2, runs=30))
        rows = rows_of(samples_csv_text([("f.json", report)]))
        launch = report.cases[0].launches[1]
        mine = [row for row in rows if row["launch"] == "2"]
        assert [str(value) for value in launch.total_ns] == [
            row["total_ns"] for row in mine if row["phase"] == "steady"
        ]
        assert [str(value) for value in launch.warmup_ns] == [
            row["total_ns"] for row in mine if row["phase"] == "warm-up"
        ]
        assert [str(launch.first_run_ns)] == [row["total_ns"] for row in mine if row["phase"] == "first"]

    def test_queries_have_their_rate(self) -> None:
        """Of the server scenario each answered query of each trial."""
        result = server_case()
        rows = rows_of(samples_csv_text([("", board(result))]))
        confirmed = [row for row in rows if row["phase"] == "confirm"]
        assert len(confirmed) == sum(len(trial.latency_ns) for trial in result.trials if trial.purpose == "confirm")
        assert {"145.0"} == {row["trial_rate_per_s"] for row in confirmed}


def cells(line: str) -> list[str]:
    """The cells of a Markdown table's line; an escaped bar ends none."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


class TestMarkdown:
    """For a pull request."""

    def test_table_has_the_terminals_columns(self) -> None:
        """The same headings and cells, with the histogram as code."""
        report = board(timed_case("m.tflite", 2.0), timed_case("n.tflite", 1.0))
        lines = markdown_text([("", report)]).splitlines()
        head, _, *body = [cells(line) for line in lines if line.startswith("|")]
        titles, rows = table(with_histogram(FIELDS, histogram_field(16)), report.cases)
        assert titles == head
        place = head.index(HISTOGRAM)
        assert [row[:place] for row in rows] == [row[:place] for row in body]
        assert all(re.fullmatch("`[▁-█\N{NO-BREAK SPACE}]{16}`", row[place]) for row in body)

    def test_verdict_and_machine(self) -> None:
        """Why not to believe it comes first, what it was measured on last."""
        text = markdown_text([("x.json", board(timed_case("m", 2.0, launches=2)))])
        assert text.startswith("### Benchmark x.json\n\n**NOISY**\n\n- 2 launches: launches differ")
        assert text.endswith("Board 5, Cortex-A76, 4 processors, edgekit 0.1.0, 2023-11-14T22:13:20Z.\n")

    def test_several_are_compared(self) -> None:
        """The ratio of the second to the first stands below."""
        text = markdown_text([("a.json", board(timed_case("m", 2.0))), ("b.json", board(timed_case("m", 1.0)))])
        assert "### Latency against a.json" in text
        assert "| m | 2.00 ms | 1.00 ms | 0.500 " in text

    @pytest.mark.parametrize("name", ["a|b", "<img src=x>", "`c`", "[a](http://x)", "*a*", "a\nb", "_a_", "a\\"])
    def test_names_are_text(self, name: str) -> None:
        """No name ends a cell or a line, and none is markup."""
        text = markdown_text([("", board(timed_case(name, 1.0), timed_case("other", 2.0)))])
        rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
        assert 1 == len({len(row) for row in rows})
        shown = rows[2][0]
        assert " ".join(name.split()) == re.sub(r"\\(.)", r"\1", shown)
        assert not re.search(r"[\\`*\[\]<>|]|\b_|_\b", re.sub(r"\\.", "", shown))

    def test_plain_names_stay_as_they_are(self) -> None:
        """Underscores inside a word are no markup."""
        assert "my_model_v1.0.tflite" == markdown_escape("my_model_v1.0.tflite")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, ""),
        ({"cpu_model": None, "machine": {"value": "x86_64", "source": "uname"}}, "x86_64"),
        ({"cpu_model": {"value": "C", "source": ""}, "logical_cores": {"value": 1, "source": ""}}, "C, 1 processor"),
        ({"machine": "plain"}, "plain"),
    ],
    ids=["nothing", "machine", "one", "old"],
)
def test_machine_in_a_line(host: dict[str, Any], expected: str) -> None:
    """What is known of it, and nothing where nothing is."""
    import dataclasses

    assert expected == machine_text(dataclasses.replace(board(timed_case("m", 1.0)), host=host))
