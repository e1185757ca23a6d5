"""``edgekit log``: percentiles from a latency log, its newest runs, several logs in one, and other programs' formats."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from processes import ELSEWHERE, LIMIT_SECONDS

from edgekit.cli import cli
from edgekit.runtime.latency import TIMES, LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log
from edgekit.runtime.logformat import SCHEMA
from edgekit.runtime.summary import LatencySummary

HEADER: dict[str, Any] = {
    "model": "m.tflite",
    "engine": "litert 2.3",
    "got": {"delegate": "xnnpack", "partitions": 1},
    "host": {"node": "board-1"},
}


def run(*arguments: object) -> Result:
    """Run ``edgekit log`` with these arguments."""
    return CliRunner().invoke(cli, ["log", *(str(argument) for argument in arguments)])


def write(path: Path, runs: int, header: dict[str, Any] = HEADER, **options: Any) -> None:
    """A log of runs of 1, 2, 3, … ms: a tenth queue, half invoke."""
    log = LatencyLog(path=LogOptions(path, **options), header=header)
    for number in range(1, runs + 1):
        log.add_ns(10**9 * number, number * 100_000, number * 100_000, number * 500_000, number * 300_000)
    log.close()


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log of two sessions: a hundred runs of 1 to 100 ms, and none."""
    path = tmp_path / "l.jsonl"
    write(path, 100)
    write(path, 0, {"model_sha256": "a" * 64, "model": None})
    return path


class TestSummary:
    """``edgekit log summary``."""

    def test_table(self, log_file: Path) -> None:
        """For each session a row for each time: what ran on what, how often, and the percentiles in milliseconds."""
        result = run("summary", log_file)
        assert (result.exit_code, result.stderr) == (0, "")
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
        first = ["1", "m.tflite", "litert 2.3, xnnpack", "100", "total", "50.00 ms", "90.00 ms", "99.00 ms", "100 ms"]
        queue = ["", "", "", "", "queue", "5.00 ms", "9.00 ms", "9.90 ms", "10.00 ms"]
        assert [first, queue] == rows[:2]
        assert ["copy in", "invoke", "copy out"] == [row[4] for row in rows[2:5]]
        assert ["2", "a" * 12, "?, ?", "0", "total", *["0.000 ms"] * 4] == rows[5]
        assert str(log_file) in "".join(result.stdout.split("\n"))
        assert "session 1" not in result.stdout

    def test_a_delegate_that_took_nothing(self, tmp_path: Path) -> None:
        """What ran is the interpreter itself, whatever was asked for."""
        path = tmp_path / "l.jsonl"
        write(path, 0, {"engine": "litert 2.3", "got": {"delegate": "xnnpack", "partitions": 0}})
        assert "litert 2.3, none" in run("summary", path).stdout

    def test_json(self, log_file: Path) -> None:
        """Each session with its header and each phase's summary."""
        result = run("summary", log_file, "--json")
        assert (result.exit_code, result.stderr) == (0, "")
        data = json.loads(result.stdout)
        first, second = read_log(log_file)
        assert data["path"] == str(log_file)
        assert [item["header"] for item in data["sessions"]] == [first.header, second.header]
        seen = data["sessions"][0]["latency"]
        assert list(TIMES) == list(seen)
        assert LatencySummary.of(number * 1_000_000 for number in range(1, 101)).to_json() == seen["total"]
        assert [seen[name]["p50_ns"] for name in TIMES] == [50_000_000, 5_000_000, 5_000_000, 25_000_000, 15_000_000]
        assert 0 == data["sessions"][1]["latency"]["total"]["count"]
        rest = {"records": 100, "first": 0, "closed": True, "dropped": 0, "damaged": 0, "missing": 0, "gaps": []}
        assert rest == {key: data["sessions"][0][key] for key in rest}

    def test_what_is_missing(self, tmp_path: Path) -> None:
        """Gaps, drops and torn lines are said."""
        path = tmp_path / "l.jsonl"
        head = json.dumps({"type": "edgekit-latency", "schema": SCHEMA, "session": "a", "first": 5})
        lines = [head, "[5,1,1,1,1,1]", "[6,1", "[7,1,1,1,1,1]", '{"dropped": 4}', "[12,1,1,1,1,1]"]
        path.write_text("\n".join(lines) + "\n")
        remarks = [line for line in run("summary", path).stdout.splitlines() if line.startswith("session 1: ")]
        assert [
            "session 1: runs before number 5 were in older files.",
            "session 1: 5 runs are missing: 6, 8 to 11.",
            "session 1: 4 records could not be written (a full or slow disk).",
            "session 1: 1 lines could not be read (a kill, a power cut or a damaged disk).",
        ] == remarks
        (data,) = json.loads(run("summary", path, "--json").stdout)["sessions"]
        expected = {"first": 5, "missing": 5, "gaps": [[6, 6], [8, 11]], "dropped": 4, "damaged": 1, "closed": False}
        assert expected == {key: data[key] for key in expected}

    def test_rotated_files_and_folders(self, tmp_path: Path) -> None:
        """The numbered files belong to the log, and a folder means the logs in it."""
        write(tmp_path / "l.jsonl", 1000, max_bytes=20_000, keep=20)
        assert len(list(tmp_path.iterdir())) > 2
        for path in (tmp_path / "l.jsonl", tmp_path):
            (data,) = json.loads(run("summary", path, "--json").stdout)["sessions"]
            assert (1000, 1000) == (data["latency"]["total"]["count"], data["records"])

    def test_a_name_is_taken_literally(self, log_file: Path) -> None:
        """Brackets in a name are no markup."""
        path = log_file.rename(log_file.with_name("l[bold].jsonl"))
        result = run("summary", path)
        assert (result.exit_code, "l[bold].jsonl" in "".join(result.stdout.split("\n"))) == (0, True)


