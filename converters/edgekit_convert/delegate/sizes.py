"""Sizes that stand in no file: open ones, and those that the model itself computes while it runs."""

from __future__ import annotations

from edgekit.bench.inputs import random_inputs
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing

#: What the interpreter raises when it refuses.
_FOREIGN = (ValueError, RuntimeError, MemoryError)
AS_ONE = "sizes are open: operators were tried and measured with each of them taken as 1."
AS_STORED = "sizes are open, and operators were tried and measured at those that are stored in the file."


def with_sizes(model: ModelFile) -> tuple[bytes, str | None]:
    """The model with the sizes that its tensors have when it runs, open ones taken as 1, so that its parts can run alone.

    Args:
        model: any model.

    Returns:
        The flatbuffer, its operators and tensors as they were; and what to know of it, if anything.
    """
    main = model.graph.main
    sized = all(-1 not in tensor.shape_signature for tensor in main.tensors)
    computed = any(
        main.tensors[index].data is None and main.tensors[index].dtype in ("int32", "int64")
        for op in main.ops
        for index in op.inputs[1:]
        if index >= 0
    )
    if sized and not computed:
        return model.content, None
    from ai_edge_litert import interpreter as litert

    try:
        interpreter = litert.Interpreter(
            model_content=model.content,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        for index, spec in zip(main.inputs, model.inputs, strict=True):
            interpreter.resize_tensor_input(index, [max(1, size) for size in spec.shape])
        interpreter.allocate_tensors()
        values = random_inputs(model.inputs)
        for index, spec in zip(main.inputs, model.inputs, strict=True):
            interpreter.set_tensor(index, values[spec.name])
        interpreter.invoke()
        known = {item["index"]: [int(size) for size in item["shape"]] for item in interpreter.get_tensor_details()}
    except (*_FOREIGN, TypeError):
        return model.content, None if sized else AS_STORED
    edited = editing.read(model.content)
    for index, tensor in enumerate(edited.subgraphs[0].tensors):
        if index in known and main.tensors[index].data is None:
            tensor.shape = known[index]
        tensor.shapeSignature = None
    return editing.write(edited), None if sized else AS_ONE
