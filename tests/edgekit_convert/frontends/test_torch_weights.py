"""Files of weights: read without running code, fitted to the network that ``--model`` names."""

from __future__ import annotations

import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.cli import cli
from edgekit.errors import AlreadyQuantisedError, ConversionError, EdgekitError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit_convert.frontends import Opening, Source, open_source

SIZES = {"image": (1, 3, 12, 10)}
PIXELS = np.random.default_rng(0).standard_normal((2, 12, 10, 3)).astype(np.float32)


@pytest.fixture
def nets(torch: Any) -> Iterator[Any]:
    """The networks of the tests; what PyTorch deprecates in itself is no error here."""
    import torch_nets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch_nets


def opened(source: Any, model: Any = "torch_nets:classifier", **options: Any) -> Source:
    """A source of weights, opened for pictures of 12 by 10."""
    return open_source(source, Opening(model=model, shapes=SIZES, **options))


def scores(source: Source) -> list[float]:
    """What the network gives for two pictures."""
    assert source.reference is not None
    return [round(float(value), 4) for value in source.reference({"image": PIXELS})[0].ravel()]


def held_in(form: str, weights: dict[str, Any], torch: Any) -> Any:
    """Weights as trainers keep them."""
    zero = torch.zeros(1)
    if form == "lightning":
        weights = {f"model.{name}": value for name, value in weights.items()}
        return {"epoch": 3, "state_dict": weights | {"loss.weight": zero}, "optimizer_states": [{}]}
    return {
        "plain": weights,
        "state_dict": {"state_dict": weights, "epoch": 3},
        "model and optimizer": {"model": weights, "optimizer": {"state": {0: {"step": zero}}}},
        "own name": {"epoch": 3, "student": weights},
        "optimizer first": {"optimizer": {"state": {0: {"step": zero}}}, "student": weights},
        "two networks": {"critic": {"dense.weight": zero}, "student": weights},
        "parallel": {f"module.{name}": value for name, value in weights.items()},
        "compiled and parallel": {f"module._orig_mod.{name}": value for name, value in weights.items()},
        "no counters": {name: value for name, value in weights.items() if "num_batches" not in name},
        "backbone": {f"backbone.{name}": value for name, value in weights.items()} | {"head.weight": zero},
    }[form]


@pytest.mark.parametrize(
    "form",
    ["plain", "state_dict", "model and optimizer", "own name", "parallel", "compiled and parallel", "no counters", "backbone",
     "lightning", "optimizer first", "two networks"],
)  # fmt: skip
def test_wrappers_and_prefixes(nets: Any, torch: Any, tmp_path: Path, form: str) -> None:
    """However trainers keep the weights, they reach their places, and what was done to names is said."""
    model = nets.seeded(nets.Classifier)
    path = tmp_path / "weights.pth"
    torch.save(held_in(form, model.state_dict(), torch), path)
    source = opened(path)
    assert scores(open_source(model, Opening(shapes=SIZES))) == scores(source)
    renamed = form in ("parallel", "compiled and parallel", "backbone", "lightning")
    assert renamed is any("removed from before the weights' names" in note for note in source.notes)


def test_averaged_weights_beside(nets: Any, torch: Any, tmp_path: Path) -> None:
    """Where two would fit, it is said which were taken."""
    weights = nets.seeded(nets.Classifier).state_dict()
    torch.save({"state_dict_ema": nets.classifier().state_dict(), "state_dict": weights}, tmp_path / "weights.pth")
    source = opened(tmp_path / "weights.pth")
    assert scores(open_source(nets.seeded(nets.Classifier), Opening(shapes=SIZES))) == scores(source)
    assert source.notes[0].startswith("the weights under 'state_dict' were taken; those under 'state_dict_ema' fit")


@pytest.mark.parametrize("form", ["before 1.6", "safetensors", "in memory", "in memory, wrapped in a module"])
def test_kinds(nets: Any, torch: Any, tmp_path: Path, form: str) -> None:
    """The form of before PyTorch 1.6, safetensors, and a state dict that is no file; a module may stand for the function."""
    model = nets.seeded(nets.Classifier)
    path: Any = tmp_path / "weights.bin"
    maker: Any = "torch_nets:classifier"
    if form == "before 1.6":
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    elif form == "safetensors":
        from safetensors.torch import save_file

        path = path.with_suffix(".safetensors")
        save_file(model.state_dict(), path)
    else:
        path, maker = model.state_dict(), nets.classifier if form == "in memory" else nets.classifier()
    assert scores(open_source(model, Opening(shapes=SIZES))) == scores(opened(path, maker))


def test_to_the_float_file(nets: Any, torch: Any, tmp_path: Path) -> None:
    """The name of the file is the source's."""
    path = tmp_path / "weights.th"
    torch.save(nets.seeded(nets.Classifier).state_dict(), path)
    source = opened(path)
    assert ("torch", "weights.th") == (source.kind, source.name)
    assert (1, 12, 10, 3) == ModelFile.read(source.export({"image": (1, 12, 10, 3)})).inputs[0].shape


