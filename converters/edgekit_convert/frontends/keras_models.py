"""Keras models in memory, of Keras 3 and tf-keras: what goes in, how they are called, what comes out."""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import AlreadyQuantisedError, ConversionError
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.freeze import LONGEST_UNROLLED, import_tensorflow
from edgekit_convert.frontends.tf_graphs import NARROW

_NUMBERS = ("float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool", *NARROW)


@dataclass(frozen=True)
class Entry:
    """How a model is called.

    Attributes:
        specs: what goes in; -1 for open sizes.
        dtypes: by input name, as the model has them.
        call: takes tensors by input name, returns tensors by output name.
    """

    specs: tuple[TensorSpec, ...]
    dtypes: dict[str, str]
    call: Callable[[dict[str, Any]], dict[str, Any]]


def entry(model: Any, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Entry:
    """Find out how a model is called.

    Args:
        model: a Keras model.
        name: what to call it in messages.
        shapes: the caller's, by input name; needed for a subclassed model that was not called yet.

    Raises:
        ConversionError: its inputs are not known, or not of numbers.
    """
    tensors = _known_inputs(model)
    if tensors is None:
        specs = _called_with(model, shapes)
        dtypes = {spec.name: spec.dtype for spec in specs}

        def run(values: dict[str, Any]) -> Any:
            return _call_subclassed(model, values)

    else:
        labels = _distinct([str(tensor.name).split(":")[0] for tensor in tensors])
        pairs = list(zip(labels, tensors, strict=True))
        dtypes = {label: _dtype(tensor, label, name) for label, tensor in pairs}
        wide = {label: "float32" if dtype in NARROW else dtype for label, dtype in dtypes.items()}
        specs = tuple(TensorSpec(label, _shape(tensor, label, name), wide[label]) for label, tensor in pairs)
        by_id = {id(tensor): label for label, tensor in pairs}

        def run(values: dict[str, Any]) -> Any:
            return _call_functional(model, by_id, values)

    def call(values: dict[str, Any]) -> dict[str, Any]:
        with _unrolled(model, values):
            return _name_outputs(run(values))

    return Entry(specs, dtypes, call)


def build(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make the variables of a model that makes them when it is first called.

    Args:
        model: a Keras model.
        shapes: of its inputs, by name.

    Raises:
        ConversionError: the shapes that it needs for that are not known.
    """
    if model.built and model.weights:
        return
    tf = import_tensorflow()
    specs = _called_with(model, shapes)
    values = {spec.name: tf.zeros([1 if size == -1 else size for size in spec.shape]) for spec in specs}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _call_subclassed(model, values)
    except Exception as error:  # whatever a model's layers raise when they are called
        raise ConversionError(
            f"the model {model.name} does not take inputs of {', '.join(str(spec) for spec in specs)}: {first_line(error)}."
        ) from error


def _known_inputs(model: Any) -> list[Any] | None:
    """The tensors that a functional model begins with; ``None`` for one that says what it does in code alone."""
    try:
        tensors = model.inputs
    except (AttributeError, ValueError):  # a Sequential without an Input
        return None
    return list(tensors) if tensors else None


def _called_with(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    """The inputs of a model that does not know them: as the caller says, or as it was built.

    Raises:
        ConversionError: neither is known.
    """
    parameters = _parameters(model)
    known = {(name or parameters[0]): shape for name, shape in shapes.items()} or _built_with(model, parameters)
    if not known:
        sizes = " ".join(f"--shape {name}=1,224,224,3" for name in parameters)
        raise ConversionError(
            f"the Keras model {model.name} does not know its inputs (a subclassed model, or a Sequential without an Input). Say their sizes "
            f"({sizes}); or export it with `model.export('folder')`, and convert that folder."
        )
    return tuple(TensorSpec(name, tuple(shape), "float32") for name, shape in known.items())


def _parameters(model: Any) -> list[str]:
    """Names of what ``model.call`` has to be given."""
    names = [
        name
        for name, item in inspect.signature(model.call).parameters.items()
        if item.default is item.empty
        and item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
        and name not in ("training", "mask")
    ]
    return names or ["inputs"]


def _built_with(model: Any, parameters: list[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of a model's first call; the batch, which was that call's, is open."""
    built = getattr(model, "_build_shapes_dict", None) or getattr(model, "_build_input_shape", None)
    if isinstance(built, Mapping) and len(built) == 1:
        built = next(iter(built.values()))
    if isinstance(built, Mapping):
        found = {str(name).removesuffix("_shape"): shape for name, shape in built.items()}
    elif built is not None and len(parameters) == 1:  # of several inputs Keras 3 keeps the first one's shape alone
        found = {parameters[0]: built}
    else:
        return {}
    result = {}
    for name, shape in found.items():
        if isinstance(shape, Mapping) or (
            isinstance(shape, tuple | list) and any(isinstance(item, tuple | list) for item in shape)
        ):
            return {}
        sizes = [None if size is None else int(size) for size in shape]
        result[name] = (-1, *(-1 if size is None else size for size in sizes[1:]))
    return result


def _call_subclassed(model: Any, values: dict[str, Any]) -> Any:
    parameters = _parameters(model)
    if len(values) == 1:
        return model(next(iter(values.values())), training=False)
    if set(values) <= set(parameters):
        first, *others = [name for name in parameters if name in values]
        return model(values[first], training=False, **{name: values[name] for name in others})
    return model(values, training=False)


def _call_functional(model: Any, by_id: Mapping[int, str], values: dict[str, Any]) -> Any:
    """Call with the structure that the model was made with: one tensor, a list, a dictionary, or these in each other."""
    tf = import_tensorflow()
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        structure = getattr(model, "_nested_inputs", None)  # tf-keras
    ordered = [values[label] for label in by_id.values()]
    if structure is not None and {id(item) for item in tf.nest.flatten(structure)} == set(by_id):
        argument = tf.nest.map_structure(lambda item: values[by_id[id(item)]], structure)
    else:
        argument = ordered if len(ordered) > 1 else ordered[0]
    return model(argument, training=False)


def refuse_quantised(model: Any, name: str) -> None:
    """See that Keras has not quantised a model.

    Raises:
        AlreadyQuantisedError: it has.
    """
    quantised = [layer.name for layer in _layers(model) if getattr(layer, "quantization_mode", None) is not None]
    if quantised:
        raise AlreadyQuantisedError(
            f"{name} is quantised already: Keras made {', '.join(quantised[:5])} int8 or float8. A float model was expected: convert "
            "it before `model.quantize`."
        )


def _layers(model: Any) -> list[Any]:
    """The model and all layers inside it, nested ones as well."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten()) if flatten is not None else list(getattr(model, "layers", ()))


def compute_types(model: Any) -> list[str]:
    """The types that its layers compute in."""
    return [str(getattr(layer, "compute_dtype", None) or "float32") for layer in _layers(model)]


@contextlib.contextmanager
def _unrolled(model: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Recurrent layers without loops, for which int8 has no form, while the model is called."""
    imported = [sys.modules.get(name) for name in ("keras", "tf_keras")]
    families = [module for module in imported if module is not None]
    longest = max((value.shape[1] or 0 for value in values.values() if len(value.shape) > 1), default=0)
    changed: list[tuple[Any, str, Any]] = []
    for layer in _layers(model):
        if not any(isinstance(layer, family.layers.RNN) for family in families):
            continue
        if not 1 <= (_steps(layer) or longest) <= LONGEST_UNROLLED:
            continue
        for attribute, value in (("unroll", True), ("_could_use_gpu_kernel", False)):
            if hasattr(layer, attribute):
                changed.append((layer, attribute, getattr(layer, attribute)))
                setattr(layer, attribute, value)
    try:
        yield
    finally:
        for layer, attribute, value in reversed(changed):
            setattr(layer, attribute, value)


def _steps(layer: Any) -> int | None:
    """The number of steps of a recurrent layer, where it was built with a fixed one."""
    built = getattr(layer, "_build_shapes_dict", None) or getattr(layer, "_build_input_shape", None)
    shape = next(iter(built.values()), None) if isinstance(built, Mapping) else built
    try:
        return None if shape is None or len(shape) < 2 or shape[1] is None else int(shape[1])
    except (TypeError, ValueError):  # the shapes of several inputs
        return None


def input_scale(model: Any) -> float | None:
    """The factor of a Rescaling layer among the first layers; converters often fold it into the first weights."""
    for layer in list(getattr(model, "layers", ()))[:4]:
        if type(layer).__name__ == "Rescaling":
            return float(np.abs(np.asarray(layer.scale)).max())
    return None


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that came before."""
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


def _dtype(tensor: Any, label: str, name: str) -> str:
    """An input's type.

    Raises:
        ConversionError: it is no dense tensor of numbers.
    """
    dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
    kind = (
        dtype
        if dtype not in _NUMBERS
        else next((what for what in ("sparse", "ragged") if getattr(tensor, what, False)), None)
    )
    if kind is None and type(tensor).__name__ in ("SparseKerasTensor", "RaggedKerasTensor"):  # of tf-keras
        kind = type(tensor).__name__.removesuffix("KerasTensor").lower()
    if kind is not None:
        raise ConversionError(
            f"{name}: the input {label!r} is of type {kind}, only dense tensors of numbers can be converted. Make the model begin "
            "behind the layers that turn it into numbers."
        )
    return dtype


def _shape(tensor: Any, label: str, name: str) -> tuple[int, ...]:
    if tensor.shape is None or getattr(tensor.shape, "rank", 0) is None:
        raise ConversionError(f"{name}: the input {label!r} has no known number of sizes: give its `Input` a shape.")
    return tuple(-1 if size is None else int(size) for size in tensor.shape)


def _name_outputs(result: Any) -> dict[str, Any]:
    """Outputs by name: a model's own keys, else ``output_0``, ``output_1``, ... in order."""
    if isinstance(result, Mapping):
        found: dict[str, Any] = {}
        for key, value in result.items():
            if isinstance(value, Mapping | list | tuple):
                inner = _name_outputs(value)
                found.update({f"{key}_{name.removeprefix('output_')}": item for name, item in inner.items()})
            elif value is not None:
                found[str(key)] = value
        return found
    items = [item for item in _flat(result) if item is not None]
    width = len(str(len(items) - 1))
    return {f"output_{number:0{width}d}": item for number, item in enumerate(items)}


def _flat(result: Any) -> Iterator[Any]:
    if isinstance(result, Mapping):
        for value in result.values():
            yield from _flat(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from _flat(value)
    else:
        yield result
