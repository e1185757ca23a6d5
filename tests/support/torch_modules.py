"""PyTorch modules as people write them, each with one habit. Importing this needs PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention with a mask that is true where nothing is looked at."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, query: Any, mask: Any) -> Any:
        """``[n, places, 8]`` and ``[n, places]``."""
        return self.attend(query, query, query, key_padding_mask=mask)[0]


class Reader(nn.Module):
    """A transformer over indices of words; 0 in ``kept`` hides one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(20, 8)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.eval()

    def forward(self, ids: Any, kept: Any) -> Any:
        """``[n, places]`` twice to ``[n, 8]``."""
        return self.layers(self.words(ids), src_key_padding_mask=kept == 0)[:, 0]


class Counting(nn.Module):
    """Counts its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        """The input, and how often there was one."""
        self.seen += 1
        return x + self.seen


class Doubling(nn.Module):
    """Computes in the memory of its input."""

    def forward(self, x: Any) -> Any:
        """Twice the input, and one."""
        x.mul_(2)
        return x + 1


class Dropping(nn.Module):
    """Drops values in evaluation, too."""

    def forward(self, x: Any) -> Any:
        """Half of the values."""
        return functional.dropout(x, 0.5)


class ByName(nn.Module):
    """Takes its input by name."""

    def forward(self, *, x: Any, factor: float = 2.0) -> Any:
        """A multiple."""
        return x * factor


class AnyName(nn.Module):
    """Takes whatever has a name."""

    def forward(self, **values: Any) -> Any:
        """A multiple of ``x``."""
        return values["x"] * 2


class ByPlace(nn.Module):
    """Takes its input by place."""

    def forward(self, x: Any, /) -> Any:
        """A multiple."""
        return x * 2


class AnyPlace(nn.Module):
    """Takes any number of inputs."""

    def forward(self, *values: Any) -> Any:
        """A multiple of the first."""
        return values[0] * 2


class Types(nn.Module):
    """Results of other types of floats."""

    def forward(self, x: Any) -> Any:
        """In bfloat16 and in float64."""
        return (x * 1.1).bfloat16(), (x * 1.1).double()


class Nothing(nn.Module):
    """Returns nothing."""

    def forward(self, x: Any) -> Any:
        """Nothing."""


@dataclass
class Scores:
    """A result in a class of its own."""

    values: Any


class Record(nn.Module):
    """Returns an object."""

    def forward(self, x: Any) -> Any:
        """The input in it."""
        return Scores(x * 2)


class Complex(nn.Module):
    """Returns a spectrum."""

    def forward(self, x: Any) -> Any:
        """Complex numbers."""
        return torch.fft.rfft(x)


class Sorting(nn.Module):
    """Sorts."""

    def forward(self, x: Any) -> Any:
        """The values in order."""
        return x.sort(1)[0]
