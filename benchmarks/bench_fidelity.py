"""Whether ``edgekit bench`` tells the truth: beside LiteRT's own benchmark and the bare loop, and against its own reruns.

First part: processes of three kinds in turn, in every round in another order. One is a launch of ``edgekit bench``, one is
``ai_edge_litert.tools.benchmark_litert_model`` (LiteRT's ``litert-benchmark``), one is ``set_tensor; invoke; get_tensor`` in a loop. All
have the same model, threads and delegate (XNNPACK), and about as many runs. What is compared is compared within a round.
LiteRT's benchmark neither writes the input nor reads the output between runs, so that edgekit's interpreter time is shown beside the
time of a run. Its figures are rounded to 10 µs where they are printed; the process that runs it here takes the runs themselves.

Where something slows the processor for a part of the time (the other half of a core, a host's clock), medians of a second say which part was
the longer one. All three kinds therefore time edgekit's fixed piece of work between runs (``edgekit.bench.pace``; in LiteRT's benchmark behind the
clock that it reads before each run), and the runs at full pace are compared besides.

Second part: whole benchmarks, one after another. The interval that each one prints for the median of a rerun is checked against
the next one's median.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bench import pace
from edgekit.bench.cases import FEWEST_FULL_RUNS, SLOWED_SHARE, Ratio
from edgekit.host import read_host

EDGEKIT, INVOKE, LITERT, BARE = "edgekit bench", "its interpreter's time", "litert-benchmark", "bare loop"
#: Models of 0.2 to 1 ms: with less, what LiteRT's benchmark does around a run weighs more than the 2 % that are asked for.
MODELS = {
    "resnet8 float": "mlperf_tiny/resnet8/pretrainedResnet.tflite",
    "visual wake words float": "mlperf_tiny/vww/vww_96_float.tflite",
    "visual wake words int8": "mlperf_tiny/vww/vww_96_int8.tflite",
    "mobilenet_v1 0.25 128 uint8": "edgetpu/mobilenet_v1_0.25_128_quant.tflite",
}
#: Runs of each process take about so long, after half as many for warming up.
_PROCESS_NS = 1_000_000_000
_FEWEST, _MOST = 50, 20_000
_RESAMPLES, _SEED = 1000, 0
#: What must be shown.
_CLOSE, _WIDTH, _SHARE = 0.02, 0.05, 17 / 20

Answer = dict[str, Any]


@dataclass(frozen=True)
class Beside:
    """The ways to measure one model beside each other.

    Attributes:
        model: its name.
        threads: of XNNPACK.
        medians_ns: of each round's process, by way.
        full_pace_ns: the same of the runs at full pace; ``None`` for a process that had too few.
        slowed: for what share of the time the processor was slowed.
        runs: of each process but edgekit's, which decides itself.
    """

    model: str
    threads: int
    medians_ns: Mapping[str, Sequence[float]]
    full_pace_ns: Mapping[str, Sequence[float | None]]
    slowed: float
    runs: int

    def ratio(self, way: str, to: str = LITERT) -> Ratio:
        """The median over rounds of the ratio within a round; the interval is a bootstrap over rounds (fixed seed)."""
        found = np.array(self.medians_ns[way]) / np.array(self.medians_ns[to])
        if len(found) < 2:
            return Ratio(float(found[0]), None, None)
        drawn = np.random.default_rng(_SEED).integers(0, len(found), (_RESAMPLES, len(found)))
        low, high = np.percentile(np.median(found[drawn], axis=1), [2.5, 97.5])
        return Ratio(float(np.median(found)), float(low), float(high))

    def full_pace(self, way: str, to: str = LITERT) -> Ratio | None:
        """The ratio of the medians over processes at full pace, whichever round they are of; a bootstrap over processes."""
        mine, theirs = (
            np.array([value for value in self.full_pace_ns[item] if value is not None]) for item in (way, to)
        )
        if min(len(mine), len(theirs)) < 3:
            return None
        random = np.random.default_rng(_SEED)
        drawn = [
            np.median(side[random.integers(0, len(side), (_RESAMPLES, len(side)))], axis=1) for side in (mine, theirs)
        ]
        low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
        return Ratio(float(np.median(mine) / np.median(theirs)), float(low), float(high))

    @property
    def by_pace(self) -> bool:
        """Whether the ratio at full pace is known better than that of all runs: where the processor was often slowed, but not always."""
        every, found = self.ratio(EDGEKIT), self.full_pace(EDGEKIT) if self.slowed >= SLOWED_SHARE else None
        return found is not None and _width(found) < _width(every)

    @property
    def close(self) -> bool:
        """Whether what edgekit prints is within 2 % of LiteRT's benchmark, by the ratio that is known better."""
        found = self.full_pace(EDGEKIT) if self.by_pace else None
        return abs((found or self.ratio(EDGEKIT)).value - 1) <= _CLOSE


