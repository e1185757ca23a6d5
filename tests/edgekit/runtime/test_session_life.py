"""A session over months: signatures, state, views, forks, faults, and what makes it short.

These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from sessions import Load, values

import edgekit
from edgekit import DelegateSpec, EngineError, ModelFile, ModelFileError, OptionError, Session, TensorError
from edgekit.runtime.delegates import DelegateChoice


def two_entries() -> bytes:
    """Signatures ``double`` (``y`` = x + x) and ``square`` (``z`` = v * v), each with a subgraph of its own."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("ADD", [x, x], [y], ("AddOptions", models.schema.AddOptionsT()))
    content = b.build({"x": x}, {"y": y})

    def change(model: Any) -> None:
        second = copy.deepcopy(model.subgraphs[0])
        model.subgraphs.append(second)
        code = copy.deepcopy(model.operatorCodes[0])
        code.builtinCode = code.deprecatedBuiltinCode = models.schema.BuiltinOperator.MUL
        model.operatorCodes.append(code)
        second.name = b"second"
        second.operators[0].opcodeIndex = 1
        second.operators[0].builtinOptionsType = models.schema.BuiltinOptions.MulOptions
        second.operators[0].builtinOptions = models.schema.MulOptionsT()
        first = model.signatureDefs[0]
        other = copy.deepcopy(first)
        first.signatureKey, other.signatureKey, other.subgraphIndex = b"double", b"square", 1
        other.inputs[0].name, other.outputs[0].name = b"v", b"z"
        model.signatureDefs.append(other)

    return models.edited(content, change)


def remembering() -> bytes:
    """An SVDF layer: its output is the sum of the last three inputs' projections."""
    b = models.Builder()
    x = b.tensor("x", (1, 2))
    feature = b.tensor("feature", (1, 2), data=np.array([[1, 10]], np.float32))
    time = b.tensor("time", (1, 3), data=np.ones((1, 3), np.float32))
    bias = b.tensor("bias", (1,), data=np.zeros(1, np.float32))
    state = b.tensor("state", (1, 3))
    b.tensors[state].isVariable = True
    y = b.tensor("y", (1, 1))
    options = models.schema.SVDFOptionsT()
    options.rank = 1
    b.op("SVDF", [x, feature, time, bias, state], [y], ("SVDFOptions", options))
    return b.build({"x": x}, {"y": y})


def gather() -> bytes:
    """``y`` = one of four numbers; an index that does not exist makes the kernel fail."""
    b = models.Builder()
    table = b.tensor("table", (4,), data=np.array([10, 11, 12, 13], np.float32))
    x, y = b.tensor("x", (1,), "int32"), b.tensor("y", (1,))
    b.op("GATHER", [table, x], [y], ("GatherOptions", models.schema.GatherOptionsT()))
    return b.build({"x": x}, {"y": y})


class TestSignatures:
    """Entry points by name."""

    def test_each_runs_its_own(self, load: Load) -> None:
        """Names of inputs and outputs are the signature's."""
        x = values(1, 1, 4)
        double, square = load(two_entries(), signature="double"), load(two_entries(), signature="square")
        np.testing.assert_array_equal(x + x, double.run(x=x))
        np.testing.assert_array_equal(x * x, square.run(v=x))
        np.testing.assert_array_equal(x * x, square.run(x))
        assert ("v", "z") == (square.inputs[0].name, square.outputs[0].name)

    def test_one_that_does_not_exist(self, load: Load) -> None:
        """The message lists those that do."""
        with pytest.raises(ModelFileError, match=r"no signature 'cube'\. It has: 'double', 'square'"):
            load(two_entries(), signature="cube")
        with pytest.raises(ModelFileError, match=r"no signature 'cube'\. It has: none"):
            load(models.dense_float(signature=False), signature="cube")

    def test_what_a_delegate_took_of_another_subgraph_is_not_known(self, load: Load) -> None:
        """The interpreters tell of the first one only; loading with a log works all the same."""
        session = load(two_entries(), signature="square")
        with pytest.raises(EngineError, match="first subgraph only"):
            print(session.partitions)
        with pytest.raises(EngineError, match="first subgraph only"):
            load(two_entries(), signature="square", require="xnnpack")

    def test_with_a_log(self, load: Load, tmp_path: Path) -> None:
        """The header says that what was got is not known."""
        with load(two_entries(), signature="square", log=tmp_path / "log.jsonl") as session:
            session.run(values(1, 1, 4))
        (part,) = edgekit.read_log(tmp_path / "log.jsonl")
        assert part.header["got"] is None

    def test_sizes_of_another_subgraph(self, load: Load) -> None:
        """Resizing goes to the signature's own subgraph."""

        def change(model: Any) -> None:
            for graph in model.subgraphs:
                for tensor in graph.tensors:
                    tensor.shapeSignature = [-1, 4]

        session = load(models.edited(two_entries(), change), signature="square")
        for count in (1, 3, 2):
            x = values(count, count, 4)
            np.testing.assert_array_equal(x * x, session.run(x))


