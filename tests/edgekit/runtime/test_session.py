"""``edgekit.runtime.session``: arrays in, arrays out, every run timed.

These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from sessions import Load, values

import edgekit
from edgekit import (
    DelegateError,
    EngineError,
    ModelFile,
    ModelFileError,
    OptionError,
    OutputError,
    Preprocessing,
    Session,
    TensorError,
)
from edgekit.runtime.logfile import read_log
from edgekit.tensors import Array, QuantParams


def softmax(logits: Array) -> Array:
    """The usual formula."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def int8_logits(x: Array) -> Array:
    """The int8 model's integers, computed with whole numbers from the constants in the file."""
    tensors = {tensor.name: tensor for tensor in ModelFile.read(models.dense_int8()).graph.main.tensors}

    def scale(name: str) -> float:
        quant = tensors[name].quant
        assert quant is not None
        return quant.scales[0]

    integers = np.clip(np.round(x.astype(np.float64) / scale("x")), -128, 127).astype(np.int64)
    sums = integers @ tensors["weights"].array().astype(np.int64).T + tensors["bias"].array().astype(np.int64)
    return np.clip(np.round(sums * (scale("x") * scale("weights") / scale("logits"))), -128, 127)


def scalar() -> bytes:
    """A model without axes: ``y`` = a + b."""
    b = models.Builder()
    first, second, y = b.tensor("a", ()), b.tensor("b", ()), b.tensor("y", ())
    b.op("ADD", [first, second], [y], ("AddOptions", models.schema.AddOptionsT()))
    return b.build({"a": first, "b": second}, {"y": y})


def of_integers(dtype: str = "int32") -> bytes:
    """A model on plain integers: ``y`` = ``x`` with another shape."""
    b = models.Builder()
    x = b.tensor("x", (1, 4), dtype)
    shape = b.tensor("shape", (2,), "int32", data=np.array([2, 2], np.int32))
    y = b.tensor("y", (2, 2), dtype)
    b.op("RESHAPE", [x, shape], [y])
    return b.build({"x": x}, {"y": y})


def halves() -> bytes:
    """Two independent parts, one that XNNPACK takes (float) and one that it does not (int32)."""
    b = models.Builder()
    x, n = b.tensor("x", (1, 4)), b.tensor("n", (1, 4), "int32")
    y, m = b.tensor("y", (1, 4)), b.tensor("m", (1, 4), "int32")
    b.op("ADD", [x, x], [y], ("AddOptions", models.schema.AddOptionsT()))
    b.op("ADD", [n, n], [m], ("AddOptions", models.schema.AddOptionsT()))
    return b.build({"x": x, "n": n}, {"y": y, "m": m})


def gather() -> bytes:
    """``y`` = one of four numbers; an index that does not exist makes the kernel fail."""
    b = models.Builder()
    table = b.tensor("table", (4,), data=np.array([10, 11, 12, 13], np.float32))
    x, y = b.tensor("x", (1,), "int32"), b.tensor("y", (1,))
    b.op("GATHER", [table, x], [y], ("GatherOptions", models.schema.GatherOptionsT()))
    return b.build({"x": x}, {"y": y})


