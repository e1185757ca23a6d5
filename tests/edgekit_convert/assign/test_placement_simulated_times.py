"""``edgekit_convert.assign.placement`` on simulated devices: what it chooses, given times that no noise disturbs.

The times are made up for operators by name and type; what has them is a stand-in for hardware that is not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import small_nets as nets

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.placement import Placement, place

SPEC = DelegateSpec("xnnpack", 1)
Cost = Callable[[str, str], float]


class SimulatedDevice:
    """Takes as long for a model as its operators take together.

    Args:
        cost: nanoseconds of an operator, by its name and the type that it computes in.
        lacks: an operator that its delegate has no int8 kernel for.
    """

    def __init__(self, cost: Cost, lacks: str) -> None:
        self._cost, self._lacks = cost, lacks

    def version(self, model: bytes) -> str:
        """A name."""
        return "simulated"

    def timed(
        self, models: Mapping[str, bytes], *, rounds: int, round_ns: int, limit_ns: float = math.inf
    ) -> dict[str, float | None]:
        """The sum over each model's operators."""
        return {name: self._time(content) for name, content in models.items()}

    def outside(self, model: bytes) -> frozenset[str]:
        """What its delegate lacks."""
        main = ModelFile.read(model).graph.main
        tensors = [main.tensors[op.outputs[0]] for op in main.ops if op.name == self._lacks]
        return frozenset(tensor.name for tensor in tensors if tensor.dtype == "int8")

    def _time(self, content: bytes) -> float:
        main = ModelFile.read(content).graph.main
        return sum(self._cost(op.name, main.tensors[op.outputs[0]].dtype) for op in main.ops)


def network() -> bytes:
    """Convolutions with nearly all multiply-accumulates, small depthwise ones between them, and a MEAN."""
    net = nets.Net(seed=2)
    x = net.input(1, 8, 8, 16)
    for _ in range(3):
        x = net.depthwise(net.conv(x, 16))
    return net.finish(net.mean(net.conv(x, 16)))


def placed(
    cost: Cost, noise: Callable[[bytes], float] = lambda model: 1.0, *, prefer: Sequence[str] = (), lacks: str = ""
) -> Placement:
    """What is chosen for a device."""
    content = network()
    inputs = nets.samples(content, 4)
    quantised, ranges = nets.quantised(content, inputs), nets.statistics(content, inputs).ranges
    costs = CostTable(SPEC, timer=SimulatedDevice(cost, lacks))
    return place(quantised, content, ranges, baseline=content, costs=costs, noise=noise, prefer=prefer)


def times(**known: float) -> Cost:
    """Times by ``NAME_type`` in microseconds; everything else takes 0.1."""
    return lambda name, dtype: 1000 * known.get(f"{name}_{dtype}", 0.1)


def kinds(found: Placement) -> list[str]:
    """The operators that stay in float."""
    return [item.operator for item in found.left_out]


def test_where_int8_is_faster_everything_stays() -> None:
    """Nothing is tried."""
    found = placed(times(CONV_2D_float32=90, DEPTHWISE_CONV_2D_float32=9, CONV_2D_int8=40, DEPTHWISE_CONV_2D_int8=5))
    assert ({}, 1) == (found.layers, found.tried)


def test_what_is_much_slower_in_int8_leaves() -> None:
    """The three depthwise convolutions, and nothing else; what is delivered is faster than float."""
    found = placed(times(CONV_2D_float32=40, DEPTHWISE_CONV_2D_float32=5, CONV_2D_int8=30, DEPTHWISE_CONV_2D_int8=90))
    assert ["DEPTHWISE_CONV_2D"] * 3 == kinds(found)
    assert {"it is slower in int8"} == {item.reason for item in found.left_out}
    assert found.chosen_ns is not None
    assert found.float_ns is not None
    assert found.chosen_ns < found.float_ns


def test_a_small_gain_is_none() -> None:
    """1.6 % slower than float, and nothing else gains more than that."""
    found = placed(times(CONV_2D_float32=40, DEPTHWISE_CONV_2D_float32=9, CONV_2D_int8=40, DEPTHWISE_CONV_2D_int8=10))
    assert {} == found.layers
    assert 1 < found.tried