def _width(ratio: Ratio) -> float:
    """Of a ratio's interval; infinite where there is none."""
    return float("inf") if ratio.low is None or ratio.high is None else ratio.high - ratio.low


@dataclass(frozen=True)
class Reruns:
    """Whole benchmarks one after another.

    Attributes:
        model: its name.
        threads: of XNNPACK.
        benchmarks: for each its median, the interval it printed for a rerun's, its launches and its verdict.
    """

    model: str
    threads: int
    benchmarks: Sequence[Answer]

    @property
    def inside(self) -> int:
        """How many medians are in the interval that the benchmark before them printed."""
        pairs = zip(self.benchmarks, self.benchmarks[1:], strict=False)
        return sum(before["low_ns"] <= after["median_ns"] <= before["high_ns"] for before, after in pairs)

    @property
    def of(self) -> int:
        """How many reruns there were."""
        return len(self.benchmarks) - 1

    @property
    def widths(self) -> list[float]:
        """The intervals' widths, as shares of the medians."""
        return [(item["high_ns"] - item["low_ns"]) / item["median_ns"] for item in self.benchmarks]

    @property
    def kept(self) -> bool:
        """Whether the intervals hold what they promise, and say something."""
        return self.inside >= _SHARE * self.of and float(np.median(self.widths)) <= _WIDTH


# ---- processes ----


@dataclass(frozen=True)
class Process:
    """What one process measured.

    Attributes:
        runs_ns: of each run, by way.
        pace_runs: how many runs had ended each time that the fixed piece of work was timed.
        pace_ns: how long that took.
    """

    runs_ns: Mapping[str, Sequence[float]]
    pace_runs: Sequence[int]
    pace_ns: Sequence[int]


def edgekit_launch(path: Path, threads: int) -> Process:
    """One launch of ``edgekit bench``: its runs, and the interpreter's part of them."""
    report = edgekit.benchmark(path, delegate="xnnpack", threads=threads, engine="litert", launches=1)
    (result,) = report.cases
    if result.error is not None:
        sys.exit(f"{path.name}: {result.error}")
    (launch,) = result.launches
    return Process({EDGEKIT: launch.total_ns, INVOKE: launch.invoke_ns}, launch.pace_runs, launch.pace_ns)