class Singing:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return open, (self.canary, "w")


class TestNoCode:
    """What would run code is refused, and none of it runs."""

    @pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
    @pytest.mark.parametrize("model", [None, "torch_nets:classifier"])
    def test_objects(self, torch: Any, tmp_path: Path, old: bool, model: Any) -> None:
        """Objects beside the weights."""
        path, canary = tmp_path / "weights.pth", tmp_path / "canary"
        torch.save(
            {"state_dict": {"a": torch.zeros(1)}, "more": Singing(canary)}, path, _use_new_zipfile_serialization=not old
        )
        with pytest.raises(
            ConversionError, match=r"holds an object of .*open, saved with pickle.*would run code.*state_dict\(\)"
        ):
            opened(path, model)
        assert not canary.exists()

    @pytest.mark.parametrize("model", [None, "torch_nets:classifier"])
    def test_a_whole_model(self, nets: Any, torch: Any, tmp_path: Path, model: Any) -> None:
        """A pickled module is named by its class, with or without a function."""
        path = tmp_path / "model.pt"
        torch.save(nets.seeded(nets.Classifier), path)
        with pytest.raises(
            ConversionError, match=r"holds an object of torch_nets.Classifier.*pass the module to edgekit.convert"
        ):
            opened(path, model)

    def test_not_with_trust_either(self, nets: Any, torch: Any, tmp_path: Path) -> None:
        """``torch.load`` reads weights alone, whatever is said."""
        path = tmp_path / "model.pt"
        torch.save(nets.seeded(nets.Classifier), path)
        with pytest.raises(OptionError, match=r"--trust-source for .*read as weights alone.*load in your own program"):
            opened(path, trust_source=True)

    def test_torchscript(self, nets: Any, torch: Any, tmp_path: Path) -> None:
        """A TorchScript file is recognised by what is in it."""
        path = tmp_path / "model.pt"
        torch.jit.save(torch.jit.trace(nets.seeded(nets.Classifier), torch.zeros(1, 3, 12, 10)), path)
        with pytest.raises(ConversionError, match=r"is a TorchScript file.*torch.export.save.*--model MODULE:FUNCTION"):
            opened(path)

    def test_other_pickles(self, tmp_path: Path) -> None:
        """A pickle that PyTorch did not write."""
        path, canary = tmp_path / "model.pth", tmp_path / "canary"
        path.write_bytes(pickle.dumps({"model": Singing(canary)}))
        with pytest.raises(EdgekitError, match="pickle"):
            opened(path)
        assert not canary.exists()

    def test_executorch(self, tmp_path: Path) -> None:
        """A program that was compiled for a runtime."""
        path = tmp_path / "model.pte"
        path.write_bytes(b"\x30\x00\x00\x00ET12" + bytes(64))
        with pytest.raises(ConversionError, match="ExecuTorch program"):
            opened(path)


