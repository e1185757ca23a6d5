"""``examples/systemd-classifier``: the service as systemd would run it, with a socket listening in systemd's place."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from PIL import Image
from processes import LIMIT_SECONDS

import edgekit
from edgekit.runtime.logfile import read_log
from edgekit.tensors import Array

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "systemd-classifier"
NAMES = ("ant", "bee", "cow", "doe", "eel")


def picture(seed: int) -> Array:
    """A frame: random pixels, 30 wide and 20 high."""
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A classifier of images, with labels and preprocessing."""
    item = edgekit.Preprocessing(None, None, (127.5,), (127.5,), (12, 12), 14)
    path = tmp_path / "model.tflite"
    path.write_bytes(models.with_manifest(models.conv_float(), labels=NAMES, preprocessing={"image": item}))
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "frames"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, content: Array | bytes) -> None:
    """A frame appears whole, as a camera program should write it."""
    unfinished = folder / f"{name}.tmp"
    if isinstance(content, bytes):
        unfinished.write_bytes(content)
    elif name.endswith(".npy"):
        with unfinished.open("wb") as file:
            np.save(file, content)
    else:
        Image.fromarray(content).save(unfinished, "PNG")
    unfinished.rename(folder / name)


@dataclass
class Running:
    """The service, and the socket that it notifies."""

    process: subprocess.Popen[str]
    listener: socket.socket
    told: list[str] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        """The next thing that it prints."""
        assert self.process.stdout is not None
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result

    def wait_for(self, word: str) -> None:
        """Listen until it was told."""
        while not any(word in message for message in self.told):
            self.told.append(self.listener.recv(4096).decode())

    def end(self) -> int:
        """Ask it to end, as ``systemctl stop`` does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_SECONDS)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket of datagrams with an address that is no file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0edgekit-test-{os.getpid()}")
        made.settimeout(LIMIT_SECONDS)
        yield made


def command(*arguments: object) -> list[str]:
    """The service's command line."""
    return [sys.executable, str(FOLDER / "classifier.py"), *(str(argument) for argument in arguments)]


@pytest.fixture
def running(model: Path, frames: Path, tmp_path: Path, listener: socket.socket) -> Iterator[Running]:
    """The service with its watchdog set to 0.4 s; killed if a test leaves it running."""
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": "@" + listener.getsockname()[1:].decode(),
        "WATCHDOG_USEC": "400000",
    }
    arguments = ("--model", model, "--frames", frames, "--log", tmp_path / "latency.jsonl", "--delegate", "xnnpack")
    with subprocess.Popen(
        command(*arguments, "--interval", "0.05"), env=environment, cwd="/", stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Running(process, listener)
        finally:
            process.kill()


def test_a_service_s_life(running: Running, model: Path, frames: Path, tmp_path: Path) -> None:
    """Ready, frames classified as by the library, the watchdog fed, a clean end with every run in the log."""
    running.wait_for("READY=1")
    assert running.told[0].startswith("READY=1\nSTATUS=")
    with edgekit.load(model, delegate="xnnpack") as session:
        for seed, name in enumerate(("a.png", "b.png", "c.npy", "a.png")):  # the last one under an old name
            put(frames, name, picture(seed))
            seen = running.line()
            best = session.classify(picture(seed), top=3)
            assert (name, 0) == (seen["frame"], seen["left_out"])
            assert [label.name for label in best] == [label["name"] for label in seen["labels"]]
            assert [round(label.score, 4) for label in best] == [label["score"] for label in seen["labels"]]
    running.told.clear()
    running.wait_for("WATCHDOG=1")
    assert 0 == running.end()
    running.wait_for("STOPPING=1\nSTATUS=4 frames, 0 left out")
    (part,) = read_log(tmp_path / "latency.jsonl")
    assert (4, 4, 0) == (len(part.rows), part.closed, part.damaged)


def test_bad_frames_do_not_end_it(running: Running, frames: Path) -> None:
    """A file that is no image, one cut short and one of another kind of pixels are told, and the next is classified."""
    running.wait_for("READY=1")
    bad = {
        "text.jpg": b"no image",
        "cut.npy": b"\x93NUMPY\x01\x00",
        "batch.npy": np.zeros((2, 20, 30, 3), np.uint8),
        "words.npy": np.array([["a"]]),
    }
    for name, content in bad.items():
        put(frames, name, content)
        seen = running.line()
        assert (name, True, False) == (seen["frame"], "error" in seen, "labels" in seen)
    put(frames, "good.png", picture(0))
    assert "labels" in running.line()
    assert 0 == running.end()


def test_the_newest_frame_first(model: Path, frames: Path) -> None:
    """Of several frames that wait only the newest is classified, the others are counted; ``--remove`` takes it away."""
    for seed in range(4):
        put(frames, f"{seed}.png", picture(seed))
        os.utime(frames / f"{seed}.png", (1000 - seed, 1000 - seed))
    (frames / "half.jpg.tmp").write_bytes(b"")
    done = subprocess.run(
        command("--model", model, "--frames", frames, "--once", "--remove", "--delegate", "xnnpack", "--top", "1"),
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True, cwd="/",
    )  # fmt: skip
    (line,) = map(json.loads, done.stdout.splitlines())
    assert ("0.png", 3, 1) == (line["frame"], line["left_out"], len(line["labels"]))
    assert ["1.png", "2.png", "3.png", "half.jpg.tmp"] == sorted(os.listdir(frames))


@pytest.mark.parametrize(
    ("model_name", "frames_name", "words"),
    [("absent.tflite", "frames", "classifier: no such file"), ("model.tflite", "absent", "No such file or directory")],
    ids=["model", "frames"],
)
def test_what_a_restart_does_not_mend(model: Path, frames: Path, model_name: str, frames_name: str, words: str) -> None:
    """A missing model or folder: a message, no traceback, and the exit code for which systemd does not start it again."""
    folder = frames.parent
    done = subprocess.run(
        command("--model", folder / model_name, "--frames", folder / frames_name, "--delegate", "xnnpack"),
        capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd="/",
    )  # fmt: skip
    assert 2 == done.returncode
    assert words in done.stderr
    assert "Traceback" not in done.stderr


UNITS = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".service", ".timer"))


