"""PyTorch modules in memory: what they take is found, their channels come out last, and the file computes what they compute."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.errors import AlreadyQuantisedError, ConversionError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.examples import Examples

PICTURES = np.random.default_rng(0).uniform(0, 1, (6, 12, 10, 3)).astype(np.float32)


@pytest.fixture
def nets(torch: Any) -> Iterator[Any]:
    """The networks of the tests; what PyTorch deprecates in itself is no error here."""
    import torch_nets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch_nets


def opened(source: Any, data: Any = None, **options: Any) -> Source:
    """A source that was opened with calibration data."""
    examples = Examples(data) if data is not None else None
    return open_source(source, Opening(examples=examples, **options))


def compared(source: Source) -> tuple[ModelFile, float]:
    """The float file, and by how much it differs from the original on values by chance."""
    shapes = {spec.name: tuple(max(size, 1) for size in spec.shape) for spec in source.inputs}
    rng = np.random.default_rng(1)
    values = {
        spec.name: rng.standard_normal(shapes[spec.name]).astype(np.float32)
        if spec.dtype == "float32"
        else rng.integers(0, 20, shapes[spec.name]).astype(spec.dtype)
        for spec in source.inputs
    }
    model = ModelFile.read(source.export(shapes))
    assert source.reference is not None
    expected = source.reference(values)
    with Session(model, DelegateChoice(DelegateSpec("none", 1), "a test")) as session:
        result = session.run(values)
    found = [result[name] for name in sorted(result)] if isinstance(result, dict) else [result]
    assert [item.shape for item in expected] == [item.shape for item in found]
    return model, max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(expected, found, strict=True))


class TestChannels:
    """Channels first become channels last."""

    @pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
    def test_sizes_from_the_data(self, nets: Any, first: bool) -> None:
        """Whichever way the pictures come, the file takes them with the channels last, and names stay."""
        source = opened(nets.seeded(nets.Classifier), np.moveaxis(PICTURES, -1, 1) if first else PICTURES)
        assert (TensorSpec("image", (-1, 12, 10, 3), "float32"),) == source.inputs
        assert {"image": (0, 2, 3, 1)} == source.layouts
        model, difference = compared(source)
        assert ["image"] == [spec.name for spec in model.inputs]
        assert (1, 12, 10, 3) == model.inputs[0].shape
        assert difference < 1e-5

    def test_kept_first(self, nets: Any) -> None:
        """On request they stay first."""
        source = opened(nets.seeded(nets.Classifier), np.moveaxis(PICTURES, -1, 1), channels_last=False)
        assert (-1, 3, 12, 10) == source.inputs[0].shape
        assert {} == source.layouts
        assert compared(source)[1] < 1e-5

    def test_maps(self, nets: Any) -> None:
        """Outputs that are images are turned as well, so that the classes of each place lie together."""
        source = opened(nets.seeded(nets.Segmenter), PICTURES)
        assert {"map": (0, 2, 3, 1), "features": (0, 2, 3, 1)} == source.output_layouts
        model, difference = compared(source)
        assert {"map": (1, 12, 10, 4), "features": (1, 6, 5, 8)} == {spec.name: spec.shape for spec in model.outputs}
        assert difference < 1e-5

    def test_what_is_no_image(self, nets: Any) -> None:
        """Four axes alone make no image: places on a grid stay as they are."""
        source = opened(nets.Warp(), shapes={"image": (1, 3, 6, 6), "places": (1, 6, 6, 2)})
        assert {"image": (0, 2, 3, 1)} == source.layouts
        assert [(1, 6, 6, 3), (1, 6, 6, 2)] == [spec.shape for spec in source.inputs]

    def test_sound(self, nets: Any) -> None:
        """Data with the channels last make an input with the channels last; with the channels first it stays so."""
        last = np.random.default_rng(0).standard_normal((5, 30, 4)).astype(np.float32)
        source = opened(nets.seeded(nets.Sound), last)
        assert ((-1, 30, 4), {"signal": (0, 2, 1)}) == (source.inputs[0].shape, source.layouts)
        assert compared(source)[1] < 1e-5
        source = opened(nets.seeded(nets.Sound), np.moveaxis(last, -1, 1))
        assert ((-1, 4, 30), {}) == (source.inputs[0].shape, source.layouts)
        assert compared(source)[1] < 1e-5

    def test_no_channels(self, nets: Any) -> None:
        """Asking for channels last where there are no channels is an error."""
        with pytest.raises(OptionError, match="none of the inputs goes into a convolution or pooling"):
            opened(nets.seeded(nets.Words), np.zeros((4, 6), np.int64), channels_last=True)


class TestInputs:
    """What a module takes."""

    def test_several(self, nets: Any) -> None:
        """Each has its name; a parameter with a default is one where the data name it. Outputs are named by their keys."""
        numbers = np.zeros((6, 6), np.float32)
        source = opened(nets.seeded(nets.Two), {"image": PICTURES, "numbers": numbers})
        assert ["image", "numbers"] == [spec.name for spec in source.inputs]
        model, difference = compared(source)
        assert ["score", "more_0"] == [spec.name for spec in model.outputs]
        assert difference < 1e-5
        source = opened(nets.seeded(nets.Two), {"image": PICTURES, "numbers": numbers, "gain": numbers[:, :1]})
        assert ["image", "numbers", "gain"] == [spec.name for spec in source.inputs]

    def test_whole_numbers(self, nets: Any) -> None:
        """Indices are int32 where the module takes them so, and bytes of pictures are floats."""
        source = opened(nets.seeded(nets.Words), np.zeros((4, 6), np.int64))
        assert (TensorSpec("ids", (-1, 6), "int32"),) == source.inputs
        assert compared(source)[1] < 1e-5
        assert "float32" == opened(nets.seeded(nets.Classifier), (PICTURES * 255).astype(np.uint8)).inputs[0].dtype

    @pytest.mark.parametrize("labels", [False, True])
    def test_batches_of_a_loader(self, nets: Any, torch: Any, labels: bool) -> None:
        """What iterates may give batches, with labels or without."""
        tensors = [torch.from_numpy(np.moveaxis(PICTURES, -1, 1).copy())] + [torch.zeros(6)] * labels
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=3)
        data = loader if labels else [batch[0] for batch in loader]
        assert (-1, 12, 10, 3) == opened(nets.seeded(nets.Classifier), data).inputs[0].shape

    def test_rows_of_a_list(self, nets: Any, torch: Any) -> None:
        """Single samples in a list, without a batch axis."""
        source = opened(torch.nn.Linear(4, 2), [np.zeros(4, np.float32)] * 3)
        assert (TensorSpec("input", (-1, 4), "float32"),) == source.inputs

    @pytest.mark.parametrize("shape", [(1, 3, 8, 6), (1, 8, 6, 3)])
    def test_given(self, nets: Any, shape: tuple[int, ...]) -> None:
        """``--shape`` may be in the module's order or in the file's."""
        assert (1, 8, 6, 3) == opened(nets.seeded(nets.Classifier), shapes={"": shape}).inputs[0].shape

    def test_not_known(self, nets: Any) -> None:
        """Without data and sizes the option to give is named."""
        with pytest.raises(
            OptionError, match=r"does not say what sizes.*Classifier has image: pass --shape image=1,3,224,224"
        ):
            opened(nets.seeded(nets.Classifier))

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            ({"": (1, 5, 8, 8)}, "does not run on inputs of the sizes that --shape says.*to have 3 channels"),
            ({"pictures": (1, 3, 8, 8)}, "unknown input pictures: Classifier.forward takes image"),
        ],
        ids=["size", "name"],
    )
    def test_wrong(self, nets: Any, shapes: dict[str, Any], message: str) -> None:
        """What the module says of wrong sizes is passed on."""
        with pytest.raises((ConversionError, OptionError), match=message):
            opened(nets.seeded(nets.Classifier), shapes=shapes)

    def test_a_shape_for_one_of_two(self, nets: Any) -> None:
        """A shape without a name is for a model with one input."""
        with pytest.raises(OptionError, match="without a name for the inputs image, numbers"):
            opened(nets.seeded(nets.Two), shapes={"": (1, 3, 8, 8)})


class TestTheCallersModule:
    """The module that was passed stays what it was."""

    def test_training(self, nets: Any) -> None:
        """A module in training is converted in evaluation, and is in training afterwards."""
        model = nets.seeded(nets.Classifier).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert compared(opened(model, PICTURES))[1] < 1e-5
        assert model.training
        assert all((before[name] == value).all() for name, value in model.state_dict().items())

    def test_half(self, nets: Any, torch: Any) -> None:
        """Weights of half the size become float32 in a copy, and that is said."""
        model = nets.seeded(nets.Classifier).to(torch.bfloat16)
        source = opened(model, PICTURES)
        assert ("Classifier has bfloat16 tensors; they were turned into float32.",) == source.notes
        assert compared(source)[1] < 1e-5
        assert torch.bfloat16 == model.conv.weight.dtype

    def test_weights_that_hooks_compute(self, nets: Any, torch: Any) -> None:
        """Weight normalisation keeps computed tensors in the module, which cannot be copied as they are."""
        model = torch.nn.Sequential(torch.nn.utils.weight_norm(torch.nn.Conv2d(3, 4, 3)))
        assert compared(opened(model, PICTURES))[1] < 1e-5
        assert not model[0].weight.is_leaf

    def test_wrapped(self, nets: Any, torch: Any) -> None:
        """DataParallel around a module is taken off."""
        source = opened(torch.nn.DataParallel(nets.seeded(nets.Classifier)), PICTURES)
        assert "image" == source.inputs[0].name


class TestRefused:
    """What cannot be converted, with the reason."""

    def test_operator(self, nets: Any) -> None:
        """The operator and the line that it comes from."""
        source = opened(nets.Singular(), shapes={"x": (1, 6)})
        with pytest.raises(
            ConversionError,
            match=r"operator aten._linalg_svd.default \(torch_nets.py, line \d+: `return torch.linalg.svd",
        ):
            source.export({"x": (1, 6)})

    def test_branches(self, nets: Any, capfd: pytest.CaptureFixture[str]) -> None:
        """Steps that depend on values; PyTorch's own account of that stays off the terminal."""
        with pytest.raises(ConversionError, match=r"steps depend on the values that go in.*free of branches"):
            opened(nets.Choosing(), shapes={"x": (1, 6)})
        assert "" == capfd.readouterr().err

    def test_script(self, nets: Any, torch: Any) -> None:
        """TorchScript in memory."""
        with pytest.raises(ConversionError, match=r"pass the nn.Module that it was made from"):
            opened(torch.jit.script(torch.nn.Linear(2, 2)))

    def test_quantised(self, nets: Any, torch: Any) -> None:
        """A quantised module."""
        model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 2)))
        with pytest.raises(
            AlreadyQuantisedError, match=r"quantised already \(0\).*convert the model that it was made from"
        ):
            opened(model, shapes={"": (1, 4)})

    @pytest.mark.parametrize("option", ["model", "trust_source", "signature"])
    def test_options_of_others(self, nets: Any, option: str) -> None:
        """An option that a module has no use for."""
        value: Any = {"model": nets.classifier, "trust_source": True, "signature": "serve"}[option]
        with pytest.raises(OptionError, match=r"leave it out|made by your own program"):
            opened(nets.seeded(nets.Classifier), PICTURES, **{option: value})

    def test_other_objects(self, nets: Any, torch: Any) -> None:
        """An object of PyTorch's that is no network."""
        with pytest.raises(
            ConversionError, match=r"a torch.nn.Module, a torch.export program or a state dict was expected"
        ):
            opened(torch.zeros(3))


