"""Whether a graph whose references are all in order can be run: what native code takes for granted.

Each check stands for a way in which an interpreter dies (a null pointer, a division by zero, a read or write outside a
buffer, memory that nobody has) on a file that is well-formed; ``docs/safe-loading.md`` has the counts. What an interpreter
refuses itself is left to it, and whatever a converter writes passes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.flatbuffer import Damaged
from edgekit.graph import Graph, Op, Subgraph, Tensor
from edgekit.operators import BROADCASTING, CALLS, FEWEST, OPTIONS, SCALED, SHAPE_KEEPING
from edgekit.tensors import NUMPY_TYPES

#: Kernels count elements and bytes in 32-bit integers.
MAX_BYTES = 2**31 - 1
#: Deeper calls of subgraphs than this are taken for endless ones.
_MAX_DEPTH = 64
#: Operators that choose their results' sizes while they run.
_SIZING = frozenset(
    {
        "CALL", "CALL_ONCE", "IF", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "RANGE", "SEGMENT_SUM", "UNIQUE", "WHERE",
        "WHILE",
    }
)  # fmt: skip
#: Operators whose own kernels know of zeros that were left out. All others read as many values as the shape says, on behind those
#: that are there: LiteRT 2.3 gives NaN for a DEQUANTIZE of sparse float16 weights, which TFLiteConverter writes, and its XNNPACK for
#: a FULLY_CONNECTED; a DENSIFY it unpacks.
_READ_SPARSE = ("DENSIFY", "FULLY_CONNECTED")
#: What 8 and 16 bits hold.
_RANGES: dict[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_BYTES: dict[str, int] = {name: np.dtype(name).itemsize for name in NUMPY_TYPES}


def check_sound(graph: Graph, origin: str) -> None:
    """Test a parsed graph.

    Args:
        graph: as ``parse`` gave it.
        origin: what to call the file in messages.

    Raises:
        ModelFileError: something in it would make an interpreter crash; the text names the operator or tensor.
    """
    try:
        _check(graph)
    except Damaged as error:
        raise ModelFileError(
            f"{origin} cannot be run: {error}. An interpreter would crash on it. The file is damaged or was put together "
            "wrongly: copy or download it again, or convert the model again."
        ) from error


def check_sparse(graph: Graph, origin: str, *, own_kernels: bool) -> None:
    """See that sparse constants are read by kernels that know of such.

    It is no part of ``check_sound``: what a file means is clear all the same, and a conversion fills the zeros in.

    Args:
        graph: as ``parse`` gave it.
        origin: what to call the file in messages.
        own_kernels: whether the interpreter's own kernels run all of it, and no delegate.

    Raises:
        ModelFileError: another operator reads one, or it leaves the graph as it is.
    """
    for subgraph in graph.subgraphs:
        sparse = {tensor.index for tensor in subgraph.tensors if tensor.sparse}
        if not sparse:
            continue
        knowing = _READ_SPARSE if own_kernels else _READ_SPARSE[:1]
        found = [
            (op.name, name_of(op), i) for op in subgraph.ops if op.name not in knowing for i in op.inputs if i in sparse
        ]
        found += [("", "the list of outputs", index) for index in subgraph.outputs if index in sparse]
        if found:
            operator, reader, index = found[0]
            alone = operator in _READ_SPARSE and all(item[0] == operator for item in found)
            raise ModelFileError(
                f"{origin} cannot be run{' with a delegate' if alone else ''}: {reader} reads the sparse constant "
                f"{subgraph.tensors[index].name!r} as if no zeros had been left out, on behind its values. "
                f"{'Run it without one (--delegate none), or convert' if alone else 'Convert'} it with `edgekit convert`, which fills "
                "the zeros in."
            )


def _check(graph: Graph) -> None:
    for number, subgraph in enumerate(graph.subgraphs):
        for tensor in subgraph.tensors:
            _check_size(tensor)
            _check_sizes_agree(tensor)
            _check_zero_points(tensor)
        _check_order(subgraph, number == 0)
        open_sizes = _open_sizes(subgraph)
        for op in subgraph.ops:
            _check_op(op, subgraph)
            test = _SIZE_TESTS.get(op.name)
            if test is not None and open_sizes.isdisjoint((*op.inputs, *op.outputs)):
                test(op, subgraph)
    _check_calls(graph)


def name_of(op: Op) -> str:
    """An operator in messages."""
    return f"operator {op.index} ({op.name})"


def own_option(op: Op, field: int, kind: str, default: int) -> int:
    """An option as the interpreter reads it: zero when the options are of another operator.

    Args:
        op: an operator of ``OPTIONS``.
        field: the option's number in schema.fbs.
        kind: its letter in ``struct``.
        default: what an absent field means.
    """
    if op.options is None or op.options_kind != OPTIONS[op.name]:
        return 0
    return int(op.option(field, kind, default))


def _check_size(tensor: Tensor) -> None:
    if tensor.elements * _BYTES.get(tensor.dtype, 1) > MAX_BYTES:
        raise Damaged(f"tensor {tensor.name!r} of shape {list(tensor.shape)} {tensor.dtype} is larger than 2 GiB")


def _check_sizes_agree(tensor: Tensor) -> None:
    """A tensor's two shapes differ only where a size is open; callers go by the one, native code begins with the other."""
    if tensor.shape_signature is tensor.shape:
        return
    if any(open_ not in (-1, stored) for open_, stored in zip(tensor.shape_signature, tensor.shape, strict=True)):
        raise Damaged(
            f"tensor {tensor.name!r} has shape {list(tensor.shape)} and shape signature {list(tensor.shape_signature)}"
        )


