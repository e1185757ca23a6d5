"""Float ``.tflite`` and ranges in, int8 ``.tflite`` out. litert-quantizer rewrites the types."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, one_of
from edgekit_convert.ranges import Ranges

RECIPES: tuple[str, ...] = ("auto", "int8")
IO_TYPES: tuple[str, ...] = ("int8", "uint8", "float32")


def quantize(float_model: bytes, ranges: Ranges, io_type: str) -> bytes:
    """Rewrite every operator that has an int8 form: int8 activations, int8 weights per channel, int32 biases.

    Args:
        float_model: the pivot, all sizes fixed.
        ranges: lowest and highest value of each activation.
        io_type: the type of the file's inputs and outputs; ``uint8`` gives int8 here, see ``graph.uint8_edges``.

    Returns:
        The flatbuffer. Biases of channels with nearly no weights may have overflowed: see ``refine.scales``.

    Raises:
        ConversionError: litert-quantizer is missing, or refused the model.
    """
    one_of(io_type, IO_TYPES, "io")
    try:
        from litert_quantizer import algorithm_manager, qtyping, quantizer, recipe
    except ImportError as error:
        raise ConversionError(
            f"quantising needs litert-quantizer ({error}): `pip install 'edgekit[convert]'`."
        ) from error
    statistics = {
        name: {"min": np.array(low, np.float32), "max": np.array(high, np.float32)}
        for name, (low, high) in ranges.items()
    }
    logging.getLogger("absl").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of overflowing biases, which are mended afterwards
        try:
            work = quantizer.Quantizer(bytearray(float_model), recipe.static_wi8_ai8())
            if io_type == "float32":
                for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                    work.update_quantization_recipe(
                        ".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE
                    )
            result: Any = work.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError, NotImplementedError) as error:
            raise ConversionError(
                f"litert-quantizer cannot rewrite this model: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from error
    return bytes(result.quantized_model)


def int8_operators() -> frozenset[str]:
    """Names of the operators that litert-quantizer has an int8 form for."""
    from litert_quantizer import qtyping

    # Two of its names differ from the schema's.
    renamed = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV", "CUSTOM_OP": "CUSTOM"}
    return frozenset(renamed.get(item.value, item.value) for item in qtyping.TFLOperationName)
