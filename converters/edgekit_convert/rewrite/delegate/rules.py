"""The rules, in the order in which they are tried: what makes room for others stands before them."""

from __future__ import annotations

from edgekit_convert.rewrite.delegate import (
    affine,
    average_pool,
    batch_matmul,
    broadcast,
    constant_steps,
    depth_to_space,
    dilated,
    division,
    elementwise,
    fused,
    hard_swish,
    nearest,
    pad,
    prelu,
    reduce_max,
    repeated,
    reshapes,
    scaled,
    slices,
    split,
    squared_difference,
    tile,
    transposes,
)
from edgekit_convert.rewrite.delegate.rule import DelegateRule

RULES: tuple[DelegateRule, ...] = (
    DelegateRule(
        "dilated",
        "a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND becomes one with dilation",
        dilated.find,
    ),
    DelegateRule(
        "affine",
        "MUL and ADD by constants behind a layer become its weights and bias",
        affine.find,
        simplifies=True,
        whole=True,
    ),
    DelegateRule(
        "scaled",
        "MUL and ADD by constants before a layer become its weights and one ADD",
        scaled.find,
        simplifies=True,
        whole=True,
    ),
    DelegateRule(
        "steps",
        "MUL, ADD, SUB and DIV by constants in a row become one MUL and one ADD",
        constant_steps.find,
        simplifies=True,
        whole=True,
    ),
    DelegateRule("transposes", "TRANSPOSEs that undo each other go", transposes.find, simplifies=True, whole=True),
    DelegateRule("common", "what is computed twice is computed once", repeated.find, simplifies=True, whole=True),
    DelegateRule(
        "spelled-out",
        "an activation function that is spelled out becomes its operator",
        elementwise.find,
        simplifies=True,
        whole=True,
    ),
    DelegateRule("one-slope", "PRELU with one slope becomes LEAKY_RELU", prelu.find_one_slope),
    DelegateRule("fused", "activations are fused to the operator before them", fused.find),
    DelegateRule("nearest", "RESIZE_NEAREST_NEIGHBOR becomes CONCATENATIONs of copies and RESHAPEs", nearest.find),
    DelegateRule("tile", "TILE becomes CONCATENATIONs of copies", tile.find),
    DelegateRule("split", "SPLIT in many parts, SPLIT_V and UNPACK become SLICEs", split.find),
    DelegateRule("join", "PACK and a long CONCATENATION become short CONCATENATIONs", split.find_joins),
    DelegateRule("slices", "STRIDED_SLICE that drops axes and GATHER become SLICE and RESHAPE", slices.find),
    DelegateRule(
        "strides", "STRIDED_SLICE with steps larger than 1 becomes RESHAPE, SLICE and RESHAPE", slices.find_strides
    ),
    DelegateRule("depth-to-space", "DEPTH_TO_SPACE becomes RESHAPE, TRANSPOSE and RESHAPE", depth_to_space.find),
    DelegateRule("reduce-max", "REDUCE_MAX over an image becomes MAX_POOL_2D", reduce_max.find),
    DelegateRule("batch-matmul", "BATCH_MATMUL by a constant becomes FULLY_CONNECTED", batch_matmul.find),
    DelegateRule(
        "squared-difference",
        "SQUARED_DIFFERENCE becomes SUB and MUL, and division by a root multiplication",
        squared_difference.find,
    ),
    DelegateRule("division", "DIV by a constant, POW and ADD_N become MULs and ADDs", division.find),
    DelegateRule("average-pool", "AVERAGE_POOL_2D becomes DEPTHWISE_CONV_2D with constant weights", average_pool.find),
    DelegateRule("hard-swish", "HARD_SWISH becomes ADD, MUL and MUL", hard_swish.find, strict=True),
    DelegateRule("leaky", "LEAKY_RELU and PRELU become MUL, ADD and MUL", prelu.find, strict=True),
    DelegateRule("lone", "an activation that stands alone becomes a MUL by 1 with it", fused.find_lone, strict=True),
    DelegateRule(
        "reshapes", "operators that change nothing go, and RESHAPEs in a row become one", reshapes.find, simplifies=True
    ),
    DelegateRule(
        "broadcast", "RESHAPEs that are there for a broadcast go", broadcast.find, simplifies=True, one_sample=True
    ),
    DelegateRule("pad", "PAD becomes the SAME padding of the convolution behind it", pad.find, simplifies=True),
)
