"""``Draft``: a float graph while a rule changes it, and ``Match``: one place where a rule applies.

A rule looks at the read-only view and says where it applies; the changes are then made to the editable objects. New operators may be
added in any order: ``finish`` puts each behind what it reads, and drops what nothing reads any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import Op, Tensor
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.wiring import Wiring

#: The codes of ``ActivationFunctionType`` (schema.fbs).
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
#: The codes of ``Padding`` (schema.fbs).
SAME, VALID = 0, 1
#: What an operator's options are called where that is not its own name in other letters.
_OPTIONS = {
    "MEAN": "Reducer", "SUM": "Reducer", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "CONV_2D": "Conv2D",
    "BATCH_MATMUL": "BatchMatMul", "MAX_POOL_2D": "Pool2D",
}  # fmt: skip
_WITHOUT_OPTIONS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "ELU", "SQRT", "RSQRT"})
#: Operators that do something beside giving a result.
_EFFECTS = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "CALL", "IF", "WHILE", "HASHTABLE_IMPORT", "CUSTOM"})
#: A chain of more than so many is not taken apart to its end.
_PASSES = 20


@dataclass(frozen=True)
class Match:
    """One place where a rule applies.

    Attributes:
        ops: the operators that it replaces or changes.
        change: makes the change.
    """

    ops: tuple[Op, ...]
    change: Callable[[Draft], None]


class Draft:
    """A float graph that is being changed.

    Args:
        content: the model.

    Attributes:
        wiring: who makes and reads each tensor, as the graph was before any change.
    """

    def __init__(self, content: bytes) -> None:
        self.wiring = Wiring(ModelFile.read(content).graph)
        self._model = editing.read(content)
        self._main = self._model.subgraphs[0]
        self._types = editing.schema()
        self._names = {tensor.name for tensor in self.wiring.main.tensors}
        self._gone: set[int] = set()
        #: New operators with the place in the old order that they are for.
        self._new: list[tuple[int, Any]] = []
        self._place = 0

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators of the main subgraph before any change."""
        return self.wiring.main.ops

    # What rules ask.

    def options(self, op: Op) -> Any:
        """The object that holds an operator's options, or ``None``."""
        return self._main.operators[op.index].builtinOptions

    def option(self, op: Op, name: str, default: Any = 0) -> Any:
        """A field of an operator's options, by its name in the schema package."""
        options = self.options(op)
        return default if options is None else getattr(options, name, default)

    def act(self, op: Op) -> int:
        """An operator's fused activation."""
        return int(self.option(op, "fusedActivationFunction"))

    def tensor(self, index: int) -> Tensor:
        """A tensor of the graph before any change."""
        return self.wiring.tensor(index)

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(int(size) for size in self._main.tensors[index].shape)

    def values(self, op: Op, place: int) -> Array | None:
        """The constant that an operator reads at a place, or ``None``."""
        return self.wiring.constant(op.inputs[place]) if place < len(op.inputs) else None

    def number(self, op: Op, place: int) -> float | None:
        """The single float constant that an operator reads at a place, whatever its shape, or ``None``."""
        found = self.values(op, place)
        return (
            float(found.reshape(-1)[0]) if found is not None and found.size == 1 and found.dtype == np.float32 else None
        )

    def float_op(self, op: Op, *names: str) -> bool:
        """Whether an operator has one of these names, and its first output is a float of fixed size."""
        if op.name not in names or not op.outputs:
            return False
        result = self.tensor(op.outputs[0])
        return result.dtype == "float32" and -1 not in result.shape_signature

    def before(self, index: int, *names: str) -> Op | None:
        """The operator that makes a tensor, if it has one of these names and nothing else wants the tensor."""
        op = self.wiring.made_by.get(index)
        if op is None or op.name not in names or not self.inner(index):
            return None
        return op

    def inner(self, index: int) -> bool:
        """Whether exactly one operator reads a tensor, and it is no output of the model."""
        return len(self.wiring.read_by.get(index, ())) == 1 and index not in self.wiring.main.outputs

    # What rules change.

    def activation(self, like: int, part: str, shape: Sequence[int] | None = None) -> int:
        """Add a tensor that an operator is going to compute.

        Args:
            like: the tensor on whose behalf it is there: it has its type, and its name with ``part`` behind.
            part: what it is.
            shape: its shape; that of ``like`` where none is given.
        """
        model = self._main.tensors[like]
        tensor = self._types.TensorT()
        tensor.name = self._name(like, part)
        tensor.shape, tensor.type = list(shape if shape is not None else self.shape(like)), model.type
        tensor.hasRank, tensor.buffer = True, 0
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def constant(self, like: int, part: str, values: Array) -> int:
        """Add a float32 or int32 constant; ``like`` and ``part`` give its name."""
        buffer, tensor = self._types.BufferT(), self._types.TensorT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        tensor.name = self._name(like, part)
        tensor.shape, tensor.hasRank = list(values.shape), True
        tensor.type = getattr(self._types.TensorType, values.dtype.name.upper())
        tensor.buffer = len(self._model.buffers)
        self._model.buffers.append(buffer)
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def add(self, name: str, inputs: Sequence[int], outputs: int | Sequence[int], **options: Any) -> None:
        """Add an operator.

        Args:
            name: the builtin operator's.
            inputs: tensor indices.
            outputs: likewise.
            options: fields of its options, by their names in the schema package; ``act`` is the fused activation.
        """
        op = self._types.OperatorT()
        op.opcodeIndex = editing.operator_code(self._model, getattr(self._types.BuiltinOperator, name))
        op.inputs = [int(index) for index in inputs]
        op.outputs = [outputs] if isinstance(outputs, int) else [int(index) for index in outputs]
        if name not in _WITHOUT_OPTIONS:
            kind = f"{_OPTIONS.get(name) or ''.join(word.capitalize() for word in name.split('_'))}Options"
            op.builtinOptionsType = getattr(self._types.BuiltinOptions, kind)
            op.builtinOptions = getattr(self._types, f"{kind}T")()
            for field, value in options.items():
                setattr(op.builtinOptions, "fusedActivationFunction" if field == "act" else field, value)
        self._new.append((self._place, op))

    def reshape(self, source: int, result: int) -> None:
        """Add a RESHAPE of a tensor to the shape of another."""
        shape = np.array(self.shape(result), np.int32)
        self.add("RESHAPE", [source, self.constant(result, "shape", shape)], result, newShape=shape.tolist())

    def inputs(self, op: Op) -> list[int]:
        """An operator's inputs as they are now."""
        return [int(index) for index in self._main.operators[op.index].inputs]

    def rewire(self, op: Op, *, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None) -> None:
        """Give an operator other inputs or outputs."""
        edited = self._main.operators[op.index]
        edited.inputs = list(inputs) if inputs is not None else edited.inputs
        edited.outputs = list(outputs) if outputs is not None else edited.outputs

    def set_options(self, op: Op, **fields: Any) -> None:
        """Change fields of an operator's options; ``act`` is the fused activation."""
        edited = self._main.operators[op.index]
        for field, value in fields.items():
            setattr(edited.builtinOptions, "fusedActivationFunction" if field == "act" else field, value)

    def set_shape(self, index: int, shape: Sequence[int]) -> None:
        """Give a tensor another shape."""
        self._main.tensors[index].shape, self._main.tensors[index].shapeSignature = list(shape), None

    def remove(self, *ops: Op) -> None:
        """Take operators out."""
        self._gone.update(op.index for op in ops)

    def can_bypass(self, op: Op) -> bool:
        """Whether an operator that changes nothing can be taken out: its result may be an output of the model."""
        source, result, main = op.inputs[0], op.outputs[0], self.wiring.main
        return result not in main.outputs or (source in self.wiring.made_by and source not in main.outputs)

    def bypass(self, op: Op) -> None:
        """Take out an operator whose first output is the same as its first input; one of two that make outputs of one tensor stays."""
        source, outputs = self.inputs(op)[0], self.wiring.main.outputs
        if op.outputs[0] not in outputs or source not in outputs:  # a change before this one may have made it an output
            self.replace_by(op, source)

    def replace_by(self, op: Op, source: int) -> None:
        """Take out an operator whose first output is the same as another tensor."""
        result = op.outputs[0]
        self.remove(op)
        old, new = result, source
        if result in self.wiring.main.outputs:  # it keeps its name: who makes the source makes this instead
            old, new = source, result
            for maker in self._alive():
                maker.outputs = [new if int(index) == old else int(index) for index in maker.outputs]
        for reader in self._alive():
            reader.inputs = [new if int(index) == old else int(index) for index in reader.inputs]

    def replace_result(self, source: int, result: int) -> None:
        """Let the new operator that makes a tensor make another instead, whose own maker was taken out."""
        for _, op in self._new:
            op.outputs = [result if int(index) == source else int(index) for index in op.outputs]

    def begin(self, match: Match) -> None:
        """Note where operators that are added from now on belong."""
        self._place = max(op.index for op in match.ops)

    def finish(self) -> bytes:
        """The changed model."""
        self._main.operators = _ordered(self._items(), {int(index) for index in self._main.inputs})
        self._prune()
        editing.drop_unused(self._model)
        return editing.write(self._model)

    def _name(self, like: int, part: str) -> bytes:
        name = wanted = f"{self._main.tensors[like].name.decode('utf-8', 'replace')}/{part}"
        number = 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name.encode()

    def _alive(self) -> list[Any]:
        return [op for _, op in self._items()]

    def _items(self) -> list[tuple[tuple[int, int], Any]]:
        old = [((place, 0), op) for place, op in enumerate(self._main.operators) if place not in self._gone]
        return old + [((place, 1 + number), op) for number, (place, op) in enumerate(self._new)]

    def _prune(self) -> None:
        """Drop operators whose results nothing reads."""
        needed = {int(index) for index in self._main.outputs}
        names = {value: name for name, value in vars(self._types.BuiltinOperator).items()}
        kept = []
        for op in reversed(self._main.operators):
            effect = names[self._model.operatorCodes[op.opcodeIndex].builtinCode] in _EFFECTS
            if effect or needed.intersection(int(index) for index in op.outputs):
                needed.update(int(index) for index in op.inputs)
                kept.append(op)
        self._main.operators = kept[::-1]