def _check_zero_points(tensor: Tensor) -> None:
    """A zero point is one of its type's values (TensorFlow Lite 8-bit quantization specification)."""
    limits = _RANGES.get(tensor.dtype)
    if limits is None or tensor.quant is None:
        return
    low, high = min(tensor.quant.zero_points), max(tensor.quant.zero_points)
    if low < limits[0] or high > limits[1]:
        wrong = low if low < limits[0] else high
        raise Damaged(f"tensor {tensor.name!r} of type {tensor.dtype} has zero point {wrong}")


def _check_order(subgraph: Subgraph, main: bool) -> None:
    """Every operator reads what is there when it runs, and writes what is its own."""
    there = {item.index for item in subgraph.tensors if item.data is not None or item.is_variable or not item.elements}
    constant = {item.index for item in subgraph.tensors if item.data is not None}
    given = set(subgraph.inputs)
    if main and given & constant:
        index = min(given & constant)
        raise Damaged(f"the input {subgraph.tensors[index].name!r} is a constant")
    there |= given
    made: set[int] = set()
    for op in subgraph.ops:
        for index in op.inputs:
            if index >= 0 and index not in there:
                name = subgraph.tensors[index].name
                raise Damaged(f"{name_of(op)} reads tensor {index} ({name!r}), which nothing before it computes")
        for index in op.outputs:
            if index in constant or index in made or index in given:
                what = "a constant" if index in constant else "an input" if index in given else "another's result"
                raise Damaged(f"{name_of(op)} writes tensor {index} ({subgraph.tensors[index].name!r}), {what}")
        made.update(op.outputs)
        there.update(op.outputs)


def _open_sizes(subgraph: Subgraph) -> set[int]:
    """Tensors whose sizes, that of the batch apart, are known when the graph runs: what stands in the file means nothing.

    Sizes come from integers that are computed, and go on to all that is made of such a tensor.
    """
    tensors = subgraph.tensors
    found = {tensor.index for tensor in tensors if -1 in tensor.shape_signature[1:]}
    for op in subgraph.ops:
        computed = any(
            index >= 0 and tensors[index].data is None and tensors[index].dtype in ("int32", "int64")
            for index in op.inputs
        )
        if op.custom or op.name in _SIZING or computed or not found.isdisjoint(op.inputs):
            found.update(op.outputs)
    return found


