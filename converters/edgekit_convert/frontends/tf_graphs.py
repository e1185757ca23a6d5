"""What a TensorFlow graph holds, looked at before anything of it runs: what reaches outside, loops, state, narrow types."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError

#: Operators that run Python, or read and write files that the graph names: no trained network needs them, and running one is
#: running what a stranger wrote ("TensorFlow models are programs", TensorFlow's SECURITY.md).
_OUTSIDE = re.compile(
    r"(Eager)?PyFunc(Stateless)?|(Read|Write)File|MatchingFiles|ImmutableConst|Save(V2|Slices)?|MergeV2Checkpoints"
    r"|CreateSummary(File|Db)Writer|Write\w*Summary|\w*Dataset\w*|\w*Reader\w*|Debug(Identity|NanCount|NumericSummary)\w*"
    r"|Rpc\w*|RemoteCall"
)
_LOOPS = re.compile(
    r"(Stateless)?(While|If|Case)|For|Ref(Switch|Merge|Enter|Exit|NextIteration)|Switch|Enter|Exit|NextIteration|LoopCond"
)
_KEEPS = re.compile(r"Assign(Add|Sub)?VariableOp|Assign(Add|Sub)?|Resource(Scatter|Apply)\w*")
#: Types of numbers that the interpreters' float kernels do not compute in, by TensorFlow's name: float32 takes their place.
NARROW = ("float16", "bfloat16", "float64")
#: For names of functions that no others in this process have.
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Operation:
    """One operator of a TensorFlow graph.

    Attributes:
        op: its type.
        name: its name in the graph, which begins with the names of the layers that it is in.
    """

    op: str
    name: str

    @property
    def layer(self) -> str:
        """The layers that it is in, as Keras names them; its own name where it is in none."""
        parts = [
            part
            for part in self.name.split("/")
            if part and not re.fullmatch(r"(Partitioned|Stateful)\w*Call\w*", part)
        ]
        return "/".join(parts[:-1] or parts)


def operations(graph_def: Any) -> Iterator[Operation]:
    """Every operator of a graph and of the functions that it calls."""
    for node in nodes(graph_def):
        yield Operation(node.op, node.name)


def nodes(graph_def: Any) -> list[Any]:
    """The ``NodeDef`` messages of a graph and of the functions that it calls; its library may hold others' as well."""
    return _with_called(list(graph_def.node), (), graph_def.library)


def _with_called(found: list[Any], names: Iterable[str], library: Any) -> list[Any]:
    """Nodes, with those of the functions that they call and of the named ones."""
    functions = {function.signature.name: function for function in library.function}
    waiting = deque(names)
    waiting.extend(name for node in found for name in _called(node))
    seen: set[str] = set()
    result = list(found)
    while waiting:
        name = waiting.popleft()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        inside = functions[name].node_def
        result.extend(inside)
        waiting.extend(called for node in inside for called in _called(node))
    return result


def what_runs(meta_graph: Any) -> list[Any]:
    """The operators of a SavedModel that loading and calling it would run.

    Those that only its own saving needs are not among them: writing files is what they are for.

    Args:
        meta_graph: a ``MetaGraphDef``.
    """
    graph = meta_graph.graph_def
    reached = _upstream({node.name: node for node in graph.node}, _roots(meta_graph, graph))
    return _with_called(reached, meta_graph.object_graph_def.concrete_functions, graph.library)


def _roots(meta_graph: Any, graph: Any) -> list[str]:
    """What of the main graph is asked for: outputs of signatures, initialisers, what restores and sets variables."""
    names = [tensor.name for signature in meta_graph.signature_def.values() for tensor in signature.outputs.values()]
    for signature in meta_graph.signature_def.values():
        for tensor in signature.outputs.values():
            names.extend(item.name for item in tensor.composite_tensor.components)
            sparse = tensor.coo_sparse
            names.extend((sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name))
    for key in ("saved_model_main_op", "legacy_init_op", "table_initializer", "saved_model_initializers"):
        if key in meta_graph.collection_def:
            names.extend(meta_graph.collection_def[key].node_list.value)
    names.append(meta_graph.saver_def.restore_op_name)
    names.extend(node.name for node in graph.node if _KEEPS.fullmatch(node.op))
    return names


def _upstream(by_name: Mapping[str, Any], roots: Iterable[str]) -> list[Any]:
    """The nodes that the named tensors come from."""
    waiting, seen, found = deque(roots), set(), []
    while waiting:
        name = waiting.popleft().lstrip("^").split(":")[0]
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        found.append(by_name[name])
        waiting.extend(by_name[name].input)
    return found


