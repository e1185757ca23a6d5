"""What a ``.tflite`` file holds: types, operators, multiply-accumulates, and what a delegate takes of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EngineError
from edgekit.graph import Op, Subgraph
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
_INTEGERS = ("int8", "uint8", "int16", "int4")


@dataclass(frozen=True)
class OpSummary:
    """One operator.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        type: ``"int8"`` when it computes on quantised integers, ``"hybrid"`` for quantised weights with float
            activations, ``"float"`` for float, ``"other"`` for shapes, indices and booleans.
        macs: multiply-accumulates for one run at the file's sizes; 0 for operators that are not counted.
        output: the name of its first output.
    """

    index: int
    name: str
    type: str
    macs: int
    output: str


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
    def float_ops(self) -> tuple[OpSummary, ...]:
        """Operators that compute on floats, the type changes at the edges left out."""
        return tuple(op for op in self.ops if op.type in ("float", "hybrid") and op.name not in EDGE_OPERATORS)

    @property
    def fully_int8(self) -> bool:
        """Whether no operator computes on floats and at least one on quantised integers."""
        return not self.float_ops and any(op.type == "int8" for op in self.ops)

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
        size_bytes=len(model.content),
        sha256=model.sha256,
        description=graph.description,
        inputs=model.inputs,
        outputs=model.outputs,
        signatures=tuple(signature.key for signature in graph.signatures),
        ops=tuple(_summary(graph.main, op) for op in graph.main.ops),
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
    """Whether an operator computes on quantised integers (``int8``), floats, both (``hybrid``) or neither (``other``)."""
    activations = [
        subgraph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0 and subgraph.tensors[i].data is None
    ]
    constants = [subgraph.tensors[i] for i in op.inputs if i >= 0 and subgraph.tensors[i].data is not None]
    floats = any(tensor.dtype.startswith(("float", "bfloat")) for tensor in activations)
    integers = any(tensor.dtype in _INTEGERS and tensor.quant is not None for tensor in activations)
    if op.name in EDGE_OPERATORS:
        return "other"
    if floats:
        quantised = integers or any(tensor.dtype in _INTEGERS and tensor.quant is not None for tensor in constants)
        return "hybrid" if quantised else "float"
    return "int8" if integers else "other"


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
