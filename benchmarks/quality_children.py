"""What ``quality.py`` does in processes of its own: preparing a model, one conversion, and running a model on the test data.

Each is started as ``python quality_children.py KIND REQUEST``, both files being JSON objects, and prints its answer as its last line. A
process of its own gives each conversion its own peak of memory and the imports that it really needs, and a native
crash ends a row instead of the benchmark.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Answer = dict[str, Any]

#: Tools by the name that ``--tools`` takes.
PEERS = ("TFLiteConverter", "litert-quantizer")
EFFORTS = ("fast", "default", "high")
OURS = tuple(f"edgekit-{effort}" for effort in EFFORTS)
CEILINGS = ("edgekit-int16x8", "input-only")


class ChildError(Exception):
    """A child process failed; the text is its last line."""


def run(kind: str, request: Answer, timeout_s: float | None = None, script: str = __file__) -> Answer:
    """Run one child process.

    Args:
        kind: a key of ``KINDS``.
        request: its arguments.
        timeout_s: when to give up.
        script: the file that is run, one with the same ``KINDS`` protocol.

    Raises:
        ChildError: it failed, crashed or took too long.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
    command = [sys.executable, script, kind, json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"not done after {timeout_s:.0f} s") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        crash = f"ended by signal {-done.returncode}; " if done.returncode < 0 else ""
        raise ChildError(f"{crash}{lines[-1] if lines else 'it said nothing'}"[:400])
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def samples(request: Answer, part: str) -> Iterator[Any]:
    """Each sample, prepared, with its batch axis."""
    from edgekit.preprocess import from_options

    item = from_options(request["normalize"], request["resize"], None)
    for raw in np.load(request[part]):
        yield item.apply(raw[None])


def prepare(request: Answer) -> Answer:
    """Make the source, the float ``.tflite`` and the data of a case.

    Args:
        request: ``kind`` (``asset``, ``hard`` or ``mobilenet_v2``), ``name``, ``folder``, ``seed``, ``normalize``, ``resize``,
            and ``assets``, ``source``, ``data``, ``labelled`` or ``alpha`` as the kind needs.

    Returns:
        Paths of ``source``, ``float``, ``calibration``, ``test`` and ``labels`` (or ``None``), counts, and the seconds of training.
    """
    from edgekit.preprocess import from_options
    from edgekit_convert.calibration import CalibrationSet
    from edgekit_convert.calibration.data import open_data
    from edgekit_convert.frontends import open_source

    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    answer: Answer = {key: str(folder / f"{key}.npy") for key in ("calibration", "test", "labels")}
    answer.update({"asset": _asset, "hard": _hard, "mobilenet_v2": _mobilenet_v2}[request["kind"]](request, folder))
    opened = open_source(answer["source"])
    item = from_options(request["normalize"], request["resize"], None)
    calibration = np.load(answer["calibration"])
    data = CalibrationSet(
        open_data(calibration[:1], opened.inputs, 1, "calibration"), opened.inputs, {opened.inputs[0].name: item}
    )
    flatbuffer = opened.export(data.pinned())
    answer["float"] = str(folder / "float.tflite")
    Path(answer["float"]).write_bytes(flatbuffer)
    answer |= {
        "float_sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "float_bytes": len(flatbuffer),
        "calibration_count": len(calibration),
        "test_count": len(np.load(answer["test"], mmap_mode="r")),
    }
    return answer


def _asset(request: Answer, folder: Path) -> Answer:
    """A real model with its data."""
    assets = Path(request["assets"])
    with np.load(assets / "data" / f"{request['data']}.npz") as arrays:
        np.save(folder / "calibration.npy", arrays["calibration"])
        np.save(folder / "test.npy", arrays["test"])
        np.save(folder / "labels.npy", arrays["test_labels"])
    return {"source": str(assets / request["source"]), **({} if request["labelled"] else {"labels": None})}


def _hard(request: Answer, folder: Path) -> Answer:
    """A network of our own, trained here unless this very one was trained before."""
    import hard_models

    name, seed = request["name"], request["seed"]
    code = Path(hard_models.__file__).read_bytes()
    key = hashlib.sha256(code + f"{name} {seed} {request.get('epochs')}".encode()).hexdigest()[:16]
    paths = {part: str(folder / f"{key}-{part}.npy") for part in ("calibration", "test", "labels")}
    source, finished = folder / f"{key}.keras", folder / f"{key}-seconds.npy"
    if not finished.exists():
        data = hard_models.load_data(name, seed)
        started = time.perf_counter()
        model = hard_models.train(hard_models.build(name, seed), name, data, seed, request.get("epochs"))
        seconds = time.perf_counter() - started
        np.save(paths["calibration"], data.calibration())
        np.save(paths["test"], data.test)
        np.save(paths["labels"], data.test_labels)
        model.save(source)
        np.save(finished, np.array(seconds))  # last, so that what is found is whole
    return {**paths, "source": str(source), "training_s": float(np.load(finished))}


