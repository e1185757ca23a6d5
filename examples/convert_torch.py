"""A PyTorch module to int8, from memory. Its channels come first; the converted file takes pictures with the channels last.

Needs ``pip install 'edgekit[torch]'``. A file of weights is converted with the function that makes its module, as ``resnet_cifar.py`` shows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import quarters
import torch
from torch import nn


def module() -> nn.Module:
    """The network."""
    weights = quarters.trained()
    model = nn.Sequential(
        nn.Conv2d(quarters.SHAPE[2], quarters.CHANNELS, quarters.SIZE, quarters.STRIDE),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(len(weights.dense), len(quarters.NAMES)),
    )
    values = [
        weights.kernel.transpose(3, 2, 0, 1), weights.bias, weights.dense_channels_first.T, weights.dense_bias,
    ]  # fmt: skip
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return model


def main() -> None:
    """Build, convert."""
    with tempfile.TemporaryDirectory() as folder:
        quarters.convert_and_print(module(), Path(folder))


if __name__ == "__main__":
    main()
