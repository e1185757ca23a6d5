"""Small networks that are hard to quantise, each in a way in which real ones are, trained on real data in about a minute.

The data are scikit-learn's handwritten digits pasted onto crops of its two sample photographs, at many brightnesses: they come
inside that package, so that nothing is downloaded. Training and test share neither a digit nor a part of a photograph.

Everything follows from a seed. Two machines train slightly different weights all the same (the order of sums
depends on the processor), so figures are compared within a run only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.preprocess import resize
from edgekit.tensors import Array
from edgekit_convert.frontends.freeze import import_tensorflow

#: What turns the images into every network's input.
NORMALIZE = "127.5,127.5"
#: The frame that the detector's boxes are told in, in pixels; its input is a reduced picture of it.
FRAME = 320
#: Cells along each side of the detector's grid.
GRID = 8
_TRAIN_DIGITS, _TRAIN_PHOTO = 900, 0.6
_DEAD_SHARE = 8  # one channel of so many
_MOMENTUM = 0.9  # of batch-norm statistics: a minute has few steps


@dataclass(frozen=True)
class HardModel:
    """One network.

    Attributes:
        title: what to call it in tables.
        why: what makes it hard.
        side: of its square input images, in pixels.
        epochs: of training.
        rate: the highest learning rate.
        make: builds it from a random generator, untrained.
        boxes: whether it finds boxes; the others tell the digit.
    """

    title: str
    why: str
    side: int
    epochs: int
    rate: float
    make: Callable[[Any], Any]
    boxes: bool = False


@dataclass(frozen=True)
class Data:
    """Images with what is to be found in them; calibration data are a part of the training data, the test data are not.

    Attributes:
        train: uint8 images ``[n, side, side, 3]``.
        train_labels: ``[n]`` digits, or ``[n, 4]`` boxes (left, top, right, bottom, in pixels of the frame).
        test: as ``train``.
        test_labels: as ``train_labels``.
    """

    train: Array
    train_labels: Array
    test: Array
    test_labels: Array

    def calibration(self, count: int = 200) -> Array:
        """The first images of the training data, which are in random order."""
        return self.train[:count]


def build(name: str, seed: int = 0) -> Any:
    """Build one network with random weights; it has its hard property from the start.

    Args:
        name: a key of ``MODELS``.
        seed: of the weights.

    Returns:
        A Keras model.
    """
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    return MODELS[name].make(np.random.default_rng(seed))


def load_data(name: str, seed: int = 0, train: int = 4000, test: int = 897) -> Data:
    """The data for one network.

    Args:
        name: a key of ``MODELS``.
        seed: of where and how the digits are pasted.
        train: images to train on; digits repeat, each time elsewhere.
        test: images to test on; up to 897 each has a digit of its own.
    """
    from sklearn.datasets import load_digits, load_sample_images

    item = MODELS[name]
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn reads its photographs with a function that Pillow calls old
        photos = load_sample_images().images
    parts = []
    for number, (chosen, count) in enumerate(((order[:_TRAIN_DIGITS], train), (order[_TRAIN_DIGITS:], test))):
        border = int(photos[0].shape[1] * _TRAIN_PHOTO)
        areas = [photo[:, :border] if number == 0 else photo[:, border:] for photo in photos]
        random = np.random.default_rng([seed, number])
        picks = chosen[np.arange(count) % len(chosen)]
        random.shuffle(picks)
        made = [_paste(digits.images[pick] / 16, areas, item.side, random, item.boxes) for pick in picks]
        labels = np.stack([box for _, box in made]) if item.boxes else digits.target[picks].astype(np.int64)
        parts.append((np.stack([image for image, _ in made]), labels))
    return Data(*parts[0], *parts[1])


def train(model: Any, name: str, data: Data, seed: int = 0, epochs: int | None = None) -> Any:
    """Train a network that ``build`` made.

    Args:
        model: the network; it is changed.
        name: its key of ``MODELS``.
        data: from ``load_data``.
        seed: of the batches' order.
        epochs: fewer than its own, for a quick look.

    Returns:
        The same network.
    """
    import_tensorflow()
    import keras

    item = MODELS[name]
    keras.utils.set_random_seed(seed)
    epochs, batch = epochs or item.epochs, 64
    steps = epochs * -(-len(data.train) // batch)
    rate = keras.optimizers.schedules.CosineDecay(
        item.rate / 20, steps, 0.01, warmup_target=item.rate, warmup_steps=max(1, steps // 10)
    )
    x = (data.train.astype(np.float32) - 127.5) / 127.5
    y = _grid_targets(data.train_labels) if item.boxes else data.train_labels
    loss = _box_loss if item.boxes else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    held = _hold_dead_channels(model)
    # Compiling such networks with XLA takes longer than training them.
    model.compile(keras.optimizers.Adam(rate), loss=loss, jit_compile=False)
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
    for gamma in held:
        gamma.constraint = None
    return model


def found_box(outputs: Array) -> Array:
    """The box with the highest score of each sample.

    Args:
        outputs: the detector's ``[n, cells, 5]``: left, top, right, bottom, score.

    Returns:
        ``[n, 4]``.
    """
    return np.asarray(outputs[np.arange(len(outputs)), outputs[:, :, 4].argmax(axis=1), :4])


def overlap(first: Array, second: Array) -> Array:
    """Intersection over union of boxes ``[n, 4]``, one value for each pair."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = [np.prod(np.clip(item[:, 2:] - item[:, :2], 0, None), axis=1) for item in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def _paste(digit: Array, areas: list[Array], side: int, random: Any, anywhere: bool) -> tuple[Array, Array]:
    """One digit on a piece of a photograph, and its box in pixels of the frame."""
    area = areas[random.integers(len(areas))]
    step = int(random.integers(1, 4))
    top, left = (int(random.integers(0, size - side * step + 1)) for size in area.shape[:2])
    piece = area[top : top + side * step, left : left + side * step].astype(np.float32)
    ground = piece.reshape(side, step, side, step, 3).mean(axis=(1, 3))
    # A few pictures are very bright and most are not, as outdoors: the ranges differ from sample to sample.
    ground = ground * float(np.exp(random.normal(-0.9, 0.8)))
    size = int(random.integers(side // 4, side * 5 // 8)) if anywhere else int(random.integers(side * 5 // 8, side + 1))
    ink = resize(digit[:, :, None], size, size)
    y, x = (int(random.integers(0, side - size + 1)) for _ in range(2))
    place = ground[y : y + size, x : x + size]
    dark = place.mean() > 110
    color = random.uniform(0, 40, 3) if dark else random.uniform(0.75, 1, 3) * max(90.0, float(random.uniform(90, 255)))
    ground[y : y + size, x : x + size] = place + ink * (color - place)
    scale = FRAME / side
    box = np.array([x, y, x + size, y + size], np.float32) * np.float32(scale)
    return np.clip(np.rint(ground), 0, 255).astype(np.uint8), box


def _grid_targets(boxes: Array) -> Array:
    """``[n, cells, 5]``: the box and score 1 in the cell of its middle, zeros elsewhere."""
    targets = np.zeros((len(boxes), GRID * GRID, 5), np.float32)
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / (FRAME / GRID)).astype(int).clip(0, GRID - 1)
    rows = np.arange(len(boxes))
    targets[rows, cells[:, 1] * GRID + cells[:, 0], :4] = boxes
    targets[rows, cells[:, 1] * GRID + cells[:, 0], 4] = 1
    return targets


def _box_loss(wanted: Any, seen: Any) -> Any:
    from keras import ops

    score = ops.clip(seen[..., 4], 1e-6, 1 - 1e-6)
    here = wanted[..., 4]
    entropy = -(here * ops.log(score) + (1 - here) * ops.log(1 - score))
    distance = ops.sum(ops.abs(wanted[..., :4] - seen[..., :4]), axis=-1) / FRAME
    return ops.sum(entropy + 5 * here * distance, axis=-1)


def _dead(gamma: Array) -> Array:
    """Which channels of a batch normalisation are dead: those with a scale that no training leaves."""
    return np.abs(gamma) < 1e-5


def _hold_dead_channels(model: Any) -> list[Any]:
    """Keep dead channels dead in training.

    Args:
        model: the network.

    Returns:
        The variables that were given a constraint.
    """
    from keras import ops

    held = []
    for layer in model.layers:
        if type(layer).__name__ != "BatchNormalization" or layer.gamma is None:
            continue
        gamma = np.asarray(layer.gamma)
        if not _dead(gamma).any():
            continue
        keep, fixed = (~_dead(gamma)).astype(np.float32), np.where(_dead(gamma), gamma, 0).astype(np.float32)
        layer.gamma.constraint = lambda value, keep=keep, fixed=fixed: ops.multiply(value, keep) + fixed
        held.append(layer.gamma)
    return held


def _convolution(x: Any, channels: int, kernel: int, stride: int, activation: str | None) -> Any:
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=_MOMENTUM)(x)
    return layers.Activation(activation)(x) if activation else x


