"""What ``DelegateSpec("xnnpack", options={…})`` may say: XNNPACK's flags and weight cache, for the engine that has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from edgekit.errors import DelegateError
from edgekit.records import Record

#: Flags by name (LiteRT, ``tflite/delegates/xnnpack/xnnpack_delegate.h``).
FLAGS: dict[str, int] = {
    "qs8": 0x1,
    "qu8": 0x2,
    "force_fp16": 0x4,
    "dynamic_fully_connected": 0x8,
    "variable_operators": 0x10,
    "transient_indirection_buffer": 0x20,
    "latest_operators": 0x40,
    "consistent_arithmetic": 0x200,
    "no_subgraph_reshaping": 0x400,
}
#: Flags that are given take the place of the default ones; without these two int8 runs on the interpreter's own kernels (measured,
#: ai-edge-litert 2.3.0: ResNet-8 four times slower). So named flags are added to them.
_ALWAYS = FLAGS["qs8"] | FLAGS["qu8"]
KNOWN: tuple[str, ...] = ("flags", "weight_cache")


class XnnpackOptions(Record):
    """XNNPACK's options.

    Attributes:
        flags: the number for the native call; ``None`` for its own defaults.
        weight_cache: the file that keeps packed weights, which later loads map instead of packing anew; ``None`` for none. XNNPACK
            writes it where it is missing, and anew where it is damaged or another model's.
    """

    flags: int | None = None
    weight_cache: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, str]) -> XnnpackOptions:
        """Read a delegate's options.

        Raises:
            DelegateError: one is unknown or makes no sense, or the weight cache cannot be written there.
        """
        for name in options:
            if name not in KNOWN:
                raise DelegateError(
                    f"unknown option {name!r} of the delegate xnnpack: expected one of {', '.join(KNOWN)}."
                )
        flags = _flags(options["flags"]) if "flags" in options else None
        cache = options.get("weight_cache")
        return cls(flags, _cache_file(cache) if cache is not None else None)

    def native(self) -> dict[str, Any]:
        """What LiteRT's ``CpuOptions`` takes."""
        found: dict[str, Any] = {}
        if self.flags is not None:
            found["xnnpack_flags"] = self.flags
        if self.weight_cache is not None:
            found["xnnpack_weight_cache_path"] = self.weight_cache
        return found


def _flags(text: str) -> int:
    """Names joined by commas, added to the ones that int8 needs; or a number, which is taken as it is."""
    try:
        number = int(text, 0)
    except ValueError:
        number = _ALWAYS
        for name in text.split(","):
            if name.strip() not in FLAGS:
                raise DelegateError(
                    f"unknown flag {name.strip()!r} of xnnpack: expected {', '.join(FLAGS)} joined by commas, or a number."
                ) from None
            number |= FLAGS[name.strip()]
    if not 0 <= number < 1 << 31:
        raise DelegateError(f"the flags {text} of xnnpack: a number from 0 to 2147483647 was expected.")
    return number


def _cache_file(path: str) -> str:
    """XNNPACK goes on without a cache that it can neither read nor write, and tells nobody but standard error."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not path:
        raise DelegateError(f"the weight cache of xnnpack {path!r} is a folder; the name of a file was expected.")
    if not os.path.isdir(folder):
        raise DelegateError(
            f"the weight cache of xnnpack {path!r}: the folder {folder} does not exist. Create it first."
        )
    if not os.access(path if os.path.exists(path) else folder, os.R_OK | os.W_OK):
        raise DelegateError(f"the weight cache of xnnpack {path!r} cannot be written: permission denied.")
    return path
