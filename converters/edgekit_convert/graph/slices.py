"""Parts of a graph as models of their own: what leads to some tensors, and what follows from some tensors.

Searching over one tensor runs only what follows from it, which is most of what makes such a search affordable.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.graph import Op, Subgraph
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing

#: Constants of at least so many bytes may lie behind the flatbuffer, each at a multiple of the second number. The graph
#: before them is given so many bytes first.
_LARGE, _ALIGNED, _HEAD = 4096, 64, 1 << 18


class Sliceable:
    """A model from which parts are cut; read once, cut often.

    Attributes:
        main: the read-only view of the main subgraph; tensor and operator indices are those of this view.
    """

    def __init__(self, flatbuffer: bytes) -> None:
        self.main: Subgraph = ModelFile.read(flatbuffer).graph.main
        self._edited = editing.read(flatbuffer)
        self._changed: dict[int, Array] = {}

    def following(self, roots: Iterable[int]) -> list[int]:
        """Indices of the operators that follow from some tensors, in the graph's order.

        Operators that compute a root itself are not among them, as its value will be given.
        """
        given = set(roots)
        reached = set(given)
        found = []
        for number, op in enumerate(self.main.ops):
            if reached.intersection(op.inputs) and not given.intersection(op.outputs):
                found.append(number)
                reached.update(op.outputs)
        return found

    def leading(self, wanted: Iterable[int]) -> list[int]:
        """Indices of the operators that lead to some tensors, in the graph's order."""
        needed = set(wanted)
        found = []
        for number in range(len(self.main.ops) - 1, -1, -1):
            op = self.main.ops[number]
            if needed.intersection(op.outputs):
                found.append(number)
                needed.update(op.inputs)
        return found[::-1]

    def suffix(self, roots: Sequence[int], results: Sequence[int], *, behind: bool = False) -> Slice | None:
        """What follows from ``roots`` and leads to ``results``; ``None`` when no result follows.

        Args:
            roots: tensors whose values will be given.
            results: tensors that are wanted; those that do not follow from the roots are left out.
            behind: see ``cut``.
        """
        following = self.following(roots)
        made = {index for number in following for index in self.main.ops[number].outputs} | set(roots)
        wanted = [index for index in results if index in made]
        if not wanted:
            return None
        leading = set(self.leading(wanted))
        ops = [number for number in following if number in leading]
        return self.cut(ops, wanted, roots, behind=behind)

    def cut(
        self, ops: Sequence[int], results: Sequence[int], roots: Sequence[int] = (), *, behind: bool = False
    ) -> Slice:
        """A model of some operators.

        Args:
            ops: their indices, in the graph's order.
            results: tensors that are to be its outputs.
            roots: tensors that are inputs in any case, first and in this order.
            behind: whether large constants lie behind the flatbuffer (``Buffer.offset`` and ``size`` of the TensorFlow Lite
                schema), which is several times as fast to make; LiteRT reads such a file, tflite-runtime 2.14 does not.
        """
        main = self.main
        made = {index for number in ops for index in main.ops[number].outputs}
        used = [index for number in ops for index in main.ops[number].inputs if index >= 0]
        free = dict.fromkeys([*roots, *(i for i in [*used, *results] if i not in made and self.is_activation(i))])
        inputs = tuple(free)
        return Slice(self._build(ops, inputs, tuple(results), behind), inputs, tuple(results))

    def is_activation(self, index: int) -> bool:
        """Whether a tensor is computed or given, not a constant."""
        return self.main.tensors[index].data is None

    def constant(self, index: int) -> Array:
        """A constant's values, as they are now."""
        tensor = self.main.tensors[index]
        if index in self._changed:
            return self._changed[index]
        return tensor.array()

    def set_constant(self, index: int, values: Array) -> None:
        """Give a constant other values, for all slices cut from now on."""
        editing.set_constant(self._edited, index, values)
        self._changed[index] = values

    def _build(self, ops: Sequence[int], inputs: tuple[int, ...], results: tuple[int, ...], behind: bool) -> bytes:
        types = editing.schema()
        whole = self._edited.subgraphs[0]
        model, subgraph = types.ModelT(), types.SubGraphT()
        model.version, model.operatorCodes = self._edited.version, self._edited.operatorCodes
        model.buffers, model.subgraphs = [types.BufferT()], [subgraph]
        subgraph.tensors, subgraph.operators, subgraph.name = [], [], b"main"
        numbers: dict[int, int] = {-1: -1}

        def number(index: int) -> int:
            if index not in numbers:
                original = whole.tensors[index]
                tensor = types.TensorT()
                for field in ("shape", "type", "name", "quantization", "hasRank"):
                    setattr(tensor, field, getattr(original, field))
                tensor.buffer = 0
                if self.main.tensors[index].data is not None:
                    tensor.buffer = len(model.buffers)
                    model.buffers.append(self._edited.buffers[original.buffer])
                numbers[index] = len(subgraph.tensors)
                subgraph.tensors.append(tensor)
            return numbers[index]

        subgraph.inputs = [number(index) for index in inputs]
        for position in ops:
            original = whole.operators[position]
            op = types.OperatorT()
            for field in ("opcodeIndex", "builtinOptionsType", "builtinOptions", "builtinOptions2Type",
                          "builtinOptions2", "customOptions", "customOptionsFormat"):  # fmt: skip
                setattr(op, field, getattr(original, field))
            op.inputs = [number(int(index)) for index in original.inputs]
            op.outputs = [number(int(index)) for index in original.outputs]
            if original.intermediates is not None:
                op.intermediates = [number(int(index)) for index in original.intermediates]
            subgraph.operators.append(op)
        subgraph.outputs = [number(index) for index in results]
        return _written_behind(model) if behind else editing.write(model)


