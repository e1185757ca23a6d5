"""Throughput of a Pool against bare interpreters: all ways in turn, many rounds, compared within a round.

Each way gets the same number of processors and the same inputs, in the model's own types. A processor that changes its clock, or
another program, meets all ways alike. Latency is what the caller of one run waits.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.runtime.pool import Pool

_SEED = 0
_INPUTS = 16
BASE = "{n} bare interpreters in {n} threads"

#: Runs inputs until the time is over; returns each run's nanoseconds.
Way = Callable[[float], list[int]]


@dataclass
class Row:
    """One way to run a model.

    Attributes:
        name: what it is.
        per_second: runs in each round.
        times_ns: what each run took, all rounds.
        why_not: why it could not be measured, or ``None``.
    """

    name: str
    per_second: list[float] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    why_not: str | None = None


def in_threads(count: int, once: list[Callable[[Any], Any]], inputs: list[Any]) -> Way:
    """So many threads, each in a loop around its own function, and on a processor of its own where there are as many."""
    processors = sorted(os.sched_getaffinity(0))

    def way(seconds: float) -> list[int]:
        times: list[list[int]] = [[] for _ in range(count)]
        start = threading.Barrier(count)

        def loop(number: int) -> None:
            run, note, clock = once[number % len(once)], times[number].append, time.perf_counter_ns
            if (
                1 < count <= len(processors)
            ):  # or the scheduler may put two of them on one for a while, and a round is lost
                os.sched_setaffinity(0, {processors[number]})
            start.wait()
            end = clock() + int(seconds * 1e9)
            position = number
            before = clock()
            while before < end:
                run(inputs[position % len(inputs)])
                after = clock()
                note(after - before)
                before = after
                position += 1

        threads = [threading.Thread(target=loop, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [value for row in times for value in row]

    return way


def bare(path: Path, threads: int) -> Callable[[Any], Any]:
    """The interpreter's own loop."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=threads)
    model.allocate_tensors()
    first, last = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]

    def run(value: Any) -> Any:
        model.set_tensor(first, value)
        model.invoke()
        return model.get_tensor(last)

    return run


def mapped(pool: Pool, inputs: list[Any]) -> Way:
    """One thread that maps; a run's time is that from result to result, times the workers."""

    def way(seconds: float) -> list[int]:
        end = time.perf_counter_ns() + int(seconds * 1e9)
        times = []

        def source() -> Iterator[Any]:
            position = 0
            while time.perf_counter_ns() < end:
                yield inputs[position % len(inputs)]
                position += 1

        before = time.perf_counter_ns()
        for _ in pool.map(source()):
            after = time.perf_counter_ns()
            times.append(len(pool) * (after - before))
            before = after
        return times

    return way


def ways(path: Path, count: int, stack: ExitStack) -> tuple[dict[str, Way], dict[str, str]]:
    """What is measured, by name, and what cannot be, with the reason."""
    first = bare(path, 1)
    options: dict[str, Any] = {"delegate": "xnnpack", "io": "native"}
    with edgekit.load(path, **options) as session:
        spec = session.inputs[0]
    random = np.random.default_rng(_SEED)
    shape = [max(size, 1) for size in spec.shape]
    if spec.dtype == "float32":
        inputs: list[Any] = [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(_INPUTS)]
    else:
        limits = np.iinfo(spec.dtype)
        inputs = [random.integers(limits.min, limits.max + 1, shape).astype(spec.dtype) for _ in range(_INPUTS)]
    expected = [first(value).tobytes() for value in inputs]
    found: dict[str, Way] = {
        "one bare interpreter, 1 thread": in_threads(1, [first], inputs),
        BASE.format(n=count): in_threads(count, [first, *(bare(path, 1) for _ in range(count - 1))], inputs),
        f"one bare interpreter with {count} threads": in_threads(1, [bare(path, count)], inputs),
        f"{count} sessions in {count} threads": in_threads(
            count, [stack.enter_context(edgekit.load(path, **options)).run for _ in range(count)], inputs
        ),
    }
    failed: dict[str, str] = {}
    for kind, text in (("thread", "sessions"), ("process", "processes")):
        name = f"Pool of {count} {text}, run() from {count} threads"
        try:
            pool = stack.enter_context(closing(Pool.of(path, count, kind=kind, **options)))
            # This starts the pool's threads here: they inherit the processors that their starter may use.
            same = [result.tobytes() for result in pool.map(inputs)] == expected
        except Exception as error:  # a way that fails is a row
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        if not same:
            failed[name] = "its results differ from the bare interpreter's"
            continue
        found[name] = in_threads(count, [pool.run], inputs)
        found[f"Pool of {count} {text}, map()"] = mapped(pool, inputs)
        if kind == "thread":
            found[f"Pool of {count} {text}, run() from {4 * count} threads"] = in_threads(4 * count, [pool.run], inputs)
    return found, failed


