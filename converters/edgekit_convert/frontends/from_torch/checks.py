"""What of PyTorch a ``.tflite`` cannot hold: what is quantised, without values, in training, or with a state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import AlreadyQuantisedError, ConversionError
from edgekit.modelfile import ModelFile


def check_module(torch: Any, module: Any) -> None:
    """Refuse a module that is quantised, or whose weights have no values.

    Raises:
        AlreadyQuantisedError: it is quantised.
        ConversionError: some of its tensors are on PyTorch's device "meta", which keeps sizes alone.
    """
    kind = type(module).__name__
    quantised = [
        name or type(inner).__name__
        for name, inner in module.named_modules()
        if "quantized" in type(inner).__module__.split(".")
    ]
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    if quantised or any(value.is_quantized for value in tensors.values()) or _has_subclass(torch, [*tensors.values()]):
        raise AlreadyQuantisedError(
            f"{kind} is quantised already{f' ({quantised[0]})' if quantised else ''}. A float model was expected: "
            "convert the model that it was made from."
        )
    lazy = torch.nn.parameter.is_lazy
    empty = next((name for name, value in tensors.items() if not lazy(value) and value.device.type == "meta"), None)
    if empty is not None:
        raise ConversionError(
            f"{kind} has weights without values ({empty} is on the device 'meta'): make it on the CPU, and load its weights with "
            "load_state_dict."
        )


def _has_subclass(torch: Any, tensors: Sequence[Any]) -> bool:
    """Whether a weight is kept in a form of its own, as torchao keeps quantised ones."""
    return any(type(value.data) is not torch.Tensor for value in tensors)


def check_program(program: Any, name: str, *, exported: bool) -> None:
    """Refuse a program that is quantised, computes as in training, or keeps something from run to run.

    Args:
        program: a ``torch.export`` program.
        name: what it is called.
        exported: whether its maker exported it; else it was a module in evaluation just now.

    Raises:
        AlreadyQuantisedError: it is quantised.
        ConversionError: it computes as in training, or changes its own tensors.
    """
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        if "quantize" in str(schema.name):
            raise AlreadyQuantisedError(
                f"{name} is quantised already: it has {schema.name}. A float program was expected: export the model that it was "
                "made from."
            )
        given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
        operator = str(schema.name).partition("::")[2]
        # In a module in evaluation, a normalisation by the sample's own statistics is meant (track_running_stats=False).
        own_statistics = exported and "norm" in operator and given.get("training") is True
        if own_statistics or ("dropout" in operator and given.get("train") is True):
            what = "was exported in training mode" if exported else "computes as in training, also after model.eval()"
            remedy = (
                "Call model.eval() before torch.export.export."
                if exported
                else "Pass training=self.training to the function in forward, or use its module."
            )
            raise ConversionError(
                f"{name} {what}: {schema.name} computes with the batch's own statistics, or drops values by chance. {remedy}"
            )
    changed = _changed(program)
    if changed:
        raise ConversionError(
            f"{name} changes {', '.join(changed)} in each run, and a .tflite keeps nothing from one run to the next. Make it an "
            "input and an output of forward, which the program passes on from run to run."
        )


def check_file(flatbuffer: bytes) -> None:
    """Refuse operators that litert-torch writes with functions of their own, as it does for ``torch.sort``.

    No interpreter here runs those, and their ranges could not be measured.

    Raises:
        ConversionError: there is one; it is named with its place.
    """
    graph = ModelFile.read(flatbuffer).graph
    if len(graph.subgraphs) == 1:
        return
    main = graph.main
    found = {op.name: main.tensors[op.outputs[0]].name for op in main.ops if op.name.startswith("STABLEHLO_")}
    named = ", ".join(f"{name} at {place!r}" for name, place in found.items()) or f"{len(graph.subgraphs)} graphs"
    raise ConversionError(
        f"litert-torch turned the model into {named}, whose inner function no interpreter here can run. Replace the operator in the "
        "model (torch.topk converts, torch.sort does not), or convert the part of the model before it."
    )


def _changed(program: Any) -> list[str]:
    """Buffers and weights that a run writes to."""
    signature = program.graph_signature
    own = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found = [str(name) for name in signature.buffers_to_mutate.values()]
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and hasattr(value, "op"):
                written = _viewed(value)
                if written.op == "placeholder" and written.name in own:
                    found.append(str(own[written.name]))
    return list(dict.fromkeys(found))


def _viewed(node: Any) -> Any:
    """The tensor whose memory a tensor shares: views and operators in place lead back to it."""
    while node.op == "call_function":
        schema = getattr(node.target, "_schema", None)
        shares = schema is not None and schema.arguments and schema.arguments[0].alias_info is not None
        if not shares or not node.args or not hasattr(node.args[0], "op"):
            break
        node = node.args[0]
    return node
