"""A whole conversion of a model whose channels came first: whatever the recipe, the file has none of its TRANSPOSEs."""

from __future__ import annotations

import channels_first as patterns
import numpy as np
import pytest

import edgekit


@pytest.mark.parametrize(("recipe", "options"), [("int8", {}), ("float16", {}), ("int8", {"batch": 3})])
def test_conversion(recipe: str, options: dict[str, int]) -> None:
    """They are removed from the pivot, the manifest and the log say so, and the result agrees with the model as it was given."""
    source = patterns.network(patterns.residual, patterns.padded, patterns.squeeze_excite, size=8)
    data = np.random.default_rng(0).normal(0, 1, (40, 8, 8, 4)).astype(np.float32)
    made = edgekit.convert(
        source, data[:30], recipe=recipe, effort="fast", normalize="none", io="float32", keep_failing=True, **options
    )
    assert made.model.manifest is not None
    given = made.model.manifest.recipe
    assert {"layout"} <= set(given["rewrites"])
    assert given["rewrites"]["layout"] >= 10
    assert any("channels came first" in finding.text for finding in made.findings)
    assert "TRANSPOSE" not in {op.name for graph in made.model.graph.subgraphs for op in graph.ops}
    with edgekit.load(source, delegate="none") as before, edgekit.load(made.model, delegate="xnnpack") as after:
        expected, found = (np.stack([model.run(sample[None]) for sample in data[30:]]) for model in (before, after))
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))
