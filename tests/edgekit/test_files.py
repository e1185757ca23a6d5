"""``edgekit.files``: a file appears whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from processes import run_python

from edgekit.errors import ModelFileError, OutputError
from edgekit.files import check_writable, write_whole


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(os.listdir(folder))


def test_writes_the_whole_content(tmp_path: Path) -> None:
    """The file holds the data, and no other file is left."""
    write_whole(tmp_path / "a.bin", b"content", overwrite=False)
    assert (names(tmp_path), (tmp_path / "a.bin").read_bytes()) == (["a.bin"], b"content")


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    """The temporary file's private mode is not kept."""
    previous = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.bin", b"content", overwrite=False)
        assert os.umask(0o027) == 0o027, "the process's umask was changed"
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    """Without ``overwrite`` the old content stays, and the message names the option."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a\.bin exists already\..*--overwrite"):
        write_whole(path, b"new", overwrite=False)
    assert (names(tmp_path), path.read_bytes()) == (["a.bin"], b"old")


def test_overwrite_replaces(tmp_path: Path) -> None:
    """With ``overwrite`` the new content takes the old one's place."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old and longer")
    write_whole(path, b"new", overwrite=True)
    assert (names(tmp_path), path.read_bytes()) == (["a.bin"], b"new")


@pytest.mark.parametrize("error", [ModelFileError("it is not right"), KeyboardInterrupt()], ids=["check", "interrupt"])
def test_a_failing_check_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    """What the check sees is complete; when it raises, only the old file is there."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    seen = []

    def check(temporary: Path) -> None:
        seen.append(temporary.read_bytes())
        raise error

    with pytest.raises(type(error)):
        write_whole(path, b"new", overwrite=True, check=check)
    assert (seen, names(tmp_path), path.read_bytes()) == ([b"new"], ["a.bin"], b"old")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that the system refuses half-way (here by a file size limit) leaves nothing new."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import resource, sys, pathlib, edgekit.files as f, edgekit.errors as e\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: f.write_whole(pathlib.Path(sys.argv[1]), b'x' * 5000, overwrite=True)\n"
        "except e.OutputError as error: print(error)\n"
    )
    done = run_python("-c", code, path, check=True)
    assert f"cannot write {path}: File too large.\n" == done.stdout
    assert (names(tmp_path), path.read_bytes()) == (["a.bin"], b"old")


def test_folder_as_target(tmp_path: Path) -> None:
    """A folder is not a file name."""
    with pytest.raises(OutputError, match="it is a folder, a file name was expected"):
        check_writable(tmp_path, overwrite=True)


def test_missing_folder(tmp_path: Path) -> None:
    """The folder must be there already."""
    with pytest.raises(OutputError, match=r"the folder .*none does not exist\. Create it first"):
        check_writable(tmp_path / "none" / "a.bin", overwrite=False)


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """A path through a file cannot be written."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="a part of that path is a file"):
        check_writable(tmp_path / "file" / "a.bin", overwrite=False)


def test_a_name_that_the_file_system_refuses(tmp_path: Path) -> None:
    """Too long a name is an edgekit error as well."""
    with pytest.raises(OutputError, match="File name too long"):
        check_writable(tmp_path / ("n" * 300), overwrite=False)


def test_the_longest_name_that_the_file_system_takes(tmp_path: Path) -> None:
    """The temporary name is no reason to refuse a name that fits."""
    write_whole(tmp_path / ("n" * 255), b"content", overwrite=False)
    assert names(tmp_path) == ["n" * 255]


def test_what_is_not_a_file_is_never_replaced(tmp_path: Path) -> None:
    """A device or a pipe (``--output /dev/null``) is refused, even with ``overwrite``."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OutputError, match="is not a regular file"):
        write_whole(path, b"new", overwrite=True)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """The file behind a symbolic link gets the content; the link stays a link."""
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")
    write_whole(tmp_path / "link.bin", b"new", overwrite=True)
    assert ((tmp_path / "link.bin").is_symlink(), (tmp_path / "real.bin").read_bytes()) == (True, b"new")


def test_check_leaves_nothing(tmp_path: Path) -> None:
    """Looking whether a file could be written writes none."""
    check_writable(tmp_path / "a.bin", overwrite=False)
    assert names(tmp_path) == []
