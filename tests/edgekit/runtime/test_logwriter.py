"""``edgekit.runtime.logwriter``: the latency log as a file, whatever happens to the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ELSEWHERE, LIMIT_SECONDS, run_python

from edgekit.errors import OptionError, OutputError
from edgekit.runtime.latency import BACKLOG, LatencyLog, LogOptions, RunRecord
from edgekit.runtime.logfile import LoggedRuns, read_log, rotated
from edgekit.runtime.logformat import FIELDS, SCHEMA, TYPE
from edgekit.runtime.summary import LatencySummary

#: A flush that no test waits for: what is in the file then is there because it was asked for.
NEVER_S = 1000.0


def noted(log: LatencyLog, first: int, count: int) -> None:
    """So many runs, each of whose times tells its number."""
    for number in range(first, first + count):
        log.add_ns(number, 1, 2, number + 3, 4)


def record(number: int) -> RunRecord:
    """What ``noted`` notes for this number."""
    return RunRecord(number, 1, 2, number + 3, 4, number)


def numbers(part: LoggedRuns) -> list[int]:
    """The sequence numbers that a log holds, after a look at each record."""
    assert all(seen == record(seen.sequence) for seen in part.records)
    return [seen.sequence for seen in part.records]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread or process; what it does is never late, only not there."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("waited in vain")


class TestFile:
    """The JSON Lines file."""

    def test_round_trip(self, tmp_path: Path) -> None:
        """Header and runs come back as they were noted."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(2, path, {"model": "m.tflite", "got": {"delegate": "xnnpack"}})
        noted(log, 0, 1000)
        log.close()
        (part,) = read_log(path)
        assert (list(range(1000)), 0, 0, 1000) == (numbers(part), log.dropped, part.dropped, part.closed)
        assert ("m.tflite", {"delegate": "xnnpack"}) == (part.header["model"], part.header["got"])
        assert (TYPE, SCHEMA, "perf_counter_ns") == (part.header["type"], part.header["schema"], part.header["clock"])
        assert (list(FIELDS), 0, 0) == (part.header["fields"], part.header["first"], part.missing)

    def test_every_line_is_json(self, tmp_path: Path) -> None:
        """Standard tools read the file line by line."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        log.add_ns(1, 2, 3, 4, 5)
        log.close()
        header, run, snapshot, closed = (json.loads(line) for line in path.read_text().splitlines())
        assert (TYPE, [0, 1, 2, 3, 4, 5]) == (header["type"], run)
        assert (1, {"closed": 1, "dropped": 0}) == (snapshot["snapshot"], closed)

    def test_sessions_append(self, tmp_path: Path) -> None:
        """Each session adds a part of its own to the file."""
        path = tmp_path / "l.jsonl"
        for number in range(3):
            log = LatencyLog(path=path, header={"model": str(number)})
            noted(log, 0, number)
            log.close()
        assert [("0", 0), ("1", 1), ("2", 2)] == [(p.header["model"], len(p.records)) for p in read_log(path)]

    def test_records_reach_the_file_while_the_session_runs(self, tmp_path: Path) -> None:
        """A crash loses what is not written yet only: the thread writes without being asked."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        noted(log, 0, 1)
        until(lambda: len(read_log(path)[0].rows) == 1)
        assert (record(0),) == read_log(path)[0].records
        log.close()

    def test_flush(self, tmp_path: Path) -> None:
        """When it returns, what was noted before is in the file."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        noted(log, 0, 2000)
        assert log.flush()
        assert list(range(2000)) == numbers(read_log(path)[0])
        log.close()
        assert LatencyLog().flush()

    def test_many_runs_wake_the_thread_early(self, tmp_path: Path) -> None:
        """A fast model does not overrun the ring while the thread sleeps."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        noted(log, 0, BACKLOG // 2)
        until(lambda: len(read_log(path)[0].rows) > BACKLOG // 4)
        log.close()

    def test_records_of_a_program_that_forgets_to_close(self, tmp_path: Path) -> None:
        """What was noted until the end of the program is in the file."""
        path = tmp_path / "l.jsonl"
        code = (
            "import sys; from edgekit.runtime.latency import LatencyLog\n"
            "log = LatencyLog(path=sys.argv[1])\n"
            "for n in range(100): log.add_ns(n, 1, 2, n + 3, 4)\n"
        )
        run_python("-c", code, path, check=True)
        assert list(range(100)) == numbers(read_log(path)[0])

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        """The second time there is nothing left to do."""
        log = LatencyLog(path=tmp_path / "l.jsonl")
        log.close()
        log.close()
        LatencyLog().close()
        assert 0 == log.dropped

    def test_runs_after_closing_are_counted_as_dropped(self, tmp_path: Path) -> None:
        """They are in the ring, and are not waited for in the file."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        log.close()
        noted(log, 0, 1)
        assert (1, 1, False, ()) == (log.count, log.dropped, log.flush(), read_log(path)[0].records)

    def test_overrun(self, tmp_path: Path) -> None:
        """Runs that the disk is too slow for are dropped and counted, in the file too; the others are there."""
        fcntl = pytest.importorskip("fcntl")
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the writer waits for this as it would for a slow disk
            noted(log, 0, 3 * BACKLOG)
        log.close()
        (part,) = read_log(path)
        found = numbers(part)
        assert 3 * BACKLOG == len(found) + log.dropped
        assert (log.dropped, log.dropped, 3 * BACKLOG - 1) == (part.dropped, part.missing, found[-1])
        assert 0 < log.dropped <= 2 * BACKLOG


class TestPlace:
    """What may be opened."""

    def test_unwritable_place(self, tmp_path: Path) -> None:
        """A path through a file is refused before the first run (the tests may run as root, who may write anywhere)."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="a part of that path is a file"):
            LatencyLog(path=tmp_path / "file" / "l.jsonl")

    def test_missing_folder(self, tmp_path: Path) -> None:
        """The folder must be there."""
        with pytest.raises(OutputError, match=r"the folder .* does not exist\. Create it first"):
            LatencyLog(path=tmp_path / "none" / "l.jsonl")

    def test_a_folder(self, tmp_path: Path) -> None:
        """A folder's name is not a file's."""
        with pytest.raises(OutputError, match="it is a folder, a file was expected"):
            LatencyLog(path=tmp_path)

    @pytest.mark.parametrize("content", [b"TFL3 something", b'{"type": "other"}\n', b"[1,2,3,4]\n"], ids=str)
    def test_somebody_elses_file(self, content: bytes, tmp_path: Path) -> None:
        """A file that is something else, a model say, is not appended to."""
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        with pytest.raises(OutputError, match="the file is there and is no latency log"):
            LatencyLog(path=path)
        assert content == path.read_bytes()

    def test_a_header_that_is_too_long(self, tmp_path: Path) -> None:
        """A file in which nothing but its header had room would be no log."""
        with pytest.raises(OptionError, match="not enough for its header"):
            LatencyLog(path=LogOptions(tmp_path / "l.jsonl", max_bytes=16_384), header={"model": "m" * 9000})

    def test_a_pipe_that_nobody_reads(self, tmp_path: Path) -> None:
        """Opening it does not hang."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OutputError, match=r"cannot write .*pipe"):
            LatencyLog(path=tmp_path / "pipe")

    def test_a_link(self, tmp_path: Path) -> None:
        """Rotation numbers the file behind a symbolic link and leaves the link."""
        (tmp_path / "disk").mkdir()
        link = tmp_path / "l.jsonl"
        link.symlink_to(tmp_path / "disk" / "real.jsonl")
        log = LatencyLog(path=LogOptions(link, max_bytes=16_384))
        noted(log, 0, 2000)
        log.close()
        assert link.is_symlink()
        assert [] != rotated(tmp_path / "disk" / "real.jsonl")
        assert 2000 == read_log(tmp_path / "disk" / "real.jsonl")[0].closed


class TestRotation:
    """Bounded disk, for ever."""

    @pytest.mark.parametrize("keep", [2, 5])
    def test_size(self, keep: int, tmp_path: Path) -> None:
        """No file outgrows its bound, there are never more than so many, and the newest runs are there."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(
            path=LogOptions(path, max_bytes=20_000, keep=keep, flush_s=NEVER_S), header={"model": "m" * 500}
        )
        for first in range(0, 20_000, 500):
            noted(log, first, 500)
            assert log.flush()
            files = list(tmp_path.iterdir())
            assert len(files) <= keep
            assert all(file.stat().st_size <= 20_000 for file in files)
        log.close()
        assert (keep, 0) == (len(list(tmp_path.iterdir())), log.dropped)
        (part,) = read_log(path)
        assert list(range(part.first, 20_000)) == numbers(part)
        assert 100 < len(part.rows) < 20_000
        assert (0, 20_000) == (part.missing, part.closed)

    def test_each_file_can_be_read_alone(self, tmp_path: Path) -> None:
        """It begins with the header; together they are the whole."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, max_bytes=20_000, keep=1000), header={"model": "m.tflite"})
        noted(log, 0, 3000)
        log.close()
        found: list[int] = []
        for file in (*(name for _, name in rotated(path)), path):
            (part,) = read_log(file) if file != path else (None,)
            if part is None:
                continue
            assert ("m.tflite", len(found)) == (part.header["model"], part.first)
            found += numbers(part)
        whole = numbers(read_log(path)[0])
        assert (list(range(3000)), found) == (whole, whole[: len(found)])
        assert len(found) > 1000

    def test_percentiles_outlive_the_files(self, tmp_path: Path) -> None:
        """Also over the runs whose file was deleted, within 1 % of the exact ones."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, max_bytes=200_000, keep=2, flush_s=NEVER_S))
        noted(log, 0, 30_000)
        assert log.flush()
        for closed in (False, True):
            if closed:
                log.close()
            (part,) = read_log(path)
            exact = LatencySummary.of(number + 10 for number in range(30_000))
            seen = part.summary()
            assert part.first > 10_000
            assert (exact.count, exact.min_ns, exact.max_ns) == (seen.count, seen.min_ns, seen.max_ns)
            for name in ("p50_ns", "p90_ns", "p95_ns", "p99_ns"):
                assert abs(getattr(seen, name) - getattr(exact, name)) <= 0.01 * getattr(exact, name)

    def test_age(self, tmp_path: Path) -> None:
        """A file that is old enough is numbered with the next write."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, max_age_s=0.01, keep=4, flush_s=NEVER_S))
        for number in range(6):
            time.sleep(0.02)
            noted(log, number, 1)
            assert log.flush()
        log.close()
        assert 4 == len(list(tmp_path.iterdir()))
        assert [3, 4, 5] == [*numbers(read_log(path)[0])][-3:]

    def test_age_of_a_file_that_was_there(self, tmp_path: Path) -> None:
        """A program that starts every day goes on with the file of the week, not for ever."""
        path = tmp_path / "l.jsonl"
        old = {"type": TYPE, "schema": SCHEMA, "session": "old", "file_unix_s": time.time() - 100}
        path.write_text(json.dumps(old) + "\n[0,1,2,3,4,5]\n")
        log = LatencyLog(path=LogOptions(path, max_age_s=1000))
        log.close()
        assert [] == rotated(path)
        log = LatencyLog(path=LogOptions(path, max_age_s=50))
        log.close()
        assert [1] == [number for number, _ in rotated(path)]
        assert "old" == read_log(rotated(path)[0][1])[0].header["session"]


class TestSharing:
    """Several sessions write to one file."""

    def test_two_sessions_at_a_time(self, tmp_path: Path) -> None:
        """Each record is told from the other session's, also through rotation."""
        path = tmp_path / "l.jsonl"
        options = LogOptions(path, max_bytes=20_000, keep=100, flush_s=NEVER_S)
        logs = [LatencyLog(path=options, header={"model": name}) for name in "ab"]
        for first in range(0, 3000, 100):
            for log in logs:
                noted(log, first, 100)
                assert log.flush()
        for log in logs:
            log.close()
        parts = read_log(path)
        assert [("a", 3000, 0), ("b", 3000, 0)] == [(p.header["model"], p.closed, p.missing) for p in parts]
        assert [list(range(3000))] * 2 == [numbers(part) for part in parts]

    def test_several_processes(self, tmp_path: Path) -> None:
        """They wait for each other for a moment only, and rotate without losing anything."""
        path = tmp_path / "l.jsonl"
        code = (
            "import sys; from edgekit.runtime.latency import LatencyLog, LogOptions\n"
            "log = LatencyLog(path=LogOptions(sys.argv[1], max_bytes=30_000, keep=1000, flush_s=0.001))\n"
            "for n in range(5000): log.add_ns(n, 1, 2, n + 3, 4)\n"
            "log.close(); print(log.dropped)"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ELSEWHERE, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        assert ["0\n"] * 4 == [child.communicate(timeout=LIMIT_SECONDS)[0] for child in running]
        parts = read_log(path)
        assert [list(range(5000))] * 4 == [numbers(part) for part in parts]
        assert [0] * 4 == [part.damaged for part in parts]


class TestMoved:
    """Somebody else does something to the file while it is written."""

    def test_folder_removed(self, tmp_path: Path) -> None:
        """It is made again, with a header, and the loss is counted and shows."""
        path = tmp_path / "logs" / "deep" / "l.jsonl"
        path.parent.mkdir(parents=True)
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        noted(log, 0, 100)
        assert log.flush()
        shutil.rmtree(tmp_path / "logs")
        noted(log, 100, 100)
        log.close()
        (part,) = read_log(path)
        assert (list(range(100, 200)), 100, 1, 1) == (numbers(part), part.first, part.header["reopened"], log.reopened)
        assert (200, 0) == (part.summary().count, log.dropped)

    def test_folder_that_cannot_be_made_again(self, tmp_path: Path) -> None:
        """Records are dropped and counted, it is said once, and when the place is free again they are written."""
        path = tmp_path / "logs" / "l.jsonl"
        path.parent.mkdir()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
            noted(log, 0, 100)
            assert log.flush()
            shutil.rmtree(path.parent)
            path.parent.write_text("in the way")
            for first in (100, 200):
                noted(log, first, 100)
                assert log.flush()
            assert 200 == log.dropped
            path.parent.unlink()
            noted(log, 300, 100)
            log.close()
        assert [RuntimeWarning] == [item.category for item in seen]
        (part,) = read_log(path)
        assert (list(range(300, 400)), 200, 200) == (numbers(part), part.dropped, log.dropped)

    def test_file_moved_as_logrotate_does(self, tmp_path: Path) -> None:
        """The writer goes on in a new file of the old name; together they are whole."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        for first in (0, 100, 200):
            noted(log, first, 100)
            assert log.flush()
            path.rename(tmp_path / f"l.jsonl.{first // 100}")
        noted(log, 300, 100)
        log.close()
        (part,) = read_log(path)
        assert (list(range(400)), 3, 0) == (numbers(part), log.reopened, part.missing)

    def test_file_cut_short_as_copytruncate_does(self, tmp_path: Path) -> None:
        """What follows has a header again."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, flush_s=NEVER_S))
        noted(log, 0, 100)
        assert log.flush()
        os.truncate(path, 0)
        noted(log, 100, 100)
        log.close()
        (part,) = read_log(path)
        assert (list(range(100, 200)), 100, 0) == (numbers(part), part.first, part.missing)

    def test_a_torn_line_of_an_earlier_session(self, tmp_path: Path) -> None:
        """After a power cut the next session's runs are readable, and so are the first one's."""
        path = tmp_path / "l.jsonl"
        header = json.dumps({"type": TYPE, "schema": SCHEMA, "session": "old"})
        path.write_text(f"{header}\n[0,1,2,3,4,5]\n[1,6,7")
        log = LatencyLog(path=path)
        noted(log, 0, 1)
        log.close()
        old, new = read_log(path)
        assert ((RunRecord(1, 2, 3, 4, 5, 0),), 1, (record(0),)) == (old.records, old.damaged, new.records)


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str], list[str]]:
    """A way to run a program whose folder is a disk of 128 kB, where that can be had, else with a limit on file sizes."""
    mount = f"mount -t tmpfs -o size=128k edgekit-test {tmp_path}"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (128_000, resource.RLIM_INFINITY))\n"
    for private in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):  # gone with the program
        if (
            shutil.which("unshare")
            and subprocess.run([*private, "sh", "-c", mount], capture_output=True).returncode == 0
        ):
            return lambda code: [*private, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code]
    return lambda code: [sys.executable, "-c", limit + code]


