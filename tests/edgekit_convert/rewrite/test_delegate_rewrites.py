"""Which rules are kept: by what the delegate leaves outside, by time, and by what int8 makes of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import delegate_patterns as patterns
import numpy as np
import pytest
from delegate_patterns import Pattern, network
from small_nets import RELU6, VALID, Net, main_of, residual, samples, statistics

from edgekit.graph import Op
from edgekit.inspection import left_outside
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import Ranges
from edgekit_convert.rewrite import delegate, rewrite
from edgekit_convert.rewrite.delegate import DelegateRewritten, in_one_line, rewrite_for_delegate
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.delegate.rule import DelegateRule
from edgekit_convert.rewrite.delegate.rules import RULES

SPEC = DelegateSpec("xnnpack", 1)


def data_for(content: bytes) -> CalibrationSet:
    """Random samples."""
    inputs = ModelFile.read(content).inputs
    random = np.random.default_rng(3)
    arrays = {spec.name: random.normal(0, 1, (8, *spec.shape[1:])).astype(np.float32) for spec in inputs}
    return CalibrationSet(open_data(arrays, inputs, 9, "calibration"), inputs, {})


def rewritten(
    content: bytes, recipe: str = "auto", costs: CostTable | None = None
) -> tuple[bytes, tuple[DelegateRewritten, ...]]:
    """What the rewrites for XNNPACK make of a model."""
    return rewrite_for_delegate(
        content,
        data_for(content),
        recipe=recipe,
        io="int8",
        spec=SPEC,
        ranges=None,
        costs=costs or CostTable(SPEC),
        progress=lambda step, done, total: None,
    )


def elsewhere() -> CostTable:
    """A cost table of another machine: what it lacks is not measured, so that partitions alone decide."""
    return CostTable(SPEC, measured_on={"host": {"cpu_model": "another"}, "engine": "another"})


def kept(done: tuple[DelegateRewritten, ...]) -> list[str]:
    """The rules that changed the graph."""
    return [item.rule.name for item in done if item.kept]


def outside(content: bytes) -> list[str]:
    """The operators that XNNPACK leaves outside of a model in int8."""
    model = quantize(content, statistics(content, samples(content, 8)).ranges, "int8")
    main = main_of(model)
    names = left_outside(model, SPEC)
    return sorted(op.name for op in main.ops if main.tensors[op.outputs[0]].name in names)


def inverted(size: int = 12) -> bytes:
    """A network as MobileNetV2 has it: PAD before a stride, expansion, depthwise, projection, skip connection."""
    net = Net(seed=2)
    x = net.conv(net.pad(net.input(1, size, size, 3)), 8, stride=2, padding=VALID, act=RELU6)
    y = net.conv(net.depthwise(net.conv(x, 24, 1, act=RELU6), act=RELU6), 8, 1)
    return net.finish(net.softmax(net.dense(net.mean(net.add(x, y)), 5)))


@pytest.mark.parametrize("recipe", ["auto", "int8"])
@pytest.mark.parametrize("content", [pytest.param(residual(), id="ResNet"), pytest.param(inverted(), id="MobileNetV2")])
def test_plain_networks_come_back_as_they_were(content: bytes, recipe: str) -> None:
    """The same object: no rule matches, so that nothing is quantised or measured."""
    asked: list[bytes] = []

    def ranges(model: bytes) -> Ranges:
        asked.append(model)
        return {}

    result, done = rewrite_for_delegate(
        content,
        data_for(content),
        recipe=recipe,
        io="int8",
        spec=SPEC,
        ranges=ranges,
        costs=CostTable(SPEC),
        progress=lambda step, done, total: None,
    )
    assert result is content
    assert (done, asked) == ((), [])


@pytest.mark.parametrize("recipe", ["dynamic", "float16", "int16x8"])
def test_other_recipes_are_not_concerned(recipe: str) -> None:
    """What the delegate takes in int8 says nothing of them."""
    content = network(patterns.tile)
    result, done = rewritten(content, recipe)
    assert result is content
    assert done == ()


@pytest.mark.parametrize(
    ("pattern", "rule", "gone"),
    [
        (patterns.relu_behind_convolution, "fused", "RELU"),
        (patterns.nearest, "nearest", "RESIZE_NEAREST_NEIGHBOR"),
        (patterns.tile, "tile", "TILE"),
        (patterns.split_many, "split", "SPLIT"),
        (patterns.unpack_and_pack, "join", "PACK"),
        (patterns.drop_axis, "slices", "STRIDED_SLICE"),
        (patterns.dilated, "dilated", "SPACE_TO_BATCH_ND"),
    ],
)
def test_what_is_outside_is_brought_in(pattern: patterns.Pattern, rule: str, gone: str) -> None:
    """Under recipe auto, where a float island would not help, or not as much."""
    content = network(pattern, size=8)
    assert gone in outside(content)
    result, done = rewritten(content, "int8", elsewhere())
    assert rule in kept(done)
    assert gone not in [op.name for op in main_of(result).ops]
    assert outside(result) == []
    item = next(item for item in done if item.rule.name == rule)
    assert item.difference is not None
    assert item.difference <= item.rule.tolerance
    before, after = item.outside
    assert after is not None
    assert after < before


def test_strict_rules_are_for_the_recipe_int8() -> None:
    """Under auto HARD_SWISH becomes a float island, which is one lookup too and rounds once."""
    content = network(patterns.hard_swish)
    assert rewritten(content) == (content, ())
    result, done = rewritten(content, "int8", elsewhere())
    assert kept(done) == ["hard-swish"]
    assert outside(result) == []


def test_only_operators_outside_are_touched() -> None:
    """Two HARD_SWISH and a SPLIT in 2, which is taken: the SPLIT stays under every recipe."""

    def halves(net: Net, x: int) -> int:
        x = net.conv(x, 4, 1)
        parts = [net.result((*net.shape(x)[:3], 2)) for _ in range(2)]
        net.op("SPLIT", [net.constant(3, "int32"), x], parts, patterns.options("SplitOptions", numSplits=2))
        return net.concat(parts[1], parts[0])

    result, done = rewritten(network(patterns.hard_swish, halves, patterns.hard_swish), "int8", elsewhere())
    assert [(item.rule.name, item.count) for item in done if item.kept] == [("hard-swish", 2)]
    assert "SPLIT" in [op.name for op in main_of(result).ops]


def test_without_a_gain_nothing_is_changed() -> None:
    """What may be left in float, and times that are not known: the graph stays, and the report says why."""
    content = network(patterns.layer_norm)
    result, done = rewritten(content, "auto", elsewhere())
    assert result is content
    assert [(item.rule.name, item.kept) for item in done] == [("squared-difference", False)]
    assert done[0].finding().text == (
        "rule 'squared-difference' (2 times) not applied: nothing more would be taken, and what it saves is not in the cost table."
    )


def test_one_line_adds_the_rules_up() -> None:
    """The first one's before and the last one's after."""
    _, done = rewritten(network(patterns.hard_swish, patterns.tile, patterns.hard_swish), "int8", elsewhere())
    assert in_one_line(done) == "rewritten for the delegate (tile, hard-swish ×2): 3 to 0 operators outside"


def test_a_model_that_does_not_run_here() -> None:
    """It comes back as it was, and the steps that follow say what is wrong."""
    net = Net()
    x = patterns.tile(net, net.input(1, 4, 4, 2))
    net.op("CUSTOM", [x], [net.result(net.shape(x))])
    net.codes[-1].customCode = b"Mystery"
    content = net.finish(len(net.tensors) - 1)
    assert rewritten(content) == (content, ())


def test_measured_time_decides() -> None:
    """Seven products and sums behind one small layer take longer than none."""

    def seven(net: Net, x: int) -> int:
        y = net.conv(x, 32, 1)
        for number in range(7):
            y = patterns.binary(net, "ADD" if number % 2 else "MUL", y, net.constant(1 + net.normal(32)))
        return y

    content = network(seven, size=24)
    costs = CostTable(SPEC)
    result, done = rewritten(content, "auto", costs)
    assert kept(done) == ["affine"]
    before, after = done[0].latency_ns
    assert before is not None
    assert after is not None
    assert after < 0.95 * before
    # The same table gives the same decision again.
    assert rewritten(content, "auto", costs)[0] == result


def test_a_rule_that_changes_values_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that makes HARD_SWISH a RELU, to see that it is found out."""

    def find(draft: Draft) -> list[Match]:
        def change(op: Op, draft: Draft) -> None:
            draft.remove(op)
            draft.add("RELU", [draft.inputs(op)[0]], op.outputs[0])

        return [Match((op,), partial(change, op)) for op in draft.ops if op.name == "HARD_SWISH"]

    monkeypatch.setattr(delegate, "RULES", (DelegateRule("wrong", "", find),))
    content = network(patterns.hard_swish)
    result, done = rewritten(content)
    assert result is content
    assert [(item.kept, item.reason.startswith("a float output would change by ")) for item in done] == [(False, True)]


