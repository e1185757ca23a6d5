"""What the compiler did: a compiled model beside its source."""

from __future__ import annotations

from edgekit.errors import ModelFileError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import EDGETPU_OPERATOR


def mapped_in(source: ModelFile, compiled: ModelFile) -> tuple[bool, ...]:
    """For each operator of the source whether the compiler mapped it: what stands in the compiled file stayed on the CPU.

    Operators are found again by their kind and the name of their first output, which the compiler keeps.

    Args:
        source: the model before the compiler.
        compiled: the same after it.

    Raises:
        ModelFileError: the second was not compiled for the Edge TPU, or from another model.
    """
    before, after = source.graph.main, compiled.graph.main
    if not any(op.name == EDGETPU_OPERATOR for op in after.ops):
        raise ModelFileError(f"{compiled.name} has no part that was compiled for the Edge TPU ({EDGETPU_OPERATOR}).")
    left: dict[tuple[str, str], int] = {}
    for op in after.ops:
        if op.name != EDGETPU_OPERATOR:
            key = (op.name, after.tensors[op.outputs[0]].name if op.outputs else "")
            left[key] = left.get(key, 0) + 1
    mapped = []
    for op in before.ops:
        key = (op.name, before.tensors[op.outputs[0]].name if op.outputs else "")
        stayed = left.get(key, 0) > 0
        if stayed:
            left[key] -= 1
        mapped.append(not stayed)
    unknown = [f"{name} ({output!r})" for (name, output), count in left.items() if count]
    if unknown:
        raise ModelFileError(
            f"{compiled.name} was not made from {source.name}: the source has no {', '.join(unknown[:3])}."
        )
    return tuple(mapped)