def _called(node: Any) -> Iterator[str]:
    """Names of the functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for item in value.list.func:
            yield item.name


def refuse_outside(found: Iterable[Any], origin: str) -> None:
    """Refuse operators that reach outside of the model.

    Args:
        found: ``NodeDef`` messages.
        origin: what to call the model in messages.

    Raises:
        ConversionError: there is one; nothing of the graph has run.
    """
    for node in found:
        item = Operation(node.op, node.name)
        if _OUTSIDE.fullmatch(node.op) or _prints_to_file(node):
            raise ConversionError(
                f"{origin} has the operator {node.op} in {item.layer}, which runs Python or reaches files outside of the model "
                "when the model is loaded or run. Nothing of it was run. Export the model without it; or convert it with "
                "--trust-source (trust_source=True) if you know who made it."
            )


def _prints_to_file(node: Any) -> bool:
    return bool(node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"))


def refuse_state(graph_def: Any, origin: str) -> None:
    """Refuse a network that changes its own variables while it runs.

    Raises:
        ConversionError: it does.
    """
    for item in operations(graph_def):
        if _KEEPS.fullmatch(item.op):
            raise ConversionError(
                f"{origin} keeps state from one run to the next: {item.op} in {item.layer}. Inference in int8 has no variables: "
                "build it without (`stateful=False`; a signature exported for inference, not for training), or make the state an "
                "input and an output."
            )


def loops(graph_def: Any) -> list[Operation]:
    """The operators that branch or repeat."""
    return [item for item in operations(graph_def) if _LOOPS.fullmatch(item.op)]


def without_signed_zeros(graph_def: Any) -> Any:
    """A copy of a graph without the step that Keras takes before ``argmax`` and ``argmin``.

    It makes -0.0 the smallest number below zero, by bits (``argmax`` in keras/src/backend/tensorflow/numpy.py), for which TFLite has
    no operator. Without it the two zeros are equal, as they are for TensorFlow's own ``argmax``.

    Args:
        graph_def: the graph, whose functions are inlined.
    """
    import tensorflow as tf

    result = type(graph_def)()
    result.CopyFrom(graph_def)
    by_name = {node.name: node for node in result.node}

    def source(name: str) -> Any:
        node = by_name.get(_node(name))
        while node is not None and node.op == "Identity":
            node = by_name.get(_node(node.input[0]))
        return node

    def is_step(node: Any) -> bool:
        if node.op not in ("Select", "SelectV2") or source(node.input[0]).op != "LogicalAnd":
            return False
        chosen = source(node.input[1])
        if chosen.op != "Const":
            return False
        value = np.asarray(tf.make_ndarray(chosen.attr["value"].tensor))
        return bool(value.size == 1 and value.dtype.kind == "f" and value.item() == -float(np.finfo(value.dtype).tiny))

    steps = {node.name: node.input[2] for node in result.node if is_step(node)}
    for node in result.node:
        for place, name in enumerate(node.input):
            if not name.startswith("^") and _node(name) in steps:
                node.input[place] = steps[_node(name)]
    return result


def _node(name: str) -> str:
    """The node that an input's name is of."""
    return name.lstrip("^").split(":")[0]


def narrow_types(found: Iterable[Any]) -> tuple[str, ...]:
    """Which of ``NARROW`` the operators compute in."""
    codes = _narrow_codes()
    kinds = {kind for node in found for value in node.attr.values() for kind in (value.type, *value.list.type)}
    return tuple(sorted({codes[kind] for kind in kinds if kind in codes}))


def _narrow_codes() -> dict[int, str]:
    from tensorflow.core.framework import types_pb2

    named = {"float16": types_pb2.DT_HALF, "bfloat16": types_pb2.DT_BFLOAT16, "float64": types_pb2.DT_DOUBLE}
    return {int(named[name]): name for name in NARROW}


def plain(graph_def: Any) -> Any:
    """A copy of a graph in which float16, bfloat16 and float64 are float32.

    Of its functions those that it calls are left, under new names: TensorFlow keeps functions by name, and has others as these.
    """
    from tensorflow.core.framework import types_pb2

    result = type(graph_def)()
    result.CopyFrom(graph_def)
    names = {name for node in nodes(graph_def) for name in _called(node)}
    called = [function for function in graph_def.library.function if function.signature.name in names]
    result.library.Clear()
    result.library.function.extend(called)
    new = {name: f"{name}_edgekit_{next(_NUMBERS)}" for name in (function.signature.name for function in called)}
    for function in result.library.function:
        function.signature.name = new[function.signature.name]
    codes = _narrow_codes()
    everything = [*result.node, *(node for function in result.library.function for node in function.node_def)]
    for item in (*everything, *result.library.function):
        for key in [
            key for key in item.attr if key.startswith("_")
        ]:  # notes of Grappler's, some of which cannot be saved
            del item.attr[key]
    for node in everything:
        for value in node.attr.values():
            _widen(value, codes)
            for item in (value.func, *value.list.func) if value.HasField("func") else value.list.func:
                item.name = new.get(item.name, item.name)
    for function in result.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type in codes:
                argument.type = types_pb2.DT_FLOAT
    return result


def _widen(value: Any, codes: Mapping[int, str]) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    kind = value.WhichOneof("value")
    if kind == "type" and value.type in codes:
        value.type = types_pb2.DT_FLOAT
    elif kind == "tensor" and value.tensor.dtype in codes:
        array = np.asarray(tf.make_ndarray(value.tensor)).astype(np.float32)
        value.tensor.CopyFrom(tf.make_tensor_proto(array, tf.float32))
    elif kind == "list":
        for number, item in enumerate(value.list.type):
            if item in codes:
                value.list.type[number] = types_pb2.DT_FLOAT
    elif kind == "func":
        for inner in value.func.attr.values():
            _widen(inner, codes)
