"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import OutputError, from_os_error


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raise before the work starts when its result could not be saved.

    Args:
        path: where the result will go.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: the file exists and ``overwrite`` is false, or its folder is missing or
            does not take new files.
    """
    import tempfile

    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, a file name was expected.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Choose another name, or pass --overwrite to replace it.")
    try:
        handle, probe = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise from_os_error(error, path, "write") from error


def write_whole(path: Path, data: bytes, *, overwrite: bool, check: Callable[[Path], None] | None = None) -> None:
    """Write ``data`` under a temporary name in the same folder, then rename it.

    A full disk, a kill or a failing ``check`` leaves the old file, or none.

    Args:
        path: the final name.
        data: the whole content.
        overwrite: whether an existing file may be replaced.
        check: called with the temporary path after it was written; when it raises, nothing
            appears under ``path``.

    Raises:
        OutputError: the file exists and ``overwrite`` is false, or it cannot be written.
    """
    import tempfile

    check_writable(path, overwrite=overwrite)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if check is not None:
            check(temporary)
        temporary.replace(path)
    except OSError as error:
        raise from_os_error(error, path, "write") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
