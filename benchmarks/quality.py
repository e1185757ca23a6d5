"""How faithful int8 conversions are, and what they cost: edgekit at each effort, TFLiteConverter and litert-quantizer.

Every tool gets the same model, the same calibration samples in the same order and int8 inputs and outputs, and is otherwise left at
its defaults. All files are compared with the same float model, on samples that no one was calibrated on, on XNNPACK. A
model that fails is a row, and the exit status is 1 at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import interleaved
import numpy as np
import quality_children as children
import quality_tables as tables
from interleaved import ratio
from quality_children import CEILINGS, OURS, PEERS, Answer, ChildError
from quality_rows import CASES, LEFT_OUT, Case, Row, beside_peers, compare, total_disagreement

import edgekit
from edgekit.host import read_host
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.verify.intervals import sqnr_db

_TIMEOUT_S = 3600.0
_OLD_RUNTIME = """
import sys, tflite_runtime.interpreter as t
model = t.Interpreter(sys.argv[1])
model.allocate_tensors()
model.invoke()
"""


@dataclass(frozen=True)
class Settings:
    """What the command line asked for.

    Attributes:
        assets: folder of real models and data.
        work: folder for trained networks and everything in between.
        tools: what to convert with, ceilings included.
        seed: of the networks made here.
        epochs: fewer than the networks' own, for a quick look.
        rounds: turns of some milliseconds that each file has in a process; 0 for no latency.
        launches: processes that time the files.
        old_python: a Python with tflite-runtime, or ``None``.
    """

    assets: Path
    work: Path
    tools: tuple[str, ...]
    seed: int
    epochs: int | None
    rounds: int
    launches: int
    old_python: str | None


def measure(case: Case, settings: Settings, tell: Callable[[str], None]) -> tuple[list[Row], Answer]:
    """Prepare one model, convert it with each tool, and measure what came out.

    Args:
        case: the model.
        settings: the command line's.
        tell: told of each step.

    Returns:
        A row for each tool, and what is known of the model itself, with the raw latencies.
    """
    tell(f"{case.name}: preparing")
    try:
        ready = prepare(case, settings)
        exact, _ = outputs(ready, ready["float"], Path(ready["folder"]) / "float.npy")
    except ChildError as error:
        return [Row(case, tool, failure=f"not prepared: {error}") for tool in settings.tools], {}
    labels = np.load(ready["labels"]) if ready["labels"] else None
    rows = []
    for tool in settings.tools:
        tell(f"{case.name}: {tool}")
        rows.append(_row(case, tool, ready, exact, labels, settings))
    rows = [beside_peers(row, rows) for row in rows]
    raw: Answer = {}
    if settings.rounds:
        tell(f"{case.name}: latency")
        rows, raw = _latencies(rows, ready, settings)
    return rows, {**ready, "latency": raw}


def prepare(case: Case, settings: Settings, **more: Any) -> Answer:
    """The case's source, float model and data, made by a child process below the work folder."""
    folder = settings.work / "_".join([case.name, *(str(value) for value in more.values())])
    request = {
        **vars(case), **more, "folder": str(folder), "assets": str(settings.assets), "seed": settings.seed,
        "epochs": settings.epochs,
    }  # fmt: skip
    return {**request, **children.run("prepare", request, _TIMEOUT_S)}


def conversion(tool: str, ready: Answer, *, from_float: bool = False, order: int | None = None) -> Answer:
    """One conversion by a child process; ``from_float`` and ``order`` as ``children.convert`` takes them."""
    name = tool if order is None else f"{tool}-{order}"
    request = {
        **{key: ready[key] for key in ("source", "float", "calibration", "normalize", "resize")},
        "tool": tool, "from_float": from_float, "order": order, "output": str(Path(ready["folder"]) / f"{name}.tflite"),
    }  # fmt: skip
    return {"file": request["output"], **children.run("convert", request, _TIMEOUT_S)}


def outputs(ready: Answer, model: str, output: Path, *, input_grid: bool = False) -> tuple[Array, str]:
    """A model's outputs on the test data, from a child process, and what XNNPACK took of it."""
    request = {key: ready[key] for key in ("test", "calibration", "normalize", "resize")}
    request |= {"model": model, "output": str(output), "input_grid": input_grid}
    told = children.run("outputs", request, _TIMEOUT_S)
    return np.asarray(np.load(output)), str(told["partitions"])


