"""Processes of the ONNX environment that serve one model after the other.

Each would import onnx2tf and TensorFlow anew, which takes several times as long as converting a small model. A process serves one
model at a time, as ever, and converting several ways one after the other is what it does for a single model too.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path

from edgekit_convert.environments.worker import Worker

#: What makes two processes the same.
Key = tuple[Path, str, tuple[tuple[str, str], ...]]


class KeptWorkers:
    """Stands in for the class ``Worker``: who wants a process gets one that nobody uses, or a new one.

    Args:
        limit: how many processes are kept while nobody uses them; each takes some hundred megabytes.
    """

    def __init__(self, limit: int = 1) -> None:
        self._limit = limit
        self._idle: dict[Key, list[Worker]] = {}

    def __call__(self, python: Path, module: str, variables: Mapping[str, str] | None = None) -> LentWorker:
        """A process, as ``Worker`` has it."""
        key = (python, module, tuple(sorted((variables or {}).items())))
        idle = self._idle.get(key, [])
        while idle:
            worker = idle.pop()
            if worker._process.poll() is None:
                return LentWorker(self, key, worker)
            worker.close()
        return LentWorker(self, key, Worker(python, module, variables))

    def take_back(self, key: Key, worker: Worker) -> None:
        """Keep a process that its model is done with, nothing of that model in its folder; or end it."""
        idle = self._idle.setdefault(key, [])
        if len(idle) >= self._limit:
            worker.close()
            return
        for name in ("float.tflite", "inputs.npz", "outputs.npz"):
            (worker.folder / name).unlink(missing_ok=True)
        idle.append(worker)

    def close(self) -> None:
        """End those that nobody uses, and from now on each that comes back."""
        self._limit = 0
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


class LentWorker:
    """A process for as long as this object lives; then it is free for the next model.

    Attributes:
        folder: its current folder.
    """

    def __init__(self, kept: KeptWorkers, key: Key, worker: Worker) -> None:
        self.folder = worker.folder
        self.ask = worker.ask
        self._end = weakref.finalize(self, kept.take_back, key, worker)

    def close(self) -> None:
        """Give the process back."""
        self._end()
