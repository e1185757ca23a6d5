"""An ONNX model to int8. Its channels come first; the converted file takes pictures with the channels last, as cameras give them.

Needs ``pip install 'edgekit[convert]'`` and, once, ``edgekit setup onnx``: ONNX is converted in an environment of its own. From a shell it is
``edgekit convert quarters.onnx --calibration data.npy --recipe int8``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import quarters
from onnx_file import Onnx


def onnx_file() -> bytes:
    """The network."""
    weights, model = quarters.trained(), Onnx()
    kernel = model.weights(weights.kernel.transpose(3, 2, 0, 1))
    x = model.node("Conv", ["image", kernel, model.weights(weights.bias)],
                   kernel_shape=[quarters.SIZE] * 2, strides=[quarters.STRIDE] * 2)  # fmt: skip
    x = model.node("Flatten", [model.node("Relu", [x])], axis=1)
    dense = [model.weights(weights.dense_channels_first), model.weights(weights.dense_bias)]
    model.node("Gemm", [x, *dense], ["scores"])
    height, width, channels = quarters.SHAPE
    return model.build({"image": ["batch", channels, height, width]}, {"scores": ["batch", len(quarters.NAMES)]})


def main() -> None:
    """Build, save, convert."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarters.onnx"
        path.write_bytes(onnx_file())
        quarters.convert_and_print(path, Path(folder))


if __name__ == "__main__":
    main()
