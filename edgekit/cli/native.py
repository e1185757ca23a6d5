"""Keeps what native libraries write to file descriptor 2 off the terminal, without losing it.

TensorFlow and the interpreters greet on stderr from C++. The program's own messages go to the
real stderr; the native ones go to a temporary file, which is shown when the command crashes, or at once with
``EDGEKIT_NATIVE_LOG=1``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """Send file descriptor 2 to a temporary file while the block runs; ``sys.stderr`` stays the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ.get("EDGEKIT_NATIVE_LOG") == "1":
        yield
        return
    try:
        terminal = os.dup(2)
    except OSError:  # started without a stderr
        yield
        return
    previous = sys.stderr
    with _temporary() as native:
        os.dup2(native.fileno(), 2)
        sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        crashed = False
        try:
            yield
        except Exception:
            crashed = True
            raise
        finally:
            sys.stderr.flush()
            sys.stderr = previous
            os.dup2(terminal, 2)
            os.close(terminal)
            if crashed:
                native.seek(0)
                previous.write(native.read().decode("utf-8", "replace"))


def _temporary() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no room for one: the message that the disk is full must come all the same
        return open(os.devnull, "r+b")