def _depthwise(x: Any, kernel: int, stride: int, activation: str) -> Any:
    from keras import layers

    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)(x)
    return layers.Activation(activation)(layers.BatchNormalization(momentum=_MOMENTUM)(x))


def _squeeze_excite(x: Any, inner: int, activation: str, gate: str) -> Any:
    from keras import layers

    channels = x.shape[-1]
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(inner, 1, activation=activation)(squeezed)
    return layers.Multiply()([x, layers.Conv2D(channels, 1, activation=gate)(squeezed)])


def _inverted(
    x: Any, kernel: int, wide: int, out: int, stride: int, activation: str, gates: tuple[str, str] | None
) -> Any:
    """An inverted residual block, with squeeze and excitation where ``gates`` names its two activations."""
    from keras import layers

    start = x
    x = _convolution(x, wide, 1, 1, activation)
    x = _depthwise(x, kernel, stride, activation)
    if gates is not None:
        x = _squeeze_excite(x, max(8, wide // 4), *gates)
    x = _convolution(x, out, 1, 1, None)
    return layers.Add()([start, x]) if stride == 1 and start.shape[-1] == out else x


def _head(x: Any, classes: int = 10) -> Any:
    from keras import layers

    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def _hard_swish(random: Any) -> Any:
    """MobileNetV3 in small, with channels that died."""
    import keras
    from keras import layers

    gates = ("relu", "hard_sigmoid")
    image = keras.Input((32, 32, 3), name="image")
    x = _convolution(image, 16, 3, 2, "hard_swish")
    x = _inverted(x, 3, 16, 16, 1, "relu", gates)
    x = _inverted(x, 3, 64, 24, 2, "relu", None)
    x = _inverted(x, 3, 72, 24, 1, "relu", None)
    x = _inverted(x, 5, 96, 40, 2, "hard_swish", gates)
    x = _inverted(x, 5, 160, 40, 1, "hard_swish", gates)
    x = _convolution(x, 160, 1, 1, "hard_swish")
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(10)(layers.Dense(128, activation="hard_swish")(x)), name="hard_swish")
    _kill(model, random)
    return model


def _kill(model: Any, random: Any) -> None:
    """Let channels die: no weights, or nearly none, with a bias that stays, as networks with ReLU do in long training.

    Args:
        model: the network; each batch normalisation's scale is 0, ±1e-9 or ±1e-6 in some channels.
        random: a generator.
    """
    for layer in model.layers:
        if type(layer).__name__ != "BatchNormalization":
            continue
        gamma, beta = np.asarray(layer.gamma).copy(), np.asarray(layer.beta).copy()
        dead = random.permutation(len(gamma))[: max(2, len(gamma) // _DEAD_SHARE)]
        gamma[dead] = random.choice([0.0, 1e-9, -1e-9, 1e-6, -1e-6], len(dead))
        beta[dead] = random.normal(0, 1, len(dead))
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)


def _silu(random: Any) -> Any:
    """EfficientNet in small."""
    import keras

    gates = ("silu", "sigmoid")
    image = keras.Input((32, 32, 3), name="image")
    x = _convolution(image, 16, 3, 2, "silu")
    x = _inverted(x, 3, 32, 16, 1, "silu", gates)
    x = _inverted(x, 3, 64, 24, 2, "silu", gates)
    x = _inverted(x, 3, 96, 24, 1, "silu", gates)
    x = _inverted(x, 5, 96, 40, 2, "silu", gates)
    x = _inverted(x, 5, 160, 40, 1, "silu", gates)
    x = _convolution(x, 160, 1, 1, "silu")
    return keras.Model(image, _head(x), name="silu")


def _transformer(random: Any) -> Any:
    """A vision transformer in small, with the few large channels that trained ones grow in their residual stream."""
    import keras
    from keras import layers

    width, heads, tokens = 48, 3, 64
    image = keras.Input((32, 32, 3), name="image")
    # Convolutions in place of cut patches learn in few steps (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").
    x = _convolution(_convolution(image, 24, 3, 2, "gelu"), width, 3, 2, None)
    beta = np.zeros(width, np.float32)
    beta[random.permutation(width)[:3]] = (16.0, -10.0, 6.0)
    last = x._keras_history.operation
    last.beta.assign(beta)
    # Where a patch is, it learns from the zeros around the image (Chu et al. 2021, conditional positional encodings).
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Reshape((tokens, width))(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(width)(layers.Dense(2 * width, activation="gelu")(y))
        x = layers.Add()([x, y])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)), name="transformer")


