"""A camera that is faster than the model: run the newest frame, drop the rest, and count.

Frames come from a folder of image files, again and again, or are drawn (a bright square that moves); a webcam would be
``lambda: camera.read()[1]`` in their place. One line of JSON for each result, and at the end what became of all frames::

    python camera_stream.py --demo --frames 200 --rate 100
    python camera_stream.py --model model.tflite --images pictures/ --policy all
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgekit


def drawn(size: int, count: int) -> Iterator[Any]:
    """A bright square that moves around a dark picture; values 0 to 1."""
    random = np.random.default_rng(0)
    side = size // 3
    for number in range(count):
        picture = random.uniform(0, 0.2, (size, size, 3)).astype(np.float32)
        angle = 2 * np.pi * number / 60
        top, left = (int((size - side) * (0.5 + 0.5 * turn)) for turn in (np.sin(angle), np.cos(angle)))
        picture[top : top + side, left : left + side] = 1.0
        yield picture


def from_files(folder: Path, count: int) -> Iterator[Any]:
    """The images of a folder, in turn."""
    from PIL import Image  # only image files need it

    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp", ".ppm"}
    )
    if not files:
        raise edgekit.DataError(f"no image in {folder}: .jpg, .png, .bmp or .ppm files were expected.")
    for number in range(count):
        with Image.open(files[number % len(files)]) as image:
            yield np.asarray(image.convert("RGB"))


def paced(frames: Iterator[Any], rate: float) -> Iterator[Any]:
    """So many frames a second, as a camera gives them."""
    due = time.monotonic()
    for frame in frames:
        time.sleep(max(0.0, due - time.monotonic()))
        yield frame
        due += 1 / rate


def main() -> None:
    """Run the stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="an image classifier with its preprocessing in the file")
    what.add_argument(
        "--demo", action="store_true", help="a tiny model that says which quarter of the picture is brightest"
    )
    parser.add_argument("--images", type=Path, help="a folder of images  [default: drawn frames]")
    parser.add_argument("--frames", type=int, default=300, help="how many frames the camera gives")
    parser.add_argument("--rate", type=float, default=30.0, help="frames per second")
    parser.add_argument("--policy", choices=["latest", "all", "drop_oldest"], default="latest")
    parser.add_argument("--deadline-ms", type=float, help="frames older than this are not run")
    parser.add_argument("--log", type=Path, help="append each run's times to this JSON Lines file")
    arguments = parser.parse_args()

    if arguments.demo:
        from demo_models import QUARTERS, brightest_quarter

        names: tuple[str, ...] = QUARTERS
        model = edgekit.load(brightest_quarter(), delegate="xnnpack", log=arguments.log)
    else:
        loaded = edgekit.ModelFile.read(arguments.model)
        names = loaded.manifest.labels if loaded.manifest is not None else ()
        model = edgekit.load(loaded, preprocess=loaded.manifest is not None, log=arguments.log)
    size = max(model.inputs[0].shape[1:3])
    frames = from_files(arguments.images, arguments.frames) if arguments.images else drawn(size, arguments.frames)
    with (
        model,
        edgekit.stream(
            paced(frames, arguments.rate), model, policy=arguments.policy, deadline_ms=arguments.deadline_ms
        ) as results,
    ):
        for result in results:
            scores = result.output[0]
            best = int(np.argmax(scores))
            line = {
                "frame": result.sequence,
                "class": names[best] if best < len(names) else best,
                "score": round(float(scores[best]), 4),
                "age_ms": round(result.age_ns / 1e6, 3),
            }
            print(json.dumps(line), flush=True)
    print(json.dumps({"counts": results.counts._asdict()}))


if __name__ == "__main__":
    try:
        main()
    except edgekit.EdgekitError as error:
        sys.exit(f"error: {error}")
