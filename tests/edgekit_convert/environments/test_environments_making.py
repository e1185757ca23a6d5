"""Environments are made with the real venv and pip, from tiny wheels in a folder: no network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_wheels import write_lock, write_wheel

from edgekit.errors import ConversionError, OptionError, OutputError
from edgekit_convert import environments
from edgekit_convert.environments import lock as locks
from edgekit_convert.environments import making


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes wheels from, with two of them; and a lock that asks for both."""
    for name in ("first_tiny", "second_tiny"):
        write_wheel(tmp_path / "shelf", name)
    write_lock(tmp_path / "locks", {"first-tiny": "1.0", "second_tiny": "1.0"})
    write_lock(tmp_path / "locks", {"first_tiny": "1.0", "second_tiny": "1.0"})
    monkeypatch.setattr(locks, "_FOLDER", tmp_path / "locks")
    monkeypatch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(tmp_path / "made"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a whole environment, shared by tests that only look; its lock lies beside it."""
    folder = tmp_path_factory.mktemp("ready")
    write_wheel(folder / "shelf", "only_tiny", code="value = 7\n")
    write_lock(folder / "locks", {"only_tiny": "1.0"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "_FOLDER", folder / "locks")
        patch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(folder / "made"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder / "shelf"))
        assert environments.make("tiny").state == "ready"
    return folder


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the shared environment."""
    monkeypatch.setattr(locks, "_FOLDER", folder / "locks")
    monkeypatch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(folder / "made"))