def test_a_tidy_up_follows_what_was_kept() -> None:
    """RESHAPEs in a row are no reason to touch a model; once another rule has, they are looked at."""
    reshaped = network(patterns.reshapes)
    assert rewritten(reshaped, "int8", elsewhere()) == (reshaped, ())
    _, done = rewritten(network(patterns.unpack_and_pack, patterns.reshapes), "int8", elsewhere())
    assert {"split", "join"} <= set(kept(done))
    assert [item.rule.name for item in done if item.rule.simplifies] == ["reshapes"]


def test_what_does_not_pay_together_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that changes values, beside one that is sound: the sound one is kept by itself, and together both are in one step."""

    def find(draft: Draft) -> list[Match]:
        def change(op: Op, draft: Draft) -> None:
            draft.bypass(op)

        return [Match((op,), partial(change, op)) for op in draft.ops if op.name == "HARD_SWISH"]

    wrong = DelegateRule("wrong", "", find, simplifies=True, whole=True)
    affine = next(rule for rule in RULES if rule.name == "affine")
    twice = next(rule for rule in RULES if rule.name == "common")

    def steps(*patterns_: Pattern) -> list[tuple[str, bool, tuple[str, ...]]]:
        _, done = rewritten(network(*patterns_), "int8", elsewhere())
        return [(item.rule.name, item.kept, item.beside) for item in done]

    monkeypatch.setattr(delegate, "RULES", (wrong, affine, twice))
    assert steps(patterns.batch_norm_depthwise, patterns.hard_swish) == [("wrong", False, ()), ("affine", True, ())]
    assert steps(patterns.batch_norm_depthwise, patterns.twice) == [
        ("affine", True, ("common",)), ("common", True, ("affine",))
    ]  # fmt: skip


def test_one_line_says_what_was_gained() -> None:
    """What was rewritten, how often, and the operators outside before and after."""
    _, done = rewritten(network(patterns.tile), "int8", elsewhere())
    assert done[0].finding().text == (
        "TILE becomes CONCATENATIONs of copies (once): operators outside the delegate 1 to 0; the float outputs are identical."
    )
    assert in_one_line(done) == "rewritten for the delegate (tile): 1 to 0 operators outside"
    assert in_one_line(()) is None
    assert done[0].to_json() == {"name": "tile", "count": 1, "kept": True, "outside": [1, 0]}


def test_names_are_unique_and_told_in_the_docs() -> None:
    """Each rule has its row in docs/rewrites.md."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    text = (Path(__file__).parents[3] / "docs" / "rewrites.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_real_models_that_are_whole(assets: Path) -> None:
    """ResNet8 and the visual wake words MobileNet are taken whole, and come back as they were."""
    for name in ("mlperf_tiny/resnet8/pretrainedResnet.tflite", "mlperf_tiny/vww/vww_96_float.tflite"):
        source = (assets / name).read_bytes()
        content, _ = rewrite(source, data_for(source))
        result, done = rewritten(content)
        assert result is content
        assert done == ()
