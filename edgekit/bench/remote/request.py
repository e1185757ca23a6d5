"""``Request``: what is to be measured, as it travels: options checked, models read and samples made ready on the workstation."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bench.combinations import combinations
from edgekit.bench.launch import Case
from edgekit.bench.runner import Models, named_models
from edgekit.bench.tasks import Method, Task

SCHEMA = 1


@dataclass(frozen=True)
class Request:
    """A benchmark that another machine can run.

    Attributes:
        settings: what the job there reads: ``schema``, ``method`` (a ``Method`` without data) and ``cases``: each a ``Case``, with the
            name of its model's and its samples' file, or with the error that it has already.
        files: what goes with it, by the SHA-256 that is its name there.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, bytes | Path]

    @classmethod
    def make(
        cls,
        models: Models,
        folder: Path,
        **options: Any,
    ) -> Request:
        """Check the options, read the models and make the samples ready.

        Args:
            models: see ``benchmark``.
            folder: where the samples are written.
            options: what ``sweep`` takes besides, but an external meter's file.

        Raises:
            EdgekitError: see ``benchmark``.
        """
        method, patterns = combinations(**options)
        named = named_models(models)
        files: dict[str, bytes | Path] = {}
        cases = []
        for number, ((name, model), way) in enumerate(itertools.product(named, patterns)):
            case = dataclasses.replace(way, model=name, sha256=model.sha256, size_bytes=len(model.content))
            row = {
                "case": vars(case),
                "model": hashlib.sha256(model.content).hexdigest(),
                "samples": None,
                "error": None,
            }
            files[str(row["model"])] = bytes(model.content)
            if method.data is not None:
                path = folder / f"samples-{number}.npz"
                task = Task(case, method, path)
                task.prepare(model, [item for _, item in named], path)
                row["error"] = task.error
                if task.error is None:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    row["samples"], files[digest] = digest, path
            cases.append(row)
        return cls({"schema": SCHEMA, "method": _method_json(method), "cases": cases}, files)

    @property
    def key(self) -> str:
        """The job's name there: the same for the same models, data and options."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def what(self) -> str:
        """The models, for messages."""
        return ", ".join(dict.fromkeys(row["case"]["model"] for row in self.settings["cases"]))


def _method_json(method: Method) -> dict[str, Any]:
    values = dict(vars(method))
    values.update(data=method.data is not None or None, preprocessing=None, meter_csv=None)
    return values


def read_request(settings: Mapping[str, Any]) -> tuple[Method, list[tuple[Case, str, str | None, str | None]]]:
    """Read what ``Request.settings`` holds.

    Args:
        settings: it, through JSON.

    Returns:
        The method, and for each case the names of its model's and its samples' file, and its error.

    Raises:
        KeyError: something is missing.
    """
    rows = [(Case.from_json(row["case"]), row["model"], row["samples"], row["error"]) for row in settings["cases"]]
    return Method(**settings["method"]), rows
