"""Numbers with their units, as people read them."""

from __future__ import annotations


def milliseconds(nanoseconds: float) -> str:
    """A time in milliseconds, about three significant digits."""
    value = nanoseconds / 1e6
    return f"{value:.3f} ms" if value < 1 else f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def size_text(size_bytes: float) -> str:
    """A size in kB, MB or GB, each 1000 of the one before."""
    if abs(size_bytes) < 1e6:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB" if abs(size_bytes) < 1e9 else f"{size_bytes / 1e9:.2f} GB"


def percent(share: float, digits: int = 2) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.{digits}f} %"


def times(ratio: float) -> str:
    """A ratio, as ``1.85×``."""
    return f"{ratio:.2f}×"


def share_text(share: float, low: float, high: float) -> str:
    """A share of 1 in percent, with its interval."""
    return f"{percent(share)} ({100 * low:.1f}–{100 * high:.1f})"