def measure(path: Path, count: int, rounds: int, seconds: float) -> list[Row]:
    """Run all ways in turn."""
    with ExitStack() as stack:
        found, failed = ways(path, count, stack)
        rows = {name: Row(name) for name in found}
        for number in range(-1, rounds):  # the first round warms up
            for name, way in found.items():
                start = time.perf_counter()
                times = way(seconds if number >= 0 else min(seconds, 0.2))
                if number >= 0:
                    rows[name].per_second.append(len(times) / (time.perf_counter() - start))
                    rows[name].times_ns.extend(times)
                if sys.stderr.isatty():
                    print(f"\rround {number + 1} of {rounds}: {name:60}", end="", file=sys.stderr)
    return [*rows.values(), *(Row(name, why_not=why) for name, why in failed.items())]


def interval(values: list[float]) -> tuple[float, float]:
    """A 95 % interval of the median over rounds, by bootstrap."""
    random = np.random.default_rng(_SEED)
    medians = np.median(random.choice(values, (1000, len(values))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def table(rows: list[Row], base: Row) -> str:
    """Markdown."""
    lines = [
        "| way | runs per second | against the bare ones in threads | p50 | p99 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if row.why_not is not None:
            lines.append(f"| {row.name} | – | {row.why_not} | – | – |")
            continue
        ratios = [a / b for a, b in zip(row.per_second, base.per_second, strict=True)]
        low, high = interval(ratios)
        against = "1" if row is base else f"{statistics.median(ratios):.3f} ({low:.3f}–{high:.3f})"
        p50, p99 = (np.percentile(row.times_ns, share) / 1e6 for share in (50, 99))
        lines.append(
            f"| {row.name} | {statistics.median(row.per_second):.0f} | {against} | {p50:.3f} ms | {p99:.3f} ms |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print a Markdown table; exit with 1 when a way failed or the Pool missed its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a .tflite file with one input and one output")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each way in each round")
    parser.add_argument(
        "--min-ratio", type=float, default=0.95, help="of the Pool's run() against the bare ones in threads"
    )
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    arguments = parser.parse_args()
    rows = measure(arguments.model, arguments.workers, arguments.rounds, arguments.seconds)
    by_name = {row.name: row for row in rows}
    base = by_name[BASE.format(n=arguments.workers)]
    print(table(rows, base))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows]))
    count = arguments.workers
    pool = by_name[f"Pool of {count} sessions, run() from {count} threads"]
    failed = [row for row in rows if row.why_not is not None]
    if failed:
        sys.exit(1)
    ratio = statistics.median(a / b for a, b in zip(pool.per_second, base.per_second, strict=True))
    one = by_name[f"one bare interpreter with {count} threads"]
    against_one = statistics.median(a / b for a, b in zip(pool.per_second, one.per_second, strict=True))
    print(f"\nPool against {base.name}: {ratio:.3f} (at least {arguments.min_ratio} asked)")
    print(f"Pool against {one.name}: {against_one:.3f} (at least 1 asked)")
    if ratio < arguments.min_ratio or against_one < 1:
        sys.exit(1)


if __name__ == "__main__":
    main()
