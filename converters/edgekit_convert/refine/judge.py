"""How good a candidate is: the noise that int8 adds to the outputs, on data that no refinement looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.graph import Tensor
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array, dequantize, quantize
from edgekit_convert.graph.slices import Runner, Sliceable
from edgekit_convert.refine.objective import Noise, targets


class Judge:
    """Compares int8 candidates with the float model, on the delegate that will run them.

    Args:
        float_model: the float flatbuffer.
        samples: float inputs in the graph's order.
        spec: the delegate.

    Raises:
        ConversionError: the interpreter cannot run the float model.
    """

    def __init__(self, float_model: bytes, samples: Sequence[Sequence[Array]], spec: DelegateSpec) -> None:
        self._samples = samples
        self._delegate = spec.kind != "none"
        whole = Sliceable(float_model)
        self._targets = targets(whole.main)
        wanted = [target.tensor for target in self._targets]
        self._names = [whole.main.tensors[index].name for index in wanted]
        runner = Runner(
            whole.cut(whole.leading(wanted), wanted, whole.main.inputs, behind=True).content, delegate=self._delegate
        )
        self._exact = [runner.run(sample) for sample in samples]

    def noise(self, candidate: bytes) -> Array:
        """Each sample's noise at the model's outputs, or at the logits in place of a softmax.

        It is the energy relative to that of the float outputs, times the number of samples: the mean is the noise share.

        Args:
            candidate: a flatbuffer that was made from the float model; outputs correspond by name.

        Raises:
            ConversionError: the interpreter cannot run it.
        """
        whole = Sliceable(candidate)
        tensors = whole.main.tensors
        by_name = {tensor.name: index for index, tensor in enumerate(tensors)}
        # Under its own name a tensor is in the file's type; beside it, or in its place, may be the form of an operator that left int8.
        forms = [
            [form for form in (name, f"{name}_float32", f"{name}_int16") if form in by_name] for name in self._names
        ]
        wanted = [by_name[found[0]] for found in forms if found]
        if len(wanted) < len(self._names):
            wanted = [int(index) for index in whole.main.outputs]
        runner = Runner(
            whole.cut(whole.leading(wanted), wanted, whole.main.inputs, behind=True).content, delegate=self._delegate
        )
        noise = Noise(self._targets, keep_mean=True)
        inputs = [tensors[index] for index in whole.main.inputs]
        for sample, exact in zip(self._samples, self._exact, strict=True):
            given = [as_input(tensor, value) for tensor, value in zip(inputs, sample, strict=True)]
            outputs = runner.run(given)
            noise.add(exact, [_real(tensors[index], value) for index, value in zip(wanted, outputs, strict=True)])
        return noise.by_sample()


def as_input(tensor: Tensor, value: Array) -> Array:
    """A float input in a tensor's own type."""
    plain = tensor.quant is None or tensor.dtype == "float32"
    return value if plain or tensor.quant is None else quantize(value, tensor.quant, tensor.dtype)


def _real(tensor: Tensor, value: Array) -> Array:
    plain = tensor.quant is None or tensor.dtype == "float32"
    return value if plain or tensor.quant is None else np.asarray(dequantize(value, tensor.quant))
