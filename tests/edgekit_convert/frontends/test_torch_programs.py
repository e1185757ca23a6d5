"""``torch.export`` programs: opened where nothing in them can run, refused by name where something could."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import AlreadyQuantisedError, ConversionError, EdgekitError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.from_torch.programs import _is_plain_expression, _is_plain_operator, _is_plain_structure


@pytest.fixture
def nets(torch: Any) -> Iterator[Any]:
    """The networks of the tests; what PyTorch deprecates in itself is no error here."""
    import torch_nets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch_nets


@pytest.fixture
def program(torch: Any, nets: Any, tmp_path: Path) -> Path:
    """A program with an open batch, as ``torch.export.save`` writes it."""
    path = tmp_path / "net.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    made = torch.export.export(
        nets.seeded(nets.Classifier), (torch.zeros(2, 3, 12, 10),), dynamic_shapes={"image": {0: batch}}
    )
    torch.export.save(made, path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with other files in it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class Singing:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return open, (self.canary, "w")


def test_an_open_batch(program: Path) -> None:
    """Sizes, names and layout come from the program, and it computes what it did."""
    source = open_source(program)
    assert (TensorSpec("image", (-1, 12, 10, 3), "float32"),) == source.inputs
    assert ("torch", "net.pt2", {"image": (0, 2, 3, 1)}) == (source.kind, source.name, source.layouts)
    assert (1, 12, 10, 3) == ModelFile.read(source.export({"image": (1, 12, 10, 3)})).inputs[0].shape
    assert source.reference is not None
    assert (4, 5) == source.reference({"image": np.zeros((4, 12, 10, 3), np.float32)})[0].shape


def test_in_memory(torch: Any, nets: Any) -> None:
    """A program need not be a file; inputs that are no tensors keep the values that it was exported with."""
    values = (torch.zeros(1, 3, 12, 10), torch.zeros(1, 6), None)
    source = open_source(torch.export.export(nets.seeded(nets.Two), values))
    assert ["image", "numbers"] == [spec.name for spec in source.inputs]
    model = ModelFile.read(source.export({"image": (1, 12, 10, 3), "numbers": (1, 6)}))
    assert ["score", "more_0"] == [spec.name for spec in model.outputs]


def test_open_places(torch: Any, nets: Any, tmp_path: Path) -> None:
    """Height and width that the program leaves open are fixed by ``--shape``, in the program's order."""
    path, free = tmp_path / "net.pt2", torch.export.Dim.DYNAMIC
    shapes = {"image": {0: free, 2: free, 3: free}}
    torch.export.save(
        torch.export.export(nets.seeded(nets.Classifier), (torch.zeros(2, 3, 12, 10),), dynamic_shapes=shapes), path
    )
    assert (-1, -1, -1, 3) == open_source(path).inputs[0].shape
    source = open_source(path, Opening(shapes={"": (1, 3, 20, 16)}))
    assert (1, 20, 16, 3) == ModelFile.read(source.export({"image": (1, 20, 16, 3)})).inputs[0].shape


def test_a_fixed_batch_for_one(torch: Any, nets: Any) -> None:
    """A program for four samples becomes one for a single sample, its shape given in the program's order."""
    made = torch.export.export(nets.seeded(nets.Classifier), (torch.zeros(4, 3, 12, 10),))
    source = open_source(made, Opening(shapes={"image": (1, 3, 12, 10)}))
    assert (1, 12, 10, 3) == ModelFile.read(source.export({"image": (1, 12, 10, 3)})).inputs[0].shape


def _sample_inputs(canary: Path) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        import torch

        stream = io.BytesIO()
        torch.save((Singing(canary),), stream)
        files["net/data/sample_inputs/model.pt"] = stream.getvalue()

    return change


def _weights(canary: Path) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        import torch

        stream = io.BytesIO()
        torch.save(Singing(canary), stream)
        files["net/data/weights/weight_0"] = stream.getvalue()
        name = "net/data/weights/model_weights_config.json"
        config = json.loads(files[name])
        next(item for item in config["config"].values() if item["path_name"] == "weight_0")["use_pickle"] = True
        files[name] = json.dumps(config).encode()

    return change


def _in_model(change_model: Callable[[str], str]) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["net/models/model.json"] = change_model(files["net/models/model.json"].decode()).encode()

    return change


def _expression(canary: Path) -> Callable[[dict[str, bytes]], None]:
    def replaced(text: str) -> str:
        symbol = next(part for part in text.split('"') if part.startswith("Symbol("))
        return text.replace(symbol, f"__import__('pathlib').Path('{canary}').touch() or {symbol}")

    return _in_model(replaced)


def _operator(canary: Path) -> Callable[[dict[str, bytes]], None]:
    return _in_model(lambda text: text.replace("torch.ops.aten.relu.default", "torch.serialization.os.system"))


def _file_operator(canary: Path) -> Callable[[dict[str, bytes]], None]:
    return _in_model(lambda text: text.replace("torch.ops.aten.relu.default", "torch.ops.aten.from_file.default"))


def _container(canary: Path) -> Callable[[dict[str, bytes]], None]:
    def replaced(text: str) -> str:
        data = json.loads(text)
        form = {
            "type": "collections.defaultdict",
            "context": {"default_factory_module": "canary", "default_factory_name": "x"},
        }
        for call in data["graph_module"]["module_call_graph"]:
            if call.get("signature"):
                call["signature"]["in_spec"] = json.dumps([1, {**form, "children_spec": []}])
        return json.dumps(data)

    return _in_model(replaced)


def _library(canary: Path) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({"net/data/aotinductor/model/kernel.so": b"\x7fELF"})


def _object(canary: Path) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({"net/data/constants/opaque_obj_0": pickle.dumps(Singing(canary))})


