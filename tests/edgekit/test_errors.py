"""``edgekit.errors``: one tree, and foreign errors turned into ours with the remedy."""

from __future__ import annotations

import errno
import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import errors
from edgekit.errors import EdgekitError, GateError, ModelFileError, OptionError, OutputError, from_os_error, one_of

TREE = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, EdgekitError)]


def test_every_error_is_in_the_drawn_tree() -> None:
    """The module's docstring names each class, under the class that it derives from."""
    drawn = errors.__doc__ or ""
    lines = [line for line in drawn.splitlines() if "──" in line]
    children = {line.split()[-1] if line.split()[-2] == "──" else line.split("── ")[1].split()[0] for line in lines}
    assert {item.__name__ for item in TREE if item is not EdgekitError} == children
    nested = {line.split("── ")[1].split()[0] for line in lines if line.strip().startswith("│")}
    assert {item.__name__ for item in TREE if item.__mro__[1] not in (EdgekitError, Exception)} == nested


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_exit_codes(kind: type[EdgekitError]) -> None:
    """A gate that was not passed exits with 1, everything else with 2."""
    assert (1 if kind is GateError else 2) == kind("text").exit_code


@dataclass(frozen=True)
class Foreign:
    """What the operating system says, and words that the translation must hold."""

    id: str
    error: OSError
    words: str


FOREIGN = [
    Foreign("full disk", OSError(errno.ENOSPC, "No space left"), "the disk is full. Free some space"),
    Foreign("quota", OSError(errno.EDQUOT, "Quota"), "quota is used up. Free some space"),
    Foreign("part is a file", NotADirectoryError(errno.ENOTDIR, "x"), "a part of that path is a file"),
    Foreign("folder", IsADirectoryError(errno.EISDIR, "x"), "it is a folder, a file was expected"),
    Foreign("permission", PermissionError(errno.EACCES, "x"), "permission denied. Check the owner and mode"),
    Foreign("read-only", OSError(errno.EROFS, "x"), "permission denied"),
    Foreign("name too long", OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long."),
    Foreign("without a text", OSError("what happened"), "what happened."),
]


@pytest.mark.parametrize("doing", ["read", "write"])
@pytest.mark.parametrize("case", FOREIGN, ids=lambda case: case.id)
def test_operating_system_errors_are_translated(case: Foreign, doing: str) -> None:
    """Each kind names the file, what was being done, what is wrong and what to do."""
    result = from_os_error(case.error, Path("folder/file.bin"), doing)
    assert (OutputError if doing == "write" else ModelFileError) is type(result)
    assert f"cannot {doing} folder/file.bin: " in str(result)
    assert case.words in str(result)


def test_missing_file_to_read() -> None:
    """A file that is not there is a question of spelling."""
    text = str(from_os_error(FileNotFoundError(errno.ENOENT, "x"), "model.tflite", "read"))
    assert text == "no such file: model.tflite. Check the spelling and the folder that you are in."


@pytest.mark.parametrize(("path", "folder"), [("out/model.tflite", "out"), ("model.tflite", ".")])
def test_missing_folder_to_write_in(path: str, folder: str) -> None:
    """What is missing when a file cannot be created is its folder."""
    text = str(from_os_error(FileNotFoundError(errno.ENOENT, "x"), Path(path), "write"))
    assert f"cannot write {path}: the folder {folder} does not exist. Create it first." == text


def test_one_of() -> None:
    """An allowed value comes back; another one is an error that lists what is allowed."""
    assert one_of("b", ("a", "b"), "letter") == "b"
    with pytest.raises(OptionError, match=r"unknown letter 'c': expected one of a, b\."):
        one_of("c", ["a", "b"], "letter")
