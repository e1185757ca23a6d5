"""What ``edgekit plan --measure`` measured on this machine, kept so that loading a model can follow it.

One small JSON file for each model in the cache folder. It holds the times of one measurement, in which the delegates took
turns, and why others could not be measured. What it says counts only for the same model, machine, runtime and drivers; a file
that is missing, damaged or of something else is no error, and nothing is known then.

This is on the load path: without a file for a model of this size, a folder is listed and nothing else is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from edgekit.cache import cache_folder
from edgekit.host import HostFacts
from edgekit.modelfile import ModelFile
from edgekit.records import Record

SCHEMA = 1
FOLDER = "plans"
#: Far above what a measurement takes: a file that is larger is not ours.
_LIMIT_BYTES = 256 * 1024
_HOST_FACTS = ("system", "machine", "cpu_model", "vulkan_drivers")


class Timed(Record):
    """How long one run takes on a delegate.

    Attributes:
        kind: the delegate.
        threads: CPU threads.
        engine: the interpreter's package and version.
        medians_ns: of each launch the median of its runs, in nanoseconds.
        load_ns: of each launch what loading took, in nanoseconds.
        runs: how many runs there were in all.
    """

    kind: str
    threads: int
    engine: str
    medians_ns: tuple[float, ...]
    load_ns: tuple[float, ...]
    runs: int

    @property
    def ns(self) -> float:
        """The median of the launches' medians, in nanoseconds."""
        ordered = sorted(self.medians_ns)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and ``ns``."""
        return {
            **self._asdict(),
            "ns": self.ns,
            "medians_ns": list(self.medians_ns),
            "load_ns": list(self.load_ns),
        }


class Measurement(Record):
    """One measurement of a model on this machine.

    Attributes:
        when: the day, as ``2026-11-21``.
        version: package and version of the runtime.
        times: by delegate.
        refused: why a delegate that was tried cannot be used, by delegate.
    """

    when: str
    version: str
    times: Mapping[str, Timed]
    refused: Mapping[str, str]

    def of(self, kind: str, threads: int) -> Timed | None:
        """The time on a delegate, when it was measured with so many threads."""
        found = self.times.get(kind)
        return found if found is not None and found.threads == threads else None


def recall(model: ModelFile, host: HostFacts) -> Measurement | None:
    """What was measured of a model on this machine; ``None`` when nothing was that still counts.

    Args:
        model: the model.
        host: what this machine is.
    """
    path = _path(model, only_existing=True)
    if path is None:
        return None
    import json

    try:
        with open(path, "rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
        data = json.loads(content) if len(content) <= _LIMIT_BYTES else {}
        if data["schema"] != SCHEMA or data["model_sha256"] != model.sha256 or data["host"] != _host(host):
            return None
        if data["version"] != runtime_version():
            return None
        times = {str(kind): _timed(item) for kind, item in data["times"].items()}
        refused = {str(kind): str(reason) for kind, reason in data["refused"].items()}
        return Measurement(str(data["when"]), str(data["version"]), times, refused)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _timed(item: Any) -> Timed:
    medians = tuple(float(value) for value in item["medians_ns"])
    if not medians or not all(0 < value < float("inf") for value in medians):
        raise ValueError("no times")
    return Timed(
        str(item["kind"]),
        int(item["threads"]),
        str(item["engine"]),
        medians,
        tuple(float(value) for value in item["load_ns"]),
        int(item["runs"]),
    )


def remember(model: ModelFile, host: HostFacts, measured: Measurement) -> None:
    """Keep a measurement; an older one of the same model is replaced. A folder that takes no files costs measuring again.

    Args:
        model: the model.
        host: what this machine is.
        measured: what was measured.
    """
    import json
    from pathlib import Path

    from edgekit.errors import OutputError
    from edgekit.files import write_whole

    path = _path(model, only_existing=False)
    if path is None:
        return
    data = {
        "schema": SCHEMA,
        "model": os.path.basename(model.name),
        "model_sha256": model.sha256,
        "host": _host(host),
        "version": measured.version,
        "when": measured.when,
        "times": {kind: item.to_json() for kind, item in measured.times.items()},
        "refused": dict(measured.refused),
    }
    with contextlib.suppress(OSError, OutputError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_whole(Path(path), (json.dumps(data, indent=1) + "\n").encode(), overwrite=True)


def _path(model: ModelFile, *, only_existing: bool) -> str | None:
    """Where a model's measurement lies. A large file's hash takes long, so its size is looked for first."""
    base = cache_folder()
    if base is None:
        return None
    folder = os.path.join(base, FOLDER)
    if only_existing:
        try:
            names = os.listdir(folder)
        except OSError:  # nothing was ever measured
            return None
        if not any(name.startswith(f"{model.size_bytes}-") for name in names):
            return None
    return os.path.join(folder, f"{model.size_bytes}-{model.sha256[:16]}.json")


def _host(host: HostFacts) -> dict[str, Any]:
    """What must be the same for times to count."""
    found: dict[str, Any] = {}
    for name in _HOST_FACTS:
        fact = getattr(host, name)
        value = fact.value if fact is not None else None
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def runtime_version() -> str:
    """Package and version of the interpreter that is tried first here; empty without one. Loading a model imports it anyway."""
    import importlib

    from edgekit.runtime.engines import ENGINES, installed

    for name in installed():
        try:
            package = importlib.import_module(ENGINES[name])
        except ImportError:
            continue
        return f"{ENGINES[name]} {getattr(package, '__version__', 'unknown')}"
    return ""
