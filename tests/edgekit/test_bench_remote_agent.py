"""The agent, which runs at the other end of the connection, without a connection."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit.bench.remote.agent import places
from edgekit.bench.remote.agent.jobs import Jobs
from edgekit.bench.remote.agent.serve import Agent


class TestAgent:
    """What runs at the other end, without a connection."""

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\b"])
    def test_wheel_does_not_leave_its_folder(self, tmp_path: Path, name: str) -> None:
        """A file that would lie elsewhere is refused, and nothing is unpacked."""
        own = Agent(str(tmp_path / "remote"))
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("good.py", "")
            archive.writestr(name, "")
        self.put(own, data.getvalue())
        with pytest.raises(places.Refused, match="outside of it"):
            own.do_unpack({"folder": ["incoming", "k"], "sha256": _sha256(data.getvalue()), "name": "bad"}, b"")
        assert [] == os.listdir(tmp_path / "remote" / "packages")

    def put(self, own: Agent, data: bytes) -> None:
        """Send bytes in two pieces."""
        half = len(data) // 2
        for offset, piece in ((0, data[:half]), (half, data[half:])):
            own.do_put(
                {"folder": ["incoming", "k"], "sha256": _sha256(data), "offset": offset, "size": len(data)}, piece
            )

    def test_data_folders_of_a_wheel(self, tmp_path: Path) -> None:
        """What belongs beside the packages goes there, programs go nowhere."""
        own = Agent(str(tmp_path / "remote"))
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("x-1.data/purelib/x/__init__.py", "1")
            archive.writestr("x-1.data/scripts/x", "2")
        self.put(own, data.getvalue())
        own.do_unpack({"folder": ["incoming", "k"], "sha256": _sha256(data.getvalue()), "name": "x"}, b"")
        files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
        assert [Path("remote/packages/x/x/__init__.py")] == files

    def test_file_that_arrived_otherwise(self, tmp_path: Path) -> None:
        """It is not kept."""
        own = Agent(str(tmp_path / "remote"))
        with pytest.raises(places.Refused, match="did not arrive"):
            own.do_put({"folder": ["incoming"], "sha256": "0" * 64, "offset": 0, "size": 1}, b"x")
        assert [] == os.listdir(tmp_path / "remote" / "incoming")

    def test_names_are_names(self, tmp_path: Path) -> None:
        """No request leads out of the folder."""
        own = Agent(str(tmp_path / "remote"))
        for name in ("..", "", "a/b", ".hidden"):
            with pytest.raises(places.Refused):
                own.do_sizes({"folder": ["incoming"], "files": [name]}, b"")

    def test_only_the_user_may_enter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the umask is, and also where the folder was there before."""
        place = tmp_path / "remote"
        place.mkdir(mode=0o755)
        monkeypatch.setattr(sys, "path", list(sys.path))  # the agent leaves the working folder out
        answer = Agent(str(place)).do_hello({}, b"")
        assert 0o700 == place.stat().st_mode & 0o777
        assert list(sys.version_info[:3]) == answer["python"]
        assert len(answer["found"]["edgekit"]) == len(_sha256(b""))

    def test_place_that_is_a_file(self, tmp_path: Path) -> None:
        """An error of the operating system becomes an answer."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file") as caught:
            Agent(str(tmp_path / "file" / "remote")).do_hello({}, b"")
        assert "denied" == places.translated(caught.value, "x")["kind"]

    @pytest.mark.parametrize(
        ("number", "kind"), [(28, "full"), (122, "full"), (30, "denied"), (13, "denied"), (5, "failed")]
    )
    def test_errors_of_the_system(self, number: int, kind: str) -> None:
        """A full disk, a quota, a read-only disk, no right; anything else is told as it is."""
        answer = places.translated(OSError(number, "words", "/place"), "/root")
        assert (kind, "/place: words") == (answer["kind"], answer["error"])

    def test_cleaning_leaves_what_is_not_ours(self, tmp_path: Path) -> None:
        """In a folder that somebody named."""
        (tmp_path / "mine").write_text("")
        own = Agent()
        own.do_hello({"root": str(tmp_path)}, b"")
        self.put(own, b"abc")
        (Path(own.root) / "theirs").write_text("")
        answer = own.do_clean({}, b"")
        assert (3, None) == (answer["bytes"], answer["stopped"])
        assert ["edgekit-remote", "mine"] == sorted(os.listdir(tmp_path))
        assert ["theirs"] == os.listdir(own.root)

    def test_lock_is_free_when_its_process_is_gone(self, tmp_path: Path) -> None:
        """What is written in the file counts only while somebody holds it."""
        own = Jobs(str(tmp_path))
        handle = own.lock()
        os.pwrite(handle, json.dumps({"pid": 1, "key": "k"}).encode().ljust(4096), 0)
        assert {"pid": 1, "key": "k"} == own.holder()
        with pytest.raises(places.Refused) as caught:
            own.lock()
        assert "busy" == caught.value.kind
        os.close(handle)
        assert own.holder() is None
        os.close(own.lock())


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
