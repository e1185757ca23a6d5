"""Float ``.tflite`` and ranges in, quantised ``.tflite`` out. litert-quantizer rewrites the types of whole graphs."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, OptionError, one_of
from edgekit_convert import graph as editing
from edgekit_convert.quantize.edges import float_outputs, has_read_outputs, integer_inputs, integer_outputs
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.quantize.stored import store_weights
from edgekit_convert.ranges import Ranges

#: What each recipe's file may have as inputs and outputs, its natural type first.
_IO: dict[str, tuple[str, ...]] = {
    "auto": ("int8", "uint8", "float32"),
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("int16", "float32"),
    "dynamic": ("float32",),
    "float16": ("float32",),
    "weights": ("float32",),
}
RECIPES: tuple[str, ...] = tuple(_IO)
#: Recipes whose activations are quantised with ranges from calibration; the others compute or start in float.
STATIC_RECIPES: frozenset[str] = frozenset({"auto", "int8", "int16x8"})
IO_TYPES: tuple[str, ...] = ("int8", "uint8", "int16", "float32")
#: The range of a tensor that is zero on all calibration data: the smallest scale that stands for it otherwise is one
#: that XNNPACK refuses (it takes input scale · weight scale / output scale from 2^-32 to 2^8).
_DEAD = (0.0, 1.0)
#: litert-quantizer names some operators otherwise than the schema.
_RENAMED = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV", "CUSTOM_OP": "CUSTOM"}


def io_for(recipe: str, io: str | None) -> str:
    """The type of a file's inputs and outputs.

    Args:
        recipe: one of ``RECIPES``.
        io: what was asked for; ``None`` for the recipe's natural type: int8 for int8, int16 for int16x8, else float32.

    Raises:
        OptionError: the recipe or the type does not exist, or they do not go together.
    """
    possible = _IO[one_of(recipe, RECIPES, "recipe")]
    if io is None:
        return possible[0]
    if one_of(io, IO_TYPES, "io") not in possible:
        others = [name for name, types in _IO.items() if io in types]
        raise OptionError(
            f"a file of recipe {recipe!r} cannot have {io} inputs and outputs: expected {' or '.join(possible)}, "
            f"or another recipe ({', '.join(others)})."
        )
    return io


def quantize(
    float_model: bytes,
    ranges: Ranges | None,
    io_type: str,
    *,
    recipe: str = "int8",
    layers: Mapping[str, str] | None = None,
    dense_one_scale: bool = False,
) -> bytes:
    """Rewrite the types of a float graph.

    Args:
        float_model: the pivot, all sizes fixed.
        ranges: lowest and highest value of each activation; ``None`` for recipes that need none.
        io_type: the type of the file's inputs and outputs, see ``io_for``; ``uint8`` gives int8 here, see
            ``graph.uint8_edges``.
        recipe: ``int8`` and ``auto``: int8 activations, int8 weights per channel, int32 biases, in every operator that
            has such a form. ``int16x8``: the same with int16 activations, whose zero points are 0, and int64 biases.
            ``float16``, ``weights``: weights stored in float16 or int8 and computed with as floats. ``dynamic``: int8
            weights, activations quantised at run time in CONV_2D and FULLY_CONNECTED; other layers as ``weights``.
        layers: for ``int8`` and ``auto``, operators that get another type, see ``mixed.with_types``.
        dense_one_scale: for the same, whether the weights of FULLY_CONNECTED get one scale instead of one for each row: older
            TensorFlow Lite reads no more than one, the Edge TPU compiler's among it.

    Returns:
        The flatbuffer. Biases of channels with nearly no weights may have overflowed: see ``refine.scales``.

    Raises:
        ConversionError: litert-quantizer is missing, or refused the model.
        OptionError: the recipe, the type and the layers do not go together.
    """
    io_for(recipe, io_type)
    if layers and recipe not in ("auto", "int8"):
        raise OptionError(f"single layers get another type under the recipes auto and int8, not under {recipe!r}.")
    if recipe in ("float16", "weights"):
        return store_weights(float_model, "float16" if recipe == "float16" else "int8")
    if recipe == "dynamic":
        return store_weights(_rewrite(float_model, None, recipe, io_type), "int8")
    if ranges is None:
        raise OptionError(f"the recipe {recipe!r} needs ranges: measure them on representative data.")
    quantised = _rewrite(float_model, ranges, recipe, io_type, dense_one_scale=dense_one_scale)
    return with_types(quantised, float_model, ranges, layers) if layers else quantised


def _rewrite(
    float_model: bytes, ranges: Ranges | None, recipe: str, io_type: str, *, dense_one_scale: bool = False
) -> bytes:
    """Let litert-quantizer rewrite the graph."""
    check_installed()
    from litert_quantizer import quantizer

    statistics = None
    if ranges is not None:
        statistics = {
            name: {"min": np.array(low, np.float32), "max": np.array(high, np.float32)}
            for name, (low, high) in ((name, _DEAD if pair == (0.0, 0.0) else pair) for name, pair in ranges.items())
        }
    read_inside = recipe in STATIC_RECIPES and io_type == "float32" and has_read_outputs(float_model)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # The second of its two progress bars has no switch.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")  # of overflowing biases, which are mended afterwards
        try:
            work = quantizer.Quantizer(bytearray(float_model))
            _set_recipe(work, recipe, io_type, dense_one_scale, float_outputs=not read_inside)
            result: Any = work.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError, NotImplementedError) as error:
            raise ConversionError(
                f"litert-quantizer cannot rewrite this model: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from error
    return _mended(bytes(result.quantized_model), ranges or {}, io_type, quantised_outputs=read_inside)


def _mended(flatbuffer: bytes, ranges: Ranges, io_type: str, *, quantised_outputs: bool) -> bytes:
    """Bring the constants that litert-quantizer puts behind a flatbuffer into it, and mend the tensors that it forgets.

    As they come from there they would be packed byte by byte, which takes seconds for each of the edits that follow.
    """
    edited = editing.read(flatbuffer)
    _type_unread(edited)
    if io_type != "float32":
        integer_outputs(edited)
        integer_inputs(edited, ranges, io_type)
    elif quantised_outputs:
        float_outputs(edited)
    for buffer in edited.buffers:
        if isinstance(buffer.data, (bytes, bytearray, memoryview)):
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return editing.write(edited)


def _type_unread(edited: Any) -> None:
    """Give outputs that nobody reads the type of the operator's others; a SPLIT of mixed types does not load."""
    main = edited.subgraphs[0]
    read = {int(index) for op in main.operators for index in op.inputs} | {int(index) for index in main.outputs}
    for op in main.operators:
        made = [main.tensors[index] for index in op.outputs]
        typed = [tensor for tensor in made if tensor.quantization is not None and tensor.quantization.scale is not None]
        for index, tensor in zip(op.outputs, made, strict=True):
            if typed and index not in read and tensor.type == editing.schema().TensorType.FLOAT32:
                tensor.type, tensor.quantization = typed[0].type, typed[0].quantization


