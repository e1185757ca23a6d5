"""Damaged model files on the bare interpreters, through edgekit, and through edgekit with ``isolate=True``.

Each of five models is damaged in thousands of ways (``mutations.py``), and every copy is loaded and run on zeros in a forked process
of its own with a time limit, once for each way in; how it ended is counted. The same copies, with a manifest, must all be
refused by edgekit's check alone. ``--runtime-python`` names a Python with tflite-runtime, which is measured as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from mutations import KINDS

#: Five models of the assets folder: residual, keyword spotting, MobileNetV1 in float, MobileNetV2 with a segmentation head, LSTM.
MODELS = (
    "mlperf_tiny/resnet8/pretrainedResnet_quant.tflite",
    "mlperf_tiny/kws/kws_int8_ref.tflite",
    "mlperf_tiny/vww/vww_96_float.tflite",
    "edgetpu/deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "edgetpu/keras_lstm_mnist_ptq.tflite",
)
WAYS = {
    "bare": "the interpreter alone",
    "edgekit": "`edgekit.load`",
    "isolate": "`edgekit.load(isolate=True)`",
}
COLUMNS = ("refused by edgekit", "refused by the runtime", "ran", "child ended", "crashed", "hung")


@dataclass(frozen=True)
class Tried:
    """How one damaged file ended.

    Attributes:
        engine: the interpreter.
        way: how it was loaded.
        model: the file's name.
        number: which copy.
        kind: how it was damaged.
        outcome: one of ``COLUMNS``, with the signal where it crashed; ``accepted`` where only the check was asked.
    """

    engine: str
    way: str
    model: str
    number: int
    kind: str
    outcome: str

    @property
    def column(self) -> str:
        """The outcome without the signal's name."""
        return "crashed" if self.outcome.startswith("crashed") else self.outcome


def tried(python: str, engine: str, way: str, model: Path, count: int, *, seed: int = 0, folder: str) -> list[Tried]:
    """Try the first ``count`` damaged copies of a model.

    Args:
        python: a Python that has the engine and numpy.
        engine: ``litert`` or ``tflite-runtime``.
        way: one of ``WAYS``, or ``check``.
        model: a healthy file.
        count: how many.
        seed: another one gives other copies.
        folder: where to put them, one at a time.
    """
    child = Path(__file__).with_name("mutants_child.py")
    command = [python, str(child), engine, way, str(model), str(seed), "0", str(count), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Tried(engine, way, model.name, *json.loads(line)) for line in done.stdout.splitlines()]


def sealed(model: Path, folder: Path) -> Path:
    """A copy of a model with a manifest behind it."""
    import hashlib

    from edgekit.manifest import Manifest, append
    from edgekit_convert.graph import with_metadata

    flatbuffer = with_metadata(model.read_bytes(), "made by edgekit's benchmark", {})
    digest = hashlib.sha256(flatbuffer).hexdigest()
    copy = folder / model.name
    copy.write_bytes(append(flatbuffer, Manifest(digest, labels=("cat", "dog")), bytes(range(256)) * 20))
    return copy


def table(rows: list[Tried]) -> str:
    """Counts by interpreter and way."""
    groups = list(dict.fromkeys((row.engine, row.way) for row in rows))
    lines = [
        "| runtime | loaded by | files | " + " | ".join(COLUMNS) + " |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]
    for engine, way in groups:
        counts = Counter(row.column for row in rows if (row.engine, row.way) == (engine, way))
        total = sum(counts.values())
        cells = []
        for column in COLUMNS:
            share = (
                f" ({100 * counts[column] / total:.2f} %)" if column in ("crashed", "hung") and counts[column] else ""
            )
            cells.append(f"{counts[column]}{share}")
        lines.append(f"| {engine} | {WAYS.get(way, way)} | {total} | {' | '.join(cells)} |")
    return "\n".join(lines)


def kinds_table(rows: list[Tried]) -> str:
    """Crashes and hangs by kind of damage."""
    groups = list(dict.fromkeys((row.engine, row.way) for row in rows))
    lines = ["| runtime | loaded by | " + " | ".join(KINDS) + " |", "|---|---" + "|---" * len(KINDS) + "|"]
    for engine, way in groups:
        bad = Counter(
            row.kind for row in rows if (row.engine, row.way) == (engine, way) and row.column in ("crashed", "hung")
        )
        lines.append(f"| {engine} | {WAYS.get(way, way)} | {' | '.join(str(bad[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


def main() -> None:
    """Print Markdown tables; exit code 1 when edgekit let a crash, a hang or a damaged manifest through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="healthy .tflite files; else five of --assets")
    parser.add_argument("--assets", type=Path, default=None, help="the folder with the measuring models")
    parser.add_argument("--count", type=int, default=10_000, help="damaged files for each runtime and way")
    parser.add_argument(
        "--isolate-count", type=int, default=1000, help="the same with isolate=True, which starts a process for each"
    )
    parser.add_argument("--runtime-python", default=None, help="a Python that has tflite-runtime")
    parser.add_argument("--no-litert", action="store_true", help="only the runtime of --runtime-python")
    parser.add_argument("--ways", nargs="*", default=[*WAYS, "sealed"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="write every outcome to this file")
    arguments = parser.parse_args()
    models = arguments.models or [arguments.assets / name for name in MODELS]
    runtimes = [] if arguments.no_litert else [("litert", sys.executable)]
    if arguments.runtime_python:
        runtimes.append(("tflite-runtime", arguments.runtime_python))
    rows: list[Tried] = []
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="edgekit-mutants-", dir=shared) as name:
        folder = Path(name)
        for engine, python in runtimes:
            for way in (way for way in arguments.ways if way in WAYS):
                total = arguments.isolate_count if way == "isolate" else arguments.count
                start = time.monotonic()
                for model in models:
                    rows += tried(python, engine, way, model, total // len(models), seed=arguments.seed, folder=name)
                print(f"{engine}, {way}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        behind: list[Tried] = []
        if "sealed" in arguments.ways:
            for model in models:
                copy = sealed(model, folder)
                behind += tried(
                    sys.executable,
                    "litert",
                    "check",
                    copy,
                    arguments.count // len(models),
                    seed=arguments.seed,
                    folder=name,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows + behind]))
    print(table(rows), "\n\nCrashes and hangs by kind of damage:\n\n" + kinds_table(rows))
    through = sum(row.outcome != "refused by edgekit" for row in behind)
    if behind:
        print(
            f"\nWith a manifest: {len(behind)} damaged files, {len(behind) - through} refused before native code saw them."
        )
    bugs = [row for row in rows + behind if row.outcome.startswith("bug")]
    for row in bugs:
        print(f"{row}", file=sys.stderr)
    unsafe = [row for row in rows if row.way != "bare" and row.engine == "litert" and row.column in ("crashed", "hung")]
    sys.exit(1 if bugs or through or unsafe else 0)


if __name__ == "__main__":
    main()
