"""Modules as people write them: masks, state, results of many forms, inputs by name, weights of other types and places."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.examples import Examples


@pytest.fixture
def nets(torch: Any) -> Iterator[Any]:
    """The networks of the tests; what PyTorch deprecates in itself is no error here."""
    import torch_modules

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch_modules


def opened(source: Any, data: Any = None, **shapes: tuple[int, ...]) -> Source:
    """A source that was opened with calibration data or shapes."""
    return open_source(source, Opening(shapes=shapes, examples=Examples(data) if data is not None else None))


def difference(source: Source, values: dict[str, Array]) -> float:
    """By how much the float file differs from the original, as a share of the largest value."""
    model = ModelFile.read(source.export({name: value.shape for name, value in values.items()}))
    assert source.reference is not None
    expected = source.reference(values)
    with Session(model, DelegateChoice(DelegateSpec("none", 1), "a test")) as session:
        result = session.run(values)
    found = [result[name] for name in sorted(result)] if isinstance(result, dict) else [result]
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(expected, found, strict=True))


class TestMasks:
    """What is true or false stays that."""

    def test_of_attention(self, nets: Any) -> None:
        """A mask is no number that would be added where it is to hide."""
        query = np.random.default_rng(0).standard_normal((4, 6, 8)).astype(np.float32)
        source = opened(nets.Attention(), {"query": query, "mask": np.zeros((4, 6), bool)})
        assert ["float32", "bool"] == [spec.dtype for spec in source.inputs]
        assert difference(source, {"query": query[:1], "mask": np.arange(6)[None] > 3}) < 1e-5

    @pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trainable"])
    def test_of_a_transformer(self, nets: Any, trained: bool) -> None:
        """Its layers are converted operator by operator, and where all is masked, too."""
        ids, kept = np.arange(24).reshape(4, 6) % 20, np.ones((4, 6), np.int64)
        source = opened(nets.Reader().requires_grad_(trained), {"ids": ids, "kept": kept})
        assert ["int32", "int32"] == [spec.dtype for spec in source.inputs]
        values = {"ids": ids[:1].astype(np.int32), "kept": (np.arange(6)[None] < 4).astype(np.int32)}
        assert difference(source, values) < 1e-5

    def test_pytorch_afterwards(self, nets: Any, torch: Any) -> None:
        """How PyTorch computes the caller's own transformers stays as it was."""
        before = torch.backends.mha.get_fastpath_enabled()
        opened(nets.Reader(), ids=(1, 6), kept=(1, 6))
        assert before == torch.backends.mha.get_fastpath_enabled()


class TestState:
    """What a module keeps from run to run."""

    def test_buffer(self, nets: Any) -> None:
        """A buffer that each run changes is named."""
        with pytest.raises(ConversionError, match=r"Counting changes seen in each run, and a .tflite keeps nothing"):
            opened(nets.Counting(), x=(1, 4))

    def test_input(self, nets: Any) -> None:
        """A module that computes in its input's own memory leaves the caller's arrays alone."""
        source = opened(nets.Doubling(), x=(1, 4))
        values = {"x": np.arange(1, 5, dtype=np.float32)[None]}
        assert difference(source, values) < 1e-5
        assert [1, 2, 3, 4] == values["x"][0].tolist()

    def test_dropout_without_end(self, nets: Any) -> None:
        """Dropout that evaluation does not switch off."""
        with pytest.raises(ConversionError, match=r"computes as in training.*Pass training=self.training"):
            opened(nets.Dropping(), x=(1, 4))


class TestArguments:
    """How ``forward`` takes its inputs."""

    @pytest.mark.parametrize("kind", ["ByName", "AnyName", "ByPlace", "AnyPlace"])
    def test_kinds(self, nets: Any, kind: str) -> None:
        """By name alone, by any name, by place alone and by any place."""
        name = "input" if kind == "AnyPlace" else "x"
        source = opened(getattr(nets, kind)(), **{"" if kind == "AnyPlace" else name: (1, 4)})
        assert [name] == [spec.name for spec in source.inputs]
        assert difference(source, {name: np.ones((1, 4), np.float32)}) < 1e-5


class TestResults:
    """What ``forward`` returns."""

    def test_other_floats(self, nets: Any) -> None:
        """bfloat16 and float64 come out as float32."""
        source = opened(nets.Types(), x=(1, 4))
        assert difference(source, {"x": np.ones((1, 4), np.float32)}) < 1e-2  # of bfloat16's 8 bits
        content = source.export({"x": (1, 4)})
        assert ["float32", "float32"] == [spec.dtype for spec in ModelFile.read(content).outputs]

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("Nothing", "^the PyTorch model returns nothing: tensors of real numbers"),
            ("Record", "^the PyTorch model returns a Scores: .*Wrap it in a module"),
            ("Complex", "^the PyTorch model returns a tensor of complex numbers"),
        ],
    )
    def test_refused(self, nets: Any, kind: str, message: str) -> None:
        """Nothing is said of sizes, which are right."""
        with pytest.raises(ConversionError, match=message):
            opened(getattr(nets, kind)(), x=(1, 4))


class TestRefused:
    """What cannot be had."""

    def test_no_values(self, nets: Any, torch: Any) -> None:
        """Weights on the device "meta" have sizes and no values."""
        with pytest.raises(ConversionError, match=r"weights without values \(weight is on the device 'meta'\)"):
            opened(torch.nn.Linear(4, 2, device="meta"), input=(1, 4))

    def test_sorting(self, nets: Any) -> None:
        """An operator that litert-torch writes with a function of its own."""
        source = opened(nets.Sorting(), x=(1, 4))
        with pytest.raises(ConversionError, match=r"STABLEHLO_SORT at 'output_0'.*no interpreter here can run"):
            source.export({"x": (1, 4)})

    def test_what_is_told(self, nets: Any) -> None:
        """Of what was tried in vain, the sizes are told and not the types."""
        with pytest.raises(ConversionError, match=r"ids int32\[1,3\].*size"):
            opened(nets.Reader(), ids=(1, 3), kept=(1, 4))
