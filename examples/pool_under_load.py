"""A Pool under load: clients that come at random moments, a worker that is killed in the middle, and what the clients saw.

Clients are coroutines: each waits a random time, asks, and notes how long the answer took. One line of JSON at the end::

    python pool_under_load.py --demo
    python pool_under_load.py --model model.tflite --workers 4 --kind process --kill --rate 200
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import edgekit


async def client(pool: edgekit.Pool, value: Any, requests: int, pause_s: float, dice: random.Random, seen: Any) -> None:
    """Ask so many times, with pauses of random length between."""
    for _ in range(requests):
        await asyncio.sleep(dice.expovariate(1 / pause_s))
        start = time.perf_counter()
        try:
            await pool.arun(value)
        except edgekit.EdgekitError as error:
            seen["errors"].append(str(error))
        else:
            seen["seconds"].append(time.perf_counter() - start)


async def kill_one(pool: edgekit.Pool, workers: list[Any], after_s: float) -> None:
    """End one worker's process, as a crash of its delegate would."""
    await asyncio.sleep(after_s)
    os.kill(workers[0].pid, signal.SIGKILL)
    print(f"killed {workers[0].pid}", file=sys.stderr)


async def load(pool: edgekit.Pool, workers: list[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Put the pool under load."""
    random_values = np.random.default_rng(0)
    shape = [max(size, 1) for size in pool.inputs[0].shape]
    value = random_values.uniform(0, 1, shape).astype(np.float32)
    seen: dict[str, Any] = {"seconds": [], "errors": []}
    each, pause_s = arguments.requests // arguments.clients, arguments.clients / arguments.rate
    start = time.perf_counter()
    tasks = [client(pool, value, each, pause_s, random.Random(number), seen) for number in range(arguments.clients)]
    if arguments.kill:
        tasks.append(kill_one(pool, workers, 0.3 * each * pause_s))
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - start
    times = np.array(seen["seconds"]) * 1e3
    return {
        "asked": each * arguments.clients,
        "answered": len(times),
        "errors": len(seen["errors"]),
        "first_error": next(iter(seen["errors"]), None),
        "per_second": round(len(times) / seconds, 1),
        "p50_ms": round(float(np.percentile(times, 50)), 3) if len(times) else None,
        "p99_ms": round(float(np.percentile(times, 99)), 3) if len(times) else None,
        "pool": pool.stats().to_json(),
    }


def main() -> None:
    """Make the pool and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="a .tflite file with one input")
    what.add_argument("--demo", action="store_true", help="a few convolutions with random weights")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", choices=["thread", "process"], default="thread")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=800, help="of all clients together")
    parser.add_argument("--rate", type=float, default=400.0, help="requests per second that all clients make together")
    parser.add_argument(
        "--kill", action="store_true", help="kill a worker's process in the middle (with --kind process)"
    )
    arguments = parser.parse_args()
    if arguments.kill and arguments.kind != "process":
        parser.error("--kill needs --kind process: a thread cannot be killed")

    if arguments.demo:
        from demo_models import some_work

        source: Any = edgekit.ModelFile.read(some_work())
    else:
        source = edgekit.ModelFile.read(arguments.model)
    workers: list[Any] = []

    def opened() -> Any:
        workers.append(edgekit.load(source, delegate="xnnpack", threads=1, isolate=arguments.kind == "process"))
        return workers[-1]

    # Functions rather than open sessions, so that the pool can open a worker again.
    with edgekit.Pool([opened] * arguments.workers, probe_interval_s=0.1) as pool:
        print(json.dumps(asyncio.run(load(pool, workers, arguments))))


if __name__ == "__main__":
    try:
        main()
    except edgekit.EdgekitError as error:
        sys.exit(f"error: {error}")
