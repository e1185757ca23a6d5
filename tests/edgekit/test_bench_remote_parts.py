"""What a benchmark on another machine is put together from, without one."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from processes import run_python

from edgekit.bench.remote import needs
from edgekit.bench.remote.agent import facts
from edgekit.bench.remote.base import base
from edgekit.bench.remote.destination import Destination
from edgekit.bench.remote.errors import ConnectionLost, RemoteError
from edgekit.bench.remote.request import Request, read_request
from edgekit.bench.remote.ssh import ssh_command, translated
from edgekit.errors import DataError, ModelFileError, OptionError
from edgekit.preprocess import Preprocessing


class TestDestination:
    """``ssh://[user@]host[:port]``."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("ssh://pi", Destination("pi")),
            ("ssh://pi/", Destination("pi")),
            ("SSH://me@pi.local:2222", Destination("pi.local", "me", 2222)),
            ("ssh://me@corp.example@pi", Destination("pi", "me@corp.example")),
            ("ssh://127.0.0.1:22", Destination("127.0.0.1", None, 22)),
            ("ssh://me@[fe80::1%25eth0]:22", Destination("fe80::1%eth0", "me", 22)),
            ("ssh://[::1]", Destination("::1")),
            ("ssh://my_alias-2", Destination("my_alias-2")),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_parts(self, text: str, expected: Destination) -> None:
        """Each part where it belongs, and the text again."""
        assert expected == Destination.parse(text)
        assert expected == Destination.parse(str(expected))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("pi@raspberrypi", "is no place to run on"),
            ("https://pi", "is no place to run on"),
            ("ssh://", "names no host"),
            ("ssh://pi@", "names no host"),
            ("ssh://-oProxyCommand=x", "names no host"),
            ("ssh://a b", "names no host"),
            ("ssh://$(id)", "names no host"),
            ("ssh://pi;ls", "names no host"),
            ("ssh://[::1", "names no host"),
            ("ssh://::1", "names no host"),
            ("ssh://-l@pi", "is no user's name"),
            ("ssh://a'b@pi", "is no user's name"),
            ("ssh://@pi", "is no user's name"),
            ("ssh://me:secret@pi", "has a password"),
            ("ssh://pi/folder", "has a path"),
            ("ssh://pi?x", "has a path"),
            ("ssh://pi:", "a number from 1 to 65535"),
            ("ssh://pi:0", "a number from 1 to 65535"),
            ("ssh://pi:65536", "a number from 1 to 65535"),
            ("ssh://pi:x", "a number from 1 to 65535"),
            ("ssh://pi:²", "a number from 1 to 65535"),
        ],
        ids=lambda value: value[:24],
    )
    def test_what_is_none(self, text: str, message: str) -> None:
        """Nothing that ssh or a shell could take for something else goes through."""
        with pytest.raises(OptionError, match=message) as caught:
            Destination.parse(text)
        assert "secret" not in str(caught.value)

    def test_arguments_end_with_the_host(self) -> None:
        """Behind two dashes, where nothing is an option any more."""
        assert ["-l", "me", "-p", "22", "--", "pi"] == Destination("pi", "me", 22).arguments()


class TestBase:
    """This edgekit as a wheel."""

    def test_it_is_whole_and_the_same_everywhere(self, tmp_path: Path) -> None:
        """The three packages with their data and a list of files; what was unpacked from it gives the same bytes again."""
        first = base()
        with zipfile.ZipFile(io.BytesIO(first.wheel)) as archive:
            archive.extractall(tmp_path)
        code = "import hashlib; from edgekit.bench.remote.base import base; print(hashlib.sha256(base().wheel).hexdigest())"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        done = run_python("-c", code, env=environment, check=True)
        assert _sha256(first.wheel) == done.stdout.strip()
        with zipfile.ZipFile(io.BytesIO(first.wheel)) as archive:
            names = archive.namelist()
            record = archive.read(next(name for name in names if name.endswith("/RECORD"))).decode()
        assert {
            "edgekit/bench/worker.py",
            "edgekit_profiles/data/raspberry-pi-5.toml",
            "edgekit_convert/py.typed",
        } <= set(names)
        assert not [name for name in names if name.endswith(".pyc")]
        assert {line.split(",")[0] for line in record.splitlines()} == set(names)

    def test_agent_gives_the_same_hash(self, tmp_path: Path) -> None:
        """What is unpacked there is recognised; one letter more is another edgekit."""
        with zipfile.ZipFile(io.BytesIO(base().wheel)) as archive:
            archive.extractall(tmp_path)
        folders = {name: str(tmp_path / name) for name in facts.PACKAGES}
        assert base().source_hash == facts.source_hash(folders)
        with (tmp_path / "edgekit" / "version.py").open("a") as file:
            file.write("#")
        assert base().source_hash != facts.source_hash(folders)


