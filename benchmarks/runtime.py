"""What a run through edgekit costs beyond the bare interpreter, and loading beyond loading.

All ways to run a model are timed in one process, a few milliseconds of each in turn, in several processes: the bare
``set_tensor; invoke; get_tensor`` loop, LiteRT's SignatureRunner, its CompiledModel with buffers made once, helpers as pycoral has
them (a view for the input, a copy of the output's first sample), and edgekit sessions with and without what they may do besides. What is
compared is compared within a round. A second pass times each run by itself for the 99th percentile.

``python benchmarks/runtime.py keyword_spotting=kws.tflite resnet8=resnet8.tflite`` adds models to the dense one of 16 values in and 4 out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BARE = "bare interpreter"
DENSE = "dense 16→4"
#: Each way runs about so long in a round.
_TURN_NS = 2_000_000
_clock = time.perf_counter_ns

Run = Callable[[], object]


def ways(path: str, x: np.ndarray[Any, Any], log: Path) -> dict[str, Run]:
    """Ways to run a model once, all on XNNPACK with one thread and on the same input."""
    from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options
    from ai_edge_litert.interpreter import Interpreter

    import edgekit

    def interpreter() -> Any:
        made = Interpreter(model_path=path, num_threads=1)
        made.allocate_tensors()
        return made

    bare, helped, signed = interpreter(), interpreter(), interpreter()
    source, result = bare.get_input_details()[0]["index"], bare.get_output_details()[0]["index"]

    def loop() -> object:
        bare.set_tensor(source, x)
        bare.invoke()
        return bare.get_tensor(result)

    def helpers() -> object:
        helped.tensor(source)()[0][...] = x[0]
        helped.invoke()
        return helped.tensor(result)()[0].copy()

    found: dict[str, Run] = {BARE: loop, "pycoral-style helpers": helpers}
    if signed.get_signature_list():
        runner = signed.get_signature_runner()
        (name,) = runner.get_input_details()
        found["SignatureRunner"] = lambda: runner(**{name: x})
    cpu = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    compiled = CompiledModel.from_file(path, options=cpu)
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    out = bare.get_output_details()[0]
    size, kind = int(np.prod(out["shape"])), out["dtype"]

    def compiled_model() -> object:
        inputs[0].write(x)
        compiled.run_by_index(0, inputs, outputs)
        return outputs[0].read(size, kind)

    found["CompiledModel"] = compiled_model

    def session(**options: Any) -> Run:
        run = edgekit.load(path, delegate="xnnpack", threads=1, **options).run
        return lambda: run(x)

    found["edgekit"] = session(io="native")
    found["edgekit, copy=False"] = session(io="native", copy=False)
    found["edgekit, with a log file"] = session(io="native", log=log)
    if x.dtype == np.float32:
        found["edgekit, NaN refused (the default)"] = session()
    else:
        real = edgekit.load(path, delegate="xnnpack", threads=1)
        numbers = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
        found["edgekit, real numbers in and out"] = lambda: real.run(numbers)
    return found


def child(request: dict[str, Any]) -> dict[str, Any]:
    """One process: times by way and round, in nanoseconds for one run."""
    from edgekit.modelfile import ModelFile

    spec = ModelFile.read(request["path"]).inputs[0]
    shape = tuple(abs(size) for size in spec.shape)
    random = np.random.default_rng(0)
    if spec.dtype == "float32":
        x = random.normal(size=shape).astype(np.float32)
    else:
        limits = np.iinfo(spec.dtype)
        x = random.integers(limits.min, limits.max + 1, shape).astype(spec.dtype)
    with tempfile.TemporaryDirectory() as folder:
        found = ways(request["path"], x, Path(folder) / "log.jsonl")
        names = list(found)
        names = names[request["first"] % len(names) :] + names[: request["first"] % len(names)]
        began = _clock()
        for _ in range(20):
            found[BARE]()
        count = max(1, _TURN_NS * 20 // max(1, _clock() - began))
        means: dict[str, list[float]] = {name: [] for name in names}
        singles: dict[str, list[int]] = {name: [] for name in names}
        for _ in range(request["rounds"]):
            for name in names:
                run = found[name]
                run()  # finds the others' data in the caches
                began = _clock()
                for _ in range(count):
                    run()
                means[name].append((_clock() - began) / count)
        for _ in range(request["rounds"]):
            for name in names:
                run, times = found[name], singles[name]
                run()
                for _ in range(min(count, 200)):
                    began = _clock()
                    run()
                    times.append(_clock() - began)
    return {"means": means, "p99": {name: float(np.percentile(times, 99)) for name, times in singles.items()}}


def measure(path: Path, *, rounds: int, launches: int) -> dict[str, Any]:
    """Time all ways to run a model.

    Returns:
        By way: ``median_ns``, ``p99_ns``, ``more_ns`` and ``ratio`` against the bare loop, each of the latter two with its lowest and
        highest process.
    """
    answers = []
    for number in range(launches):
        request = json.dumps({"path": str(path), "rounds": rounds, "first": number})
        done = subprocess.run(
            [sys.executable, __file__, "--child", request], capture_output=True, text=True, check=True, env=_quiet()
        )
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    table = {}
    for name in answers[0]["means"]:
        more, ratios = [], []
        for answer in answers:
            own, bare = np.array(answer["means"][name]), np.array(answer["means"][BARE])
            more.append(float(np.median(own - bare)))
            ratios.append(float(np.median(own / bare)))
        table[name] = {
            "median_ns": float(np.median([np.median(answer["means"][name]) for answer in answers])),
            "p99_ns": float(np.median([answer["p99"][name] for answer in answers])),
            "more_ns": [float(np.median(more)), min(more), max(more)],
            "ratio": [float(np.median(ratios)), min(ratios), max(ratios)],
        }
    return table


def dense(folder: Path) -> Path:
    """The model of 16 values in and 4 out, from Keras."""
    code = """
