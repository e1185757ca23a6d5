"""A model that is converted here and must give the same on another machine: ``scripts/test-arm64`` runs both halves.

``make FOLDER`` converts a small image classifier and writes down what it answers here; ``check FOLDER ENGINE`` runs the file on
the other machine and compares: the golden data in it, the real numbers and the names of the best classes.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

import edgekit

#: Images that the answers are compared on.
_COUNT = 16
_LABELS = ("ant", "bee", "cow", "doe", "eel")
#: Right kernels differ by 18 to 43 dB (see ``edgekit.golden``); a misread weight leaves 1 to 2.
_LEAST_DB = 12.0
#: Kernels that round otherwise may tip images whose best classes are close.
_LEAST_SAME = 12


def images(seed: int, count: int) -> np.ndarray:
    """8-bit images, wider than high, with large and small structure."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(0, 255, (count, 6, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(rough + rng.normal(0, 20, rough.shape), 0, 255).astype(np.uint8)


def make(folder: Path) -> None:
    """Convert the model and write it and its answers into a new folder."""
    import tiny_models

    folder.mkdir(parents=True)
    item = edgekit.Preprocessing(None, "bgr", (127.5,), (127.5,), (32, 32), 36)
    conversion = edgekit.convert(
        tiny_models.conv_float(size=32),
        images(1, 64),
        output=folder / "model.tflite",
        preprocessing={"image": item},
        labels=_LABELS,
        recipe="int8",
        effort="fast",
    )
    given = images(2, _COUNT)
    with edgekit.load(folder / "model.tflite", delegate="xnnpack", preprocess=True) as session:
        outputs = np.stack([session.run(image)[0] for image in given])
    np.save(folder / "images.npy", given)
    np.save(folder / "outputs.npy", outputs)
    print(f"converted here ({platform.machine()}): {len(conversion.model.content)} bytes, {session.engine}")


def check(folder: Path, engine: str) -> int:
    """Run the file on this machine; the exit code says whether it answers as it did where it was converted."""
    report = edgekit.verify_golden(folder / "model.tflite", delegate="xnnpack", engine=engine)
    print(f"{platform.machine()}, {report.engine}: golden data {'pass' if report.passed else 'FAIL'} ({report.reason})")
    given, expected = np.load(folder / "images.npy"), np.load(folder / "outputs.npy")
    with edgekit.load(folder / "model.tflite", delegate="xnnpack", preprocess=True, engine=engine) as session:
        outputs = np.stack([session.run(image)[0] for image in given])
        summary = session.latency.summary()
    noise = float(((outputs - expected) ** 2).sum())
    sqnr = 10 * np.log10(float((expected**2).sum()) / noise) if noise else float("inf")
    same = int((outputs.argmax(axis=1) == expected.argmax(axis=1)).sum())
    good = report.passed and sqnr >= _LEAST_DB and same >= _LEAST_SAME
    print(
        json.dumps(
            {
                "passed": bool(good),
                "sqnr_db": round(float(sqnr), 1),
                "same_best_class": f"{same} of {len(given)}",
                "largest_difference": round(float(np.abs(outputs - expected).max()), 5),
                "p50_ms": round(summary.p50_ns / 1e6, 3),
            }
        )
    )
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        sys.exit(check(Path(sys.argv[2]), sys.argv[3]))
