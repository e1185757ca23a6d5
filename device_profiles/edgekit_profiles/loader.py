"""Where profiles lie, and reading one: a TOML file → ``DeviceProfile``.

Paths are texts here: this is on the load path, where importing ``pathlib`` takes longer than reading the files.

The user's own profiles lie in the configuration folder and win over edgekit's by id. A profile's file name is its id.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from edgekit.errors import ProfileError
from edgekit.records import Record
from edgekit_profiles.parse import check_profile, closest, parse_profile
from edgekit_profiles.profile import DeviceProfile
from edgekit_profiles.toml_table import Problem

_DATA = os.path.join(os.path.dirname(__file__), "data")
_SUFFIX = ".toml"
#: A profile is a few kilobytes.
_LIMIT_BYTES = 1024 * 1024
#: What is seen of it without parsing is at its beginning; reserving more memory takes longer than reading.
_GLANCE_BYTES = 32 * 1024


class ProfileFile(Record):
    """A profile that can be loaded.

    Attributes:
        id: the profile's id, which is the file's name.
        path: the file.
        user: whether it is the user's own.
    """

    id: str
    path: str
    user: bool


def user_folder() -> str | None:
    """The folder of the user's own profiles; ``None`` when there is no home folder to look in.

    It is ``$EDGEKIT_CONFIG_DIR``, else ``$XDG_CONFIG_HOME/edgekit/devices``, else ``~/.config/edgekit/devices``.
    """
    named = os.environ.get("EDGEKIT_CONFIG_DIR")
    if named:
        return named
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return None if base.startswith("~") else os.path.join(base, "edgekit", "devices")


def profile_files() -> tuple[ProfileFile, ...]:
    """Every profile there is, by id; the user's own hides edgekit's of the same id. Nothing is read."""
    found = {item.id: item for item in _in_folder(_DATA, user=False)}
    own = user_folder()
    if own is not None:
        found.update({item.id: item for item in _in_folder(own, user=True)})
    return tuple(found[key] for key in sorted(found))


def built_in_file(profile_id: str) -> ProfileFile | None:
    """Edgekit's own profile of an id, whether or not the user has another."""
    path = os.path.join(_DATA, profile_id + _SUFFIX)
    return ProfileFile(profile_id, path, False) if os.path.isfile(path) else None


def _in_folder(folder: str, *, user: bool) -> Iterator[ProfileFile]:
    try:
        names = os.listdir(folder)
    except OSError:  # most users have no such folder
        return
    for name in names:
        if name.endswith(_SUFFIX) and not name.startswith("."):
            yield ProfileFile(name[: -len(_SUFFIX)], os.path.join(folder, name), user)


def glance(item: ProfileFile) -> dict[str, tuple[str, ...]] | None:
    """The rules that a file's machine is recognised by, seen without parsing it, which takes some ten times longer.

    Args:
        item: the file.

    Returns:
        Each rule of ``[match]`` by its key, and the top level's ``role`` where the file has one; nothing is checked.
        ``None`` when only parsing can tell: the file is unreadable or long, has no table of that name at the start of a
        line, or its rules are written in another way than ``key = ["text", "text"]`` on one line.
    """
    try:
        with open(item.path, "rb") as file:
            content = file.read(_GLANCE_BYTES)
        text = content.decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None  # loading it will say what is wrong
    top, found, rest = text.partition("\n[match]\n")
    if not found or len(content) == _GLANCE_BYTES or "\n[match]" in rest or '"""' in text or "'''" in text:
        return None
    lines = rest.partition("\n[")[0].split("\n")
    if "role" in top:
        lines += [line for line in top.split("\n") if line.startswith("role")]
    rules: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if not line or line[0] == "#" or line.startswith("source ="):
            continue
        key, _, value = line.partition(" = ")
        is_list = value[:1] == "[" and value[-1:] == "]"
        texts = _plain_texts(value[1:-1]) if is_list else _plain_texts(value) if key == "role" else None
        if texts is None or not key.isidentifier():
            return None
        rules[key] = texts
    return rules