import sys, keras, tensorflow as tf
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((16,), batch_size=1), keras.layers.Dense(4)])
open(sys.argv[1], "wb").write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
"""
    path = folder / "dense.tflite"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, env=_quiet())
    return path


def _quiet() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}


def markdown(tables: dict[str, dict[str, Any]]) -> str:
    """One table of all models."""
    lines = [
        "| model | way | median | 99th percentile | more than the bare loop | bare loop = 1 |",
        "|---|---|---|---|---|---|",
    ]
    for model, table in tables.items():
        for name, row in sorted(table.items(), key=lambda item: (item[0] != BARE, item[1]["more_ns"][0])):
            more, low, high = (value / 1000 for value in row["more_ns"])
            ratio, least, most = row["ratio"]
            extra = f"{more:+.2f} µs ({low:+.2f} to {high:+.2f})" if name != BARE else ""
            share = f"{ratio:.3f} ({least:.3f} to {most:.3f})" if name != BARE else "1"
            lines.append(
                f"| {model} | {name} | {_time(row['median_ns'])} | {_time(row['p99_ns'])} | {extra} | {share} |"
            )
    return "\n".join(lines) + "\n"


def _time(value_ns: float) -> str:
    return f"{value_ns / 1000:.2f} µs" if value_ns < 100_000 else f"{value_ns / 1e6:.3f} ms"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME=FILE", help="further models with one input and one output")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each way in a process")
    parser.add_argument("--launches", type=int, default=5, help="processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(json.loads(arguments.child))))
        return
    given = [item.partition("=") for item in arguments.models]
    for name, _, file in given:
        if not file or not Path(file).is_file():
            parser.error(f"{name}={file}: NAME=FILE with a .tflite file was expected")
    with tempfile.TemporaryDirectory() as folder:
        files = {DENSE: dense(Path(folder)), **{name: Path(file) for name, _, file in given}}
        tables = {}
        for name, path in files.items():
            print(f"{name} …", file=sys.stderr)
            tables[name] = measure(path, rounds=arguments.rounds, launches=arguments.launches)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    print(markdown(tables), end="")


if __name__ == "__main__":
    main()
