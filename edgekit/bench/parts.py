"""``Parts``: some operators of a model as a model of their own, made by rewriting a few references in a copy of the file.

Nothing of the graph is understood or built anew: the list of operators is shortened in place, and two lists of tensors, the part's
inputs and outputs, are put behind the file's end. References in a FlatBuffer lead forward only, which both keep. Constants stay where
they are, so that a part takes as much memory as the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.errors import ModelFileError
from edgekit.flatbuffer import File, Table, table_at
from edgekit.graph import Subgraph
from edgekit.manifest import announced_bytes
from edgekit.modelfile import ModelFile

#: Fields of schema.fbs, version 3.
_SUBGRAPHS, _METADATA, _SIGNATURES = 2, 6, 7
_INPUTS, _OUTPUTS, _OPERATORS = 1, 2, 3


@dataclass(frozen=True)
class Part:
    """Some operators as a model of their own.

    Attributes:
        content: the flatbuffer.
        inputs: the tensors that go in, by their index in the whole model, in the part's order.
        outputs: those that come out.
    """

    content: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Parts:
    """Cuts parts out of a model's main subgraph.

    Args:
        model: any checked model.

    Raises:
        ModelFileError: the file is laid out in a way that cannot be cut: its lists share their bytes.
    """

    def __init__(self, model: ModelFile) -> None:
        self._name = model.name
        self._main: Subgraph = model.graph.main
        content = model.content
        length = announced_bytes(model.graph.metadata)
        # What edgekit appended belongs to the whole model only, and so does its announcement.
        self._content = content[:length] if 0 < length <= len(content) else content
        file = File(self._content)
        root = table_at(file, int(struct.unpack_from("<I", self._content, 0)[0]))
        subgraph = next(root.tables(_SUBGRAPHS))
        operators = subgraph.vector(_OPERATORS, 4)
        if operators is None and self._main.ops:
            raise self._refused("it has no list of operators")
        self._operators = operators[0] if operators is not None else 0
        self._fields = (self._field(subgraph, _INPUTS), self._field(subgraph, _OUTPUTS))
        #: Lists of the whole model that a part must not have: their lengths are set to nothing.
        self._emptied = [
            found[0] - 4 for field in (_METADATA, _SIGNATURES) if (found := root.vector(field, 4)) and found[1]
        ]
        self._consumers: dict[int, list[int]] = {}
        for op in self._main.ops:
            for index in op.inputs:
                self._consumers.setdefault(index, []).append(op.index)

    def _refused(self, why: str) -> ModelFileError:
        return ModelFileError(
            f"{self._name} cannot be taken apart: {why}. Convert it again to have it laid out as usual."
        )

    def _field(self, table: Table, field: int) -> int:
        offset = table.fields[field] if field < len(table.fields) else 0
        if offset == 0:
            raise self._refused("its subgraph does not name its inputs or outputs")
        return table.position + offset

    def ends(self, ops: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tensors that go into some operators from outside, and those that come out and are used.

        Args:
            ops: indices of operators.
        """
        chosen, tensors = set(ops), self._main.tensors
        made = {index for op in ops for index in self._main.ops[op].outputs}
        inputs = dict.fromkeys(
            index
            for op in ops
            for index in self._main.ops[op].inputs
            if index >= 0 and index not in made and tensors[index].data is None and not tensors[index].is_variable
        )
        used = [
            index
            for op in ops
            for index in self._main.ops[op].outputs
            if index in self._main.outputs or any(user not in chosen for user in self._consumers.get(index, ()))
        ]
        return tuple(inputs), tuple(dict.fromkeys(used)) or tuple(sorted(made))

    def cut(self, ops: Sequence[int]) -> Part:
        """Some operators as a model of their own.

        Args:
            ops: their indices.
        """
        order = sorted(set(ops))
        inputs, outputs = self.ends(order)
        content = bytearray(self._content)
        start = self._operators
        places = [start + 4 * op + int(struct.unpack_from("<I", content, start + 4 * op)[0]) for op in order]
        struct.pack_into("<I", content, start - 4, len(order))
        for place, at in enumerate(places):
            struct.pack_into("<I", content, start + 4 * place, at - (start + 4 * place))
        for at in self._emptied:
            struct.pack_into("<I", content, at, 0)
        content += bytes(-len(content) % 4)
        for field, indices in zip(self._fields, (inputs, outputs), strict=True):
            struct.pack_into("<I", content, field, len(content) - field)
            content += struct.pack(f"<I{len(indices)}i", len(indices), *indices)
        return Part(bytes(content), inputs, outputs)
