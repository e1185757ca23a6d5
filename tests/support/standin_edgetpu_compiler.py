"""A stand-in for ``edgetpu_compiler``, which is Google's and not on this machine.

It prints what that prints and writes a file of the same form, whose compiled part is a row of bytes without meaning.
Run as a program it takes the compiler's options. ``install`` puts a program of the compiler's name into a folder for ``PATH``.
The form of what is printed: google-coral/edgetpu issues 356, 433, 512, 631; of the file: google-coral/test_data.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

#: What the compiled part holds; the real one has the Edge TPU's program there.
PROGRAM_BYTES = bytes(range(256)) * 5 + b"odd"
VERSION = "16.0.384591198"
#: Environment variables: what to do (``ok``, or a failure's name), and the operators to leave on the CPU, by index.
MODE, LEFT = "EDGEKIT_STANDIN_MODE", "EDGEKIT_STANDIN_LEFT"
#: What the real one prints when it gives up, by the name of the failure.
FAILURES: dict[str, str] = {
    "float": "Invalid model: {path}\nModel not quantized",
    "version": "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version of this builtin might be "
    "supported. Are you using an old TFLite binary with a newer model?\n\nERROR: Registration failed.\n\n"
    "Invalid model: {path}\nModel could not be parsed",
    "dynamic": "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
    "dynamic-sized tensors.\nCompilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in "
    "Tflite interpreter.\nCompilation child process completed within timeout period.\nCompilation failed! ",
    "large": "ERROR: Restored original execution plan after delegate application failure.\nCompilation failed: Compilation "
    "failed due to large activation tensors in model.\nCompilation child process completed within timeout period.\n"
    "Compilation failed! ",
    "internal": "\nInternal compiler error. Aborting! ",
    "silent": "Compilation child process completed within timeout period.\nCompilation failed! ",
}


def install(folder: Path) -> Path:
    """Write a program called ``edgetpu_compiler`` into a folder and return its path."""
    path = folder / "edgetpu_compiler"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def main() -> int:
    """Compile, or fail as the environment says."""
    options = _options()
    mode = os.environ.get(MODE, "ok")
    print(f"Edge TPU Compiler version {VERSION}")
    if mode == "hang":
        time.sleep(600)
    if mode in FAILURES:
        print(FAILURES[mode].format(path=options.model))
        return 1
    print(f"Started a compilation timeout timer of {options.timeout_sec} seconds.\n")
    source = Path(options.model)
    target = Path(options.out_dir) / f"{source.stem}_edgetpu.tflite"
    left = {int(text) for text in os.environ.get(LEFT, "").split(",") if text}
    edited = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    rows = _compile(edited, left)
    if mode == "other":
        edited.subgraphs[0].tensors[edited.subgraphs[0].outputs[0]].shape = [1, 1]
    builder = flatbuffers.Builder(1 << 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        builder.Finish(edited.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    _report(source, target, rows, options)
    return 0


def _options() -> Any:
    parser = argparse.ArgumentParser("edgetpu_compiler")
    parser.add_argument("-o", "--out_dir", default=".")
    parser.add_argument("-s", "--show_operations", action="store_true")
    parser.add_argument("-m", "--min_runtime_version", type=int, default=14)
    parser.add_argument("-t", "--timeout_sec", type=int, default=180)
    parser.add_argument("model")
    return parser.parse_args()


def _compile(edited: Any, left: set[int]) -> list[tuple[str, int, str]]:
    """Replace all operators but some by one custom operator; drop the signatures and the metadata, as the real one does."""
    main = edited.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    status: Counter[tuple[str, str]] = Counter()
    kept: list[Any] = []
    taken: list[Any] = []
    for index, op in enumerate(main.operators):
        name = names[max(edited.operatorCodes[op.opcodeIndex].builtinCode, 0)]
        status[name, "More than one subgraph is not supported" if index in left else "Mapped to Edge TPU"] += 1
        (kept if index in left else taken).append(op)
    made = [int(index) for op in taken for index in op.outputs]
    wanted = [int(index) for op in kept for index in op.inputs] + [int(index) for index in main.outputs]
    constants = {number for number, tensor in enumerate(main.tensors) if _filled(edited, tensor)}
    needed = dict.fromkeys(int(index) for op in taken for index in op.inputs if index >= 0)
    custom = schema.OperatorT()
    custom.inputs = [index for index in needed if index not in made and index not in constants]
    custom.outputs = [index for index in dict.fromkeys(made) if index in wanted]
    custom.customOptions = np.frombuffer(PROGRAM_BYTES, np.uint8)
    custom.opcodeIndex = len(edited.operatorCodes)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"edgetpu-custom-op", 1
    edited.operatorCodes.append(code)
    main.operators = [custom, *kept]
    edited.description, edited.signatureDefs, edited.metadata = b"Exported from Subgraph.", None, None
    return [(name, count, text) for (name, text), count in status.items()]


def _filled(edited: Any, tensor: Any) -> bool:
    data = edited.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _report(source: Path, target: Path, rows: list[tuple[str, int, str]], options: Any) -> None:
    mapped = sum(count for _, count, text in rows if text.startswith("Mapped"))
    total = sum(count for _, count, _ in rows)
    table = "\n".join(f"{name:<31}{count:<11}{text}" for name, count, text in rows)
    head = f"Operator{'':23}Count{'':6}Status\n\n{table}"
    print(
        f"Model compiled successfully in 42 ms.\n\nInput model: {source}\nInput size: {source.stat().st_size / 1024:.2f}KiB\n"
        f"Output model: {target}\nOutput size: {target.stat().st_size / 1024:.2f}KiB\n"
        "On-chip memory used for caching model parameters: 3.86MiB\n"
        "On-chip memory remaining for caching model parameters: 1.75KiB\n"
        "Off-chip memory used for streaming uncached model parameters: 369.88KiB\n"
        f"Number of Edge TPU subgraphs: 1\nTotal number of operations: {total}\n"
        f"Operation log: {target.with_suffix('.log')}\n"
    )
    if mapped < total:
        print(
            "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will "
            "instead run on the CPU, which is slower. If possible, consider updating your model to use only operations "
            "supported by the Edge TPU. For details, visit g.co/coral/model-reqs.\n"
            f"Number of operations that will run on Edge TPU: {mapped}\n"
            f"Number of operations that will run on CPU: {total - mapped}"
        )
    log = f"Edge TPU Compiler version {VERSION}\nInput: {source}\nOutput: {target}\n\n{head}\n"
    target.with_suffix(".log").write_text(log, encoding="utf-8")
    print(f"\n{head}" if options.show_operations else "See the operation log file for individual operation details.")
    print("Compilation child process completed within timeout period.\nCompilation succeeded! ")


if __name__ == "__main__":
    sys.exit(main())