FULL = """
import json, os, pathlib, sys, warnings
from edgekit.runtime.latency import LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log
folder = pathlib.Path(sys.argv[1])
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    log = LatencyLog(path=LogOptions(folder / "l.jsonl", flush_s=1000.0))
    def noted(count):
        for n in range(log.count, log.count + count):
            log.add_ns(n, 1, 2, n + 3, 4)
        assert log.flush()
    noted(1000)
    before = log.dropped
    noted(20_000)
    full = log.dropped
    kept = read_log(folder / "l.jsonl")[0]
    os.truncate(folder / "l.jsonl", 60_000) if sys.argv[2] == "truncate" else (folder / "l.jsonl").unlink()
    noted(500)
    after = log.dropped
    log.close()
(part,) = read_log(folder / "l.jsonl")
print(json.dumps({
    "before": before, "full": full, "kept": len(kept.rows), "after": after, "warnings": [str(w.message) for w in seen],
    "told": part.dropped, "rows": part.rows[:, 0].tolist(), "gaps": part.gaps, "first": part.first, "count": log.count,
}))
"""


class TestFullDisk:
    """Runs go on when the file cannot be written."""

    @pytest.mark.parametrize("how", ["truncate", "unlink"])
    def test_a_full_disk(self, how: str, small_disk: Callable[[str], list[str]], tmp_path: Path) -> None:
        """Records are dropped and counted, it is said once, and with room again the log goes on and says what is missing."""
        command = [*small_disk(FULL), str(tmp_path), how]
        done = subprocess.run(command, cwd=ELSEWHERE, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        assert 0 == done.returncode, done.stderr
        seen = json.loads(done.stdout)
        assert (0, 21_500) == (seen["before"], seen["count"])
        assert seen["full"] > 10_000
        assert 21_000 == seen["kept"] + seen["full"]  # every record is either in the file or counted
        assert (seen["full"], seen["full"]) == (seen["after"], seen["told"])
        assert 1 == len(seen["warnings"])
        assert "cannot write" in seen["warnings"][0]
        assert list(range(21_000, 21_500)) == seen["rows"][-500:]
        held = set(range(seen["first"], 21_500)) - set(seen["rows"])
        assert held == {n for first, last in seen["gaps"] for n in range(first, last + 1)}

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_records_are_dropped_and_counted(self) -> None:
        """One warning, every record counted once, and the times in memory complete."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            log = LatencyLog(path=Path("/dev/full"))
            noted(log, 0, 150)
            until(lambda: log.dropped > 0)
            noted(log, 150, 150)
            log.close()
        assert [RuntimeWarning] == [item.category for item in seen]
        assert "latency log /dev/full: cannot write" in str(seen[0].message)
        assert (300, 300, 300) == (log.count, log.dropped, log.summary().count)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_where_warnings_are_errors(self) -> None:
        """The log lives on, and what it has to say is on stderr."""
        code = (
            "from edgekit.runtime.latency import LatencyLog\n"
            "log = LatencyLog(path='/dev/full')\n"
            "for n in range(100): log.add_ns(n, 1, 2, 3, 4)\n"
            "print(log.flush(), log.dropped)"
        )
        done = run_python("-W", "error::RuntimeWarning", "-c", code, check=True)
        assert ("True 100", 1) == (done.stdout.strip(), done.stderr.count("latency log /dev/full: cannot write"))
        assert "Traceback" not in done.stderr

    def test_a_file_that_grows_again_stays_readable(self, tmp_path: Path) -> None:
        """A write that was cut in the middle of a line (here by a file size limit) spoils no other record."""
        path = tmp_path / "l.jsonl"
        code = (
            "import resource, sys, os, warnings; from edgekit.runtime.latency import LatencyLog, LogOptions\n"
            "warnings.simplefilter('ignore')\n"
            "path = sys.argv[1]\n"
            "log = LatencyLog(path=LogOptions(path, flush_s=1000.0))\n"
            "def noted(first):\n"
            "    for n in range(first, first + 1000): log.add_ns(n, 1, 2, n + 3, 4)\n"
            "    log.flush()\n"
            "noted(0)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 5005, resource.RLIM_INFINITY))\n"
            "noted(1000)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "noted(2000)\n"
            "log.close()\n"
            "print(log.dropped)"
        )
        done = run_python("-c", code, path, check=True)
        (part,) = read_log(path)
        assert {*range(1000), *range(2000, 3000)} <= set(numbers(part))
        assert 3000 == len(part.rows) + int(done.stdout)
        assert (int(done.stdout), int(done.stdout), 1) == (part.dropped, part.missing, part.damaged)


DAY = """
import json, os, pathlib, sys
import numpy as np
from edgekit.runtime.latency import LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log
folder, runs, memory, disk = pathlib.Path(sys.argv[1]), 400_000, [], 0
options = LogOptions(folder / "l.jsonl", max_bytes=1_000_000, keep=4)
times = np.random.default_rng(2).lognormal(15, 0.5, runs).astype(np.int64)
log = LatencyLog(path=options)
for first in range(0, runs, 8000):
    for number, value in enumerate(times[first : first + 8000].tolist(), first):
        log.add_ns(number, 100, 200, value, 300)
    assert log.flush(60)
    disk = max(disk, sum(file.stat().st_size for file in folder.iterdir()))
    memory.append(int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
log.close()
(part,) = read_log(options.path)
print(json.dumps({
    "dropped": log.dropped, "disk": disk, "grown": memory[-1] - memory[len(memory) // 3],
    "exact": np.sort(times + 600)[[-(-p * runs // 100) - 1 for p in (50, 90, 95, 99)]].tolist(),
    "seen": [[getattr(s, f"p{p}_ns") for p in (50, 90, 95, 99)] for s in (log.summary(), part.summary())],
    "count": part.summary().count, "held": len(part.rows), "missing": part.missing,
}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell a process's memory")
def test_a_long_run(tmp_path: Path) -> None:
    """Memory stays as it is, the disk is bounded, percentiles are at most 1 % off, in memory and from the files."""
    seen = json.loads(run_python("-c", DAY, tmp_path, check=True).stdout)
    assert (0, 400_000, 0) == (seen["dropped"], seen["count"], seen["missing"])
    assert seen["disk"] <= 4_000_000
    assert 30_000 < seen["held"] < 200_000
    assert seen["grown"] < 1_000_000
    for figures in seen["seen"]:
        for exact, figure in zip(seen["exact"], figures, strict=True):
            assert abs(figure - exact) <= 0.01 * exact


FORK = """
import os, sys, time
from edgekit.runtime.latency import LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log
log = LatencyLog(path=LogOptions(sys.argv[1], flush_s=0.001))
for n in range(100): log.add_ns(n, 1, 2, n + 3, 4)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        for n in range(5000): log.add_ns(10**9, 9, 9, 9, 9)
        good = (5000, 5000, True) == (log.count, log.dropped, log.flush(0.1))
        log.close()
        if not good: os._exit(1)
        sys.exit(0)  # with what atexit has to do
    children.append(child)
    for n in range(log.count, log.count + 100): log.add_ns(n, 1, 2, n + 3, 4)
states = [os.waitpid(child, 0)[1] for child in children]
log.close()
print(states, log.count, log.dropped)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_leaves_the_file_to_the_parent(tmp_path: Path) -> None:
    """After a fork the child's runs are counted as dropped, the parent's all reach the file, and nobody hangs."""
    path = tmp_path / "l.jsonl"
    done = run_python("-W", "ignore::DeprecationWarning", "-c", FORK, path, check=True)
    assert "[0, 0, 0] 400 0" == done.stdout.strip()
    (part,) = read_log(path)
    assert (list(range(400)), 0) == (numbers(part), part.damaged)


#: Children that note runs until they are killed, and keep how many where a kill leaves it; the parent reads what is left.
KILLED = """
import json, mmap, os, pathlib, random, signal, sys, time
from edgekit.runtime.latency import LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log
shared, random_, results = mmap.mmap(-1, 8), random.Random(5), []
for trial in range(40):
    folder = pathlib.Path(sys.argv[1]) / str(trial)
    folder.mkdir()
    shared[:8] = bytes(8)
    child = os.fork()
    if child == 0:
        log = LatencyLog(path=LogOptions(folder / "l.jsonl", max_bytes=50_000, keep=10_000, flush_s=0.005))
        n = 0
        while True:
            log.add_ns(n, 1, 2, n + 3, 4)
            n += 1
            shared[:8] = n.to_bytes(8, "little")
            if n % 4096 == 0:
                log.flush()
    while not any(shared[:8]):
        time.sleep(0.0005)
    time.sleep(random_.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (part,) = read_log(folder / "l.jsonl")
    results.append([int.from_bytes(shared[:8], "little"), part.rows.tolist(), part.first, part.dropped, part.damaged, part.closed])
print(json.dumps(results))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_kill(tmp_path: Path) -> None:
    """Killed at any moment, also while rotating, the log reads, and lacks the newest runs only, no more than may wait."""
    done = run_python("-W", "ignore::DeprecationWarning", "-c", KILLED, tmp_path, check=True)
    results = json.loads(done.stdout)
    assert 40 == len(results)
    for count, rows, first, dropped, damaged, closed in results:
        assert [[n, n, 1, 2, n + 3, 4] for n in range(len(rows))] == rows
        assert count - BACKLOG <= len(rows) <= count + 1
        assert (0, 0, None) == (first, dropped, closed)
        assert damaged <= 1
    assert 0 < sum(len(result[1]) for result in results)
    assert any(len(list((tmp_path / str(trial)).iterdir())) > 1 for trial in range(40))
