"""A TensorFlow function becomes a float ``.tflite`` with fixed shapes, named inputs and a signature.

Variables are turned into constants first: the converter then folds batch normalisation into convolutions, which it
does not do for variables that it must keep.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekit.errors import ConversionError
from edgekit_convert import graph as editing


def import_tensorflow() -> Any:
    """Import TensorFlow, quietly.

    Raises:
        ConversionError: it is not installed.
    """
    import logging
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with warnings.catch_warnings():
            # Deprecations between TensorFlow and its own dependencies are no business of the user's.
            warnings.simplefilter("ignore")
            import tensorflow
    except ImportError as error:
        raise ConversionError(
            f"this source needs TensorFlow ({error}): `pip install 'edgekit[convert]'`. A float .tflite needs it not."
        ) from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow


def to_float_tflite(
    function: Callable[[dict[str, Any]], Mapping[str, Any]], shapes: Mapping[str, tuple[tuple[int, ...], str]]
) -> bytes:
    """Convert a function of named tensors.

    Args:
        function: takes tensors by input name, returns tensors by output name.
        shapes: fixed shape and dtype by input name.

    Returns:
        The flatbuffer, with the signature ``serving_default``.

    Raises:
        ConversionError: TensorFlow or its converter refused the model.
    """
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = {name: tf.TensorSpec(shape, dtype, name=_argument(name)) for name, (shape, dtype) in shapes.items()}
    names = {_argument(name): name for name in shapes}
    if len(names) != len(shapes):
        raise ConversionError(
            f"the input names {', '.join(shapes)} are not distinct as identifiers: rename the inputs."
        )

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def traced(**arguments: Any) -> Any:
        return dict(function({names[key]: value for key, value in arguments.items()}))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            concrete = traced.get_concrete_function(**{_argument(name): spec for name, spec in specs.items()})
            outputs = sorted(concrete.structured_outputs)
            frozen = convert_variables_to_constants_v2(concrete)
            order = [tensor.name.split(":")[0] for tensor in frozen.inputs]

            @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
            def serve(**arguments: Any) -> Any:
                results = frozen(*[arguments[key] for key in order])
                results = list(results) if isinstance(results, list | tuple) else [results]
                return dict(zip(outputs, results, strict=True))

            module = tf.Module()
            module.frozen = frozen
            with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
                signature = serve.get_concrete_function(**{_argument(name): spec for name, spec in specs.items()})
                # Gradients of one's own (swish has one) cannot be saved without their variables, and are not needed.
                options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
                tf.saved_model.save(module, folder, signatures={"serving_default": signature}, options=options)
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                return _own_names_and_order(converter.convert(), names, outputs)
    except ConversionError:
        raise
    except Exception as error:  # TensorFlow raises its own, Python's and MLIR's errors here, all about the model
        raise ConversionError(_explain(error)) from error


def _own_names_and_order(flatbuffer: bytes, names: Mapping[str, str], outputs: Sequence[str]) -> bytes:
    """Undo what the way through TensorFlow changed: input names made identifiers, and the order of the outputs.

    Args:
        flatbuffer: what the converter made.
        names: the source's input names by identifier.
        outputs: output names in the source's order.
    """
    edited = editing.read(flatbuffer)
    (signature,) = edited.signatureDefs
    for item in signature.inputs:
        item.name = names[item.name.decode()].encode()
    order = {item.name.decode(): int(item.tensorIndex) for item in signature.outputs}
    edited.subgraphs[0].outputs = [order[name] for name in outputs]
    return editing.write(edited)


def _argument(name: str) -> str:
    """An input's name as an identifier, which TensorFlow's keyword arguments need."""
    cleaned = re.sub(r"\W", "_", name)
    return cleaned if cleaned and not cleaned[0].isdigit() else f"input_{cleaned}"


def _explain(error: Exception) -> str:
    text = str(error)
    flex = re.search(r"(?:Flex ops|TF Select ops): ([^\n]+)", text)
    custom = re.search(r"Custom ops: ([^\n]+)", text)
    if flex or custom:
        names = (flex or custom).group(1).strip()  # type: ignore[union-attr]  # one of them matched
        return (
            f"the model uses operators that TFLite does not have: {names}. The interpreters that pip installs cannot run "
            "them; replace the layers that make them with others."
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"TensorFlow could not turn this model into a float .tflite: {type(error).__name__}: {first[:400]}"
