"""What a ``.tflite`` file holds: types, operators, multiply-accumulates, and what a delegate takes of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EngineError
from edgekit.graph import Op, Subgraph, Tensor
from edgekit.manifest import Manifest
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit.tensors import TensorSpec

#: Operators whose work is counted in multiply-accumulates.
MAC_OPERATORS: frozenset[str] = frozenset(
    {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "BATCH_MATMUL",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
    }
)
#: Operators that only change the type at an edge between int8 and float.
EDGE_OPERATORS: frozenset[str] = frozenset({"QUANTIZE", "DEQUANTIZE"})
#: Operators that hold weights without doing counted work.
_LOOKUPS: frozenset[str] = frozenset({"EMBEDDING_LOOKUP", "GATHER"})
_WEIGHTED: frozenset[str] = (
    MAC_OPERATORS
    | _LOOKUPS
    | frozenset(
        {
            "SVDF",
            "LSTM",
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            "RNN",
            "UNIDIRECTIONAL_SEQUENCE_RNN",
            "BIDIRECTIONAL_SEQUENCE_RNN",
        }
    )
)
_INTEGERS = ("int8", "uint8", "int16", "int4", "int2")
#: How many bits a weight has, by type; the others are floats.
_WEIGHT_BITS = {"int8": 8, "uint8": 8, "int16": 16, "int4": 4, "int2": 2}


@dataclass(frozen=True)
class OpSummary:
    """One operator.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        type: ``"int8"`` when it computes on 8-bit integers, ``"int16"`` when its activations are 16-bit ones,
            ``"hybrid"`` for quantised weights with float activations, ``"float"`` for float, ``"other"`` for shapes,
            indices and booleans.
        macs: multiply-accumulates for one run at the file's sizes; 0 for operators that are not counted.
        output: the name of its first output.
    """

    index: int
    name: str
    type: str
    macs: int
    output: str


@dataclass(frozen=True)
class LayerSummary:
    """One operator with constant weights, and how these are held and used.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        output: the name of its first output.
        scheme: ``"int8"`` for int8 weights and activations with ranges fixed in the file (static), ``"int16x8"`` for
            16-bit activations, ``"dynamic"`` for int8 weights and activations that are quantised at run time,
            ``"weights"`` for int8 weights that are only stored so and computed with as floats, ``"float16"`` for
            weights stored in that type, else ``"float"``. Weights of fewer bits have them behind the word:
            ``"dynamic4"``.
        weight_bytes: bytes of its weights in the file, biases left out.
        weight_elements: how many weights these are.
        macs: multiply-accumulates, as the operator's.
    """

    index: int
    name: str
    output: str
    scheme: str
    weight_bytes: int
    weight_elements: int
    macs: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Inspection:
    """Everything that is known of a model file without running it on data.

    Attributes:
        path: the file, or a word for bytes.
        size_bytes: the whole file.
        sha256: of the flatbuffer part.
        description: who wrote the file, in its own words.
        inputs: what goes in.
        outputs: what comes out.
        signatures: the names of the entry points.
        ops: the operators of the main subgraph.
        layers: those of them that have weights, and how these are quantised.
        custom_ops: names of custom operators, without Flex ones.
        flex_ops: names of operators that need the Flex delegate.
        subgraphs: how many there are.
        old_operator_codes: whether it was written before TensorFlow 2.4.
        partitions: what XNNPACK took, or ``None`` when the model could not be loaded.
        engine: the interpreter that loaded it, or ``None``.
        load_error: why it could not be loaded, or ``None``.
        manifest: what edgekit wrote into it, or ``None``.
    """

    path: str
    size_bytes: int
    sha256: str
    description: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signatures: tuple[str, ...]
    ops: tuple[OpSummary, ...]
    layers: tuple[LayerSummary, ...]
    custom_ops: tuple[str, ...]
    flex_ops: tuple[str, ...]
    subgraphs: int
    old_operator_codes: bool
    partitions: PartitionReport | None
    engine: str | None
    load_error: str | None
    manifest: Manifest | None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(op.macs for op in self.ops)

    @property
    def int8_mac_share(self) -> float | None:
        """Share of the multiply-accumulates on quantised integers; ``None`` when there are none at all."""
        total = self.macs
        return sum(op.macs for op in self.ops if op.type == "int8") / total if total else None

    @property
    def int16_mac_share(self) -> float | None:
        """Share of multiply-accumulates with int16 activations, from 0 to 1; ``None`` when there are none at all."""
        total = self.macs
        return sum(op.macs for op in self.ops if op.type == "int16") / total if total else None

    @property
    def float_ops(self) -> tuple[OpSummary, ...]:
        """Operators that compute on floats, the type changes at the edges left out."""
        return tuple(op for op in self.ops if op.type in ("float", "hybrid") and op.name not in EDGE_OPERATORS)

    @property
    def fully_int8(self) -> bool:
        """Whether no operator computes on floats or 16-bit integers, and at least one on 8-bit ones."""
        return not self.float_ops and not self.int16_ops and any(op.type == "int8" for op in self.ops)

    @property
    def int16_ops(self) -> tuple[OpSummary, ...]:
        """Operators with 16-bit activations, the type changes at the edges left out."""
        return tuple(op for op in self.ops if op.type == "int16")

    def schemes(self) -> dict[str, int]:
        """How many layers with weights are held in which way, most frequent first."""
        counts: dict[str, int] = {}
        for layer in self.layers:
            counts[layer.scheme] = counts.get(layer.scheme, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def weight_share(self, *schemes: str) -> float | None:
        """Share of the weights (their number, not their bytes) that are held so; ``None`` where there are none."""
        total = sum(layer.weight_elements for layer in self.layers)
        return sum(layer.weight_elements for layer in self.layers if layer.scheme in schemes) / total if total else None

    def op_counts(self) -> dict[str, int]:
        """How many operators of each name, most frequent first."""
        counts: dict[str, int] = {}
        for op in self.ops:
            counts[op.name] = counts.get(op.name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "description": self.description,
            "inputs": [_spec_json(spec) for spec in self.inputs],
            "outputs": [_spec_json(spec) for spec in self.outputs],
            "signatures": list(self.signatures),
            "operators": self.op_counts(),
            "macs": self.macs,
            "int8_mac_share": self.int8_mac_share,
            "fully_int8": self.fully_int8,
            "float_ops": [
                {"index": op.index, "name": op.name, "type": op.type, "output": op.output} for op in self.float_ops
            ],
            "layers": [layer.to_json() for layer in self.layers],
            "custom_ops": list(self.custom_ops),
            "flex_ops": list(self.flex_ops),
            "subgraphs": self.subgraphs,
            "old_operator_codes": self.old_operator_codes,
            "engine": self.engine,
            "load_error": self.load_error,
            "partitions": self.partitions.to_json() if self.partitions else None,
            "manifest": self.manifest.to_json() if self.manifest else None,
        }


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    quant = None
    if spec.quant is not None:
        quant = {
            "scales": list(spec.quant.scales),
            "zero_points": list(spec.quant.zero_points),
            "axis": spec.quant.axis,
        }
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype, "quant": quant}


def inspect(source: str | os.PathLike[str] | bytes | ModelFile, *, partitions: bool = True) -> Inspection:
    """Describe a ``.tflite`` file, with or without a manifest.

    Args:
        source: a path, a file's bytes, or a ``ModelFile``.
        partitions: whether to load the model under XNNPACK and read back what it took; a model that no
            interpreter here can load is described all the same, with ``load_error`` set.

    Raises:
        ModelFileError: the file is missing, damaged, or not a TFLite model.
    """
    model = source if isinstance(source, ModelFile) else ModelFile.read(source)
    graph = model.graph
    report: PartitionReport | None = None
    engine: str | None = None
    load_error: str | None = None
    if partitions:
        try:
            opened = open_engine(model, DelegateSpec("xnnpack", threads=1))
            report, engine = opened.partitions(), opened.version
            opened.close()
        except EngineError as error:
            load_error = str(error)
    everything = [op for subgraph in graph.subgraphs for op in subgraph.ops]
    return Inspection(
        path=model.name,
        size_bytes=model.size_bytes,
        sha256=model.sha256,
        description=graph.description,
        inputs=model.inputs,
        outputs=model.outputs,
        signatures=tuple(signature.key for signature in graph.signatures),
        ops=tuple(_summary(graph.main, op) for op in graph.main.ops),
        layers=layers(graph.main),
        custom_ops=tuple(sorted({op.name for op in everything if op.custom and not op.is_flex})),
        flex_ops=tuple(sorted({op.name for op in everything if op.is_flex})),
        subgraphs=len(graph.subgraphs),
        old_operator_codes=graph.old_operator_codes,
        partitions=report,
        engine=engine,
        load_error=load_error,
        manifest=model.manifest,
    )


def _summary(subgraph: Subgraph, op: Op) -> OpSummary:
    output = subgraph.tensors[op.outputs[0]].name if op.outputs else ""
    return OpSummary(op.index, op.name, op_type(subgraph, op), count_macs(subgraph, op), output)


def op_type(subgraph: Subgraph, op: Op) -> str:
    """What an operator computes on: ``int8``, ``int16``, ``float``, both kinds (``hybrid``) or neither (``other``)."""
    activations = [
        subgraph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0 and subgraph.tensors[i].data is None
    ]
    constants = [subgraph.tensors[i] for i in op.inputs if i >= 0 and subgraph.tensors[i].data is not None]
    floats = any(tensor.dtype.startswith(("float", "bfloat")) for tensor in activations)
    integers = [tensor.dtype for tensor in activations if tensor.dtype in _INTEGERS and tensor.quant is not None]
    if op.name in EDGE_OPERATORS:
        return "other"
    if floats:
        quantised = bool(integers) or any(
            tensor.dtype in _INTEGERS and tensor.quant is not None for tensor in constants
        )
        return "hybrid" if quantised else "float"
    if "int16" in integers:
        return "int16"
    return "int8" if integers else "other"


def layers(subgraph: Subgraph) -> tuple[LayerSummary, ...]:
    """The operators with constant weights, in the file's order, and how each one's are quantised."""
    stored = {
        op.outputs[0]: subgraph.tensors[op.inputs[0]]
        for op in subgraph.ops
        if op.name == "DEQUANTIZE" and op.outputs and op.inputs and subgraph.tensors[op.inputs[0]].data is not None
    }
    found = []
    for op in subgraph.ops:
        weights = weights_of(subgraph, op, stored)
        if weights:
            size = sum(len(tensor.data or b"") for tensor in weights)
            number = sum(tensor.elements for tensor in weights)
            scheme = _scheme(subgraph, op, weights[0])
            output = subgraph.tensors[op.outputs[0]].name if op.outputs else ""
            found.append(LayerSummary(op.index, op.name, output, scheme, size, number, count_macs(subgraph, op)))
    return tuple(found)


def weights_of(subgraph: Subgraph, op: Op, stored: Mapping[int, Tensor] | None = None) -> list[Tensor]:
    """The constants that hold an operator's weights: those of two axes and more; biases have one.

    Args:
        subgraph: the operator's.
        op: any operator; one of a kind that has no weights gives an empty list.
        stored: constants by the tensor that a DEQUANTIZE makes of them, to be looked through.
    """
    if op.name not in _WEIGHTED:
        return []
    behind = stored or {}
    inputs = [behind.get(index, subgraph.tensors[index]) for index in op.inputs if index >= 0]
    return [
        tensor
        for tensor in inputs
        if tensor.data is not None
        and len(tensor.shape) > 1
        and (tensor.dtype.startswith(("float", "bfloat")) or tensor.quant is not None)
    ]


def _scheme(subgraph: Subgraph, op: Op, weights: Tensor) -> str:
    bits = _WEIGHT_BITS.get(weights.dtype)
    if bits is None:
        return "float" if weights.dtype == "float32" else weights.dtype
    suffix = "" if bits == 8 else str(bits)
    activations = {
        subgraph.tensors[i].dtype for i in (*op.inputs, *op.outputs) if i >= 0 and subgraph.tensors[i].data is None
    }
    direct = weights.index in op.inputs
    if any(kind.startswith(("float", "bfloat")) for kind in activations):
        return f"dynamic{suffix}" if direct and op.name not in _LOOKUPS else f"weights{suffix}"
    if "int16" in activations:
        return f"int16x{bits}"
    return f"int8x{bits}" if suffix else "int8"


def count_macs(subgraph: Subgraph, op: Op) -> int:
    """Multiply-accumulates of one operator at the file's sizes, open sizes counted as 1."""
    if op.name not in MAC_OPERATORS or len(op.inputs) < 2 or not op.outputs:
        return 0

    def shape(index: int) -> tuple[int, ...]:
        return tuple(max(1, size) for size in subgraph.tensors[index].shape) if index >= 0 else ()

    first, second, out = shape(op.inputs[0]), shape(op.inputs[1]), math.prod(shape(op.outputs[0]))
    if op.name in ("CONV_2D", "FULLY_CONNECTED"):
        return out * math.prod(second[1:])
    if op.name == "DEPTHWISE_CONV_2D":
        return out * math.prod(second[1:3])
    if op.name == "CONV_3D":
        return out * math.prod(second[:4])
    if op.name == "BATCH_MATMUL":
        adjoint_x = op.option(0, "b", 0)
        return out * (first[-2] if adjoint_x and len(first) > 1 else math.prod(first[-1:]))
    data = shape(op.inputs[2]) if len(op.inputs) > 2 else ()
    # Transposed convolutions: each input value meets every weight of its own input channel.
    return math.prod(data) * math.prod(second) // max(1, data[-1] if data else 1)


def left_outside(content: bytes, spec: DelegateSpec, engine_name: str | None = None) -> frozenset[str]:
    """The operators that a delegate leaves to the interpreter's own kernels, as the interpreter says once it has loaded the model.

    Args:
        content: a flatbuffer.
        spec: the delegate.
        engine_name: the interpreter; ``None`` for the first that is installed.

    Returns:
        The operators of the main subgraph by the names of their first outputs, QUANTIZE and DEQUANTIZE among them.

    Raises:
        ModelFileError: it is not a sound model.
        EngineError: the interpreter refused it.
        DelegateError: the delegate cannot be loaded.
    """
    model = ModelFile.read(content)
    engine = open_engine(model, spec, engine_name)
    try:
        outside = engine.partitions().outside
    finally:
        engine.close()
    main = model.graph.main
    return frozenset(main.tensors[main.ops[index].outputs[0]].name for index in outside if main.ops[index].outputs)
