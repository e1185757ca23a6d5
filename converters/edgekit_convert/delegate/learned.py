"""What a delegate takes is learned: small models are loaded into the real runtime, and the partitions read back.

The models are loaded in a process of their own, which may crash. The runtime is the one of this Python, or that of another Python,
such as one that has tflite-runtime 2.14. Answers are remembered by runtime, version, architecture and the model's form.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import EngineError, one_of
from edgekit.graph import parse
from edgekit_convert import graph as editing
from edgekit_convert.delegate import remembered
from edgekit_convert.delegate.remembered import CRASHED, LEFT, REFUSED, TAKEN, Answer

#: What can be asked about: the delegate inside the interpreters, and none.
KINDS = ("xnnpack", "none")
#: What stands in a constant of at most so many bytes may decide whether an operator is taken; of larger ones the type and shape do.
_FEW_BYTES = 128
#: Starting takes a second or two, loading a small model milliseconds: what hangs must end.
_START_SECONDS, _MODEL_SECONDS = 60, 2
_TEXT_LIMIT = 300

Progress = Callable[[int, int], None]


def form_of(content: bytes) -> bytes:
    """A small model without what cannot matter to a delegate: names, unused operator codes, and the values of large constants.

    Args:
        content: a flatbuffer.

    Returns:
        A flatbuffer. Models that a delegate cannot tell apart give the same one.
    """
    model = editing.read(content)
    model.description, model.metadata, model.metadataBuffer, model.signatureDefs = None, None, None, None
    codes: list[Any] = []
    places: dict[int, int] = {}
    for subgraph in model.subgraphs:
        subgraph.name = None
        for number, tensor in enumerate(subgraph.tensors):
            tensor.name = b"t%d" % number
            buffer = model.buffers[tensor.buffer]
            if buffer.data is not None and len(buffer.data) > _FEW_BYTES:
                buffer.data = np.zeros(len(buffer.data), np.uint8)
        for op in subgraph.operators:
            if op.opcodeIndex not in places:
                places[op.opcodeIndex] = len(codes)
                codes.append(model.operatorCodes[op.opcodeIndex])
            op.opcodeIndex = places[op.opcodeIndex]
    model.operatorCodes = codes
    return editing.write(model)


class Capabilities:
    """What a runtime's delegate takes, as far as it was asked.

    Args:
        kind: ``xnnpack`` or ``none``.
        python: another Python whose runtime is asked, tflite-runtime where it has that one; ``None`` for LiteRT in this one.
        folder: where answers are remembered; ``None`` for the user's cache folder.

    Attributes:
        runtime: package and version of what answers.
        machine: its architecture, as ``uname -m`` says it.

    Raises:
        OptionError: another delegate, which cannot be asked.
        EngineError: the Python cannot be started, or has no interpreter.
    """

    def __init__(self, kind: str = "xnnpack", *, python: str | None = None, folder: Path | None = None) -> None:
        self.kind = one_of(kind, KINDS, "delegate to learn about")
        self.python = python
        if python is None:
            from edgekit.runtime.engines import litert  # what edits flatbuffers is in the same package

            editing.schema()
            self.runtime, self.machine = litert.load().version, platform.machine()
        else:
            self.runtime, self.machine = self._introduction()
        base = folder if folder is not None else remembered.cache_folder()
        name = remembered.file_name(self.runtime, self.machine, kind)
        self._path = None if base is None else base / "delegates" / name
        self._answers = {} if self._path is None else remembered.load(self._path)

    def __str__(self) -> str:
        return f"{self.runtime}, {self.machine}"

    def answer(self, content: bytes) -> Answer:
        """What happens to one small model; ``learn`` asks for many at once."""
        return self.learn([content])[0]

    def learn(
        self, contents: Sequence[bytes], progress: Progress = lambda done, total: None, *, formed: bool = False
    ) -> list[Answer]:
        """What happens to small models.

        Args:
            contents: flatbuffers of one operator or a few.
            formed: whether they are what ``form_of`` gave, or made of that; saves time.
            progress: called with models done and in all, of those that were not known.

        Returns:
            An answer for each, in order.
        """
        forms = list(contents) if formed else [form_of(content) for content in contents]
        digests = [hashlib.sha256(form).hexdigest()[:32] for form in forms]
        unknown = {digest: form for digest, form in zip(digests, forms, strict=True) if digest not in self._answers}
        if unknown:
            found = self.load(list(unknown.values()), progress)
            self._answers.update(zip(unknown, found, strict=True))
        for digest in digests:  # what was asked for last stands last
            self._answers[digest] = self._answers.pop(digest)
        if unknown and self._path is not None:
            remembered.save(self._path, self.runtime, self.machine, self.kind, self._answers)
        return [self._answers[digest] for digest in digests]

    def load(self, contents: Sequence[bytes], progress: Progress = lambda done, total: None) -> list[Answer]:
        """Load models as they are, whole ones too, and remember nothing.

        Args:
            contents: flatbuffers.
            progress: called with models done and in all.

        Raises:
            EngineError: the runtime itself does not start.
        """
        answers: dict[int, Answer] = {}
        counts = [len(parse(content, "the model").main.ops) for content in contents]
        with tempfile.TemporaryDirectory(prefix="edgekit-learned-") as name:
            folder = Path(name)
            for number, content in enumerate(contents):
                (folder / f"{number}.tflite").write_bytes(content)
            waiting = list(range(len(contents)))
            while waiting:
                seen, begun, ended = self._run(folder, [(number, counts[number]) for number in waiting])
                answers.update(seen)
                if begun is not None:
                    # What it did before may have caused the crash: alone it tells for itself.
                    alone, _, how = (
                        self._run(folder, [(begun, counts[begun])]) if len(waiting) > 1 else ({}, None, ended)
                    )
                    answers.update(alone or {begun: Answer(CRASHED, text=how)})
                waiting = [number for number in waiting if number not in answers]
                progress(len(answers), len(contents))
        return [answers[number] for number in range(len(contents))]

    def _introduction(self) -> tuple[str, str]:
        lines, ended = self._lines([], Path(tempfile.gettempdir()), _START_SECONDS)
        return self._checked(lines, ended)

    def _checked(self, lines: list[dict[str, Any]], ended: str) -> tuple[str, str]:
        if not lines or "runtime" not in lines[0]:
            python = self.python or sys.executable
            raise EngineError(
                f"{python} cannot say what a delegate takes: {ended or 'it said nothing'}. A Python with ai-edge-litert or "
                "tflite-runtime was expected."
            )
        return str(lines[0]["runtime"]), str(lines[0]["machine"])

    def _run(self, folder: Path, models: list[tuple[int, int]]) -> tuple[dict[int, Answer], int | None, str]:
        """Answers, the model at which the process ended too early if one is, and how it ended."""
        asked = [[f"{number}.tflite", count] for number, count in models]
        lines, ended = self._lines(asked, folder, _START_SECONDS + _MODEL_SECONDS * len(models))
        self._checked(lines, ended)
        counts = dict(models)
        answers: dict[int, Answer] = {}
        begun: int | None = None
        for line in lines[1:]:
            number = int(str(line.get("begun") or line["done"]).removesuffix(".tflite"))
            if "begun" in line:
                begun = number
                continue
            begun = None
            answers[number] = _answer(line, counts[number])
        if begun is None and len(answers) < len(models):  # between two models, or in taking its leave of the last one
            begun = next(number for number, _ in models if number not in answers)
        return answers, begun, ended

    def _lines(self, asked: list[Any], folder: Path, seconds: float) -> tuple[list[dict[str, Any]], str]:
        """What the child printed, and how it ended where that was not as it should."""
        child = str(Path(__file__).with_name("learned_child.py"))
        if self.python is None:
            command = [sys.executable, child, str(folder), self.kind, "ai-edge-litert"]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        else:
            # Isolated: this process's PYTHONPATH leads to packages for another numpy.
            command = [self.python, "-I", child, str(folder), self.kind, "any"]
            environment = dict(os.environ)
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                env=environment,
            )
        except OSError as error:
            return [], f"it could not be started ({error.strerror})"
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
            return _parsed(output), f"not done after {seconds:.0f} seconds"
        return _parsed(done.stdout), "" if done.returncode == 0 else _ending(done)


def _parsed(output: str) -> list[dict[str, Any]]:
    lines = []
    for line in output.splitlines():
        try:
            item = json.loads(line)
        except ValueError:
            continue  # a runtime's own remark, or a line cut short by a crash
        if isinstance(item, dict) and item.keys() & {"runtime", "begun", "done"}:
            lines.append(item)
    return lines


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        try:
            return f"it crashed ({signal.Signals(-done.returncode).name})"
        except ValueError:
            return f"it crashed (signal {-done.returncode})"
    text = " ".join(done.stderr.splitlines()[-1:])
    return text[:_TEXT_LIMIT] or f"exit code {done.returncode}"


def _answer(line: dict[str, Any], operators: int) -> Answer:
    if "error" in line:
        return Answer(REFUSED, text=" ".join(str(line["error"]).split())[:_TEXT_LIMIT])
    parts = tuple(tuple(part) for part in line["parts"])
    taken = sum(len(part) for part in parts)
    return Answer(TAKEN if taken == operators else LEFT, parts)
