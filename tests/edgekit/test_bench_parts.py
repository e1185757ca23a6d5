"""Parts of a model run as the model does, and small models that are written without a library are sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models as models

from edgekit.bench.inputs import random_inputs
from edgekit.bench.parts import Parts
from edgekit.bench.peak_models import conv
from edgekit.bench.tiny_flatbuffer import Fields, Numbers, Scalar, write
from edgekit.flatbuffer import File, table_at
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine
from edgekit.tensors import Array

PLAIN = DelegateSpec("none", threads=1)


def run(content: bytes, inputs: list[Array], spec: DelegateSpec = PLAIN) -> list[Array]:
    """What a model makes of its inputs, in the file's own types."""
    model = ModelFile.read(content)
    engine = open_engine(model, spec)
    try:
        for place, value in enumerate(inputs):
            engine.set_input(place, value)
        engine.invoke()
        return [engine.get_output(place) for place in range(len(model.outputs))]
    finally:
        engine.close()


def chained(content: bytes, groups: list[list[int]]) -> list[Array]:
    """What a model's parts make of its inputs, one after the other."""
    model = ModelFile.read(content)
    parts = Parts(model)
    values = dict(zip(model.graph.main.inputs, random_inputs(model.inputs).values(), strict=True))
    for group in groups:
        part = parts.cut(group)
        values.update(zip(part.outputs, run(part.content, [values[index] for index in part.inputs]), strict=True))
    return [values[index] for index in model.graph.main.outputs]


MODELS = {
    "dense float": models.dense_float(),
    "dense int8": models.dense_int8(),
    "conv float": models.conv_float(),
    "two inputs": models.add_two_inputs(),
    "no signature": models.dense_float(signature=False),
    "with a manifest": models.with_manifest(models.dense_float()),
}


@pytest.mark.parametrize("content", MODELS.values(), ids=MODELS.keys())
class TestChain:
    """Parts in a row against the whole."""

    def test_single_operators(self, content: bytes) -> None:
        """Each operator alone, fed with the ones' results before it, ends at what the whole model gives, bit for bit."""
        model = ModelFile.read(content)
        whole = run(content, list(random_inputs(model.inputs).values()))
        found = chained(content, [[op.index] for op in model.graph.main.ops])
        assert [value.tobytes() for value in whole] == [value.tobytes() for value in found]

    def test_two_halves(self, content: bytes) -> None:
        """Several operators in a part, named in any order and twice."""
        model = ModelFile.read(content)
        count = len(model.graph.main.ops)
        first, second = list(range(count // 2)), list(range(count // 2, count))
        groups = [group for group in ([*reversed(first), *first], second) if group]
        whole = run(content, list(random_inputs(model.inputs).values()))
        assert [value.tobytes() for value in whole] == [value.tobytes() for value in chained(content, groups)]

    def test_a_part_is_a_plain_model(self, content: bytes) -> None:
        """It has the operators that were named, no signature, no metadata and no manifest."""
        part = ModelFile.read(Parts(ModelFile.read(content)).cut([0]).content)
        assert (1, (), {}, None) == (
            len(part.graph.main.ops),
            part.graph.signatures,
            part.graph.metadata,
            part.manifest,
        )


def test_real_models_run_in_parts(assets: Path) -> None:
    """Every operator of a float and of a quantised network alone gives what the whole gives."""
    for name in ("mobilenet_v1_0.25_224/float.tflite", "mobilenet_v1_0.25_224/uint8_qat.tflite"):
        content = (assets / name).read_bytes()
        model = ModelFile.read(content)
        whole = run(content, list(random_inputs(model.inputs).values()))
        found = chained(content, [[op.index] for op in model.graph.main.ops])
        assert [value.tobytes() for value in whole] == [value.tobytes() for value in found], name


class TestEnds:
    """What goes into a part and comes out."""

    def test_constants_stay_inside(self) -> None:
        """Weights are no inputs, and what the part's own operators pass on is neither."""
        model = ModelFile.read(models.conv_float())
        main, parts = model.graph.main, Parts(model)
        inputs, outputs = parts.ends(range(len(main.ops)))
        assert (main.inputs, main.outputs) == (inputs, outputs)

    def test_result_that_somebody_else_reads_comes_out(self) -> None:
        """The first operator's result is the second one's input."""
        model = ModelFile.read(models.conv_float())
        ops, parts = model.graph.main.ops, Parts(model)
        assert parts.ends([0])[1] == ops[0].outputs
        assert ops[0].outputs[0] in parts.ends([1])[0]


class TestTinyFlatbuffer:
    """The writer against the reader."""

    def test_every_kind_of_field(self) -> None:
        """Numbers of all sizes, texts, vectors, tables and vectors of tables come back."""
        content = write(
            Fields(
                {
                    0: Scalar("b", -3),
                    1: Scalar("I", 70_000),
                    3: "text",
                    4: Numbers("q", (1, -2), align=8),
                    5: Fields({2: Scalar("f", 0.5)}),
                    6: [Fields({0: Scalar("B", 7)}), Fields({}), Fields({0: "x"})],
                    7: Numbers("B", b"abc", align=16),
                }
            )
        )
        table = table_at(File(content), int.from_bytes(content[:4], "little"))
        assert (-3, 70_000, 9, "text") == (
            table.scalar(0, "b", 0), table.scalar(1, "I", 0), table.scalar(2, "i", 9), table.string(3)
        )  # fmt: skip
        assert (1, -2) == table.numbers(4, "q")
        inner = table.table(5)
        assert inner is not None
        assert inner.scalar(2, "f", 0) == 0.5
        first, second, third = table.tables(6)
        assert (7, 0, "x") == (first.scalar(0, "B", 0), second.scalar(0, "B", 0), third.string(0))
        start, count = table.vector(7, 1) or (0, 0)
        assert b"abc" == content[start : start + count]
        assert (0, 0) == (start % 16, (table.vector(4, 8) or (1, 0))[0] % 8)

    @pytest.mark.parametrize("kind", ["xnnpack", "none"])
    def test_float_convolution_computes(self, kind: str) -> None:
        """A 1×1 convolution is a matrix product."""
        content, macs = conv("float32", 3, 4, 1)
        model = ModelFile.read(content)
        weights = model.graph.main.tensors[1].array().reshape(4, 4)
        image = np.random.default_rng(1).normal(size=(1, 3, 3, 4)).astype(np.float32)
        (found,) = run(content, [image], DelegateSpec(kind, threads=1))
        np.testing.assert_allclose(image @ weights.T, found, rtol=1e-5, atol=1e-6)
        assert macs == 9 * 4 * 4

    @pytest.mark.parametrize("kind", ["xnnpack", "none"])
    def test_int8_convolution_computes(self, kind: str) -> None:
        """The product of the integers times the scales, rounded: 0.05 · 0.01 / 0.5 = 1/1000."""
        content, _ = conv("int8", 3, 4, 1)
        weights = ModelFile.read(content).graph.main.tensors[1].array().reshape(4, 4).astype(np.int64)
        image = np.random.default_rng(1).integers(-128, 128, (1, 3, 3, 4)).astype(np.int8)
        (found,) = run(content, [image], DelegateSpec(kind, threads=1))
        assert np.abs((image.astype(np.int64) @ weights.T) / 1000 - found).max() <= 0.51
        assert len(np.unique(found)) > 5
