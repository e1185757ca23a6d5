"""``edgekit.runtime.edgetpu_package``: what a compiled model says of itself, and files that say nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standin_delegates as standins
import tiny_models as models

from edgekit.modelfile import ModelFile
from edgekit.runtime.edgetpu_package import is_compiled, packages, required_runtime


def with_options(data: bytes) -> ModelFile:
    """A compiled model with other data in its operator."""

    def change(model: Any) -> None:
        model.subgraphs[0].operators[0].customOptions = list(data)

    return ModelFile.read(models.edited(standins.compiled_model(), change))


class TestOwnModels:
    """Models made here, in the layout of the compiler."""

    @pytest.mark.parametrize("runtime", [10, 12, 13, 14, 9999])
    def test_the_runtime_that_it_needs(self, runtime: int) -> None:
        """The number is read from the operator's data."""
        model = ModelFile.read(standins.compiled_model(runtime=runtime, then_relu=True))
        assert is_compiled(model)
        assert runtime == required_runtime(model)
        assert 1 == len(packages(model))

    def test_a_model_that_was_not_compiled(self) -> None:
        """It has no package."""
        model = ModelFile.read(models.dense_int8())
        assert (False, (), None) == (is_compiled(model), packages(model), required_runtime(model))

    def test_another_custom_operator(self) -> None:
        """Only the Edge TPU's is looked at."""
        model = ModelFile.read(models.custom_op())
        assert (False, ()) == (is_compiled(model), packages(model))

    @pytest.mark.parametrize(
        "data", [b"", b"\0", b"no map at all", bytes(64), b"\xff" * 64, standins.custom_options(12, key="3")], ids=len
    )
    def test_nonsense(self, data: bytes) -> None:
        """Whatever the data are, they are not believed; the file is a compiled one all the same."""
        model = with_options(data)
        assert (True, None) == (is_compiled(model), required_runtime(model))

    @pytest.mark.parametrize("runtime", [0, -1, 10_000])
    def test_a_version_that_is_none(self, runtime: int) -> None:
        """A number that no runtime has is not passed on."""
        assert required_runtime(with_options(standins.custom_options(runtime))) is None

    def test_damaged_data(self) -> None:
        """Each byte changed and each length cut short gives a version or none, and never an exception."""
        whole = standins.custom_options(12)
        generator = np.random.default_rng(5)
        seen = set()
        for length in range(len(whole)):
            seen.add(required_runtime(with_options(whole[:length])))
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= int(generator.integers(1, 256))
            seen.add(required_runtime(with_options(bytes(changed))))
        assert {None, 12} <= seen


@pytest.mark.parametrize(
    "name", ["mobilenet_v1_0.25_128_quant", "keras_lstm_mnist_ptq", "deeplabv3_mnv2_dm05_pascal_quant"]
)
def test_what_the_real_compiler_made(name: str, assets: Path) -> None:
    """The three compiled files need runtime 12; their sources none."""
    compiled = ModelFile.read(assets / "edgetpu" / f"{name}_edgetpu.tflite")
    source = ModelFile.read(assets / "edgetpu" / f"{name}.tflite")
    assert (True, 12) == (is_compiled(compiled), required_runtime(compiled))
    assert (False, None) == (is_compiled(source), required_runtime(source))