def unit(name: str) -> configparser.ConfigParser:
    """A unit file, read."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    parser.read(FOLDER / name)
    return parser


def test_units_fit_the_programs() -> None:
    """What the units start exists, with options that it has, and the timer belongs to a service."""
    assert ["edgekit-classifier.service", "edgekit-metrics.service", "edgekit-metrics.timer"] == UNITS
    start = unit("edgekit-classifier.service")["Service"]["ExecStart"].split()
    options = subprocess.run(command("--help"), capture_output=True, text=True, check=True, cwd="/").stdout
    assert "classifier.py" == Path(start[1]).name
    assert ["--model", "--frames", "--log"] == [word for word in start if word.startswith("--") and word in options]
    export = unit("edgekit-metrics.service")["Service"]["ExecStart"].split()
    assert ["log", "export"] == export[1:3]
    state = unit("edgekit-classifier.service")["Service"]["StateDirectory"]
    assert f"/var/lib/{state}/latency.jsonl" == export[-1]


def test_the_export_s_command_line(model: Path, tmp_path: Path) -> None:
    """The command of the metrics unit, with other paths, writes the times of a log."""
    with edgekit.load(model, delegate="xnnpack", log=tmp_path / "latency.jsonl") as session:
        session.classify(picture(0))
    words = unit("edgekit-metrics.service")["Service"]["ExecStart"].split()[1:]
    words[words.index("--output") + 1], words[-1] = str(tmp_path / "edgekit.prom"), str(tmp_path / "latency.jsonl")
    code = "import sys; from edgekit.cli import main; sys.argv[0] = 'edgekit'; main()"
    subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, timeout=LIMIT_SECONDS, cwd="/"
    )
    assert "edgekit" in (tmp_path / "edgekit.prom").read_text()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Where systemd is there to ask, it finds nothing wrong; everywhere no line is anything but a section or a setting."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        for line in text.splitlines():
            assert not line or line.startswith(("#", "[")) or "=" in line
        # The programs are not installed here.
        (tmp_path / name).write_text(
            text.replace("/opt/edgekit/bin/python", "/bin/true").replace("/opt/edgekit/bin/edgekit", "/bin/true")
        )
    if shutil.which("systemd-analyze") is not None:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
            capture_output=True, text=True, timeout=LIMIT_SECONDS,
        )  # fmt: skip
        # It names what it does not know, and exits with 0 all the same.
        assert (0, []) == (done.returncode, [line for line in done.stderr.splitlines() if "edgekit-" in line])
