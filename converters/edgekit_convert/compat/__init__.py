"""Static compatibility: whether a device's runtimes have every operator of a file, in the version that it needs."""

from __future__ import annotations

from edgekit_convert.compat.check import Compatibility as Compatibility
from edgekit_convert.compat.check import compatibility as compatibility

__all__ = ["Compatibility", "compatibility"]
