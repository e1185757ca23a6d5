"""PyTorch becomes a float ``.tflite`` through litert-torch, with edges of our own around the network.

The edges turn channels first into channels last and make plain tensors of whatever the network returns; litert-torch then moves
and cancels the transpositions inside.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.from_torch.checks import check_file
from edgekit_convert.frontends.from_torch.names import NETWORK, called_by_paths, with_names
from edgekit_convert.frontends.layout import turned_back

_INSTALL = "`pip install 'edgekit[torch]'`"
#: Before this one, reading weights alone could run code (CVE-2025-32434).
_OLDEST_TORCH = (2, 6)


def import_torch() -> Any:
    """Import PyTorch, quietly.

    Raises:
        ConversionError: it is not installed, or too old to read weights without running code.
    """
    # TensorFlow's and the converter's own accounts of each step go to the terminal otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except ImportError as error:
        raise ConversionError(f"this source needs PyTorch and litert-torch ({error}): {_INSTALL}.") from error
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST_TORCH:
        raise ConversionError(
            f"PyTorch {torch.__version__} is installed, which can run code from a file of weights (CVE-2025-32434): 2.6 or newer "
            f"was expected. {_INSTALL} brings one."
        )
    return torch


def import_litert_torch() -> Any:
    """Import litert-torch, quietly.

    Raises:
        ConversionError: it is not installed.
    """
    try:
        with quiet(), _own_symbols():
            import litert_torch
    except ImportError as error:
        raise ConversionError(f"converting PyTorch needs litert-torch ({error}): {_INSTALL}.") from error
    return litert_torch


@contextlib.contextmanager
def _own_symbols() -> Iterator[None]:
    """Let libraries that are loaded meanwhile find their own LLVM before TensorFlow's.

    Both bring one and show it to others: without this, litert-torch 0.10 behind TensorFlow 2.21 ends the process ("Option
    'bitcode-mdindex-threshold' registered more than once", seen on Linux).
    """
    if not hasattr(os, "RTLD_DEEPBIND"):  # of glibc alone
        yield
        return
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what PyTorch and litert-torch say to themselves off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def ordinary(torch: Any) -> Iterator[None]:
    """Let attention and transformer layers compute step by step, as they do in training.

    In inference PyTorch may take one operator for a whole layer, which TFLite has not, and which needs at least one place that is
    not masked (PyTorch, ``torch/nn/modules/transformer.py``).
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class Network:
    """A network of PyTorch, ready to be called.

    Attributes:
        torch: the module.
        module: what holds the weights.
        call: calls it with the inputs in order.
        inputs: as it takes them.
        layouts: by input name, for those that the file has with the channels last: see ``Source``.
        output_layouts: the same by output name.
        places: for an exported program, see ``places_of``.
    """

    torch: Any
    module: Any
    call: Callable[[Any, Sequence[Any]], Any]
    inputs: tuple[TensorSpec, ...]
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    output_layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs as the file has them."""
        return tuple(
            TensorSpec(spec.name, turned(spec.shape, self.layouts.get(spec.name)), spec.dtype) for spec in self.inputs
        )

    def run(self, values: Sequence[Any]) -> dict[str, Any]:
        """Call the network as it is.

        Args:
            values: tensors as it takes them, in order.

        Returns:
            Tensors by output name.

        Raises:
            ConversionError: it returns something else than tensors.
        """
        with self.torch.no_grad(), ordinary(self.torch):
            return named_outputs(self.torch, self.call(self.module, values))

    def example(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> tuple[Any, ...]:
        """Tensors of zeros as the network takes them.

        Args:
            shapes: by input name; ``None`` for the inputs' own, 1 for an open size.
        """
        sizes = {spec.name: tuple(max(size, 1) for size in spec.shape) for spec in self.inputs}
        return tuple(
            self.torch.zeros((shapes or sizes)[spec.name], dtype=getattr(self.torch, spec.dtype))
            for spec in self.inputs
        )

    def reference(self, values: Mapping[str, Array]) -> list[Array]:
        """Run the network on arrays in the file's layout; the outputs by name, likewise."""
        tensors = []
        for spec in self.inputs:
            # A copy, because a network may compute in its inputs' own memory.
            value = self.torch.from_numpy(np.array(values[spec.name], order="C"))
            axes = self.layouts.get(spec.name)
            tensors.append(value.permute(turned_back(axes)).contiguous() if axes else value)
        with quiet():
            results = self.run(tensors)
        for name, axes in self.output_layouts.items():
            results[name] = results[name].permute(axes)
        return [np.asarray(results[name].detach().cpu().numpy()) for name in sorted(results)]

    def export(self, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
        """Make the float ``.tflite``.

        Args:
            shapes: by input name, as the file has them, none open.

        Raises:
            ConversionError: PyTorch or litert-torch refused the network.
        """
        own = {
            spec.name: turned(shapes[spec.name], turned_back(self.layouts[spec.name]))
            if spec.name in self.layouts
            else tuple(shapes[spec.name])
            for spec in self.inputs
        }
        example = self.example(own)
        try:
            with quiet():
                names = list(self.run(example))
        except ConversionError:
            raise
        except Exception as error:  # PyTorch and the model's own code raise whatever they like
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in own.items())
            raise ConversionError(f"the model does not work with {sizes}: {first_line(error)}.") from error
        permuted = tuple(
            value.permute(self.layouts[spec.name]).contiguous() if spec.name in self.layouts else value
            for spec, value in zip(self.inputs, example, strict=True)
        )
        litert_torch = import_litert_torch()
        try:
            with quiet(), called_by_paths(self.places), ordinary(self.torch):
                content = litert_torch.convert(_edges(self, names), permuted).model_content()
        except Exception as error:  # PyTorch, litert-torch and MLIR raise errors of their own, all about the model
            raise ConversionError(explain(error)) from error
        named = with_names(content, [spec.name for spec in self.inputs], names)
        check_file(named)
        return named


def turned(shape: Sequence[int], axes: Sequence[int] | None) -> tuple[int, ...]:
    """A shape with its axes in another order."""
    return tuple(shape) if axes is None else tuple(shape[axis] for axis in axes)


def named_outputs(torch: Any, result: Any) -> dict[str, Any]:
    """Outputs by name, floats as float32: a network's own keys, else ``output_0``, ``output_1``, ... in order; no ``None``.

    Raises:
        ConversionError: one is no tensor, or there is none.
    """
    pytree = torch.utils._pytree
    leaves = [(path, value) for path, value in pytree.tree_flatten_with_path(result)[0] if value is not None]
    foreign = [type(value).__name__ for _, value in leaves if not isinstance(value, torch.Tensor)]
    foreign += [] if foreign else ["tensor of complex numbers" for _, value in leaves if value.is_complex()]
    if foreign or not leaves:
        raise ConversionError(
            f"the PyTorch model returns {f'a {foreign[0]}' if foreign else 'nothing'}: tensors of real numbers, or a tuple or "
            "dictionary of them, were expected. Wrap it in a module that returns what is needed."
        )
    width = len(str(len(leaves) - 1))
    found: dict[str, Any] = {}
    for number, (path, value) in enumerate(leaves):
        keys = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
        by_name = [key for key in keys if isinstance(key, str)]
        name = "_".join(str(key) for key in keys) if by_name else f"output_{number:0{width}d}"
        # A .tflite and numpy have no bfloat16, and devices no float64.
        plain = value.float() if value.is_floating_point() else value
        found[name if name not in found else f"{name}_{number}"] = plain
    return found


def _edges(network: Network, names: Sequence[str]) -> Any:
    """A module around the network: plain tensors in and out, in the file's layout."""
    torch = network.torch
    before = [
        turned_back(network.layouts[spec.name]) if spec.name in network.layouts else None for spec in network.inputs
    ]
    after = [network.output_layouts.get(name) for name in names]

    base: Any = torch.nn.Module

    class Edges(base):  # type: ignore[misc]  # PyTorch is imported where it is needed, and its types are not known here
        def __init__(self) -> None:
            super().__init__()
            setattr(self, NETWORK, network.module)

        def forward(self, *values: Any) -> Any:
            turned = [
                value if axes is None else value.permute(axes) for value, axes in zip(values, before, strict=True)
            ]
            results = named_outputs(torch, network.call(getattr(self, NETWORK), turned)).values()
            return tuple(
                value if axes is None else value.permute(axes) for value, axes in zip(results, after, strict=True)
            )

    edges = Edges()
    # Not eval(), which an exported program's module refuses; what is inside is in evaluation already.
    edges.training = False
    return edges


def explain(error: Exception) -> str:
    """What PyTorch or litert-torch could not do, with the operator and the layer where they are known."""
    text = str(error)
    found = re.search(r"While executing %.*?target=(?:torch\.ops\.)?([\w.]+)", text)
    if found:
        detail = "" if "Lowering not found" in text else f" ({type(error).__name__}: {first_line(error)})"
        return (
            f"the model uses the operator {found.group(1)}{_where(text)}, which litert-torch cannot turn into TFLite{detail}. Replace "
            "it in the model, or convert the part of the model before it."
        )
    if "data-dependent" in text or "DataDependent" in type(error).__name__ or "control flow" in text:
        return (
            f"torch.export cannot trace the model, because its steps depend on the values that go in: {first_line(error)}. Make "
            "forward free of branches and loops over a tensor's values."
        )
    return f"litert-torch could not turn this model into a float .tflite: {type(error).__name__}: {first_line(error)}."


def _where(text: str) -> str:
    """The line of the model's own code that an operator comes from, out of what PyTorch says of its origin."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)\n +(.+)', text)
    own = [item for item in frames if not re.search(r"[/\\](torch|edgekit_convert)[/\\]", item[0])]
    if not own:
        return ""
    file, line, _, code = own[-1]
    return f" ({Path(file).name}, line {line}: `{code.strip()[:120]}`)"
