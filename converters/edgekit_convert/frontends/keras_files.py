"""Keras's files: ``.keras`` archives and folders, ``.h5`` of Keras 1 to 3, weights alone; read with Keras 3, else with tf-keras.

No file's code runs without the user's word: what is in the file is looked through before Keras sees it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import AlreadyQuantisedError, ConversionError, ModelFileError, from_os_error
from edgekit_convert.frontends import foreign, keras_config
from edgekit_convert.frontends.foreign import model_of
from edgekit_convert.frontends.freeze import import_tensorflow

_CONFIG, _METADATA = "config.json", "metadata.json"
_AGAIN = "Copy it again, or save the model again."


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line: of Keras's chains, which repeat whole configurations, the last link."""
    text = str(error)
    _, mark, cause = text.rpartition("Exception encountered:")
    return foreign.first_line(ValueError(cause)) if mark and cause.strip() else foreign.first_line(error)


@dataclass(frozen=True)
class KerasFile:
    """A file of Keras's, of which only the description was read.

    Attributes:
        path: where it is; a folder for an unpacked archive.
        suffix: what Keras expects its name to end with, ``".keras"`` or ``".h5"``.
        config: the model's configuration; ``None`` where the file holds weights alone.
        version: of the Keras that wrote it, such as ``"2.15.0"``; ``""`` where it does not say.
    """

    path: Path
    suffix: str
    config: Any
    version: str


def read_archive(path: Path) -> KerasFile:
    """Look into a ``.keras`` archive, or the folder that one was unpacked to.

    Raises:
        ModelFileError: it is damaged.
    """
    texts: dict[str, bytes] = {}
    try:
        if path.is_dir():
            texts = {name: (path / name).read_bytes() for name in (_CONFIG, _METADATA) if (path / name).is_file()}
        else:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
                texts = {name: archive.read(name) for name in (_CONFIG, _METADATA) if name in names}
                spoiled = archive.testzip()  # Keras reads the weights without looking at their checksum
                if spoiled is not None:
                    raise zipfile.BadZipFile(f"the checksum of {spoiled} in it is another")
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {first_line(error)}. {_AGAIN}") from error
    config = _parsed(path, _CONFIG, texts[_CONFIG])
    metadata = _parsed(path, _METADATA, texts.get(_METADATA, b"{}"))
    if not (isinstance(config, dict) and "class_name" in config):
        raise ModelFileError(
            f"{path} is no Keras model: its {_CONFIG} describes none. A .keras file of a whole model was expected."
        )
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    return KerasFile(path, ".keras", config, str(version))


def read_h5(path: Path) -> KerasFile:
    """Look into an ``.h5`` file.

    Raises:
        ModelFileError: it is damaged, or no file of Keras's.
    """
    try:
        import h5py
    except ImportError as error:
        raise ConversionError(f"reading {path} needs h5py ({error}): `pip install 'edgekit[convert]'`.") from error
    try:
        with h5py.File(path, "r") as file:
            text, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
            content = ", ".join(list(file)[:5])
            weights = text is not None or "layer_names" in file.attrs or _is_weights(file)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged or cut short: {first_line(error)}. {_AGAIN}") from error
    if not weights:
        raise ModelFileError(
            f"{path} is an HDF5 file and not one of Keras's: it holds {content or 'nothing'}. A model saved by Keras was expected."
        )
    config = None if text is None else _parsed(path, "model_config", text)
    return KerasFile(path, ".h5", config, _text(version))