class TestWholeConversion:
    """From module to int8 file."""

    def test_data_as_the_module_takes_them(self, nets: Any, tmp_path: Path) -> None:
        """Pictures with the channels first are turned, which is said; the manifest has how the axes lie."""
        pictures = np.random.default_rng(2).uniform(0, 1, (40, 3, 12, 10)).astype(np.float32)
        done = edgekit.convert(
            nets.seeded(nets.Classifier), pictures, verify=(pictures, np.zeros(40, np.int64)), effort="fast",
            output=tmp_path / "model.tflite",
        )  # fmt: skip
        texts = [finding.text for finding in done.findings if finding.code == "layout"]
        assert "the input 'image' is NHWC in the file and NCHW in the original." == texts[0]
        assert 2 == sum("each was transposed to NHWC" in text for text in texts)
        manifest = ModelFile.read(tmp_path / "model.tflite").manifest
        assert manifest is not None
        assert {"image": {"axes": [0, 2, 3, 1], "original": "NCHW", "file": "NHWC"}} == manifest.source["layouts"]
        assert ("torch", "Classifier") == (manifest.source["kind"], manifest.source["name"])
        assert "2.13" in manifest.tools["torch"]
        float_stage = next(finding for finding in done.findings if finding.code == "float-stage")
        assert "note" == float_stage.level
        # Verifying takes the same data, whether the float model is the module or the float file.
        for model in (nets.seeded(nets.Classifier), done.float_model):
            report = edgekit.verify(model, tmp_path / "model.tflite", pictures)
            assert any("each was transposed" in check.text for check in report.checks if check.name == "layout")
            assert 40 == report.on["data"].count