def _check_op(op: Op, subgraph: Subgraph) -> None:
    if op.custom or op.name.startswith("STABLEHLO_"):
        return
    inputs, outputs = FEWEST.get(op.name, (1, 1))
    if len(op.inputs) < inputs or len(op.outputs) < outputs:
        raise Damaged(
            f"{name_of(op)} has {len(op.inputs)} inputs and {len(op.outputs)} outputs, at least {inputs} and {outputs} "
            "were expected"
        )
    if op.name in SCALED:
        _check_scales(op, subgraph)
    test = _TESTS.get(op.name)
    if test is not None:
        test(op, subgraph)


def _check_scales(op: Op, subgraph: Subgraph) -> None:
    tensors = [subgraph.tensors[index] for index in (*op.inputs[:2], *op.outputs) if index >= 0]
    for tensor in tensors:
        if tensor.dtype in ("int8", "uint8") and (tensor.quant is None or not tensor.quant.any_scale):
            raise Damaged(f"{name_of(op)} computes with {tensor.name!r} of type {tensor.dtype}, which has no scale")


def _check_elementwise(op: Op, subgraph: Subgraph) -> None:
    """The output has its inputs' shape, sizes of 1 spread as numpy does it."""
    given = [subgraph.tensors[index] for index in op.inputs[: 2 if op.name in BROADCASTING else 1]]
    made = subgraph.tensors[op.outputs[0]]
    if not made.shape or not any(tensor.shape for tensor in given):
        return  # an unknown rank
    rank = max(len(tensor.shape) for tensor in given)
    rows = [(1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in given]
    expected = tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*rows, strict=True))
    if made.shape != expected or any(
        size not in (1, want) for row in rows for size, want in zip(row, expected, strict=True)
    ):
        shapes = " and ".join(str(list(tensor.shape)) for tensor in given)
        raise Damaged(f"{name_of(op)} makes {list(made.shape)} of {shapes}")


def _positive(op: Op, *options: tuple[str, int, int]) -> None:
    for what, field, default in options:
        value = own_option(op, field, "i", default)
        if value <= 0:
            raise Damaged(f"{name_of(op)} has {what} {value}")


def _conv(op: Op, subgraph: Subgraph) -> None:
    _positive(op, ("stride", 1, 0), ("stride", 2, 0), ("dilation", 4, 1), ("dilation", 5, 1))


def _conv_sizes(op: Op, subgraph: Subgraph) -> None:
    filter_sizes = subgraph.tensors[op.inputs[1]].shape[1:3]
    _check_window(op, subgraph, filter_sizes, (own_option(op, 5, "i", 1), own_option(op, 4, "i", 1)))


def _depthwise(op: Op, subgraph: Subgraph) -> None:
    _positive(op, ("stride", 1, 0), ("stride", 2, 0), ("dilation", 5, 1), ("dilation", 6, 1))


def _depthwise_sizes(op: Op, subgraph: Subgraph) -> None:
    filter_sizes = subgraph.tensors[op.inputs[1]].shape[1:3]
    _check_window(op, subgraph, filter_sizes, (own_option(op, 6, "i", 1), own_option(op, 5, "i", 1)))


def _pool(op: Op, subgraph: Subgraph) -> None:
    _positive(op, ("stride", 1, 0), ("stride", 2, 0), ("filter size", 3, 0), ("filter size", 4, 0))


def _pool_sizes(op: Op, subgraph: Subgraph) -> None:
    _check_window(op, subgraph, (own_option(op, 4, "i", 0), own_option(op, 3, "i", 0)), (1, 1))