def child(kind: str, path: Path, threads: int, runs: int) -> Process:
    """A process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps([kind, str(path), threads, runs])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{kind} of {path.name} failed: {done.stderr[-2000:]}")
    runs_ns, pace_runs, pace_ns = json.loads(done.stdout.splitlines()[-1])
    return Process({kind: runs_ns}, pace_runs, pace_ns)


def _litert(path: str, threads: int, runs: int) -> tuple[list[float], list[int], list[int]]:
    from ai_edge_litert.tools import benchmark_litert_model as tool

    paced, warmup, readings = pace.Pace(on=pace.processors(threads)), runs // 2, 0
    taken: list[float] = []
    begin: int | None = None

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            # It is read before and after each run. The fixed piece of work is done before the first of the two, outside what is measured.
            nonlocal readings, begin
            readings += 1
            if begin is not None:
                number, behind = divmod(readings - begin, 2)
                if not behind and number >= warmup and time.perf_counter_ns() >= paced.due_ns:
                    paced.take(number - warmup)
            return time.perf_counter()

    class Statistics:
        mean, stdev = statistics.mean, statistics.stdev

        @staticmethod
        def median(values: list[float]) -> float:
            taken.extend(values)
            return statistics.median(values)

    info = tool.logger.info

    def told(text: str, *rest: object) -> None:
        nonlocal begin
        if text.startswith("Running") and begin is None:
            begin = readings + 1
        info(text, *rest)

    tool.time, tool.statistics, tool.logger.info = Clock, Statistics, told
    sys.argv = [
        "litert-benchmark", f"--model={path}", f"--num_threads={threads}", f"--num_runs={runs}", f"--warmup_runs={warmup}",
    ]  # fmt: skip
    tool.main()
    return [1e6 * value for value in taken], paced.runs, paced.times_ns


def _bare(path: str, threads: int, runs: int) -> tuple[list[float], list[int], list[int]]:
    from time import perf_counter_ns as clock

    from ai_edge_litert.interpreter import Interpreter

    from edgekit.bench.inputs import random_inputs
    from edgekit.modelfile import ModelFile

    model = Interpreter(path, num_threads=threads)
    model.allocate_tensors()
    (values,) = random_inputs(ModelFile.read(path).inputs).values()
    source, result = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    times: list[float] = []
    paced, warmup = pace.Pace(on=pace.processors(threads)), runs // 2
    for number in range(warmup + runs):
        start = clock()
        model.set_tensor(source, values)
        model.invoke()
        model.get_tensor(result)
        end = clock()
        times.append(end - start)
        if number >= warmup and end >= paced.due_ns:
            paced.take(number - warmup + 1)
    return times[warmup:], paced.runs, paced.times_ns


# ---- the two parts ----


def beside(name: str, path: Path, threads: int, rounds: int, tell: Callable[[str], None]) -> Beside:
    """Measure a model in all ways, interleaved.

    Args:
        name: the model's.
        path: its file.
        threads: of XNNPACK.
        rounds: processes of each way.
        tell: told of each round.
    """
    first = edgekit_launch(path, threads)
    runs = int(min(_MOST, max(_FEWEST, _PROCESS_NS / float(np.median(first.runs_ns[EDGEKIT])))))
    done: list[Process] = []
    ways: list[Callable[[], Process]] = [
        lambda: edgekit_launch(path, threads),
        lambda: child(LITERT, path, threads, runs),
        lambda: child(BARE, path, threads, runs),
    ]
    for number in range(rounds):
        tell(f"{name}, {threads} thread{'s' if threads > 1 else ''}: round {number + 1} of {rounds}")
        start = number % len(ways)
        done += [way() for way in [*ways[start:], *ways[:start]]]
    times = [value for process in done for value in process.pace_ns]
    full_ns = pace.full_pace_ns(times)
    medians: dict[str, list[float]] = {way: [] for way in (EDGEKIT, INVOKE, LITERT, BARE)}
    at_pace: dict[str, list[float | None]] = {way: [] for way in medians}
    for process in done:
        slow = pace.slowed(process.pace_ns, full_ns)
        for way, values in process.runs_ns.items():
            medians[way].append(float(np.median(values)))
            kept = np.asarray(values)[pace.at_full_pace(len(values), process.pace_runs, slow)]
            at_pace[way].append(float(np.median(kept)) if len(kept) >= FEWEST_FULL_RUNS else None)
    return Beside(name, threads, medians, at_pace, float(pace.slowed(times, full_ns).mean()), runs)


def reruns(name: str, path: Path, threads: int, count: int, tell: Callable[[str], None]) -> Reruns:
    """Benchmark a model again and again.

    Args:
        name: the model's.
        path: its file.
        threads: of XNNPACK.
        count: reruns, beside the first one.
        tell: told of each.
    """
    found = []
    for number in range(count + 1):
        tell(f"{name}, {threads} thread{'s' if threads > 1 else ''}: rerun {number} of {count}")
        report = edgekit.benchmark(path, delegate="xnnpack", threads=threads, engine="litert")
        interval = report.cases[0].steady
        assert interval is not None
        found.append(
            {
                "median_ns": interval.value, "low_ns": interval.predicted_low, "high_ns": interval.predicted_high,
                "launches": interval.launches, "medians_ns": list(report.cases[0].medians_ns),
                "all_runs_ns": float(np.median(report.cases[0].medians_ns)), "slowed": report.cases[0].slowed_share,
                "verdict": report.verdict.to_json(),
            }
        )  # fmt: skip
    return Reruns(name, threads, found)


def document(parts: Sequence[Beside], again: Sequence[Reruns]) -> str:
    """The tables as Markdown."""
    lines = []
    if parts:
        lines = [
            f"| model | threads | runs | {LITERT} | {EDGEKIT} ÷ it | {INVOKE} ÷ it | {BARE} ÷ it | within 2 % |",
            "|---|---|---|---|---|---|---|---|",
        ]
    for part in parts:
        head = f"| {part.model} | {part.threads} |"
        ratios = [_ratio_text(part.ratio(way)) for way in (EDGEKIT, INVOKE, BARE)]
        middle = float(np.median(part.medians_ns[LITERT])) / 1e6
        found = [part.full_pace(way) for way in (EDGEKIT, INVOKE, BARE)]
        lines.append(
            f"{head} all, slowed for {100 * part.slowed:.0f} % of the time | {middle:.3f} ms | {' | '.join(ratios)} | "
            f"{'' if part.by_pace else _yes(part.close)} |"
        )
        if None not in found:
            middle = float(np.median([value for value in part.full_pace_ns[LITERT] if value is not None])) / 1e6
            texts = [_ratio_text(item) for item in found if item is not None]
            lines.append(
                f"{head} at full pace | {middle:.3f} ms | {' | '.join(texts)} | {_yes(part.close) if part.by_pace else ''} |"
            )
    if again:
        lines += [
            *([""] if parts else []),
            "| model | threads | median | spread of the reruns' medians | of all runs, slowed or not | in the interval before | its width, median "
            "| launches | verdicts |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for item in again:
        medians = np.array([found["median_ns"] for found in item.benchmarks])
        every = np.array([found["all_runs_ns"] for found in item.benchmarks])
        verdicts = [found["verdict"]["level"] for found in item.benchmarks]
        told = ", ".join(f"{verdicts.count(level)} {level}" for level in dict.fromkeys(verdicts))
        launches = [found["launches"] for found in item.benchmarks]
        lines.append(
            f"| {item.model} | {item.threads} | {np.median(medians) / 1e6:.3f} ms | "
            f"{100 * (medians.max() - medians.min()) / np.median(medians):.1f} % | "
            f"{100 * (every.max() - every.min()) / np.median(every):.1f} % | {item.inside} of {item.of} | "
            f"{100 * np.median(item.widths):.1f} % | {min(launches)} to {max(launches)} | {told} |"
        )
    return "\n".join(lines) + "\n"


def _yes(kept: bool) -> str:
    return "yes" if kept else "no"


def _ratio_text(ratio: Ratio) -> str:
    return f"{ratio.value:.3f}" if ratio.low is None else f"{ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME=FILE", help="instead of the four models in --assets")
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("EDGEKIT_ASSETS", "../shared/assets")))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=11, help="processes of each way; 0 leaves the first part out")
    parser.add_argument("--reruns", type=int, default=20, help="of each model; 0 leaves the second part out")
    parser.add_argument("--rerun-threads", nargs="+", type=int, default=[1], metavar="N", help="of the second part")
    parser.add_argument("--check", action="store_true", help="exit status 1 when something that must be shown is not")
    parser.add_argument("--json", type=Path, help="write all raw figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, and write what was asked for.

    Args:
        argv: the command line, without the program's name.

    Returns:
        0, or with ``--check`` 1 when something that must be shown is not.
    """
    arguments = _arguments(argv)
    named = [item.partition("=") for item in arguments.models]
    files = {name: Path(path or name) for name, _, path in named} or {
        name: arguments.assets / path for name, path in MODELS.items()
    }
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        sys.exit(f"no such file: {', '.join(missing)}; see benchmarks/README.md for what --assets holds")

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    parts: list[Beside] = []
    again: list[Reruns] = []

    def save() -> None:
        if arguments.json:  # an hour's figures are not lost to a power cut
            found = {
                "host": read_host().to_json(), "edgekit": edgekit.__version__,
                "beside": [dataclasses.asdict(part) for part in parts],
                "reruns": [dataclasses.asdict(item) for item in again],
            }  # fmt: skip
            arguments.json.write_text(json.dumps(found, indent=1))

    for name, path in files.items():
        for threads in arguments.threads if arguments.rounds else ():
            parts.append(beside(name, path, threads, arguments.rounds, tell))
            save()
    for name, path in files.items():
        for threads in arguments.rerun_threads if arguments.reruns else ():
            again.append(reruns(name, path, threads, arguments.reruns, tell))
            save()
    text = document(parts, again)
    print(text)
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text)
    shown = all(part.close for part in parts) and all(item.kept for item in again)
    return 1 if arguments.check and not shown else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, path_, threads_, runs_ = json.loads(sys.argv[2])
        print(json.dumps({LITERT: _litert, BARE: _bare}[kind](path_, threads_, runs_)))
    else:
        sys.exit(main())