ATTACKS = {
    "pickle in the examples": (_sample_inputs, "holds the pickled object"),
    "pickled weight": (_weights, "holds pickled tensors"),
    "expression": (_expression, "for a size"),
    "operator": (_operator, "calls 'torch.serialization.os.system'"),
    "operator on files": (_file_operator, "calls 'torch.ops.aten.from_file.default'"),
    "container": (_container, "containers of its own"),
    "library": (_library, "holds compiled code"),
    "object": (_object, "holds a pickled object"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_run_code_is_refused(program: Path, tmp_path: Path, attack: str) -> None:
    """What it is gets named, and nothing of it ran."""
    spoil, message = ATTACKS[attack]
    canary = tmp_path / "canary"
    rewritten(program, spoil(canary))
    with pytest.raises(
        ConversionError, match=f"net.pt2 .*{message}.*could run code, which edgekit does not do. Pass --trust-source"
    ):
        open_source(program)
    assert not canary.exists()


@pytest.mark.parametrize("attack", ["pickle in the examples", "pickled weight", "expression"])
def test_trusted_files_run_their_code(program: Path, tmp_path: Path, attack: str) -> None:
    """With the caller's word PyTorch does as it does: the canary of the test above is alive."""
    canary = tmp_path / "canary"
    rewritten(program, ATTACKS[attack][0](canary))
    with contextlib.suppress(EdgekitError):  # what was smuggled in is no weight
        open_source(program, Opening(trust_source=True))
    assert canary.exists()


def test_trusting_an_honest_file(program: Path) -> None:
    """Trust does no harm."""
    assert (-1, 12, 10, 3) == open_source(program, Opening(trust_source=True)).inputs[0].shape


def test_torch_load_is_as_it_was(torch: Any, program: Path) -> None:
    """Reading weights alone is enforced for as long as a program is loaded, no longer."""
    before = torch.load
    open_source(program)
    assert before is torch.load


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Symbol('s40', positive=True, integer=True)", True),
        ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
        ("2*s0 + Max(1, u3)", True),
        ("", True),
        ("__import__('os')", False),
        ("Symbol('s40').func", False),
        ("Symbol('a b')", False),
        ("().__class__", False),
        ("exec", False),
        ("[1]", False),
        ("lambda: 1", False),
    ],
)
def test_expressions(text: str, plain: bool) -> None:
    """Sums and products of sizes; no attributes, no texts, no other names."""
    assert plain is _is_plain_expression(text)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("torch.ops.aten.conv2d.default", True),
        ("torch.ops.aten.__and__.Tensor", True),
        ("_operator.getitem", True),
        ("torch.sym_sum", True),
        ("math.ceil", True),
        ("torch.ops.aten.__class__.__init__", False),
        ("torch.ops.aten.save", False),
        ("torch.ops.load_library", False),
        ("torch.ops.mylib.twice.default", False),
        ("_operator.methodcaller", False),
        ("#higher:op", False),
        ("torch.hub.load", False),
    ],
)
def test_operators(name: str, plain: bool) -> None:
    """What PyTorch dispatches itself, and arithmetic."""
    assert plain is _is_plain_operator(name)


def test_containers() -> None:
    """Plain containers of any depth; an enumeration would import its module."""
    leaf = {"type": None, "context": None, "children_spec": []}
    assert _is_plain_structure(json.dumps([1, {"type": "builtins.dict", "context": '["a"]', "children_spec": [leaf]}]))
    named = {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "os:x"}]', "children_spec": [leaf]}
    assert not _is_plain_structure(
        json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [named]}])
    )
    assert not _is_plain_structure(["text"])


class TestRefused:
    """What cannot be converted, with the reason."""

    def test_training(self, torch: Any, nets: Any) -> None:
        """Exported without ``eval()``."""
        made = torch.export.export(nets.seeded(nets.Classifier).train(), (torch.zeros(2, 3, 12, 10),))
        with pytest.raises(
            ConversionError, match=r"exported in training mode: aten::batch_norm.*Call model.eval\(\) before"
        ):
            open_source(made)

    def test_half(self, torch: Any) -> None:
        """Inputs of half the size."""
        made = torch.export.export(torch.nn.Linear(4, 2).half(), (torch.zeros(1, 4, dtype=torch.float16),))
        with pytest.raises(ConversionError, match=r"of type float16.*model.float\(\)"):
            open_source(made)

    def test_quantised(self, torch: Any) -> None:
        """Quantised in the graph."""

        class Rounded(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return torch.ops.aten.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127)

        with pytest.raises(AlreadyQuantisedError, match="quantised already: it has aten::fake_quantize"):
            open_source(torch.export.export(Rounded(), (torch.zeros(1, 4),)))

    def test_other_sizes(self, program: Path) -> None:
        """Sizes that the program fixes."""
        with pytest.raises(OptionError, match="only the sizes with a question mark are open"):
            open_source(program, Opening(shapes={"image": (1, 3, 20, 20)}))

    def test_model(self, nets: Any, program: Path) -> None:
        """A program is whole."""
        with pytest.raises(OptionError, match="--model is for files of weights alone"):
            open_source(program, Opening(model=nets.classifier))

    @pytest.mark.parametrize("keep", [0.3, 0.7, 0.999])
    def test_cut_short(self, program: Path, keep: float) -> None:
        """A copy that broke off."""
        content = program.read_bytes()
        program.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(ModelFileError, match=r"damaged|not what its name says"):
            open_source(program)

    def test_no_network(self, program: Path) -> None:
        """What AOTInductor compiled has machine code alone."""

        def change(files: dict[str, bytes]) -> None:
            del files["net/models/model.json"]

        with pytest.raises(ConversionError, match="AOTInductor compiled"):
            open_source(rewritten(program, change))
