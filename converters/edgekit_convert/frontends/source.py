"""``Source``: a trained model that was opened and recognised, and not converted yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.tensors import Array, TensorSpec


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        kind: ``"keras"``, ``"h5"``, ``"saved_model"`` or ``"tflite"``.
        name: its file name, or the model's own name.
        inputs: what goes in; -1 for open sizes, the batch among them.
        export: makes the float ``.tflite`` for input shapes by name, none open.
        reference: runs the original framework on inputs by name and gives the outputs in order, for comparing;
            ``None`` when the source is the pivot format itself.
        notes: what was done to open it that the user should know.
        input_scale: the factor of a rescaling layer at the model's own input, where it is known.
        owner: the framework's object that must live as long as the functions above are called.
    """

    kind: str
    name: str
    inputs: tuple[TensorSpec, ...]
    export: Callable[[dict[str, tuple[int, ...]]], bytes]
    reference: Callable[[dict[str, Array]], list[Array]] | None = None
    notes: tuple[str, ...] = ()
    input_scale: float | None = None
    owner: object = None