def _set_recipe(work: Any, recipe: str, io_type: str, dense_one_scale: bool, *, float_outputs: bool) -> None:
    """Say what litert-quantizer shall do; of several rules that fit an operator the last one counts."""
    from litert_quantizer import algorithm_manager, qtyping

    name = qtyping.TFLOperationName
    if recipe == "dynamic":
        # A scale for each output channel, but one for all where tflite-runtime 2.14 multiplies every channel by the first
        # one's scale without a word. What is not named here has no dynamic form everywhere (TRANSPOSE_CONV), or one that
        # is slower than XNNPACK on floats (DEPTHWISE_CONV_2D).
        work.add_dynamic_config(".*", name.CONV_2D, num_bits=8)
        for op in (name.FULLY_CONNECTED, name.EMBEDDING_LOOKUP):
            work.add_dynamic_config(".*", op, num_bits=8, granularity=qtyping.QuantGranularity.TENSORWISE)
        return
    bits = 16 if recipe == "int16x8" else 8
    work.add_static_config(".*", name.ALL_SUPPORTED, bits, 8)
    # Its kernels read one scale: with one for each channel all but the first are wrong (LiteRT 2.3, output at 0 dB).
    work.add_static_config(".*", name.BATCH_MATMUL, bits, 8, qtyping.QuantGranularity.TENSORWISE)
    if dense_one_scale:
        work.add_static_config(".*", name.FULLY_CONNECTED, bits, 8, qtyping.QuantGranularity.TENSORWISE)
    if io_type == "float32":
        for end in (name.INPUT, name.OUTPUT) if float_outputs else (name.INPUT,):
            work.update_quantization_recipe(".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)


def check_installed() -> None:
    """See that litert-quantizer is here, which tells also what has an int8 form.

    Raises:
        ConversionError: it is not installed.
    """
    try:
        importlib.import_module("litert_quantizer.quantizer")
    except ImportError as error:
        raise ConversionError(
            f"this needs litert-quantizer, which quantises and tells what has an int8 form ({error}): "
            "`pip install 'edgekit[convert]'`."
        ) from error


def int8_operators() -> frozenset[str]:
    """Names of the operators that litert-quantizer has an int8 form for.

    Raises:
        ConversionError: it is not installed.
    """
    check_installed()
    from litert_quantizer import qtyping

    return frozenset(_RENAMED.get(item.value, item.value) for item in qtyping.TFLOperationName)


def operators_of(recipe: str) -> frozenset[str]:
    """Names of the operators that have a form under a recipe, by litert-quantizer's own table.

    Args:
        recipe: one of ``RECIPES``.

    Raises:
        ConversionError: it is not installed.
    """
    check_installed()
    from litert_quantizer import default_policy, qtyping

    def fits(config: Any) -> bool:
        activation = config.activation_tensor_config
        if config.weight_tensor_config is None or config.weight_tensor_config.num_bits != 8:
            return False
        if recipe == "dynamic":
            return activation is None
        return activation is not None and activation.num_bits == (16 if recipe == "int16x8" else 8)

    ends = {qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT}
    policy = default_policy.DEFAULT_CONFIG_CHECK_POLICY
    return frozenset(
        _RENAMED.get(name.value, name.value)
        for name, configs in policy.items()
        if name not in ends and any(fits(config) for config in configs)
    )
