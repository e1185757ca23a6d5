"""``Tree``: the files below a root folder, this machine's own or a recorded one's, read with care."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from itertools import islice

from edgekit.host.facts import Fact

#: Far above what the files hold here; a hostile or broken tree cannot cost more.
READ_LIMIT_BYTES = 256 * 1024
_CACHE_LIMIT_BYTES = 4 * 1024 * 1024
_LIST_LIMIT = 4096
#: Far above the library folders of any system.
_FOLDER_LIMIT = 64
_STEM_BYTES = len("libLiteRt")
_TEXT_LIMIT = 200
#: Where Android keeps the libraries of the vendor and its own.
_ANDROID_FOLDERS = ("/vendor/lib64", "/vendor/lib", "/system/vendor/lib64", "/system_ext/lib64", "/system/lib64")
#: How many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
_LINK_LIMIT = 40


class Tree:
    """Reads files below a root. Paths are absolute ones of the machine that the root belongs to.

    Attributes:
        real: whether it is this machine's own root.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        resolved = os.path.realpath(root)
        self.real = os.fspath(root) == "/" or resolved == "/"
        self._root = "" if self.real else resolved
        self._folders: list[str] | None = None
        self._cache: bytes | None = None
        self._stems: dict[bytes, bool] = {}

    def _at(self, path: str) -> str:
        """The path here of a path there.

        The links of a recorded tree are followed inside of it, absolute ones too: they were recorded from a root of their
        own, and following one from this machine's root would tell of this machine.
        """
        if self.real:
            return path
        done: list[str] = []
        left = path.split("/")[::-1]
        links = 0
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            here = "/".join((self._root, *done, name))
            try:
                target = os.readlink(here)
            except OSError:  # not a link, or nothing there
                done.append(name)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done.clear()
            left.extend(target.split("/")[::-1])
        return "/".join((self._root, *done))

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes | None:
        """The start of a plain file; ``None`` when it is missing, unreadable or something else than a file."""
        # Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
        try:
            handle = os.open(self._at(path), flags)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            parts: list[bytes] = []
            left = limit_bytes
            while left > 0:
                part = os.read(handle, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        except OSError:
            return None
        finally:
            os.close(handle)

    def text(self, path: str) -> str | None:
        """The start of a text file."""
        content = self.read(path)
        return None if content is None else content.decode("utf-8", "replace")

    def line(self, *paths: str) -> Fact[str] | None:
        """The text of the first of these files that holds one short line of printable text."""
        for path in paths:
            value = printable(self.text(path))
            if value is not None:
                return Fact(value, path)
        return None

    def number(self, path: str) -> int | None:
        """The integer that a file holds."""
        value = printable(self.text(path))
        return None if value is None else integer(value)

    def names(self, path: str) -> list[str]:
        """What a folder holds, sorted, names with control characters left out; empty when it is missing or unreadable."""
        try:
            with os.scandir(self._at(path)) as entries:
                return sorted(entry.name for entry in islice(entries, _LIST_LIMIT) if entry.name.isprintable())
        except (OSError, ValueError):
            return []

    def exists(self, path: str) -> bool:
        """Whether there is something of that name."""
        try:
            return os.path.exists(self._at(path))
        except (OSError, ValueError):
            return False

    def status(self, path: str) -> os.stat_result | None:
        """Owner, group and mode; ``None`` when there is nothing of that name."""
        try:
            return os.stat(self._at(path))
        except (OSError, ValueError):
            return None

    def writable(self, path: str) -> bool:
        """Whether this user may read and write it."""
        effective = os.access in os.supports_effective_ids
        try:
            return os.access(self._at(path), os.R_OK | os.W_OK, effective_ids=effective)
        except (OSError, ValueError):
            return False

    def library(self, file_names: Sequence[str]) -> Fact[str] | None:
        """Where the dynamic linker would find the first of these libraries, without loading it."""
        for name in file_names:
            for folder in self._library_folders():
                path = f"{folder}/{name}"
                if self.exists(path):
                    return Fact(path, path)
        # Folders of /etc/ld.so.conf.d: the linker's cache lists their libraries with whole paths, each ending with a zero.
        for name in file_names:
            cached = self._in_cache(name.encode())
            if cached is not None and self.exists(cached):
                return Fact(cached, "/etc/ld.so.cache")
        return None

    def _in_cache(self, name: bytes) -> str | None:
        """The whole path of a library in the linker's cache."""
        if self._cache is None:
            self._cache = self.read("/etc/ld.so.cache", _CACHE_LIMIT_BYTES) or b""
        # Most are not there, and on a big system each search takes long: libraries that begin alike share one.
        stem = name[:_STEM_BYTES]
        if self._stems.get(stem) is False:
            return None
        end = self._cache.find(b"/" + name + b"\0")
        if end < 0:
            self._stems.setdefault(stem, self._cache.find(b"/" + stem) >= 0)
            return None
        start = self._cache.rfind(b"\0", 0, end) + 1
        return printable(self._cache[start : end + 1 + len(name)].decode("utf-8", "replace"))

    def _library_folders(self) -> list[str]:
        if self._folders is None:
            self._folders = []
            seen: set[tuple[int, int]] = set()
            for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if self.real else ():
                self._add_folder(folder, seen)
            for base in ("/usr/local/lib", "/usr/lib", "/lib"):
                known = len(self._folders)
                if self._add_folder(base, seen):
                    # A multiarch folder comes before the one that it is in.
                    for name in self.names(base):
                        if "-linux-gnu" in name and self._add_folder(f"{base}/{name}", seen):
                            self._folders.insert(known, self._folders.pop())
                            known += 1
            for folder in ("/usr/lib64", "/lib64", *_ANDROID_FOLDERS):
                self._add_folder(folder, seen)
        return self._folders

    def _add_folder(self, folder: str, seen: set[tuple[int, int]]) -> bool:
        """Search a folder too, if it is there and not one that is searched already under another name."""
        if self._folders is None or len(self._folders) >= _FOLDER_LIMIT:
            return False
        status = self.status(folder) if folder else None
        if status is None or (status.st_dev, status.st_ino) in seen:
            return False
        seen.add((status.st_dev, status.st_ino))
        self._folders.append(folder)
        return True


def printable(text: str | None) -> str | None:
    """One short line without control characters, or ``None``. Device tree strings end with a zero byte."""
    if text is None:
        return None
    value = text.strip("\0 \t\r\n")
    return value if value and len(value) <= _TEXT_LIMIT and value.isprintable() and "\ufffd" not in value else None


def integer(text: str, base: int = 10) -> int | None:
    """A number of at most twenty digits, or ``None``."""
    try:
        return int(text, base) if len(text) <= 20 else None
    except ValueError:
        return None
