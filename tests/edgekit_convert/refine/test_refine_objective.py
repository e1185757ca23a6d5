"""What stands for an output, and how noise is counted."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_convert.refine.objective import Noise, Target, targets

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("name", ["SOFTMAX", "LOG_SOFTMAX"])
@pytest.mark.parametrize("behind", [False, True], ids=["last", "reshape behind"])
def test_logits_stand_for_a_softmax(name: str, behind: bool) -> None:
    """The input of a softmax is judged, centred, also where a RESHAPE follows."""
    net = nets.Net()
    logits = net.dense(net.input(1, 4), 6)
    y = net.softmax(logits, name=name)
    content = net.finish(net.reshape(y, 2, 3) if behind else y)
    assert (Target(logits, True),) == targets(nets.main_of(content))


def _arg_max(net: nets.Net, x: int) -> int:
    options = schema.ArgMaxOptionsT()
    options.outputType = 2  # schema.fbs, enum TensorType: INT32
    y = net.result((1,), "int32")
    net.op("ARG_MAX", [x, net.constant(-1, "int32")], [y], ("ArgMaxOptions", options))
    return y


def test_logits_stand_for_the_class_that_they_choose() -> None:
    """An ARG_MAX gives integers, and what it chooses by is judged, behind a softmax as well."""
    net = nets.Net()
    logits = net.dense(net.input(1, 4), 6)
    assert (Target(logits, False),) == targets(nets.main_of(net.finish(_arg_max(net, logits))))
    net = nets.Net()
    logits = net.dense(net.input(1, 4), 6)
    content = net.finish(_arg_max(net, net.softmax(logits)))
    assert (Target(logits, True),) == targets(nets.main_of(content))


def test_outputs_that_stand_for_themselves() -> None:
    """A plain output, an input that is an output and one that is named twice; integers alone leave nothing."""
    net = nets.Net()
    x = net.input(1, 4)
    y = net.dense(x, 6)
    content = net.build({"x": x}, {"y": y, "x": x, "again": y})
    assert (Target(y, False), Target(x, False)) == targets(nets.main_of(content))
    net = nets.Net()
    tokens = net.input(1, 4, dtype="int32")
    assert () == targets(nets.main_of(net.build({"x": tokens}, {"x": tokens})))


def noise_of(exact: list[Array], candidate: list[Array], *, centred: bool = False, keep_mean: bool = False) -> Array:
    """Each sample's noise of a model with one output."""
    noise = Noise([Target(0, centred)], keep_mean=keep_mean)
    for a, b in zip(exact, candidate, strict=True):
        noise.add([a], [b])
    return noise.by_sample()


def values(*shape: int, count: int = 20) -> list[Array]:
    """Samples of an output."""
    return [RANDOM.normal(0, 1, shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 4, 3), ()], ids=str)
def test_the_mean_over_samples_is_the_noise_share(shape: tuple[int, ...]) -> None:
    """With the mean kept it is the error's energy by the signal's, sample by sample."""
    exact, error = values(*shape), values(*shape)
    candidate = [np.asarray(a + e / 10) for a, e in zip(exact, error, strict=True)]
    actual = noise_of(exact, candidate, keep_mean=True)
    signal = sum(np.square(a).sum() for a in exact)
    expected = [np.square(a - b).sum() * len(exact) / signal for a, b in zip(exact, candidate, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=1e-3)
    assert actual.mean() == pytest.approx(sum(expected) / len(exact), rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 4, 3)], ids=str)
def test_a_constant_error_counts_only_where_the_mean_is_kept(shape: tuple[int, ...]) -> None:
    """An offset for each channel is what a bias takes away."""
    exact = values(*shape)
    offset = np.arange(1, shape[-1] + 1, dtype=np.float32) / 10
    candidate = [a + offset for a in exact]
    assert noise_of(exact, candidate).max() < 1e-6
    assert noise_of(exact, candidate, keep_mean=True).min() > 1e-3


def test_an_offset_that_differs_by_place_is_no_bias() -> None:
    """Over an image only the mean over the places is taken away."""
    exact = values(1, 4, 4, 3)
    offset = RANDOM.normal(0, 1, (4, 4, 3)).astype(np.float32)
    expected = np.square(offset - offset.mean(axis=(0, 1))).sum()
    actual = noise_of(exact, [a + offset for a in exact])
    signal = np.mean([np.square(a).sum() for a in exact])
    np.testing.assert_allclose(actual, expected / signal, rtol=1e-3)


def test_a_softmax_does_not_see_what_all_logits_share() -> None:
    """Adding a number of its own to all logits of a sample is no noise; adding it to one of them is."""
    exact = values(1, 6)
    shifts = RANDOM.normal(0, 3, len(exact)).astype(np.float32)
    shifted = [a + shift for a, shift in zip(exact, shifts, strict=True)]
    assert noise_of(exact, shifted, centred=True, keep_mean=True).max() < 1e-6
    single = [a + shift * np.eye(1, 6, dtype=np.float32) for a, shift in zip(exact, shifts, strict=True)]
    assert noise_of(exact, single, centred=True, keep_mean=True).min() > 1e-6


def test_doubtful_samples_weigh_more_than_sure_ones() -> None:
    """The same error of the logits counts more where it can change the class."""
    sure, doubtful = np.float32([[20, 0, 0]]), np.float32([[10, 9.9, 0]])
    error = np.float32([[-0.5, 0.5, 0]])
    by_sample = noise_of([sure, doubtful], [sure + error, doubtful + error], centred=True, keep_mean=True)
    assert by_sample[1] > 2 * by_sample[0]


def test_several_outputs_count_alike() -> None:
    """Each is relative to its own energy, so that a large one does not drown a small one."""
    noise = Noise([Target(0, False), Target(1, False)], keep_mean=True)
    for a, b in zip(values(1, 5), values(1, 3), strict=True):
        noise.add([a * 1000, b], [a * 1010, b * 1.01])
    assert noise.by_sample().mean() == pytest.approx(2 * 0.01**2, rel=1e-3)


def test_no_signal_is_no_noise_share() -> None:
    """Outputs that are zero give no share to divide by."""
    zeros = [np.zeros((1, 3), np.float32)] * 4
    assert [0.0] * 4 == noise_of(zeros, values(1, 3, count=4)).tolist()
    assert [0.0] * 4 == noise_of(zeros, zeros, centred=True).tolist()


def test_outputs_of_changing_size_are_refused() -> None:
    """Values of different places cannot be compared, within a sample or between samples."""
    for exact, candidate in (([(1, 3)], [(1, 4)]), ([(1, 3), (1, 4)], [(1, 3), (1, 4)])):
        with pytest.raises(ConversionError, match="depends on the values"):
            noise_of([np.ones(size) for size in exact], [np.ones(size) for size in candidate])
