"""What in a graph has the number of samples written down, scaled: sizes of a RESHAPE, the end of a slice, joined constants.

Samples begin along the first axis. A TRANSPOSE, or what adds and drops axes, may carry them to another one, and they are
followed there. Where an operator does something else with them, nothing is scaled: the graph is then refused or compared unequal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.sizes import constant_integers, operator_name, set_integers

#: Operators that reduce axes, which are then gone unless their options keep them (schema.fbs, ``ReducerOptions``).
_REDUCING = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"})
#: Operators whose first result says nothing of samples: sizes.
_OF_SIZES = frozenset({"SHAPE", "RANK"})


class Scaling:
    """Rewrites a subgraph for another number of samples.

    Args:
        edited: the ``ModelT`` object, which new constants are added to.
        subgraph: a copy that is changed.
        old: the number of samples; the inputs' first size.
        new: what it becomes.
        moved: how to read a RESHAPE of one sample from ``[1, 12, 6]`` to ``[12, 1, 6]``: ``False`` for what it is, twelve rows of
            each sample; ``True`` for the TRANSPOSE that it may have been before a rewrite rule saw that one sample has no second.
    """

    def __init__(self, edited: Any, subgraph: Any, old: int, new: int, *, moved: bool = False) -> None:
        self._edited, self._subgraph, self._old, self._new = edited, subgraph, old, new
        self._moved = moved and old == 1
        #: By tensor: the axis that the samples are along.
        self._along = {int(index): 0 for index in subgraph.inputs}
        #: By tensor, where other places are counted on the same axis: how many of them begin before the second sample does.
        self._ahead: dict[int, int] = {}
        self._rewrites: dict[str, Callable[[Any], None]] = {
            "RESHAPE": self._reshape,
            "TRANSPOSE_CONV": self._transpose_conv,
            "BROADCAST_TO": self._broadcast,
            "SLICE": self._slice,
            "STRIDED_SLICE": self._strided_slice,
            "CONCATENATION": self._join,
            "PACK": self._join,
        }
        self._moves: dict[str, Callable[[Any, int], int]] = {
            "TRANSPOSE": self._transposed,
            "RESHAPE": lambda op, axis: self._reshaped(op)[0],
            "SQUEEZE": self._squeezed,
            "EXPAND_DIMS": self._expanded,
            "PACK": lambda op, axis: axis + (_of(op.builtinOptions.axis, self._rank(op.outputs[0])) <= axis),
            "UNPACK": lambda op, axis: axis - (_of(op.builtinOptions.axis, self._rank(op.inputs[0])) < axis),
            "STRIDED_SLICE": self._without_dropped,
            **dict.fromkeys(_REDUCING, self._reduced),
        }

    def run(self) -> None:
        """Go through all operators that samples come to."""
        for tensor in self._subgraph.tensors:  # states of recurrent operators
            if tensor.isVariable and tensor.shape is not None and len(tensor.shape) and tensor.shape[0] == self._old:
                tensor.shape = [self._new, *(int(size) for size in tensor.shape[1:])]
        for op in self._subgraph.operators:
            name = operator_name(self._edited, op)
            given = [int(index) for index in op.inputs if int(index) in self._along]
            if not given or name in _OF_SIZES:
                continue
            if self._moved and name == "RESHAPE" and int(op.inputs[0]) in self._along:
                place = self._as_transpose(op)
                if place is not None:
                    self._along[int(op.outputs[0])], self._ahead[int(op.outputs[0])] = place, 1
                    continue
            widest = max(given, key=self._rank)  # the others are spread over it
            moved = self._moves.get(name)
            axis = self._along[widest] if moved is None else moved(op, self._along[widest])
            ahead = self._reshaped(op)[1] if name == "RESHAPE" else self._ahead.get(widest, 1)
            for index in op.outputs:
                self._ahead[int(index)] = ahead
                same = moved is not None or self._rank(index) == self._rank(widest)
                self._along[int(index)] = axis if same and 0 <= axis < max(self._rank(index), 1) else 0
            if name in self._rewrites:
                self._rewrites[name](op)

    def _as_transpose(self, op: Any) -> int | None:
        """Make a RESHAPE that only carries the samples' axis elsewhere a TRANSPOSE; where it carries it, or ``None``."""
        given, made = self._shape(op.inputs[0]), self._shape(op.outputs[0])
        axis = self._along.get(int(op.inputs[0]), 0)
        if len(given) != len(made) or given == made or len(op.inputs) < 2 or given[axis] != 1:
            return None
        rest = [place for place in range(len(given)) if place != axis]
        for place, size in enumerate(made):
            order = [*rest[:place], axis, *rest[place:]]
            if size == 1 and [given[item] for item in order] == made:
                set_integers(self._edited, self._subgraph, op, 1, np.array(order, np.int32))
                op.opcodeIndex = editing.operator_code(self._edited, editing.schema().BuiltinOperator.TRANSPOSE)
                op.builtinOptionsType, op.builtinOptions = 0, None
                return place
        return None

    def _shape(self, index: int) -> list[int]:
        shape = self._subgraph.tensors[int(index)].shape
        return [int(size) for size in shape] if shape is not None else []

    def _rank(self, index: int) -> int:
        return len(self._shape(index))

    def _integers(self, op: Any, position: int) -> Array | None:
        if position >= len(op.inputs):
            return None
        return constant_integers(self._edited, self._subgraph, int(op.inputs[position]))

    # Where the samples go.

    def _transposed(self, op: Any, axis: int) -> int:
        order = self._integers(op, 1)
        return axis if order is None else [int(place) for place in order].index(axis)

    def _reshaped(self, op: Any) -> tuple[int, int]:
        """The axis of a RESHAPE's result that the samples are along, and how many places of it are ahead of the second sample.

        In memory nothing moves: as much lies before the samples as before.
        """
        source = int(op.inputs[0])
        axis = self._along.get(source, 0)
        given, made = self._shape(source), self._shape(op.outputs[0])
        before = prod(given[:axis]) * self._ahead.get(source, 1)
        alone = [place for place, size in enumerate(made) if size == self._old and prod(made[:place]) == before]
        if alone:
            return axis if axis in alone else alone[-1] if axis else alone[0], 1
        for place, size in enumerate(made):
            ahead, rest = divmod(before, max(prod(made[:place]), 1))
            if not rest and ahead and size % (ahead * self._old) == 0:
                return place, ahead
        return 0, 1

    def _squeezed(self, op: Any, axis: int) -> int:
        rank = self._rank(op.inputs[0])
        named = op.builtinOptions.squeezeDims
        dropped = (
            {_of(place, rank) for place in named}
            if named is not None and len(named)
            else {place for place, size in enumerate(self._shape(op.inputs[0])) if size == 1}
        )
        return axis - sum(place < axis for place in dropped)

    def _expanded(self, op: Any, axis: int) -> int:
        place = self._integers(op, 1)
        return axis if place is None else axis + (_of(int(place[0]), self._rank(op.outputs[0])) <= axis)

    def _without_dropped(self, op: Any, axis: int) -> int:
        mask = int(op.builtinOptions.shrinkAxisMask)
        return axis - sum(mask >> place & 1 for place in range(axis))

    def _reduced(self, op: Any, axis: int) -> int:
        axes = self._integers(op, 1)
        if axes is None or op.builtinOptions.keepDims:
            return axis
        rank = self._rank(op.inputs[0])
        return axis - sum(place < axis for place in {_of(int(item), rank) for item in axes})

    # What has their number written down.

    def _reshape(self, op: Any) -> None:
        sizes, options = self._integers(op, 1), op.builtinOptions
        if sizes is None and len(op.inputs) > 1:
            return  # computed, from the sizes that come in
        written = sizes if sizes is not None else getattr(options, "newShape", None)
        axis, _ = self._reshaped(op)
        if written is None or axis >= len(written) or int(written[axis]) == -1:
            return
        # A size that the file leaves to be found would take the samples up.
        made = self._shape(op.outputs[0])
        target = [made[place] if int(size) == -1 else int(size) for place, size in enumerate(written)]
        if target[axis] * self._new % self._old:
            return
        target[axis] = target[axis] * self._new // self._old
        if sizes is not None:
            set_integers(self._edited, self._subgraph, op, 1, np.array(target, sizes.dtype))
        if getattr(options, "newShape", None) is not None:
            options.newShape = target

    def _scale(self, op: Any, position: int, axis: int) -> bool:
        """Scale one number of an operator's sizes, where it is that of the samples."""
        sizes = self._integers(op, position)
        if sizes is None or axis >= len(sizes) or sizes[axis] != self._old:
            return False
        scaled = sizes.copy()
        scaled[axis] = self._new
        set_integers(self._edited, self._subgraph, op, position, scaled)
        return True

    def _transpose_conv(self, op: Any) -> None:
        self._scale(op, 0, 0)

    def _broadcast(self, op: Any) -> None:
        axis = self._along.get(int(op.inputs[0]))
        if axis is not None:
            self._scale(op, 1, axis + self._rank(op.outputs[0]) - self._rank(op.inputs[0]))

    def _slice(self, op: Any) -> None:
        axis, begin = self._along.get(int(op.inputs[0]), 0), self._integers(op, 1)
        if begin is None or axis >= len(begin) or begin[axis] != 0 or not self._scale(op, 2, axis):
            return
        # Its kernel compares what stands in the file with what comes out (tflite/kernels/slice.cc).
        self._subgraph.tensors[int(op.outputs[0])].shape = _with(self._shape(op.outputs[0]), axis, self._new)

    def _strided_slice(self, op: Any) -> None:
        options, begin, strides = op.builtinOptions, self._integers(op, 1), self._integers(op, 3)
        axis = self._along.get(int(op.inputs[0]), 0)
        if options.newAxisMask or options.ellipsisMask or (options.shrinkAxisMask | options.endMask) >> axis & 1:
            return
        if begin is None or strides is None or axis >= len(begin) or begin[axis] != 0 or strides[axis] != 1:
            return
        self._scale(op, 2, axis)

    def _join(self, op: Any) -> None:
        """Repeat constants that are joined to each sample, along another axis than the samples'."""
        if self._old != 1:
            return
        packed = operator_name(self._edited, op) == "PACK"
        along = self._along[int(op.outputs[0])]
        place = _of(op.builtinOptions.axis, self._rank(op.outputs[0]))
        if along == place:
            return
        axis = along - (packed and place < along)
        for position, index in enumerate(op.inputs):
            tensor, shape = self._subgraph.tensors[int(index)], self._shape(index)
            data = self._edited.buffers[tensor.buffer].data if tensor.buffer else None
            if int(index) in self._along or data is None or axis >= len(shape) or shape[axis] != 1:
                continue
            repeated = copy.copy(tensor)
            repeated.shape = _with(shape, axis, self._new)
            repeated.name = (tensor.name or b"") + b"_edgekit_%d" % len(self._subgraph.tensors)
            repeated.buffer = len(self._edited.buffers)
            buffer = editing.schema().BufferT()
            rows = np.asarray(data, np.uint8).reshape(prod(shape[:axis]), -1)
            buffer.data = np.repeat(rows[:, None], self._new, 1).reshape(-1)
            self._edited.buffers.append(buffer)
            self._subgraph.tensors.append(repeated)
            op.inputs[position] = len(self._subgraph.tensors) - 1


def _of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return int(axis) + rank if axis < 0 else int(axis)


def _with(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [*shape[:axis], size, *shape[axis + 1 :]]