def _boxes_and_scores(random: Any) -> Any:
    """A detector whose head puts boxes in pixels and scores from 0 to 1 into one tensor."""
    import keras
    from keras import layers

    image = keras.Input((64, 64, 3), name="image")
    x = _convolution(image, 16, 3, 2, "relu6")
    for channels, stride in ((32, 2), (48, 1), (64, 2), (96, 1)):
        x = _convolution(_depthwise(x, 3, stride, "relu6"), channels, 1, 1, "relu6")
    x = _convolution(_depthwise(x, 5, 1, "relu6"), 96, 1, 1, "relu6")
    cells = GRID * GRID
    scores = layers.Reshape((cells, 1))(layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=_constant(-3.0))(x))
    # Each cell starts from a box of 80 pixels around its middle; the sigmoid keeps all corners inside the frame.
    step = FRAME / GRID
    middle = np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID)), axis=-1).reshape(1, cells, 2) * step + step / 2
    prior = np.concatenate([middle - 40, middle + 40], axis=-1).clip(2, FRAME - 2) / FRAME
    corners = layers.Reshape((cells, 4))(layers.Conv2D(4, 1)(x)) + np.log(prior / (1 - prior)).astype(np.float32)
    joined = layers.Concatenate()([layers.Activation("sigmoid")(corners) * float(FRAME), scores])
    return keras.Model(image, joined, name="boxes_and_scores")


