"""How fast int8 conversions are against the float model: edgekit, TFLiteConverter and litert-quantizer, on XNNPACK.

Every tool gets the same model and the same calibration samples, int8 inputs and outputs where it makes a static int8 model, and is otherwise left
at its defaults. All files of a model are timed interleaved, in several processes each. A model or tool that fails is a row, and the
exit status is 1 at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import interleaved
import latency_children as children
import latency_tables as tables
import numpy as np
from interleaved import median_ns, ratio
from latency_children import OURS, PEERS, PLAIN
from latency_claims import Claim, claims
from latency_rows import CASES, FLOAT, TOOLS, Case, Row, compare
from quality_children import Answer, ChildError

import edgekit
from edgekit.bench.results import Ratio
from edgekit.host import read_host
from edgekit.tensors import Array

_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Settings:
    """What the command line asked for.

    Attributes:
        assets: folder of real models and data.
        work: folder for trained networks and everything in between.
        tools: what to convert with.
        effort: of edgekit.
        threads: numbers of threads to time with.
        rounds: turns of some milliseconds that each file has in a process; 0 for no latency.
        launches: processes for each file and number of threads.
        seed: of the networks made here.
        epochs: fewer than the networks' own, for a quick look.
    """

    assets: Path
    work: Path
    tools: tuple[str, ...]
    effort: str
    threads: tuple[int, ...]
    rounds: int
    launches: int
    seed: int
    epochs: int | None


@dataclass(frozen=True)
class Result:
    """Everything that one run of the benchmark measured.

    Attributes:
        machine: what it was measured with.
        settings: the command line's.
        rows: the float model and each tool on each model.
        models: what is known of each model, by name, with the raw latencies.
    """

    machine: Answer
    settings: Settings
    rows: list[Row]
    models: dict[str, Answer]

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return all(row.failure is None for row in self.rows)

    @property
    def claims(self) -> list[Claim]:
        """What must be shown, each with what was seen."""
        return claims(self.rows, [name for name in CASES if name in self.models])

    def to_json(self) -> Answer:
        """All raw figures."""
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.settings).items()}
        return {
            "machine": self.machine,
            "settings": settings,
            "rows": [row.to_json() for row in self.rows],
            "models": self.models,
            "claims": [dict(vars(claim)) for claim in self.claims],
            "passed": self.passed,
        }


def measure(case: Case, settings: Settings, tell: Callable[[str], None]) -> tuple[list[Row], Answer]:
    """Prepare one model, convert it with each tool, and measure what came out.

    Args:
        case: the model.
        settings: the command line's.
        tell: told of each step.

    Returns:
        A row for the float model and each tool, and what is known of the model itself, with the raw latencies.
    """
    tell(f"{case.name}: preparing")
    try:
        ready = prepare(case, settings)
        exact = _outputs(ready, ready["float"], FLOAT)
        rows = [_described(Row(case, FLOAT), ready["float"])]
    except ChildError as error:
        return [Row(case, tool, failure=f"not prepared: {error}") for tool in (FLOAT, *settings.tools)], {}
    files = {FLOAT: ready["float"]}
    for tool in settings.tools:
        tell(f"{case.name}: {tool}")
        path = str(Path(ready["folder"]) / f"{tool}.tflite")
        row = _row(case, tool, path, ready, exact, settings)
        rows.append(row)
        if row.failure is None and tool != PLAIN:  # how fast that one is nobody asks
            files[tool] = path
    raw: Answer = {}
    if settings.rounds:
        for threads in settings.threads:
            tell(f"{case.name}: latency, {threads} thread{'' if threads == 1 else 's'}")
            rows, raw[str(threads)] = _timed(rows, files, threads, settings)
    return rows, {**ready, "latency_ns": raw}


def prepare(case: Case, settings: Settings) -> Answer:
    """The model's source, float model and data, made by a child process below the work folder."""
    request = {
        **vars(case), "folder": str(settings.work / case.name), "assets": str(settings.assets), "seed": settings.seed,
        "epochs": settings.epochs,
    }  # fmt: skip
    return {**request, **children.run("prepare", request, _TIMEOUT_S)}


def _outputs(ready: Answer, model: str, tool: str) -> Array:
    """A model's outputs on the test data, from a child process."""
    output = Path(ready["folder"]) / f"{tool}.npy"
    request = {key: ready[key] for key in ("test", "calibration", "normalize", "resize")}
    children.run("outputs", {**request, "model": model, "output": str(output), "input_grid": False}, _TIMEOUT_S)
    found = np.asarray(np.load(output))
    output.unlink()  # what says something of each pixel is large
    return found


