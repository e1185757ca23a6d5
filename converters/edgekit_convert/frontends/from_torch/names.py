"""What a converted file calls its inputs, outputs and tensors: the network's own names.

litert-torch numbers what goes in and out, and calls each tensor by the classes of all modules around the operators that made it. In
a network of 200 KB those names were 40 KB.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekit.errors import ConversionError
from edgekit_convert import graph as editing

#: What the module around the network calls it.
NETWORK = "network"
#: The class of that module.
AROUND = "Edges"
#: A tensor's name as litert-torch writes it: places, of which each ends with ";", and a number that sets it apart.
_MADE = re.compile(r"(?P<places>.+);(?P<number>\d*)", re.DOTALL)


def places_of(program: Any) -> dict[str, str]:
    """Where the operators of an exported program come from, by their names in its graph.

    A program that is traced once more, as litert-torch does, forgets that.
    """
    found = {}
    for node in program.graph.nodes:
        place = _path(node)
        if node.op == "call_function" and place is not None:
            found[str(node.name)] = place
    return found


@contextlib.contextmanager
def called_by_paths(places: Mapping[str, str]) -> Iterator[None]:
    """Let litert-torch call what it makes by the path of the module that it comes from: ``features.0.conv``.

    Without that it is the class of each module on the way, with the last part of its path: long, and the same for modules of two
    containers. The function is litert-torch's own and no promise of it; where it is another, names stay long.

    Args:
        places: see ``places_of``; empty for a module.
    """
    try:
        from litert_torch.backend import debuginfo
    except ImportError:
        debuginfo = None
    before = getattr(debuginfo, "build_mlir_debuginfo", None)
    if before is None:
        yield
        return

    def place(node: Any) -> str | None:
        found = _path(node)
        if found is None:
            return None
        if found == "":  # of the edges, or of a program, whose graph is one module
            origin = _first_name(node)
            found = places.get(origin, origin)
        return f"{found};"

    debuginfo.build_mlir_debuginfo = place
    try:
        yield
    finally:
        debuginfo.build_mlir_debuginfo = before


def _path(node: Any) -> str | None:
    """The path of the innermost module that an operator comes from, the class for the network itself, "" for what is around it."""
    stack = list((getattr(node, "meta", None) or {}).get("nn_module_stack", {}).values())
    if not stack:
        return None
    path, kind = stack[-1]
    path = path.removeprefix("L['self']").removeprefix("L__self__").lstrip(".")
    whole = (kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]
    if whole == AROUND:
        return ""
    return path.removeprefix(NETWORK).lstrip(".") or whole


def _first_name(node: Any) -> str:
    """An operator's name in the graph that was traced first."""
    history = node.meta.get("from_node") or []
    name = str(node.name)
    while history:
        name, history = str(history[0].name), history[0].from_node
    return name


def with_names(flatbuffer: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Give the signature the network's own names, and tensors short ones.

    Args:
        flatbuffer: what litert-torch made.
        inputs: in the order of the network.
        outputs: likewise.

    Raises:
        ConversionError: an input or output is not in the file.
    """
    edited = editing.read(flatbuffer)
    (signature,) = edited.signatureDefs
    by_name = {item.name.decode(): item for item in signature.inputs}
    if set(by_name) != {f"args_{number}" for number in range(len(inputs))} or len(signature.outputs) != len(outputs):
        seen = f"{', '.join(by_name)} and {len(signature.outputs)} outputs"
        raise ConversionError(
            f"litert-torch left out inputs or outputs of the model: {', '.join(inputs)} and {len(outputs)} outputs were expected, "
            f"and {seen} are in the file. An input that nothing depends on cannot be converted."
        )
    numbered = {item.name.decode(): item for item in signature.outputs}
    main = edited.subgraphs[signature.subgraphIndex]
    main.inputs = [int(by_name[f"args_{number}"].tensorIndex) for number in range(len(inputs))]
    main.outputs = [int(numbered[f"output_{number}"].tensorIndex) for number in range(len(outputs))]
    for number, name in enumerate(inputs):
        by_name[f"args_{number}"].name = name.encode()
    for number, name in enumerate(outputs):
        numbered[f"output_{number}"].name = name.encode()
    signature.inputs = [by_name[f"args_{number}"] for number in range(len(inputs))]
    signature.outputs = [numbered[f"output_{number}"] for number in range(len(outputs))]
    _rename(main, dict(zip(main.inputs, inputs, strict=True)) | dict(zip(main.outputs, outputs, strict=True)))
    return editing.write(edited)


def _rename(main: Any, edges: dict[int, str]) -> None:
    """Give a subgraph's tensors short names, each its own.

    What operators make comes first, so that it has the plain names and the weights have numbers behind theirs.
    """
    made = [int(index) for op in main.operators for index in op.outputs]
    taken: set[str] = set()
    for index in dict.fromkeys([*edges, *made, *range(len(main.tensors))]):
        if index < 0:  # an output that is left out
            continue
        tensor = main.tensors[index]
        before = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name or ""
        plain = edges.get(index) or _short(before)
        name, number = plain, 0
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        tensor.name = name.encode()


def _short(name: str) -> str:
    """The operator that made a tensor, and the first of those that were fused into it: ``features.0.2;features.0.0``.

    What stands between is left out: it may be the place of another operator, which litert-torch turned into the same function.
    """
    found = _MADE.fullmatch(name)
    if found is None:
        return name
    places = [place for place in found.group("places").split(";") if place]
    return ";".join(dict.fromkeys((places[0], places[-1]))) if places else name