def _row(case: Case, tool: str, ready: Answer, exact: Array, labels: Array | None, settings: Settings) -> Row:
    """Convert with one tool and compare with the float model."""
    if tool == "TFLiteConverter" and ready["source"].endswith(".tflite"):
        return Row(case, tool, skipped="it does not read .tflite, and there is no other source")
    done: Answer = {}
    try:
        ceiling = tool == "input-only"
        done = {} if ceiling else conversion(tool, ready)
        path = ready["float"] if ceiling else done["file"]
        seen, partitions = outputs(ready, path, Path(ready["folder"]) / f"{tool}.npy", input_grid=ceiling)
        if seen.shape != exact.shape:
            raise ChildError(f"its outputs are {list(seen.shape)}, the float model's {list(exact.shape)}")
    except ChildError as error:
        return Row(case, tool, failure=str(error), conversion=done)
    same, right = compare(exact, seen, labels, boxes=case.boxes)
    wanted = exact.reshape(len(exact), -1).astype(np.float64)
    noise = wanted - seen.reshape(len(seen), -1)
    row = Row(
        case, tool, conversion=done, same=same, right=right, partitions=partitions,
        sqnr_db=sqnr_db((wanted**2).sum(axis=1), (noise**2).sum(axis=1)),
    )  # fmt: skip
    if ceiling:
        return row
    old = _loads_in_old_runtime(done["file"], settings.old_python) if settings.old_python else None
    return dataclasses.replace(row, size_bytes=_flatbuffer_bytes(Path(done["file"])), old_runtime=old)


def _latencies(rows: list[Row], ready: Answer, settings: Settings) -> tuple[list[Row], Answer]:
    """Time the float model and all files on XNNPACK in turn, one thread."""
    files = {row.tool: row.conversion["file"] for row in rows if row.size_bytes is not None}
    times = interleaved.measure({"float": ready["float"], **files}, rounds=settings.rounds, launches=settings.launches)
    peers = [tool for tool in PEERS if tool in times]
    fastest = min(peers, key=lambda tool: ratio(times, tool, "float").value, default=None)
    timed = [
        dataclasses.replace(
            row,
            latency=ratio(times, row.tool, "float"),
            latency_of_peer=ratio(times, row.tool, fastest) if fastest is not None else None,
        )
        if row.tool in times and "float" in times
        else row
        for row in rows
    ]
    return timed, dict(times)


def _flatbuffer_bytes(path: Path) -> int:
    """The size of a file without what edgekit appends to it."""
    model = ModelFile.read(path)
    return len(model.content) if model.manifest is None else int(model.manifest.verification["int8_bytes"])


def _loads_in_old_runtime(path: str, python: str) -> str:
    """``"yes"``, or what tflite-runtime said."""
    # Its numpy is another one: nothing of this process's path may reach it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", _OLD_RUNTIME, path], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0:
        return "yes"
    return f"signal {-done.returncode}" if done.returncode < 0 else (lines[-1] if lines else "no")[:200]


def time_mobilenet_v2(settings: Settings, repeats: int, tell: Callable[[str], None]) -> list[Answer]:
    """MobileNetV2 1.0 224 with 100 samples: TFLiteConverter from Keras, the others from the float ``.tflite``."""
    return _timed(settings, {"alpha": 1.0, "side": 224, "count": 100}, repeats, tell)


def scaling(settings: Settings, tell: Callable[[str], None]) -> list[Answer]:
    """Time and memory with 10, 100 and 1000 samples, and with small to large networks."""
    found = []
    for count in (10, 100, 1000):
        found += _timed(settings, {"alpha": 0.35, "side": 96, "count": count}, 1, tell)
    for alpha in (0.35, 1.0, 1.4):
        found += _timed(settings, {"alpha": alpha, "side": 224, "count": 32}, 1, tell)
    return found


def _timed(settings: Settings, network: Answer, repeats: int, tell: Callable[[str], None]) -> list[Answer]:
    """Convert one MobileNetV2 with each tool, ``repeats`` times in turn."""
    case = Case("mobilenet_v2", "MobileNetV2", "mobilenet_v2", normalize="127.5,127.5")
    tools = [tool for tool in settings.tools if tool not in CEILINGS]
    label = f"MobileNetV2 {network['alpha']} {network['side']}, {network['count']} samples"
    tell(f"{label}: preparing")
    try:
        ready = prepare(case, settings, **network)
    except ChildError as error:
        return [{**network, "tool": tool, "failure": f"not prepared: {error}"} for tool in tools]
    found = []
    for number in range(repeats):
        for tool in tools:
            tell(f"{label}: {tool}, {number + 1} of {repeats}")
            row = {**network, "tool": tool, "repeat": number, "float_bytes": ready["float_bytes"], "failure": None}
            try:
                row |= conversion(tool, ready, from_float=tool in OURS)
            except ChildError as error:
                row["failure"] = str(error)
            found.append(row)
    return found


def shuffled(case: Case, settings: Settings, tell: Callable[[str], None]) -> list[Answer]:
    """Convert with the calibration samples in five more orders, and compare the flatbuffers' digests."""
    tools = [tool for tool in settings.tools if tool not in ("input-only",)]
    try:
        ready = prepare(case, settings)
    except ChildError as error:
        return [{"model": case.name, "tool": tool, "failure": f"not prepared: {error}"} for tool in tools]
    found = []
    for tool in tools:
        if tool == "TFLiteConverter" and ready["source"].endswith(".tflite"):
            continue
        tell(f"{case.name}: {tool} in six orders")
        row: Answer = {"model": case.name, "tool": tool, "failure": None}
        try:
            files = [conversion(tool, ready, order=order)["file"] for order in (None, 1, 2, 3, 4, 5)]
            row["sha256"] = [ModelFile.read(file).sha256 for file in files]
            row["same"] = len(set(row["sha256"])) == 1
        except ChildError as error:
            row["failure"] = str(error)
        found.append(row)
    return found