def _plain_texts(text: str) -> tuple[str, ...] | None:
    """Quoted texts with commas alone between them; ``None`` when there is anything that TOML may read in another way."""
    parts = text.split('"')
    plain = len(parts) % 2 == 1 and "\\" not in text and all(part.strip() in ("", ",") for part in parts[::2])
    return tuple(parts[1::2]) if plain else None


def list_profiles() -> tuple[DeviceProfile, ...]:
    """Load every profile there is, by id.

    Raises:
        ProfileError: one of the user's own is not valid.
    """
    return tuple(load_file(item) for item in profile_files())


def load_profile(id_or_path: str | os.PathLike[str]) -> DeviceProfile:
    """Load one profile.

    Args:
        id_or_path: a profile's id, or the path of a TOML file (with ``.toml`` at its end or a folder in front).

    Raises:
        ProfileError: there is no such profile, or it is not valid.
    """
    text = os.fspath(id_or_path)
    if text.endswith(_SUFFIX) or os.sep in text or "/" in text:
        return _read(text, user=True)
    files = {item.id: item for item in profile_files()}
    if text not in files:
        raise ProfileError(
            f"unknown device {text!r}.{closest(text, files)} Known devices: {', '.join(files)}. "
            f"Your own go as TOML files into {user_folder() or '$EDGEKIT_CONFIG_DIR'}."
        )
    return load_file(files[text])


def load_file(item: ProfileFile) -> DeviceProfile:
    """Load a profile that ``profile_files`` found.

    Raises:
        ProfileError: it is not valid, or its id is not its file name.
    """
    profile = _read(item.path, user=True) if item.user else _read_built_in(item.path)
    if profile.id != item.id:
        raise ProfileError(
            f"{item.path}: top level, key 'id': {profile.id!r} was seen, the file's name {item.id!r} was expected. "
            "Rename the file or change the id."
        )
    return profile


@cache
def _read_built_in(path: str) -> DeviceProfile:
    """Edgekit's own profiles do not change while a program runs."""
    return _read(path, user=False)


def check_file(path: str, *, user: bool = True) -> tuple[DeviceProfile | None, tuple[Problem, ...]]:
    """Check a file, all of it.

    Args:
        path: the file.
        user: whether it is the user's own.

    Returns:
        The profile and nothing, or ``None`` and everything that is wrong.

    Raises:
        ProfileError: the file cannot be read.
    """
    content = _content(path)
    try:
        data = _toml(path, content)
    except ProfileError as error:
        text = str(error)
        text = text[len(path) :].lstrip(": ") if text.startswith(path) else text
        return None, (Problem(path, None, None, None, "a TOML file", text),)
    return check_profile(data, path, user=user)


def _read(path: str, *, user: bool) -> DeviceProfile:
    return parse_profile(_toml(path, _content(path)), path, user=user)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise ProfileError(
            f"no such device profile: {path}. Check the spelling and the folder that you are in."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ProfileError(f"cannot read the device profile {path!r}: {reason or error}.") from error


def _toml(path: str, content: bytes) -> dict[str, Any]:
    if len(content) > _LIMIT_BYTES:
        raise ProfileError(f"{path}: more than {_LIMIT_BYTES} bytes, a device profile of a few kilobytes was expected.")
    # The standard library has it from Python 3.11 on; before that it is the package that it came from.
    toml = _import("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        data: dict[str, Any] = toml.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is not UTF-8 text (byte {error.start}): a TOML file was expected.") from error
    except ValueError as error:
        raise ProfileError(f"{path} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise ProfileError(f"{path} is not valid TOML for edgekit: it is nested too deeply.") from error
    return data


def _import(name: str) -> Any:
    import importlib

    return importlib.import_module(name)
