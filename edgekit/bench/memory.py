"""What memory this process has, and the most that it had."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_bytes() -> int | None:
    """Resident memory of this process now; ``None`` where ``/proc`` does not tell."""
    return _proc_status("VmRSS")


def peak_bytes() -> int | None:
    """Most resident memory that this process had; ``None`` where the system does not tell.

    Linux's ``ru_maxrss`` begins with what the parent process had (getrusage(2): it is inherited through fork and
    kept by execve), so it is asked only where there is no ``/proc``.
    """
    found = _proc_status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others KiB


def _proc_status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
