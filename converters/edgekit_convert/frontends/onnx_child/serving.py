"""The process: one model, and the tasks that edgekit asks of it, one line of JSON each.

A task comes on the standard input and is answered on what was the standard output; whatever libraries print goes to the
standard error. Arrays lie in ``.npz`` files in the process's own folder.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from typing import Any

import numpy as np

from edgekit_convert.frontends.onnx_child.refusal import RefusedError


def main() -> None:
    """Answer tasks until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted edgekit ends this process itself
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _stay_offline()
    from edgekit_convert.frontends.onnx_child.model import OpenedModel

    opened: OpenedModel | None = None
    for line in sys.stdin:
        task: dict[str, Any] = json.loads(line)
        try:
            if task["task"] == "open":
                opened = OpenedModel.open(task["path"], channels_last=task["channels_last"])
                answer = opened.described()
            elif opened is None:
                raise RuntimeError("no model was opened")
            elif task["task"] == "export":
                answer = opened.export(task["shapes"], task["output"])
            elif task["task"] == "run":
                with np.load(task["inputs"]) as file:
                    values = {name: file[f"a{number}"] for number, name in enumerate(task["names"])}
                results = opened.run(values)
                np.savez(task["outputs"], **{f"a{number}": value for number, value in enumerate(results)})
                answer = {"count": len(results)}
            else:
                raise RuntimeError(f"unknown task {task['task']}")
        except RefusedError as error:
            answer = {"refused": str(error), "kind": error.kind}
        except Exception as error:  # whatever libraries raise: edgekit says what, the log has where
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _stay_offline() -> None:
    """Nothing here needs the network: refuse it to the libraries, some of which fetch sample images."""

    def refuse(event: str, arguments: Any) -> None:
        internet = event == "socket.getaddrinfo" or (
            event == "socket.connect" and getattr(arguments[0], "family", None) in (socket.AF_INET, socket.AF_INET6)
        )
        if internet:
            raise OSError("this process has no network, by edgekit's choice")

    sys.addaudithook(refuse)
