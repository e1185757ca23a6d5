"""The editable flatbuffer: read into objects, repaired, pinned, given other edges, written back.

The objects are those of LiteRT's own schema package; ``edgekit.graph`` is the read-only view that a device uses.
"""

from __future__ import annotations

import copy
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, ModelFileError
from edgekit.manifest import ENTRY, announcement
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array


def schema() -> Any:
    """LiteRT's schema package, with the object for each table.

    Raises:
        ConversionError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ConversionError(
            f"editing a model needs ai-edge-litert ({error}): `pip install 'edgekit[convert]'`."
        ) from error
    return schema_py_generated


def read(flatbuffer: bytes) -> Any:
    """Read a flatbuffer into a ``ModelT`` object; buffers outside the flatbuffer are brought in.

    Raises:
        ModelFileError: a field that no interpreter reads leads out of the file.
    """
    schema()
    from ai_edge_litert.tools import flatbuffer_utils

    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"the model is damaged: {error}. Copy or download the file again, or convert the model again."
        ) from error
    for buffer in model.buffers or []:
        if isinstance(buffer.data, bytearray):  # from outside the flatbuffer; it would be packed byte by byte
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def write(model: Any) -> bytes:
    """Pack a ``ModelT`` object."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    with warnings.catch_warnings():
        # The schema package compares arrays in a way that numpy announces to change.
        warnings.simplefilter("ignore", DeprecationWarning)
        builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def repair(model: ModelFile) -> tuple[bytes, tuple[str, ...]]:
    """Mend what keeps other tools from reading an old file.

    Operator codes that stand only in the field of TensorFlow before 2.4 are copied to today's field, a missing
    signature is added, and tensors without a name or with another's name get one of their own.

    Args:
        model: a checked file.

    Returns:
        The flatbuffer, and what was done.
    """
    edited = read(model.content)
    notes: list[str] = []
    if model.graph.old_operator_codes:
        for code in edited.operatorCodes:
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        notes.append("operator codes of a file from before TensorFlow 2.4 upgraded")
    main = edited.subgraphs[0]
    renamed = 0
    taken: set[bytes] = set()
    for index, tensor in enumerate(main.tensors):
        name = _bytes(tensor.name)
        if not name or name in taken:
            name = (name or b"tensor") + b"_edgekit_%d" % index
            tensor.name = name
            renamed += 1
        taken.add(name)
    if renamed:
        notes.append(f"{renamed} tensors given a name of their own")
    if not any(signature.subgraphIndex == 0 for signature in edited.signatureDefs or []):
        edited.signatureDefs = [*(edited.signatureDefs or []), _signature(main)]
        notes.append("signature 'serving_default' added")
    # Metadata of the source describes the source: its own manifest or normalisation would be wrong in the result.
    edited.metadata = [item for item in edited.metadata or [] if _bytes(item.name) == b"min_runtime_version"]
    return write(edited), tuple(notes)


def _bytes(text: bytes | str | None) -> bytes:
    return text.encode() if isinstance(text, str) else text or b""


def _signature(main: Any) -> Any:
    types = schema()

    def maps(indices: Any) -> list[Any]:
        result = []
        for index in indices:
            item = types.TensorMapT()
            item.name, item.tensorIndex = main.tensors[index].name, int(index)
            result.append(item)
        return result

    signature = types.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = maps(main.inputs), maps(main.outputs)
    return signature


def pin_shapes(flatbuffer: bytes, shapes: Mapping[str, tuple[int, ...]], said: list[str] | None = None) -> bytes:
    """Fix every open size.

    The interpreter resizes its inputs and works out each tensor's shape; those are written into the file and the
    open sizes removed. A RESHAPE to sizes that were right for others is loosened where its meaning is plain, see ``sizes``.

    Args:
        flatbuffer: a float model with a signature.
        shapes: the inputs' shapes by name, none open.
        said: gets a note where operators were loosened; ``None`` when nobody asks.

    Raises:
        ConversionError: the graph does not work at these sizes; the operator is named.
    """
    model = ModelFile.read(flatbuffer)
    same = all(shapes[spec.name] == spec.shape for spec in model.inputs)
    tensors = model.graph.main.tensors
    if same and all(-1 not in tensor.shape_signature for tensor in tensors):
        return flatbuffer
    from edgekit_convert.graph.sizes import fit_sizes

    edited = read(flatbuffer)
    loosened = fit_sizes(
        edited, {index: shapes[spec.name] for index, spec in zip(model.graph.main.inputs, model.inputs, strict=True)}
    )
    if loosened and said is not None:
        names = [tensors[model.graph.main.ops[number].outputs[0]].name for number in loosened]
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        said.append(
            f"{len(names)} RESHAPE{'s' if len(names) > 1 else ''} with a fixed number of places loosened for these sizes: {listed}"
        )
    return write(edited)


