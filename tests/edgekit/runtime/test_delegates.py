"""``edgekit.runtime.delegates``: what can be asked for, what was got, and delegates that need hardware."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny_models as models

import edgekit
from edgekit.errors import DelegateError, EngineError
from edgekit.runtime import delegates
from edgekit.runtime.delegates import KINDS, DelegateSpec, PartitionReport, edgetpu_library, load_library


class TestSpec:
    """A delegate as it is asked for."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("threads", [None, 1, 1024])
    def test_what_exists(self, kind: str, threads: int | None) -> None:
        """Each kind, with or without a number of threads."""
        spec = DelegateSpec(kind, threads)
        assert (spec.kind, spec.threads, spec.options) == (kind, threads, {})

    def test_unknown_kind(self) -> None:
        """The message lists those that exist."""
        with pytest.raises(
            DelegateError, match="unknown delegate 'hexagon': expected one of xnnpack, none, gpu, edgetpu, npu"
        ):
            DelegateSpec("hexagon")

    @pytest.mark.parametrize("threads", [0, -4, 1025])
    def test_impossible_threads(self, threads: int) -> None:
        """The message says how many there may be."""
        with pytest.raises(DelegateError, match=f"{threads} threads asked for: from 1 to 1024"):
            DelegateSpec("xnnpack", threads)


class TestReport:
    """What a delegate took of a graph."""

    REPORT = PartitionReport("xnnpack", ((0, 1), (4,)), (2, 3, 5), ("CONV_2D", "ADD", "GELU", "GELU", "ADD", "ARG_MAX"))

    def test_counts(self) -> None:
        """How many operators are inside, and which names are outside."""
        assert self.REPORT.taken == 3
        assert self.REPORT.outside_names() == {"ARG_MAX": 1, "GELU": 2}

    def test_as_text(self) -> None:
        """Counts, parts, and what is left where something was taken."""
        assert str(self.REPORT) == "xnnpack: 3 of 6 operators in 2 partitions; outside: ARG_MAX, GELU x2"
        assert str(PartitionReport("xnnpack", ((0,),), (), ("ADD",))) == "xnnpack: 1 of 1 operators in 1 partition"
        assert str(PartitionReport("none", (), (0,), ("ADD",))) == "none: 0 of 1 operators in 0 partitions"

    def test_as_json(self) -> None:
        """Counts and names under their keys."""
        expected = {"delegate": "xnnpack", "partitions": 2, "operators": 6, "taken": 3}
        assert self.REPORT.to_json() == {**expected, "outside": {"ARG_MAX": 1, "GELU": 2}}


class TestCpu:
    """Delegates that need no library."""

    @pytest.mark.parametrize("kind", ["xnnpack", "none"])
    def test_nothing_is_loaded(self, kind: str) -> None:
        """They are part of the interpreter."""
        assert load_library(SimpleNamespace(), DelegateSpec(kind)) == []


class TestGpu:
    """The GPU delegate."""

    def test_an_interpreter_refuses_it_with_the_reason(self) -> None:
        """It is reached through another engine; ``test_gpu`` tests that one."""
        with pytest.raises(DelegateError, match=r"not through an interpreter: .* --engine litert-compiled"):
            load_library(SimpleNamespace(), DelegateSpec("gpu"))


def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make libedgetpu impossible to find, as on a machine where it is not installed."""
    monkeypatch.setattr(delegates, "edgetpu_library", lambda: None)


class TestEdgeTpu:
    """The Edge TPU: no such device is connected to a machine that runs tests."""

    def test_options_are_looked_at_first(self) -> None:
        """An option that it does not have is an error before anything is looked for."""
        with pytest.raises(DelegateError, match=r"the Edge TPU's option device='usb0': expected usb, pci"):
            load_library(SimpleNamespace(), DelegateSpec("edgetpu", options={"device": "usb0"}))

    def test_without_its_library_on_a_machine_made_to_have_none(
        self, engine: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message names the library, the package to install, and the way without."""
        no_library(monkeypatch)
        with pytest.raises(
            DelegateError, match=r"libedgetpu, and it was not found: install Coral's package .* --delegate xnnpack"
        ):
            edgekit.load(models.custom_op("edgetpu-custom-op"), delegate="edgetpu", engine=engine)

    def test_a_compiled_model_without_the_delegate(self, engine: str | None) -> None:
        """The interpreter's word about an unresolved operator becomes the remedy."""
        content = models.custom_op("edgetpu-custom-op")
        with pytest.raises(
            EngineError, match=r"was compiled for the Edge TPU and needs that delegate: use --delegate edgetpu"
        ):
            edgekit.load(content, delegate="xnnpack", engine=engine)

    def test_looking_for_the_library_changes_nothing(self) -> None:
        """The answer is a name or nothing, and the same twice."""
        found = edgetpu_library()
        assert found is None or "edgetpu" in found
        assert edgetpu_library() == found


class TestNpu:
    """NPUs: listed, and never run on."""

    def test_it_is_refused_with_the_reason(self, engine: str | None) -> None:
        """The message says that edgekit does not run on one, and what to use."""
        with pytest.raises(DelegateError, match=r"does not run models on an NPU\..* Use --delegate xnnpack"):
            edgekit.load(models.dense_float(), delegate="npu", engine=engine)
