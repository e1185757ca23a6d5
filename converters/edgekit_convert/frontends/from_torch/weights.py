"""Files of weights alone (``.pt``, ``.pth``, ``.th``, ``.ckpt``, ``.safetensors``): read without running code, fitted to a model.

``torch.load`` is called with ``weights_only=True`` and never otherwise: it then builds tensors and plain containers, and nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import AlreadyQuantisedError, ConversionError, ModelFileError
from edgekit_convert.frontends.foreign import first_line, model_of
from edgekit_convert.frontends.from_torch.lowering import quiet

#: Under which names trainers keep a model's weights among other things; the first that is there is taken.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
#: What wrappers of modules put before each name: DataParallel and DistributedDataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
#: So many names are listed in a message.
_LISTED = 5


@dataclass(frozen=True)
class Weights:
    """Tensors by name, with where they were found.

    Attributes:
        place: the keys that lead to them, joined by dots; empty for what is a state dict itself.
        tensors: by name.
    """

    place: str
    tensors: Mapping[str, Any]


def read_weights(torch: Any, path: Path) -> tuple[Weights, ...]:
    """Read tensors by name from a file.

    Args:
        torch: the module.
        path: the file; its kind is known.

    Raises:
        ConversionError: the file holds other objects than tensors, so that reading it would run code, or holds no weights.
        ModelFileError: it is damaged.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with quiet():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its reader meets; a refusal has a type of its own
        if isinstance(error, pickle.UnpicklingError) and re.search(r"GLOBAL|Unsupported|allowed|Trying to", str(error)):
            raise _refused(path, error) from error
        raise ModelFileError(
            f"{path} is damaged or cut short: {first_line(error)}. Copy or download the file again, or save the weights again."
        ) from error
    return tensors_in(torch, content, str(path))


def _read_safetensors(path: Path) -> tuple[Weights, ...]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConversionError(f"reading {path} needs safetensors ({error}): `pip install 'edgekit[torch]'`.") from error
    try:
        tensors: Mapping[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"{path} is damaged or cut short: {first_line(error)}. Copy or download the file again."
        ) from error
    return (Weights("", tensors),)


def _refused(path: Path, error: Exception) -> ConversionError:
    """What to do with a file whose pickle holds more than tensors."""
    text = str(error)
    found = re.findall(r"GLOBAL ([\w.]+)", text) + re.findall(r"(?:class|function|global:?) ([\w.]+)", text)
    what = next((name for name in found if "." in name), None)
    held = f"an object of {what}" if what else "objects that are not tensors"
    return ConversionError(
        f"{path} holds {held}, saved with pickle: reading it would run code from the file, which edgekit does not do. If it is a "
        "whole model, load it in your own program where you trust it, and pass the module to edgekit.convert, or save its "
        "weights with torch.save(model.state_dict(), 'weights.pth') and convert that file with --model MODULE:FUNCTION."
    )


def tensors_in(torch: Any, content: Any, origin: str) -> tuple[Weights, ...]:
    """The weights among what a file holds, the likeliest first.

    Args:
        torch: the module.
        content: what was read.
        origin: what to call it in messages.

    Raises:
        AlreadyQuantisedError: they are quantised.
        ConversionError: there are none.
    """
    found = tuple(_candidates(torch, content, ""))
    if not found:
        raise ConversionError(
            f"{origin} holds {_described(torch, content)}: a state dict, tensors by name, was expected, as "
            "torch.save(model.state_dict(), FILE) writes it."
        )
    first = found[0].tensors
    quantised = [name for name, value in first.items() if value.is_quantized or "_packed_params" in name]
    quantised += [name for name in first if name.endswith(("weight_zero_point", "weight_zp", "qweight"))]
    if quantised:
        raise AlreadyQuantisedError(
            f"{origin} is quantised already: {', '.join(quantised[:_LISTED])}. The weights of the float model were expected: "
            "convert the original that it was made from."
        )
    return found


def _candidates(torch: Any, content: Any, place: str) -> Iterator[Weights]:
    """Containers of tensors by name, the likeliest first."""
    # An optimiser keeps its tensors by number, some with names inside, and they are as large as the weights.
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    wrapped = [name for name in _WRAPPERS if name in content]
    for name in wrapped:
        yield from _candidates(torch, content[name], f"{place}.{name}".lstrip("."))
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield Weights(place, tensors)
    for name, item in content.items():  # trainers have names of their own
        if name not in wrapped:
            yield from _candidates(torch, item, f"{place}.{name}".lstrip("."))


