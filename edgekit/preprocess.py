"""Turn an image into what a model was trained on, with numpy alone, the same on every machine.

Calibration, verification and the device call the same code, so that the ranges that were measured
are the ranges that occur.

An image is resized band by band: a few rows of the result need a few rows of the photo, and only those are in memory as
float32. A photo of 12 megapixels becomes 224x224 with about 4 MB of memory beside the photo itself, and of a result that
is cropped afterwards only the part that is kept is computed.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import OptionError, TensorError
from edgekit.records import Record
from edgekit.tensors import Array

#: Sides of images, before and after.
_MAX_SIDE = 65536
#: How many of an image's rows, or columns, a band of the result needs, about: with more there would be more zeros to multiply
#: with and more memory to hold, with fewer more calls of numpy.
_BAND = 64
_LARGEST_BAND = 64


class Preprocessing(Record):
    """Colour order, resize, centre crop and normalisation of one input, in this order.

    What image classifiers are mostly trained with is one resize to the model's size (``resize=(224, 224)``), or the shorter
    side resized and the centre cut out (``resize_shorter=256, crop=(224, 224)``), which keeps the proportions.

    Attributes:
        resize: target width and height in pixels, or ``None`` to leave the size.
        color: ``"rgb"`` or ``"bgr"``: the order that the model was trained on, images being given in
            RGB; ``None`` when the input is not a colour image.
        mean: subtracted; one value, or one for each channel; empty for none.
        std: divided by afterwards; as many values as ``mean``.
        crop: width and height in pixels to cut out of the centre, after the resize; ``None`` for the whole image.
        resize_shorter: the shorter side's target in pixels, the longer one following in proportion; instead of ``resize``.

    Raises:
        OptionError: values that make no sense together.
    """

    resize: tuple[int, int] | None = None
    color: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop: tuple[int, int] | None = None
    resize_shorter: int | None = None

    def _check(self) -> None:
        if len(self.mean) != len(self.std):
            raise OptionError(f"normalisation has {len(self.mean)} means and {len(self.std)} standard deviations.")
        if any(value == 0 for value in self.std):
            raise OptionError("normalisation divides by 0: a standard deviation must not be 0.")
        if not all(np.isfinite(value) for value in (*self.mean, *self.std)):
            raise OptionError("normalisation with NaN or infinity: finite numbers were expected.")
        if self.color not in (None, "rgb", "bgr"):
            raise OptionError(f"unknown color {self.color!r}: expected rgb or bgr.")
        for what, sides in (("resize", self.resize), ("crop", self.crop)):
            if sides is not None and not all(1 <= side <= _MAX_SIDE for side in sides):
                raise OptionError(f"cannot {what} to {sides[0]}x{sides[1]}: sizes from 1 to {_MAX_SIDE} were expected.")
        shorter = self.resize_shorter
        if shorter is not None and not 1 <= shorter <= _MAX_SIDE:
            raise OptionError(
                f"cannot resize the shorter side to {shorter}: a size from 1 to {_MAX_SIDE} was expected."
            )
        if shorter is not None and self.resize is not None:
            raise OptionError(
                f"resize to {self.resize[0]}x{self.resize[1]} and of the shorter side to {shorter}: one was expected."
            )
        self._check_crop()

    def _check_crop(self) -> None:
        if self.crop is None:
            return
        width, height = self.crop
        if self.resize is not None:
            fits, of = width <= self.resize[0] and height <= self.resize[1], f"{self.resize[0]}x{self.resize[1]}"
        elif self.resize_shorter is not None:
            fits, of = min(self.crop) <= self.resize_shorter, f"a shorter side of {self.resize_shorter}"
        else:
            return
        if not fits:
            raise OptionError(
                f"cannot crop {width}x{height} out of images of {of}: a smaller crop or a larger resize was expected."
            )

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self == Preprocessing() or self == Preprocessing(color="rgb")

    @property
    def changes_size(self) -> bool:
        """Whether images are resized or cropped."""
        return self.resize is not None or self.resize_shorter is not None or self.crop is not None

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        data: dict[str, Any] = {
            "resize": list(self.resize) if self.resize else None,
            "color": self.color,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        # Only where they are used, so that files without them stay what they were, to the byte.
        if self.crop is not None:
            data["crop"] = list(self.crop)
        if self.resize_shorter is not None:
            data["resize_shorter"] = self.resize_shorter
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        """Read the manifest's form; unknown keys are ignored."""
        resize, crop, shorter = data.get("resize"), data.get("crop"), data.get("resize_shorter")
        return cls(
            resize=(int(resize[0]), int(resize[1])) if resize else None,
            color=data.get("color"),
            mean=tuple(float(value) for value in data.get("mean", ())),
            std=tuple(float(value) for value in data.get("std", ())),
            crop=(int(crop[0]), int(crop[1])) if crop else None,
            resize_shorter=int(shorter) if shorter is not None else None,
        )

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an image after the resize and before the crop.

        The longer side is cut to whole pixels, as torchvision does it
        (``torchvision.transforms.functional._compute_resized_output_size``).

        Args:
            width: of the image, in pixels.
            height: likewise.
        """
        if self.resize is not None:
            return self.resize
        if self.resize_shorter is None:
            return width, height
        shorter = self.resize_shorter
        if width <= height:
            return shorter, int(shorter * height / width)
        return int(shorter * width / height), shorter

    def apply(self, images: Array) -> Array:
        """Preprocess one image or a batch.

        Args:
            images: ``[height, width, channels]`` or ``[n, height, width, channels]`` where a size
                or a colour order is asked for, any shape otherwise; any numeric dtype.

        Returns:
            float32 values.

        Raises:
            TensorError: they are not numbers, the shape is not an image's, it is smaller than the crop, or the channels do
                not fit.
        """
        work = np.asarray(images)
        if work.dtype.kind not in "fiub":
            raise TensorError(f"cannot preprocess values of dtype {work.dtype}: numbers were expected.")
        if (self.changes_size or self.color == "bgr") and (work.ndim not in (3, 4) or 0 in work.shape):
            raise TensorError(
                f"cannot preprocess shape {list(work.shape)} as an image: [height, width, channels] or "
                "[n, height, width, channels] was expected."
            )
        if self.color == "bgr" and work.shape[-1] != 3:
            raise TensorError(f"cannot reorder {work.shape[-1]} channels to BGR: 3 were expected.")
        if self.changes_size:
            work = self._sized(work)
        if self.color == "bgr":
            work = work[..., ::-1]  # after the resize, which knows no channels: there are fewer pixels to turn around
        if self.mean:
            work = self._normalised(work)
        return np.asarray(work, dtype=np.float32, order="C")  # ascontiguousarray would give a scalar an axis

    def _sized(self, work: Array) -> Array:
        width, height = self.resized(work.shape[-2], work.shape[-3])
        if self.crop is None:
            if max(width, height) > _MAX_SIDE:  # a line of pixels would become gigabytes
                raise TensorError(
                    f"an image of {work.shape[-2]}x{work.shape[-3]} would become {width}x{height}: sides up to {_MAX_SIDE} "
                    "were expected. Crop the centre out of it, or give an image of other proportions."
                )
            return resize(work, width, height)
        across, down = self.crop
        if across > width or down > height:
            raise TensorError(
                f"cannot crop {across}x{down} out of an image of {width}x{height} (width x height): a larger image, a "
                "resize before the crop, or a smaller crop was expected."
            )
        left, top = _centre(width, across), _centre(height, down)
        if (width, height) == (work.shape[-2], work.shape[-3]):
            return work[..., top : top + down, left : left + across, :]
        return resize(work, width, height, window=(left, top, across, down))

    def _normalised(self, work: Array) -> Array:
        channels = work.shape[-1] if work.ndim else "has no axes"
        if len(self.mean) > 1 and len(self.mean) != channels:
            raise TensorError(f"normalisation has {len(self.mean)} channels, the input {channels}.")
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        shape = work.shape
        if len(self.mean) > 1 and work.ndim > 1:
            # One row of all columns' means: numpy is three times as fast with long rows as with rows of three channels.
            work = work.reshape(*shape[:-2], shape[-2] * shape[-1])
            mean, std = np.tile(mean, shape[-2]), np.tile(std, shape[-2])
        result = np.asarray(work - mean)
        result /= std
        return result.reshape(shape)


def from_options(
    normalize: Sequence[float] | str | None,
    resize: tuple[int, int] | int | str | None,
    color: str | None,
    crop: tuple[int, int] | str | None = None,
) -> Preprocessing:
    """Read the four options that the command line and ``edgekit.convert`` share.

    Args:
        normalize: ``"MEAN,STD"`` or numbers: one mean and one standard deviation, or as many of each as there are
            channels, all means first; ``"none"`` and ``None`` normalise nothing.
        resize: ``"WxH"`` or ``(width, height)``; one number, such as ``"256"``, is for the shorter side, the longer one
            following in proportion.
        color: ``"rgb"``, ``"bgr"`` or ``None``.
        crop: ``"WxH"`` or ``(width, height)``, cut out of the centre after the resize.

    Raises:
        OptionError: a text that is not of its form.
    """
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if normalize is not None and normalize != "none":
        try:
            parts = normalize.split(",") if isinstance(normalize, str) else list(normalize)
            numbers = tuple(float(part) for part in parts)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"cannot read --normalize {normalize!r}: MEAN,STD such as 127.5,127.5 was expected."
            ) from error
        if not numbers or len(numbers) % 2:
            raise OptionError(
                f"--normalize has {len(numbers)} numbers: one mean and one standard deviation were expected, or as many "
                "of each as there are channels, all means first."
            )
        mean, std = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    shorter = _one_number(resize)
    size = _two_sides("--resize", resize, ", or 256 for the shorter side,") if shorter is None else None
    return Preprocessing(size, color, mean, std, _two_sides("--crop", crop), shorter)


def _one_number(value: tuple[int, int] | int | str | None) -> int | None:
    """A side on its own; ``None`` for everything else."""
    if isinstance(value, str):
        return int(value) if value.strip().isdecimal() else None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # asking is the way to know
    except TypeError:
        return None


def _two_sides(option: str, value: Any, other: str = "") -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            width, height = (int(part) for part in value.lower().split("x"))
        else:
            width, height = (operator.index(side) for side in value)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"cannot read {option} {value!r}: WIDTHxHEIGHT such as 224x224{other} was expected."
        ) from error
    return width, height


def _centre(whole: int, part: int) -> int:
    """Where the middle ``part`` of ``whole`` pixels begins, as torchvision rounds it (``functional.center_crop``)."""
    return round((whole - part) / 2)


@functools.lru_cache(maxsize=8)
def _bands(source: int, target: int, first: int, count: int) -> tuple[tuple[slice, slice, Array], ...]:
    """One axis of the resize, in bands of a few rows of the result.

    A camera's images are all of one size, so that the last few are remembered.

    Args:
        source: the axis' size before.
        target: its size afterwards.
        first: the first of the target's places that is wanted.
        count: how many are.

    Returns:
        For each band its places in the result, the source's places that it needs, and the weights of these: a matrix
        with rows that sum to one.
    """
    scale = source / target
    support = max(scale, 1.0)
    band = min(max(1, int(_BAND / scale)), _LARGEST_BAND)
    found = []
    for begin in range(first, first + count, band):
        end = min(begin + band, first + count)
        centers = (np.arange(begin, end) + 0.5) * scale - 0.5
        low = max(0, math.floor(centers[0] - support) + 1)
        high = min(source, math.ceil(centers[-1] + support))
        distance = np.abs(np.arange(low, high)[None, :] - centers[:, None]) / support
        weights = np.clip(1.0 - distance, 0.0, None)
        weights = np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
        weights.flags.writeable = False
        found.append((slice(begin - first, end - first), slice(low, high), weights))
    return tuple(found)


def resize(images: Array, width: int, height: int, *, window: tuple[int, int, int, int] | None = None) -> Array:
    """Resize with a triangle filter whose width grows with the reduction (antialiased bilinear).

    This is the filter that Pillow calls ``BILINEAR``; results differ from it by its rounding to
    integers only.

    Args:
        images: ``[..., height, width, channels]``, any numeric dtype.
        width: target width in pixels.
        height: target height in pixels.
        window: left, top, width and height, in pixels of the result, of the part that is wanted; ``None`` for all of it.

    Returns:
        float32 ``[..., height, width, channels]``, of the window's size where there is one.
    """
    work = np.asarray(images)
    rows, columns, channels = work.shape[-3:]
    left, top, across, down = window if window is not None else (0, 0, width, height)
    if (rows, columns) == (height, width):
        return np.asarray(work[..., top : top + down, left : left + across, :], dtype=np.float32)
    result = np.empty((*work.shape[:-3], down, across, channels), np.float32)
    flat = result.reshape(-1, down, across, channels)
    for image, target in zip(work.reshape(-1, rows, columns, channels), flat, strict=True):
        _resize_one(image, target, (width, height), (left, top))
    return result


def _resize_one(image: Array, target: Array, size: tuple[int, int], offset: tuple[int, int]) -> None:
    """Fill ``target`` with its part of ``image``, resized."""
    rows, columns, channels = image.shape
    down, across, _ = target.shape
    (width, height), (left, top) = size, offset
    sideways = _bands(columns, width, left, across) if columns != width else ()
    begin, end = (sideways[0][1].start, sideways[-1][1].stop) if sideways else (left, left + across)
    upright = _bands(rows, height, top, down) if rows != height else _untouched(top, down)
    for places, needed, weights in upright:
        part = np.asarray(image[needed, begin:end], dtype=np.float32, order="C")
        if weights is not None:
            part = (weights @ part.reshape(len(part), -1)).reshape(len(weights), end - begin, channels)
        if not sideways:
            target[places] = part
            continue
        # Columns first, so that each band of them is one product of matrices as well.
        turned = np.asarray(part.transpose(1, 0, 2), order="C").reshape(end - begin, -1)
        narrow = np.empty((across, turned.shape[1]), np.float32)
        for where, taken, factors in sideways:
            np.matmul(factors, turned[taken.start - begin : taken.stop - begin], out=narrow[where])
        target[places] = narrow.reshape(across, len(part), channels).transpose(1, 0, 2)


def _untouched(first: int, count: int) -> tuple[tuple[slice, slice, None], ...]:
    """The bands of an axis that keeps its size."""
    edges = [*range(0, count, _LARGEST_BAND), count]
    return tuple(
        (slice(begin, end), slice(first + begin, first + end), None) for begin, end in itertools.pairwise(edges)
    )
