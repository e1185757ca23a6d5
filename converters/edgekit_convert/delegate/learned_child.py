"""Load small models and say what the delegate took of each; started by ``learned.py``, never imported.

Needs numpy and one of the interpreters, nothing of edgekit: the other environment may have another numpy.
Usage: ``python learned_child.py FOLDER KIND RUNTIME``, RUNTIME being a distribution or ``any``, with ``[[name, operators], …]`` as
JSON on stdin. Prints a JSON line for the runtime, then for each model one before it is loaded and one with what was seen, so that
a crash is known to be that model's.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from typing import Any

#: Package, and the name of its distribution. A Python that has both was named for the sake of the older one.
PACKAGES = (("tflite_runtime", "tflite-runtime"), ("ai_edge_litert", "ai-edge-litert"))


def runtime(wanted: str) -> tuple[str, Any]:
    """The interpreter that this Python has: name with version, and the module with ``Interpreter``."""
    missing = []
    for package, name in PACKAGES:
        if wanted not in ("any", name):
            continue
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError as error:
            missing.append(str(error))
        else:
            return f"{name} {importlib.import_module(package).__version__}", module
    raise SystemExit(f"no interpreter: {'; '.join(missing)}")


def parts_of(rows: list[Any], operators: int) -> list[list[int]]:
    """Operators of each delegated part: those between the inputs and the outputs of the node that stands for it."""
    producer = {int(index): place for place, row in enumerate(rows[:operators]) for index in row["outputs"]}
    parts = []
    for node in rows[operators:]:
        if "delegate" not in node["op_name"].lower():
            continue
        stop = {int(index) for index in node["inputs"]}
        waiting, part = [int(index) for index in node["outputs"]], set()
        while waiting:
            tensor = waiting.pop()
            place = producer.get(tensor)
            if place is None or place in part or tensor in stop:
                continue
            part.add(place)
            waiting.extend(int(index) for index in rows[place]["inputs"] if index >= 0)
        parts.append(sorted(part))
    return parts


def main() -> None:
    """Load each model that stdin names."""
    # Where this file lies are modules that are none of the interpreter's business.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    folder, kind, wanted = sys.argv[1:4]
    name, tflite = runtime(wanted)
    print(json.dumps({"runtime": name, "machine": platform.machine()}), flush=True)
    resolvers = tflite.OpResolverType
    resolver = resolvers.BUILTIN if kind == "xnnpack" else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    for file, operators in json.load(sys.stdin):
        print(json.dumps({"begun": file}), flush=True)
        try:
            interpreter = tflite.Interpreter(
                model_path=os.path.join(folder, file), num_threads=1, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
            parts = parts_of(interpreter._get_ops_details(), operators)
        except (ValueError, RuntimeError, MemoryError) as error:
            print(json.dumps({"done": file, "error": str(error)}), flush=True)
        else:
            print(json.dumps({"done": file, "parts": parts}), flush=True)
            del interpreter


if __name__ == "__main__":
    main()
