"""Int8 conversion: edgekit against TFLiteConverter and litert-quantizer, same models, same data, same runtime.

Each peer gets the float model, the calibration samples in the same order and int8 inputs and outputs, and is otherwise left at
its defaults. All int8 models are compared with the same float model, on samples that no one was calibrated on, on XNNPACK.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.modelfile import ModelFile
from edgekit.preprocess import from_options
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.data import open_data
from edgekit_convert.verify import SetFigures, figures, run_both


@dataclass(frozen=True)
class Case:
    """A model with its data and preprocessing."""

    name: str
    source: str
    data: str
    normalize: str | None = None
    resize: str | None = None


CASES = (
    Case("DS-CNN, keyword spotting", "keras3/kws_ds_cnn.keras", "keyword_spotting"),
    Case("ResNet8, CIFAR-10", "mlperf_tiny/resnet8/pretrainedResnet.h5", "cifar10", "none"),
    Case("MobileNetV1 0.25 96, flowers", "mlperf_tiny/vww/vww_96.h5", "flowers_128", "0,255", "96x96"),
    Case("MobileNetV1 0.25 224, flowers", "mobilenet_v1_0.25_224/float.tflite", "flowers_224", "127.5,127.5"),
)


def keras_model(path: Path) -> Any:
    """The Keras model of a case, old files through tf-keras; ``None`` for a .tflite source."""
    if path.suffix == ".tflite":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        try:
            return keras.models.load_model(path, compile=False)
        except (TypeError, ValueError):
            import tf_keras

            return tf_keras.models.load_model(path, compile=False)


def tflite_converter(model: Any, samples: list[Any]) -> bytes:
    """TensorFlow's own post-training quantisation, full integer."""
    import tensorflow as tf

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        model.export(folder, verbose=False) if "tf_keras" not in type(model).__module__ else model.export(folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def litert_quantizer(float_model: bytes, samples: list[Any]) -> bytes:
    """litert-quantizer's static int8 recipe with its own calibration."""
    from litert_quantizer import quantizer, recipe

    name = ModelFile.read(float_model).inputs[0].name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = quantizer.Quantizer(bytearray(float_model), recipe.static_wi8_ai8())
        ranges = work.calibrate({"serving_default": [{name: sample} for sample in samples]})
        return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def judge(float_model: bytes, candidate: bytes, data: CalibrationSet) -> SetFigures:
    """Compare a candidate with the float model on XNNPACK."""
    choice = DelegateChoice(DelegateSpec("xnnpack", 1), "benchmark")
    with Session(ModelFile.read(float_model), choice) as a, Session(ModelFile.read(candidate), choice) as b:
        runs = run_both(a, b, data, lambda done: None)
    return figures(runs, data, [spec.name for spec in a.outputs], "accuracy")


def rows(case: Case, assets: Path, runs: int) -> Iterator[dict[str, Any]]:
    """Convert one case with each tool, and measure."""
    path = assets / "data" / f"{case.data}.npz"
    with np.load(path) as arrays:
        labelled = case.data in ("keyword_spotting", "cifar10")
        test = {"x": arrays["test"], **({"y": arrays["test_labels"]} if labelled else {})}
        calibration = arrays["calibration"]
    ours = edgekit.convert(
        assets / case.source, calibration, recipe="int8", normalize=case.normalize, resize=case.resize
    )
    pivot = ModelFile.read(ours.float_model)
    prepared = {pivot.inputs[0].name: from_options(case.normalize, case.resize, None)}
    ready = CalibrationSet(open_data(calibration, pivot.inputs, 1000, "calibration"), pivot.inputs, prepared)
    samples = [next(iter(item.inputs.values())) for item in ready]
    held_out = CalibrationSet(open_data(test, pivot.inputs, 1000, "verification"), pivot.inputs, prepared)
    models: dict[str, bytes] = {"float": ours.float_model}
    keras = keras_model(assets / case.source)
    if keras is not None:
        models["TFLiteConverter"] = tflite_converter(keras, samples)
    models["litert-quantizer"] = litert_quantizer(ours.float_model, samples)
    models["edgekit"] = ours.model.content
    speed = edgekit.benchmark(models, runs=runs, launches=9, delegate="xnnpack", threads=1)
    medians = {result.case.model: [np.median(launch.total_ns) for launch in result.launches] for result in speed.cases}
    for name, content in models.items():
        if name == "float":
            continue
        seen = judge(ours.float_model, content, held_out)
        yield {
            "model": case.name,
            "tool": name,
            "samples": seen.count,
            "agreement": seen.agreement.to_json() if seen.agreement else None,
            "sqnr_db": seen.sqnr_db.to_json(),
            "drop": seen.metric.drop.to_json() if seen.metric else None,
            "size_bytes": len(content),
            # launches of one round ran next to each other; the median over rounds withstands a machine that changes its pace
            "latency_of_float": float(np.median(np.divide(medians[name], medians["float"]))),
        }


def line(row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    agreement = f"{100 * row['agreement']['value']:.1f} %" if row["agreement"] else "–"
    drop = f"{100 * row['drop']['value']:+.2f}" if row["drop"] else "–"
    return (
        f"| {row['model']} | {row['tool']} | {agreement} | {row['sqnr_db']['value']:.1f} dB | {drop} "
        f"| {row['size_bytes'] / 1000:.0f} kB | {row['latency_of_float']:.2f} |"
    )


def main() -> None:
    """Print the table, and write the figures to a file when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("EDGEKIT_ASSETS", "../shared/assets")))
    parser.add_argument("--runs", type=int, default=200, help="timed runs in each process")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        sys.exit(f"no such folder: {arguments.assets}; see benchmarks/README.md for what it holds")
    everything = []
    print("| model, data | tool | agreement | SQNR | accuracy lost (points) | size | latency (float = 1) |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        for row in rows(case, arguments.assets, arguments.runs):
            everything.append(row)
            print(line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
