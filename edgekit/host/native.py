"""What only the C library of Android and of macOS tells: Android's properties and ``sysctl``.

Their own tools (``getprop``, ``sysctl``) would be programs to start; the functions behind them answer in microseconds. Any failure
is a value that is not known.
"""

from __future__ import annotations

import ctypes
from typing import Any

#: PROP_VALUE_MAX of Android's <sys/system_properties.h>; the longer values of newer systems begin with "ro." and are cut.
_PROPERTY_BYTES = 92
_TEXT_BYTES = 1024


def _c_library() -> Any:
    """The C library of this process, which is loaded already."""
    return ctypes.CDLL(None)


def android_property(name: str, library: Any = None) -> str | None:
    """The value of an Android system property.

    Args:
        name: such as ``ro.build.version.release``.
        library: the C library; ``None`` for this process's own.

    Returns:
        The value, or ``None`` where it is not set or this is not Android.
    """
    try:
        get = (library or _c_library()).__system_property_get
        get.argtypes, get.restype = (ctypes.c_char_p, ctypes.c_char_p), ctypes.c_int
        value = ctypes.create_string_buffer(_PROPERTY_BYTES)
        length = get(name.encode(), value)
    except (OSError, AttributeError, ValueError, ctypes.ArgumentError):
        return None
    return value.value.decode("utf-8", "replace") if 0 < length < _PROPERTY_BYTES else None


def _sysctl(name: str, library: Any) -> bytes | None:
    try:
        by_name = (library or _c_library()).sysctlbyname
        by_name.argtypes = (
            ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p, ctypes.c_size_t,
        )  # fmt: skip
        by_name.restype = ctypes.c_int
        value = ctypes.create_string_buffer(_TEXT_BYTES)
        size = ctypes.c_size_t(_TEXT_BYTES)
        failed = by_name(name.encode(), value, ctypes.byref(size), None, 0)
    except (OSError, AttributeError, ValueError, ctypes.ArgumentError):
        return None
    return None if failed else value.raw[: min(size.value, _TEXT_BYTES)]


def sysctl_text(name: str, library: Any = None) -> str | None:
    """A text that macOS's kernel keeps, such as ``hw.model``; ``None`` where it has none of that name.

    Args:
        name: the name, as ``sysctl`` takes it.
        library: the C library; ``None`` for this process's own.
    """
    value = _sysctl(name, library)
    return None if value is None else value.split(b"\0", 1)[0].decode("utf-8", "replace")


def sysctl_number(name: str, library: Any = None) -> int | None:
    """An integer that macOS's kernel keeps, such as ``hw.optional.arm64``; ``None`` where it has none of that name.

    Args:
        name: the name, as ``sysctl`` takes it.
        library: the C library; ``None`` for this process's own.
    """
    value = _sysctl(name, library)
    return int.from_bytes(value, "little", signed=True) if value is not None and len(value) in (4, 8) else None