def _mobilenet_v2(request: Answer, folder: Path) -> Answer:
    """MobileNetV2 without trained weights, its batch-norm statistics those of real images.

    Without that its activations shrink layer by layer to nothing, and no tool's time or kernels would be those of a real network.
    """
    from edgekit_convert.frontends.freeze import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(request["seed"])
    with np.load(Path(request["assets"]) / "data" / "flowers_224.npz") as arrays:
        images = np.concatenate([arrays["calibration"], arrays["test"]])
    side, count = request["side"], request["count"]
    model = keras.applications.MobileNetV2((side, side, 3), request["alpha"], weights=None)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0  # one pass in training mode leaves exactly this batch's statistics
    start = (224 - side) // 2
    images = images[:, start : start + side, start : start + side]
    model((images[:64].astype(np.float32) - 127.5) / 127.5, training=True)
    source = folder / "source.keras"
    model.save(source)
    np.save(folder / "calibration.npy", images[np.arange(count) % len(images)])
    np.save(folder / "test.npy", images[-20:])
    return {"source": str(source), "labels": None}


def convert(request: Answer) -> Answer:
    """One conversion: seconds, memory, and the file.

    Args:
        request: ``tool``, ``source``, ``float``, ``calibration``, ``normalize``, ``resize``, ``output``, ``from_float`` (edgekit reads the
            float ``.tflite`` and not the source), ``order`` (a seed to shuffle the calibration samples with, or ``None``).

    Returns:
        ``seconds``; ``phases_s`` as far as the tool tells them; ``calibration_per_s``, samples per second between the first and the last
        one; ``peak_bytes`` of resident memory, and ``baseline_bytes``, what the process held before it read the model.
    """
    raw = np.load(request["calibration"])
    if request["order"] is not None:
        path = Path(request["output"]).with_suffix(".order.npy")
        np.save(path, raw[np.random.default_rng(request["order"]).permutation(len(raw))])
        request = {**request, "calibration": str(path)}
    del raw
    tool = request["tool"]
    if tool == "TFLiteConverter":
        work: Callable[[Answer], tuple[bytes, Answer]] = _tflite_converter
        from edgekit_convert.frontends.freeze import import_tensorflow

        import_tensorflow()
        import keras  # what it imports is not the conversion's time
    elif tool == "litert-quantizer":
        work = _litert_quantizer
        from litert_quantizer import quantizer
    else:
        work = _edgekit
        from litert_quantizer import quantizer  # noqa: F401

        import edgekit

        edgekit.convert  # noqa: B018  # the name is looked up on first use
        if not request["from_float"] and not request["source"].endswith(".tflite"):
            from edgekit_convert.frontends.freeze import import_tensorflow

            import_tensorflow()
            import keras  # noqa: F401
    baseline = _resident("VmRSS")
    _forget_peak()
    started = time.perf_counter()
    content, told = work(request)
    seconds = time.perf_counter() - started
    peak = _resident("VmHWM")
    Path(request["output"]).write_bytes(content)
    return {"seconds": seconds, "baseline_bytes": baseline, "peak_bytes": peak, **told}


def edgekit_at(tool: str) -> dict[str, Any]:
    """What each tool name means to ``edgekit.convert``."""
    if tool == "edgekit-int16x8":
        return {"recipe": "int16x8"}
    return {"recipe": "int8", "effort": tool.removeprefix("edgekit-")}


def _edgekit(request: Answer) -> tuple[bytes, Answer]:
    import edgekit

    marks: list[tuple[float, str, int]] = []
    done = edgekit.convert(
        request["float"] if request["from_float"] else request["source"],
        np.load(request["calibration"]),
        normalize=request["normalize"],
        resize=request["resize"],
        progress=lambda step, done, total: marks.append((time.perf_counter(), step, done)),
        **edgekit_at(request["tool"]),
    )
    marks.append((time.perf_counter(), "", 0))
    phases: dict[str, float] = {}
    for (began, step, _), (ended, _, _) in itertools.pairwise(marks):
        phases[step] = phases.get(step, 0.0) + ended - began
    rate = _first_pass_rate([(at, number) for at, step, number in marks if step == "Measuring ranges"])
    return done.model.content, {
        "phases_s": phases,
        "calibration_per_s": rate,
        "findings": [f"{finding.code}: {finding.text}" for finding in done.findings],
    }


