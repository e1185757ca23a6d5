"""The issue's own examples on real models and data; they need the measuring assets beside the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.inspection import inspect


def convert(assets: Path, source: str, data: str, **options: Any) -> Any:
    """Convert one of the assets, proving on its ``test`` samples with their labels."""
    name = assets / "data" / f"{data}.npz"
    verify = f"{name}:test" if options.pop("unlabelled", False) else f"{name}:x=test,y=test_labels"
    return edgekit.convert(assets / source, f"{name}:calibration", recipe="int8", verify=verify, **options)


@pytest.fixture(scope="session")
def float_keyword_spotting(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keyword spotting network as a float .tflite."""
    result = convert(assets, "keras3/kws_ds_cnn.keras", "keyword_spotting")
    path = tmp_path_factory.mktemp("float") / "kws_float.tflite"
    path.write_bytes(result.float_model)
    return path


def mostly_int8(model: edgekit.ModelFile | Path) -> bool:
    """Whether 80 % of the work is in int8 at least; how much more is best, recipe ``auto`` measures on the machine at hand."""
    return (inspect(model).int8_mac_share or 0) >= 0.8


@pytest.mark.parametrize("source", ["keras3/kws_ds_cnn.keras", "keras3/kws_ds_cnn_saved_model", "float"])
def test_keyword_spotting(assets: Path, float_keyword_spotting: Path, source: str) -> None:
    """Keras, SavedModel and float .tflite: most of the work in int8, at least 23 dB and 98 % agreement on ``test``."""
    given = str(float_keyword_spotting) if source == "float" else source
    result = convert(assets, given, "keyword_spotting")
    figures = result.report.on["verify"]
    assert mostly_int8(result.model)
    assert figures.count == 800
    assert figures.sqnr_db.value >= 23
    assert figures.agreement.value >= 0.98


def test_resnet8_from_h5(assets: Path) -> None:
    """ResNet-8 on raw CIFAR-10 pixels, likewise."""
    result = convert(assets, "mlperf_tiny/resnet8/pretrainedResnet.h5", "cifar10", normalize="none")
    figures = result.report.on["verify"]
    assert mostly_int8(result.model)
    assert figures.sqnr_db.value >= 23
    assert figures.agreement.value >= 0.98
    assert [finding.code for finding in result.findings if finding.level == "warning"] == []


def test_visual_wake_words_from_an_old_h5(assets: Path) -> None:
    """An .h5 that Keras 3 refuses."""
    data = str(assets / "data" / "flowers_128.npz:calibration")
    result = edgekit.convert(
        assets / "mlperf_tiny/vww/vww_96.h5", data, resize=(96, 96), normalize=(0, 255), recipe="int8"
    )
    assert inspect(result.model).fully_int8


@pytest.fixture(scope="session")
def mobilenet(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV1 0.25 224 from a file of before TensorFlow 2.4, as int8."""
    path = tmp_path_factory.mktemp("mobilenet") / "mobilenet.tflite"
    result = convert(
        assets,
        "mobilenet_v1_0.25_224/float.tflite",
        "flowers_224",
        unlabelled=True,
        normalize="127.5,127.5",
        output=path,
    )
    assert [finding.code for finding in result.findings if finding.level == "warning"] == []
    return path


def test_mobilenet_v1_without_normalize_is_noticed(assets: Path) -> None:
    """The audit names the option."""
    result = convert(assets, "mobilenet_v1_0.25_224/float.tflite", "flowers_224", unlabelled=True)
    warnings = {finding.code: finding.text for finding in result.findings if finding.level == "warning"}
    assert "--normalize 127.5,127.5" in warnings["raw-pixels"]


def test_mobilenet_v1(mobilenet: Path) -> None:
    """Most of the work in int8 and at least 6.5 dB on ``test``."""
    seen = inspect(mobilenet)
    assert mostly_int8(mobilenet)
    assert seen.manifest is not None
    assert seen.manifest.verification["on"]["verify"]["outputs"][0]["sqnr_db"]["value"] >= 6.5


def test_mobilenet_v1_in_tflite_runtime(mobilenet: Path, tmp_path: Path, assets: Path) -> None:
    """The same file loads and agrees in tflite-runtime 2.14, in an environment of its own."""
    python = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("EDGEKIT_TFLITE_RUNTIME_PYTHON names no environment with tflite-runtime; scripts/test makes one")
    images = np.load(assets / "data" / "flowers_224.npz")["test"][:20]
    np.save(tmp_path / "x.npy", (images.astype(np.float32) - 127.5) / 127.5)
    subprocess.run(
        [python, "-m", "edgekit", "run", str(mobilenet), "--engine", "tflite-runtime", "--delegate", "xnnpack",
         "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")],
        check=True, cwd=tmp_path,
    )  # fmt: skip
    with edgekit.load(mobilenet, delegate="xnnpack", preprocess=True) as session:
        expected = np.concatenate([session.run(image) for image in images])
    actual = np.load(tmp_path / "y.npy")
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9