def _row(case: Case, tool: str, path: str, ready: Answer, exact: Array, settings: Settings) -> Row:
    """Convert with one tool and compare with the float model."""
    request = {
        **{key: ready[key] for key in ("source", "float", "calibration", "normalize", "resize")},
        "tool": tool, "effort": settings.effort, "output": path,
    }  # fmt: skip
    row = Row(case, tool)
    try:
        done = children.run("convert", request, _TIMEOUT_S)
        row = dataclasses.replace(row, seconds=done["seconds"], findings=tuple(done.get("findings", ())))
        row = _described(row, path)
        seen = _outputs(ready, path, tool)
        if seen.shape != exact.shape:
            raise ChildError(f"its outputs are {list(seen.shape)}, the float model's {list(exact.shape)}")
    except ChildError as error:
        return dataclasses.replace(row, failure=str(error))
    same, noise = compare(exact, seen, case.task)
    return dataclasses.replace(row, same=same, sqnr_db=noise)


def _described(row: Row, path: str) -> Row:
    return dataclasses.replace(row, **children.run("look", {"model": path}, _TIMEOUT_S))


def _timed(
    rows: list[Row], files: dict[str, str], threads: int, settings: Settings
) -> tuple[list[Row], interleaved.Times]:
    """Time all files of a model on XNNPACK in turn.

    Args:
        rows: the model's.
        files: by tool, the float model among them.
        threads: how many.
        settings: the command line's.

    Returns:
        The rows with latencies, and the nanoseconds of each launch and round by tool. A file that could not be timed is a failed row.
    """
    times = interleaved.measure(files, rounds=settings.rounds, launches=settings.launches, threads=threads)

    def timed(row: Row) -> Row:
        if row.tool not in files:
            return row
        if row.tool not in times:
            return dataclasses.replace(row, failure="not timed: it does not run")

        def against(tool: str) -> dict[int, Ratio]:
            return {threads: ratio(times, row.tool, tool)} if tool in times and tool != row.tool else {}

        return dataclasses.replace(
            row,
            p50_ns={**row.p50_ns, threads: median_ns(times, row.tool)},
            latency={**row.latency, **against(FLOAT)},
            latency_of_tflite={**row.latency_of_tflite, **against("TFLiteConverter")},
        )

    return [timed(row) for row in rows], times


def _machine() -> Answer:
    """What the figures were measured with."""
    names = ("tensorflow", "keras", "litert-quantizer", "ai-edge-litert", "numpy")
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
        "--models", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES)
    )
    known = (*PEERS, *OURS, PLAIN)
    parser.add_argument("--tools", nargs="+", choices=known, default=list(TOOLS), metavar="NAME", help=", ".join(known))
    parser.add_argument("--effort", choices=("fast", "default", "high"), default="default", help="of edgekit")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="threads to time with")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each file in a process; 0 for no latency")
    parser.add_argument("--launches", type=int, default=7, help="processes for each file and number of threads")
    parser.add_argument("--seed", type=int, default=0, help="of the networks made here")
    parser.add_argument("--epochs", type=int, help="fewer for the networks made here, for a quick look")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a claim is missed; adds edgekit-plain")
    parser.add_argument("--json", type=Path, help="write all raw figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, and write what was asked for.

    Args:
        argv: the command line, without the program's name.

    Returns:
        0, or 1 when a row failed, or with ``--check`` a claim was missed.
    """
    arguments = _arguments(argv)
    if not arguments.assets.is_dir() and any(CASES[name].needs_assets for name in arguments.models):
        sys.exit(f"no such folder: {arguments.assets}; see benchmarks/README.md for what it holds")

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="edgekit-latency-") as temporary:
        settings = Settings(
            arguments.assets.resolve(), (arguments.work or Path(temporary)).resolve(),
            tuple(dict.fromkeys([*arguments.tools, *((PLAIN,) if arguments.check else ())])), arguments.effort,
            tuple(arguments.threads), arguments.rounds, arguments.launches, arguments.seed, arguments.epochs,
        )  # fmt: skip
        result = Result(_machine(), settings, [], {})
        for name in arguments.models:
            rows, result.models[name] = measure(CASES[name], settings, tell)
            result.rows.extend(rows)
            if arguments.json:  # an hour's figures are not lost to a power cut
                arguments.json.write_text(json.dumps(result.to_json(), indent=1))
    text = tables.document(result)
    print(text)
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text)
    missed = [claim for claim in result.claims if claim.met is False] if arguments.check else []
    for claim in missed:
        tell(f"missed: {claim.text}: {claim.seen}")
    return 1 if missed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(main())