def _first_pass_rate(marks: list[tuple[float, int]]) -> float | None:
    """Samples per second of the first pass, of (time, samples done) over all passes; ``None`` where that is not known."""
    end = next((at for at in range(1, len(marks)) if marks[at][1] <= marks[at - 1][1]), len(marks))
    if end < 2:
        return None
    (began, first), (ended, last) = marks[0], marks[end - 1]
    return (last - first) / (ended - began)


def _rate(times: list[float]) -> float | None:
    """Samples per second from the end of the first to the end of the last; ``None`` with fewer than two."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None


def _tflite_converter(request: Answer) -> tuple[bytes, Answer]:
    """TensorFlow's own post-training quantisation, full integer, of the Keras model."""
    import tensorflow as tf

    data = _Rewindable(lambda: ([sample] for sample in samples(request, "calibration")))
    began = time.perf_counter()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        model = _keras_model(Path(request["source"]))
        loaded = time.perf_counter()
        model.export(folder, verbose=False) if "tf_keras" not in type(model).__module__ else model.export(folder)
        exported = time.perf_counter()
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter(data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    phases = {"loading": loaded - began, "exporting": exported - loaded, "converting": time.perf_counter() - exported}
    return content, {"phases_s": phases, "calibration_per_s": data.rate()}


def _keras_model(path: Path) -> Any:
    """A Keras file, old ones through tf-keras."""
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (TypeError, ValueError):
        import tf_keras

        return tf_keras.models.load_model(path, compile=False)


def _litert_quantizer(request: Answer) -> tuple[bytes, Answer]:
    """litert-quantizer's static int8 recipe with its own calibration, of the float ``.tflite``."""
    from litert_quantizer import quantizer, recipe

    from edgekit.modelfile import ModelFile

    content = Path(request["float"]).read_bytes()
    name = ModelFile.read(content).inputs[0].name
    data = _Rewindable(lambda: ({name: sample} for sample in samples(request, "calibration")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        work = quantizer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
        ranges = work.calibrate({"serving_default": data})
        calibrated = time.perf_counter()
        done = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    phases = {"calibrating": calibrated - began, "quantising": time.perf_counter() - calibrated}
    return bytes(done.quantized_model), {"phases_s": phases, "calibration_per_s": data.rate()}


class _Rewindable:
    """Samples that can be read again, as litert-quantizer does (it counts them first), with the times of the last pass."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self._read = read
        self._marks: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        self._marks = []
        for item in self._read():
            yield item
            self._marks.append(time.perf_counter())

    def rate(self) -> float | None:
        """Samples per second of the last pass."""
        return _rate(self._marks)


def outputs(request: Answer) -> Answer:
    """Run a model on the test data on XNNPACK, and keep what came out.

    Args:
        request: ``model``, ``test``, ``calibration``, ``normalize``, ``resize``, ``output``, and ``input_grid``: whether its inputs go
            through int8 and back, on the grid of the calibration data's range.
    """
    from edgekit.modelfile import ModelFile
    from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
    from edgekit.runtime.session import Session
    from edgekit.tensors import QuantParams, dequantize, quantize

    grid = None
    if request["input_grid"]:
        ends = [(float(sample.min()), float(sample.max())) for sample in samples(request, "calibration")]
        low, high = min(0.0, *(end[0] for end in ends)), max(0.0, *(end[1] for end in ends))
        scale = (high - low) / 255
        grid = QuantParams((scale,), (round(-128 - low / scale),))
    rows = []
    with Session(ModelFile.read(request["model"]), DelegateChoice(DelegateSpec("xnnpack", 1), "benchmark")) as session:
        for sample in samples(request, "test"):
            given = dequantize(quantize(sample, grid, "int8"), grid) if grid is not None else sample
            result = session.run(given.astype(np.float32))
            rows.append(np.asarray(result, np.float32))
        partitions = str(session.partitions)
    np.save(request["output"], np.concatenate(rows))
    return {"partitions": partitions}


def _resident(key: str) -> int | None:
    """Resident memory in bytes, now (``VmRSS``) or at its peak (``VmHWM``); ``None`` where there is no /proc."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{key}:")), None)


def _forget_peak() -> None:
    """Let the peak of resident memory start anew (proc(5), ``/proc/pid/clear_refs``, value 5)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the imports' peak stays in it


KINDS: dict[str, Callable[[Answer], Answer]] = {"prepare": prepare, "convert": convert, "outputs": outputs}


def main() -> None:
    """Do what the command line says, and print the answer."""
    try:
        answer = KINDS[sys.argv[1]](json.loads(sys.argv[2]))
    except Exception as error:  # whatever a tool raises becomes the row's text
        traceback.print_exc()
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        print(f"{type(error).__name__}: {first}", file=sys.stderr)
        sys.exit(1)
    print(f"\n{json.dumps(answer)}")


if __name__ == "__main__":
    main()