def test_what_was_made(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages are in it and in no other, its versions are told, and what was fetched is gone."""
    use(ready, monkeypatch)
    found = environments.status("tiny")
    assert ("ready", {"only_tiny": "1.0"}) == (found.state, found.versions)
    assert found.disk_bytes > 1000
    done = subprocess.run([found.python, "-I", "-c", "import only_tiny; print(only_tiny.value)"], capture_output=True)
    assert b"7" == done.stdout.strip()
    assert not (found.folder / "wheels").exists()
    with pytest.raises(ModuleNotFoundError):
        __import__("only_tiny")


def test_one_that_is_ready_is_left_alone(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it again fetches nothing, so that it works without any wheel."""
    use(ready, monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(ready / "nowhere"))
    steps: list[str] = []
    before = (environments.status("tiny").folder / "ready.json").stat().st_mtime_ns
    assert "ready" == environments.make("tiny", lambda step, done, total: steps.append(step)).state
    assert [] == steps
    assert before == (environments.status("tiny").folder / "ready.json").stat().st_mtime_ns


def test_another_lock_makes_it_outdated(ready: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment of other versions is not used, and the message has the command."""
    use(ready, monkeypatch)
    write_lock(tmp_path / "locks", {"only_tiny": "2.0"})
    monkeypatch.setattr(locks, "_FOLDER", tmp_path / "locks")
    assert "outdated" == environments.status("tiny").state
    with pytest.raises(
        ConversionError, match=r"m\.onnx needs an environment.*another edgekit's: run `edgekit setup tiny`"
    ):
        environments.require("tiny", "m.onnx")


def test_a_python_that_is_gone_makes_it_broken(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link to a Python that was removed is seen."""
    use(ready, monkeypatch)
    python = environments.status("tiny").python
    aside = python.with_name("aside")
    python.rename(aside)
    try:
        assert "broken" == environments.status("tiny").state
        with pytest.raises(ConversionError, match="the Python of the one that is there is gone"):
            environments.require("tiny", "m.onnx")
    finally:
        aside.rename(python)


def test_an_absent_one_is_named_with_its_command(shelf: Path) -> None:
    """Nothing is made by asking for it."""
    with pytest.raises(
        ConversionError,
        match=r"m\.onnx needs an environment of its own, which is not there yet: run `edgekit setup tiny` \(.*download",
    ):
        environments.require("tiny", "m.onnx")
    assert "absent" == environments.status("tiny").state
    assert not Path(os.environ["EDGEKIT_ENVIRONMENTS_DIR"]).exists()


def test_what_was_fetched_is_kept_and_not_fetched_again(shelf: Path) -> None:
    """A failure names the package and keeps those before it; the next call goes on with the rest."""
    second = shelf / "second_tiny-1.0-py3-none-any.whl"
    second.rename(shelf / "aside")
    with pytest.raises(
        ConversionError, match=r"pip could not fetch second_tiny 1\.0: .*the 1 packages that came are kept"
    ):
        environments.make("tiny")
    assert "incomplete" == environments.status("tiny").state
    (shelf / "aside").rename(second)
    (shelf / "first_tiny-1.0-py3-none-any.whl").unlink()
    steps: list[tuple[str, int, int]] = []
    made = environments.make("tiny", lambda *step: steps.append(step))
    assert ("ready", {"first_tiny": "1.0", "second_tiny": "1.0"}) == (made.state, made.versions)
    assert ("Fetching 2 packages", 2, 2) in steps


def test_an_installation_that_was_interrupted_is_done_anew(shelf: Path) -> None:
    """What stands half-installed is thrown away, as nobody knows what is missing."""
    folder = environments.status("tiny").folder
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "installing").touch()
    (folder / "venv" / "left over").touch()
    assert "incomplete" == environments.status("tiny").state
    assert "ready" == environments.make("tiny").state
    assert not (folder / "venv" / "left over").exists()
    assert not (folder / "installing").exists()
    freed = environments.remove("tiny")
    assert freed > 1000
    assert not folder.exists()
    assert 0 == environments.remove("tiny")


def test_one_that_does_not_work_is_not_ready(shelf: Path) -> None:
    """A package that cannot be imported on this machine is told with its own words."""
    write_wheel(shelf, "second_tiny", code="raise ImportError('libGL.so.1 is missing')\n")
    with pytest.raises(ConversionError, match=r"does not work on this machine: ImportError: libGL\.so\.1 is missing"):
        environments.make("tiny")
    assert "incomplete" == environments.status("tiny").state


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is another one there")
def test_two_at_once_are_one_too_many(shelf: Path) -> None:
    """The second is told so, while the first holds the lock."""
    import fcntl

    folder = environments.status("tiny").folder
    folder.parent.mkdir(parents=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process is at work"):
            environments.make("tiny")


@pytest.mark.skipif(sys.platform == "win32", reason="a lock on Windows ends with the process that took it")
def test_what_outlives_a_killed_one_keeps_others_out(tmp_path: Path) -> None:
    """Killed while pip runs, it leaves pip at work in the folder: who comes next has to wait for that one too."""
    folder, said = tmp_path / "onnx", tmp_path / "pid"
    inner = f"import os, time, pathlib; pathlib.Path({str(said)!r}).write_text(str(os.getpid())); time.sleep(60)"
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgekit_convert.environments import making\n"
        f"with making._alone(Path({str(folder)!r})):\n    making._run([sys.executable, '-c', {inner!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd="/") as maker:
        _until(lambda: said.is_file() and said.read_text() != "")
        maker.kill()
    pip = int(said.read_text())
    try:
        with pytest.raises(OutputError, match="another process is at work"), making._alone(folder):
            pass
    finally:
        os.kill(pip, signal.SIGKILL)
    _until(lambda: _free(folder))


def _until(true: Callable[[], bool]) -> None:
    """Wait for something that takes a moment, for a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _free(folder: Path) -> bool:
    try:
        with making._alone(folder):
            return True
    except OutputError:
        return False


def test_too_small_a_disk_is_said_before(shelf: Path, tmp_path: Path) -> None:
    """Sizes are compared before anything is fetched."""
    write_lock(tmp_path / "locks", {"first_tiny": "1.0"}, disk_bytes=10**16)
    with pytest.raises(OutputError, match=r"takes up to .* GB while it is made.*EDGEKIT_ENVIRONMENTS_DIR"):
        environments.make("tiny")
    assert "absent" == environments.status("tiny").state


def test_a_place_that_cannot_be_written(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be is one error."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(tmp_path / "file" / "inside"))
    with pytest.raises(OutputError, match="a part of that path is a file"):
        environments.make("tiny")


def test_unknown_names_and_pythons(shelf: Path, tmp_path: Path) -> None:
    """Each gets what exists."""
    with pytest.raises(OptionError, match="unknown environment 'huge': expected one of tiny"):
        environments.status("huge")
    write_lock(tmp_path / "locks", {}, pythons='"3.7", "3.8"')
    with pytest.raises(ConversionError, match=r"no tiny environment for Python .* tried with 3\.7, 3\.8"):
        environments.status("tiny")


def test_the_real_locks_are_whole() -> None:
    """Every lock pins every package exactly, and each Python that edgekit supports has one."""
    folder = Path(locks.__file__).parent / "locks"
    found = [locks._read(path) for path in sorted(folder.glob("onnx-*.toml"))]
    assert ["3.10", "3.11", "3.12", "3.13"] == sorted(python for lock in found for python in lock.pythons)
    for lock in found:
        names = [name.lower().replace("-", "_") for name, _ in lock.packages]
        assert len(set(names)) == len(names)
        assert {"onnx", "onnx2tf", "onnxruntime", "onnxsim", "tensorflow", "numpy"} <= set(names)
        assert all(version[0].isdigit() and "*" not in version for _, version in lock.packages)
        assert json.dumps(lock.imports)
        assert 100e6 < lock.download_bytes < lock.disk_bytes < 10e9