class TestTail:
    """``edgekit log tail``."""

    def test_the_newest_runs(self, log_file: Path) -> None:
        """One line for each, the oldest of them first."""
        result = run("tail", log_file, "-n", "2")
        assert (0, "") == (result.exit_code, result.stderr)
        pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  m\.tflite  #(\d+)  total (.*) ms  queue (.*) ms  copy_in .*"
        seen = [re.fullmatch(pattern, line) for line in result.stdout.splitlines()]
        assert [("98", "99.00", "9.90"), ("99", "100", "10.00")] == [match.groups() for match in seen if match]

    def test_json(self, log_file: Path) -> None:
        """One object on each line."""
        lines = [json.loads(line) for line in run("tail", log_file, "--json", "-n", "200").stdout.splitlines()]
        assert list(range(100)) == [line["sequence"] for line in lines]
        expected = {
            "model": "m.tflite",
            "start_ns": 10**9,
            "queue_ns": 10**5,
            "invoke_ns": 5 * 10**5,
            "total_ns": 10**6,
        }
        assert expected == {key: lines[0][key] for key in expected}

    def test_across_rotated_files(self, tmp_path: Path) -> None:
        """What is asked for may be in older files."""
        path = tmp_path / "l.jsonl"
        write(path, 1000, max_bytes=20_000, keep=20)
        lines = run("tail", path, "--json", "-n", "700").stdout.splitlines()
        assert list(range(300, 1000)) == [json.loads(line)["sequence"] for line in lines]
        assert "" == run("tail", path, "-n", "0").stdout

    def test_follow(self, tmp_path: Path) -> None:
        """The runs that come are printed as they come, through rotation; an interrupt ends it well."""
        path = tmp_path / "l.jsonl"
        write(path, 50)
        command = [sys.executable, "-m", "edgekit", "log", "tail", str(path), "--follow", "--json", "-n", "1"]
        with subprocess.Popen(
            command, cwd=ELSEWHERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            try:
                assert 49 == json.loads(child.stdout.readline())["sequence"]
                write(path, 1500, max_bytes=20_000, keep=20)
                seen = [json.loads(child.stdout.readline())["sequence"] for _ in range(1)]
                while seen[-1] != 1499:
                    seen.append(json.loads(child.stdout.readline())["sequence"])
                time.sleep(0.1)
                child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=LIMIT_SECONDS)
            finally:
                child.kill()
        assert (0, "", "") == (child.returncode, out, err)
        assert sorted(set(seen)) == seen  # what was rotated twice between two looks may be missing, never doubled

    def test_a_header_that_lies(self, tmp_path: Path) -> None:
        """A start that no clock can show is not shown."""
        path = tmp_path / "l.jsonl"
        head = {"type": "edgekit-latency", "schema": 2, "session": "a", "started_unix_s": 1e300, "started_clock_ns": 5}
        path.write_text(f"{json.dumps(head)}\n[0,1,2,3,4,5]\n")
        result = run("tail", path)
        assert (0, "?  ?  #0") == (result.exit_code, result.stdout[:8])


