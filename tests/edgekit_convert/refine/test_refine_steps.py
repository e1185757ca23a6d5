"""The order of the refinements: what each effort tries, what is kept, and that the order of the data does not matter."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.quantize import io_for, quantize
from edgekit_convert.ranges import Statistics
from edgekit_convert.refine.judge import Judge
from edgekit_convert.refine.scales import fit_biases
from edgekit_convert.refine.steps import Refined, Refinery, Step, decibels

SPEC = DelegateSpec("xnnpack", 1)
IN_FAST = {"bias-correction"}
IN_DEFAULT = IN_FAST | {"equalisation", "range-search", "streaming"}
IN_HIGH = IN_DEFAULT | {"rounding"}


def parts(content: bytes) -> tuple[nets.Samples, nets.Samples]:
    """Samples to refine on, and others to judge by, with a mean far from zero."""
    everything = [[value * np.float32(0.5) + 1 for value in sample] for sample in nets.samples(content, 60, 1)]
    return everything[:36], everything[36:]


@functools.cache
def refined(content: bytes, effort: str, *, recipe: str = "int8") -> Refined:
    """A model quantised and refined; once for all tests that ask for the same."""
    return refined_on(content, effort, recipe=recipe)


def refined_on(content: bytes, effort: str, *, recipe: str = "int8", measured: Statistics | None = None) -> Refined:
    """The same; ``measured`` stands in place of what the samples would give."""
    refining, held_out = parts(content)
    refinery = Refinery(
        refining=refining, held_out=held_out, io=io_for(recipe, None), recipe=recipe, spec=SPEC,
        remeasure=lambda model: nets.statistics(model, refining + held_out), progress=lambda step, done, total: None,
    )  # fmt: skip
    return refinery.run(content, measured or nets.statistics(content, refining + held_out), effort)


def plain(content: bytes, *, recipe: str = "int8") -> bytes:
    """The same model as it is before any refinement."""
    refining, held_out = parts(content)
    ranges = nets.statistics(content, refining + held_out).ranges
    return fit_biases(quantize(content, ranges, io_for(recipe, None), recipe=recipe), content)[0]


def quiet_channels() -> bytes:
    """A network for which every refinement has something to do: quiet channels that matter, large values before a sigmoid."""
    net = nets.Net(seed=4)
    quiet = np.float32([1, 0.05, 0.2, 0.02, 0.5, 0.3])
    weights = net.normal(6, 3, 3, 3) * quiet[:, None, None, None]
    a = net.conv(net.input(1, 8, 8, 3), act=nets.RELU, weights=weights, bias=quiet * 0.1)
    b = net.conv(a, 6, 1, weights=net.normal(6, 1, 1, 6) / quiet * 4)
    c = net.simple("LOGISTIC", [b], net.shape(b))
    return net.finish(net.softmax(net.dense(net.mean(net.depthwise(c)), 5, bias=np.zeros(5))))


@pytest.mark.parametrize(
    ("effort", "allowed", "needed"),
    [
        ("fast", IN_FAST, IN_FAST),
        ("default", IN_DEFAULT, IN_FAST | {"equalisation", "streaming"}),
        ("high", IN_HIGH, IN_FAST | {"equalisation", "streaming", "rounding"}),
    ],
    ids=["fast", "default", "high"],
)
def test_each_effort_tries_what_it_says(effort: str, allowed: set[str], needed: set[str]) -> None:
    """Less effort tries less; what was tried comes in the order of the module."""
    names = [step.name for step in refined(quiet_channels(), effort).steps]
    assert needed <= set(names) <= allowed
    order = ["bias-correction", "equalisation", "range-search", "rounding"]
    others = [
        name for name in names if name != "streaming"
    ]  # it comes before a search that closed forms do not show at its best
    assert sorted(others, key=order.index) == others
    assert "streaming" not in names[: names.index("bias-correction") + 1]


@pytest.mark.parametrize("effort", ["fast", "default", "high"])
def test_every_kept_step_lowers_the_held_out_noise(effort: str) -> None:
    """Each step starts from what was kept before it, and is kept exactly where it is better."""
    content = quiet_channels()
    noise = float(Judge(content, parts(content)[1], SPEC).noise(plain(content)).mean())
    steps = refined(content, effort).steps
    for step in steps:
        assert noise == step.before
        assert (step.after < step.before) == step.kept
        noise = step.after if step.kept else noise
    assert any(step.kept for step in steps)


def test_more_effort_is_better_on_other_data() -> None:
    """On samples that nothing has seen, each effort is at least as good as the one below it, within a tenth."""
    content = quiet_channels()
    fresh = [[value * np.float32(0.5) + 1 for value in sample] for sample in nets.samples(content, 60, 9)]
    judge = Judge(content, fresh, SPEC)
    noises = [judge.noise(plain(content)).mean()]
    noises += [judge.noise(refined(content, effort).model).mean() for effort in ("fast", "default", "high")]
    assert all(after < before * 1.1 for before, after in itertools.pairwise(noises))
    assert noises[-1] < noises[0] / 2


def test_a_step_that_does_not_help_is_rolled_back() -> None:
    """Means of the wrong sign turn bias correction into harm: it is tried, said, and nothing of it is left."""
    net = nets.Net(seed=1)
    content = net.finish(net.dense(net.dense(net.input(1, 16), 12, act=nets.RELU), 4))
    refining, held_out = parts(content)
    right = nets.statistics(content, refining + held_out)
    wrong = replace(right, sums={name: -3 * total for name, total in right.sums.items()})
    result = refined_on(content, "fast", measured=wrong)
    [step] = result.steps
    assert ("bias-correction", False) == (step.name, step.kept)
    assert step.after > step.before
    assert "not kept" in step.finding().text
    assert plain(content) == result.model
    assert refined(content, "fast").steps[0].kept


@pytest.mark.parametrize("recipe", ["int16x8", "dynamic", "float16", "weights"])
def test_other_recipes_have_only_their_biases_corrected(recipe: str) -> None:
    """The rest is made for int8 activations."""
    content = quiet_channels()
    result = refined(content, "high", recipe=recipe)
    assert {step.name for step in result.steps} <= IN_FAST
    assert content == result.float_model
    if not any(step.kept for step in result.steps):
        assert plain(content, recipe=recipe) == result.model


def test_the_equalised_float_model_goes_with_the_int8_one() -> None:
    """Where equalisation was kept, the float model and the ranges that are handed on are those of the scaled channels."""
    content = quiet_channels()
    result = refined(content, "default")
    assert "equalisation" in {step.name for step in result.steps if step.kept}
    assert content != result.float_model
    sample = parts(content)[1][:1]
    np.testing.assert_allclose(
        nets.outputs(content, sample)[0][0], nets.outputs(result.float_model, sample)[0][0], atol=1e-5
    )
    main = nets.main_of(result.model)
    assert {name for name in result.ranges if name in {tensor.name for tensor in main.tensors}} == set(result.ranges)
    first = next(tensor for tensor in main.tensors if tensor.name == nets.main_of(content).tensors[3].name)
    low, high = result.ranges[first.name]
    assert first.quant is not None
    assert first.quant.scales[0] == pytest.approx((high - low) / 255, rel=1e-3)


def chosen_values(net: nets.Net, x: int) -> int:
    """The positive values of a vector: how many there are depends on them."""
    condition = net.result((1, 12), "int32")
    net.tensors[condition].type = 6  # schema.fbs, enum TensorType: BOOL
    net.op("GREATER", [x, net.constant([[1.0]])], [condition], ("GreaterOptions", schema.GreaterOptionsT()))
    places = net.result((1, 2), "int64")
    net.op("WHERE", [condition], [places], ("WhereOptions", schema.WhereOptionsT()))
    return net.simple("GATHER_ND", [x, places], (1,), ("GatherNdOptions", schema.GatherNdOptionsT()))


def test_what_cannot_be_judged_stays_plain_int8_with_a_note() -> None:
    """An output whose size depends on the values: no step is tried, the plain file is there, the note says why."""
    net = nets.Net(seed=2)
    content = net.finish(chosen_values(net, net.dense(net.input(1, 16), 12)))
    result = refined(content, "high")
    assert plain(content) == result.model
    assert () == result.steps
    assert [("note", "refinement")] == [(finding.level, finding.code) for finding in result.findings]
    assert "depends on the values" in result.findings[0].text


def test_a_refinement_that_fails_leaves_what_was_kept_before() -> None:
    """Sizes that depend on the values inside the model stop the search and the walk, not the bias correction."""
    net = nets.Net(seed=1)
    a = net.dense(net.input(1, 16), 12)
    options = schema.ReducerOptionsT()
    options.keepDims = False
    total = net.simple("SUM", [chosen_values(net, a), net.constant([0], "int32")], (), ("ReducerOptions", options))
    content = net.finish(net.dense(net.add(a, total), 4))
    result = refined(content, "default")
    assert any("left out" in finding.text for finding in result.findings if finding.code == "refinement")
    assert ["bias-correction"] == [step.name for step in result.steps if step.kept]
    assert plain(content) != result.model
    assert result.model == refined(content, "fast").model


def test_models_without_layers_try_nothing() -> None:
    """Where there is nothing to correct no step is reported, and the file is plain int8."""
    content = models.add_two_inputs()
    result = refined(content, "high")
    assert {step.name for step in result.steps} <= {"range-search"}
    if not any(step.kept for step in result.steps):
        assert plain(content) == result.model


def test_what_a_step_says() -> None:
    """The finding names the gain in dB; the manifest's form has numbers, and none for no error at all."""
    kept = Step("rounding", True, 0.01, 0.001, "weights of 2 layers rounded by their inputs")
    assert (
        "weights of 2 layers rounded by their inputs: 20.0 dB to 30.0 dB SQNR on held-out calibration data."
        == kept.finding().text
    )
    assert {"name": "rounding", "kept": True, "before_db": 20.0, "after_db": 30.0} == kept.to_json()
    exact = Step("streaming", True, 0.01, 0.0, "x")
    assert exact.to_json()["after_db"] is None
    assert "no error" == decibels(0.0)


@pytest.mark.parametrize("effort", ["fast", "default", "high"])
def test_the_order_of_the_calibration_data_does_not_matter(effort: str) -> None:
    """Five orders, among them some duplicates, give the same file to the last byte, manifest and golden data included."""
    content = quiet_channels()
    random = np.random.default_rng(3)
    data = random.normal(1, 0.5, (60, 8, 8, 3)).astype(np.float32)
    data[50:] = data[:10]
    files = {
        edgekit.convert(content, data[order], recipe="int8", effort=effort).model.content
        for order in [np.arange(60), *(random.permutation(60) for _ in range(4))]
    }
    assert 1 == len(files)
