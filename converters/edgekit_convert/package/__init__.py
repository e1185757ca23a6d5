"""What goes into the file beside the graph: the manifest, and the standard TFLite metadata for other tools.

The standard metadata (``TFLITE_METADATA``) is a flatbuffer of its own, described by ``metadata_schema.fbs`` of the
TensorFlow Lite Support library; the field numbers below are that schema's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.manifest import LABELS_NAME
from edgekit.preprocess import Preprocessing
from edgekit.tensors import TensorSpec

ENTRY = "TFLITE_METADATA"
_NORMALIZATION_OPTIONS = 1  # union ProcessUnitOptions
_FEATURE, _IMAGE = 1, 2  # union ContentProperties
_RGB, _GRAYSCALE = 1, 2  # enum ColorSpaceType
_AXIS_LABELS = 2  # enum AssociatedFileType


class _Writer:
    """Flatbuffer tables from lists of fields."""

    def __init__(self) -> None:
        import flatbuffers

        self.builder: Any = flatbuffers.Builder(1024)

    def table(self, size: int, offsets: Mapping[int, int], bytes_: Mapping[int, int] | None = None) -> int:
        self.builder.StartObject(size)
        for slot, value in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        for slot, value in (bytes_ or {}).items():
            self.builder.PrependInt8Slot(slot, value, 0)
        return int(self.builder.EndObject())

    def integers(self, values: Sequence[int]) -> int:
        self.builder.StartObject(len(values))
        for slot, value in enumerate(values):
            self.builder.PrependUint32Slot(slot, value, 0)
        return int(self.builder.EndObject())

    def string(self, text: str) -> int:
        return int(self.builder.CreateString(text))

    def floats(self, values: Sequence[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())


def standard_metadata(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    preprocessing: Mapping[str, Preprocessing],
    labels: Sequence[str],
) -> bytes:
    """The ``TFLITE_METADATA`` block: normalisation of each input, labels of the first output.

    Args:
        name: the model's name.
        inputs: as in the file, in the subgraph's order.
        outputs: likewise.
        preprocessing: by input name.
        labels: class names, written as ``labels.txt`` behind the flatbuffer.
    """
    writer = _Writer()
    ins = [_input(writer, spec, preprocessing.get(spec.name)) for spec in inputs]
    outs = [_output(writer, spec, bool(labels) and number == 0) for number, spec in enumerate(outputs)]
    graph = writer.table(5, {2: writer.tables(ins), 3: writer.tables(outs)})
    fields = {0: writer.string(name), 3: writer.tables([graph]), 7: writer.string("1.0.0")}
    writer.builder.Finish(writer.table(8, fields), b"M001")
    return bytes(writer.builder.Output())


def _input(writer: _Writer, spec: TensorSpec, preprocessing: Preprocessing | None) -> int:
    fields = {0: writer.string(spec.name), 3: _content(writer, spec, preprocessing)}
    if preprocessing is not None and preprocessing.mean:
        options = writer.table(2, {0: writer.floats(preprocessing.mean), 1: writer.floats(preprocessing.std)})
        fields[4] = writer.tables([writer.table(2, {1: options}, {0: _NORMALIZATION_OPTIONS})])
    return writer.table(7, fields)


def _content(writer: _Writer, spec: TensorSpec, preprocessing: Preprocessing | None) -> int:
    if len(spec.shape) == 4 and spec.shape[-1] in (1, 3):
        size = writer.integers([spec.shape[2], spec.shape[1]])
        # The schema has no BGR: an order that it cannot name is left unknown.
        color = _GRAYSCALE if spec.shape[-1] == 1 else _RGB if preprocessing and preprocessing.color == "rgb" else 0
        return writer.table(3, {1: writer.table(2, {1: size}, {0: color})}, {0: _IMAGE})
    return writer.table(3, {1: writer.table(0, {})}, {0: _FEATURE})


def _output(writer: _Writer, spec: TensorSpec, labelled: bool) -> int:
    fields = {0: writer.string(spec.name), 3: writer.table(3, {1: writer.table(0, {})}, {0: _FEATURE})}
    if labelled:
        fields[6] = writer.tables([writer.table(5, {0: writer.string(LABELS_NAME)}, {2: _AXIS_LABELS})])
    return writer.table(7, fields)
