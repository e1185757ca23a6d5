"""Where calibration and verification data come from: arrays, files, folders of images, functions.

The text form, shared by the command line and Python: ``file.npy``, ``file.npz:key``, ``file.npz:x=key,y=key``
(``y`` are labels; input names may stand in place of ``x``), a folder of images (sub-folders are labels), or
``module:function``.
"""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, EdgekitError, EngineError
from edgekit.tensors import Array, TensorSpec

#: One sample: its inputs by name, still raw, and its label if it has one.
Sample = tuple[dict[str, Array], Any]

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class DataSource:
    """Raw samples that can be read again and again.

    Attributes:
        origin: what to call it in messages.
        read: starts a new pass over the samples.
        total: how many there are where that is known before reading, else ``None``.
        label_names: class names where the data carry them.
    """

    origin: str
    read: Callable[[], Iterator[Sample]]
    total: int | None
    label_names: tuple[str, ...] = ()


def spread(total: int, limit: int) -> list[int]:
    """Indices of at most ``limit`` samples, evenly spread, so that data sorted by class stay representative."""
    if total <= limit:
        return list(range(total))
    return [number * total // limit for number in range(limit)]


def open_data(data: Any, inputs: Sequence[TensorSpec], limit: int, what: str) -> DataSource:
    """Open data in any form that ``edgekit.convert`` takes.

    Args:
        data: see ``edgekit.convert``.
        inputs: the model's inputs.
        limit: use at most this many samples.
        what: ``"calibration"`` or ``"verification"``, for messages.

    Raises:
        DataError: it cannot be read, is empty, or can be read once only.
    """
    if limit < 1:
        raise DataError(f"{limit} samples asked for: at least 1 was expected.")
    if isinstance(data, DataSource):
        return data
    if isinstance(data, str | os.PathLike):
        return _from_text(os.fspath(data), inputs, limit, what)
    if isinstance(data, np.ndarray):
        return _from_arrays({_only(inputs, what): data}, None, limit, f"the {what} array", inputs)
    if isinstance(data, Mapping):
        arrays, labels = _split_labels(
            {str(name): _array(value, f"the {what} data {str(name)!r}") for name, value in data.items()}, inputs, what
        )
        return _from_arrays(arrays, labels, limit, f"the {what} arrays", inputs)
    if _is_pair_of_arrays(data, inputs):
        return _from_arrays(
            {inputs[0].name: np.asarray(data[0])}, np.asarray(data[1]), limit, f"the {what} arrays", inputs
        )
    if isinstance(data, Iterator):
        raise DataError(
            f"the {what} data is a {type(data).__name__}, which can be read once only, and conversion reads it several "
            "times. Likely cause: a generator was called (`data()`) or `iter()` was used. Pass the generator function "
            "itself (`data`), a list, or an array."
        )
    if callable(data):
        return _from_function(data, inputs, limit, f"{what} function {getattr(data, '__name__', 'given')}")
    if isinstance(data, Iterable):
        return _from_function(lambda: data, inputs, limit, f"the {what} {type(data).__name__}")
    raise DataError(
        f"cannot read {what} data of type {type(data).__name__}: an array, a dict of arrays, a list of samples, a function "
        "that returns an iterator, or a path was expected."
    )


def _is_pair_of_arrays(data: Any, inputs: Sequence[TensorSpec]) -> bool:
    """Whether it is ``(x, y)``: samples and labels as whole arrays."""
    return (
        isinstance(data, tuple) and len(data) == 2 and all(hasattr(item, "shape") for item in data) and len(inputs) == 1
    )


def _array(value: Any, origin: str) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:  # lists of unequal length, and whatever a foreign tensor raises
        raise DataError(f"{origin}: {type(value).__name__} is not an array of numbers: {error}") from error


def _only(inputs: Sequence[TensorSpec], what: str) -> str:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"one {what} array for {len(inputs)} inputs: give one for each of {names}.")
    return inputs[0].name


def _split_labels(
    arrays: dict[str, Array], inputs: Sequence[TensorSpec], what: str
) -> tuple[dict[str, Array], Array | None]:
    """Sort named arrays into inputs and labels: ``x`` is the only input, ``y`` the labels."""
    names = {spec.name for spec in inputs}
    labels = arrays.pop("y") if "y" in arrays and "y" not in names else None
    if "x" in arrays and "x" not in names:
        arrays[_only(inputs, what)] = arrays.pop("x")
    unknown = sorted(set(arrays) - names)
    missing = sorted(names - set(arrays))
    if unknown or missing:
        raise DataError(
            f"the {what} data has {', '.join(sorted(arrays)) or 'nothing'}, the model's inputs are {', '.join(sorted(names))}."
        )
    return arrays, labels


