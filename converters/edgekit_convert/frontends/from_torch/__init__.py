"""PyTorch: modules in memory, ``torch.export`` programs, and files of weights with the function that makes their model."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import AlreadyQuantisedError, ConversionError, OptionError
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.from_torch.files import kind_of as kind_of
from edgekit_convert.frontends.from_torch.images import image_inputs, image_outputs
from edgekit_convert.frontends.from_torch.inputs import find_inputs, forward_names
from edgekit_convert.frontends.from_torch.lowering import (
    Network,
    explain,
    import_litert_torch,
    import_torch,
    named_outputs,
    quiet,
)
from edgekit_convert.frontends.from_torch.programs import load_program
from edgekit_convert.frontends.from_torch.weights import fill, make_model, read_weights, tensors_in
from edgekit_convert.frontends.layout import channels_last
from edgekit_convert.frontends.source import Opening, Source

#: Types of inputs that a ``.tflite`` and edgekit's arrays have.
_INPUT_TYPES = ("float32", "int32", "int64", "bool")


def open_file(path: Path, kind: str, opening: Opening) -> Source:
    """Open a file that ``kind_of`` recognised.

    Raises:
        EdgekitError: PyTorch is not installed, opening the file would run code, or the model cannot be converted.
    """
    if kind == "weights" and opening.trust_source:
        raise OptionError(
            f"--trust-source for {path}: files of torch.save are read as weights alone, whoever they are from. A whole model that "
            "you trust, load in your own program, and pass the module to edgekit.convert."
        )
    torch = import_torch()
    if kind == "weights":
        # What the file is comes first: for a whole model, more options would not help.
        weights = read_weights(torch, path)
        if opening.model is None:
            raise OptionError(
                f"{path} holds weights, and not the network that they are for: pass the function that makes it, as in --model "
                "mymodels:resnet20 (mymodels.py in this folder or installed)."
            )
        return _from_weights(torch, weights, path.name, opening)
    return _from_program(torch, load_program(torch, path, trusted=opening.trust_source), path.name, opening)


def open_object(source: Any, opening: Opening) -> Source:
    """Take a module, an exported program, or tensors by name, in memory.

    Raises:
        EdgekitError: it cannot be converted.
    """
    torch = import_torch()
    if opening.trust_source:
        raise OptionError("trust_source is for files: an object in memory was made by your own program.")
    if isinstance(source, Mapping):
        return _from_weights(torch, tensors_in(torch, source, "the state dict"), "the state dict", opening)
    if isinstance(source, torch.export.ExportedProgram):
        return _from_program(torch, source, "the exported program", opening)
    if isinstance(source, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise ConversionError(
            "a TorchScript module (torch.jit) has no torch.export program: pass the nn.Module that it was made from."
        )
    if not isinstance(source, torch.nn.Module):
        raise ConversionError(
            f"cannot convert an object of type {type(source).__module__}.{type(source).__qualname__}: a torch.nn.Module, a "
            "torch.export program or a state dict was expected."
        )
    if opening.model is not None:
        raise OptionError("model is for weights alone, and the source is a whole module: leave it out.")
    return _from_module(torch, source, type(source).__name__, (), opening)


def is_state_dict(source: Any) -> bool:
    """Whether an object is tensors by name, told without importing PyTorch."""
    return (
        isinstance(source, Mapping)
        and bool(source)
        and all(isinstance(name, str) for name in source)
        and any(type(value).__module__.partition(".")[0] == "torch" for value in source.values())
    )


def _from_weights(torch: Any, weights: Mapping[str, Any], name: str, opening: Opening) -> Source:
    if opening.model is None:
        raise OptionError("a state dict is not a network: pass the function that makes it as model.")
    model = make_model(torch, opening.model, name)
    notes = fill(torch, model, weights, name)
    return _from_module(torch, model, name, notes, opening)


def _from_module(torch: Any, source: Any, name: str, notes: tuple[str, ...], opening: Opening) -> Source:
    _no_signature(opening)
    model, more = _ready(torch, source)
    names = forward_names(model, opening)
    call = _caller(names)

    def run(specs: Sequence[TensorSpec]) -> Any:
        return Network(torch, model, call, tuple(specs)).run(Network(torch, model, call, tuple(specs)).example())

    inputs, moved = find_inputs(model, names, opening, run)
    network = Network(torch, model, call, inputs)
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # where it prints the graph that it cannot trace
            program = torch.export.export(model, *_arguments(network), strict=False)
    except Exception as error:  # PyTorch and the model's own code raise whatever they like
        raise ConversionError(explain(error)) from error
    # A run of another number of samples is another export, so that the batch is open.
    opened = [
        spec if spec.shape[:1] != (1,) else TensorSpec(spec.name, (-1, *spec.shape[1:]), spec.dtype) for spec in inputs
    ]
    return _source(replace(network, inputs=tuple(opened)), program, name, (*notes, *more), opening, moved)


def _arguments(network: Network) -> tuple[tuple[Any, ...], dict[str, Any]]:
    names = [spec.name for spec in network.inputs]
    if names == ["input"]:
        return network.example(), {}
    return (), dict(zip(names, network.example(), strict=True))


def _caller(names: Sequence[str]) -> Callable[[Any, Sequence[Any]], Any]:
    def call(module: Any, values: Sequence[Any]) -> Any:
        # One tensor goes in by its place: wrappers of modules take any number of arguments and name none.
        return module(*values) if len(names) == 1 else module(**dict(zip(names, values, strict=True)))

    return call


def _ready(torch: Any, source: Any) -> tuple[Any, tuple[str, ...]]:
    """A copy of the module on the CPU, in float32 and in evaluation; the caller's stays as it is."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(source, parallel) or hasattr(source, "_orig_mod"):
        source = source.module if isinstance(source, parallel) else source._orig_mod
    quantised = [
        name or type(module).__name__
        for name, module in source.named_modules()
        if "quantized" in type(module).__module__.split(".")
    ]
    tensors = [*source.parameters(), *source.buffers()]
    if quantised or any(value.is_quantized for value in tensors) or _has_subclass(torch, tensors):
        raise AlreadyQuantisedError(
            f"{type(source).__name__} is quantised already{f' ({quantised[0]})' if quantised else ''}. A float model was expected: "
            "convert the model that it was made from."
        )
    try:
        with _leaves(torch, source):
            model = copy.deepcopy(source)
    except Exception as error:  # PyTorch refuses some tensors, and a module's own attributes may be anything
        raise ConversionError(
            f"{type(source).__name__} cannot be copied ({first_line(error)}): make a new one, load its weights into it with "
            "load_state_dict, and convert that."
        ) from error
    types = sorted(
        {str(value.dtype).removeprefix("torch.") for value in tensors if value.is_floating_point()} - {"float32"}
    )
    notes = (
        (f"{type(source).__name__} has {', '.join(types)} tensors; they were turned into float32.",) if types else ()
    )
    return model.to("cpu").float().eval() if types else model.to("cpu").eval(), notes


