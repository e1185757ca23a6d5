"""Which networks the zoo has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo import classifiers, dense, recurrent


@dataclass(frozen=True)
class Item:
    """One network.

    Attributes:
        title: what tables call it.
        task: ``colors`` (one of ten), ``boxes``, ``masks`` (a class for each pixel) or ``words``.
        make: builds it, untrained; of the side, but for words.
        side: of its square input, in pixels.
        train_side: of the images that it is trained on; where that is smaller, statistics and last layer are
            learned again at its own side.
        normalize: see ``edgekit.convert``.
        epochs: of training.
        count: training samples of each epoch.
        rate: the highest learning rate.
    """

    title: str
    task: str
    make: Callable[..., Any]
    side: int
    train_side: int
    normalize: str | None
    epochs: int
    count: int
    rate: float


_SIGNED, _RAW = "127.5,127.5", "none"


def _application(title: str, name: str, normalize: str, train_side: int, epochs: int, count: int) -> Item:
    """One of keras.applications at 224 pixels."""
    make = partial(classifiers.application, name)
    return Item(title, "colors", make, 224, train_side, normalize, epochs, count, 3e-3)


#: The networks by name.
ZOO: dict[str, Item] = {
    "mobilenet_v3_small": _application("MobileNetV3-small 224", "MobileNetV3Small", _RAW, 96, 2, 800),
    "vit": Item("ViT, 144 tokens × 96, 4 blocks", "colors", classifiers.vit, 96, 96, _SIGNED, 2, 800, 1e-3),
    "yolo": Item("YOLO-like, SiLU, 160", "boxes", dense.yolo, 160, 160, _SIGNED, 3, 1000, 3e-3),
    "mobilenet_v2": _application("MobileNetV2 1.0 224", "MobileNetV2", _SIGNED, 64, 2, 800),
    "mobilenet_v1": _application("MobileNetV1 1.0 224", "MobileNet", _SIGNED, 64, 2, 800),
    "mobilenet_v3_large": _application("MobileNetV3-large 224", "MobileNetV3Large", _RAW, 64, 2, 800),
    "efficientnet_b0": _application("EfficientNet-B0 224", "EfficientNetB0", _RAW, 64, 2, 800),
    "resnet18": Item("ResNet-18-like 128", "colors", classifiers.resnet18, 128, 64, _SIGNED, 2, 800, 1e-3),
    "mobilevit": Item("MobileViT-like 128", "colors", classifiers.mobilevit, 128, 64, _SIGNED, 2, 800, 2e-3),
    "deeplab": Item("DeepLab-like 160", "masks", dense.deeplab, 160, 80, _SIGNED, 3, 800, 3e-3),
    "lstm": Item("LSTM, keyword spotting", "words", partial(recurrent.keywords, "LSTM"), 0, 0, None, 8, 4000, 3e-3),
    "gru": Item("GRU, keyword spotting", "words", partial(recurrent.keywords, "GRU"), 0, 0, None, 8, 4000, 3e-3),
}
