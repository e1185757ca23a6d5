"""Whose interpreter a conversion measures with: this process's, or that of another Python.

A target may run another runtime than the workstation: tflite-runtime 2.14 lacks most of LiteRT's int8 kernels in XNNPACK, so that
what is fast in one is slow in the other.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import edgekit
from edgekit.errors import EngineError, OptionError
from edgekit.inspection import left_outside
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine
from edgekit_convert.assign import timed as measuring

_LIMIT_SECONDS = 900


class Timer(Protocol):
    """What ``costs.CostTable`` measures with."""

    def version(self, model: bytes) -> str:
        """The runtime's name and version; ``model`` is any that it can load."""

    def timed(
        self, models: Mapping[str, bytes], *, rounds: int, round_ns: int, limit_ns: float = math.inf
    ) -> dict[str, float | None]:
        """See ``timed.timed``."""

    def outside(self, model: bytes) -> frozenset[str]:
        """See ``edgekit.inspection.left_outside``."""


class Here:
    """The interpreter of this process.

    Args:
        spec: the delegate and threads.
    """

    def __init__(self, spec: DelegateSpec) -> None:
        self._spec = spec

    def version(self, model: bytes) -> str:
        """The runtime's name and version."""
        return open_engine(ModelFile.read(model), self._spec).version

    def timed(
        self, models: Mapping[str, bytes], *, rounds: int, round_ns: int, limit_ns: float = math.inf
    ) -> dict[str, float | None]:
        """See ``timed.timed``."""
        return measuring.timed(models, self._spec, rounds=rounds, round_ns=round_ns, limit_ns=limit_ns)

    def outside(self, model: bytes) -> frozenset[str]:
        """See ``edgekit.inspection.left_outside``."""
        return left_outside(model, self._spec)


class Elsewhere:
    """The interpreter of another Python on this machine, which needs numpy and a runtime and nothing of edgekit.

    Args:
        spec: the delegate and threads.
        python: its path.
    """

    def __init__(self, spec: DelegateSpec, python: str) -> None:
        self._spec, self._python = spec, python
        self._version: str | None = None

    def version(self, model: bytes) -> str:
        """The runtime's name and version.

        Raises:
            OptionError: it is not a Python with a runtime.
        """
        if self._version is None:
            try:
                self._version = str(self._asked("version", {"model": model})["version"])
            except EngineError as error:
                raise OptionError(
                    f"{self._python} cannot be measured with: {error}. A Python with numpy and tflite-runtime or ai-edge-litert "
                    "was expected."
                ) from error
        return self._version

    def timed(
        self, models: Mapping[str, bytes], *, rounds: int, round_ns: int, limit_ns: float = math.inf
    ) -> dict[str, float | None]:
        """See ``timed.timed``; a model that brings the runtime down is one that cannot run."""
        if not models:
            return {}
        limit = None if math.isinf(limit_ns) else limit_ns
        try:
            asked = self._asked("timed", models, rounds=rounds, round_ns=round_ns, limit_ns=limit)
        except EngineError:
            if len(models) == 1:
                return dict.fromkeys(models)
            items = list(models.items())  # one of them: the others are found by halving
            halves = dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])
            found: dict[str, float | None] = {}
            for half in halves:
                found.update(self.timed(half, rounds=rounds, round_ns=round_ns, limit_ns=limit_ns))
            return found
        return {key: asked["times"][key] for key in models}

    def outside(self, model: bytes) -> frozenset[str]:
        """See ``edgekit.inspection.left_outside``."""
        return frozenset(self._asked("outside", {"model": model})["outside"])

    def _asked(self, kind: str, models: Mapping[str, bytes], **more: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="edgekit-timer-") as folder:
            # The device part alone: beside it may lie packages for another numpy, and another runtime.
            (Path(folder) / "edgekit").symlink_to(Path(edgekit.__file__).resolve().parent)
            paths = {}
            for number, (key, content) in enumerate(models.items()):
                paths[key] = str(Path(folder) / f"{number}.tflite")
                Path(paths[key]).write_bytes(content)
            request = {
                "kind": kind, "delegate": self._spec.kind, "threads": self._spec.threads, "models": paths, **more,
            }  # fmt: skip
            start = (
                "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
            )
            command = [self._python, "-I", "-c", start, folder, str(Path(measuring.__file__))]
            try:
                done = subprocess.run(
                    command, input=json.dumps(request), capture_output=True, text=True, errors="replace",
                    timeout=_LIMIT_SECONDS, check=False,
                )  # fmt: skip
            except OSError as error:
                raise EngineError(f"it could not be started ({error.strerror})") from error
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"it was not done after {_LIMIT_SECONDS} seconds") from error
        if done.returncode < 0:
            raise EngineError(f"it crashed ({signal.Signals(-done.returncode).name})")
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise EngineError((lines[-1] if lines else f"exit code {done.returncode}")[:300])
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
