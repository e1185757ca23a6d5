"""SHA-256, without loading OpenSSL for it.

``hashlib`` brings in libcrypto, 3.6 MB resident and several milliseconds, which is more than a small model takes. Python's own
implementation is half as fast and is there already.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def sha256_hex(data: bytes | memoryview) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    digest: str = _function()(data).hexdigest()
    return digest


def _function() -> Any:
    if "hashlib" not in sys.modules:
        with contextlib.suppress(ImportError, AttributeError):
            return __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    import hashlib

    return hashlib.sha256
