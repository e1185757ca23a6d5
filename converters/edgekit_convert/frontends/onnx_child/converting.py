"""A model with known sizes becomes a TensorFlow function, and that a float ``.tflite``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx2tf
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgekit_convert.frontends.onnx_child.layouts import between, channels_last, original
from edgekit_convert.frontends.onnx_child.refusal import RefusedError, first_line

#: onnx2tf runs models with three channels on images, which it fetches where this file is not in the current folder.
_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"


class NotConvertedError(Exception):
    """The converter does not take the model in this way; another way may do."""


class ForeignOperatorsError(Exception):
    """TensorFlow has operators for it that TFLite does not have.

    Attributes:
        operators: their names.
        places: where they lie in the TensorFlow function.
    """

    def __init__(self, operators: str, places: set[str]) -> None:
        super().__init__(operators)
        self.operators = operators
        self.places = places


@dataclass(frozen=True)
class Network:
    """The model as TensorFlow has it.

    Attributes:
        keras: the Keras model.
        layouts: of its inputs, in order; see ``layouts``.
    """

    keras: Any
    layouts: tuple[tuple[int, ...], ...]

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Run on inputs in order, in the original's layout.

        Returns:
            The outputs in order, in whatever layout the network has them.
        """
        results = self.call([
            tf.constant(np.ascontiguousarray(np.transpose(value, layout)))
            for value, layout in zip(values, self.layouts, strict=True)
        ])  # fmt: skip
        return [np.asarray(item) for item in results]

    def call(self, tensors: Sequence[Any]) -> list[Any]:
        """Run on tensors in order, in its own layouts."""
        result = self.keras(list(tensors) if len(tensors) > 1 else tensors[0], training=False)
        return list(result) if isinstance(result, list | tuple) else [result]


def to_network(model: Any, channels_first: Sequence[str], *, turn: bool, folder: str) -> Network:
    """Convert with onnx2tf.

    Args:
        model: the ``ModelProto``: sizes known, plain names.
        channels_first: the inputs that have their channels second.
        turn: whether these become inputs with the channels last; else the operators inside are turned, one by one.
        folder: for files in between.

    Raises:
        NotConvertedError: onnx2tf does not take it.
    """
    names = [item.name for item in model.graph.input]
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in model.graph.input}
    turned = [name for name in names if turn and name in channels_first]
    kept = [name for name in names if name not in turned]
    path = os.path.join(folder, "model.onnx")
    onnx.save(model, path)
    if not os.path.exists(_IMAGES):
        images = np.random.default_rng(0).uniform(0, 1, (20, 128, 128, 3)).astype(np.float32)
        np.save(_IMAGES, images)
    options: dict[str, Any] = {}
    if int(onnx2tf.__version__.split(".")[0]) >= 2:
        options["tflite_backend"] = "tf_converter"
    try:
        keras = onnx2tf.convert(
            input_onnx_file_path=path,
            output_folder_path=os.path.join(folder, "saved_model"),
            not_use_onnxsim=True,
            disable_model_save=True,
            keep_shape_absolutely_input_names=kept or None,
            onnxruntime_output_memmap_dir=folder,
            enable_rnn_unroll=True,  # a loop's insides have no ranges that could be measured
            verbosity="error",
            **options,
        )
    except (Exception, SystemExit) as error:  # onnx2tf ends the process where it gives up, or raises whatever came up
        raise NotConvertedError(_explain(error)) from error
    layouts = tuple(channels_last(ranks[name]) if name in turned else original(ranks[name]) for name in names)
    network = Network(keras, layouts)
    if len(keras.inputs) != len(names) or len(keras.outputs) != len(model.graph.output):
        raise NotConvertedError(
            f"onnx2tf made {len(keras.inputs)} inputs and {len(keras.outputs)} outputs of {len(names)} and "
            f"{len(model.graph.output)}"
        )
    return network


def _explain(error: BaseException) -> str:
    """What onnx2tf said of its failure, with the operator where it names one."""
    if isinstance(error, SystemExit):
        return "onnx2tf gave up on it"
    place = getattr(error, "onnx_op_name", None)
    text = f"onnx2tf: {type(error).__name__}: {first_line(error)}"
    return f"{text}, at {place!r}" if place else text


def to_tflite(
    network: Network,
    inputs: Sequence[tuple[str, tuple[int, ...]]],
    outputs: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]],
) -> bytes:
    """Convert a network into a ``.tflite`` with inputs and outputs in chosen layouts.

    Args:
        network: what ``to_network`` made.
        inputs: name and layout in the file, in order.
        outputs: name, layout in the network, and layout in the file, in order.

    Returns:
        The flatbuffer, with the signature ``serving_default``.

    Raises:
        ForeignOperatorsError: something in it has no form in TFLite.
        RefusedError: TensorFlow's converter does not take it.
    """
    specs: dict[str, Any] = {}
    for (name, layout), tensor, own in zip(inputs, network.keras.inputs, network.layouts, strict=True):
        shape = [tensor.shape[place] for place in between(own, layout)]
        specs[name] = tf.TensorSpec(shape, tensor.dtype, name=name)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def traced(**arguments: Any) -> Any:
        tensors = []
        for (name, layout), own in zip(inputs, network.layouts, strict=True):
            tensors.append(_turned(arguments[name], between(layout, own)))
        results = network.call(tensors)
        return {
            name: tf.identity(_turned(result, between(have, want)))
            for (name, have, want), result in zip(outputs, results, strict=True)
        }

    try:
        frozen = convert_variables_to_constants_v2(traced.get_concrete_function(**specs))
        order = [tensor.name.split(":")[0] for tensor in frozen.inputs]
        names = sorted(name for name, _, _ in outputs)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
        def serve(**arguments: Any) -> Any:
            results = frozen(*[arguments[name] for name in order])
            results = list(results) if isinstance(results, list | tuple) else [results]
            return dict(zip(names, results, strict=True))

        module = tf.Module()
        module.frozen = frozen
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            signature = serve.get_concrete_function(**specs)
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, folder, signatures={"serving_default": signature}, options=options)
            content: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
            return content
    except Exception as error:  # TensorFlow raises its own, Python's and MLIR's errors here, all about the model
        raise _refusal(error) from error


def _turned(tensor: Any, order: Sequence[int]) -> Any:
    return tensor if list(order) == sorted(order) else tf.transpose(tensor, order)


def _refusal(error: Exception) -> Exception:
    text = str(error)
    match = re.search(r"(?:Flex ops|TF Select ops|Custom ops): ([^\n]+)", text)
    if match:
        return ForeignOperatorsError(match.group(1).strip(), set(re.findall(r'"([A-Za-z][\w/.]*)@__inference', text)))
    return RefusedError(
        "conversion",
        f"TensorFlow could not turn this model into a float .tflite: {type(error).__name__}: {first_line(error)}",
    )


def run_tflite(content: bytes, values: Mapping[str, Any]) -> dict[str, Any]:
    """Run a ``.tflite`` on inputs by name, in its own layouts.

    Args:
        content: the flatbuffer.
        values: inputs by the signature's names.

    Raises:
        RefusedError: the interpreter does not take it.
    """
    kernels = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=kernels)
        results: dict[str, Any] = interpreter.get_signature_runner("serving_default")(**values)
    except (ValueError, RuntimeError) as error:
        raise RefusedError("conversion", f"the float .tflite does not run: {first_line(error)}") from error
    return results