def _is_weights(file: Any) -> bool:
    """Whether the groups are those of ``model.save_weights`` in Keras 3 (``layers``) or of a whole model."""
    return any(name in file for name in ("layers", "_layer_checkpoint_dependencies", "model_weights", "vars"))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _parsed(path: Path, part: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its {part} is not JSON ({error}). {_AGAIN}") from error


def load(file: KerasFile, *, trusted: bool) -> tuple[Any, tuple[str, ...]]:
    """Load a whole model.

    Args:
        file: what was looked into.
        trusted: whether code that is in it may be run.

    Returns:
        The model, and what was done to read it.

    Raises:
        AlreadyQuantisedError: Keras quantised it.
        ConversionError: it has code or classes that Keras does not have, or neither Keras reads it.
        ModelFileError: it is damaged.
    """
    keras = import_keras()
    _check(file, keras, trusted)
    if trusted:
        _lend_names(keras)
    try:
        with named(file.path, file.suffix) as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.models.load_model(path, compile=False, safe_mode=not trusted), _said_trusted(file, trusted)
    except Exception as error:  # Keras raises its own, Python's and zip errors here, all about the file
        first = error
    if file.version.startswith("3") or isinstance(first, zipfile.BadZipFile):
        raise _refused(file, first, keras) from first
    model = _load_old(file, first, keras, trusted)
    old = f"written by Keras {file.version}" if file.version else "an old file"
    note = f"{old}: Keras 3 refused it ({first_line(first)}); it was read with tf-keras."
    return model, (note, *_said_trusted(file, trusted))


def _load_old(file: KerasFile, first: Exception, keras: Any, trusted: bool) -> Any:
    """Load with tf-keras, which is Keras 2, what Keras 3 refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tf_keras
            from tf_keras.src.saving.serialization_lib import SafeModeScope
    except ImportError as error:
        raise ConversionError(
            f"{_refused(file, first, keras)} Files of Keras 2 need tf-keras: `pip install 'edgekit[convert]'`."
        ) from error
    if not trusted:
        wanted = keras_config.not_for_tf_keras(file.config, _registered(tf_keras))
        if wanted:
            raise ConversionError(
                f"{file.path} names {', '.join(wanted[:5])}, which is no part of a network: loading the file would import and call "
                "it. Nothing of it was run. Save the model without it; or say --trust-source (trust_source=True) if you know who "
                "made the file."
            )
    try:
        with named(file.path, file.suffix) as path, warnings.catch_warnings(), SafeModeScope(not trusted):
            warnings.simplefilter("ignore")
            return tf_keras.models.load_model(path, compile=False)
    except Exception as error:  # as with Keras 3
        refused = _refused(file, first, keras)
        if isinstance(refused, ModelFileError) or str(error).startswith("Unknown"):
            raise refused from error
        raise ConversionError(f"{refused} tf-keras refused it as well: {first_line(error)}.") from error


def fill(file: KerasFile, factory: Callable[[], Any] | str, build: Callable[[Any], None]) -> Any:
    """Put the weights of a file into a model that the caller's function makes.

    Args:
        file: weights alone, or a whole model of which the weights are taken.
        factory: the function, or ``module:function``.
        build: makes the variables of a model that has none yet.

    Raises:
        OptionError: there is no such function, or it makes no Keras model.
        ConversionError: the weights are not this model's.
    """
    import_keras()
    model, name = model_of(factory, is_keras_model, "a Keras model", file.path, first_line)
    build(model)
    try:
        with named(file.path, _weights_suffix(file)) as path, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras warns of weights that it has no place for
            model.load_weights(path)
    except (Exception, UserWarning) as error:  # Keras raises its own and h5py's errors here
        raise ConversionError(
            f"the weights in {file.path} are not those of the model that {name} makes: {first_line(error)}. Give with --model the "
            "function that makes the network that was trained."
        ) from error
    return model


def is_keras_model(item: Any) -> bool:
    """Whether it is a model of Keras 3 or of tf-keras."""
    for family in ("keras", "tf_keras"):
        module = sys.modules.get(family)
        if module is not None and isinstance(item, module.Model):
            return True
    return False


def _weights_suffix(file: KerasFile) -> str:
    """What Keras tells the two forms of weights in HDF5 apart by."""
    if file.suffix == ".keras":
        return ".keras"
    import h5py

    with h5py.File(file.path, "r") as content:
        old = "layer_names" in content.attrs or "model_weights" in content
    return ".h5" if old else ".weights.h5"


def _check(file: KerasFile, keras: Any, trusted: bool) -> None:
    """Refuse what may not or cannot be loaded, by what the configuration says."""
    quantised = keras_config.quantised_layers(file.config)
    if quantised:
        raise AlreadyQuantisedError(
            f"{file.path} is quantised already: Keras made {_listed(quantised)} int8 or float8. A float model was expected: save "
            "it before `model.quantize`."
        )
    code = keras_config.layers_with_code(file.config)
    if code and not trusted:
        raise ConversionError(
            f"{file.path} has code in it, which would run on loading: the Lambda {_layers(code)}. edgekit does not run code from "
            "a model file unless told to, and nothing of it was run. Save the model with a layer class of your own or Keras's "
            "operations in its place; or say --trust-source (trust_source=True) if you know who made the file."
        )
    for layer, what in keras_config.programs(file.config):
        if not trusted:
            raise ConversionError(
                f"{file.path}: the layer {layer} is {what}. edgekit does not run code from a model file unless told to, and nothing "
                "of it was run. Convert that model itself, or save this one without it."
            )
    old = sys.modules.get("tf_keras")
    strange = keras_config.strangers(file.config, _registered(keras, *([old] if old is not None else [])))
    if strange and not (trusted and not file.version.startswith("3")):
        raise ConversionError(_strange(file, [str(item) for item in strange]))


def _strange(file: KerasFile, names: list[str]) -> str:
    return (
        f"{file.path} uses {_listed(names)}, whose code is not in the file. Give a function that makes the model (--model "
        "module:function): the weights are read from this file. Or import the module that registers the class "
        "(keras.saving.register_keras_serializable) in your own program, and call edgekit.convert there."
    )


def _registered(*families: Any) -> Callable[[str], bool]:
    """Whether this program has registered a name with one of these Keras."""
    return lambda name: any(family.saving.get_registered_object(name) is not None for family in families)


def _refused(file: KerasFile, error: Exception, keras: Any) -> ConversionError | ModelFileError:
    text = str(error)
    unknown = _unknown_name(text)
    if unknown:
        return ConversionError(_strange(file, [unknown]))
    damaged = (zipfile.BadZipFile, EOFError)
    if isinstance(error, damaged) or "Unable to" in text or "truncated" in text or "bad object header" in text:
        return ModelFileError(f"{file.path} is damaged or cut short: {first_line(error)}. {_AGAIN}")
    if "bad marshal data" in text:
        return ConversionError(
            f"{file.path} has code that another version of Python wrote, and this one ({sys.version_info[0]}.{sys.version_info[1]}) "
            "cannot read it. Convert with the Python that saved the model, or save the model without Lambda layers."
        )
    return ConversionError(f"Keras cannot load {file.path}: {first_line(error)}.")


def _unknown_name(text: str) -> str | None:
    """The class that Keras looked for in vain."""
    match = re.search(r"Unknown \w+(?: \w+)?: '([^']+)'|Could not locate (?:class|function) '([^']+)'", text)
    return (match.group(1) or match.group(2)) if match else None


def _said_trusted(file: KerasFile, trusted: bool) -> tuple[str, ...]:
    code = keras_config.layers_with_code(file.config) if trusted else []
    return (f"code from the file was run, as --trust-source says: the Lambda {_layers(code)}.",) if code else ()


def _layers(names: list[str]) -> str:
    return f"layer{'s' if len(names) > 1 else ''} {_listed(names)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _lend_names(keras: Any) -> None:
    """Let the code of trusted Lambda layers find the modules that such code is written with; Keras keeps none of its globals."""
    import numpy as np
    from keras.src.utils import python_utils

    names = {
        "tf": import_tensorflow(),
        "np": np,
        "keras": keras,
        "ops": keras.ops,
        "K": keras.backend,
        "layers": keras.layers,
    }
    for name, module in names.items():
        vars(python_utils).setdefault(name, module)


@contextlib.contextmanager
def named(path: Path, suffix: str) -> Iterator[str]:
    """The file under a name that ends as Keras wants it to, which goes by names."""
    path = path.resolve()
    if path.is_dir() or path.name.endswith(suffix):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        other = Path(folder) / f"model{suffix}"
        try:
            other.symlink_to(path)
        except OSError:  # a system without links
            shutil.copyfile(path, other)
        yield str(other)


def import_keras() -> Any:
    """Import Keras 3 on TensorFlow, whatever the user's own setting is.

    Raises:
        ConversionError: it is not installed, or this program uses it on another backend already.
    """
    before = os.environ.get("KERAS_BACKEND")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import_tensorflow()
        try:
            import keras
        except ImportError as error:
            raise ConversionError(f"this source needs Keras ({error}): `pip install 'edgekit[convert]'`.") from error
    finally:
        if before is None:
            os.environ.pop("KERAS_BACKEND", None)
        else:
            os.environ["KERAS_BACKEND"] = before
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on {keras.backend.backend()} in this program: models are converted with it on TensorFlow. Save the model "
            "(`model.save('model.keras')`), and convert that file from the command line or in a program with "
            "KERAS_BACKEND=tensorflow."
        )
    return keras
