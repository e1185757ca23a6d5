"""Small PyTorch networks, as functions that ``--model torch_nets:...`` names. Importing this needs PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Classifier(nn.Module):
    """Convolution, normalisation, pooling and a dense layer; dropout, which evaluation switches off."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.dense = nn.Linear(8, classes)

    def forward(self, image: Any) -> Any:
        """``[n, 3, height, width]`` to ``[n, classes]``."""
        pixels = functional.max_pool2d(torch.relu(self.norm(self.conv(image))), 2)
        return self.dense(self.drop(pixels.mean((2, 3))))


class Segmenter(nn.Module):
    """Two maps, one of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

    def forward(self, x: Any) -> dict[str, Any]:
        """``[n, 3, height, width]`` to maps of 4 and 8 channels."""
        small = torch.relu(self.down(x))
        return {"map": functional.softmax(self.up(small), 1), "features": small}


class Two(nn.Module):
    """An image and numbers; outputs in a dictionary, one of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 8, 3), nn.Linear(6, 8)

    def forward(self, image: Any, numbers: Any, gain: Any = None) -> dict[str, Any]:
        """``gain`` has a default, so that it is no input unless it is named."""
        inner = self.dense(numbers)
        score = self.conv(image).mean((2, 3)) + inner
        return {"score": score if gain is None else score * gain, "more": [inner]}


class Words(nn.Module):
    """Indices of words to scores."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.dense = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, ids: Any) -> Any:
        """``[n, length]`` whole numbers below 20 to ``[n, 3]``."""
        return self.dense(self.words(ids).mean(1))


class Sound(nn.Module):
    """A convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv1d(4, 8, 5), nn.Linear(8, 3)

    def forward(self, signal: Any) -> Any:
        """``[n, 4, length]`` to ``[n, 3]``."""
        return self.dense(torch.relu(self.conv(signal)).mean(2))


class Warp(nn.Module):
    """Samples an image at places that are an input as well."""

    def forward(self, image: Any, places: Any) -> Any:
        """``[n, c, h, w]`` and ``[n, h, w, 2]`` to ``[n, c, h, w]``."""
        return functional.grid_sample(image, places, align_corners=False)


class Singular(nn.Module):
    """Uses an operator that TFLite has not."""

    def forward(self, x: Any) -> Any:
        """``[n, 6]`` to singular values."""
        return torch.linalg.svdvals(x.reshape(1, 2, 3))


class Choosing(nn.Module):
    """Branches on a value."""

    def forward(self, x: Any) -> Any:
        """Whatever the sum is."""
        return x * 2 if x.sum() > 0 else x - 1


def seeded(kind: type[nn.Module]) -> Any:
    """A network whose weights are the same each time, in evaluation."""
    torch.manual_seed(3)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def classifier() -> Any:
    """What ``--model torch_nets:classifier`` makes; its weights are other than ``seeded`` ones."""
    torch.manual_seed(11)
    return Classifier()


def nothing() -> Any:
    """No module."""
    return "text"


def failing() -> Any:
    """Raises."""
    raise ValueError("no such size")
