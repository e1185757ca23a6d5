"""A classifier that runs for months: frames in, one line of JSON for each out, every run's time in a log.

Frames are image files (or ``.npy`` arrays of pixels) that another program puts into a folder, or come from a camera through
OpenCV. When the classifier is slower than the camera it takes the newest frame and says how many it left out.

Made to be a systemd service of ``Type=notify``: it says when it is ready, feeds the watchdog after each round of its loop, and
ends on SIGTERM with the log written. It runs from a shell as well::

    python classifier.py --model model.tflite --frames frames/ --log latency.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import edgekit

#: What is taken for a frame in a folder; others, such as files that are still being written, are left alone.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".npy"})


class Service:
    """What systemd and a program tell each other: a datagram each, as sd_notify(3) describes them, and SIGTERM.

    Attributes:
        stopping: whether the program was asked to end.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        # Half of what systemd waits for, as sd_watchdog_enabled(3) recommends; in seconds.
        self._feed_every = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        self._fed = -float("inf")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``; without systemd nothing happens."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), address)
            except OSError as error:  # a service goes on without its supervisor
                print(f"cannot notify {self._address}: {error}", file=sys.stderr)

    def alive(self) -> None:
        """Feed the watchdog, when it is due. A round that hangs does not come here, and systemd starts the service again."""
        if self._feed_every and time.monotonic() - self._fed >= self._feed_every:
            self._fed = time.monotonic()
            self.tell("WATCHDOG=1")

    def rest(self, seconds: float) -> None:
        """Wait, but not beyond the wish to stop."""
        end = time.monotonic() + seconds
        while not self.stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def from_folder(folder: Path) -> Iterator[tuple[str, Any, int]]:
    """Frames that appear in a folder, also under an old name, the newest of each look at it.

    A writer should give a frame its name when it is complete (write ``frame.tmp``, rename it to ``frame.jpg``).

    Yields:
        Name, path or array, and how many frames were left out; ``("", None, 0)`` when there is nothing new.
    """
    known: set[tuple[str, int]] = set()
    while True:
        found: list[tuple[int, str]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    try:
                        found.append((entry.stat().st_mtime_ns, entry.name))
                    except FileNotFoundError:  # taken away since
                        continue
        new = sorted(item for item in found if (item[1], item[0]) not in known)
        known = {(name, when) for when, name in found}  # no more than the folder holds, for ever
        if not new:
            yield "", None, 0
            continue
        name = new[-1][1]
        yield name, folder / name, len(new) - 1


def from_camera(number: int) -> Iterator[tuple[str, Any, int]]:
    """Frames of a camera, through OpenCV; see ``from_folder``.

    Yields:
        The time, RGB pixels and 0; ``("", None, 0)`` when the camera gave nothing.
    """
    import cv2  # not needed for folders

    camera = cv2.VideoCapture(number)
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not one that has waited
    if not camera.isOpened():
        raise SystemExit(f"cannot open camera {number}: is it connected, and may this user read /dev/video{number}?")
    try:
        while True:
            there, pixels = camera.read()
            if there:
                yield str(time.time_ns()), pixels[..., ::-1], 0  # OpenCV's order is BGR
            else:
                yield "", None, 0
    finally:
        camera.release()


def answer(session: edgekit.Session, name: str, frame: Any, top: int) -> dict[str, Any]:
    """What is printed for one frame: the best classes, or why it has none."""
    try:
        if isinstance(frame, Path) and frame.suffix == ".npy":
            frame = np.load(frame, allow_pickle=False)
        labels = session.classify(frame, top=top)
    except (
        edgekit.DataError,
        edgekit.TensorError,
        ValueError,
        OSError,
    ) as error:  # this frame is bad, the next may be good
        return {"frame": name, "error": str(error)}
    return {
        "frame": name,
        "labels": [{"index": item.index, "name": item.name, "score": round(item.score, 4)} for item in labels],
    }


def main() -> int:
    """Run until SIGTERM or, with ``--once``, until no frame is left; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True, help="a .tflite file that edgekit converted")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--frames", type=Path, metavar="FOLDER", help="take the frames that appear in this folder")
    source.add_argument("--camera", type=int, metavar="N", help="take the frames of this camera (needs OpenCV)")
    parser.add_argument("--log", type=Path, help="write each run's times to this file")
    parser.add_argument("--top", type=int, default=3, help="classes to print (%(default)s)")
    parser.add_argument("--delegate", help="xnnpack, none, gpu or edgetpu (the device profile's pick)")
    parser.add_argument("--interval", type=float, default=0.2, metavar="S", help="look so often (every %(default)s s)")
    parser.add_argument("--remove", action="store_true", help="delete a frame when it is classified")
    parser.add_argument("--once", action="store_true", help="end when there is no new frame")
    given = parser.parse_args()

    service = Service()
    frames = from_folder(given.frames) if given.frames is not None else from_camera(given.camera)
    done = left_out = 0
    try:
        log = (
            edgekit.LogOptions(given.log, max_bytes=1_000_000, keep=4) if given.log else None
        )  # the export reads all of it
        with edgekit.load(given.model, delegate=given.delegate, preprocess=True, log=log) as session:
            service.tell("READY=1", f"STATUS={session.engine}, {session.asked.spec.kind}")
            for name, frame, skipped in frames:
                if service.stopping or (given.once and frame is None):
                    break
                if frame is not None:
                    left_out += skipped
                    line = {"time": time.time(), **answer(session, name, frame, given.top), "left_out": left_out}
                    print(json.dumps(line, ensure_ascii=False), flush=True)
                    done += 1
                    if given.remove and isinstance(frame, Path):
                        frame.unlink(missing_ok=True)
                service.alive()
                service.rest(given.interval)
            service.tell("STOPPING=1", f"STATUS={done} frames, {left_out} left out")
    except edgekit.EdgekitError as error:
        print(f"classifier: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # the folder of frames
        print(f"classifier: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
