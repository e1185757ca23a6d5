"""Range search: narrowed where the outputs are better off, left alone where they are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import small_nets as nets

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.graph.slices import Sliceable
from edgekit_convert.quantize import quantize
from edgekit_convert.refine import search
from edgekit_convert.refine.judge import Judge
from edgekit_convert.refine.objective import Noise, Target
from edgekit_convert.refine.search import Searched, on_grid, search_ranges

NONE = DelegateSpec("none", 1)


def saturating(name: str = "LOGISTIC") -> tuple[bytes, str]:
    """A layer whose large values a sigmoid (or HARD_SWISH) hides, then another layer; and that tensor's name."""
    net = nets.Net(seed=1)
    t = net.dense(net.input(1, 8), 8, weights=np.eye(8), bias=np.zeros(8))
    y = net.dense(net.simple(name, [t], (1, 8)), 6)
    return net.finish(y), net.tensors[t].name.decode()


def with_outliers(count: int, seed: int, *, high: float = 0, low: float = 0, share: int = 8) -> nets.Samples:
    """Samples of 8 values around zero; one in ``share`` has a value at the ends given."""
    random = np.random.default_rng(seed)
    rows = random.normal(0, 1, (count, 8)).astype(np.float32)
    for row in range(0, count, share):
        if high:
            rows[row, random.integers(4)] = high
        if low:
            rows[row, 4 + random.integers(4)] = low
    return [[row[None]] for row in rows]


def found(content: bytes, samples: nets.Samples, held_out: nets.Samples) -> dict[str, Searched]:
    """The search's result by tensor name."""
    ranges = nets.statistics(content, samples + held_out).ranges
    return {name: item for item in search_ranges(content, ranges, samples, held_out) for name in item.names}


def test_a_harmless_outlier_is_clipped_and_other_data_are_better_off() -> None:
    """The range is narrowed to a fraction, and the int8 model's outputs are nearer on data that the search did not see."""
    content, name = saturating()
    samples, held_out = with_outliers(32, 1, high=80), with_outliers(24, 2, high=80)
    result = found(content, samples, held_out)
    assert result[name].after[1] < 0.3 * 80
    assert result[name].noise_after < result[name].noise_before
    ranges = nets.statistics(content, samples + held_out).ranges
    judge = Judge(content, with_outliers(40, 3, high=80), NONE)
    before = judge.noise(quantize(content, ranges, "int8")).mean()
    narrowed = {name: item.after for name, item in result.items()}
    after = judge.noise(quantize(content, {**ranges, **narrowed}, "int8")).mean()
    assert after < before / 4


@pytest.mark.parametrize(
    ("high", "low"), [(80.0, 0.0), (0.0, -80.0), (80.0, -60.0)], ids=["high", "low", "both"]
)  # fmt: skip
def test_each_end_moves_by_itself(high: float, low: float) -> None:
    """Only the end that has outliers moves far."""
    content, name = saturating()
    result = found(content, with_outliers(32, 1, high=high, low=low), with_outliers(24, 2, high=high, low=low))[name]
    assert result.before[0] <= result.after[0] <= 0 <= result.after[1] <= result.before[1]
    moved = (result.after[0] > 0.5 * result.before[0], result.after[1] < 0.5 * result.before[1])
    assert (low != 0, high != 0) == moved


def linear() -> tuple[bytes, str]:
    """Two layers with nothing that would hide a value between them."""
    net = nets.Net(seed=1)
    t = net.dense(net.input(1, 8), 8, weights=np.eye(8), bias=np.zeros(8))
    return net.finish(net.dense(t, 6)), net.tensors[t].name.decode()


def test_where_held_out_samples_need_the_extremes_they_stay() -> None:
    """The samples that are searched on are quiet, the others are not: nothing may be clipped."""
    content, name = linear()
    result = found(content, with_outliers(32, 1), with_outliers(24, 2, high=30, share=2))[name]
    assert result.before == result.after
    assert result.before[1] == pytest.approx(30)


