"""ResNets for CIFAR-10 in PyTorch, as functions that ``edgekit convert --model`` calls, and one conversion from Python.

A file of weights holds no network; the function that makes it is named beside it. From this folder::

    edgekit convert resnet20.th --model resnet_cifar:resnet20 --calibration cifar10.npz:calibration \
        --normalize 123.675,116.28,103.53,58.395,57.12,57.375 --verify cifar10.npz:x=test,y=test_labels

The network is that of He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", section 4.2 (2015): three stages of
16, 32 and 64 channels, and shortcuts without weights ("option A": every second pixel, missing channels zero). Run as a program it
converts a network with random weights, and prints what came of it as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import edgekit

#: Of the pictures that such networks are mostly trained on, in units of a byte's 0 to 255.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.missing = stride, channels - before

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, before, height, width]`` to ``[n, channels, height / stride, width / stride]``."""
        inner = torch.relu(self.bn1(self.conv1(pixels)))
        inner = self.bn2(self.conv2(inner))
        around = pixels
        if self.missing:
            around = around[:, :, :: self.stride, :: self.stride]
            around = nn.functional.pad(around, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return torch.relu(inner + around)


class ResNet(nn.Module):
    """A stem, three stages of blocks, and a dense layer on the average over all places."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(before: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [Block(channels, channels, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Block(before, channels, stride), *rest)

    def forward(self, image: Tensor) -> Tensor:
        """``[n, 3, 32, 32]`` to ``[n, classes]``, before the softmax."""
        pixels = torch.relu(self.bn1(self.conv1(image)))
        pixels = self.layer3(self.layer2(self.layer1(pixels)))
        return self.linear(pixels.mean((2, 3)))


def resnet20() -> ResNet:
    """20 layers with weights: three blocks a stage."""
    return ResNet(3)


def resnet32() -> ResNet:
    """32 layers: five blocks a stage."""
    return ResNet(5)


def resnet56() -> ResNet:
    """56 layers: nine blocks a stage."""
    return ResNet(9)


def main() -> None:
    """Convert ResNet-20 and print the figures."""
    parser = argparse.ArgumentParser(description="Convert a PyTorch ResNet-20 to int8.")
    parser.add_argument("--output", type=Path, help="where to write the model; nowhere without it")
    parser.add_argument("--effort", default="fast", choices=["fast", "default", "high"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    done = edgekit.convert(
        resnet20(),
        pictures,
        normalize=(*MEAN, *DEVIATION),
        effort=arguments.effort,
        output=arguments.output,
        overwrite=True,
    )
    (image,) = done.model.inputs
    print(json.dumps({"input": str(image), "bytes": done.model.size_bytes, "passed": done.report.passed}))


if __name__ == "__main__":
    main()