def _constant(value: float) -> Any:
    import keras

    return keras.initializers.Constant(value)


def _wide_channels(random: Any) -> Any:
    """MobileNetV1 in small, its channels of widely different sizes."""
    import keras

    image = keras.Input((32, 32, 3), name="image")
    x = _convolution(image, 16, 3, 2, "relu6")
    for channels, stride in ((32, 1), (48, 2), (64, 1), (96, 2), (128, 1)):
        x = _convolution(_depthwise(x, 3, stride, "relu6"), channels, 1, 1, "relu6")
    model = keras.Model(image, _head(x), name="wide_channels")
    _spread_channels(model, random)
    return model


def _spread_channels(model: Any, random: Any) -> None:
    """Give each channel a size of its own between 1/32 and 2, and the layer that reads it weights that undo that.

    Args:
        model: a chain of convolutions, each with batch normalisation.
        random: a generator.
    """
    previous = None
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in ("Conv2D", "DepthwiseConv2D", "Dense") and previous is not None:
            kernel = np.asarray(layer.kernel)
            layer.kernel.assign(kernel / previous[:, None])  # input channels are the last axis but one in all three
        if kind == "BatchNormalization":
            previous = np.exp2(random.uniform(-5, 1, layer.gamma.shape)).astype(np.float32)
            layer.gamma.assign(previous)


#: The networks by name.
MODELS: dict[str, HardModel] = {
    "hard_swish": HardModel(
        "hard-swish, squeeze-excite",
        "MobileNetV3's activations, and one channel in eight dead",
        32,
        10,
        4e-3,
        _hard_swish,
    ),
    "silu": HardModel(
        "SiLU", "EfficientNet's activation and gates, ranges that differ between samples", 32, 6, 4e-3, _silu
    ),
    "transformer": HardModel(
        "transformer",
        "layer norm, GELU, softmax, three large channels in the residual stream",
        32,
        12,
        2e-3,
        _transformer,
    ),
    "boxes_and_scores": HardModel(
        "detector", "boxes from 0 to 320 and scores from 0 to 1 in one tensor", 64, 10, 4e-3, _boxes_and_scores, True
    ),
    "wide_channels": HardModel(
        "ReLU6 depthwise", "MobileNetV1's layers, channels from 1/32 to 2 in size", 32, 10, 4e-3, _wide_channels
    ),
}