def test_what_the_outputs_need_is_not_clipped() -> None:
    """A value that matters stays inside, although all others would have a finer grid without it."""
    content, name = linear()
    result = found(content, with_outliers(32, 1, high=12), with_outliers(24, 2, high=12))[name]
    assert result.after[1] > 0.8 * 12


def test_hard_swish_gets_no_grid_below_its_constant_part() -> None:
    """Far below -3 there is nothing to tell apart."""
    content, name = saturating("HARD_SWISH")
    result = found(content, with_outliers(32, 1, low=-90, share=2), with_outliers(24, 2, low=-90, share=2))[name]
    assert result.before[0] == pytest.approx(-90)
    assert -4.5 <= result.after[0] <= -2.5


def test_fixed_and_judged_tensors_are_measured_and_left_alone() -> None:
    """Logits, softmax and logistic outputs keep their extremes."""
    net = nets.Net(seed=4)
    x = net.input(1, 8)
    gate = net.simple("LOGISTIC", [net.dense(x, 8)], (1, 8))
    logits = net.dense(gate, 5)
    content = net.finish(net.softmax(logits), net.simple("LOGISTIC", [net.dense(gate, 3)], (1, 3)))
    samples, held_out = with_outliers(32, 1, high=40), with_outliers(24, 2, high=40)
    result = found(content, samples, held_out)
    fixed = [net.tensors[op.outputs[0]].name.decode() for op in net.ops
             if net.codes[op.opcodeIndex].builtinCode == 14] + [net.tensors[logits].name.decode()]  # fmt: skip
    assert len(fixed) == 3
    seen = {name: (item.before, item.after) for name, item in result.items() if name in fixed}
    assert {name: (before, before) for name, (before, _) in seen.items()} == seen
    assert net.tensors[logits].name.decode() in seen


def test_what_a_kernel_fixes_is_not_moved() -> None:
    """A LOGISTIC's int8 output spans 0 to 1, however well a narrower range would do."""
    net = nets.Net(seed=1)
    gate = net.simple("LOGISTIC", [net.dense(net.input(1, 8), weights=np.eye(8), bias=np.full(8, -4))], (1, 8))
    loud = net.dense(gate, weights=60 * np.eye(8), bias=np.full(8, -2))
    content = net.finish(net.dense(net.simple("LOGISTIC", [loud], (1, 8)), 6))
    result = found(content, with_outliers(32, 1, high=8), with_outliers(24, 2, high=8))
    names = [net.tensors[index].name.decode() for index in (gate, loud)]
    assert result[names[0]].before == result[names[0]].after
    assert result[names[1]].after[1] < 0.5 * result[names[1]].before[1]  # what follows from it may be


def test_all_tensors_of_a_group_are_on_the_grid() -> None:
    """The noise of a concat's group, looked at, is that of both of its inputs rounded, over the common range."""
    net = nets.Net(seed=2)
    x = net.input(1, 8)
    joined = net.concat(net.dense(x, 5), net.dense(x, 4))
    content = net.finish(net.dense(joined, 6))
    samples, held_out = nets.samples(content, 16, 1), nets.samples(content, 8, 2)
    ranges = nets.statistics(content, samples + held_out).ranges
    group = next(item for item in search_ranges(content, ranges, samples, held_out, cover=0) if len(item.names) == 3)
    whole = Sliceable(content)
    [output] = whole.main.outputs
    before = whole.cut(whole.leading([joined]), [joined], whole.main.inputs).content
    after = whole.suffix([joined], [output])
    assert after is not None
    noise = Noise([Target(output, False)])
    looked_at = samples[:8]
    for [value], exact in zip(nets.outputs(before, looked_at), nets.outputs(content, looked_at), strict=True):
        noise.add(exact, nets.outputs(after.content, [[on_grid(value, *group.before)]])[0])
    assert noise.by_sample().mean() == pytest.approx(group.noise_before, rel=1e-3)
    assert (min(ranges[name][0] for name in group.names), max(ranges[name][1] for name in group.names)) == group.before