class TestFloat:
    """Real numbers in and out."""

    @pytest.mark.parametrize("delegate", ["xnnpack", "none"])
    def test_float_model(self, load: Load, delegate: str) -> None:
        """The same as numpy computes."""
        session = load(models.dense_float(), delegate=delegate)
        for seed in range(5):
            x = values(seed, 1, 8)
            result = session.run(x)
            assert ((1, 4), "float32") == (result.shape, str(result.dtype))
            np.testing.assert_allclose(softmax(models.dense_logits(x)), result, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("delegate", ["xnnpack", "none"])
    def test_int8_model(self, load: Load, delegate: str) -> None:
        """The integers that the quantised constants give, up to the kernel's last rounding, as real numbers."""
        session = load(models.dense_int8(), delegate=delegate)
        step = float(np.float32(models.DENSE_OUTPUT.scales[0]))
        for seed in range(5):
            x = values(seed, 1, 8)
            result = session.run(x)
            assert ((1, 4), "float32") == (result.shape, str(result.dtype))
            np.testing.assert_allclose(int8_logits(x) * step, result, rtol=0, atol=1.01 * step)
            np.testing.assert_allclose(models.dense_logits(x), result, rtol=0, atol=0.25)

    def test_values_beyond_the_range_saturate(self, load: Load) -> None:
        """Numbers that the int8 input cannot hold count as its ends."""
        session = load(models.dense_int8())
        far, end = np.full((1, 8), 1e6), np.full((1, 8), 127 * 8 / 255)
        np.testing.assert_array_equal(session.run(end), session.run(far))

    @pytest.mark.parametrize("kind", ["float64", "float16", "int64", "uint8", "bool"])
    def test_other_types_are_converted(self, load: Load, kind: str) -> None:
        """Real numbers may come in any type; what counts is their value."""
        x = np.array([[0, 1, 1, 0, 1, 0, 0, 1]], kind)
        session = load(models.dense_float())
        np.testing.assert_array_equal(session.run(x.astype(np.float32)), session.run(x))

    def test_lists_are_arrays(self, load: Load) -> None:
        """Nested lists do as well."""
        x = values(0, 1, 8)
        session = load(models.dense_float())
        np.testing.assert_array_equal(session.run(x), session.run(x.tolist()))

    def test_any_memory_layout(self, load: Load) -> None:
        """A slice with gaps and a transposed array are read in their own order."""
        wide = values(0, 8, 16)
        for content in (models.dense_float(), models.dense_int8()):
            session = load(content)
            for x in (wide[:1, ::2], wide[:, :1].T, np.asfortranarray(wide[:1, :8])):
                np.testing.assert_array_equal(session.run(x.copy(order="C")), session.run(x))

    def test_calling_is_running(self, load: Load) -> None:
        """``model(x)`` and ``model.run(x)`` are one."""
        session = load(models.add_two_inputs())
        x = values(0, 1, 4)
        np.testing.assert_array_equal(session.run(a=x, b=x)["sum"], session(a=x, b=x)["sum"])

    def test_scalars(self, load: Load) -> None:
        """Inputs and outputs without axes stay so."""
        result = load(scalar()).run(a=1.5, b=np.float32(2))
        assert ((), 3.5) == (np.shape(result), float(result))

    def test_plain_integers(self, load: Load) -> None:
        """Inputs that are integers in the model take integers, and floats that are whole."""
        session = load(of_integers())
        result = session.run(np.array([[1.0, 2.0, -3.0, 4.0]]))
        assert ([[1, 2], [-3, 4]], "int32") == (result.tolist(), str(result.dtype))
        assert [[1, 2], [3, 4]] == session.run(np.array([[1, 2, 3, 4]], np.int64)).tolist()


class TestNative:
    """The file's own integers in and out."""

    def test_integers_in_and_out(self, load: Load) -> None:
        """Nothing is scaled: the same integers as by hand, up to the kernel's last rounding."""
        session = load(models.dense_int8(), io="native")
        x = values(3, 1, 8)
        integers = np.clip(np.round(x / models.DENSE_INPUT.scales[0]), -128, 127).astype(np.int8)
        result = session.run(integers)
        assert "int8" == str(result.dtype)
        assert np.abs(int8_logits(x) - result.astype(int)).max() <= 1

    def test_same_run_as_real_numbers(self, load: Load) -> None:
        """Dequantised by hand it is what ``io="float"`` gives."""
        x = np.arange(-40, 40, 10, dtype=np.int8)[None]
        native = load(models.dense_int8(), io="native").run(x)
        real = load(models.dense_int8()).run(x * np.float32(models.DENSE_INPUT.scales[0]))
        np.testing.assert_array_equal(native * np.float32(models.DENSE_OUTPUT.scales[0]), real)

    @pytest.mark.parametrize("kind", ["float32", "uint8", "int16"])
    def test_other_types_are_refused(self, load: Load, kind: str) -> None:
        """The type is never guessed from the array: native is native."""
        session = load(models.dense_int8(), io="native")
        with pytest.raises(
            TensorError, match=f"input 'x' is {kind}, the file's own type int8 was expected .*io='float'"
        ):
            session.run(np.zeros((1, 8), kind))

    def test_float_model(self, load: Load) -> None:
        """The own type of a float model is float32."""
        x = values(0, 1, 8)
        expected = load(models.dense_float()).run(x)
        np.testing.assert_array_equal(expected, load(models.dense_float(), io="native").run(x))


class TestSeveral:
    """Several inputs and outputs."""

    def test_by_name_and_by_mapping(self, load: Load) -> None:
        """Names or a mapping, in any order; the outputs come by name."""
        session = load(models.add_two_inputs())
        a, b = values(0, 1, 4), values(1, 1, 4)
        for result in (session.run(b=b, a=a), session.run({"b": b, "a": a}), session.run({"a": a}, b=b)):
            assert ["sum", "difference"] == list(result)
            np.testing.assert_allclose(a + b, result["sum"], rtol=1e-6)
            np.testing.assert_allclose(a - b, result["difference"], rtol=1e-6)

    def test_one_input_by_name(self, load: Load) -> None:
        """The only input may be named too."""
        session = load(models.dense_float())
        x = values(0, 1, 8)
        expected = session.run(x)
        np.testing.assert_array_equal(expected, session.run(x=x))
        np.testing.assert_array_equal(expected, session.run({"x": x}))

    def test_specs(self, load: Load) -> None:
        """Inputs and outputs are described as in the file."""
        session = load(models.add_two_inputs())
        assert ModelFile.read(models.add_two_inputs()).inputs == session.inputs
        assert ["sum", "difference"] == [spec.name for spec in session.outputs]


class TestOpenBatch:
    """A size that the file leaves open."""

    def test_other_batch_sizes(self, load: Load) -> None:
        """Each size works, larger and smaller, and each sample's result is its own."""
        session = load(models.dense_float(open_batch=True))
        x = values(0, 7, 8)
        for count in (1, 7, 2, 2, 1, 5):
            result = session.run(x[:count])
            np.testing.assert_allclose(softmax(models.dense_logits(x[:count])), result, rtol=1e-5, atol=1e-6)

    def test_a_size_that_the_graph_cannot_take(self, load: Load) -> None:
        """A RESHAPE to a fixed size refuses another batch; the session works on with the right one."""
        session = load(models.fixed_reshape())
        x = values(0, 3, 8)
        for _ in range(2):
            with pytest.raises(EngineError, match=r"cannot run the model with x \[3, 8\]"):
                session.run(x)
            np.testing.assert_array_equal(x[:1].reshape(2, 4), session.run(x[:1]))
        assert 2 == session.latency.count


@dataclass(frozen=True)
class Wrong:
    """A run that must fail, and words of the message."""

    id: str
    model: Callable[[], bytes]
    run: Callable[[Session], Any]
    words: str


ONES = np.ones((1, 8), np.float32)
FOUR = np.ones((1, 4), np.float32)


def _one(value: float) -> Array:
    return np.where(np.arange(8) == 3, value, 1.0)[None]


WRONG = [
    Wrong(
        "shape", models.dense_float, lambda s: s.run(np.ones((1, 9))), r"'x' has shape \[1, 9\], expected \[1, 8\]\.$"
    ),
    Wrong(
        "batch axis missing",
        models.dense_float,
        lambda s: s.run(np.ones(8)),
        r"has shape \[8\], expected \[1, 8\]\. Add the batch axis: x\[None\]",
    ),
    Wrong(
        "batch axis missing, batch open",
        lambda: models.dense_float(open_batch=True),
        lambda s: s.run(np.ones(8)),
        r"has shape \[8\], expected \[-1, 8\]\. Add the batch axis: x\[None\]",
    ),
    Wrong(
        "several samples at once",
        models.dense_float,
        lambda s: s.run(np.ones((3, 8))),
        r"has shape \[3, 8\], expected \[1, 8\]\. Run the samples one by one: the model's batch size is 1",
    ),
    Wrong(
        "no samples",
        lambda: models.dense_float(open_batch=True),
        lambda s: s.run(np.ones((0, 8))),
        r"has shape \[0, 8\], expected \[-1, 8\]\.$",
    ),
    Wrong(
        "image of another size",
        models.conv_float,
        lambda s: s.run(np.ones((1, 24, 24, 3))),
        r"has shape \[1, 24, 24, 3\], expected \[1, 12, 12, 3\]\. Resize the image first, or load with preprocess=True",
    ),
    Wrong("ragged list", models.dense_float, lambda s: s.run([[1, 2], [3]]), "input 'x' is not an array"),
    Wrong(
        "text", models.dense_float, lambda s: s.run(np.full((1, 8), "a")), "'x' is of dtype <U1: numbers were expected"
    ),
    Wrong("objects", models.dense_float, lambda s: s.run(np.full((1, 8), None)), "'x' is of dtype object: numbers"),
    Wrong("complex", models.dense_float, lambda s: s.run(np.full((1, 8), 1j)), "'x' is of dtype complex128: numbers"),
    Wrong("dates", models.dense_float, lambda s: s.run(np.zeros((1, 8), "M8[s]")), r"datetime64\[s\]: numbers"),
    Wrong("NaN", models.dense_float, lambda s: s.run(_one(np.nan)), "'x' holds 1 NaN or infinite values of 8"),
    Wrong("NaN, int8", models.dense_int8, lambda s: s.run(_one(np.nan)), "'x' holds 1 NaN or infinite values of 8"),
    Wrong("infinite", models.dense_float, lambda s: s.run(_one(-np.inf)), "'x' holds 1 NaN or infinite values of 8"),
    Wrong(
        "beyond float32", models.dense_float, lambda s: s.run(_one(1e300)), "'x' holds 1 NaN or infinite values of 8"
    ),
    Wrong("name unknown", models.dense_float, lambda s: s.run(image=ONES), "missing input x.* has x float32"),
    Wrong("one more", models.dense_float, lambda s: s.run(x=ONES, y=ONES), "unknown input y: .* has x float32"),
    Wrong("none", models.dense_float, lambda s: s.run(), "missing input x"),
    Wrong("both ways", models.dense_float, lambda s: s.run(ONES, x=ONES), "both by position and by name"),
    Wrong("one of two", models.add_two_inputs, lambda s: s.run(a=FOUR), "missing input b: .* a float32.*, b float32"),
    Wrong(
        "position for two", models.add_two_inputs, lambda s: s.run(FOUR), "one array for 2 inputs: pass them by name"
    ),
    Wrong(
        "halves of integers",
        of_integers,
        lambda s: s.run(np.array([[1, 2, 3, 4.5]])),
        "'x' takes int32: values of float64 were given that it cannot hold",
    ),
    Wrong("NaN as an integer", of_integers, lambda s: s.run(FOUR * np.nan), "that it cannot hold"),
    Wrong("too large an integer", of_integers, lambda s: s.run(np.full((1, 4), 2**40)), "that it cannot hold"),
    Wrong(
        "preprocessing unknown", models.dense_float, lambda s: s.preprocess(ONES), "has no manifest, so its preprocess"
    ),
    Wrong(
        "preprocessing of which",
        models.add_two_inputs,
        lambda s: s.preprocess(FOUR),
        "has 2 inputs, name one: a float32",
    ),
    Wrong(
        "preprocessing of what", models.add_two_inputs, lambda s: s.preprocess(FOUR, "c"), "has no input 'c'. It has a"
    ),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_wrong_inputs(case: Wrong, load: Load) -> None:
    """Each says what was seen and what was expected, and is neither timed nor the end of the session."""
    session = load(case.model())
    with pytest.raises(TensorError, match=case.words):
        case.run(session)
    assert 0 == session.latency.count
    session.run({spec.name: np.ones([max(1, size) for size in spec.shape]) for spec in session.inputs})
    assert 1 == session.latency.count


class TestOwnership:
    """Whose memory is whose."""

    @pytest.mark.parametrize("content", [models.dense_float(), models.dense_int8()], ids=["float", "int8"])
    @pytest.mark.parametrize("io", ["float", "native"])
    def test_results_belong_to_the_caller(self, load: Load, content: bytes, io: str) -> None:
        """A later run does not change an earlier result, and the caller may write to it."""
        session = load(content, io=io)
        dtype = session.inputs[0].dtype if io == "native" else "float32"
        first = session.run(np.ones((1, 8), dtype))
        kept = first.copy()
        second = session.run(np.zeros((1, 8), dtype))
        np.testing.assert_array_equal(kept, first)
        assert not np.array_equal(first, second)
        first[:] = 0
        np.testing.assert_array_equal(kept, session.run(np.ones((1, 8), dtype)))

    def test_inputs_are_left_alone(self, load: Load) -> None:
        """The caller's arrays are read only."""
        x = values(0, 1, 8)
        kept = x.copy()
        x.setflags(write=False)
        for content in (models.dense_float(), models.dense_int8()):
            load(content).run(x)
        np.testing.assert_array_equal(kept, x)

    def test_the_model_file_may_vanish(self, load: Load, dense_float_file: Path) -> None:
        """A loaded session does not need its file any more."""
        session = load(dense_float_file)
        dense_float_file.unlink()
        assert (1, 4) == session.run(ONES).shape


class TestLife:
    """From loading to closing."""

    def test_context_manager_closes(self, load: Load) -> None:
        """After the block the session is closed, and says so."""
        with load(models.dense_float()) as session:
            session.run(ONES)
        with pytest.raises(EngineError, match=r"the session is closed\. Load the model again"):
            session.run(ONES)

    def test_closing_twice_is_harmless(self, load: Load) -> None:
        """The second time there is nothing left to do, and what was measured stays."""
        session = load(models.dense_float())
        session.run(ONES)
        session.close()
        session.close()
        assert 1 == session.latency.summary().count

    def test_closed_by_an_exception(self, load: Load) -> None:
        """An exception in the block passes, and closes the session."""
        session = load(models.dense_float())
        with pytest.raises(KeyError), session:
            raise KeyError
        with pytest.raises(EngineError, match="closed"):
            session.run(ONES)

    def test_a_failing_kernel(self, load: Load) -> None:
        """An error inside the graph is an EngineError, is not timed, and leaves the session working."""
        session = load(gather())
        with pytest.raises(EngineError, match="cannot run the model"):
            session.run(np.array([9]))
        assert ([12.0], 1) == (session.run(np.array([2])).tolist(), session.latency.count)

    def test_a_tensor_that_nobody_computes(self, load: Load) -> None:
        """A file whose output comes from no operator loads, perhaps, and cannot be run."""
        b = models.Builder()
        x, y, z = b.tensor("x", (1, 4)), b.tensor("y", (1, 4)), b.tensor("z", (1, 4))
        b.op("ADD", [x, x], [y], ("AddOptions", models.schema.AddOptionsT()))
        with pytest.raises(EngineError, match="cannot run the model"):
            load(b.build({"x": x}, {"z": z})).run(FOUR)


class TestLatency:
    """Every run is timed."""

    def test_each_run_is_counted(self, load: Load) -> None:
        """One record for each run, in order, each phase at least 0 and the whole more."""
        session = load(models.dense_int8())
        for _ in range(25):
            session.run(ONES)
        records = session.latency.records()
        assert (25, 25) == (session.latency.count, len(records))
        assert sorted(records, key=lambda record: record.start_ns) == records
        assert all(min(record.copy_in_ns, record.invoke_ns, record.copy_out_ns) > 0 for record in records)
        ends = [record.start_ns + record.total_ns for record in records]
        assert all(end <= after.start_ns for end, after in zip(ends, records[1:], strict=False))

    def test_log_file(self, load: Load, tmp_path: Path, dense_int8_file: Path) -> None:
        """The header says what ran on what; each run is a record."""
        path = tmp_path / "l.jsonl"
        session = load(dense_int8_file, log=path, threads=2)
        for _ in range(3):
            session.run(ONES)
        session.close()
        (part,) = read_log(path)
        assert tuple(session.latency.records()) == part.records
        expected = {
            "model": "dense_int8.tflite",
            "model_sha256": session.model.sha256,
            "engine": session.engine,
            "asked": {"delegate": "xnnpack", "threads": 2},
            "got": session.partitions.to_json(),
        }
        assert expected == {key: part.header[key] for key in expected}

    def test_log_of_a_model_from_memory(self, load: Load, tmp_path: Path) -> None:
        """A model without a file has no name, but its hash."""
        session = load(models.dense_int8(), log=str(tmp_path / "l.jsonl"))
        session.close()
        header = json.loads((tmp_path / "l.jsonl").read_text().splitlines()[0])
        assert (None, session.model.sha256) == (header["model"], header["model_sha256"])

    def test_log_that_cannot_be_written(self, load: Load, tmp_path: Path) -> None:
        """That is known before the first run."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="a part of that path is a file"):
            load(models.dense_float(), log=tmp_path / "file" / "l.jsonl")


class TestDelegate:
    """What was asked for and what was got."""

    def test_asked_and_got(self, load: Load) -> None:
        """XNNPACK takes the float model; the session says by whose wish."""
        session = load(models.dense_float(), threads=2)
        assert ("xnnpack", 2, "named by the caller") == (
            session.asked.spec.kind,
            session.asked.spec.threads,
            session.asked.reason,
        )
        assert ("xnnpack", ((0, 1),), ()) == (session.got, session.partitions.partitions, session.partitions.outside)

    def test_int8(self, load: Load, engine: str | None) -> None:
        """LiteRT's XNNPACK takes int8; that of tflite-runtime on x86-64 does not, and that is not hidden."""
        session = load(models.dense_int8())
        expected = ("none", (0,)) if engine == "tflite-runtime" else ("xnnpack", ())
        assert expected == (session.got, session.partitions.outside)

    def test_without_a_delegate(self, load: Load) -> None:
        """On request the interpreter's own kernels run everything."""
        session = load(models.dense_float(), delegate="none")
        assert ("none", (), (0, 1)) == (session.got, session.partitions.partitions, session.partitions.outside)

    def test_part_of_a_graph(self, load: Load) -> None:
        """A part that the delegate leaves is named, and everything runs."""
        session = load(halves())
        assert ("xnnpack", ((0,),), (1,)) == (session.got, session.partitions.partitions, session.partitions.outside)
        assert "xnnpack: 1 of 2 operators in 1 partition; outside: ADD" == str(session.partitions)
        result = session.run(x=FOUR, n=FOUR)
        assert ([[2.0] * 4], [[2] * 4]) == (result["y"].tolist(), result["m"].tolist())

    def test_the_profile_picks(self, engine: str | None) -> None:
        """Without a name the device profile chooses, and says which profile it was."""
        with edgekit.load(models.dense_float(), engine=engine) as session:
            assert session.asked.reason != "named by the caller"
            assert session.asked.profile_id is not None

    @pytest.mark.parametrize("kind", ["xnnpack", "none"])
    def test_required_and_got(self, load: Load, kind: str) -> None:
        """What was required and took everything loads."""
        assert kind == load(models.dense_float(), delegate=kind, require=kind).got

    @pytest.mark.parametrize(
        ("content", "delegate", "require", "words"),
        [
            (
                models.dense_float(),
                "none",
                "xnnpack",
                "xnnpack was required to take the whole model, and got none: 0 of 2",
            ),
            (halves(), "xnnpack", "xnnpack", "got xnnpack: 1 of 2 operators in 1 partition; outside: ADD"),
            (models.dense_float(), "xnnpack", "none", "none was required .* and got xnnpack: 2 of 2"),
            (models.dense_float(), "xnnpack", "gpu", "gpu was required .* and got xnnpack: 2 of 2"),
            (
                models.dense_float(),
                "xnnpack",
                "cpu",
                "unknown delegate 'cpu': expected one of xnnpack, none, gpu, edgetpu",
            ),
        ],
        ids=["not asked for", "in part", "too much", "another one", "unknown"],
    )
    def test_required_and_not_got(self, load: Load, content: bytes, delegate: str, require: str, words: str) -> None:
        """Anything less is an error that shows what was got."""
        with pytest.raises(DelegateError, match=words):
            load(content, delegate=delegate, require=require)

    def test_unknown_delegate(self, load: Load) -> None:
        """The message lists those that exist."""
        with pytest.raises(DelegateError, match="unknown delegate 'tpu': expected one of xnnpack, none, gpu, edgetpu"):
            load(models.dense_float(), delegate="tpu")

    @pytest.mark.parametrize("threads", [0, -1, 1025])
    def test_impossible_threads(self, load: Load, threads: int) -> None:
        """The message says how many there may be."""
        with pytest.raises(DelegateError, match=f"{threads} threads asked for: from 1 to 1024 were expected"):
            load(models.dense_float(), threads=threads)

    def test_unknown_engine(self, load: Load) -> None:
        """The message lists those that exist."""
        with pytest.raises(
            OptionError,
            match="unknown engine 'onnx': expected one of litert, tflite-runtime, litert-compiled, tensorflow",
        ):
            load(models.dense_float(), engine="onnx")

    def test_unknown_io(self, load: Load) -> None:
        """The message lists those that exist."""
        with pytest.raises(OptionError, match="unknown io 'int8': expected one of float, native"):
            load(models.dense_float(), io="int8")

    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_threads_give_the_same(self, load: Load, threads: int) -> None:
        """The number of threads does not change the result."""
        x = values(0, 1, 12, 12, 3)
        expected = load(models.conv_float()).run(x)
        np.testing.assert_allclose(expected, load(models.conv_float(), threads=threads).run(x), rtol=1e-5, atol=1e-6)


class TestPreprocessing:
    """What the manifest says is to be done to an input."""

    CONTENT = models.with_manifest(
        models.conv_float(), preprocessing={"image": Preprocessing((12, 12), "bgr", (127.5,), (64.0,))}
    )
    IMAGE = np.random.default_rng(5).integers(0, 256, (30, 40, 3)).astype(np.uint8)

    def prepared(self) -> Array:
        """What the model itself takes."""
        return Preprocessing((12, 12), "bgr", (127.5,), (64.0,)).apply(self.IMAGE)[None]

    def test_on_request(self, load: Load) -> None:
        """With ``preprocess=True`` a raw image of any size goes in."""
        expected = load(models.conv_float()).run(self.prepared())
        session = load(self.CONTENT, preprocess=True)
        np.testing.assert_array_equal(expected, session.run(self.IMAGE))
        np.testing.assert_array_equal(expected, session.run(image=self.IMAGE[None]))

    def test_never_unasked(self, load: Load) -> None:
        """Without it the input is what the model itself takes."""
        expected = load(models.conv_float()).run(self.prepared())
        np.testing.assert_array_equal(expected, load(self.CONTENT).run(self.prepared()))

    def test_by_hand(self, load: Load) -> None:
        """``preprocess`` does the first half, with the batch axis added."""
        session = load(self.CONTENT)
        np.testing.assert_array_equal(self.prepared(), session.preprocess(self.IMAGE))
        np.testing.assert_array_equal(self.prepared(), session.preprocess(self.IMAGE, "image"))

    def test_an_input_that_the_manifest_says_nothing_of(self, load: Load) -> None:
        """Such an input only gets its batch axis."""
        session = load(models.with_manifest(models.dense_float()), preprocess=True)
        np.testing.assert_array_equal(session.run(ONES), session.run(ONES[0]))

    def test_without_a_manifest(self, load: Load) -> None:
        """That there is nothing to apply is known when the model is loaded."""
        with pytest.raises(TensorError, match="has no manifest, so its preprocessing is not known"):
            load(models.conv_float(), preprocess=True)

    def test_with_native_integers(self, load: Load) -> None:
        """Preprocessing gives real numbers, so that the two do not go together."""
        with pytest.raises(TensorError, match="preprocessing gives real numbers: use io='float'"):
            load(self.CONTENT, preprocess=True, io="native")

    @pytest.mark.parametrize("value", ["text", [[1, 2], [3]], np.zeros((4, 4)), np.full((4, 4, 3), "a")])
    def test_what_is_no_image(self, load: Load, value: Any) -> None:
        """It is refused as without preprocessing."""
        with pytest.raises(TensorError, match=r"preprocess|not an array"):
            load(self.CONTENT, preprocess=True).run(value)


def _of_type(code: str, scale: float | None = None) -> bytes:
    """The int8 model with an input of another type or scale."""

    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[0]
        tensor.type = getattr(models.schema.TensorType, code)
        if scale is not None:
            tensor.quantization.scale = [scale]

    return models.edited(models.dense_int8(), change)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_of_type("STRING"), "'x' is of type string, only numbers can be run"),
        (_of_type("RESOURCE"), "'x' is of type resource, only numbers can be run"),
        (_of_type("INT4"), "'x' is of type int4, only numbers can be run"),
        (_of_type("BFLOAT16"), "'x' is of type bfloat16, only numbers can be run"),
    ],
    ids=["text", "resource", "int4", "bfloat16"],
)
def test_models_that_take_no_arrays(content: bytes, words: str, load: Load) -> None:
    """A model whose inputs numpy cannot hold is refused when it is loaded."""
    with pytest.raises(TensorError, match=words):
        load(content)