def _machine() -> Answer:
    """What the figures were measured with."""
    import importlib.metadata

    names = ("tensorflow", "litert-quantizer", "ai-edge-litert", "numpy")
    return {
        "host": read_host().to_json(),
        "python": platform.python_version(),
        "edgekit": edgekit.__version__,
        **{name: importlib.metadata.version(name) for name in names},
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("EDGEKIT_ASSETS", "../shared/assets")))
    parser.add_argument("--work", type=Path, help="folder for trained networks and converted files; kept for a re-run")
    parser.add_argument(
        "--models", nargs="*", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES)
    )
    parser.add_argument("--tools", nargs="+", choices=(*PEERS, *OURS, *CEILINGS), default=[*PEERS, *OURS], metavar="NAME",
                        help=", ".join((*PEERS, *OURS, *CEILINGS)))  # fmt: skip
    parser.add_argument("--ceilings", action="store_true", help=f"add {' and '.join(CEILINGS)}")
    parser.add_argument("--scaling", action="store_true", help="time and memory with samples and with model size")
    parser.add_argument(
        "--mobilenet-v2", action="store_true", help="time and memory on MobileNetV2 1.0 224, 100 samples"
    )
    parser.add_argument(
        "--shuffle", action="store_true", help="convert in six orders of the samples, compare the bytes"
    )
    parser.add_argument("--no-quality", action="store_true", help="only what the three options above ask for")
    parser.add_argument("--repeats", type=int, default=3, help="of --mobilenet-v2")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each file in a process; 0 for no latency")
    parser.add_argument("--launches", type=int, default=5, help="processes that time the files")
    parser.add_argument("--seed", type=int, default=0, help="of the networks made here")
    parser.add_argument("--epochs", type=int, help="fewer for the networks made here, for a quick look")
    parser.add_argument("--tflite-runtime", metavar="PYTHON", help="a Python with tflite-runtime, to load the files in")
    parser.add_argument("--json", type=Path, help="write all raw figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, and write what was asked for.

    Args:
        argv: the command line, without the program's name.

    Returns:
        0, or 1 when a row failed.
    """
    arguments = _arguments(argv)
    if not arguments.assets.is_dir() and (
        arguments.mobilenet_v2 or arguments.scaling or any(CASES[name].real for name in arguments.models)
    ):
        sys.exit(f"no such folder: {arguments.assets}; see benchmarks/README.md for what it holds")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgekit-quality-") as temporary:
        settings = Settings(
            arguments.assets.resolve(), (arguments.work or Path(temporary)).resolve(),
            tuple(dict.fromkeys([*arguments.tools, *(CEILINGS if arguments.ceilings else ())])),
            arguments.seed, arguments.epochs, arguments.rounds, arguments.launches, arguments.tflite_runtime,
        )  # fmt: skip
        result = _measure_all(arguments, settings)
    text = tables.document(result)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(result.to_json(), indent=1))
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text)
    return 0 if result.passed else 1


@dataclass(frozen=True)
class Result:
    """Everything that one run of the benchmark measured.

    Attributes:
        machine: what it was measured with.
        rows: each tool on each model.
        models: what is known of each model, by name.
        totals: see ``total_disagreement``.
        mobilenet_v2: conversions of that network.
        scaling: conversions with other sizes.
        shuffled: digests with other orders.
    """

    machine: Answer
    rows: list[Row]
    models: dict[str, Answer]
    totals: dict[str, tuple[int, float]]
    mobilenet_v2: list[Answer]
    scaling: list[Answer]
    shuffled: list[Answer]

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        others = [*self.mobilenet_v2, *self.scaling, *self.shuffled]
        return all(row.failure is None for row in self.rows) and all(row["failure"] is None for row in others)

    def to_json(self) -> Answer:
        """All raw figures."""
        return {
            **vars(self), "rows": [row.to_json() for row in self.rows], "left_out": LEFT_OUT, "passed": self.passed
        }  # fmt: skip


def _measure_all(arguments: argparse.Namespace, settings: Settings) -> Result:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    rows: list[Row] = []
    models: dict[str, Answer] = {}
    orders: list[Answer] = []
    for name in arguments.models:
        if not arguments.no_quality:
            found, models[name] = measure(CASES[name], settings, tell)
            rows += found
        if arguments.shuffle:
            orders += shuffled(CASES[name], settings, tell)
    return Result(
        _machine(), rows, models, total_disagreement(rows),
        time_mobilenet_v2(settings, arguments.repeats, tell) if arguments.mobilenet_v2 else [],
        scaling(settings, tell) if arguments.scaling else [], orders,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
