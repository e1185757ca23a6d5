"""``edgekit.soundness``: well-formed files on which an interpreter would crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ModelFileError
from edgekit.graph import parse
from edgekit.modelfile import ModelFile
from edgekit.operators import CALLS, FEWEST, OPERATORS, OPTION_VECTORS, OPTIONAL_FROM, OPTIONS
from edgekit.soundness import check_sound


def pool() -> bytes:
    """MAX_POOL_2D over a float image."""
    b = models.Builder()
    x, y = b.tensor("image", (1, 6, 6, 2)), b.tensor("pooled", (1, 3, 3, 2))
    options = schema.Pool2DOptionsT()
    options.strideW = options.strideH = options.filterWidth = options.filterHeight = 2
    options.padding = 1
    b.op("MAX_POOL_2D", [x], [y], ("Pool2DOptions", options))
    return b.build({"image": x}, {"pooled": y})


HEALTHY: dict[str, Callable[[], bytes]] = {
    "dense_float": models.dense_float,
    "dense_open_batch": lambda: models.dense_float(open_batch=True),
    "dense_without_signature": lambda: models.dense_float(signature=False),
    "dense_int8": models.dense_int8,
    "conv_float": models.conv_float,
    "add_two_inputs": models.add_two_inputs,
    "fixed_reshape": models.fixed_reshape,
    "custom_op": models.custom_op,
    "pool": pool,
}


@pytest.mark.parametrize("name", sorted(HEALTHY))
def test_healthy_files_pass(name: str) -> None:
    """What converters write is sound."""
    check_sound(parse(HEALTHY[name](), name), name)


@dataclass(frozen=True)
class Unsound:
    """An edit after which the file is still well-formed, and words of the message."""

    id: str
    builder: Callable[[], bytes]
    change: Callable[[Any], object]
    words: str


def op(number: int = 0, **values: Any) -> Callable[[Any], None]:
    """An edit of one operator."""

    def change(model: Any) -> None:
        for field, value in values.items():
            setattr(model.subgraphs[0].operators[number], field, value)

    return change


def options(**values: Any) -> Callable[[Any], None]:
    """An edit of the first operator's options."""

    def change(model: Any) -> None:
        for field, value in values.items():
            setattr(model.subgraphs[0].operators[0].builtinOptions, field, value)

    return change


def graph(**values: Any) -> Callable[[Any], None]:
    """An edit of the main subgraph."""

    def change(model: Any) -> None:
        for field, value in values.items():
            setattr(model.subgraphs[0], field, value)

    return change


def shape(tensor: int, sizes: list[int]) -> Callable[[Any], None]:
    """An edit of one tensor's sizes."""
    return lambda model: setattr(model.subgraphs[0].tensors[tensor], "shape", sizes)


def calling(target: int) -> Callable[[Any], None]:
    """An edit that makes the first operator call a subgraph."""

    def change(model: Any) -> None:
        item = model.subgraphs[0].operators[0]
        model.operatorCodes[item.opcodeIndex].builtinCode = schema.BuiltinOperator.CALL_ONCE
        model.operatorCodes[item.opcodeIndex].deprecatedBuiltinCode = 127
        item.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
        item.builtinOptions = schema.CallOnceOptionsT()
        item.builtinOptions.initSubgraphIndex = target

    return change


def _other_options(model: Any) -> None:
    item = model.subgraphs[0].operators[0]
    item.builtinOptionsType, item.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()


def _more(model: Any) -> None:
    x, _, y = model.subgraphs[0].tensors
    x.shapeSignature, y.shape = None, [2, 400]


def _list(model: Any) -> None:
    x, sizes, _ = model.subgraphs[0].tensors
    x.shapeSignature, sizes.shape = None, [3]
    model.buffers[sizes.buffer].data = np.frombuffer(np.array([2, 4, 1], np.int32).tobytes(), np.uint8)


def _real(model: Any) -> None:
    model.subgraphs[0].tensors[1].type = schema.TensorType.FLOAT32


