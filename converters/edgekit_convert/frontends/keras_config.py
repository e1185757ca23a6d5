"""A Keras model's configuration, looked through before Keras makes anything of it: code, strangers' classes, quantised layers.

Keras stores a model as JSON that names classes, functions and the modules to import them from; a Lambda layer has its byte code
in it. Keras 3 imports from itself alone, tf-keras from wherever the file says, so that what goes to tf-keras is held to
Keras's own names first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

#: Layers that hold or load a whole program of another kind.
_PROGRAMS = {
    "TorchModuleWrapper": "a pickled PyTorch module, and reading a pickle runs code",
    "TFSMLayer": "a SavedModel from a folder that the file names",
}
_KERAS_MODULE = re.compile(r"(tf_)?keras(_hub|_nlp|_cv)?(\.\w+)*")
#: Where a configuration may take functions from; Keras stores most as ``builtins``, to be found by name in these.
_FUNCTIONS = re.compile(
    r"builtins|(tf_)?keras\.(activations|initializers|regularizers|constraints|losses|metrics|ops|nn|backend|layers)(\.\w+)*"
)
#: Parts of TensorFlow's API that a layer of a single operation (``TFOpLambda``) has no honest use for: they reach outside of the
#: model or make others.
_SYMBOLS_OUTSIDE = re.compile(
    r"(compat\.v[12]\.)?(io|py_func\w*|numpy_function|load_\w+|raw_ops|train|saved_model|summary|data|debugging|config|autograph"
    r"|profiler|sysconfig|test|tools|distribute|lookup|experimental|estimator|gfile|python_io|app|flags|logging|resource_loader"
    r"|user_ops|read_file|write_file|matching_files|print|Print|__internal__"
    r"|keras\.(utils|models|saving|preprocessing|datasets|callbacks))(\..*)?"
)


@dataclass(frozen=True)
class Stranger:
    """Something that a configuration names and Keras does not have.

    Attributes:
        name: of the class or function, with its package where it was registered in one.
        module: where it came from, or ``""``.
    """

    name: str
    module: str

    def __str__(self) -> str:
        return f"{self.name} (of {self.module})" if self.module else self.name


def layers_with_code(config: Any) -> list[str]:
    """Names of the layers whose byte code is in the configuration."""
    found = []
    for item, layer in _walk(config, ""):
        inner = item.get("config")
        kinds = (
            [inner.get(f"{what}_type") for what in ("function", "output_shape", "mask")]
            if isinstance(inner, dict)
            else []
        )
        if item.get("class_name") == "__lambda__" or "lambda" in kinds:
            found.append(layer or "a layer without a name")
    return list(dict.fromkeys(found))


def programs(config: Any) -> list[tuple[str, str]]:
    """Layers that hold or load a program: their names, and what it is."""
    return [
        (layer, _PROGRAMS[item["class_name"]])
        for item, layer in _walk(config, "")
        if item.get("class_name") in _PROGRAMS
    ]


def quantised_layers(config: Any) -> list[str]:
    """Names of the layers that Keras quantised (``model.quantize``)."""
    return list(
        dict.fromkeys(
            layer
            for item, layer in _walk(config, "")
            if re.match(r"(Quantized|Int8|Float8)\w*DTypePolicy", str(item.get("class_name")))
        )
    )


def strangers(config: Any, registered: Callable[[str], bool]) -> list[Stranger]:
    """Classes and functions that are not Keras's own and that this program has not registered.

    Args:
        config: the configuration.
        registered: whether this program has registered a name (``keras.saving.register_keras_serializable``).
    """
    found = []
    for item, _ in _walk(config, ""):
        name, module = _named(item)
        known = str(item.get("registered_name") or name)
        if ">" in name and not module:  # as .h5 files name registered classes
            foreign = True
        else:
            foreign = bool(module) and module != "builtins" and not _KERAS_MODULE.fullmatch(module)
        if foreign and not (registered(known) or registered(name)):
            found.append(Stranger(known if ">" in known else name, module))
    return list(dict.fromkeys(found))


def not_for_tf_keras(config: Any, registered: Callable[[str], bool]) -> list[str]:
    """What tf-keras would import or call that is no part of a network.

    Args:
        config: the configuration.
        registered: whether this program has registered a name with tf-keras.
    """
    found = []
    for item, _ in _walk(config, ""):
        name, module = _named(item)
        inner = item.get("config")
        if module and not (registered(str(item.get("registered_name"))) or registered(name)):
            allowed = _FUNCTIONS if item.get("class_name") == "function" else _KERAS_MODULE
            if not (allowed.fullmatch(module) or module == "builtins") or not re.fullmatch(r"\w+", name):
                found.append(f"{module}.{name}")
        if isinstance(inner, dict) and item.get("class_name") in ("TFOpLambda", "ClassMethod"):
            symbol = str(inner.get("function", inner.get("cls_symbol")))
            if _SYMBOLS_OUTSIDE.fullmatch(symbol):
                found.append(f"tf.{symbol}")
        if isinstance(inner, dict) and str(inner.get("attr_name", "")).startswith("_"):
            found.append(str(inner["attr_name"]))
    return list(dict.fromkeys(found))


def _named(item: dict[str, Any]) -> tuple[str, str]:
    """The name of what an item stands for, and its module."""
    name = item.get("config") if item.get("class_name") == "function" else item.get("class_name", item.get("spec_name"))
    module = item.get("module")
    return str(name) if isinstance(name, str) else "", module if isinstance(module, str) else ""


def _walk(item: Any, layer: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object of a configuration that has a class, with the name of the layer that it is in."""
    if isinstance(item, dict):
        inner = item.get("config")
        if "class_name" in item or "module" in item:
            own = item.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
            layer = own if isinstance(own, str) else layer
            yield item, layer
        for value in item.values():
            yield from _walk(value, layer)
    elif isinstance(item, list):
        for value in item:
            yield from _walk(value, layer)
