"""What a delegate takes of a graph, learned from the runtime itself: what it leaves outside, why, and what that costs."""

from __future__ import annotations

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine


def left_outside(content: bytes, spec: DelegateSpec) -> frozenset[str]:
    """The operators that a delegate leaves to the interpreter's own kernels, as the interpreter here says once it has loaded the model.

    Args:
        content: a flatbuffer.
        spec: the delegate.

    Returns:
        The operators of the main subgraph by the names of their first outputs, QUANTIZE and DEQUANTIZE among them.

    Raises:
        ModelFileError: it is not a sound model.
        EngineError: the interpreter refused it.
        DelegateError: the delegate cannot be loaded.
    """
    model = ModelFile.read(content)
    engine = open_engine(model, spec)
    try:
        outside = engine.partitions().outside
    finally:
        engine.close()
    main = model.graph.main
    return frozenset(main.tensors[main.ops[index].outputs[0]].name for index in outside if main.ops[index].outputs)
