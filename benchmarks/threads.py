"""Many threads on one Session, and on a Pool: are all results those of a sequential run, and does the process grow?

Every thread has inputs of its own; each result is compared, bit for bit, with the one that the same input got before, alone.
A bare interpreter behind a lock does the same, so that one sees what the memory allocator does by itself under so many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.runtime.pool import Pool

_SEED = 0
_INPUTS = 8
_LOOK_S = 0.25


def resident_kib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def hammer(
    run: Callable[[Any], Any], inputs: list[list[Any]], expected: list[list[bytes]], runs: int
) -> dict[str, Any]:
    """Run from as many threads as there are lists of inputs, and watch the memory."""
    wrong, done = [0] * len(inputs), [0] * len(inputs)
    errors: list[str] = []
    start = threading.Barrier(len(inputs) + 1)

    def work(number: int) -> None:
        mine, right = inputs[number], expected[number]
        start.wait()
        try:
            for turn in range(runs):
                which = turn % len(mine)
                wrong[number] += run(mine[which]).tobytes() != right[which]
                done[number] += 1
        except Exception as error:  # a thread that fails is a figure
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    looks: list[tuple[int, float]] = []
    while any(thread.is_alive() for thread in threads):
        looks.append((sum(done), resident_kib()))
        threads[0].join(_LOOK_S) if threads[0].is_alive() else time.sleep(_LOOK_S)
    seconds = time.perf_counter() - began
    # The first half fills rings, histograms, caches and the allocator's arenas.
    settled = np.array([look for look in looks if look[0] > 0.5 * runs * len(inputs)] or looks, dtype=np.float64)
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) if len(settled) > 2 else 0.0
    return {
        "threads": len(inputs),
        "runs": sum(done),
        "wrong": sum(wrong),
        "errors": errors,
        "seconds": seconds,
        "looks": looks,
        "resident_first_kib": float(settled[0, 1]),
        "resident_last_kib": float(settled[-1, 1]),
        "slope_bytes_per_run": slope * 1024,
    }


def bare(path: Path) -> Callable[[Any], Any]:
    """An interpreter behind a lock."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=1)
    model.allocate_tensors()
    first, last = model.get_input_details()[0], model.get_output_details()[0]["index"]
    lock = threading.Lock()

    def run(value: Any) -> Any:
        value = (100 * value).astype(first["dtype"])
        with lock:
            model.set_tensor(first["index"], value)
            model.invoke()
            return model.get_tensor(last)

    return run


def main() -> None:
    """Print a Markdown table; exit with 1 when a result was wrong or lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a .tflite file with one input and one output")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--runs", type=int, default=100_000, help="in each thread")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    random = np.random.default_rng(_SEED)
    options = {"delegate": "xnnpack"}
    with edgekit.load(arguments.model, **options) as session:
        shape = [max(size, 1) for size in session.inputs[0].shape]
        inputs = [
            [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(_INPUTS)] for _ in range(arguments.threads)
        ]
        expected = [[session.run(value).tobytes() for value in row] for row in inputs]
        found = {"one Session": hammer(session.run, inputs, expected, arguments.runs)}
    run = bare(arguments.model)
    alone = [[run(value).tobytes() for value in row] for row in inputs]
    found["one bare interpreter, a lock"] = hammer(run, inputs, alone, arguments.runs)
    with Pool.of(arguments.model, arguments.workers, **options) as pool:
        found[f"Pool of {arguments.workers}"] = hammer(pool.run, inputs, expected, arguments.runs)
    print(
        "| on | threads | runs | results that differ | µs per run | resident memory in the second half | slope there |\n|---|---|---|---|---|---|---|"
    )
    for name, row in found.items():
        print(
            f"| {name} | {row['threads']} | {row['runs']} | {row['wrong']} | {1e6 * row['seconds'] / row['runs']:.1f} "
            f"| {row['resident_first_kib'] / 1024:.1f} → {row['resident_last_kib'] / 1024:.1f} MiB "
            f"| {row['slope_bytes_per_run']:+.4f} bytes per run |"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found))
    expected_runs = arguments.threads * arguments.runs
    if any(row["wrong"] or row["errors"] or row["runs"] != expected_runs for row in found.values()):
        print("\n".join(error for row in found.values() for error in row["errors"]), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
