"""SHA-256, without loading OpenSSL for it.

``hashlib`` brings in libcrypto, 3.6 MB resident (half a megabyte of it private) and several milliseconds, which is more than a
small model takes. Python's own implementation is half as fast, where the processor has no instructions for it, and is there already.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmap import mmap


#: From so many bytes on, loading OpenSSL takes less time than it saves.
_LARGE = 2 << 20


def sha256_hex(data: bytes | memoryview | mmap) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    digest: str = _function(len(data))(data).hexdigest()
    return digest


def _function(size: int) -> Any:
    if "hashlib" not in sys.modules and size < _LARGE:
        with contextlib.suppress(ImportError, AttributeError):
            return __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    import hashlib

    return hashlib.sha256
