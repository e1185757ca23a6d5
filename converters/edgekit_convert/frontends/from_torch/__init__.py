"""PyTorch: modules in memory, ``torch.export`` programs, and files of weights with the function that makes their model."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, OptionError
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.from_torch.checks import check_module, check_program
from edgekit_convert.frontends.from_torch.files import kind_of as kind_of
from edgekit_convert.frontends.from_torch.images import image_inputs, image_outputs
from edgekit_convert.frontends.from_torch.inputs import find_inputs, forward_names
from edgekit_convert.frontends.from_torch.lowering import (
    Network,
    explain,
    import_litert_torch,
    import_torch,
    named_outputs,
    ordinary,
    quiet,
)
from edgekit_convert.frontends.from_torch.names import places_of
from edgekit_convert.frontends.from_torch.programs import load_program
from edgekit_convert.frontends.from_torch.weights import Weights, fill, make_model, read_weights, tensors_in
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


def _from_weights(torch: Any, weights: Sequence[Weights], name: str, opening: Opening) -> Source:
    if opening.model is None:
        raise OptionError("a state dict is not a network: pass the function that makes it as model.")
    model = make_model(torch, opening.model, name)
    notes = fill(torch, model, weights, name)
    return _from_module(torch, model, name, notes, opening)


def _from_module(torch: Any, source: Any, name: str, notes: tuple[str, ...], opening: Opening) -> Source:
    _no_signature(opening)
    model, more = _ready(torch, source)
    names = forward_names(model, opening)
    arguments = _caller(model, names)

    def call(module: Any, values: Sequence[Any]) -> Any:
        positional, named = arguments(values)
        return module(*positional, **named)

    def run(specs: Sequence[TensorSpec]) -> Any:
        return Network(torch, model, call, tuple(specs)).run(Network(torch, model, call, tuple(specs)).example())

    inputs, moved = find_inputs(model, names, opening, run)
    network = Network(torch, model, call, inputs)
    try:
        # It prints the graph that it cannot trace to stderr.
        with quiet(), ordinary(torch), contextlib.redirect_stderr(io.StringIO()):
            program = torch.export.export(model, *arguments(network.example()), strict=False)
    except Exception as error:  # PyTorch and the model's own code raise whatever they like
        raise ConversionError(explain(error)) from error
    check_program(program, name, exported=False)
    # A run of another number of samples is another export, so that the batch is open.
    opened = [
        spec if spec.shape[:1] != (1,) else TensorSpec(spec.name, (-1, *spec.shape[1:]), spec.dtype) for spec in inputs
    ]
    return _source(replace(network, inputs=tuple(opened)), program, name, (*notes, *more), opening, moved)


def _caller(model: Any, names: Sequence[str]) -> Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """What says how a module takes its inputs: by their places where they are its first parameters, else by their names."""
    kinds = list(inspect.signature(model.forward).parameters.values())
    first = [item.name for item in kinds if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    # Wrappers of modules take any number of arguments and name none.
    loose = {item.kind for item in kinds} & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    by_place = first[: len(names)] == list(names) or (
        inspect.Parameter.VAR_POSITIONAL in loose and (len(loose) == 1 or len(names) == 1)
    )

    def arguments(values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(values), {}) if by_place else ((), dict(zip(names, values, strict=True)))

    return arguments


def _ready(torch: Any, source: Any) -> tuple[Any, tuple[str, ...]]:
    """A copy of the module on the CPU, in float32 and in evaluation; the caller's stays as it is."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(source, parallel) or hasattr(source, "_orig_mod"):
        source = source.module if isinstance(source, parallel) else source._orig_mod
    check_module(torch, source)
    tensors = [*source.parameters(), *source.buffers()]
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


def _from_program(torch: Any, program: Any, name: str, opening: Opening) -> Source:
    _no_signature(opening)
    if opening.model is not None:
        raise OptionError(f"--model is for files of weights alone, and {name} is a whole program: leave it out.")
    check_program(program, name, exported=True)
    inputs = _program_inputs(torch, program, name)
    try:
        module = program.module()
    except Exception as error:  # PyTorch raises whatever it meets in a program that was tampered with
        raise ConversionError(
            f"PyTorch {torch.__version__} cannot make a module of {name}: {type(error).__name__}: {first_line(error)}. Export it again "
            "with torch.export.save."
        ) from error
    pytree = torch.utils._pytree
    structure, constants = program.call_spec.in_spec, _constants(program)

    def call(module: Any, values: Sequence[Any]) -> Any:
        left = iter(values)
        flat = [constants[place] if place in constants else next(left) for place in range(structure.num_leaves)]
        positional, named = pytree.tree_unflatten(flat, structure)
        return module(*positional, **named)

    network = Network(torch, module, call, inputs, places=places_of(program))
    return _source(network, program, name, (), opening)


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
