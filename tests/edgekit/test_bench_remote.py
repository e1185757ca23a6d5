"""Benchmarks over a real OpenSSH server on loopback, in an account that holds nothing but a Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ssh_server import SSHD, WITHOUT, Proxy, Server, jobs_of, serving, wheels_of_this_environment, write_known

from edgekit.bench import BenchmarkReport
from edgekit.bench.remote import Remote, RemoteError, benchmark_on, clean
from edgekit.bench.remote.base import base
from edgekit.errors import DataError

pytestmark = pytest.mark.skipif(SSHD is None, reason=WITHOUT)

#: The least that is a benchmark.
QUICK: dict[str, Any] = {"runs": 2, "warmup": 0, "launches": 1, "delegates": ["none"]}
#: One that takes minutes, unless it is stopped.
LONG: dict[str, Any] = {**QUICK, "launches": 500}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of what is installed here."""
    return wheels_of_this_environment(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a bare Python."""
    with serving(tmp_path_factory.mktemp("ssh")) as server:
        server.python()
        yield server


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path for Python with this very edgekit, also where somebody works on the checkout meanwhile, and all else that is installed here."""
    folder = tmp_path_factory.mktemp("edgekit")
    with zipfile.ZipFile(io.BytesIO(base().wheel)) as wheel:
        wheel.extractall(folder)
    return os.pathsep.join(dict.fromkeys(str(Path(entry).absolute()) for entry in (folder, *sys.path)))


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, known to this side; nothing runs on it before and after."""
    monkeypatch.setenv("EDGEKIT_SSH_COMMAND", running.command())
    yield running
    limit = time.monotonic() + 10
    while jobs_of(running) and time.monotonic() < limit:
        time.sleep(0.1)
    left = jobs_of(running)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert [] == left


def steps(told: list[tuple[str, int, int]]) -> list[str]:
    """The names of steps, each once, in order."""
    return list(dict.fromkeys(step for step, _, _ in told))


class Watch:
    """Collects progress and sentences, and does something once at a step.

    Args:
        at: the step.
        what: called when that step has come so far.
        done: how far.
    """

    def __init__(self, at: str = "", what: Callable[[], None] | None = None, done: int = 0) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.said: list[str] = []
        self._at, self._what, self._done = at, what, done

    def progress(self, step: str, done: int, total: int) -> None:
        """As ``benchmark_on`` calls it."""
        self.told.append((step, done, total))
        if self._what is not None and step.startswith(self._at) and done >= self._done:
            what, self._what = self._what, None
            what()

    def run(self, remote: Remote, model: Any, **options: Any) -> BenchmarkReport:
        """Measure, watched."""
        return benchmark_on(remote, model, progress=self.progress, notify=self.said.append, **options)


class TestReport:
    """What comes back."""

    def test_first_time_and_second_time(self, server: Server, wheels: Path, tmp_path: Path) -> None:
        """An empty account gets all that is needed; the second time nothing is sent but the model; nothing else stays behind."""
        first, second = Watch(), Watch()
        remote = Remote(server.url, wheels=wheels, log=tmp_path / "log")
        report = first.run(remote, {"a": models.dense_float(), "b": models.dense_int8()}, **QUICK)
        assert report.passed
        assert [("a", 1, 2), ("b", 1, 2)] == [
            (item.case.model, len(item.launches), len(item.launches[0].total_ns)) for item in report.cases
        ]
        assert server.url == report.host["remote"]["value"]
        assert report.host["logical_cores"]["value"] == os.cpu_count()
        assert "ended: " in (tmp_path / "log").read_text()
        assert "Unpacking on 127.0.0.1" in steps(first.told)
        assert second.run(Remote(server.url), models.dense_int8(), **QUICK).passed
        assert ["Connecting to 127.0.0.1", "Importing on 127.0.0.1", "Benchmarking"] == steps(second.told)
        assert [] == list((server.place / "jobs").iterdir())
        assert [] == list((server.place / "incoming").iterdir())
        assert [".cache"] == os.listdir(server.home)
        assert [0o700] * 2 == [folder.stat().st_mode & 0o777 for folder in (server.place, server.place / "packages")]

    def test_it_is_a_benchmark_like_any_other(self, server: Server, wheels: Path, tmp_path: Path) -> None:
        """Saved, read, and with samples of real data, a combination that fails, and the conditions there."""
        data = np.random.default_rng(0).uniform(-1, 1, (5, 8)).astype(np.float32)
        report = benchmark_on(
            Remote(server.url, wheels=wheels), models.dense_float(), data=data, data_name="five.npy", batches=[None, 3], **QUICK
        )  # fmt: skip
        report.save(tmp_path / "b.json")
        again = BenchmarkReport.read(tmp_path / "b.json")
        assert ("five.npy", server.url) == (again.inputs, again.host["remote"]["value"])
        good, bad = again.cases
        assert good.launches[0].conditions
        assert (bad.launches, bad.error is not None and "a batch of 3" in bad.error) == ((), True)

    def test_failing_model_is_a_row_with_its_name(self, server: Server, wheels: Path) -> None:
        """The reason is told without the place where its file was."""
        report = benchmark_on(Remote(server.url, wheels=wheels), {"odd": models.custom_op()}, **QUICK)
        assert not report.passed
        assert report.cases[0].error is not None
        assert "odd" in report.cases[0].error
        assert str(server.home) not in report.cases[0].error

    def test_meter_here(self, server: Server, wheels: Path, tmp_path: Path) -> None:
        """Readings of a meter on this side, of which the launches take their part."""
        path = tmp_path / "meter.csv"
        start = time.time()
        path.write_text("time,power\n" + "".join(f"{start + second},{5.0}\n" for second in range(-60, 600)))
        report = benchmark_on(Remote(server.url, wheels=wheels), models.dense_int8(), meter_csv=path, **QUICK)
        energy = report.cases[0].launches[0].energy
        assert energy is not None
        assert energy["joules"] == pytest.approx(5.0 * energy["seconds"], rel=0.01)
        (tmp_path / "other.csv").write_text("a,b\n")
        with pytest.raises(DataError, match="not a meter's file"):
            benchmark_on(server.url, models.dense_int8(), meter_csv=tmp_path / "other.csv")

    def test_login_that_talks(self, server: Server, wheels: Path) -> None:
        """What a login shell writes is passed over."""
        profile = server.home / ".bashrc"
        profile.write_text("echo welcome; echo '{\"answer\": 1}'\n")
        try:
            assert benchmark_on(Remote(server.url, wheels=wheels), models.dense_int8(), **QUICK).passed
        finally:
            profile.unlink()

    def test_same_edgekit_that_is_installed_is_used(self, server: Server, paths: str) -> None:
        """A Python that has it all gets nothing."""
        program = server.programs / "own python"
        program.write_text(f"#!/bin/sh\nPYTHONPATH='{paths}' exec '{sys.executable}' \"$@\"\n")
        program.chmod(0o755)
        place = server.folder / "elsewhere"
        place.mkdir()
        watch = Watch()
        report = watch.run(Remote(server.url, python=str(program), folder=str(place)), models.dense_int8(), **QUICK)
        assert report.passed
        assert ["Connecting to 127.0.0.1", "Importing on 127.0.0.1", "Benchmarking"] == steps(watch.told)
        assert not (place / "edgekit-remote" / "packages").exists()


class TestDoors:
    """Machines that cannot be reached, and such that cannot be used."""

    def refused(self, url: str, **options: Any) -> str:
        """What is said; nothing of the model was sent."""
        with pytest.raises(RemoteError) as caught:
            benchmark_on(Remote(url, **options), models.dense_int8(), **QUICK)
        return str(caught.value)

    def test_wrong_host_key(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another key than the one that is known: no connection, and no way around it."""
        monkeypatch.setenv("EDGEKIT_SSH_COMMAND", server.command(known="wrong_hosts"))
        said = self.refused(server.url)
        assert "is another one than before" in said
        assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in said

    def test_unknown_host_key(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not accepted silently, and not written down."""
        monkeypatch.setenv("EDGEKIT_SSH_COMMAND", server.command(known="no_hosts"))
        assert "is not known here" in self.refused(server.url)
        assert "" == (server.folder / "no_hosts").read_text()

    def test_wrong_user_and_wrong_key(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are not let in, and nobody is asked for a password."""
        assert "does not let you in" in self.refused(f"ssh://nobody-of-that-name@127.0.0.1:{server.port}")
        monkeypatch.setenv("EDGEKIT_SSH_COMMAND", server.command(key="other"))
        assert "Permission denied" in self.refused(server.url)

    def test_nobody_there(self, server: Server) -> None:
        """A port without a server, and a name without a machine: at once, without trying again."""
        with socket.socket() as taken:  # and not listened at
            taken.bind(("127.0.0.1", 0))
            assert "no SSH server does" in self.refused(f"ssh://127.0.0.1:{taken.getsockname()[1]}")
        assert "no machine called 'no-such-host.invalid'" in self.refused("ssh://no-such-host.invalid")

    def test_no_python(self, server: Server) -> None:
        """What was looked for is told."""
        assert "has no Python 3.10 or newer: none of no-python runs there" in self.refused(
            server.url, python="no-python"
        )

    @pytest.mark.parametrize("number", [207, 308, 309])
    def test_old_python_played_by_a_script(self, server: Server, number: int) -> None:
        """The version that it answers is told."""
        program = server.programs / "old"
        program.write_text(f"#!/bin/sh\necho {number}\n")
        program.chmod(0o755)
        said = self.refused(server.url, python="old")
        assert f"has no Python 3.10 or newer: old is Python {number // 100}.{number % 100}" in said

    def test_python_that_is_not_whole(self, server: Server) -> None:
        """Such as one without a part of its standard library: told at once, and not taken for a lost connection."""
        program = server.programs / "poor"
        whole = server.python().read_text()
        program.write_text(
            whole.replace('"$@"', '-c "import sys; sys.modules[\'zipfile\'] = None; exec(sys.argv[1])" "$2"')
        )
        program.chmod(0o755)
        said = self.refused(server.url, python="poor")
        assert "poor on ssh://" in said
        assert "zipfile" in said
        assert "not python3-minimal" in said

    def test_account_without_a_place_to_write(self, server: Server) -> None:
        """Its home's cache is a file."""
        place = server.folder / "file"
        place.write_text("")
        said = self.refused(server.url, folder=str(place / "below"))
        assert "cannot be written" in said
        assert "--remote-folder" in said

    def test_full_disk(self, server: Server, wheels: Path) -> None:
        """A small file system of its own: told before anything is sent, and by the disk itself for what is sent all the same."""
        place = server.folder / "small"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True).returncode:
            pytest.skip("this user may not make a small file system")
        try:
            said = self.refused(server.url, folder=str(place), wheels=wheels)
            assert "4.2 MB free" in said or "4.19 MB free" in said
            assert [] == [path for path in place.rglob("*") if path.is_file()]
            (place / "rest").write_bytes(bytes(4 << 20))
            assert "make room there" in self.refused(server.url, folder=str(place), wheels=wheels)
        finally:
            subprocess.run(["umount", place], check=True)

    def test_wheel_that_is_missing(self, server: Server, tmp_path: Path) -> None:
        """An empty folder of wheels, and another place there."""
        said = self.refused(server.url, wheels=tmp_path, folder=str(server.folder))
        assert "has no wheel of numpy" in said


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A line to the server that can be cut."""
    line = Proxy(server.port)
    write_known(server.folder / "proxy_hosts", line.port, server.folder / "host.pub")
    monkeypatch.setenv("EDGEKIT_SSH_COMMAND", server.command(known="proxy_hosts"))
    with contextlib.closing(line):
        yield line


def through(server: Server, proxy: Proxy) -> str:
    """The server's address at the other end of the line."""
    return server.url.replace(str(server.port), str(proxy.port))


class TestDrops:
    """Connections that end half-way."""

    def test_the_servers_process_is_killed(self, server: Server, wheels: Path, tmp_path: Path) -> None:
        """The job goes on: there is one, with all its launches, and the log of one."""
        watch = Watch("Benchmarking", server.cut, done=1)
        report = watch.run(
            Remote(server.url, wheels=wheels, log=tmp_path / "log"), models.dense_int8(), **{**QUICK, "launches": 4}
        )
        assert (report.passed, len(report.cases[0].launches)) == (True, 4)
        assert ["ended", "again"] == [word for text in watch.said for word in ("ended", "again") if f" {word}." in text]
        assert 1 == (tmp_path / "log").read_text().count("edgekit ")
        assert [] == list((server.place / "jobs").iterdir())

    def test_the_line_is_cut_while_a_file_is_sent(self, server: Server, proxy: Proxy, wheels: Path) -> None:
        """It goes on where it ended; what had arrived is not sent again."""
        large = models.dense_int8() + bytes(np.random.default_rng(0).integers(0, 256, 6_000_000, np.uint8))
        benchmark_on(
            Remote(server.url.replace(str(server.port), str(proxy.port)), wheels=wheels), models.dense_int8(), **QUICK
        )
        watch = Watch("Copying", lambda: setattr(proxy, "cut_after", 3_000_000))
        report = watch.run(Remote(through(server, proxy), wheels=wheels), large, **QUICK)
        assert report.passed
        first, second = steps([item for item in watch.told if item[0].startswith("Copying")])
        assert "6.0" in first
        assert first != second  # less is left to be copied

    def test_a_line_that_stays_dead(self, server: Server, proxy: Proxy, wheels: Path) -> None:
        """It is given up after a while; the same command takes the benchmark up, running or ended, and once."""

        def cut() -> None:
            proxy.refuses = True
            proxy.cut()

        watch = Watch("Benchmarking", cut, done=1)
        remote = Remote(through(server, proxy), wheels=wheels, reconnect_s=1.5)
        with pytest.raises(RemoteError, match="the same command takes it up"):
            watch.run(remote, models.dense_int8(), **{**QUICK, "launches": 5})
        proxy.refuses = False
        again = Watch()
        report = again.run(remote, models.dense_int8(), **{**QUICK, "launches": 5})
        assert 5 == len(report.cases[0].launches)
        assert "it is taken up, none is started" in again.said[0]
        assert "Importing on 127.0.0.1" not in steps(again.told)
        assert [] == list((server.place / "jobs").iterdir())

    def test_job_that_is_killed_there(self, server: Server, wheels: Path) -> None:
        """No result, no waiting: its last words are told."""

        def kill() -> None:
            for process in jobs_of(server):
                os.kill(process, signal.SIGKILL)

        with pytest.raises(RemoteError, match=r"ended without a result: .*Its log ends with: .*Benchmarking"):
            Watch("Benchmarking", kill, done=1).run(Remote(server.url, wheels=wheels), models.dense_int8(), **LONG)
        assert [] == list((server.place / "jobs").iterdir())


class Client:
    """``edgekit bench --on`` in a process of its own.

    Args:
        server: where it measures.
        folder: for its output.
        paths: its path for Python.
        arguments: further ones.
    """

    def __init__(self, server: Server, folder: Path, paths: str, *arguments: object) -> None:
        self.out, self.err = folder / "out", folder / "err"
        self.began = time.time()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from edgekit.cli import main; main()", "bench", *map(str, arguments), "--on", server.url],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, cwd=folder,
                env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip

    def wait_for(self, server: Server, launches: int) -> None:
        """Until so many launches were begun there."""
        limit = time.monotonic() + 120
        while time.monotonic() < limit and self.process.poll() is None:
            for path in (server.place / "jobs").glob("*/progress"):
                with contextlib.suppress(OSError, ValueError):
                    if (
                        path.stat().st_mtime > self.began
                        and json.loads(path.read_text().splitlines()[-1])[1] >= launches
                    ):
                        return
            time.sleep(0.1)
        raise AssertionError(self.err.read_text())


@pytest.fixture
def long(server: Server, wheels: Path, paths: str, tmp_path: Path, dense_int8_file: Path) -> Callable[[], Client]:
    """Begins a benchmark that takes minutes."""

    def begin() -> Client:
        return Client(
            server, tmp_path, paths, dense_int8_file, "--runs", 2, "--warmup", 0, "--launches", 500, "--delegate", "none", "--wheels", wheels,
        )  # fmt: skip

    return begin


class TestInterrupt:
    """Ctrl-C, and worse."""

    def test_what_was_measured_comes_back(self, server: Server, long: Callable[[], Client]) -> None:
        """The signal goes to all processes in front, as a terminal sends it: the connection outlives it, the job ends."""
        client = long()
        client.wait_for(server, 2)
        os.killpg(client.process.pid, signal.SIGINT)
        assert 1 == client.process.wait(60)
        err = client.err.read_text()
        assert "stopping on ssh://" in err
        assert "interrupted: this is what was measured until then." in err
        assert server.url in client.out.read_text()
        assert [] == jobs_of(server)
        assert [] == list((server.place / "jobs").iterdir())

    def test_interrupt_while_files_are_sent(self, server: Server, wheels: Path) -> None:
        """Nothing was measured, and nothing of the job stays there."""

        def stop() -> None:
            raise KeyboardInterrupt

        large = models.dense_int8() + bytes(3_000_000)
        with pytest.raises(KeyboardInterrupt):
            Watch("Copying 3.", stop, done=1000).run(Remote(server.url, wheels=wheels), large, **QUICK)
        assert [] == list((server.place / "jobs").iterdir())

    def test_killed_client_and_second_job(
        self, server: Server, wheels: Path, long: Callable[[], Client], dense_int8_file: Path
    ) -> None:
        """The job goes on without it; another one is refused meanwhile; the same one is taken up, and can be stopped."""
        client = long()
        client.wait_for(server, 1)
        client.process.kill()
        client.process.wait()
        with pytest.raises(RemoteError, match=r"another benchmark runs .*dense_int8\.tflite, process \d+"):
            benchmark_on(Remote(server.url, wheels=wheels), models.dense_float(), **QUICK)

        def stop() -> None:
            raise KeyboardInterrupt

        watch = Watch("Benchmarking", stop, done=3)
        report = watch.run(Remote(server.url, wheels=wheels), dense_int8_file, **LONG)
        assert "runs there: it is taken up" in watch.said[0]
        assert report.interrupted
        assert len(report.cases[0].launches) >= 3

    def test_cleaning_stops_it(self, server: Server, long: Callable[[], Client]) -> None:
        """All is removed; the client that followed it has what was measured until then, or is told that it is too late."""
        client = long()
        client.wait_for(server, 1)
        size, stopped = clean(server.url)
        assert size > 10_000_000
        assert "dense_int8.tflite" == stopped
        assert client.process.wait(60) in (1, 2)
        said = client.err.read_text()
        assert any(
            text in said for text in ("interrupted: ", "ended without a result", "somebody else fetched or removed")
        )
        assert not server.place.exists()


def test_two_at_once(server: Server, wheels: Path) -> None:
    """Of two that begin together one is refused, or waits for nothing: there is never a second job."""
    ended: list[object] = []

    def measure(model: bytes) -> None:
        try:
            ended.append(benchmark_on(Remote(server.url, wheels=wheels), model, **{**QUICK, "launches": 3}))
        except RemoteError as error:
            ended.append(error)

    threads = [threading.Thread(target=measure, args=(model,)) for model in (models.dense_int8(), models.dense_float())]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        sessions = set()  # a job's is its own; the processes that it starts are in it
        for process in jobs_of(server, b"edgekit.bench.remote.job import main"):
            with contextlib.suppress(ProcessLookupError):
                sessions.add(os.getsid(process))
        most = max(most, len(sessions))
        time.sleep(0.05)
    assert most == 1
    kinds = sorted(type(item).__name__ for item in ended)
    assert kinds in (["BenchmarkReport", "RemoteError"], ["BenchmarkReport", "BenchmarkReport"])
    assert all("another benchmark runs" in str(item) for item in ended if isinstance(item, RemoteError))