def test_tied_tensors_get_one_range() -> None:
    """A chain of copies is searched as one: one entry, named in full, narrowed for all."""
    net = nets.Net(seed=1)
    x = net.input(1, 8)
    a = net.dense(x, 8, weights=np.eye(8), bias=np.zeros(8))
    b = net.reshape(a, 1, 2, 2, 2)
    c = net.pool("MAX_POOL_2D", b, 1)
    content = net.finish(net.dense(net.reshape(net.simple("LOGISTIC", [c], (1, 2, 2, 2)), 1, 8), 6))
    samples, held_out = with_outliers(32, 1, high=80), with_outliers(24, 2, high=80)
    result = found(content, samples, held_out)
    names = tuple(net.tensors[index].name.decode() for index in (a, b, c))
    assert names == result[names[0]].names
    assert result[names[0]].after[1] < 0.3 * 80


def branching() -> bytes:
    """Several tensors worth searching: a skip connection, a concat and two outputs."""
    net = nets.Net(seed=6)
    x = net.input(1, 8)
    a, b = net.dense(x, 8, act=nets.RELU), net.dense(x, 8)
    c = net.concat(net.simple("LOGISTIC", [b], (1, 8)), a)
    d = net.dense(c, 8, act=nets.RELU)
    return net.finish(net.add(d, a), net.softmax(net.dense(d, 4)))