@contextlib.contextmanager
def _leaves(torch: Any, module: Any) -> Iterator[None]:
    """Let a module be copied whose hooks keep computed tensors in it, as ``torch.nn.utils.weight_norm`` does."""
    computed = [
        (inner, name, value)
        for inner in module.modules()
        for name, value in vars(inner).items()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    ]
    for inner, name, value in computed:
        vars(inner)[name] = value.detach()
    try:
        yield
    finally:
        for inner, name, value in computed:
            vars(inner)[name] = value


def _has_subclass(torch: Any, tensors: Sequence[Any]) -> bool:
    """Whether a weight is kept in a form of its own, as torchao keeps quantised ones."""
    return any(type(value.data) is not torch.Tensor for value in tensors)


def _from_program(torch: Any, program: Any, name: str, opening: Opening) -> Source:
    _no_signature(opening)
    if opening.model is not None:
        raise OptionError(f"--model is for files of weights alone, and {name} is a whole program: leave it out.")
    _check_program(torch, program, name)
    inputs = _program_inputs(torch, program, name)
    module = program.module()
    pytree = torch.utils._pytree
    structure, constants = program.call_spec.in_spec, _constants(program)

    def call(module: Any, values: Sequence[Any]) -> Any:
        left = iter(values)
        flat = [constants[place] if place in constants else next(left) for place in range(structure.num_leaves)]
        positional, named = pytree.tree_unflatten(flat, structure)
        return module(*positional, **named)

    return _source(Network(torch, module, call, inputs), program, name, (), opening)


