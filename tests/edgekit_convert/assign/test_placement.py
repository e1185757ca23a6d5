"""``edgekit_convert.assign.placement``: which operators stay in float because they are faster there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_nets as nets

from edgekit.errors import OptionError
from edgekit.inspection import left_outside
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.placement import LeftOut, Placement, place
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.refine.judge import Judge

SPEC = DelegateSpec("xnnpack", 1)


def hard_swish() -> bytes:
    """Convolutions large enough that the interpreter's own int8 HARD_SWISH costs many times what they do."""
    net = nets.Net(seed=3)
    x = net.input(1, 48, 48, 8)
    for _ in range(2):
        x = net.conv(x, 16)
        x = net.simple("HARD_SWISH", [x], net.shape(x), ("HardSwishOptions", nets.schema.HardSwishOptionsT()))
    return net.finish(net.dense(net.reshape(net.mean(net.conv(x, 16)), 1, 16), 6))


def plain_convolutions() -> bytes:
    """A network that XNNPACK takes whole, and runs about twice as fast in int8."""
    net = nets.Net(seed=4)
    x = net.input(1, 40, 40, 16)
    for _ in range(3):
        x = net.conv(x, 48, act=nets.RELU)
    return net.finish(net.dense(net.reshape(net.mean(x), 1, 48), 6))


def placed(content: bytes, costs: CostTable) -> tuple[Placement, bytes]:
    """The placement of a network, and the file that it makes."""
    inputs = nets.samples(content, 8)
    quantised, ranges = nets.quantised(content, inputs), nets.statistics(content, inputs).ranges
    judge = Judge(content, inputs, SPEC)
    found = place(
        quantised, content, ranges, baseline=content, costs=costs, noise=lambda model: float(judge.noise(model).mean())
    )  # fmt: skip
    return found, with_types(quantised, content, ranges, found.layers)


def test_what_the_delegate_leaves_outside_goes_to_float() -> None:
    """The hard-swishes become float islands inside the partition; the convolutions stay in int8."""
    content = hard_swish()
    found, made = placed(content, CostTable(SPEC))
    assert {"HARD_SWISH"} == {item.operator for item in found.left_out if item.outside}
    assert 2 == sum(item.operator == "HARD_SWISH" for item in found.left_out)
    assert frozenset() == left_outside(made, SPEC)
    kinds = [op.name for op in nets.main_of(made).ops if nets.main_of(made).tensors[op.inputs[0]].dtype == "int8"]
    assert 3 <= kinds.count("CONV_2D")
    text = " ".join(item.text for item in found.findings())
    assert "stay in float" in text
    assert "HARD_SWISH" in text
    assert "the delegate does not take it in int8" in text


def test_a_whole_network_stays_as_it_is() -> None:
    """Where int8 is fastest nothing is moved, and the file is the same object."""
    found, made = placed(plain_convolutions(), CostTable(SPEC))
    assert ({}, ()) == (found.layers, found.left_out)
    assert made == nets.quantised(plain_convolutions(), nets.samples(plain_convolutions(), 8))
    assert () == found.findings()


def test_a_saved_table_gives_the_same_answer(tmp_path: Path) -> None:
    """With all times known nothing is measured, and the same operators are moved."""
    costs = CostTable(SPEC)
    first, made = placed(hard_swish(), costs)
    costs.save(tmp_path / "costs.json")
    again, once_more = placed(hard_swish(), CostTable.open(tmp_path / "costs.json", SPEC))
    assert first == again
    assert made == once_more


def test_another_machines_table_is_enough(tmp_path: Path) -> None:
    """A table that has the times of all operators decides without measuring, and the answer says that it is estimated."""
    costs = CostTable(SPEC)
    here, _ = placed(hard_swish(), costs)
    kept = {name: time for name, time in costs.to_json()["entries"].items() if not name.startswith("model ")}
    table = {**costs.to_json(), "entries": kept, "measured_on": {"host": {"cpu_model": "another"}, "engine": "another"}}
    (tmp_path / "costs.json").write_text(json.dumps(table))
    there, made = placed(hard_swish(), CostTable.open(tmp_path / "costs.json", SPEC))
    assert 0 == there.tried < here.tried
    assert {"HARD_SWISH"} == {item.operator for item in there.left_out if item.outside}
    assert frozenset() == left_outside(made, SPEC)
    assert "estimated from the cost table" in there.findings()[0].text
    with pytest.raises(OptionError, match="lacks"):
        placed(plain_convolutions(), CostTable.open(tmp_path / "costs.json", SPEC))


def test_other_values_come_out_hardly_different() -> None:
    """What was moved computes the same network."""
    content = hard_swish()
    inputs = nets.samples(content, 8)
    _, made = placed(content, CostTable(SPEC))
    quant = nets.main_of(made).tensors[nets.main_of(made).inputs[0]].quant
    assert quant is not None
    given = [
        [np.clip(np.rint(x / quant.scales[0]) + quant.zero_points[0], -128, 127).astype(np.int8) for x in row]
        for row in inputs
    ]
    out = nets.main_of(made).tensors[nets.main_of(made).outputs[0]].quant
    assert out is not None
    seen = [(np.float32(row[0]) - out.zero_points[0]) * out.scales[0] for row in nets.outputs(made, given)]
    exact = [row[0] for row in nets.outputs(content, inputs)]
    error = np.sum([(a - b) ** 2 for a, b in zip(exact, seen, strict=True)])
    assert error < 0.02 * np.sum([a**2 for a in exact])


@pytest.mark.parametrize(
    ("chosen", "float_ns", "slower"),
    [(100e3, 99e3, False), (120e3, 100e3, True), (2.5e3, 1e3, False), (None, 1e3, False)],
)
def test_it_says_when_float_is_faster(chosen: float | None, float_ns: float, slower: bool) -> None:
    """A warning where the promise cannot be kept, not where the difference is one of measuring."""
    found = Placement({}, (), chosen, chosen, float_ns, 1, "")
    assert slower == found.slower
    assert slower == any(item.code == "slower-than-float" for item in found.findings())


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (LeftOut("GELU", "t", True, 9.0, 1.0), "the delegate does not take it in int8"),
        (LeftOut("MUL", "t", False, 9.0, 1.0), "it is slower in int8"),
        (LeftOut("MUL", "t", False, 1.0, 9.0), "it stands between float operators"),
    ],
    ids=["outside", "slower", "between"],
)
def test_each_operator_has_its_reason(item: LeftOut, reason: str) -> None:
    """The reason follows from what was measured."""
    assert reason == item.reason
    assert reason == item.to_json()["reason"]