def test_the_result_does_not_depend_on_threads_or_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, several threads, and a second run find the same to the bit."""
    content, _ = saturating()
    samples, held_out = with_outliers(24, 1, high=40, low=-20), with_outliers(16, 2, high=40, low=-20)
    ranges = nets.statistics(content, samples + held_out).ranges
    results = []
    for count in (1, 3, 3):
        monkeypatch.setattr(search, "workers", lambda count=count: count)
        results.append(search_ranges(content, ranges, samples, held_out))
    assert results[0] == results[1] == results[2]
    assert any(item.after != item.before for item in results[0])


@pytest.mark.parametrize("build", [branching, nets.residual], ids=["branching", "residual"])
def test_every_range_holds_zero_and_lies_inside_the_extremes(build: Callable[[], bytes]) -> None:
    """Whatever is found, the int8 grid has an exact zero, and no range grows."""
    content = build()
    samples = nets.samples(content, 24, 1)
    held_out = nets.samples(content, 16, 2)
    ranges = nets.statistics(content, samples + held_out).ranges
    result = search_ranges(content, ranges, samples, held_out)
    [softmax] = [op.outputs[0] for op in nets.main_of(content).ops if op.name == "SOFTMAX"]
    # Nothing that is judged follows from a softmax.
    assert {name for item in result for name in item.names} == set(ranges) - {
        nets.main_of(content).tensors[softmax].name
    }
    for item in result:
        assert item.before[0] <= item.after[0] <= 0 <= item.after[1] <= item.before[1]
        assert item.after[0] < item.after[1]


def test_no_cover_measures_only_and_says_how_loud_each_tensor_is() -> None:
    """With a cover of 0 nothing moves; the noise is that of the tensor alone on the grid, and progress is not called."""
    content, name = saturating()
    samples, held_out = with_outliers(32, 1, high=80), with_outliers(24, 2, high=80)
    ranges = nets.statistics(content, samples + held_out).ranges
    calls: list[tuple[int, int]] = []
    result = search_ranges(content, ranges, samples, held_out, lambda done, total: calls.append((done, total)), cover=0)
    assert [] == calls
    assert all(item.before == item.after for item in result)
    loudest = sorted(result, key=lambda item: -item.noise_before)[:2]
    assert {("x",), (name,)} == {item.names for item in loudest}  # the two that have outliers


def test_tensors_without_values_and_scalars_are_no_trouble() -> None:
    """A tensor that is always zero has no range to search; a scalar has one."""
    net = nets.Net(seed=2)
    x = net.input(1, 8)
    dead = net.dense(x, 4, act=nets.RELU, weights=np.zeros((4, 8)), bias=-np.ones(4))
    total = net.simple("SUM", [net.dense(x, 4), net.constant([0, 1], "int32")], ())
    content = net.finish(net.add(net.dense(dead, 4), total))
    result = found(content, nets.samples(content, 16, 1), nets.samples(content, 12, 2))
    assert net.tensors[dead].name.decode() not in result
    assert net.tensors[total].name.decode() in result


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.0), (-0.1, 100.0)])
def test_the_grid_is_that_of_int8(low: float, high: float) -> None:
    """Values come out as the int8 file would hold them: 256 steps, zero exact, clipped at the ends."""
    values = np.random.default_rng(0).uniform(2 * low - 1, 2 * high + 1, 500).astype(np.float32)
    scale = np.float32((high - low) / 255)
    zero = int(np.rint(-128 - low / scale))
    expected: Array = (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale
    actual = on_grid(values, low, high)
    np.testing.assert_allclose(actual, expected, atol=scale * 1.01)
    assert np.mean(np.abs(actual - expected) < scale / 100) > 0.99
    assert on_grid(np.zeros(1, np.float32), low, high) == 0.0
    assert len(np.unique(actual)) <= 256
    assert on_grid(np.float32(high), low, high).shape == ()


def test_inputs_are_read_by_place() -> None:
    """A model with two inputs is searched with each sample's inputs in the graph's order."""
    net = nets.Net(seed=3)
    x, y = net.input(1, 8), net.input(1, 4, name="y")
    content = net.finish(net.add(net.dense(x, 4), net.dense(y, 4)))
    assert ["x", "y"] == [spec.name for spec in ModelFile.read(content).inputs]
    result = found(content, nets.samples(content, 16, 1), nets.samples(content, 12, 2))
    assert {"x", "y"} <= set(result)


def test_without_memory_for_activations_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before a tensor is run again where its values are not kept."""
    content = branching()
    samples, held_out = with_outliers(32, 1, high=60), with_outliers(24, 2, high=60)
    kept = found(content, samples, held_out)
    monkeypatch.setattr(search, "_KEPT_BYTES", 0)
    assert kept == found(content, samples, held_out)


def test_the_held_out_samples_only_judge() -> None:
    """Other held-out samples may keep a range or take it back, but never make it another one."""
    content, name = saturating()
    samples = with_outliers(32, 1, high=80)
    inside = ([[0.9 * x for x in row] for row in with_outliers(24, seed, high=80)] for seed in (2, 3))
    first, other = (found(content, samples, held_out) for held_out in inside)
    assert first[name].after != first[name].before
    moved = [(first[key].after, other[key].after, first[key].before) for key in first.keys() & other.keys()]
    assert all(a == b or before in (a, b) for a, b, before in moved)


def test_what_follows_may_take_places_that_were_computed() -> None:
    """A layer behind the tensor reads integers that do not follow from it: those are values to keep as well."""
    net = nets.Net(seed=4)
    x = net.input(1, 8)
    y = net.dense(x, 8)
    place = net.result((1,), "int32")
    options = nets.schema.ArgMaxOptionsT()
    options.outputType = nets.schema.TensorType.INT32
    net.op("ARG_MAX", [x, net.constant(1, "int32")], [place], ("ArgMaxOptions", options))
    gather = nets.schema.GatherOptionsT()
    gather.axis = 1
    content = net.finish(net.simple("GATHER", [y, place], (1, 1), ("GatherOptions", gather)))
    result = found(content, with_outliers(16, 1), with_outliers(8, 2))
    assert result[net.tensors[y].name.decode()].noise_before > 0
