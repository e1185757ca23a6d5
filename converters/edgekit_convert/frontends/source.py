"""``Source``: a trained model that was opened and recognised, and not converted yet. ``Opening``: how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit_convert.frontends.examples import Examples


@dataclass(frozen=True)
class Opening:
    """How a trained model is opened; what a frontend has no use for is an error there, never ignored.

    Attributes:
        signature: of a SavedModel or ``.tflite`` with several; ``None`` for the default one.
        shapes: fixed input shapes by input name, the batch first; the name ``""`` stands for the only input.
        batch: samples in one run of a second signature; ``None`` for none.
        trust_source: whether code that a model file carries (Lambda layers, objects in a ``.pt2``) may be run.
        model: for files that hold weights alone: a function without arguments that makes the model, or ``module:function``.
        channels_last: whether inputs that the original takes with the channels first come out with the channels last; ``None``
            for the frontend's own choice.
        examples: calibration data, for sources that do not say what their inputs look like; ``None`` where there are none. It is
            no option, and no frontend has to use it.
    """

    signature: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int | None = None
    trust_source: bool = False
    model: Callable[[], Any] | str | None = None
    channels_last: bool | None = None
    examples: Examples | None = None


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        kind: ``"keras"``, ``"h5"``, ``"saved_model"``, ``"onnx"``, ``"torch"`` or ``"tflite"``.
        name: its file name, or the model's own name.
        inputs: what goes in; -1 for open sizes, the batch among them.
        export: makes the float ``.tflite`` for input shapes by name, none open.
        reference: runs the original framework on inputs by name and gives the outputs in order, for comparing;
            ``None`` when the source is the pivot format itself.
        notes: what was done to open it that the user should know.
        input_scale: the factor of a rescaling layer at the model's own input, where it is known.
        owner: the framework's object that must live as long as the functions above are called.
        layouts: for inputs whose axes the file has in another order than the original, by name: which axis of the original each
            axis of the file is, ``(0, 2, 3, 1)`` where channels were first. ``inputs`` are as the file has them.
        output_layouts: the same for outputs; ``reference`` gives them as the file has them.
        export_notes: like ``notes``, filled in by the export.
    """

    kind: str
    name: str
    inputs: tuple[TensorSpec, ...]
    export: Callable[[dict[str, tuple[int, ...]]], bytes]
    reference: Callable[[dict[str, Array]], list[Array]] | None = None
    notes: tuple[str, ...] = ()
    input_scale: float | None = None
    owner: object = None
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    output_layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    export_notes: list[str] = field(default_factory=list)