class TestRefused:
    """What is missing or does not fit."""

    def test_no_function(self, nets: Any, torch: Any, tmp_path: Path) -> None:
        """Weights alone are no network."""
        path = tmp_path / "weights.pth"
        torch.save(nets.seeded(nets.Classifier).state_dict(), path)
        with pytest.raises(OptionError, match=r"holds weights, and not the network.*--model mymodels:resnet20"):
            opened(path, None)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("torch_nets", "MODULE:FUNCTION was expected"),
            ("no_such_module:net", "cannot import 'no_such_module'"),
            ("torch_nets:no_such_function", "has no function 'no_such_function'"),
            ("torch_nets:nothing", "returned a str: a torch.nn.Module was expected"),
            ("torch_nets:failing", "raised ValueError: no such size"),
        ],
    )
    def test_functions(self, nets: Any, torch: Any, tmp_path: Path, model: str, message: str) -> None:
        """A function that is not there, or makes no module."""
        path = tmp_path / "weights.pth"
        torch.save(nets.seeded(nets.Classifier).state_dict(), path)
        with pytest.raises(OptionError, match=message):
            opened(path, model)

    def test_another_network(self, nets: Any, torch: Any, tmp_path: Path) -> None:
        """What is missing, what is too much, and what is of another size."""
        path = tmp_path / "weights.pth"
        weights = nets.seeded(nets.Classifier).state_dict()
        weights["dense.weight"] = torch.zeros(7, 8)
        weights["extra"] = weights.pop("dense.bias")
        torch.save(weights, path)
        with pytest.raises(ConversionError) as caught:
            opened(path)
        assert (
            "are not those of Classifier: the model lacks extra; the file lacks dense.bias; sizes differ: dense.weight [7, 8] in "
            "the file and [5, 8] in the model." in str(caught.value)
        )

    def test_no_weights(self, torch: Any, tmp_path: Path) -> None:
        """A file of something else."""
        path = tmp_path / "data.pt"
        torch.save([1, 2], path)
        with pytest.raises(ConversionError, match="holds a list: a state dict, tensors by name, was expected"):
            opened(path)
        torch.save(torch.zeros(2, 3), path)
        with pytest.raises(ConversionError, match=r"holds one tensor of shape \[2, 3\]"):
            opened(path)

    def test_quantised(self, nets: Any, torch: Any, tmp_path: Path) -> None:
        """Quantised tensors."""
        path = tmp_path / "weights.pth"
        torch.save({"dense.weight": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)}, path)
        with pytest.raises(AlreadyQuantisedError, match=r"quantised already: dense\.weight"):
            opened(path)

    @pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
    @pytest.mark.parametrize("keep", [0.4, 0.9])
    def test_cut_short(self, nets: Any, torch: Any, tmp_path: Path, old: bool, keep: float) -> None:
        """A copy that broke off."""
        path = tmp_path / "weights.pth"
        torch.save(nets.seeded(nets.Classifier).state_dict(), path, _use_new_zipfile_serialization=not old)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(ModelFileError, match=r"damaged|not what its name says"):
            opened(path)

    def test_a_cut_safetensors_file(self, tmp_path: Path) -> None:
        """Its header says more than there is."""
        path = tmp_path / "weights.safetensors"
        path.write_bytes((10**6).to_bytes(8, "little") + b"{}")
        with pytest.raises(ModelFileError):
            opened(path)

    def test_an_archive_of_something_else(self, tmp_path: Path) -> None:
        """A ZIP file with another file in it."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "text")
        with pytest.raises(ModelFileError):
            opened(path)


class TestWithoutTheExtra:
    """The command that installs what is missing."""

    @pytest.mark.parametrize("name", ["weights.pth", "net.pt2"])
    def test_no_pytorch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """A file is recognised without PyTorch."""
        monkeypatch.setitem(sys.modules, "torch", None)
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            inside = (
                {"a/data.pkl": b""}
                if name == "weights.pth"
                else {"a/archive_format": b"pt2", "a/models/model.json": b"{}"}
            )
            for item, content in inside.items():
                archive.writestr(item, content)
        with pytest.raises(ConversionError, match=r"needs PyTorch and litert-torch .*`pip install 'edgekit\[torch\]'`"):
            opened(path)

    def test_no_litert_torch(self, torch: Any, nets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch alone does not do."""
        monkeypatch.setitem(sys.modules, "litert_torch", None)
        with pytest.raises(ConversionError, match=r"needs litert-torch .*`pip install 'edgekit\[torch\]'`"):
            opened(nets.seeded(nets.Classifier), None)


class TestCommandLine:
    """``edgekit convert`` on files of PyTorch."""

    def test_weights(self, nets: Any, torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """From weights and a function to int8; `inspect` shows how the axes lie."""
        monkeypatch.chdir(tmp_path)
        torch.save(nets.seeded(nets.Classifier).state_dict(), "weights.pth")
        np.save("pictures.npy", np.random.default_rng(2).uniform(0, 1, (40, 12, 10, 3)).astype(np.float32))
        arguments = [
            "weights.pth",
            "--model",
            "torch_nets:classifier",
            "--calibration",
            "pictures.npy",
            "--effort",
            "fast",
        ]
        done = CliRunner().invoke(cli, ["convert", *arguments])
        assert 0 == done.exit_code, done.output
        assert "weights_int8.tflite" in done.output
        shown = CliRunner().invoke(cli, ["inspect", "weights_int8.tflite"])
        assert "axes of the input image" in shown.stdout
        assert "NHWC; NCHW in the original" in shown.stdout

    def test_errors_are_no_tracebacks(
        self, nets: Any, torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line that says what to do, exit code 2, and no file."""
        monkeypatch.chdir(tmp_path)
        torch.save(nets.seeded(nets.Classifier), "whole.pt")
        np.save("pictures.npy", PIXELS)
        done = CliRunner().invoke(cli, ["convert", "whole.pt", "--calibration", "pictures.npy"])
        assert 2 == done.exit_code
        assert "saved with pickle" in done.stderr.replace("\n", " ")
        assert ["pictures.npy", "whole.pt"] == sorted(path.name for path in tmp_path.iterdir())


def test_resnet20(assets: Path, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ResNet-20 is right on nine of ten pictures of CIFAR-10, from the file that its trainer published."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "examples"))
    source = open_source(
        assets / "torch" / "resnet20_cifar10_state_dict.th",
        Opening(model="resnet_cifar:resnet20", shapes={"": (1, 3, 32, 32)}),
    )
    with np.load(assets / "data" / "cifar10.npz") as data:
        pictures, labels = data["test"], data["test_labels"]
    import resnet_cifar

    ready = ((pictures - np.float32(resnet_cifar.MEAN)) / np.float32(resnet_cifar.DEVIATION)).astype(np.float32)
    assert source.reference is not None
    (found,) = source.reference({"image": ready})
    # 91.73 % on all ten thousand pictures.
    assert 0.90 <= float((found.argmax(-1) == labels).mean()) <= 0.935