class TestMerge:
    """``edgekit log merge``."""

    def test_two_devices(self, tmp_path: Path) -> None:
        """Each keeps its header and runs."""
        write(tmp_path / "a.jsonl", 10)
        write(tmp_path / "b.jsonl", 20, {**HEADER, "host": {"node": "board-2"}})
        result = run("merge", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "both", "--json")
        assert {"output": str(tmp_path / "both"), "sessions": 2, "runs": 30} == json.loads(result.stdout)
        before = [part for name in ("a.jsonl", "b.jsonl") for part in read_log(tmp_path / name)]
        after = read_log(tmp_path / "both")
        for one, other in zip(before, after, strict=True):
            assert (one.header, one.records, one.closed) == (other.header, other.records, other.closed)
            assert one.histogram().to_json() == other.histogram().to_json()

    def test_the_same_device_twice(self, tmp_path: Path) -> None:
        """A log that was fetched while it grew, and later again: each run is there once."""
        path, early = tmp_path / "l.jsonl", tmp_path / "early.jsonl"
        log = LatencyLog(path=path, header=HEADER)
        for number in range(100):
            log.add_ns(number, 1, 2, 3, 4)
            if number == 50:
                log.flush()
                early.write_bytes(path.read_bytes())
        log.close()
        assert 0 == run("merge", path, early, path, "-o", tmp_path / "merged").exit_code
        (part,) = read_log(tmp_path / "merged")
        assert (read_log(path)[0].records, 100) == (part.records, part.closed)

    def test_what_was_missing_stays_so(self, tmp_path: Path) -> None:
        """Merging makes no log look better."""
        path = tmp_path / "l.jsonl"
        write(path, 2000, max_bytes=200_000, keep=2)
        head = json.dumps({"type": "edgekit-latency", "schema": SCHEMA, "session": "x", "first": 5})
        (tmp_path / "gaps").write_text(f'{head}\n[5,1,1,1,1,1]\n{{"dropped": 4}}\n[12,1,1,1,1,1]\n')
        assert 0 == run("merge", tmp_path, "-o", tmp_path / "merged").exit_code
        before = {part.header["session"]: part for part in (*read_log(path), *read_log(tmp_path / "gaps"))}
        for part in read_log(tmp_path / "merged"):
            old = before[part.header["session"]]
            assert (old.first, old.gaps, old.dropped, old.summary()) == (
                part.first,
                part.gaps,
                part.dropped,
                part.summary(),
            )

    def test_schema_1(self, tmp_path: Path) -> None:
        """Older logs come out in the present form; the same one twice is one session."""
        (tmp_path / "old").write_text('{"type": "edgekit-latency", "schema": 1, "pid": 7}\n[1,2,3,4]\n[5,6,7,8]\n')
        assert 0 == run("merge", tmp_path / "old", tmp_path / "old", "-o", tmp_path / "merged").exit_code
        (part,) = read_log(tmp_path / "merged")
        assert (SCHEMA, 7) == (part.header["schema"], part.header["pid"])
        assert read_log(tmp_path / "old")[0].records == part.records

    def test_an_existing_file_is_kept(self, log_file: Path, tmp_path: Path) -> None:
        """Until one says otherwise."""
        output = tmp_path / "out"
        output.write_text("precious")
        result = run("merge", log_file, "-o", output)
        assert (2, "precious") == (result.exit_code, output.read_text())
        assert "exists already" in result.stderr
        assert 0 == run("merge", log_file, "-o", output, "--overwrite").exit_code