class TestState:
    """Models that remember."""

    def test_reset_forgets(self, load: Load) -> None:
        """After it the model gives what it gave after loading."""
        session = load(remembering())
        first = [float(session.run(np.array([[n, 1]], np.float32)).item()) for n in (1, 2, 3)]
        assert [11.0, 23.0, 36.0] == first
        session.reset()
        assert first == [float(session.run(np.array([[n, 1]], np.float32)).item()) for n in (1, 2, 3)]

    def test_a_model_without_state(self, load: Load) -> None:
        """Nothing to forget is no error."""
        session = load(models.dense_float())
        x = values(1, 1, 8)
        before = session.run(x)
        session.reset()
        np.testing.assert_array_equal(before, session.run(x))

    def test_closed(self, load: Load) -> None:
        """As for a run."""
        session = load(models.dense_float())
        session.close()
        with pytest.raises(EngineError, match="the session is closed"):
            session.reset()


class TestViews:
    """``copy=False``."""

    def test_the_next_run_changes_the_result(self, load: Load) -> None:
        """It is the interpreter's own memory, and cannot be written to."""
        session = load(models.dense_float(), copy=False)
        x, other = values(1, 1, 8), values(2, 1, 8)
        view = session.run(x)
        first = view.copy()
        second = load(models.dense_float()).run(other)
        session.run(other)
        np.testing.assert_array_equal(second, view)
        assert not np.array_equal(first, view)
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 0

    def test_a_view_outlives_the_session(self, load: Load) -> None:
        """The memory that it shows stays."""
        session = load(models.dense_float(), copy=False)
        view = session.run(values(1, 1, 8))
        expected = view.copy()
        session.close()
        del session
        gc.collect()
        np.testing.assert_array_equal(expected, view)

    def test_a_view_outlives_other_sizes(self, load: Load) -> None:
        """Resizing leaves the memory alone that somebody looks at."""
        session = load(models.dense_float(open_batch=True), copy=False)
        view = session.run(values(1, 2, 8))
        expected = view.copy()
        for count in (500, 3, 2000, 1):
            session.run(values(count, count, 8))
        np.testing.assert_array_equal(expected, view)

    def test_integers_are_not_copied_and_real_numbers_are(self, load: Load) -> None:
        """Dequantising makes an array of its own."""
        x = values(1, 1, 8)
        native = load(models.dense_int8(), copy=False, io="native")
        real = load(models.dense_int8(), copy=False)
        assert native.run(np.zeros((1, 8), np.int8)).flags.writeable is False
        assert real.run(x).flags.writeable is True


class TestNonFinite:
    """NaN and infinity."""

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refused_or_allowed(self, load: Load, bad: float) -> None:
        """Refused by default; with ``allow`` the model gets them."""
        x = values(1, 1, 8)
        x[0, 3] = bad
        with pytest.raises(TensorError, match="holds 1 NaN or infinite values of 8"):
            load(models.dense_float()).run(x)
        assert not np.isfinite(load(models.dense_float(), non_finite="allow").run(x)).all()

    def test_integers_have_no_form_for_nan(self, load: Load) -> None:
        """A quantised input takes infinity as its largest value, NaN never."""
        session = load(models.dense_int8(), non_finite="allow")
        x = values(1, 1, 8)
        x[0, 3] = np.inf
        largest = x.copy()
        largest[0, 3] = 4.0
        np.testing.assert_array_equal(session.run(largest), session.run(x))
        x[0, 3] = np.nan
        with pytest.raises(TensorError, match="holds 1 NaN values of 8: an integer input has no form"):
            session.run(x)

    def test_large_values_are_no_infinities(self, load: Load) -> None:
        """A sum of squares that overflows is not mistaken for one."""
        assert np.isfinite(load(models.dense_float()).run(np.full((1, 8), 1e30, np.float32))).all()

    def test_another_word(self, load: Load) -> None:
        """The message lists those that exist."""
        with pytest.raises(OptionError, match="unknown non_finite 'zero': expected one of refuse, allow"):
            load(models.dense_float(), non_finite="zero")


