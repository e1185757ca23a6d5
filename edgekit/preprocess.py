"""Turn an image into what a model was trained on, with numpy alone, the same on every machine.

Calibration, verification and the device call the same code, so that the ranges that were measured
are the ranges that occur.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import OptionError, TensorError
from edgekit.records import Record
from edgekit.tensors import Array


class Preprocessing(Record):
    """Resize, colour order and normalisation of one input, in this order.

    Attributes:
        resize: target width and height in pixels, or ``None`` to leave the size.
        color: ``"rgb"`` or ``"bgr"``: the order that the model was trained on, images being given in
            RGB; ``None`` when the input is not a colour image.
        mean: subtracted; one value, or one for each channel; empty for none.
        std: divided by afterwards; as many values as ``mean``.

    Raises:
        OptionError: values that make no sense together.
    """

    resize: tuple[int, int] | None = None
    color: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def _check(self) -> None:
        if len(self.mean) != len(self.std):
            raise OptionError(f"normalisation has {len(self.mean)} means and {len(self.std)} standard deviations.")
        if any(value == 0 for value in self.std):
            raise OptionError("normalisation divides by 0: a standard deviation must not be 0.")
        if not all(np.isfinite(value) for value in (*self.mean, *self.std)):
            raise OptionError("normalisation with NaN or infinity: finite numbers were expected.")
        if self.color not in (None, "rgb", "bgr"):
            raise OptionError(f"unknown color {self.color!r}: expected rgb or bgr.")
        if self.resize is not None and not all(1 <= side <= 65536 for side in self.resize):
            raise OptionError(
                f"cannot resize to {self.resize[0]}x{self.resize[1]}: sizes from 1 to 65536 were expected."
            )

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self == Preprocessing() or self == Preprocessing(color="rgb")

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "resize": list(self.resize) if self.resize else None,
            "color": self.color,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        """Read the manifest's form; unknown keys are ignored."""
        resize = data.get("resize")
        return cls(
            resize=(int(resize[0]), int(resize[1])) if resize else None,
            color=data.get("color"),
            mean=tuple(float(value) for value in data.get("mean", ())),
            std=tuple(float(value) for value in data.get("std", ())),
        )

    def apply(self, images: Array) -> Array:
        """Preprocess one image or a batch.

        Args:
            images: ``[height, width, channels]`` or ``[n, height, width, channels]`` where a resize
                or a colour order is asked for, any shape otherwise; any numeric dtype.

        Returns:
            float32 values.

        Raises:
            TensorError: they are not numbers, the shape is not an image's, or the channels do not fit.
        """
        work = np.asarray(images)
        if work.dtype.kind not in "fiub":
            raise TensorError(f"cannot preprocess values of dtype {work.dtype}: numbers were expected.")
        if (self.resize or self.color == "bgr") and (work.ndim not in (3, 4) or 0 in work.shape):
            raise TensorError(
                f"cannot preprocess shape {list(work.shape)} as an image: [height, width, channels] or "
                "[n, height, width, channels] was expected."
            )
        if self.color == "bgr":
            if work.shape[-1] != 3:
                raise TensorError(f"cannot reorder {work.shape[-1]} channels to BGR: 3 were expected.")
            work = work[..., ::-1]
        if self.resize is not None:
            work = resize(work, self.resize[0], self.resize[1])
        if self.mean:
            channels = work.shape[-1] if work.ndim else "has no axes"
            if len(self.mean) > 1 and len(self.mean) != channels:
                raise TensorError(f"normalisation has {len(self.mean)} channels, the input {channels}.")
            work = (work - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.asarray(work, dtype=np.float32, order="C")  # ascontiguousarray would give a scalar an axis


def from_options(
    normalize: Sequence[float] | str | None, resize: tuple[int, int] | str | None, color: str | None
) -> Preprocessing:
    """Read the three options that the command line and ``edgekit.convert`` share.

    Args:
        normalize: ``"MEAN,STD"`` or numbers: one mean and one standard deviation, or as many of each as there are
            channels, all means first; ``"none"`` and ``None`` normalise nothing.
        resize: ``"WxH"`` or ``(width, height)``.
        color: ``"rgb"``, ``"bgr"`` or ``None``.

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
    size: tuple[int, int] | None = None
    if resize is not None:
        try:
            if isinstance(resize, str):
                width, height = (int(part) for part in resize.lower().split("x"))
            else:
                width, height = (operator.index(side) for side in resize)
            size = (width, height)
        except (TypeError, ValueError) as error:
            raise OptionError(f"cannot read --resize {resize!r}: WIDTHxHEIGHT such as 224x224 was expected.") from error
    return Preprocessing(size, color, mean, std)


def _weights(source: int, target: int) -> Array:
    """One axis of the resize as a ``[target, source]`` matrix, rows summing to one."""
    scale = source / target
    support = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source)[None, :] - centers[:, None]) / support
    weights = np.clip(1.0 - distance, 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resize(images: Array, width: int, height: int) -> Array:
    """Resize with a triangle filter whose width grows with the reduction (antialiased bilinear).

    This is the filter that Pillow calls ``BILINEAR``; results differ from it by its rounding to
    integers only.

    Args:
        images: ``[..., height, width, channels]``, any numeric dtype.
        width: target width in pixels.
        height: target height in pixels.

    Returns:
        float32 ``[..., height, width, channels]``.
    """
    work = np.asarray(images, dtype=np.float32)
    if work.shape[-3] != height:
        work = np.einsum("th,...hwc->...twc", _weights(work.shape[-3], height), work, optimize=True)
    if work.shape[-2] != width:
        work = np.einsum("tw,...hwc->...htc", _weights(work.shape[-2], width), work, optimize=True)
    return work
