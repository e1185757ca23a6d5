"""What the zoo's networks are trained, calibrated and tested on: coloured digits on photographs, and spoken words.

Pictures are scikit-learn's handwritten digits drawn onto crops of its two sample photographs, both of which come inside that package.
Training and test share neither a digit nor a part of a photograph. The class is the digit's colour: which digit it is takes large networks
longer to learn than a minute. Words are the assets' keyword data.
"""

from __future__ import annotations

import colorsys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.tensors import Array

#: How many colours there are.
COLORS = 10
_TRAIN_DIGITS, _TRAIN_PHOTO = 1200, 0.6
#: Of the assets' labelled words these many are for training; the others are for the test.
_TRAIN_WORDS = 500


@dataclass(frozen=True)
class Samples:
    """Inputs with what is to be found in them.

    Attributes:
        inputs: uint8 images ``[n, side, side, 3]``, or float32 features of words ``[n, 49, 10, 1]``.
        labels: ``[n]`` classes.
        boxes: ``[n, 4]`` left, top, right and bottom as shares of the side; empty for words.
        masks: ``[n, side, side]`` classes of the pixels, 0 for none; empty where they were not asked for.
    """

    inputs: Array
    labels: Array
    boxes: Array
    masks: Array


def pictures(
    side: int, count: int, seed: int, *, test: bool = False, anywhere: bool = False, masks: bool = False
) -> Samples:
    """Coloured digits on photographs.

    Args:
        side: of the square images, in pixels.
        count: how many.
        seed: of where and how the digits are drawn.
        test: other digits and other parts of the photographs than for training.
        anywhere: small digits in any place, for what has to find them; else they fill most of the image.
        masks: make the pixels' classes as well.
    """
    from PIL import Image
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits().images
    order = np.random.default_rng(0).permutation(len(digits))
    chosen = order[_TRAIN_DIGITS:] if test else order[:_TRAIN_DIGITS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn reads its photographs with a function that Pillow calls old
        photos = load_sample_images().images
    border = int(photos[0].shape[1] * _TRAIN_PHOTO)
    areas = [Image.fromarray(photo[:, border:] if test else photo[:, :border]) for photo in photos]
    random = np.random.default_rng([seed, int(test)])
    images = np.empty((count, side, side, 3), np.uint8)
    found = np.zeros((count, side, side) if masks else (0,), np.uint8)
    labels, boxes = np.empty(count, np.int64), np.empty((count, 4), np.float32)
    for number in range(count):
        pick = chosen[number % len(chosen)]
        area = areas[random.integers(len(areas))]
        edge = int(random.integers(64, min(area.size)))
        left, top = (int(random.integers(0, size - edge + 1)) for size in area.size)
        piece = area.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))
        ground = np.asarray(piece, np.float32)
        # Half of the photograph's contrast, at many brightnesses: a minute of training is to be enough.
        ground = (0.5 * ground + 0.5 * ground.mean()) * np.float32(np.exp(random.normal(-0.4, 0.4)))
        low, high = (side // 4, side * 5 // 8) if anywhere else (side * 7 // 8, side)
        size = int(random.integers(low, high + 1))
        digit = Image.fromarray((digits[pick] * (255 / 16)).astype(np.uint8))
        ink = np.asarray(digit.resize((size, size), Image.Resampling.BICUBIC), np.float32)[..., None] / 255
        x, y = (int(random.integers(0, side - size + 1)) for _ in range(2))
        place = ground[y : y + size, x : x + size]
        labels[number] = random.integers(COLORS)
        hue = (labels[number] + random.uniform(-0.2, 0.2)) / COLORS
        color = np.array(colorsys.hsv_to_rgb(hue % 1, random.uniform(0.8, 1), random.uniform(0.7, 1))) * 255
        ground[y : y + size, x : x + size] = place + ink * (color.astype(np.float32) - place)
        images[number] = np.clip(np.rint(ground), 0, 255)
        boxes[number] = np.array([x, y, x + size, y + size], np.float32) / side
        if masks:
            found[number, y : y + size, x : x + size] = np.where(ink[..., 0] > 0.4, labels[number] + 1, 0)
    return Samples(images, labels, boxes, found)


def words(assets: Path, *, test: bool = False) -> Samples:
    """The labelled words among the assets, a part of them for training.

    Args:
        assets: folder of real models and data.
        test: those that are not for training.
    """
    with np.load(assets / "data" / "keyword_spotting.npz") as arrays:
        part = slice(_TRAIN_WORDS, None) if test else slice(None, _TRAIN_WORDS)
        inputs, labels = arrays["test"][part], arrays["test_labels"][part]
    return Samples(inputs, labels, np.empty((0, 4), np.float32), np.empty((0,), np.uint8))


def shaken_words(samples: Samples, count: int, seed: int) -> Samples:
    """More words: each a little earlier or later, louder or softer, with noise.

    Args:
        samples: the words.
        count: how many to make.
        seed: of the changes.
    """
    random = np.random.default_rng(seed)
    picks = np.arange(count) % len(samples.labels)
    spread = samples.inputs.std(axis=(0, 1, 3), keepdims=True)
    made = np.stack([np.roll(samples.inputs[pick], random.integers(-5, 6), axis=0) for pick in picks])
    made = made * random.uniform(0.85, 1.15, (count, 1, 1, 1)) + random.normal(0, 0.25, made.shape) * spread
    return Samples(made.astype(np.float32), samples.labels[picks], samples.boxes, samples.masks)
