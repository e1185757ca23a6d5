"""What a delegate takes is learned from the runtime, survives its crashes, and is remembered."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import one_op_models as ones
import pytest
import tiny_models as models

from edgekit.errors import EngineError, OptionError
from edgekit_convert.delegate import remembered
from edgekit_convert.delegate.learned import Capabilities, form_of
from edgekit_convert.delegate.remembered import CRASHED, LEFT, REFUSED, TAKEN, Answer
from edgekit_convert.package.oldest import VARIABLE

#: A Python that runs the child as it is, and dies at each HARD_SWISH.
MORTAL = """#!{python}
import os, signal, sys
from ai_edge_litert import interpreter
sys.argv = sys.argv[2:]
sound = interpreter.Interpreter
def mortal(**arguments):
    model = sound(**arguments)
    if any(row["op_name"] == "HARD_SWISH" for row in model._get_ops_details()):
        os.kill(os.getpid(), signal.SIGSEGV)
    return model
interpreter.Interpreter = mortal
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""


@pytest.fixture
def mortal(tmp_path: Path) -> str:
    """The path of a Python whose runtime crashes at some models."""
    path = tmp_path / "mortal"
    path.write_text(MORTAL.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


class TestAnswers:
    """What the runtime of this process says."""

    def test_each_outcome(self) -> None:
        """Taken, left to the builtin kernel, and refused with the runtime's words, in the order of the questions."""
        asked = [
            ones.hard_swish(dtype="float32"),
            ones.hard_swish(),
            ones.conv(out_scale=0.0025 / 300),
            models.dense_float(),
        ]
        answers = Capabilities().learn(asked)
        assert [answer.outcome for answer in answers] == [TAKEN, LEFT, REFUSED, TAKEN]
        assert "failed to prepare" in answers[2].text
        assert answers[3].parts == ((0, 1),)

    def test_without_a_delegate(self) -> None:
        """Nothing is taken."""
        assert Capabilities("none").answer(ones.conv()) == Answer(LEFT)

    def test_the_runtime_is_named(self) -> None:
        """With its version and architecture."""
        learned = Capabilities()
        assert learned.runtime.startswith("ai-edge-litert ")
        assert str(learned) == f"{learned.runtime}, {learned.machine}"

    def test_other_delegates_cannot_be_asked(self) -> None:
        """The message lists those that can."""
        with pytest.raises(
            OptionError, match="unknown delegate to learn about 'edgetpu': expected one of xnnpack, none"
        ):
            Capabilities("edgetpu")


class TestForms:
    """What counts as the same model."""

    def test_names_and_weights_do_not(self) -> None:
        """Two networks of the same shapes are one to a delegate."""
        assert form_of(models.conv_float(seed=3)) != models.conv_float(seed=3)
        named = models.edited(ones.conv(), lambda model: setattr(model.subgraphs[0].tensors[0], "name", b"other"))
        assert form_of(named) == form_of(ones.conv())

    def test_scales_and_small_constants_do(self) -> None:
        """A limit may lie between two scales, and axes decide what an operator is."""
        assert form_of(ones.conv(out_scale=0.1)) != form_of(ones.conv(out_scale=0.2))
        rows, columns = (
            ones.one_op(
                "MEAN", [ones.T(ones.IMAGE), ones.ints([axis])], [ones.T((1, 6, 4))], ones.options("ReducerOptions")
            )
            for axis in (1, 2)
        )
        assert form_of(rows) != form_of(columns)

    def test_a_form_is_its_own_form(self) -> None:
        """What is asked once more is known."""
        assert form_of(form_of(models.conv_float())) == form_of(models.conv_float())


class TestCrashes:
    """A runtime that dies."""

    def test_a_crash_is_the_answer_of_its_model_alone(self, mortal: str) -> None:
        """Those before and behind it have theirs."""
        asked = [models.dense_float(), ones.hard_swish(), ones.conv(), ones.hard_swish(dtype="float32"), ones.split(2)]
        answers = Capabilities(python=mortal).load(asked)
        assert [answer.outcome for answer in answers] == [TAKEN, CRASHED, TAKEN, CRASHED, TAKEN]
        assert answers[1].text == "it crashed (SIGSEGV)"

    def test_a_python_without_a_runtime(self, tmp_path: Path) -> None:
        """Said, with what was expected."""
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho 'no interpreter: nothing here' >&2\nexit 1\n")
        python.chmod(0o755)
        with pytest.raises(EngineError, match="cannot say what a delegate takes: no interpreter: nothing here"):
            Capabilities(python=str(python))
        with pytest.raises(EngineError, match="could not be started"):
            Capabilities(python=str(tmp_path / "absent"))


class TestRemembered:
    """The file in the cache folder."""

    def test_what_is_known_is_not_asked_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a Python to ask, known answers are given, and others are an error."""
        answer = Capabilities(folder=tmp_path).answer(ones.hard_swish())
        monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
        again = Capabilities(folder=tmp_path)
        assert answer == again.answer(ones.hard_swish())
        with pytest.raises(EngineError, match="could not be started"):
            again.answer(ones.conv())

    def test_each_runtime_and_delegate_has_its_own(self, tmp_path: Path) -> None:
        """Version and architecture are in the file's name."""
        for kind in ("xnnpack", "none"):
            Capabilities(kind, folder=tmp_path).answer(ones.conv())
        learned = Capabilities(folder=tmp_path)
        start = f"{learned.runtime.replace(' ', '-')}-{learned.machine}"
        names = sorted(path.name for path in (tmp_path / "delegates").iterdir())
        assert names == [f"{start}-none.json", f"{start}-xnnpack.json"]

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"schema": 1, "answers": {"a": ["perhaps", [], ""]}}', b'{"schema": 99}']
    )
    def test_a_damaged_file_is_written_anew(self, content: bytes, tmp_path: Path) -> None:
        """It is ignored, and whole again afterwards."""
        Capabilities(folder=tmp_path).answer(ones.conv())
        (path,) = (tmp_path / "delegates").iterdir()
        whole = path.read_bytes()
        path.write_bytes(content)
        assert Capabilities(folder=tmp_path).answer(ones.conv()).outcome == TAKEN
        assert whole == path.read_bytes()

    def test_a_folder_that_takes_no_files(self, tmp_path: Path) -> None:
        """Nothing is remembered, and nothing fails."""
        path = tmp_path / "file"
        path.write_text("no folder")
        assert Capabilities(folder=path).answer(ones.conv()).outcome == TAKEN

    def test_it_does_not_grow_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The answers that were not asked for longest go."""
        monkeypatch.setattr(remembered, "MOST", 2)
        path = tmp_path / "a.json"
        answers = {name: Answer(TAKEN, ((0,),)) for name in ("first", "second", "third")}
        remembered.save(path, "a runtime", "a machine", "xnnpack", answers)
        assert list(remembered.load(path)) == ["second", "third"]

    def test_what_another_process_learned_is_kept(self, tmp_path: Path) -> None:
        """Two that write one after the other lose nothing."""
        path = tmp_path / "a.json"
        for name, outcome in (("one", TAKEN), ("other", LEFT)):
            remembered.save(path, "a runtime", "a machine", "xnnpack", {name: Answer(outcome)})
        assert remembered.load(path) == {"one": Answer(TAKEN), "other": Answer(LEFT)}
        assert json.loads(path.read_bytes())["runtime"] == "a runtime"

    def test_the_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Edgekit's own variable, then the system's."""
        monkeypatch.setenv("EDGEKIT_CACHE_DIR", "/named")
        assert remembered.cache_folder() == Path("/named")
        monkeypatch.delenv("EDGEKIT_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert remembered.cache_folder() == Path("/xdg/edgekit")

    def test_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a folder nothing is remembered."""
        monkeypatch.delenv("EDGEKIT_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        assert remembered.cache_folder() is None
        assert Capabilities().answer(ones.conv()).outcome == TAKEN


def test_tflite_runtime() -> None:
    """The older runtime answers for itself: it has no int8 convolution in XNNPACK on x86-64, and float ones everywhere."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    learned = Capabilities(python=python)
    assert learned.runtime == "tflite-runtime 2.14.0"
    assert learned.answer(models.conv_float()).outcome == TAKEN
    expected = LEFT if learned.machine == "x86_64" else TAKEN
    assert expected == learned.answer(ones.conv()).outcome
