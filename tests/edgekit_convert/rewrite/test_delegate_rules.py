"""Each rewrite for the delegate gives the same values, and leaves none of what it is there to remove."""

from __future__ import annotations

from functools import partial

import delegate_patterns as patterns
import pytest
from delegate_patterns import PATTERNS, Pattern, network
from small_nets import main_of, outputs, samples

from edgekit_convert.rewrite.comparing import difference
from edgekit_convert.rewrite.delegate.draft import applied
from edgekit_convert.rewrite.delegate.rules import RULES

RULE_NAMED = {rule.name: rule for rule in RULES}
#: What is not there any more; other rules change operators that stay.
GONE = {
    "hard-swish": {"HARD_SWISH"},
    "fused": {"RELU", "MAXIMUM", "MINIMUM", "PRELU"},
    "lone": {"RELU"},
    "nearest": {"RESIZE_NEAREST_NEIGHBOR"},
    "tile": {"TILE"},
    "split": {"SPLIT", "SPLIT_V", "UNPACK"},
    "join": {"PACK"},
    "slices": {"STRIDED_SLICE", "GATHER"},
    "strides": {"STRIDED_SLICE"},
    "depth-to-space": {"DEPTH_TO_SPACE"},
    "reduce-max": {"REDUCE_MAX"},
    "batch-matmul": {"BATCH_MATMUL"},
    "squared-difference": {"SQUARED_DIFFERENCE", "DIV", "SQRT"},
    "affine": {"MUL", "ADD", "SUB", "DIV"},
    "scaled": {"MUL", "SUB", "DIV"},
    "steps": {"SUB", "DIV"},
    "average-pool": {"AVERAGE_POOL_2D"},
    "dilated": {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"},
    "one-slope": {"PRELU"},
    "leaky": {"LEAKY_RELU", "PRELU"},
    "division": {"DIV", "POW", "ADD_N"},
    "reshapes": {"RESHAPE", "SLICE"},
    "broadcast": {"RESHAPE"},
    "pad": {"PAD"},
    "spelled-out": {"TANH", "EXP", "DIV", "NEG"},
}
OTHERS: list[tuple[str, str, Pattern]] = [
    ("nearest", "by 3 along the height", partial(patterns.nearest, height=3, width=1)),
    ("nearest", "by 4 along the width", partial(patterns.nearest, height=1, width=4)),
    ("nearest", "half a pixel off", partial(patterns.nearest, half_pixel=True)),
    ("reduce-max", "without its axes", partial(patterns.largest, keep=False)),
    ("batch-matmul", "right side as it is stored", partial(patterns.matmul_right, turned=True)),
    ("batch-matmul", "left side turned", partial(patterns.matmul_left, turned=True)),
    ("batch-matmul", "right side turned", partial(patterns.matmul_left, other_turned=True)),
    ("dilated", "depthwise", partial(patterns.dilated, depthwise=True)),
    ("dilated", "by 3", partial(patterns.dilated, step=3)),
    ("dilated", "without padding", partial(patterns.dilated, same=False)),
]
CASES = [
    *(pytest.param(rule, item, id=f"{rule}: {item.__name__}") for rule, found in PATTERNS.items() for item in found),
    *(pytest.param(rule, item, id=f"{rule}: {text}") for rule, text, item in OTHERS),
]


def names(content: bytes) -> list[str]:
    """The operators of a model."""
    return [op.name for op in main_of(content).ops]


@pytest.mark.parametrize(("rule", "pattern"), CASES)
def test_each_pattern_is_respelled_and_gives_the_same(rule: str, pattern: Pattern) -> None:
    """The float outputs agree within the rule's tolerance, and what the delegate does not take is gone."""
    content = network(pattern)
    result, count = applied(content, RULE_NAMED[rule].find)
    assert count > 0
    inputs = samples(result, 3)
    flat = [[array for sample in outputs(item, inputs) for array in sample] for item in (content, result)]
    assert difference(*flat) <= RULE_NAMED[rule].tolerance
    if rule in ("nearest", "tile", "split", "join", "slices", "strides", "transposes", "reshapes", "reduce-max"):
        assert difference(*flat) == 0
    stays = {"RELU"} if pattern is patterns.clamp_alone else set()  # one operator instead of two with a constant
    assert not (GONE.get(rule, set()) - stays) & set(names(result))


def test_every_rule_has_a_pattern() -> None:
    """So that none is left untested, here and in the random networks."""
    assert {rule.name for rule in RULES} == set(PATTERNS)


@pytest.mark.parametrize(
    ("rule", "pattern", "expected"),
    [
        ("hard-swish", patterns.hard_swish, ["ADD", "MUL", "MUL"]),
        ("fused", patterns.clamp, ["CONV_2D"]),
        ("fused", patterns.clamp_between, ["ADD"]),
        ("nearest", patterns.nearest, ["CONCATENATION", "RESHAPE", "RESHAPE", "CONCATENATION", "RESHAPE"]),
        ("slices", patterns.drop_axis, ["SLICE", "RESHAPE", "ADD"]),
        ("batch-matmul", patterns.matmul_left, ["RESHAPE", "TRANSPOSE", "FULLY_CONNECTED", "TRANSPOSE", "RESHAPE"]),
        ("depth-to-space", patterns.depth_to_space, ["CONV_2D", "RESHAPE", "TRANSPOSE", "RESHAPE"]),
        ("reduce-max", patterns.largest, ["MAX_POOL_2D", "SUB"]),
        ("affine", patterns.batch_norm, ["CONV_2D"]),
        ("affine", patterns.batch_norm_depthwise, ["DEPTHWISE_CONV_2D"]),
        ("scaled", patterns.input_scaling, ["ADD", "CONV_2D"]),
        ("scaled", patterns.input_factor, ["DEPTHWISE_CONV_2D"]),
        ("steps", patterns.batch_norm_behind_sum, ["ADD", "MUL", "ADD"]),
        ("steps", patterns.opposite, ["ADD", "ADD", "RELU"]),
        ("average-pool", patterns.average_pool, ["DEPTHWISE_CONV_2D"]),
        ("dilated", patterns.dilated, ["CONV_2D"]),
        ("one-slope", patterns.one_slope, ["LEAKY_RELU"]),
        ("leaky", patterns.leaky_relu, ["MUL", "ADD", "MUL"]),
        ("transposes", patterns.channels_first, ["TRANSPOSE", "ADD", "TRANSPOSE"]),
        ("common", patterns.twice, ["CONV_2D", "ADD"]),
        ("reshapes", patterns.reshapes, []),
        ("broadcast", patterns.squeeze_excite, ["MEAN", "FULLY_CONNECTED", "LOGISTIC", "MUL"]),
        ("broadcast", patterns.mean_and_reshape, ["MEAN", "SUB"]),
        ("pad", patterns.padded, ["CONV_2D"]),
        ("spelled-out", patterns.gelu, ["GELU"]),
        ("spelled-out", patterns.silu, ["LOGISTIC", "MUL"]),
    ],
)
def test_what_becomes_of_a_pattern(rule: str, pattern: Pattern, expected: list[str]) -> None:
    """The operators between the first convolution and the last."""
    result, _ = applied(network(pattern), RULE_NAMED[rule].find)
    assert names(result)[1:-1] == expected