def test_a_scale_of_zero(load: Load) -> None:
    """Integers that mean nothing are refused before native code sees them; where nothing is computed with them, by the session."""
    with pytest.raises(ModelFileError, match="computes with 'x' of type int8, which has no scale"):
        load(_of_type("INT8", 0.0))
    b = models.Builder()
    x = b.tensor("x", (1, 4), "int8", quant=QuantParams((0.0,), (0,)))
    shape = b.tensor("shape", (2,), "int32", data=np.array([2, 2], np.int32))
    y = b.tensor("y", (2, 2), "int8", quant=QuantParams((0.0,), (0,)))
    b.op("RESHAPE", [x, shape], [y])
    with pytest.raises(TensorError, match="'x' has scale 0, so that its integers mean nothing"):
        load(b.build({"x": x}, {"y": y}))


def test_scales_of_inputs_that_are_not_quantised(load: Load) -> None:
    """Old files left scales on plain integers; they stay integers."""
    b = models.Builder()
    x = b.tensor("x", (1, 4), "int64", quant=QuantParams((0.5,), (0,)))
    shape = b.tensor("shape", (2,), "int32", data=np.array([2, 2], np.int32))
    y = b.tensor("y", (2, 2), "int64", quant=QuantParams((0.5,), (0,)))
    b.op("RESHAPE", [x, shape], [y])
    assert [[1, 2], [3, 4]] == load(b.build({"x": x}, {"y": y})).run([[1, 2, 3, 4]]).tolist()


@pytest.mark.parametrize("content", [models.dense_float(), models.dense_int8()], ids=["float", "int8"])
def test_one_session_from_many_threads(load: Load, content: bytes) -> None:
    """Eight threads on one session: each gets its own results, and every run is counted."""
    session = load(content)
    inputs = [values(seed, 1, 8) for seed in range(8)]
    expected = [session.run(x) for x in inputs]
    right: list[bool] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        right.extend(np.array_equal(expected[number], session.run(inputs[number])) for _ in range(100))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 800
    assert session.latency.count == 808


def test_closing_while_others_run(load: Load) -> None:
    """A run ends whole or with the word that the session is closed."""
    session = load(models.dense_float())
    expected = session.run(ONES)
    ends: list[str] = []

    def work() -> None:
        try:
            while True:
                assert np.array_equal(expected, session.run(ONES))
        except EngineError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while session.latency.count < 100:
        session.run(ONES)
    session.close()
    for thread in threads:
        thread.join()
    assert ["the model: the session is closed. Load the model again."] * 4 == ends
