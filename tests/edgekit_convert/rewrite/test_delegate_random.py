"""Random networks of the spellings that the rewrites look for: each rule alone, and all of them after each other."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from delegate_patterns import PATTERNS, network
from small_nets import Samples, main_of, outputs, samples

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.package import golden_data
from edgekit_convert.package.oldest import VARIABLE, oldest_runtime
from edgekit_convert.package.versions import with_versions
from edgekit_convert.rewrite import comparing
from edgekit_convert.rewrite.delegate.draft import applied
from edgekit_convert.rewrite.delegate.rules import RULES


def random_network(seed: int) -> bytes:
    """Four spellings in random order, none twice, in a network of random size."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(PATTERNS), 4, replace=False)
    found = list(PATTERNS.values())
    chain = [found[place][random.integers(len(found[place]))] for place in chosen]
    return network(*chain, seed=seed, size=int(random.integers(8, 12)), channels=int(random.integers(2, 7)))


@functools.cache
def rewritten(seed: int) -> tuple[bytes, int]:
    """The random network of this seed after every rule, and how many times one was applied."""
    content, matched = random_network(seed), 0
    for rule in RULES:
        content, more = applied(content, rule.find)
        matched += more
    return content, matched


def flat(content: bytes, inputs: Samples) -> list[Array]:
    """All outputs in a row."""
    return [array for sample in outputs(content, inputs) for array in sample]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    """Applied against unapplied; the file is sound, and XNNPACK runs it."""
    content = random_network(seed)
    inputs = samples(content, 3)
    expected = flat(content, inputs)
    for rule in RULES:
        alone, count = applied(content, rule.find)
        if count:
            assert comparing.difference(expected, flat(alone, inputs)) <= rule.tolerance, rule.name
            assert applied(alone, rule.find)[1] == 0, rule.name
    together, matched = rewritten(seed)
    assert matched > 0
    model = ModelFile.read(together)
    seen = comparing.outputs(
        together,
        [dict(zip((spec.name for spec in model.inputs), sample, strict=True)) for sample in inputs],
        DelegateSpec("xnnpack", 1),
    )
    assert comparing.difference(expected, seen) <= 1e-4


@pytest.mark.parametrize("seed", range(40))
def test_names_that_other_steps_know(seed: int) -> None:
    """Inputs and outputs keep their names and shapes, no two tensors share a name, and every constant is read."""
    result, _ = rewritten(seed)
    before, after = ModelFile.read(random_network(seed)), ModelFile.read(result)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    main = main_of(result)
    assert len({tensor.name for tensor in main.tensors}) == len(main.tensors)
    read = {index for op in main.ops for index in op.inputs}
    assert {tensor.index for tensor in main.tensors if tensor.data is not None} <= read


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_tflite_runtime(seed: int) -> None:
    """Where the environment is at hand, the rewritten float model loads there and agrees."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    result, _ = rewritten(seed)
    model = ModelFile.read(result)
    inputs = [dict(zip((spec.name for spec in model.inputs), sample, strict=True)) for sample in samples(result, 3)]
    flatbuffer = with_versions(result)
    found = oldest_runtime(flatbuffer, golden_data.make(flatbuffer, inputs, DelegateSpec("xnnpack", 1)))
    assert (found.oldest, found.refused) == ("tflite-runtime 2.14.0", None)