def uint8_edges(flatbuffer: bytes) -> bytes:
    """Give an int8 model uint8 inputs and outputs: a QUANTIZE between each and the int8 tensor behind it.

    The integers differ by 128 and so do the zero points, so nothing is rounded.

    Args:
        flatbuffer: a model with int8 inputs and outputs.
    """
    types = schema()
    edited = read(flatbuffer)
    main = edited.subgraphs[0]
    code = operator_code(edited, types.BuiltinOperator.QUANTIZE, version=2)  # version 1 has no uint8 → int8
    renumbered: dict[int, int] = {}
    front: list[Any] = []
    back: list[Any] = []
    for side, indices in (("input", list(main.inputs)), ("output", list(main.outputs))):
        for position, index in enumerate(indices):
            inner = main.tensors[index]
            if inner.type != types.TensorType.INT8:
                continue
            outer = copy.copy(inner)
            outer.quantization = copy.copy(inner.quantization)
            outer.quantization.zeroPoint = [int(inner.quantization.zeroPoint[0]) + 128]
            outer.type = types.TensorType.UINT8
            inner.name = _bytes(inner.name) + b"_int8"
            main.tensors.append(outer)
            number = len(main.tensors) - 1
            renumbered[index] = number
            op = types.OperatorT()
            op.opcodeIndex = code
            op.builtinOptionsType = types.BuiltinOptions.QuantizeOptions
            op.builtinOptions = types.QuantizeOptionsT()
            op.inputs, op.outputs = ([number], [index]) if side == "input" else ([index], [number])
            (front if side == "input" else back).append(op)
            ends = main.inputs if side == "input" else main.outputs
            ends[position] = number
    main.operators = [*front, *main.operators, *back]
    for signature in edited.signatureDefs or []:
        for item in [*signature.inputs, *signature.outputs]:
            item.tensorIndex = renumbered.get(item.tensorIndex, item.tensorIndex)
    return write(edited)


def operator_code(edited: Any, builtin: int, version: int = 1) -> int:
    """The index of an operator code in a ``ModelT`` object, added when the model has none of at least this version."""
    for index, code in enumerate(edited.operatorCodes):
        if code.builtinCode == builtin and code.version >= version:
            return index
    code = schema().OperatorCodeT()
    # Codes up to 127 stand in the old field as well, which older runtimes read.
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    edited.operatorCodes.append(code)
    return len(edited.operatorCodes) - 1


def constant(edited: Any, name: bytes, values: Array) -> int:
    """Add an int32 constant to the main subgraph of a ``ModelT`` object and return its tensor index."""
    types = schema()
    main = edited.subgraphs[0]
    buffer = types.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    edited.buffers.append(buffer)
    tensor = types.TensorT()
    tensor.name = name + b"_edgekit_%d" % len(main.tensors)
    tensor.shape, tensor.type = list(values.shape), types.TensorType.INT32
    tensor.buffer, tensor.hasRank = len(edited.buffers) - 1, True
    main.tensors.append(tensor)
    return len(main.tensors) - 1


def set_constant(edited: Any, index: int, values: Array) -> None:
    """Give a constant of the main subgraph other values; one that shares its bytes with others gets its own.

    Args:
        edited: a ``ModelT`` object.
        index: the tensor.
        values: of the tensor's own type and number.
    """
    tensors = [tensor for subgraph in edited.subgraphs for tensor in subgraph.tensors]
    tensor = edited.subgraphs[0].tensors[index]
    if sum(1 for item in tensors if item.buffer == tensor.buffer) > 1:
        tensor.buffer = len(edited.buffers)
        edited.buffers.append(schema().BufferT())
    edited.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def drop_unused(edited: Any) -> None:
    """Remove the tensors and constants that no operator of a one-subgraph ``ModelT`` object reads any more."""
    main = edited.subgraphs[0]
    used = {int(index) for index in (*main.inputs, *main.outputs)}
    for op in main.operators:
        behind = op.intermediates if op.intermediates is not None else ()
        used.update(int(index) for index in (*op.inputs, *op.outputs, *behind) if index >= 0)
    places = {index: place for place, index in enumerate(sorted(used))}
    main.tensors = [main.tensors[index] for index in sorted(used)]
    main.inputs, main.outputs = [places[int(i)] for i in main.inputs], [places[int(i)] for i in main.outputs]
    for op in main.operators:
        op.inputs = [places.get(int(index), -1) for index in op.inputs]
        op.outputs = [places[int(index)] for index in op.outputs]
        if op.intermediates is not None and len(op.intermediates):
            op.intermediates = [places.get(int(index), -1) for index in op.intermediates]
    for signature in edited.signatureDefs or []:
        for item in [*signature.inputs, *signature.outputs]:
            item.tensorIndex = places[item.tensorIndex]
    edited.metadataBuffer = None  # what older schemas had for metadata: numbers of buffers
    kept = {tensor.buffer for tensor in main.tensors} | {item.buffer for item in edited.metadata or []} | {0}
    numbers = {buffer: place for place, buffer in enumerate(sorted(kept))}
    edited.buffers = [edited.buffers[buffer] for buffer in sorted(kept)]
    for holder in [*main.tensors, *(edited.metadata or [])]:
        holder.buffer = numbers[holder.buffer]


def with_metadata(flatbuffer: bytes, description: str, entries: Mapping[str, bytes]) -> bytes:
    """Write metadata entries and the announcement of the manifest.

    Args:
        flatbuffer: a finished model.
        description: who made it.
        entries: further metadata by name.

    Returns:
        A flatbuffer whose ``edgekit`` entry holds its own length.
    """
    types = schema()
    edited = read(flatbuffer)
    edited.description = description.encode()
    edited.metadata = [item for item in edited.metadata or [] if _bytes(item.name).decode() not in {ENTRY, *entries}]
    # A length that cannot occur, so that its place can be found again and filled in without packing twice.
    placeholder = announcement((1 << 63) + 0x0ED6E_0ED6E)
    for name, data in {**entries, ENTRY: placeholder}.items():
        buffer = types.BufferT()
        buffer.data = list(data)
        item = types.MetadataT()
        item.name, item.buffer = name.encode(), len(edited.buffers)
        edited.buffers.append(buffer)
        edited.metadata.append(item)
    packed = write(edited)
    if packed.count(placeholder) != 1:
        raise ConversionError("the manifest's announcement could not be placed: please report this model's converter.")
    return packed.replace(placeholder, announcement(len(packed)))
