"""``MappedFile``: a file that is read where it lies, and that native code can be given by the same descriptor."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from edgekit.errors import ModelFileError, from_os_error

if TYPE_CHECKING:
    from edgekit.flatbuffer import Content

#: Where a process finds its own open files: Linux, then macOS and the BSDs.
_DESCRIPTORS: tuple[str, ...] = ("/proc/self/fd", "/dev/fd")


class MappedFile:
    """A regular file, open and mapped read-only for as long as anything refers to it or to its mapping.

    Renaming another file over it, which is how files are replaced, does not change what is seen here. Writing into it in
    place does; ``check_unchanged`` notices. Where the file system has no mappings, or no descriptor is left for one, the file is
    read instead.

    Args:
        location: a path.

    Attributes:
        content: the whole file: its mapping, or its bytes.
        location: the path.

    Raises:
        ModelFileError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._descriptor = -1
        try:
            # Asked before opening: opening some devices starts something, and a FIFO would wait for its writer.
            _check_regular(os.stat(location), location)
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(location, flags)
            found = os.fstat(self._descriptor)
            _check_regular(found, location)
            self._identity = _identity(found)
            self.content: Content = self._map(found.st_size)
        except OSError as error:
            raise from_os_error(error, location, "read") from error
        except ValueError as error:  # a NUL in the name
            raise ModelFileError(f"cannot read {location!r}: {error}.") from error

    def _map(self, size: int) -> Content:
        if size == 0:
            return b""  # which cannot be mapped
        try:
            import mmap

            if sys.version_info >= (3, 13):
                return mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ, trackfd=False)
            return mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ)
        except (ImportError, OSError, ValueError):
            parts = iter(lambda: os.read(self._descriptor, 1 << 20), b"")
            return b"".join(parts)

    def check_unchanged(self) -> None:
        """Raise when the file was written to since it was opened.

        Raises:
            ModelFileError: its size or its time of change differ.
        """
        if _identity(os.fstat(self._descriptor)) != self._identity:
            raise ModelFileError(
                f"{self.location} was changed in place after it was checked: load it again. To replace a model that is in use, "
                "write the new file under another name in the same folder and rename it."
            )

    def native_path(self) -> str:
        """A path under which native code finds this very file, whatever became of ``location``.

        It is good as long as this object lives. Where a process has no folder of its open files, it is ``location``, if that
        is still the same file.

        Raises:
            ModelFileError: the file was changed in place, or another one has its name and nothing else leads to this one.
        """
        self.check_unchanged()
        for folder in _DESCRIPTORS:
            path = f"{folder}/{self._descriptor}"
            if os.path.exists(path):
                return path
        try:
            same = os.path.samestat(os.stat(self.location), os.fstat(self._descriptor))
        except OSError:
            same = False
        if not same:
            raise ModelFileError(f"{self.location} was replaced while it was being loaded: load it again.")
        return self.location

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _check_regular(found: os.stat_result, location: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ModelFileError(f"cannot read {location}: it is a folder, a file was expected.")
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(
            f"cannot read {location}: it is not a regular file (a pipe or device?). Save the model to a file first."
        )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
