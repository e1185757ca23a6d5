"""Checking a profile before it is used: everything that is wrong with a file, and what to know of it when nothing is."""

from __future__ import annotations

import os
from typing import Any

from edgekit.errors import ProfileError
from edgekit.records import Record
from edgekit_profiles.loader import built_in_file, check_file, user_folder
from edgekit_profiles.profile import SCHEMA, DeviceProfile
from edgekit_profiles.toml_table import Problem

#: What edgekit calls the systems and architectures that it sees; a rule that names another never holds there.
_SYSTEMS = ("Linux", "Android", "Darwin", "Windows")
_MACHINES = ("aarch64", "arm64", "armv6l", "armv7l", "armv8l", "x86_64", "AMD64", "ARM64", "i386", "i686", "riscv64")


class Validation(Record):
    """What a check of a file found.

    Attributes:
        path: the file.
        profile: what it holds; ``None`` when something is wrong with it.
        problems: everything that is wrong with it.
        notes: what to know of it, in sentences.
        unreadable: why the file cannot be read; ``None`` when it can.
    """

    path: str
    profile: DeviceProfile | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    unreadable: str | None = None

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return self.profile is not None and not self.problems

    def to_json(self) -> dict[str, Any]:
        """What was found, as plain types."""
        profile = self.profile
        return {
            "file": self.path,
            "valid": self.valid,
            "id": profile.id if profile is not None else None,
            "name": profile.name if profile is not None else None,
            "schema": profile.schema if profile is not None else None,
            "problems": [item.to_json() for item in self.problems],
            "notes": list(self.notes),
            "unreadable": self.unreadable,
        }


def validate(path: str | os.PathLike[str]) -> Validation:
    """Check a file.

    Args:
        path: the file.

    Returns:
        What was found; a file that cannot be read says why.
    """
    text = os.fspath(path)
    try:
        profile, problems = check_file(text)
    except ProfileError as error:
        return Validation(text, None, (), (), str(error))
    if profile is None:
        return Validation(text, None, problems, ())
    name = os.path.basename(text)
    if name == f"{profile.id}.toml":
        return Validation(text, profile, (), _notes(profile))
    folder = user_folder()
    if folder is not None and os.path.realpath(os.path.dirname(text) or ".") == os.path.realpath(folder):
        expected = repr(name.removesuffix(".toml"))
        sentence = f"top level, key 'id': {profile.id!r} was seen, the file's name {expected} was expected."
        return Validation(text, profile, (Problem(text, "top level", "id", repr(profile.id), expected, sentence),), ())
    move = f"Among your own profiles ({folder or '$EDGEKIT_CONFIG_DIR'}) the file must be named {profile.id}.toml."
    return Validation(text, profile, (), (move, *_notes(profile)))


def _notes(profile: DeviceProfile) -> tuple[str, ...]:
    notes: list[str] = []
    ours = built_in_file(profile.id)
    if ours is not None and os.path.realpath(ours.path) != os.path.realpath(profile.origin):
        notes.append(f"Among your own profiles it is used in place of edgekit's own {profile.id}.")
    if profile.match is None:
        notes.append(
            f"It has no table [match]: it is never detected, and used when it is named (--device {profile.id})."
        )
    else:
        for rule, known in (("system", _SYSTEMS), ("machine", _MACHINES)):
            seen: tuple[str, ...] = getattr(profile.match, rule)
            notes.extend(
                f"[match], key {rule!r}: {item!r} is no name that edgekit knows; those are {', '.join(known)}."
                for item in seen
                if item not in known
            )
    if profile.schema < SCHEMA:
        notes.append(f"It is of schema {profile.schema}, which is read; the newest is {SCHEMA}.")
    return tuple(notes)