def _described(torch: Any, content: Any) -> str:
    if isinstance(content, torch.Tensor):
        return f"one tensor of shape {list(content.shape)}"
    if isinstance(content, Mapping):
        return f"a dictionary of {', '.join(str(name) for name in list(content)[:_LISTED]) or 'nothing'}"
    return f"a {type(content).__name__}"


def make_model(torch: Any, factory: Callable[[], Any] | str, origin: str) -> Any:
    """Call the function that makes the model for the weights.

    Args:
        torch: the module.
        factory: the function, or ``module:function``.
        origin: what to call the weights in messages.

    Raises:
        OptionError: there is no such function, or it makes no module.
    """
    return model_of(factory, lambda item: isinstance(item, torch.nn.Module), "a torch.nn.Module", origin)[0]


def fill(torch: Any, model: Any, weights: Sequence[Weights], origin: str) -> tuple[str, ...]:
    """Put weights into a model, all of them and in their places.

    Args:
        torch: the module.
        model: an ``nn.Module``; it is changed.
        weights: what there is, the likeliest first; the first that are this model's are taken.
        origin: what to call them in messages.

    Returns:
        What was done to the names, and which others would have been this model's.

    Raises:
        ConversionError: none are this model's.
    """
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    fits = [(item, *_fitting(wanted, item.tensors)) for item in weights]
    right = [fit for fit in fits if not _unlike(wanted, fit[1])]
    if not right:
        raise ConversionError(
            f"the weights in {origin} are not those of {type(model).__name__}: {_unlike(wanted, fits[0][1])}. "
            "Give with --model the function that makes the network that was trained."
        )
    taken, fitting, notes = right[0]
    model.load_state_dict(fitting, strict=False)
    others = [item.place for item, _, _ in right[1:]]
    if others:
        notes += (
            f"the weights under {taken.place!r} were taken; those under {_listed(list(map(repr, others)))} fit the network as "
            "well. Save the ones that you want as a file of their own.",
        )
    return notes


def _unlike(wanted: Mapping[str, Any], fitting: Mapping[str, Any]) -> str:
    """What sets weights apart from a model's; nothing where they are its own."""
    # A counter of training steps, which models saved before PyTorch 0.4.1 lack, and which nothing computes with.
    missing = [name for name in wanted if name not in fitting and not name.endswith("num_batches_tracked")]
    unknown = [name for name in fitting if name not in wanted]
    other = [
        f"{name} {list(fitting[name].shape)} in the file and {list(value.shape)} in the model"
        for name, value in wanted.items()
        if name in fitting and fitting[name].shape != value.shape
    ]
    parts = [
        f"the model lacks {_listed(unknown)}" if unknown else "",
        f"the file lacks {_listed(missing)}" if missing else "",
        f"sizes differ: {_listed(other)}" if other else "",
    ]
    return "; ".join(part for part in parts if part)


def _fitting(wanted: Mapping[str, Any], weights: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The weights under the model's names, as far as prefixes are what sets them apart."""
    current, removed = dict(weights), ""
    while current and not any(name in wanted for name in current):
        prefix = next((item for item in _PREFIXES if all(name.startswith(item) for name in current)), None)
        if prefix is None:
            break
        current = {name.removeprefix(prefix): value for name, value in current.items()}
        removed += prefix
    if not any(name in wanted for name in current):
        current, removed = _inside(wanted, weights) or (current, removed)
    if removed and any(name in wanted for name in current):
        left = len(weights) - len(current)
        also = f"; {left} other tensors of the file were left out" if left else ""
        return current, (f"{removed!r} was removed from before the weights' names{also}.",)
    return dict(weights), ()


def _inside(wanted: Mapping[str, Any], weights: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
    """The part of the weights that lies under one name, where it has all that the model wants."""
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if not needed:
        return None
    prefixes = [name.removesuffix(needed[0]) for name in weights if name.endswith(f".{needed[0]}")]
    for prefix in prefixes:
        if all(prefix + name in weights for name in needed):
            return {
                name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
            }, prefix
    return None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