def _check_program(torch: Any, program: Any, name: str) -> None:
    """Refuse a program that was exported for training, or quantised."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        if "quantize" in str(schema.name):
            raise AlreadyQuantisedError(
                f"{name} is quantised already: it has {schema.name}. A float program was expected: export the model that it was "
                "made from."
            )
        given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
        operator = str(schema.name).partition("::")[2]
        if ("norm" in operator and given.get("training") is True) or (
            "dropout" in operator and given.get("train") is True
        ):
            raise ConversionError(
                f"{name} was exported in training mode: {schema.name} computes with the batch's own statistics, or drops values by "
                "chance. Call model.eval() before torch.export.export."
            )


def _program_inputs(torch: Any, program: Any, name: str) -> tuple[TensorSpec, ...]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = []
    for item in program.graph_signature.user_inputs:
        value = nodes[item].meta["val"] if isinstance(item, str) and item in nodes else None
        if not isinstance(value, torch.Tensor):
            continue
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in _INPUT_TYPES:
            raise ConversionError(
                f"{name}: the input {item} is of type {dtype}: {', '.join(_INPUT_TYPES)} were expected. Export the model in "
                "float32: model.float()."
            )
        sizes = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        found.append(TensorSpec(item, sizes, dtype))
    if not found:
        raise ConversionError(f"{name} has no inputs that are tensors, so that it gives the same result at every run.")
    return tuple(found)


def _constants(program: Any) -> dict[int, Any]:
    """Inputs that are no tensors, by place, with the values that they were exported with."""
    found = {}
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    for place, spec in enumerate(specs):
        if hasattr(spec.arg, "value"):
            found[place] = spec.arg.value
    return found


def _no_signature(opening: Opening) -> None:
    if opening.signature is not None:
        raise OptionError(f"--signature {opening.signature}: PyTorch models have no signatures; leave it out.")


def _source(
    network: Network,
    program: Any,
    name: str,
    notes: tuple[str, ...],
    opening: Opening,
    moved: frozenset[str] = frozenset(),
) -> Source:
    """Say how axes are turned, and make the source.

    Args:
        network: the network, its axes not turned yet.
        program: the same, exported.
        name: what it is called.
        notes: what was done to open it.
        opening: how it is opened.
        moved: inputs that are given with the channels last.

    Raises:
        OptionError: the channels are to come out last, and no input has any.
        ConversionError: litert-torch is not installed, or the network returns no tensors.
    """
    import_litert_torch()
    ranks: tuple[int, ...] = (3, 4, 5) if opening.channels_last else (4,)
    images = image_inputs(program, ranks) if opening.channels_last is not False else frozenset()
    if opening.channels_last and not images:
        inputs = ", ".join(str(spec) for spec in network.inputs)
        raise OptionError(
            f"--channels-last: none of the inputs goes into a convolution or pooling ({inputs}); leave it out."
        )
    tensors = [item for item in program.graph_signature.user_inputs if _is_tensor_input(program, item)]
    places = {tensors.index(item) for place, item in enumerate(program.graph_signature.user_inputs) if place in images}
    if opening.channels_last is not False:
        places |= {place for place, spec in enumerate(network.inputs) if spec.name in moved}
    layouts = {
        spec.name: channels_last(len(spec.shape)) for place, spec in enumerate(network.inputs) if place in places
    }
    ranks = tuple({*ranks, *(len(axes) for axes in layouts.values())})
    try:
        results = network.run(network.example())
    except ConversionError:
        raise
    except Exception as error:  # an example of size 1 in an open size need not fit; the real sizes are tried later
        results = {}
        if not any(-1 in spec.shape for spec in network.inputs):
            raise ConversionError(f"{name} does not run: {first_line(error)}.") from error
    turned_outputs = image_outputs(program, ranks) if layouts else frozenset()
    output_layouts = {
        key: channels_last(value.dim()) for place, (key, value) in enumerate(results.items()) if place in turned_outputs
    }
    network = replace(network, layouts=layouts, output_layouts=output_layouts)
    return Source(
        "torch",
        name,
        network.file_inputs,
        network.export,
        network.reference,
        notes,
        owner=network,
        layouts=layouts,
        output_layouts=output_layouts,
    )


def _is_tensor_input(program: Any, item: Any) -> bool:
    return any(
        node.op == "placeholder" and node.name == item and hasattr(node.meta.get("val"), "shape")
        for node in program.graph.nodes
    )


__all__ = ["is_state_dict", "kind_of", "named_outputs", "open_file", "open_object"]
