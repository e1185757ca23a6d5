"""``benchmark_on``: a benchmark on another machine, followed from here.

What is done is the same the first time and after a dropped connection: connect, send what is not there, start the job where it does
not run yet, follow it, fetch what came of it, clean up.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.bench.meter_csv import read_power, with_meter
from edgekit.bench.remote.base import Base, base
from edgekit.bench.remote.destination import Destination
from edgekit.bench.remote.errors import ConnectionLost, RemoteError
from edgekit.bench.remote.needs import Device
from edgekit.bench.remote.request import Request
from edgekit.bench.remote.shipping import Shipping, refusal
from edgekit.bench.remote.ssh import Link, on_terminal
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.runner import Models
from edgekit.errors import DataError, OptionError
from edgekit.files import check_writable, write_whole

Progress = Callable[[str, int, int], None]
Notify = Callable[[str], None]

#: Between attempts to connect again, in seconds; the last one over and over.
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_LOG_LINES = 5
_GOES_ON = "The benchmark goes on there: the same command takes it up."
_CLOCK_TRIES = 8
#: An external meter's program may write a few seconds at a time.
_METER_WAIT_S = 6.0


@dataclasses.dataclass(frozen=True)
class Remote:
    """How another machine is reached and used.

    Attributes:
        destination: ``ssh://[user@]host[:port]``.
        python: the Python to use there; ``None`` for the first of 3.10 or newer.
        folder: edgekit's folder there; ``None`` for ``edgekit/remote`` in the user's cache folder.
        wheels: a folder here with wheels for it; ``None`` to download what is missing.
        reconnect_s: for how long to try again after a dropped connection.
        log: where to write the job's log; ``None`` for nowhere.
        overwrite: whether an existing file may be replaced by the log.
    """

    destination: str
    python: str | None = None
    folder: str | None = None
    wheels: str | os.PathLike[str] | None = None
    reconnect_s: float = 120.0
    log: str | os.PathLike[str] | None = None
    overwrite: bool = False


def benchmark_on(
    remote: Remote | str,
    models: Models,
    *,
    delegates: Sequence[str | None] = (None,),
    threads: Sequence[int | None] = (None,),
    batches: Sequence[int | None] = (None,),
    meter_csv: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    **options: Any,
) -> BenchmarkReport:
    """Measure models on another machine, by the system's own ``ssh``.

    The machine needs Linux, an account and Python 3.10 or newer, nothing else: what it lacks of edgekit and its dependencies is sent into a
    folder of the account's own. The benchmark goes on there when the connection drops; the same call takes it up again, as it does one whose
    caller ended.

    Args:
        remote: where, and how it is reached.
        models: see ``benchmark``.
        delegates: see ``sweep``, as the next two.
        threads: see there.
        batches: see there.
        meter_csv: the file that an external power meter's program writes here; its clock is taken for this machine's.
        progress: called as ``progress(step, done, total)``, with the steps there, too.
        notify: called with a sentence about a connection that dropped, or a benchmark that was taken up.
        options: what ``benchmark`` takes besides. Data are read here.

    Returns:
        The report, with the facts of the other machine; ``host["remote"]`` says which.

    Raises:
        RemoteError: the machine cannot be reached or used.
        EdgekitError: see ``benchmark``.
        KeyboardInterrupt: it came before anything was measured there.
    """
    remote = Remote(remote) if isinstance(remote, str) else remote
    destination = Destination.parse(remote.destination)
    if not remote.reconnect_s >= 0:
        raise OptionError(f"reconnect is {remote.reconnect_s} s: 0 or more was expected.")
    log = None if remote.log is None else Path(remote.log)
    if log is not None:
        check_writable(log, overwrite=remote.overwrite)
    if meter_csv is not None:
        read_power(meter_csv)
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        request = Request.make(
            models, Path(folder), delegates=delegates, threads=threads, batches=batches, **options
        )  # fmt: skip
        run = _Run(
            remote, destination, request, progress or (lambda step, done, total: None), notify or (lambda text: None)
        )
        try:
            report = run.report()
        finally:
            if log is not None and run.log:
                write_whole(log, run.log, overwrite=remote.overwrite)
    report = dataclasses.replace(
        report, host={**report.host, "remote": {"value": str(destination), "source": "the name that it was reached by"}}
    )
    return report if meter_csv is None else _with_energy(report, meter_csv, run.ahead_s, run.notify)


def clean(remote: Remote | str) -> tuple[int, str | None]:
    """Stop a benchmark that runs on another machine, and remove everything that edgekit put there.

    Args:
        remote: where.

    Returns:
        How many bytes were removed, and what was stopped, if anything.

    Raises:
        RemoteError: the machine cannot be reached, or the folder not be removed.
    """
    remote = Remote(remote) if isinstance(remote, str) else remote
    with Link(Destination.parse(remote.destination), remote.python, asks=on_terminal()) as link:
        for do in ("hello", "clean"):
            answer = link.ask(do, root=remote.folder)
            if "error" in answer:
                raise refusal(answer, link)
    return int(answer["bytes"]), None if answer["stopped"] is None else str(answer["stopped"]["what"])


class _Run:
    """One benchmark on one machine, over as many connections as it takes."""

    def __init__(
        self, remote: Remote, destination: Destination, request: Request, progress: Progress, notify: Notify
    ) -> None:
        self.remote = remote
        self.destination = destination
        self.request = request
        self.notify = notify
        self.ahead_s = 0.0
        self.log = b""
        self._progress = progress
        self._base: Base = base()
        self._settings = {**request.settings, "edgekit": self._base.source_hash}
        self._key = hashlib.sha256(f"{request.key} {self._base.source_hash}".encode()).hexdigest()[:32]
        self._packages: list[str] = []
        self._started = False  # by this call, or taken up
        self._stopping = False
        self._first = True
        self._touched = False
        self._removed = False
        self._fetched: BenchmarkReport | None = None
        self._useful = True  # whether the connection has served since it was lost last

    def report(self) -> BenchmarkReport:
        """Do it, again after each lost connection."""
        lost_s, attempt, connected = 0.0, 0, False
        while True:
            try:
                with self._connected() as link:
                    connected = True
                    if attempt:
                        self.notify(f"connected to {self.destination} again.")
                    return self._once(link)
            except ConnectionLost as error:
                if not connected:
                    raise
                if self._useful:
                    lost_s, attempt, self._useful = time.monotonic(), 0, False
                if time.monotonic() - lost_s >= self.remote.reconnect_s:
                    if self._fetched is not None:
                        return self._fetched
                    raise self._given_up(error) from error
                if not attempt:
                    self.notify(f"{error} Trying again for {self.remote.reconnect_s:g} s.")
                wait = _WAITS_S[min(attempt, len(_WAITS_S) - 1)]
                attempt += 1
                try:
                    time.sleep(max(0.0, min(wait, lost_s + self.remote.reconnect_s - time.monotonic())))
                except KeyboardInterrupt:
                    self._left()
                    raise

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Link]:
        # Later on nobody sits there, and what ssh asks would stand between the bars.
        asks, self._first = self._first and on_terminal(), False
        if asks:
            self.notify(f"connecting to {self.destination}")
        else:
            self._progress(f"Connecting to {self.destination.host}", 0, 0)
        try:
            try:
                link = Link(self.destination, self.remote.python, asks=asks)
            except ConnectionLost:
                raise
            except RemoteError as error:
                raise RemoteError(f"{error} {_GOES_ON}" if self._started else str(error)) from error
            with link:
                yield link
        except KeyboardInterrupt:
            self._left()
            raise

    def _once(self, link: Link) -> BenchmarkReport:
        """All of it over one connection."""
        hello = link.ask("hello", root=self.remote.folder)
        if "error" in hello:
            raise refusal(hello, link)
        device = Device.of(hello)
        shipping = Shipping(link, device, self._key, self._tell)
        if self._fetched is not None:  # the connection dropped while the job was removed
            self._remove(link)
            return self._fetched
        state = shipping.ask("state", key=self._key)
        if not self._take_up(state):
            engine = self._settings["cases"][0]["case"]["engine"]
            wheels = None if self.remote.wheels is None else Path(self.remote.wheels)
            self._touched = True
            self._packages = shipping.packages(self._base, engine, wheels)
            shipping.files(self.request.files, ["jobs", self._key])
            answer = link.ask(
                "start", key=self._key, request=self._settings, packages=self._packages, what=self.request.what
            )
            if answer.get("kind") == "busy":
                raise self._busy(json.loads(answer["error"]))
            if "error" in answer:
                raise refusal(answer, link, device)
            self._started = True
        outcome = self._follow(link)
        return self._collect(link, outcome)

    def _take_up(self, state: Mapping[str, Any]) -> bool:
        """Whether this very benchmark runs there, or has ended there and was not fetched."""
        running, outcome = state["running"], state["outcome"]
        if running is not None and running.get("key") != self._key:
            raise self._busy(running)
        if self._started:
            return True  # it goes on, has ended, or has died meanwhile: following it tells
        if running is None and not _worth_fetching(outcome):
            return False
        began = (state["begun"] or {}).get("started_unix_s")
        when = "" if began is None else f" that began at {time.strftime('%H:%M on %Y-%m-%d', time.localtime(began))}"
        how = "runs there" if running is not None else "has ended there"
        self.notify(f"this benchmark{when} {how}: it is taken up, none is started.")
        self._started = True
        return True

    def _follow(self, link: Link) -> Mapping[str, Any] | None:
        """Wait for the job's end, and pass its progress on.

        Returns:
            Its outcome; ``None`` when it ended without one.
        """
        link.tell("follow", key=self._key)
        answers = link.more()
        answer: Mapping[str, Any] = {}
        last: Sequence[Any] = ()
        if self._stopping:  # it was asked to, and then the connection dropped
            link.tell("stop")
        while True:
            try:
                for answer in answers:
                    self._useful = True
                    if "progress" in answer and list(answer["progress"]) != list(last):
                        last = answer["progress"]
                        self._progress(str(last[0]), int(last[1]), int(last[2]))
                break
            except KeyboardInterrupt:
                if self._stopping:
                    raise
                self._stopping = True
                self.notify(
                    f"stopping on {self.destination}; what was measured is fetched. Ctrl-C once more leaves it alone."
                )
                link.tell("stop")
                answers = link.more()
        if "error" in answer:
            raise refusal(answer, link)
        found = answer["outcome"]
        return found if isinstance(found, Mapping) else None

    def _collect(self, link: Link, outcome: Mapping[str, Any] | None) -> BenchmarkReport:
        """Fetch the log and the report, and remove the job there."""
        self.log = self._file(link, "log") or b""
        if outcome is None:
            self._remove(link)
            raise RemoteError(
                f"the benchmark on {self.destination} ended without a result: the machine was restarted, had no memory left, or ends what "
                f"users run when they log out. Its log ends with: {self._tail()}"
            )
        text = self._file(link, "report.json") if outcome["report"] else None
        self.ahead_s = _ahead_s(link)
        if text is None:
            self._remove(link)
            if outcome["report"]:
                raise RemoteError(f"somebody else fetched or removed the benchmark on {self.destination} meanwhile.")
            if outcome["error"] is None:
                raise KeyboardInterrupt
            raise RemoteError(f"on {self.destination}: {outcome['error']} Its log ends with: {self._tail()}")
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RemoteError(f"the report from {self.destination} is damaged ({error}): measure again.") from error
        self._fetched = BenchmarkReport.from_json(data, f"the report from {self.destination}")
        self._remove(link)
        return self._fetched

    def _remove(self, link: Link) -> None:
        link.ask("remove", key=self._key, packages=self._packages)
        self._removed = True

    def _file(self, link: Link, name: str) -> bytes | None:
        parts = []
        for answer in link.answers("collect", key=self._key, name=name):
            if "error" in answer:
                raise refusal(answer, link)
            if answer.get("missing"):
                return None
            if "chunk" in answer:
                parts.append(base64.b64decode(answer["chunk"]))
        return zlib.decompress(b"".join(parts))

    def _tell(self, step: str, done: int, total: int) -> None:
        self._useful = True
        self._progress(step, done, total)

    def _tail(self) -> str:
        lines = [line for line in self.log.decode("utf-8", "replace").splitlines() if line.strip()]
        return " | ".join(lines[-_LOG_LINES:]) or "nothing"

    def _busy(self, holder: Mapping[str, Any]) -> RemoteError:
        since = time.strftime("%H:%M:%S", time.localtime(holder.get("unix_s", time.time())))
        return RemoteError(
            f"another benchmark runs on {self.destination} since {since} ({holder.get('what', 'not known')}, process {holder.get('pid', 0)}): "
            "two would disturb each other. Wait for its end, fetch it with the command that began it, or end it with "
            f"edgekit bench clean {self.destination}"
        )

    def _left(self) -> None:
        """What to do, or say, of a job that nobody waits for any more."""
        if self._removed:
            return
        if self._started:
            self.notify(
                f"the benchmark on {self.destination} was left alone: the same command takes it up, edgekit bench clean {self.destination} "
                "ends it."
            )
        elif self._touched:  # what was sent of a job that was not started
            with (
                contextlib.suppress(RemoteError, KeyboardInterrupt),
                Link(self.destination, self.remote.python) as link,
            ):
                link.ask("hello", root=self.remote.folder)
                self._remove(link)

    def _given_up(self, error: ConnectionLost) -> RemoteError:
        if self._started:
            return RemoteError(f"{error} {_GOES_ON}")
        return RemoteError(f"{error} Nothing was started there yet: the same command goes on with what was sent.")


def _worth_fetching(outcome: Mapping[str, Any] | None) -> bool:
    return outcome is not None and bool(outcome["report"]) and not outcome["interrupted"]


def _ahead_s(link: Link) -> float:
    """How far this machine's clock is ahead of the other's, from the quickest of some questions (Cristian's method)."""
    best: tuple[float, float] | None = None
    for _ in range(_CLOCK_TRIES):
        before = time.time()
        there = float(link.ask("clock")["unix_s"])
        after = time.time()
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) / 2 - there)
    assert best is not None
    return best[1]


def _with_energy(
    report: BenchmarkReport, meter_csv: str | os.PathLike[str], ahead_s: float, notify: Notify
) -> BenchmarkReport:
    """Add what the meter here wrote meanwhile; a file that does not serve costs the energy, not the benchmark."""
    limit = time.monotonic() + _METER_WAIT_S
    while True:
        try:
            return with_meter(report, meter_csv, ahead_s=ahead_s)
        except DataError as error:
            if time.monotonic() > limit:
                notify(f"no energy: {error}")
                return report
        time.sleep(0.5)
