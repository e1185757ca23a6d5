"""SHA-256, without loading OpenSSL for it.

``hashlib`` brings in libcrypto, 3.6 MB resident (half a megabyte of it private) and several milliseconds, which is more than a
small model takes. Python's own implementation is half as fast, where the processor has no instructions for it, and is there already.
"""

from __future__ import annotations

import contextlib
import sys
from _thread import allocate_lock, start_new_thread  # without the import of threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap


#: From so many bytes on, loading OpenSSL takes less time than it saves.
_LARGE = 2 << 20


def sha256_hex(data: bytes | memoryview | mmap) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    digest: str = _function(len(data))(data).hexdigest()
    return digest


def sha256_meanwhile(data: memoryview) -> Callable[[], str]:
    """Begin the SHA-256 of a large block in a thread, which takes its time on another core.

    Args:
        data: the bytes.

    Returns:
        A function that waits for it and gives its 64 hexadecimal digits; to be called once. What is small is hashed there.
    """
    found: list[str] = []
    begun, done = allocate_lock(), allocate_lock()

    def work() -> None:
        try:
            begun.release()
            found.append(sha256_hex(data))
        finally:
            done.release()

    def wait() -> str:
        done.acquire()
        return found[0] if found else sha256_hex(data)

    if len(data) >= _LARGE:
        _function(len(data))  # imported here, not beside another import
        begun.acquire()
        done.acquire()
        try:
            start_new_thread(work, ())
        except RuntimeError:  # no more threads
            pass
        else:
            begun.acquire()  # a new thread would have to wait 5 ms for the one that runs Python
            return wait
    return lambda: sha256_hex(data)


def _function(size: int) -> Any:
    if "hashlib" not in sys.modules and size < _LARGE:
        with contextlib.suppress(ImportError, AttributeError):
            return __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    import hashlib

    return hashlib.sha256
