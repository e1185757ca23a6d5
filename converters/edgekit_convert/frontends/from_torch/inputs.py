"""What a PyTorch module takes: names from its ``forward``, sizes and types from ``--shape`` or the calibration data, by trial."""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgekit.errors import ConversionError, OptionError
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends.layout import channels_last, turned_back
from edgekit_convert.frontends.source import Opening

#: Types that data of whole numbers may be meant for, the likeliest first: images are given as bytes to models of floats, and
#: indices of words as int64 to models that take int32 as well.
_FOR_INTEGERS = ("float32", "int32", "int64")
#: How many channels an image has that nothing else is known of.
_CHANNELS = (1, 3, 4)
#: What PyTorch says where an input is of another type than an operator takes.
_OF_TYPES = re.compile(r"scalar type|dtype|data type|indices must be|\bLong\b")
#: So many combinations of the inputs' sizes and types are tried.
_TRIALS = 256


def forward_names(model: Any, opening: Opening) -> tuple[str, ...]:
    """The names of the tensors that a module is called with.

    They are the parameters of ``forward`` that have no default, and those that ``--shape`` or the data name.

    Raises:
        OptionError: ``--shape`` names a parameter that there is not.
    """
    given = tuple(name for name in opening.shapes if name)
    in_data = opening.examples.input_names() if opening.examples is not None else ()
    parameters = inspect.signature(model.forward).parameters.values()
    plain = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    known = [item.name for item in plain]
    unknown = [name for name in given if name not in known]
    if unknown and len(plain) == len(list(parameters)):
        raise OptionError(
            f"--shape for the unknown input {', '.join(unknown)}: {type(model).__name__}.forward takes {', '.join(known) or 'nothing'}."
        )
    names = [item.name for item in plain if item.default is item.empty or item.name in given or item.name in in_data]
    names += unknown
    if not names and known:
        names = known[:1]
    return tuple(names) or ("input",)


def find_inputs(
    model: Any, names: Sequence[str], opening: Opening, run: Callable[[Sequence[TensorSpec]], Any]
) -> tuple[tuple[TensorSpec, ...], frozenset[str]]:
    """Find sizes and types that a module works with, as it takes them itself.

    Args:
        model: the module, for messages.
        names: its inputs.
        opening: fixed shapes and examples.
        run: runs the module on inputs of the given sizes and types, and raises where it does not take them.

    Returns:
        The inputs, and the names of those whose channels are last in what was given and first in what the module takes.

    Raises:
        OptionError: the sizes of an input are not known.
        ConversionError: the module takes none of what the sizes can mean.
    """
    shapes = _fixed(names, opening)
    failures: list[str] = []
    for specs, moved in itertools.islice(_possible(model, names, shapes, opening), _TRIALS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(specs)
        except ConversionError:  # it runs, and what it returns cannot be taken
            raise
        except Exception as error:  # PyTorch and the model's own code raise whatever they like
            failures.append(f"{', '.join(str(spec) for spec in specs)}: {_said(error)}")
            continue
        return specs, moved
    # What a type that was tried in vain says tells less than what the model says of the sizes.
    told = next((text for text in failures if not _OF_TYPES.search(text)), failures[0])
    raise ConversionError(
        f"{type(model).__name__} does not run on inputs of the sizes that {'--shape says' if shapes else 'the calibration data have'} "
        f"({told}). Pass the sizes that it takes, the batch first, as in --shape {names[0]}=1,3,224,224."
    )


def _fixed(names: Sequence[str], opening: Opening) -> dict[str, tuple[int, ...]]:
    """``--shape`` by input name."""
    shapes = dict(opening.shapes)
    if "" in shapes:
        if len(names) != 1:
            raise OptionError(
                f"--shape without a name for the inputs {', '.join(names)}: write --shape NAME=N,N,... for each."
            )
        shapes[names[0]] = shapes.pop("")
    return shapes


def _possible(
    model: Any, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], opening: Opening
) -> Iterator[tuple[tuple[TensorSpec, ...], frozenset[str]]]:
    """What the inputs can be, the likelier first."""
    readings: list[dict[str, Any]] = [{}]
    if opening.examples is not None:
        readings = [dict(item) for item in opening.examples.first(names)]
    missing = [name for name in names if name not in shapes and name not in readings[0]]
    if missing:
        raise OptionError(
            f"a PyTorch model does not say what sizes its inputs have, and {type(model).__name__} has {', '.join(names)}: pass --shape "
            f"{missing[0]}=1,3,224,224 with its sizes, the batch first."
        )
    for reading in readings:
        given = [shapes[name] if name in shapes else (1, *reading[name].shape) for name in names]
        sizes = [_orders(shape) for shape in given]
        kinds = [reading[name].dtype.kind if name in reading else None for name in names]
        types = [_types(kind) for kind in kinds]
        ranked = sorted(
            itertools.product(itertools.product(*sizes), itertools.product(*types)),
            key=lambda pair: _unlikely(kinds, pair[1]),
        )
        for shape, dtypes in ranked:
            moved = frozenset(name for name, own, seen in zip(names, shape, given, strict=True) if own != seen)
            yield tuple(map(TensorSpec, names, shape, dtypes)), moved


def _orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """A shape as it is, and with the last axis' size in axis 1, the likelier first."""
    if len(shape) not in (3, 4, 5):
        return [shape]
    moved = tuple(shape[axis] for axis in turned_back(channels_last(len(shape))))
    orders = [shape, moved]
    if len(shape) > 3 and shape[-1] in _CHANNELS and shape[1] not in _CHANNELS:
        orders.reverse()
    return orders if shape != moved else [shape]


def _types(kind: str | None) -> tuple[str, ...]:
    if kind == "b":
        return ("bool", "float32")
    if kind == "f":
        return ("float32",)
    return _FOR_INTEGERS


def _unlikely(kinds: Sequence[str | None], dtypes: Sequence[str]) -> tuple[int, int]:
    """How unlikely types are for data of these kinds.

    What is true or false is a mask, and as a number it would be added where it is to hide; all others are of one type more often
    than not.
    """
    masks = [dtype for kind, dtype in zip(kinds, dtypes, strict=True) if kind == "b"]
    others = [dtype for kind, dtype in zip(kinds, dtypes, strict=True) if kind != "b"]
    return sum(dtype != "bool" for dtype in masks), len(set(others))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:240]}".rstrip(".")