class TestRequest:
    """What travels."""

    def test_same_request_same_key(self, tmp_path: Path, dense_int8_file: Path) -> None:
        """Another option, model or sample is another benchmark; the folder it is made in is not."""
        data = np.zeros((3, 8), np.float32)

        def key(folder: str, model: Any = dense_int8_file, **options: Any) -> str:
            (tmp_path / folder).mkdir()
            return Request.make(model, tmp_path / folder, **{"data": data, "threads": [1], **options}).key

        first = key("a")
        assert first == key("b")
        others = [
            key("c", threads=[2]),
            key("d", data=data + 1),
            key("e", model={"dense_int8.tflite": models.dense_float()}),
        ]
        assert len({first, *others}) == 4

    def test_it_is_read_as_it_was_meant(self, tmp_path: Path) -> None:
        """Through JSON: method, cases in order, names of files."""
        request = Request.make(
            {"m": models.dense_float()}, tmp_path, delegates=["none", "xnnpack"], batches=[None, 4], runs=7, budget_s=2.5,
            data=np.zeros((3, 8), np.float32), data_name="mine.npy",
        )  # fmt: skip
        method, rows = read_request(json.loads(json.dumps(request.settings)))
        assert (7, 2.5, "mine.npy") == (method.runs, method.budget_s, method.data_name)
        assert [("none", None), ("none", 4), ("xnnpack", None), ("xnnpack", 4)] == [
            (case.delegate, case.batch) for case, *_ in rows
        ]
        assert [False, True, False, True] == [error is not None for *_, error in rows]  # no room for a batch
        assert {name for _, *names, _ in rows for name in names if name} == set(request.files)

    def test_wrong_ones_are_told_here(self, tmp_path: Path) -> None:
        """Options, files and data, before any machine is asked."""
        with pytest.raises(OptionError, match="runs is 0"):
            Request.make(models.dense_float(), tmp_path, runs=0)
        with pytest.raises(OptionError, match="delegates has a value twice"):
            Request.make(models.dense_float(), tmp_path, delegates=["none", "none"])
        with pytest.raises(ModelFileError, match="no such file"):
            Request.make(tmp_path / "none.tflite", tmp_path)
        with pytest.raises(DataError, match="preprocessing is for one input"):
            Request.make(
                models.add_two_inputs(), tmp_path, data=[{"a": [[0.0] * 4], "b": [[0.0] * 4]}],
                preprocessing=Preprocessing(mean=(1.0,), std=(2.0,)),
            )  # fmt: skip


class TestSsh:
    """The program, and what its words mean."""

    def test_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """``ssh``, or what the variable names, split as a shell does and run by none."""
        monkeypatch.setenv("EDGEKIT_SSH_COMMAND", "ssh -F 'a file'")
        assert ["-F", "a file"] == ssh_command()[1:]
        monkeypatch.setenv("EDGEKIT_SSH_COMMAND", "ssh 'open")
        with pytest.raises(OptionError, match="No closing quotation"):
            ssh_command()
        monkeypatch.delenv("EDGEKIT_SSH_COMMAND")
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(RemoteError, match=r"there is no 'ssh' here\. Install OpenSSH's client"):
            ssh_command()

    @pytest.mark.parametrize(
        ("said", "kind", "message"),
        [
            ("Host key verification failed.", RemoteError, "is not known here"),
            ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", RemoteError, "another one than before"),
            ("me@pi: Permission denied (publickey,password).", RemoteError, "does not let you in"),
            ("ssh: Could not resolve hostname pi: Name or service not known", ConnectionLost, "no machine called 'pi'"),
            ("ssh: connect to host pi port 22: Connection refused", ConnectionLost, "no SSH server does"),
            ("ssh: connect to host pi port 22: Connection timed out", ConnectionLost, "does not answer"),
            ("ssh: connect to host pi port 22: No route to host", ConnectionLost, "does not answer"),
            ("/home/me/.ssh/config: line 1: Bad configuration option: x", RemoteError, "does not accept its configuration"),
            ("something else", ConnectionLost, "must give a shell there"),
        ],
        ids=lambda value: str(value)[:24],
    )  # fmt: skip
    def test_words(self, said: str, kind: type[RemoteError], message: str) -> None:
        """Each has its remedy, and ssh's last line is quoted; only what may pass is tried again."""
        error = translated(Destination("pi", "me"), said.splitlines(), opened=False)
        assert kind is type(error)
        assert message in str(error)
        assert said.splitlines()[-1] in str(error)

    def test_nothing_weakens_the_check_of_host_keys(self) -> None:
        """No source of ours names the option at all."""
        folder = Path(str(needs.__file__)).parent
        assert [] == [path.name for path in folder.glob("*.py") if "StrictHostKeyChecking" in path.read_text()]


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
