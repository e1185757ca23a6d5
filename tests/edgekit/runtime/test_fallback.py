"""``edgekit.runtime.fallback``: loading on the first delegate that takes a model, with a record of each that did not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit import DelegateError, DelegateSpec, EngineError, ModelFile, OptionError, Session
from edgekit.runtime.delegates import DelegateChoice
from edgekit.runtime.fallback import Fallback, open_first

X = np.linspace(-1, 1, 8, dtype=np.float32)[None]


@pytest.fixture(autouse=True)
def no_edgetpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without libedgetpu, so that asking for the Edge TPU is refused."""
    monkeypatch.setattr("edgekit.runtime.delegates.edgetpu_library", lambda: None)


def choices(*kinds: str) -> list[DelegateChoice]:
    """These delegates on one thread."""
    return [DelegateChoice(DelegateSpec(kind, 1), f"{kind} for a test") for kind in kinds]


def test_the_first_that_loads(engine: str | None) -> None:
    """Nothing refused: the choice is the caller's own, and nothing is recorded."""
    opened, choice, refused = open_first(ModelFile.read(models.dense_float()), choices("xnnpack", "none"), engine)
    opened.close()
    assert (choices("xnnpack")[0], ()) == (choice, refused)


def test_one_that_refuses_is_recorded(engine: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The next one runs the model; what the first said is in the record, in the choice's reason and in the log."""
    model = ModelFile.read(models.dense_float())
    with caplog.at_level(logging.WARNING, "edgekit"):
        opened, choice, refused = open_first(model, choices("edgetpu", "none"), engine)
    opened.close()
    (fallback,) = refused
    assert ("edgetpu", "none") == (fallback.delegate, choice.spec.kind)
    assert "Edge TPU" in fallback.reason
    assert f"edgetpu could not be used: {fallback.reason}" == choice.reason
    (record,) = caplog.records
    assert f"the model: none runs the model, because {choice.reason}" == record.getMessage()
    assert ("edgekit", logging.WARNING) == (record.name, record.levelno)


def test_all_refuse_with_the_same_words(engine: str | None) -> None:
    """A model that no interpreter runs: its own error, once."""
    model = ModelFile.read(models.custom_op("Mystery"))
    with pytest.raises(EngineError) as caught:
        open_first(model, choices("none", "none"), engine)
    assert 1 == str(caught.value).count("unresolved custom op")


def test_all_refuse_with_different_words(engine: str | None) -> None:
    """The first one's error, with what was tried after it."""
    model = ModelFile.read(models.custom_op("Mystery"))
    with pytest.raises(DelegateError, match=r"Edge TPU.* Then none was tried: .*Mystery"):
        open_first(model, choices("edgetpu", "none"), engine)


def test_nothing_to_load_on() -> None:
    """An empty list is told, and not an index error."""
    with pytest.raises(DelegateError, match="at least one was expected"):
        open_first(ModelFile.read(models.dense_float()), [])


class TestLoad:
    """``edgekit.load`` with a delegate that is not to be had here."""

    def test_a_named_delegate_has_no_fallback_of_its_own(self, engine: str | None) -> None:
        """Whoever names one gets that one or an error."""
        with pytest.raises(DelegateError, match="Edge TPU"):
            edgekit.load(models.dense_float(), delegate="edgetpu", engine=engine)

    def test_the_callers_order(self, engine: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The model runs; ``session.fallbacks``, the log's header and a warning tell what was not used and why."""
        with edgekit.load(models.dense_float(), delegate="none", engine=engine) as plain:
            expected = plain.run(X)
        log = tmp_path / "log.jsonl"
        with caplog.at_level(logging.WARNING, "edgekit"):
            session = edgekit.load(
                models.dense_float(), delegate="edgetpu", fallback=("edgetpu", "none"), engine=engine, log=log
            )
        with session:
            np.testing.assert_array_equal(expected, session.run(X))
            (fallback,) = session.fallbacks
            assert ("edgetpu", "none", "none") == (fallback.delegate, session.asked.spec.kind, session.got)
        header = json.loads(log.read_text().splitlines()[0])
        assert {"delegate": "edgetpu", "threads": None} == header["asked"]
        assert [{"delegate": "edgetpu", "reason": fallback.reason}] == header["fallbacks"]
        assert 1 == len(caplog.records)

    def test_nothing_fell_back(self, engine: str | None, tmp_path: Path) -> None:
        """Then the record is empty, in the header too."""
        log = tmp_path / "log.jsonl"
        with edgekit.load(models.dense_float(), engine=engine, log=log) as session:
            assert () == session.fallbacks
        assert [] == json.loads(log.read_text().splitlines()[0])["fallbacks"]

    def test_a_pick_of_the_profile_goes_on_by_itself(self, engine: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pick of the profile that refuses goes on in the profile's order, without being asked to."""
        import edgekit_profiles

        refused = DelegateChoice(DelegateSpec("edgetpu", 1), "a pick that the test made", (), "test")
        monkeypatch.setattr(edgekit_profiles, "choose_for", lambda *_: refused)
        with edgekit.load(models.dense_float(), engine=engine) as session:
            assert ("edgetpu",) == tuple(item.delegate for item in session.fallbacks)
            assert "xnnpack" == session.asked.spec.kind
        with pytest.raises(DelegateError, match="Edge TPU"):
            edgekit.load(models.dense_float(), engine=engine, fallback=())

    def test_options_with_the_delegate(self, engine: str | None) -> None:
        """A ``DelegateSpec`` is taken as it is, threads filled in."""
        spec = DelegateSpec("none", 2)
        with edgekit.load(models.dense_float(), delegate=spec, engine=engine) as session:
            assert spec == session.asked.spec
        with edgekit.load(models.dense_float(), delegate=spec, threads=1, engine=engine) as session:
            assert spec._replace(threads=1) == session.asked.spec

    def test_required_means_required(self, engine: str | None) -> None:
        """Nothing else is tried, the message says why, and the command line's exit code is 1: it was no wrong usage."""
        with pytest.raises(DelegateError, match=r"edgetpu was required and cannot be used: .*Drop --require") as caught:
            edgekit.load(models.dense_float(), require="edgetpu", engine=engine)
        assert 1 == caught.value.exit_code

    def test_required_names_the_delegate(self, engine: str | None) -> None:
        """Without a named delegate the required one is loaded, not the profile's pick."""
        with edgekit.load(models.dense_float(), require="none", engine=engine) as session:
            assert ("none", "none") == (session.asked.spec.kind, session.got)

    def test_required_and_a_fallback_exclude_each_other(self, engine: str | None) -> None:
        """The message names both."""
        with pytest.raises(OptionError, match="require='none' allows no other delegate: leave out fallback"):
            edgekit.load(models.dense_float(), require="none", fallback=("xnnpack",), engine=engine)

    def test_a_fallback_is_not_gone_on_to_twice(self, engine: str | None) -> None:
        """The delegate that runs after a fallback at load is no longer one to go on with after a fault."""
        model = ModelFile.read(models.dense_float())
        first, second = choices("edgetpu", "none")
        with Session(model, first, engine=engine, fallbacks=[second], alternatives=[second]) as session:
            assert (Fallback("edgetpu", session.fallbacks[0].reason),) == session.fallbacks
            assert [] == session._fallbacks
