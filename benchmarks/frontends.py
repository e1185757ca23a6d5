"""The same networks from Keras, ONNX, PyTorch and a channels-first ``.tflite``: is the int8 result the same, and as fast?

Each network has one set of weights and is built in each framework (``frontends_networks.py``). All are converted with the same
calibration data and options. What is not installed, or cannot be converted, is a row that says so. The exit status is 1 where
a source that was converted is slower than Keras's by more than the limit, has TRANSPOSEs that Keras's has not, or agrees less.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import frontends_networks as described
import interleaved
import numpy as np

import edgekit
from edgekit.errors import EdgekitError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array

#: The peer, and by how much others may be worse: their latency ratio, their SQNR in dB.
PEER, SLOWER, NOISIER_DB = "keras", 1.05, 1.0
_CALIBRATION, _TEST, _SEED = 32, 64, 1
_TURNS = "TRANSPOSE"


@dataclass(frozen=True)
class Row:
    """A network from a source.

    Attributes:
        network: which.
        source: what it came from.
        failure: why there is nothing else; ``None`` where there is.
        float_error: the largest difference of the float outputs from Keras's own, relative to their largest value.
        operators: of the int8 file, by name.
        size_bytes: of the int8 file.
        sqnr_db: of the int8 file against the float model, on data that it was not calibrated on.
        ratio: latency against the file from Keras, and the ends of its 95 % interval; ``None`` where it was not measured.
    """

    network: str
    source: str
    failure: str | None = None
    float_error: float | None = None
    operators: dict[str, int] | None = None
    size_bytes: int | None = None
    sqnr_db: float | None = None
    ratio: tuple[float, float | None, float | None] | None = None


def sources(layers: tuple[Any, ...], folder: Path) -> dict[str, Callable[[], Any]]:
    """What makes each source: a Keras model first, whose float outputs the others' are compared with."""

    def onnx() -> Path:
        path = folder / "network.onnx"
        path.write_bytes(described.in_onnx(layers))
        return path

    return {
        PEER: lambda: described.in_keras(layers),
        "tflite, channels first": lambda: described.in_tensorflow_channels_first(layers),
        "onnx": onnx,
        "torch": lambda: described.in_torch(layers),
    }


def measure(
    name: str, layers: tuple[Any, ...], arguments: argparse.Namespace, tell: Callable[[str], None]
) -> list[Row]:
    """Convert a network from each source, and compare what came out."""
    random = np.random.default_rng(_SEED)
    data = random.normal(0, 1, (_CALIBRATION + _TEST, *described.SHAPE)).astype(np.float32)
    calibration, test = data[:_CALIBRATION], data[_CALIBRATION:]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        files: dict[str, Path] = {}
        expected: Array | None = None
        for source, make in sources(layers, Path(folder)).items():
            if source not in (PEER, *arguments.sources):
                continue
            tell(f"{name} from {source}")
            try:
                model = make()
                options = {"shapes": [1, 3, *described.SHAPE[:2]]} if source == "torch" else {}
                made = edgekit.convert(
                    model, calibration, verify=test, recipe=arguments.recipe, effort=arguments.effort, normalize="none",
                    keep_failing=True, **options,
                )  # fmt: skip
            except (EdgekitError, ImportError) as error:
                rows.append(Row(name, source, failure=str(error)))
                continue
            floats = _outputs(made.float_model, test[:4])
            expected = floats if expected is None else expected
            path = files[source] = Path(folder) / f"{len(files)}.tflite"
            made.save(path)
            rows.append(
                Row(
                    name,
                    source,
                    float_error=float(np.abs(floats - expected).max() / np.abs(expected).max()),
                    operators=dict(Counter(op.name for op in made.model.graph.main.ops)),
                    size_bytes=path.stat().st_size,
                    sqnr_db=made.report.on["verify"].outputs[0].sqnr_db.value,
                )
            )
        if arguments.rounds and PEER in files:
            tell(f"{name}: latency")
            times = interleaved.measure(files, rounds=arguments.rounds, launches=arguments.launches)
            rows = [_timed(row, times) for row in rows]
    return rows


def _outputs(content: bytes, samples: Array) -> Array:
    with edgekit.load(ModelFile.read(content), delegate="none") as session:
        return np.stack([session.run(sample[None]) for sample in samples])


def _timed(row: Row, times: interleaved.Times) -> Row:
    if row.source not in times or row.source == PEER:
        return row
    found = interleaved.ratio(times, row.source, PEER)
    return Row(**{**asdict(row), "ratio": (found.value, found.low, found.high)})


def worse(rows: list[Row]) -> list[str]:
    """What is worse than from Keras, in words."""
    found = []
    for row in rows:
        peer = next(item for item in rows if (item.network, item.source) == (row.network, PEER))
        if row.failure is not None or peer.failure is not None or row is peer:
            continue
        where = f"{row.network} from {row.source}"
        turns, others = (item.operators.get(_TURNS, 0) if item.operators else 0 for item in (row, peer))
        if turns > others:
            found.append(f"{where}: {turns} TRANSPOSEs, from Keras {others}")
        if row.ratio is not None and (row.ratio[1] or row.ratio[0]) > SLOWER:
            found.append(f"{where}: {row.ratio[0]:.2f} times as long")
        if row.sqnr_db is not None and peer.sqnr_db is not None and row.sqnr_db < peer.sqnr_db - NOISIER_DB:
            found.append(f"{where}: {row.sqnr_db:.1f} dB, from Keras {peer.sqnr_db:.1f} dB")
    return found


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| network | source | float against Keras | operators | of them TRANSPOSE | size | SQNR | latency against Keras |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.failure is not None or row.operators is None or row.size_bytes is None:
            lines.append(f"| {row.network} | {row.source} | {' '.join((row.failure or '').split())} | | | | | |")
            continue
        ratio = ""
        if row.ratio is not None:
            middle, low, high = row.ratio
            ratio = f"{middle:.2f}×" + (f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else "")
        lines.append(
            f"| {row.network} | {row.source} | {row.float_error:.0e} | {sum(row.operators.values())} | "
            f"{row.operators.get(_TURNS, 0)} | {row.size_bytes / 1e3:.1f} kB | {row.sqnr_db:.1f} dB | {ratio} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; with ``--json`` write the rows as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    names, others = list(described.networks()), list(sources((), Path()))[1:]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--sources", nargs="+", choices=others, default=others)
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--effort", default="fast")
    parser.add_argument(
        "--rounds", type=int, default=40, help="turns of some milliseconds in a process; 0 for no latency"
    )
    parser.add_argument("--launches", type=int, default=5, help="processes that time the files")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if "torch" in arguments.sources and importlib.util.find_spec("litert_torch") is not None:
        # Both bring LLVM: litert-torch 0.10 behind TensorFlow 2.21 ends the process, the other way round they get along.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litert_torch  # noqa: F401  # for what it loads
    rows: list[Row] = []
    for name in arguments.networks:
        rows += measure(name, described.networks()[name], arguments, lambda text: print(text, "…", file=sys.stderr))
    print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    found = worse(rows)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