UNSOUND = [
    Unsound("writes a constant", models.dense_float, op(outputs=[1]), r"0 \(FULLY_CONNECTED\) writes .*, a constant"),
    Unsound("writes an input", models.dense_float, op(outputs=[0]), r"writes tensor 0 \('x'\), an input"),
    Unsound(
        "writes twice", models.dense_float, op(1, outputs=[3]), r"1 \(SOFTMAX\) writes .*'logits'\), another's result"
    ),
    Unsound("reads what comes later", models.dense_float, op(inputs=[4, 1, 2]), "'probabilities'.* nothing before it"),
    Unsound(
        "reads itself", models.dense_float, op(inputs=[3, 1, 2]), r"reads tensor 3 \('logits'\), which nothing before"
    ),
    Unsound(
        "no input", models.dense_float, op(1, inputs=[]), r"1 \(SOFTMAX\) has 0 inputs and 1 outputs, at least 1 and 1"
    ),
    Unsound(
        "one of two", models.add_two_inputs, op(inputs=[0]), r"0 \(ADD\) has 1 inputs and 1 outputs, at least 2 and 1"
    ),
    Unsound("no output", models.dense_float, op(1, outputs=[]), "has 1 inputs and 0 outputs"),
    Unsound("a constant as input", models.dense_float, graph(inputs=[1]), "the input 'weights' is a constant"),
    Unsound("no stride", models.conv_float, options(strideW=0), r"0 \(CONV_2D\) has stride 0"),
    Unsound("backwards", models.conv_float, options(strideH=-1), r"0 \(CONV_2D\) has stride -1"),
    Unsound("no dilation", models.conv_float, options(dilationHFactor=0), r"0 \(CONV_2D\) has dilation 0"),
    Unsound(
        "a wider stride",
        models.conv_float,
        options(strideW=3),
        "makes 12 of 12 along axis 2, 4 follow from its stride 3",
    ),
    Unsound(
        "no padding", models.conv_float, options(padding=1), "makes 12 of 12 along axis 1, 10 follow from its stride 1"
    ),
    Unsound(
        "no padding, dilated",
        models.conv_float,
        options(padding=1, dilationHFactor=2),
        "makes 12 of 12 along axis 1, 8 follow from its stride 1",
    ),
    Unsound("a pool's window", pool, options(filterWidth=0), r"0 \(MAX_POOL_2D\) has filter size 0"),
    Unsound("a pool's stride", pool, options(strideH=3), "makes 3 of 6 along axis 1, 2 follow from its stride 3"),
    Unsound(
        "8 bits without a scale",
        models.dense_int8,
        lambda model: setattr(model.subgraphs[0].tensors[3], "quantization", None),
        r"0 \(FULLY_CONNECTED\) computes with 'logits' of type int8, which has no scale",
    ),
    Unsound(
        "a zero point that 8 bits do not hold",
        models.dense_int8,
        lambda model: setattr(model.subgraphs[0].tensors[3].quantization, "zeroPoint", [128]),
        "tensor 'logits' of type int8 has zero point 128",
    ),
    Unsound(
        "a sum of other shapes",
        models.add_two_inputs,
        shape(1, [3, 1, 4]),
        r"0 \(ADD\) makes \[1, 4\] of .* and \[3, 1, 4\]",
    ),
    Unsound(
        "a softmax of another rank",
        models.dense_float,
        shape(4, [1, 4, 1]),
        r"1 \(SOFTMAX\) makes \[1, 4, 1\] of \[1, 4\]",
    ),
    Unsound("a reshape by too long a list", models.fixed_reshape, _list, r"makes \[2, 4\] from a list of 3 sizes"),
    Unsound("another's options", models.conv_float, _other_options, r"0 \(CONV_2D\) has stride 0"),
    Unsound("huge", models.dense_float, shape(0, [1 << 20, 1 << 20]), "'x' of shape .* is larger than 2 GiB"),
    Unsound("a reshape to more", models.fixed_reshape, _more, r"0 \(RESHAPE\) makes \[2, 400\] of \[1, 8\]"),
    Unsound("a reshape by real numbers", models.fixed_reshape, _real, "takes its shape from numbers of type float32"),
    Unsound(
        "two shapes",
        models.dense_float,
        lambda model: setattr(model.subgraphs[0].tensors[0], "shapeSignature", [-1, 9]),
        r"tensor 'x' has shape \[1, 8\] and shape signature \[-1, 9\]",
    ),
    Unsound("calls nobody", models.add_two_inputs, calling(1), r"0 \(CALL_ONCE\) calls subgraph 1 of 1"),
    Unsound("calls itself", models.add_two_inputs, calling(0), "its subgraphs call each other without end"),
]


@pytest.mark.parametrize("case", UNSOUND, ids=lambda case: case.id)
def test_what_would_crash_is_named(case: Unsound) -> None:
    """The message says which operator or tensor it is, and what to do."""
    content = models.edited(case.builder(), case.change)
    parse(content, "the model")
    with pytest.raises(ModelFileError, match=case.words) as caught:
        ModelFile.read(content)
    assert str(caught.value).startswith("the model cannot be run: ")
    assert str(caught.value).endswith("copy or download it again, or convert the model again.")


def test_tables_name_operators_that_exist() -> None:
    """Each name in the tables of operators is one of the schema's, and each kind of options its number's."""
    assert {*FEWEST, *CALLS, *OPTIONAL_FROM, *OPTIONS} <= set(OPERATORS)
    kinds = {code: name for name, code in vars(schema.BuiltinOptions).items() if not name.startswith("_")}
    assert set(OPTIONS.values()) | set(OPTION_VECTORS) <= set(kinds)
    assert ("Conv2DOptions", "ReshapeOptions", "CallOnceOptions", "VarHandleOptions") == (
        kinds[OPTIONS["CONV_2D"]],
        kinds[OPTIONS["RESHAPE"]],
        kinds[OPTIONS["CALL_ONCE"]],
        kinds[111],
    )


@pytest.mark.parametrize("name", ["conv_float", "dense_int8", "add_two_inputs"])
def test_overwritten_words(name: str) -> None:
    """Whichever word of a file is wrong, reading it ends in a model or in a ModelFileError."""
    content = HEALTHY[name]()
    random = np.random.default_rng(0)
    for at in range(0, len(content) - 3, 4):
        for value in (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, int(random.integers(1 << 32))):
            mutant = content[:at] + value.to_bytes(4, "little") + content[at + 4 :]
            try:
                ModelFile.read(mutant)
            except ModelFileError:
                continue
