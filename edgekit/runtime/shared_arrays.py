"""Memory that a program and the process of an isolated model both see, with a place for each input and output.

Sending an image through a pipe copies it twice and changes places between the processes again and again. Here it is copied once.
The memory is sealed in its size: a process that could shrink it would end the other one with a bus error.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np

from edgekit.tensors import Array, TensorSpec

#: Below this a pipe is as fast.
LEAST_BYTES = 32 * 1024
#: Above this the memory is better spent otherwise.
_MOST_BYTES = 1 << 30
_ALIGNMENT = 64


class SharedArrays:
    """Arrays in shared memory, one for each input and output of a model whose sizes are all fixed.

    Args:
        descriptor: of the memory; ``make`` opens one.
        inputs: what goes into the model.
        outputs: what comes out.

    Attributes:
        descriptor: of the memory.
        inputs: an array for each input.
        outputs: an array for each output.
    """

    def __init__(self, descriptor: int, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        import mmap

        self.descriptor = descriptor
        specs = (*inputs, *outputs)
        places, total = _layout(specs)
        memory = mmap.mmap(descriptor, total)
        arrays: list[Array] = [
            np.frombuffer(memory, spec.dtype, int(np.prod(spec.shape)), place).reshape(spec.shape)
            for spec, place in zip(specs, places, strict=True)
        ]
        self.inputs, self.outputs = arrays[: len(inputs)], arrays[len(inputs) :]

    @classmethod
    def make(cls, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> SharedArrays | None:
        """Memory for a model; ``None`` where pipes serve as well or the system has no such memory (it is Linux's)."""
        specs = (*inputs, *outputs)
        if any(size < 1 for spec in specs for size in spec.shape) or not hasattr(os, "memfd_create"):
            return None
        _, total = _layout(specs)
        if not LEAST_BYTES <= total <= _MOST_BYTES:
            return None
        with contextlib.suppress(OSError, ImportError, AttributeError):
            import fcntl

            descriptor = os.memfd_create("edgekit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.ftruncate(descriptor, total)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                return cls(descriptor, inputs, outputs)
            except BaseException:
                os.close(descriptor)
                raise
        return None

    def close(self) -> None:
        """Close the descriptor; the memory goes with the arrays."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            self.close()


def _layout(specs: tuple[TensorSpec, ...]) -> tuple[list[int], int]:
    """Where each array begins, and the length of all."""
    places, at = [], 0
    for spec in specs:
        places.append(at)
        size = np.dtype(spec.dtype).itemsize
        for item in spec.shape:
            size *= item
        at += size + -size % _ALIGNMENT
    return places, at