def metrics(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of a Prometheus text file; its grammar is checked on the way."""
    samples = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            mark, name, rest = line[2:].split(" ", 2)
            assert mark in ("HELP", "TYPE")
            kinds[name] = rest
            continue
        match = re.fullmatch(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)', line)
        assert match, line
        family = re.sub(r"_(bucket|sum|count)$", "", match[1]) if match[1] not in kinds else match[1]
        assert kinds[family] in ("histogram", "gauge", "counter")
        labels = frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2]))
        assert (match[1], labels) not in samples, line
        samples[match[1], labels] = float(match[3])
    return samples


class TestExport:
    """``edgekit log export``."""

    def test_csv(self, log_file: Path, tmp_path: Path) -> None:
        """A row for each run, with names for its columns."""
        result = run("export", log_file, "--format", "csv", "-o", tmp_path / "l.csv")
        assert (0, f"{tmp_path / 'l.csv'}: 100 runs of 2 sessions\n") == (result.exit_code, result.stdout)
        rows = list(csv.DictReader(io.StringIO((tmp_path / "l.csv").read_text())))
        assert 100 == len(rows)
        expected = {
            "node": "board-1",
            "model": "m.tflite",
            "delegate": "xnnpack",
            "sequence": "2",
            "start_ns": "3000000000",
            "queue_ns": "300000",
            "copy_in_ns": "300000",
            "invoke_ns": "1500000",
            "copy_out_ns": "900000",
            "total_ns": "3000000",
        }
        assert expected == {key: rows[2][key] for key in expected}
        header = read_log(log_file)[0].header
        unix = header["started_unix_s"] + (3 * 10**9 - header["started_clock_ns"]) / 1e9
        assert abs(float(rows[2]["start_unix_s"]) - unix) < 1e-4

    def test_prometheus(self, log_file: Path, tmp_path: Path) -> None:
        """Counters, a histogram and percentiles for each model, delegate and machine; its sessions are added up."""
        write(log_file, 100)
        write(log_file, 50, {**HEADER, "model": 'a "quoted"\\name\n'})
        output = tmp_path / "edgekit.prom"
        assert 0 == run("export", log_file, "--format", "prometheus", "-o", output).exit_code
        samples = metrics(output.read_text())
        labels = {("model", "m.tflite"), ("delegate", "xnnpack"), ("node", "board-1")}

        def value(name: str, **more: str) -> float:
            return samples[name, frozenset({*labels, *more.items()})]

        assert 200 == value("edgekit_run_seconds_count", phase="total")
        assert abs(2 * 5.05 - value("edgekit_run_seconds_sum", phase="total")) < 1e-9
        assert 200 == value("edgekit_run_seconds_bucket", phase="total", le="+Inf")
        assert abs(40 - value("edgekit_run_seconds_bucket", phase="total", le="0.02")) <= 2
        assert abs(0.05 - value("edgekit_run_quantile_seconds", phase="total", quantile="0.5")) <= 0.0005
        assert abs(0.025 - value("edgekit_run_quantile_seconds", phase="invoke", quantile="0.5")) <= 0.00025
        assert (0, 0) == (value("edgekit_log_dropped_records_total"), value("edgekit_log_missing_records"))
        header = read_log(log_file)[-2].header
        unix = header["started_unix_s"] + (100 * 10**9 - header["started_clock_ns"]) / 1e9
        assert abs(unix - value("edgekit_last_run_unix_seconds")) < 1
        odd = frozenset({("model", r"a \"quoted\"\\name\n"), *labels - {("model", "m.tflite")}})
        assert 50 == samples["edgekit_run_seconds_count", frozenset({*odd, ("phase", "total")})]

    def test_buckets_rise(self, log_file: Path, tmp_path: Path) -> None:
        """Each bucket counts what the one before it counts, and more."""
        output = tmp_path / "edgekit.prom"
        run("export", log_file, "--format", "prometheus", "-o", output)
        buckets: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
        for (name, labels), value in metrics(output.read_text()).items():
            if name == "edgekit_run_seconds_bucket":
                bound = next(float(text) for key, text in labels if key == "le")
                rest = frozenset(item for item in labels if item[0] != "le")
                buckets.setdefault(rest, []).append((bound, value))
        assert 10 == len(buckets)
        for found in buckets.values():
            assert [value for _, value in sorted(found)] == sorted(value for _, value in found)

    def test_json(self, log_file: Path, tmp_path: Path) -> None:
        """What was written, for a program."""
        result = run("export", log_file, "--format", "csv", "-o", tmp_path / "l.csv", "--json")
        assert {"output": str(tmp_path / "l.csv"), "sessions": 2, "runs": 100} == json.loads(result.stdout)

    @pytest.mark.parametrize("kind", ["csv", "prometheus"])
    def test_an_existing_file_is_kept(self, kind: str, log_file: Path, tmp_path: Path) -> None:
        """Until one says otherwise, as a timer that renews it must."""
        output = tmp_path / "out"
        output.write_text("precious")
        assert (2, "precious") == (
            run("export", log_file, "--format", kind, "-o", output).exit_code,
            output.read_text(),
        )
        assert 0 == run("export", log_file, "--format", kind, "-o", output, "--overwrite").exit_code
        assert "precious" != output.read_text()


COMMANDS = {
    "summary": ["summary"],
    "summary json": ["summary", "--json"],
    "tail": ["tail"],
    "tail json": ["tail", "--json"],
    "merge": ["merge", "-o", "OUT"],
    "csv": ["export", "--format", "csv", "-o", "OUT"],
    "prometheus": ["export", "--format", "prometheus", "-o", "OUT"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file: "),
        (b"", "is not a latency log"),
        (b"hello\n", "is not a latency log"),
        (
            b'{"type": "edgekit-latency", "schema": 99}\n',
            f"has schema 99, this edgekit reads up to {SCHEMA}. Update edgekit",
        ),
    ],
    ids=["missing", "empty", "text", "newer"],
)
def test_bad_files(content: bytes | None, words: str, command: list[str], tmp_path: Path) -> None:
    """One message that names the file, exit code 2, nothing on stdout and nothing written."""
    path, output = tmp_path / "l.jsonl", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    result = run(*(str(output) if word == "OUT" else word for word in command), path)
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("edgekit: error: ")
    assert words in result.stderr
    assert str(path) in result.stderr
    assert not output.exists()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    "header",
    [
        '{"type": "edgekit-latency", "schema": 1, "got": "xnnpack", "model": 3}',
        '{"type": "edgekit-latency", "schema": 1, "got": null, "engine": [1], "host": 3}',
        '{"type": "edgekit-latency", "schema": 2, "session": 5, "host": {"node": null}}',
        '{"type": "edgekit-latency", "schema": 2, "session": "a", "started_unix_s": 1e999, "started_clock_ns": 1}',
        f'{{"type": "edgekit-latency", "schema": 1, "started_unix_s": 1{"0" * 400}, "started_clock_ns": 1}}',
        '{"type": "edgekit-latency", "schema": 1, "started_unix_s": NaN}',
    ],
    ids=["got as text", "got as null", "session as number", "infinite", "no double", "NaN"],
)
def test_strange_headers(header: str, command: list[str], tmp_path: Path) -> None:
    """What stands in a header is shown or refused, and is no reason to crash."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{header}\n[1,2,3,4]\n[0,1,2,3,4,5]\n")
    result = run(*(str(tmp_path / "out") if word == "OUT" else word for word in command), path)
    assert result.exit_code in (0, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
