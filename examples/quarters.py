"""A small task and a network for it, which the conversion examples build in each framework: which quarter of a picture is the brightest?

The network is a convolution with random weights, ReLU, and a dense layer that least squares fit: trained in a moment, with numpy alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit

#: Height, width and channels of a picture; what there is to tell apart.
SHAPE = (16, 16, 3)
NAMES = ("top left", "top right", "bottom left", "bottom right")
#: Of the convolution: its size, how far apart it looks, and how many channels it makes.
SIZE, STRIDE, CHANNELS = 3, 2, 8


@dataclass(frozen=True)
class Network:
    """The weights.

    Attributes:
        kernel: [height, width, inputs, outputs].
        bias: one for each channel.
        dense: [inputs, classes]; the inputs are the convolution's output in the order row, column, channel.
        dense_bias: one for each class.
    """

    kernel: Any
    bias: Any
    dense: Any
    dense_bias: Any

    @property
    def dense_channels_first(self) -> Any:
        """The dense layer's weights for inputs in the order channel, row, column, which ONNX and PyTorch flatten to."""
        places = np.arange(len(self.dense)).reshape(*inner_shape()).transpose(2, 0, 1).reshape(-1)
        return self.dense[places]


def inner_shape() -> tuple[int, int, int]:
    """What the convolution makes: rows, columns, channels."""
    rows, columns = ((size - SIZE) // STRIDE + 1 for size in SHAPE[:2])
    return rows, columns, CHANNELS


def pictures(count: int, seed: int) -> tuple[Any, Any]:
    """Noise with one brighter quarter, values 0 to 1, and which one it is."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 0.7, (count, *SHAPE))
    quarters = random.integers(0, len(NAMES), count)
    half = SHAPE[0] // 2
    for image, quarter in zip(images, quarters, strict=True):
        row, column = half * (quarter // 2), half * (quarter % 2)
        image[row : row + half, column : column + half] += random.uniform(0.02, 0.2)
    return images.astype(np.float32), quarters


def trained() -> Network:
    """The network."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.3, (SIZE, SIZE, SHAPE[2], CHANNELS)).astype(np.float32)
    bias = random.normal(0, 0.1, CHANNELS).astype(np.float32)
    images, quarters = pictures(4000, seed=1)
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIZE, SIZE), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    features = np.maximum(np.einsum("nyxcij,ijco->nyxo", windows, kernel, optimize=True) + bias, 0).reshape(4000, -1)
    inputs = np.hstack([features, np.ones((4000, 1), np.float32)]).astype(np.float64)
    wanted = np.eye(len(NAMES))[quarters]
    fitted = np.linalg.solve(inputs.T @ inputs + 10 * np.eye(inputs.shape[1]), inputs.T @ wanted).astype(np.float32)
    return Network(kernel, bias, fitted[:-1], fitted[-1])


def convert_and_print(source: Any, folder: Path, **options: Any) -> None:
    """Convert a source to int8, try the result on pictures that it has not seen, and print the figures as one line of JSON.

    Args:
        source: a path or a model in memory.
        folder: for the data and the result.
        options: what else ``edgekit.convert`` is to know.
    """
    images, quarters = pictures(300, seed=2)
    np.savez(folder / "test.npz", x=images, y=quarters)
    output = folder / "quarters_int8.tflite"
    made = edgekit.convert(
        source, pictures(100, seed=3)[0], verify=f"{folder / 'test.npz'}:x=x,y=y", output=output, recipe="int8",
        normalize="none", labels=NAMES, **options,
    )  # fmt: skip
    found = made.report.on["verify"]
    with edgekit.load(output) as model:
        first = NAMES[int(np.argmax(model.run(images[:1])))]
    print(
        json.dumps(
            {
                "source": made.model.manifest.source["kind"] if made.model.manifest is not None else None,
                "bytes": output.stat().st_size,
                "accuracy_float": found.metric.float_model.value if found.metric is not None else None,
                "accuracy_int8": found.metric.int8_model.value if found.metric is not None else None,
                "sqnr_db": round(found.outputs[0].sqnr_db.value, 1),
                "first": {"is": NAMES[quarters[0]], "seen": first},
            }
        )
    )