@pytest.mark.parametrize(("mean", "left"), [(12, []), (40, ["MEAN"])], ids=["7 %", "24 %"])
def test_a_fast_file_stays_whole_unless_a_tenth_is_gained(mean: float, left: list[str]) -> None:
    """Int8 is twice as fast as float already; what is outside there is worth a float operator only where that gains a tenth."""
    known = {"CONV_2D_float32": 80, "DEPTHWISE_CONV_2D_float32": 20, "CONV_2D_int8": 30, "DEPTHWISE_CONV_2D_int8": 10}
    found = placed(times(**known, MEAN_int8=mean), lacks="MEAN")
    assert 1 < found.tried
    assert left == kinds(found)


def test_most_of_the_work_stays_in_int8_where_that_is_faster_than_float() -> None:
    """With float convolutions it would be 7 % faster; with int8 ones it is faster than float all the same."""
    rest = {"DEPTHWISE_CONV_2D_float32": 9, "DEPTHWISE_CONV_2D_int8": 1, "MEAN_int8": 50, "MEAN_float32": 1}
    assert ["MEAN"] == kinds(placed(times(CONV_2D_float32=40, CONV_2D_int8=43, **rest)))


def test_not_slower_than_float_comes_first() -> None:
    """Where the model would be slower than float with int8 convolutions, they leave."""
    found = placed(times(CONV_2D_float32=40, DEPTHWISE_CONV_2D_float32=5, CONV_2D_int8=60, DEPTHWISE_CONV_2D_int8=60))
    assert "CONV_2D" in kinds(found)
    assert not found.slower


@pytest.mark.parametrize("wanted", [True, False], ids=["float is more faithful", "int8 is more faithful"])
def test_of_those_as_fast_the_more_faithful_is_taken(wanted: bool) -> None:
    """A depthwise convolution takes as long in either type: noise decides what becomes of it."""
    main = nets.main_of(network())
    names = [main.tensors[op.outputs[0]].name for op in main.ops if op.name == "DEPTHWISE_CONV_2D"]

    def noise(model: bytes) -> float:
        graph = nets.main_of(model)
        types = {graph.tensors[op.outputs[0]].dtype for op in graph.ops if op.name == "DEPTHWISE_CONV_2D"}
        return 1.0 if ("float32" in types) == wanted else 4.0

    cost = times(
        CONV_2D_float32=90, CONV_2D_int8=60, DEPTHWISE_CONV_2D_float32=20, DEPTHWISE_CONV_2D_int8=20, MEAN_int8=90
    )
    assert wanted == ("DEPTHWISE_CONV_2D" in kinds(placed(cost, noise, prefer=names[:1], lacks="MEAN")))


class LuckyOnce(SimulatedDevice):
    """Like its base, but the first measurement of a model with both types is a third of the truth."""

    def __init__(self, cost: Cost, lacks: str) -> None:
        super().__init__(cost, lacks)
        self._seen: set[bytes] = set()

    def _time(self, content: bytes) -> float:
        time = super()._time(content)
        main = ModelFile.read(content).graph.main
        computed = {main.tensors[op.outputs[0]].dtype for op in main.ops if op.name not in ("QUANTIZE", "DEQUANTIZE")}
        first = content not in self._seen
        self._seen.add(content)
        return time / 3 if first and len(computed) > 1 else time


def test_one_lucky_measurement_does_not_win_with_simulated_times() -> None:
    """What looked fastest is measured again beside plain int8 before it is chosen."""
    content = network()
    inputs = nets.samples(content, 4)
    quantised, ranges = nets.quantised(content, inputs), nets.statistics(content, inputs).ranges
    cost = times(CONV_2D_int8=10, CONV_2D_float32=30, DEPTHWISE_CONV_2D_int8=5, DEPTHWISE_CONV_2D_float32=5)
    costs = CostTable(SPEC, timer=LuckyOnce(cost, "MEAN"))
    found = place(quantised, content, ranges, baseline=content, costs=costs, noise=lambda model: 1.0)
    assert {} == found.layers
    assert found.tried > 1