class TestBytes:
    """Images of bytes into quantised inputs."""

    @pytest.mark.parametrize("kind", ["uint8", "int8"])
    def test_each_value_as_it_would_be_alone(self, load: Load, kind: str) -> None:
        """Bytes are quantised by a table: the same as their real numbers."""
        session = load(models.dense_int8())
        every = np.arange(256, dtype=np.uint8).view(kind).reshape(32, 1, 8)
        for row in every:
            np.testing.assert_array_equal(session.run(row.astype(np.float32)), session.run(row))
        wide = load(wide_int8())
        np.testing.assert_array_equal(
            wide.run(every.reshape(1, 256).astype(np.float32)), wide.run(every.reshape(1, 256))
        )


def wide_int8() -> bytes:
    """256 int8 values that come back at half the scale."""
    b = models.Builder()
    x = b.tensor("x", (1, 256), "int8", quant=models.QuantParams((1.0,), (0,)))
    y = b.tensor("y", (1, 256), "int8", quant=models.QuantParams((2.0,), (0,)))
    b.op("QUANTIZE", [x], [y], ("QuantizeOptions", models.schema.QuantizeOptionsT()))
    return b.build({"x": x}, {"y": y})


FORK = """
import os, sys, threading, warnings
import numpy as np
warnings.simplefilter("ignore")  # of forks beside threads
import edgekit
session = edgekit.load(sys.argv[1], delegate="xnnpack", threads=2, engine=sys.argv[2] or None)
x = np.zeros((1, 8), np.float32)
expected = session.run(x)
stop = threading.Event()
busy = threading.Thread(target=lambda: [session.run(x) for _ in iter(stop.is_set, True)])
busy.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        said = ""
        for call in (lambda: session.run(x), lambda: session.run(x=x), session.reset):
            try:
                call()
                said += "ran "
            except edgekit.EngineError as error:
                said += "refused " if "forked after the model was loaded" in str(error) else str(error)
        with edgekit.load(sys.argv[1], delegate="xnnpack", engine=sys.argv[2] or None) as own:
            said += str(bool(np.array_equal(own.run(x), expected)))
        session.close()
        del session, own
        print(said, flush=True)
        os._exit(0) if _ % 2 else sys.exit(0)
    _, status = os.waitpid(pid, 0)
    print("child", os.waitstatus_to_exitcode(status), flush=True)
stop.set()
busy.join()
print("parent", bool(np.array_equal(session.run(x), expected)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_told(dense_float_file: Path, engine: str | None) -> None:
    """Its session refuses instead of waiting for threads that it does not have; a new one works, and the parent goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(dense_float_file), engine or ""],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ["refused refused refused True", "child 0"] * 5 + ["parent True"] == done.stdout.splitlines()