def _check_window(op: Op, subgraph: Subgraph, filter_sizes: tuple[int, ...], dilations: tuple[int, int]) -> None:
    """The output's height and width follow from the input's (TensorFlow, ``tf.nn.convolution``).

    XNNPACK of tflite-runtime 2.14 hangs or crashes on strides that do not fit.
    """
    given, made = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
    if not len(given.shape) == len(made.shape) == 4 or len(filter_sizes) != 2:
        return  # what the interpreters refuse themselves
    same = own_option(op, 0, "b", 0) == 0
    for axis in (1, 2):
        stride = own_option(op, 3 - axis, "i", 0)
        reach = 0 if same else (filter_sizes[axis - 1] - 1) * dilations[axis - 1]
        expected = -(-(given.shape[axis] - reach) // stride)
        if made.shape[axis] != expected:
            raise Damaged(
                f"{name_of(op)} makes {made.shape[axis]} of {given.shape[axis]} along axis {axis}, {expected} follow from its "
                f"stride {stride}"
            )


def _transpose_conv(op: Op, subgraph: Subgraph) -> None:
    _positive(op, ("stride", 1, 0), ("stride", 2, 0))


def _reshape_sizes(op: Op, subgraph: Subgraph) -> None:
    """As many elements come out as went in; LiteRT 2.3 asks for the memory before it finds that out."""
    given, made = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
    batches = (*given.shape_signature[:1], *made.shape_signature[:1])
    if -1 not in batches and given.elements != made.elements:
        raise Damaged(f"{name_of(op)} makes {list(made.shape)} of {list(given.shape)}")


def _reshape(op: Op, subgraph: Subgraph) -> None:
    if op.name == "SQUEEZE" or len(op.inputs) < 2:
        return
    sizes = subgraph.tensors[op.inputs[1]]
    if sizes.dtype not in ("int32", "int64"):
        raise Damaged(f"{name_of(op)} takes its shape from numbers of type {sizes.dtype}")
    made = subgraph.tensors[op.outputs[0]]
    if sizes.data is not None and made.shape and sizes.elements != len(made.shape):
        raise Damaged(f"{name_of(op)} makes {list(made.shape)} from a list of {sizes.elements} sizes")


def _block(op: Op, subgraph: Subgraph) -> None:
    _positive(op, ("block size", 0, 0))


_TESTS: dict[str, Callable[[Op, Subgraph], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "L2_POOL_2D": _pool,
    "TRANSPOSE_CONV": _transpose_conv,
    "RESHAPE": _reshape,
    "SPACE_TO_DEPTH": _block,
    "DEPTH_TO_SPACE": _block,
}

#: What is asked of operators whose tensors have the sizes that stand in the file.
_SIZE_TESTS: dict[str, Callable[[Op, Subgraph], None]] = {
    **dict.fromkeys((*SHAPE_KEEPING, *BROADCASTING), _check_elementwise),
    "CONV_2D": _conv_sizes,
    "DEPTHWISE_CONV_2D": _depthwise_sizes,
    "AVERAGE_POOL_2D": _pool_sizes,
    "MAX_POOL_2D": _pool_sizes,
    "L2_POOL_2D": _pool_sizes,
    "RESHAPE": _reshape_sizes,
    "SQUEEZE": _reshape_sizes,
}


def _check_calls(graph: Graph) -> None:
    """Called subgraphs exist, and none calls itself."""
    calls: dict[int, set[int]] = {}
    for number, subgraph in enumerate(graph.subgraphs):
        for op in subgraph.ops:
            for field in CALLS.get(op.name, ()):
                target = own_option(op, field, "i", 0)
                if not 0 <= target < len(graph.subgraphs):
                    raise Damaged(f"{name_of(op)} calls subgraph {target} of {len(graph.subgraphs)}")
                calls.setdefault(number, set()).add(target)
    reached = set(calls)
    for _ in range(_MAX_DEPTH):
        reached = {target for number in reached for target in calls.get(number, ())}
        if not reached:
            return
    raise Damaged("its subgraphs call each other without end")
