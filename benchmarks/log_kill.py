"""What a latency log withstands and costs: kills at random moments, a day of runs, nanoseconds per run.

``kill`` runs a model (or, without one, only the log) in a child process with the file log, kills the child with SIGKILL at a
random moment, reads the log, and compares it with what the child had noted, which it keeps in shared memory. ``day`` notes
8.64 million runs and looks at memory, disk and percentiles. ``cost`` times ``add_ns`` with and without a file, interleaved.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgekit
from edgekit.runtime.latency import BACKLOG, LatencyLog, LogOptions
from edgekit.runtime.logfile import read_log

DAY = 8_640_000


def child(options: LogOptions, shared: mmap.mmap, model: Path | None, pause_s: float) -> None:
    """Run until killed; what was noted is in shared memory, which outlives the process."""
    number = 0
    if model is None:
        log = LatencyLog(path=options)

        def run() -> None:
            log.add_ns(time.perf_counter_ns(), 1, 2, 3, 4)
            if number % 4096 == 4095:  # nothing else holds up this loop, and it is faster than any disk
                log.flush()
    else:
        session = edgekit.load(model, delegate="xnnpack", log=options)
        value = np.zeros(session.inputs[0].shape, np.float32)

        def run() -> None:
            session.run(value)

    while True:
        run()
        number += 1
        shared[:8] = number.to_bytes(8, "little")
        if pause_s:
            time.sleep(pause_s)


def kill(trials: int, model: Path | None, seed: int, max_bytes: int, flush_s: float) -> None:
    """Kill, read, compare; print what was lost."""
    random_ = random.Random(seed)
    lost: list[int] = []
    lost_s: list[float] = []
    unread = damaged = files = records = 0
    shared = mmap.mmap(-1, 8)
    for trial in range(trials):
        folder = Path(tempfile.mkdtemp(prefix="edgekit-kill-"))
        shared[:8] = bytes(8)
        # Every other child runs as fast as it can, the others like a camera or a fast sensor.
        pause_s = random_.choice((0.0, 0.0, 0.001, 0.01))
        process = os.fork()
        if process == 0:
            child(
                LogOptions(folder / "l.jsonl", max_bytes=max_bytes, keep=100_000, flush_s=flush_s),
                shared,
                model,
                pause_s,
            )
        while not any(shared[:8]):
            time.sleep(0.001)
        time.sleep(random_.uniform(0, 0.6))
        os.kill(process, signal.SIGKILL)
        killed_ns = time.perf_counter_ns()
        os.waitpid(process, 0)
        noted = int.from_bytes(shared[:8], "little")
        try:
            (part,) = read_log(folder / "l.jsonl")
        except edgekit.EdgekitError as error:
            print(f"trial {trial}: {error}")
            unread += 1
            continue
        held = len(part.rows)
        # The kill may fall between a run and the note of it in shared memory: one record more may be there.
        if part.gaps or part.first or part.dropped or not 0 <= noted - held + 1 <= BACKLOG + 1:
            print(
                f"trial {trial}: {noted} noted, {held} held, first {part.first}, gaps {part.gaps}, dropped {part.dropped}"
            )
            unread += 1
        lost.append(max(0, noted - held))
        if held:
            lost_s.append((killed_ns - int(part.rows[-1, 1])) / 1e9)
        damaged += part.damaged
        files += len(list(folder.iterdir()))
        records += held
        shutil.rmtree(folder)
    lost.sort()
    lost_s.sort()
    print(f"{trials} kills: {trials - unread} logs read and whole up to the kill, {unread} not")
    print(f"{records} records in {files} files; {damaged} torn lines")
    print(f"records lost at the end: median {statistics.median(lost):.0f}, most {lost[-1]} (bound {BACKLOG})")
    print(
        f"last record before the kill: median {1000 * statistics.median(lost_s):.0f} ms, most {1000 * lost_s[-1]:.0f} ms"
    )


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def day(runs: int) -> None:
    """A day of a hundred runs a second, as fast as they can be noted."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-day-"))
    options = LogOptions(folder / "l.jsonl")
    # A model of 3 ms that gets slower by day, with a long tail and a few hangs.
    rng = np.random.default_rng(1)
    invoke = rng.lognormal(np.log(3e6), 0.25, runs) * (1 + 0.3 * np.sin(np.linspace(0, 2 * np.pi, runs)))
    invoke[rng.integers(0, runs, runs // 1000)] *= 30
    times = invoke.astype(np.int64)
    log = LatencyLog(path=options, header={"model": "simulated.tflite"})
    step, memory, disk = 8192, [], 0
    begin = time.perf_counter()
    for first in range(0, runs, step):
        for number, value in enumerate(times[first : first + step].tolist(), first):
            log.add_ns(number * 10_000_000, 500, 20_000, value, 9_000)
        log.flush(60)
        disk = max(disk, sum(file.stat().st_size for file in folder.iterdir()))
        memory.append(resident_bytes())
    seconds = time.perf_counter() - begin
    quarter = len(memory) // 4
    slope = np.polyfit(np.arange(quarter, len(memory)) * step, memory[quarter:], 1)[0] * 1e6
    print(f"{runs} runs in {seconds:.0f} s, {log.dropped} dropped")
    print(
        f"memory: {memory[0] / 1e6:.2f} MB after {step} runs, {memory[quarter] / 1e6:.2f} after a quarter, {memory[-1] / 1e6:.2f} at the end"
    )
    print(f"slope over the last three quarters: {slope / 1000:+.2f} kB per million runs")
    print(f"disk: at most {disk / 1e6:.2f} MB, bound {options.keep * options.max_bytes / 1e6:.2f} MB")
    total = np.sort(times + 29_500)
    live = log.summary()
    log.close()
    begin = time.perf_counter()
    (part,) = read_log(options.path)
    print(
        f"read back in {time.perf_counter() - begin:.1f} s: {len(part.rows)} records from number {part.first}, {part.missing} missing"
    )
    for name, seen in (("in memory", live), ("from the files", part.summary())):
        worst = 0.0
        for percent in (50, 90, 95, 99):
            exact = int(total[-(-percent * runs // 100) - 1])
            worst = max(worst, abs(getattr(seen, f"p{percent}_ns") - exact) / exact)
        print(f"percentiles {name} over {seen.count} runs: at most {100 * worst:.2f} % off; min and max exact: "
              f"{(seen.min_ns, seen.max_ns) == (int(total[0]), int(total[-1]))}")  # fmt: skip
    shutil.rmtree(folder)


def cost(rounds: int) -> None:
    """Nanoseconds of the noting thread per run, and processor time per run when the file is written too."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-cost-"))
    starts = [10**14 + number * 1_000_000 for number in range(8192)]

    def loop(add: Callable[[int, int, int, int, int], None]) -> int:
        begin = time.perf_counter_ns()
        for start in starts:
            add(start, 300, 9_000, 1_530_000, 7_000)
        return time.perf_counter_ns() - begin

    def nothing(start_ns: int, queue_ns: int, copy_in_ns: int, invoke_ns: int, copy_out_ns: int) -> None:
        """What a call costs that does nothing."""

    memory, file = LatencyLog(), LatencyLog(path=LogOptions(folder / "l.jsonl"))
    found: dict[str, list[float]] = {"a call of nothing": [], "memory": [], "memory and file": []}
    processor: list[float] = []
    gc.disable()
    for _ in range(rounds):
        found["a call of nothing"].append(loop(nothing) / len(starts))
        found["memory"].append(loop(memory.add_ns) / len(starts))
        before = time.process_time_ns()
        found["memory and file"].append(loop(file.add_ns) / len(starts))
        file.flush()
        processor.append((time.process_time_ns() - before) / len(starts))
    for name, values in found.items():
        print(f"{name}: median {statistics.median(values):.0f} ns per run, least {min(values):.0f}")
    print(
        f"memory and file, all threads: median {statistics.median(processor):.0f} ns of processor time per run, least {min(processor):.0f}"
    )
    file.close()
    shutil.rmtree(folder)


def main() -> None:
    """Do what is asked and print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kill", "day", "cost"])
    parser.add_argument(
        "--model", type=Path, help="kill: a model of one input to run; without it only the log is tried"
    )
    parser.add_argument(
        "--count", type=int, help="kill: how often (1000); day: how many runs (8640000); cost: rounds (200)"
    )
    parser.add_argument(
        "--max-bytes", type=int, default=2_000_000, help="kill: of a file; small ones are rotated often"
    )
    parser.add_argument("--flush-s", type=float, default=0.25, help="kill: seconds between two writes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "kill":
        import ai_edge_litert.interpreter  # noqa: F401 - imported once, here, not by each child

        kill(arguments.count or 1000, arguments.model, arguments.seed, arguments.max_bytes, arguments.flush_s)
    elif arguments.what == "day":
        day(arguments.count or DAY)
    else:
        cost(arguments.count or 200)


if __name__ == "__main__":
    main()