def _from_arrays(
    arrays: dict[str, Array], labels: Array | None, limit: int, origin: str, inputs: Sequence[TensorSpec]
) -> DataSource:
    for spec in inputs:
        if arrays[spec.name].ndim == len(spec.shape) - 1:  # one sample without its batch axis
            arrays[spec.name] = arrays[spec.name][None]
        if arrays[spec.name].ndim == 0:
            raise DataError(f"{origin}: a single number was given, an array of samples was expected.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        labels = np.atleast_1d(labels)
        lengths["labels"] = len(labels)
    if len(set(lengths.values())) > 1:
        raise DataError(f"{origin}: different numbers of samples: {', '.join(f'{k} {v}' for k, v in lengths.items())}.")
    total = next(iter(lengths.values()))
    if total == 0:
        raise DataError(f"{origin} is empty: it has 0 samples. Check the path, the key, and how the file was made.")
    chosen = spread(total, limit)

    def read() -> Iterator[Sample]:
        for index in chosen:
            yield {name: array[index] for name, array in arrays.items()}, None if labels is None else labels[index]

    return DataSource(origin, read, len(chosen))


def _from_text(text: str, inputs: Sequence[TensorSpec], limit: int, what: str) -> DataSource:
    path = Path(text)
    if path.is_dir():
        return _from_folder(path, inputs, limit, what)
    if text.endswith(".npy"):
        loaded = _load_numpy(path, what)
        if not isinstance(loaded, np.ndarray):
            raise DataError(f"{path} is an .npz archive, not one array: rename it to .npz and write FILE.npz:KEY.")
        return _from_arrays({_only(inputs, what): loaded}, None, limit, text, inputs)
    file, mark, keys = text.partition(".npz")
    if mark and (not keys or keys.startswith(":")):
        return _from_npz(Path(file + mark), keys[1:], inputs, limit, what)
    module, mark, name = text.partition(":")
    if mark and module.replace(".", "_").isidentifier() and name.isidentifier():
        return _from_function(load_function(text), inputs, limit, f"the {what} function {text}")
    if path.exists():
        raise DataError(
            f"cannot read {what} data from {text}: .npy, .npz:key, a folder of images or module:function was expected."
        )
    raise DataError(
        f"no such {what} data: {text}. Expected file.npy, file.npz:key, a folder of images, or module:function."
    )


def _load_numpy(path: Path, what: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(
            f"no such file: {path} ({what} data). Check the spelling and the folder that you are in."
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {what} data from {path}: {error.strerror or error}.") from error
    except (
        Exception
    ) as error:  # numpy reads a header as Python: a damaged one raises ValueError, TokenError, MemoryError
        raise DataError(
            f"cannot read {what} data from {path}: {error}. A file that numpy.save or numpy.savez wrote was expected "
            "(pickled objects are refused)."
        ) from error


def _from_npz(path: Path, keys: str, inputs: Sequence[TensorSpec], limit: int, what: str) -> DataSource:
    archive = _load_numpy(path, what)
    if not hasattr(archive, "files"):
        raise DataError(f"{path} holds one array, not an .npz archive: rename it to .npy.")
    with archive:
        available = ", ".join(archive.files)

        def get(key: str) -> Array:
            if key not in archive.files:
                raise DataError(f"{path} has no array {key!r}: it has {available}. Write {path}:KEY.")
            try:
                return np.asarray(archive[key])
            except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
                raise DataError(f"cannot read {key!r} from {path}: {error}.") from error

        if "=" in keys:
            pairs = [part.partition("=") for part in keys.split(",")]
            arrays, labels = _split_labels({name: get(key) for name, _, key in pairs}, inputs, what)
            return _from_arrays(arrays, labels, limit, f"{path}:{keys}", inputs)
        if not keys:
            if len(archive.files) != 1:
                raise DataError(f"{path} has {len(archive.files)} arrays ({available}): say which, as {path}:KEY.")
            keys = archive.files[0]
        return _from_arrays({_only(inputs, what): get(keys)}, None, limit, f"{path}:{keys}", inputs)


def _from_folder(path: Path, inputs: Sequence[TensorSpec], limit: int, what: str) -> DataSource:
    spec = inputs[0]
    _only(inputs, what)
    if len(spec.shape) != 4:
        raise DataError(
            f"a folder of images for input {spec}: an image input of 4 sizes was expected. Give an .npy file."
        )
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"the folder {path} has no images ({', '.join(sorted(_IMAGE_SUFFIXES))} were looked for).")
    folders = sorted({file.relative_to(path).parts[0] for file in files if len(file.relative_to(path).parts) > 1})
    labelled = bool(folders) and all(len(file.relative_to(path).parts) > 1 for file in files)
    chosen = [files[index] for index in spread(len(files), limit)]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(spec.shape[-1], "RGB")

    def read() -> Iterator[Sample]:
        for file in chosen:
            label = folders.index(file.relative_to(path).parts[0]) if labelled else None
            yield {spec.name: _read_image(file, mode)}, label

    return DataSource(str(path), read, len(chosen), tuple(folders) if labelled else ())


def _read_image(file: Path, mode: str) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise EngineError(f"reading images needs Pillow ({error}): `pip install 'edgekit[convert]'`.") from error
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # Pillow would cut such values off at 255
                raise DataError(
                    f"the image {file} has more than 8 bits a channel (mode {image.mode}): save it with 8, or give an .npy file."
                )
            pixels = np.asarray(image.convert(mode))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {file}: {error}. Remove it, or save it again as PNG.") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def load_function(text: str) -> Callable[..., Any]:
    """Import ``module:function``, the module also from the current folder.

    Args:
        text: such as ``mydata:samples``.

    Raises:
        DataError: there is no such module or function.
    """
    module_name, _, name = text.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise DataError(
            f"cannot import {module_name!r} for {text}: {error}. It is looked for in {here} and the environment."
        ) from error
    except (Exception, SystemExit) as error:  # the module's own code, which may raise anything
        raise DataError(f"{module_name!r} for {text} fails on import: {_said(error)}.") from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{module_name!r} has no function {name!r}.")
    found: Callable[..., Any] = function
    return found


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _steps(function: Callable[[], Any], origin: str) -> Iterator[Any]:
    """What a caller's function gives, its own errors named as such."""
    try:
        yield from function()
    except EdgekitError:
        raise
    except Exception as error:  # the caller's code may raise anything
        raise DataError(f"{origin} raised {_said(error)}.") from error


def _from_function(function: Callable[[], Any], inputs: Sequence[TensorSpec], limit: int, origin: str) -> DataSource:
    try:
        first = function()
    except EdgekitError:
        raise
    except Exception as error:  # the caller's code may raise anything
        raise DataError(f"{origin} raised {_said(error)}.") from error
    if isinstance(first, np.ndarray | Mapping) or _is_pair_of_arrays(first, inputs):
        return open_data(first, inputs, limit, origin)
    if not isinstance(first, Iterable):
        raise DataError(f"{origin} returned {type(first).__name__}: an iterable of samples was expected.")
    total = min(len(first), limit) if isinstance(first, Sized) else None
    if isinstance(first, Iterator) and function() is first:
        raise DataError(f"{origin} returns the same iterator each time, and conversion reads the data several times.")

    def read() -> Iterator[Sample]:
        count = 0
        for item in _steps(function, origin):
            for sample in _samples(item, inputs, origin):
                if count == limit:
                    return
                count += 1
                yield sample

    return DataSource(origin, read, total)


def _samples(item: Any, inputs: Sequence[TensorSpec], origin: str) -> Iterator[Sample]:
    """Split what one step of an iterator gave: a sample, a batch, either with labels, or a dict by input name."""
    labels: Any = None
    if isinstance(item, tuple) and len(item) == 2 and (len(inputs) == 1 or isinstance(item[0], Mapping)):
        item, labels = item
    elif isinstance(item, list) and len(item) == 2 and len(inputs) == 1 and _unlike(*item):
        item, labels = item  # PyTorch's loaders give lists
    if isinstance(item, Mapping):
        names = {spec.name for spec in inputs}
        named = {str(name): _array(value, origin) for name, value in item.items()}
        if "y" in named and "y" not in names:
            labels = named.pop("y")
        if "x" in named and "x" not in names and len(inputs) == 1:
            named[inputs[0].name] = named.pop("x")
    elif isinstance(item, list | tuple) and len(inputs) > 1 and len(item) == len(inputs):
        named = {spec.name: _array(value, origin) for spec, value in zip(inputs, item, strict=True)}
    else:
        named = {_only(inputs, origin): _array(item, origin)}
    missing = [spec.name for spec in inputs if spec.name not in named]
    if missing:
        raise DataError(f"{origin}: a sample has {', '.join(named)}, and lacks the input {', '.join(missing)}.")
    first = named[inputs[0].name]
    if first.ndim < len(inputs[0].shape):
        yield named, labels
        return
    batch = dict(named)
    if labels is not None:
        batch["labels"] = labels = _array(labels, f"{origin}: labels")
    if any(value.shape[:1] != first.shape[:1] for value in batch.values()):
        seen = ", ".join(f"{name} {list(value.shape)}" for name, value in batch.items())
        raise DataError(f"{origin}: a batch with different numbers of samples: {seen}.")
    for index in range(len(first)):
        yield {name: value[index] for name, value in named.items()}, None if labels is None else labels[index]


def _unlike(first: Any, second: Any) -> bool:
    """Whether two arrays are of different shapes, and so cannot be two samples of a batch."""
    shapes = getattr(first, "shape", None), getattr(second, "shape", None)
    return None not in shapes and tuple(shapes[0]) != tuple(shapes[1])  # type: ignore[arg-type]
