"""Folders and files of the agent: who may enter, where a wheel's files go, what an error of the system means."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import zipfile
from typing import Any

#: What a part of a path that came over the connection may be.
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_PIECE = 1 << 18


class Refused(Exception):
    """A request that cannot be fulfilled; the text is for the user, ``kind`` for the program.

    Args:
        text: what to say.
        kind: ``"full"``, ``"denied"``, ``"busy"``, ``"damaged"`` or ``"failed"``.
    """

    def __init__(self, text: str, kind: str = "failed") -> None:
        super().__init__(text)
        self.kind = kind


def place(root: str, *parts: str) -> str:
    """A path below the agent's folder.

    Args:
        root: that folder.
        parts: names.

    Raises:
        Refused: one is no plain name.
    """
    for part in parts:
        if not SAFE.fullmatch(part):
            raise Refused(f"{part!r} is no name of a file here")
    return os.path.join(root, *parts)


def default_root() -> str:
    """Where everything goes, unless another folder is named."""
    base = os.environ.get("EDGEKIT_CACHE_DIR")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "edgekit")
    return os.path.join(os.path.abspath(base), "remote")


def private(folder: str) -> None:
    """Make a folder that only this user may enter; those above it are made as usual."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if os.stat(folder).st_uid != os.getuid():
        raise Refused(f"{folder} belongs to another user", "denied")
    if os.stat(folder).st_mode & 0o077:
        os.chmod(folder, 0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def _inside(name: str) -> str | None:
    """Where a wheel's file goes below its folder; ``None`` for one that goes nowhere."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts:
        raise Refused(f"a wheel that was sent has the file {name!r}, outside of it", "damaged")
    if parts[0].endswith(".data"):  # the wheel format: purelib and platlib belong beside the packages
        return "/".join(parts[2:]) or None if parts[1:2] in (["purelib"], ["platlib"]) else None
    return name


def unpack(archive: str, final: str) -> None:
    """Unpack a wheel into a folder of its own, whole or not at all.

    Args:
        archive: the wheel.
        final: the folder.

    Raises:
        Refused: it is damaged.
    """
    private(os.path.dirname(final))
    temporary = tempfile.mkdtemp(prefix=".new-", dir=os.path.dirname(final))
    try:
        with zipfile.ZipFile(archive) as wheel:
            for item in wheel.infolist():
                name = _inside(item.filename)
                if name is not None and not item.is_dir():
                    target = os.path.join(temporary, *name.split("/"))
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    with wheel.open(item) as source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file, _PIECE)
        try:
            os.rename(temporary, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another connection was faster
                raise
    except zipfile.BadZipFile as error:
        raise Refused(f"a wheel that was sent is damaged: {error}", "damaged") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def translated(error: OSError, root: str) -> dict[str, Any]:
    """An operating system's error as an answer."""
    kind = "failed"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind = "full"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        kind = "denied"
    return {"error": f"{error.filename or root}: {error.strerror or error}", "kind": kind}


def new_lines(path: str, offset: int) -> tuple[list[Any], int]:
    """The whole lines of a file from an offset on, and where the next ones will begin."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    data = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in data.splitlines()], offset + len(data)


def newest(path: str) -> float:
    """When something in a folder was last changed."""
    times = [os.lstat(path).st_mtime]
    if os.path.isdir(path):
        with contextlib.suppress(OSError):
            times += [os.lstat(os.path.join(path, name)).st_mtime for name in os.listdir(path)]
    return max(times)


def read_json(path: str) -> Any:
    """What is in a file; ``None`` where there is none, or it is not whole."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def write_json(path: str, data: Any) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file.
        data: what goes into it.
    """
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(f"{path}.new", path)
