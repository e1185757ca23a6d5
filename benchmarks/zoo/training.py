"""How the zoo's networks are made: built, trained briefly, and brought to their own input size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.preprocess import from_options
from edgekit.tensors import Array
from edgekit_convert.frontends.freeze import import_tensorflow
from zoo import data, dense
from zoo.data import Samples
from zoo.items import ZOO, Item

_BATCH = 32
#: Samples for the statistics and the last layer at a network's own size.
_STATISTICS, _LAST = 64, 600
_LAST_EPOCHS = 100
#: What a pixel of a digit counts for, where most are none.
_MARKED = 5.0
#: Training samples at most where fewer epochs were asked for.
_QUICK = 128


@dataclass(frozen=True)
class Made:
    """A trained network with its data.

    Attributes:
        model: a Keras model.
        calibration: raw samples, from the training data.
        test: raw samples that it was not trained on.
        labels: the test samples' classes ``[n]``, boxes ``[n, 4]`` or pixels' classes ``[n, side, side]``.
    """

    model: Any
    calibration: Array
    test: Array
    labels: Array


def made(
    name: str,
    *,
    seed: int = 0,
    epochs: int | None = None,
    assets: Path | None = None,
    calibration: int = 100,
    test: int = 200,
) -> Made:
    """Build and train one network.

    Args:
        name: a key of ``ZOO``.
        seed: of its weights and its data.
        epochs: fewer than its own and on few samples, for a quick look.
        assets: folder of real data, which the networks for words need.
        calibration: how many samples to calibrate on.
        test: how many samples to test on, or fewer where there are not so many.
    """
    import_tensorflow()
    import keras

    item = ZOO[name]
    if epochs is not None:
        item = replace(item, count=min(item.count, _QUICK))
    keras.utils.set_random_seed(seed)
    if item.task == "words":
        if assets is None:
            raise FileNotFoundError("the networks for words need the assets' keyword data: give --assets")
        own = data.words(assets)
        known, unknown = data.shaken_words(own, item.count, seed), data.words(assets, test=True)
        model = item.make()
        _fit(model, item, known, seed, epochs)
        return Made(model, own.inputs[:calibration], unknown.inputs[:test], unknown.labels[:test])
    known = _pictures(item, item.train_side, item.count, seed)
    model = item.make(item.train_side)
    _fit(model, item, known, seed, epochs)
    own = known
    if item.side != item.train_side:
        own = _pictures(item, item.side, max(min(_LAST, item.count), calibration), seed + 1)
        model = _at_side(model, item, own)
    if item.task == "colors":
        _fit_last(model, item, own, epochs)
    unknown = _pictures(item, item.side, test, seed, test=True)
    labels = {"boxes": unknown.boxes, "masks": unknown.masks}.get(item.task, unknown.labels)
    return Made(model, own.inputs[:calibration], unknown.inputs, labels)


def _pictures(item: Item, side: int, count: int, seed: int, *, test: bool = False) -> Samples:
    return data.pictures(
        side, count, seed, test=test, anywhere=item.task in ("boxes", "masks"), masks=item.task == "masks"
    )


def ready(item: Item, inputs: Array) -> Array:
    """Samples as the network takes them."""
    return np.asarray(from_options(item.normalize, None, None).apply(inputs), np.float32)


def _fit(model: Any, item: Item, known: Samples, seed: int, epochs: int | None) -> None:
    import keras

    epochs = epochs or item.epochs
    steps = epochs * -(-len(known.inputs) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        item.rate / 20, steps, 0.01, warmup_target=item.rate, warmup_steps=max(1, steps // 10)
    )
    targets, weights = known.labels, None
    loss = _classes_loss(model)
    if item.task == "boxes":
        targets, loss = dense.box_targets(known.boxes, item.train_side), dense.box_loss
    elif item.task == "masks":
        targets, weights = known.masks, np.where(known.masks > 0, _MARKED, 1.0)
    keras.utils.set_random_seed(seed)
    # Compiling such networks with XLA takes longer than training them.
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss=loss, jit_compile=False)
    model.fit(ready(item, known.inputs), targets, sample_weight=weights, batch_size=_BATCH, epochs=epochs, verbose=0)


def _at_side(trained: Any, item: Item, own: Samples) -> Any:
    """The same weights for another input size, with batch-norm statistics of that size.

    Args:
        trained: the network as it was trained.
        item: what it is.
        own: samples of its own size.
    """
    model = item.make(item.side)
    model.set_weights(trained.get_weights())
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0  # one pass in training mode leaves exactly this batch's statistics
    model(ready(item, own.inputs[:_STATISTICS]), training=True)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    return model


def _fit_last(model: Any, item: Item, own: Samples, epochs: int | None) -> None:
    """Fit the last layer with weights alone, which takes seconds and makes the answers sure.

    Args:
        model: a network that tells classes.
        item: what it is.
        own: samples of its own size.
        epochs: fewer than usual, or ``None``.
    """
    import keras

    last = next(layer for layer in reversed(model.layers) if layer.weights)
    trunk = keras.Model(model.input, last.input)
    images = ready(item, own.inputs[:_LAST])
    features = np.concatenate([np.asarray(trunk(images[at : at + _BATCH])) for at in range(0, len(images), _BATCH)])
    given = keras.Input(features.shape[1:])
    x = given
    for layer in model.layers[model.layers.index(last) :]:
        x = layer(x)
    head = keras.Model(given, x)
    head.compile(keras.optimizers.Adam(2e-3), loss=_classes_loss(model), jit_compile=False)
    head.fit(features, own.labels[: len(features)], batch_size=_BATCH, epochs=epochs or _LAST_EPOCHS, verbose=0)


def _classes_loss(model: Any) -> Any:
    """Cross entropy; the last layer's own activation tells whether it gives probabilities."""
    import keras

    logits = "softmax" not in str(getattr(model.layers[-1], "activation", ""))
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