class TestFaults:
    """A delegate that fails while it runs."""

    def choices(self) -> tuple[DelegateChoice, DelegateChoice]:
        """XNNPACK and the interpreter's own kernels."""
        first, second = (DelegateChoice(DelegateSpec(kind, 1), "for a test") for kind in ("xnnpack", "none"))
        return first, second

    def dying(self, engine: str | None, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Session:
        """A session whose engine fails from the second run on, as if its device had been unplugged."""
        first, second = self.choices()
        session = Session(ModelFile.read(content), first, engine=engine, fallbacks=[second])
        invoke, runs = session._engine.invoke, iter(range(1))

        def fails() -> None:
            if next(runs, None) is None:
                raise EngineError("the device was unplugged")
            invoke()

        monkeypatch.setattr(session._engine, "invoke", fails)
        monkeypatch.setattr(session._engine, "calls", lambda **_: None)
        session._find_short_way()
        return session

    def test_the_next_delegate_takes_over_from_a_simulated_dead_one(
        self, engine: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The input is not lost, the change is told, and all further runs are on the new one."""
        x = values(1, 1, 8)
        with self.dying(engine, models.dense_float(), monkeypatch) as session:
            expected = session.run(x)
            with pytest.warns(
                RuntimeWarning, match="xnnpack failed while it ran, none goes on .the device was unplugged"
            ):
                actual = session.run(x)
            np.testing.assert_allclose(expected, actual, rtol=1e-5)
            np.testing.assert_array_equal(actual, session.run(x))
            (fault,) = session.faults
            assert ("xnnpack", "none") == (fault.choice.spec.kind, fault.next.spec.kind)
            assert ("none", "none") == (session.asked.spec.kind, session.got)
            assert "xnnpack failed while it ran: the device was unplugged" in session.asked.reason
            assert session.latency.count == 3

    def test_without_another_the_error_is_told(self, load: Load) -> None:
        """A kernel that fails everywhere: the last word is the engine's, and the session lives on."""
        session = load(gather())
        with pytest.raises(EngineError, match="cannot run the model"):
            session.run(np.array([7], np.int32))
        np.testing.assert_array_equal([12.0], session.run(np.array([2], np.int32)))

    def test_on_fault_next(self, load: Load) -> None:
        """An input that no delegate can run ends with the error after the last one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = load(gather(), on_fault="next")
            with pytest.raises(EngineError, match="cannot run the model"):
                session.run(np.array([7], np.int32))
        np.testing.assert_array_equal([13.0], session.run(np.array([3], np.int32)))

    def test_sizes_that_the_graph_refuses_are_no_fault(self, load: Load) -> None:
        """The delegate stays; the error is the caller's."""
        session = load(models.fixed_reshape(), on_fault="next")
        spec = session.inputs[0]
        with pytest.raises(EngineError, match="Use the sizes that it was made for"):
            session.run(values(1, 3, *spec.shape[1:]))
        assert () == session.faults
        assert session.asked.spec.kind == "xnnpack"

    def test_unknown_policy(self, load: Load) -> None:
        """The message lists those that exist."""
        with pytest.raises(OptionError, match="unknown on_fault 'retry': expected one of raise, next"):
            load(models.dense_float(), on_fault="retry")


class TestShortWay:
    """One array in and one out that need nothing done to them."""

    def test_it_gives_what_the_long_way_gives(self, load: Load) -> None:
        """By position and by name, also after another size and back."""
        session = load(models.dense_float(open_batch=True))
        assert "run" in vars(session)
        for count in (1, 3, 3, 1):
            x = values(count, count, 8)
            np.testing.assert_array_equal(session.run(x=x), session.run(x))
            np.testing.assert_array_equal(session.run(x.astype(np.float64)), session.run(x))
            np.testing.assert_array_equal(session.run(np.asfortranarray(x)), session.run(x))
        assert session.latency.count == 24

    def test_a_reference_to_run_follows_the_session(self, load: Load) -> None:
        """What was bound before another size, a reset and the end knows of them."""
        session = load(models.dense_float(open_batch=True))
        run, x, three = session.run, values(1, 1, 8), values(3, 3, 8)
        first = run(x)
        assert (3, 4) == run(three).shape
        session.reset()
        np.testing.assert_array_equal(first, run(x))
        session.close()
        with pytest.raises(EngineError, match="the session is closed"):
            run(x)

    def test_queue_time_is_logged(self, load: Load) -> None:
        """While one thread runs, another's wait is in its record."""
        session = load(models.dense_float())
        x = values(1, 1, 8)
        session._turn.enter()  # as by a run in another thread
        waiting = threading.Thread(target=session.run, args=(x,))
        waiting.start()
        session._turn.leave()
        waiting.join()
        session.run_queued(x, 0)
        first, second = session.latency.records()
        assert first.queue_ns >= 0
        assert second.start_ns == 0
        assert second.queue_ns > 1_000_000
        assert second.total_ns >= second.queue_ns + second.invoke_ns
