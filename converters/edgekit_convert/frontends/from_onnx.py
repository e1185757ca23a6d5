"""ONNX, through onnx2tf in an environment of its own, held to onnxruntime.

Images come out with the channels last, which is what the kernels of TFLite want: ``Source.layouts`` says which inputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array, TensorSpec
from edgekit_convert import environments
from edgekit_convert import graph as editing
from edgekit_convert.environments.worker import Worker
from edgekit_convert.frontends.source import Opening, Source
from edgekit_convert.frontends.unused import refuse_unused

_MODULE = "edgekit_convert.frontends.onnx_child.serving"

#: TensorFlow's log, and no other device than the processor.
_VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"}


def open_model(path: Path, opening: Opening) -> Source:
    """Open an ``.onnx`` file.

    Args:
        path: the file; its weights may lie in files beside it.
        opening: ``channels_last`` is of use here, ``shapes`` and ``batch`` are dealt with behind.

    Raises:
        ModelFileError: it is damaged, or its weights are missing.
        AlreadyQuantisedError: it is quantised.
        ConversionError: the environment is not there, or the model has something that cannot be converted.
        OptionError: an option that an ONNX file has no use for.
    """
    refuse_unused(opening, "an ONNX file", "signature", "trust_source", "model")
    worker = Worker(environments.require("onnx", f"{path} is an ONNX model, which"), _MODULE, _VARIABLES)
    seen = worker.ask("open", path=str(path.absolute()), channels_last=opening.channels_last is not False)
    specs = tuple(TensorSpec(item["name"], tuple(item["shape"]), item["dtype"]) for item in seen["inputs"])
    layouts = {item["name"]: tuple(item["layout"]) for item in seen["inputs"] if item["layout"] is not None}
    notes = tuple(seen["notes"])
    outputs: list[str] = seen["outputs"]
    # Filled in by the export: only then is it known how the outputs come out, and on what they were compared.
    output_layouts: dict[str, tuple[int, ...]] = {}
    export_notes: list[str] = []

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        file = worker.folder / "float.tflite"
        made = worker.ask("export", shapes={spec.name: list(shapes[spec.name]) for spec in specs}, output=str(file))
        export_notes[:] = made["notes"]
        for name, axes in zip(outputs, made["outputs"], strict=True):
            if axes != sorted(axes):
                output_layouts[name] = tuple(axes)
        return _named(file.read_bytes(), [spec.name for spec in specs], outputs)

    def reference(values: dict[str, Array]) -> list[Array]:
        given, made = worker.folder / "inputs.npz", worker.folder / "outputs.npz"
        arrays: dict[str, Any] = {f"a{number}": values[spec.name] for number, spec in enumerate(specs)}
        np.savez(given, **arrays)
        answer = worker.ask("run", names=[spec.name for spec in specs], inputs=str(given), outputs=str(made))
        with np.load(made) as file:
            return [file[f"a{number}"] for number in range(answer["count"])]

    return Source(
        "onnx", path.name, specs, export, reference, notes, owner=worker, layouts=layouts,
        output_layouts=output_layouts, export_notes=export_notes,
    )  # fmt: skip


def _named(flatbuffer: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """Give inputs and outputs the original's names and order.

    Args:
        flatbuffer: with ``input_0``, ``output_0`` and so on in its signature.
        inputs: the original's names.
        outputs: likewise.

    Raises:
        ConversionError: inputs or outputs are missing.
    """
    edited = editing.read(flatbuffer)
    (signature,) = edited.signatureDefs
    main = edited.subgraphs[0]
    for side, kind, names in ((signature.inputs, "input", inputs), (signature.outputs, "output", outputs)):
        places = {item.name.decode(): item for item in side}
        wanted = [f"{kind}_{number}" for number in range(len(names))]
        if sorted(places) != sorted(wanted):
            raise ConversionError(
                f"the float model has the {kind}s {sorted(places)} of {len(names)}: please report this model."
            )
        for key, name in zip(wanted, names, strict=True):
            places[key].name = name.encode()
        setattr(main, f"{kind}s", [int(places[key].tensorIndex) for key in wanted])
    return editing.write(edited)