def applied(
    content: bytes, find: Callable[[Draft], list[Match]], wanted: frozenset[str] | None = None
) -> tuple[bytes, int]:
    """Apply a rule until it applies nowhere any more.

    Args:
        content: the model.
        find: the rule's search; of two places with an operator in common the first is changed, and then all is searched anew.
        wanted: only the places where one of these operators is, by the name of its first output; ``None`` for all.

    Returns:
        The model, the same object where nothing was changed, and how many places were.
    """
    count = 0
    for _ in range(_PASSES):
        draft = Draft(content)
        changed: set[int] = set()
        for match in find(draft):
            ops = {op.index for op in match.ops}
            names = {draft.wiring.name(op) for op in match.ops}
            if (wanted is None or names & wanted) and not ops & changed:
                changed |= ops
                draft.begin(match)
                match.change(draft)
                count += 1
        if not changed:
            break
        content = draft.finish()
    return content, count


def _ordered(items: list[tuple[tuple[int, int], Any]], given: set[int]) -> list[Any]:
    """Operators in an order in which each stands behind what it reads, the old one where there is a choice."""
    made_by = {int(index): place for place, op in items for index in op.outputs}
    by_place = dict(items)
    waiting: dict[tuple[int, int], int] = {}
    readers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    ready: list[tuple[int, int]] = []
    for place, op in items:
        makers = {made_by[int(i)] for i in op.inputs if int(i) in made_by and int(i) not in given} - {place}
        waiting[place] = len(makers)
        for maker in makers:
            readers.setdefault(maker, []).append(place)
        if not makers:
            heapq.heappush(ready, place)
    ordered = []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(by_place[place])
        for reader in readers.get(place, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    return ordered
