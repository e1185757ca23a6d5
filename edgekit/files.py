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

    try:
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder, a file name was expected.")
        if path.exists() and not path.is_file():
            # Renaming over /dev/null would work for root, and replace the device.
            raise OutputError(f"cannot write {path}: it is not a regular file. Give the name of a file.")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already. Choose another name, or pass --overwrite to replace it.")
        handle, probe = tempfile.mkstemp(prefix=_prefix(path), dir=_real(path).parent)
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise from_os_error(error, path, "write") from error


def _real(path: Path) -> Path:
    """The file behind a symbolic link: renaming onto the link itself would cut it."""
    return Path(os.path.realpath(path))


def _prefix(path: Path) -> str:
    """How a temporary name begins; cut, so that it fits wherever the final name does."""
    return f".{path.name[:32]}."


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
        handle, name = tempfile.mkstemp(prefix=_prefix(path), dir=_real(path).parent)
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
        temporary.replace(_real(path))
    except OSError as error:
        raise from_os_error(error, path, "write") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
