"""New float constants in a ``ModelT`` object."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.tensors import Array
from edgekit_convert import graph as editing


def float_constant(model: Any, name: bytes, values: Array) -> int:
    """Add a float32 constant to the main subgraph and return its tensor index."""
    types = editing.schema()
    main = model.subgraphs[0]
    buffer, tensor = types.BufferT(), types.TensorT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    tensor.name = name + b"_edgekit_%d" % len(main.tensors)
    tensor.shape, tensor.type, tensor.hasRank = list(values.shape), types.TensorType.FLOAT32, True
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    main.tensors.append(tensor)
    return len(main.tensors) - 1
