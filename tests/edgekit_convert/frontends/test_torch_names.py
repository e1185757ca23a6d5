"""Tensors of a file from PyTorch are called by the module that they come from, in few letters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.from_torch import names as naming


@pytest.fixture
def nets(torch: Any) -> Iterator[Any]:
    """The networks of the tests; what PyTorch deprecates in itself is no error here."""
    import torch_nets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch_nets


def tensor_names(flatbuffer: bytes) -> list[str]:
    """Names of the first subgraph's tensors."""
    return [tensor.name.decode() for tensor in editing.read(flatbuffer).subgraphs[0].tensors]


def exported(source: Any, **shapes: tuple[int, ...]) -> bytes:
    """The float file."""
    opened = open_source(source, Opening(shapes=shapes))
    return opened.export({spec.name: spec.shape for spec in opened.inputs})


class TestNames:
    """What stands in the file."""

    def test_of_a_network(self, nets: Any, torch: Any) -> None:
        """Paths of the network's own modules; operators of its forward are called by its class; edges by their own names."""
        found = tensor_names(exported(nets.seeded(nets.Classifier), image=(1, 3, 12, 10)))
        assert "image" == found[0]
        assert "output_0" in found
        assert any("conv" in name.split(";") for name in found)
        assert {"dense", "Classifier", "conv", "norm"} >= {
            part.rstrip("_0123456789")
            for name in found[1:]
            for part in name.split(";")
            if part[:5] not in ("arith", "outpu")
        }
        assert len(found) == len(set(found))

    def test_modules_in_two_containers(self, torch: Any, nets: Any) -> None:
        """Containers that nothing calls are part of the path, so that layers of two stages have names of their own."""

        class Stages(torch.nn.Module):  # type: ignore[misc]  # PyTorch has no types here
            def __init__(self) -> None:
                super().__init__()
                self.stages = torch.nn.ModuleList(torch.nn.ModuleList([torch.nn.Linear(4, 4)]) for _ in range(2))

            def forward(self, x: Any) -> Any:
                for stage in self.stages:
                    x = torch.tanh(stage[0](x))
                return x

        found = tensor_names(exported(Stages(), x=(1, 4)))
        assert {"stages.0.0", "stages.1.0", "Stages"} <= set(found)

    def test_of_a_program(self, nets: Any, torch: Any) -> None:
        """Those of an exported program are of the module that it was made from."""
        program = torch.export.export(nets.seeded(nets.Classifier), (torch.zeros(1, 3, 12, 10),))
        found = tensor_names(exported(program))
        assert "image" == found[0]
        assert any("conv" in name.split(";") for name in found)

    def test_size(self, nets: Any, torch: Any) -> None:
        """Names are a small part of a deep network's file."""
        layers = [torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU()) for _ in range(12)]
        content = exported(torch.nn.Sequential(*layers), input=(1, 4, 8, 8))
        assert sum(map(len, tensor_names(content))) < 12 * 40
        assert [(1, 8, 8, 4)] == [spec.shape for spec in ModelFile.read(content).inputs]

    def test_where_the_function_is_another(self, nets: Any, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A litert-torch that names in another way is taken as it is, and edges have their names."""
        from litert_torch.backend import debuginfo

        before = debuginfo.build_mlir_debuginfo
        exported(torch.nn.Linear(3, 2), input=(1, 3))
        assert before is debuginfo.build_mlir_debuginfo
        monkeypatch.delattr(debuginfo, "build_mlir_debuginfo")
        with naming.called_by_paths({}):
            assert not hasattr(debuginfo, "build_mlir_debuginfo")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("features.0.2;;features.9.2;;features.0.0;1", "features.0.2;features.0.0"),
        ("features.0.0;", "features.0.0"),
        ("block;;block;3", "block"),
        ("arith.constant1", "arith.constant1"),
        (";", ";"),
    ],
)
def test_short(made: str, expected: str) -> None:
    """The first and the last place are kept."""
    assert expected == naming._short(made)