def _written_behind(model: Any) -> bytes:
    """Pack a ``ModelT`` object with its large constants behind the flatbuffer."""
    types = editing.schema()
    parts: list[bytes] = []
    placed: list[tuple[Any, int]] = []
    end = 0
    for number, buffer in enumerate(model.buffers):
        data = buffer.data
        if data is None or len(data) < _LARGE:
            continue
        parts.append(np.asarray(data, np.uint8).tobytes() + bytes(-len(data) % _ALIGNED))
        outside = types.BufferT()
        outside.size = len(data)
        placed.append((outside, end))
        model.buffers[number] = outside
        end += len(parts[-1])
    start = _HEAD
    while True:  # where the constants begin stands in what lies before them
        for outside, place in placed:
            outside.offset = start + place
        head = editing.write(model)
        if len(head) <= start:
            return b"".join([head, bytes(start - len(head)), *parts]) if parts else head
        start *= 2


@dataclass(frozen=True)
class Slice:
    """A part of a graph.

    Attributes:
        content: the flatbuffer.
        inputs: the whole graph's tensor indices of the inputs, in order.
        outputs: likewise.
    """

    content: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Runner:
    """An interpreter of a flatbuffer without signatures: arrays in by place, arrays out by place.

    One thread; several runners may work in threads of their own at once.

    Args:
        content: the flatbuffer.
        delegate: ``True`` for XNNPACK, ``False`` for the interpreter's own kernels.
        keep: whether every tensor can be read after a run (own kernels only).

    Raises:
        ConversionError: the interpreter refused it.
    """

    def __init__(self, content: bytes, *, delegate: bool = True, keep: bool = False) -> None:
        from ai_edge_litert import interpreter as litert

        kinds = litert.OpResolverType
        try:
            self._interpreter: Any = litert.Interpreter(
                model_content=content,
                experimental_op_resolver_type=kinds.AUTO if delegate else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=keep,
                num_threads=1,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise refused(error) from error
        self._inputs = [item["index"] for item in self._interpreter.get_input_details()]
        self._outputs = [item["index"] for item in self._interpreter.get_output_details()]

    def run(self, values: Iterable[Array]) -> list[Array]:
        """Run once; the results are copies."""
        values = list(values)
        if len(values) < len(self._inputs):  # a tensor that nothing computes and that is no constant
            raise ConversionError("the model keeps values between runs, so that parts of it cannot be run alone.")
        try:
            for index, value in zip(self._inputs, values, strict=True):
                self._interpreter.set_tensor(index, value)
            self._interpreter.invoke()
            return [np.asarray(self._interpreter.get_tensor(index)) for index in self._outputs]
        except (ValueError, RuntimeError) as error:
            raise refused(error) from error

    def read(self, index: int) -> Array:
        """A copy of any tensor, of a runner that keeps them."""
        return np.asarray(self._interpreter.get_tensor(index))

    def view(self, index: int) -> Array:
        """A tensor's own memory; must be let go before the next run."""
        return np.asarray(self._interpreter.tensor(index)())


def workers() -> int:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, count or 1)


def refused(error: Exception) -> ConversionError:
    """The interpreter's refusal as this package's error."""
    return ConversionError(
        f"the interpreter cannot run the float model: {' '.join(str(error).split())}. "
        "Custom and Flex operators have no kernel in the runtime that pip installs."
    )


def producers(main: Subgraph) -> dict[int, Op]:
    """The operator that computes each tensor."""
    return {index: op for op in main.ops for index in op.outputs}


def consumers(main: Subgraph) -> dict[int, list[Op]]:
    """The operators that read each tensor."""
    found: dict[int, list[Op]] = {}
    for op in main.ops:
        for index in dict.fromkeys(op.inputs):
            found.setdefault(index, []).append(op)
    return found


def activations(main: Subgraph, among: Collection[int] | None = None) -> list[int]:
    """Float tensors that are given or computed, in the graph's order: inputs, then each operator's outputs."""
    order = dict.fromkeys([*main.inputs, *(index for op in main.ops for index in op.outputs)])
    return [i for i in order if main.tensors[i].dtype == "float32" and (among is None or i in among)]
