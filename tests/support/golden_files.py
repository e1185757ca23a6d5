"""Model files with golden data, whole and spoilt."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit import golden
from edgekit.digest import sha256_hex
from edgekit.golden import Golden, GoldenReport
from edgekit.manifest import Manifest, append
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.package import golden_data

SPEC = DelegateSpec("xnnpack", 1)
RANDOM = np.random.default_rng(11)
ROWS = [{"x": row} for row in RANDOM.uniform(-3, 3, (12, 1, 8)).astype(np.float32)]
IMAGES = [{"image": image} for image in RANDOM.uniform(-1, 1, (4, 1, 12, 12, 3)).astype(np.float32)]


def packed(content: bytes, samples: list[dict[str, Array]], change: Callable[[Golden], Golden] = lambda x: x) -> bytes:
    """A model file with golden data, after a change to them."""
    flatbuffer = models.announced(content)
    data = change(golden_data.make(flatbuffer, samples, SPEC))
    return append(flatbuffer, Manifest(sha256_hex(flatbuffer), golden=data.to_json()), data.content)


def checked(content: bytes, *, delegate: str = "xnnpack", engine: str | None = None) -> GoldenReport:
    """The report of a model file on this machine."""
    return golden.check(
        ModelFile.read(content), DelegateChoice(DelegateSpec(delegate, 1), "by the test"), engine=engine
    )


def arrays_of(data: Golden) -> dict[str, Array]:
    """What ``golden.npz`` holds."""
    with np.load(io.BytesIO(data.content)) as arrays:
        return {name: arrays[name] for name in arrays.files}


def changed(data: Golden, change: Callable[[dict[str, Array], dict[str, Any]], object]) -> Golden:
    """Golden data with other arrays or another block, and a digest that fits."""
    arrays, about = arrays_of(data), json.loads(json.dumps(data.to_json()))
    change(arrays, about)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return Golden(stream.getvalue(), {**about, "sha256": sha256_hex(stream.getvalue())})


def mixed() -> bytes:
    """Float 8 → TANH → QUANTIZE → int8 dense layer."""

    def change(model: Any) -> None:
        main = model.subgraphs[0]
        x = schema.TensorT()
        x.name, x.shape, x.type, x.hasRank = b"real", [1, 8], 0, True
        y = schema.TensorT()
        y.name, y.shape, y.type, y.hasRank = b"tanh", [1, 8], 0, True
        first = len(main.tensors)
        main.tensors += [x, y]
        for name, ends in (("TANH", ([first], [first + 1])), ("QUANTIZE", ([first + 1], [int(main.inputs[0])]))):
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            code.version = 1
            model.operatorCodes.append(code)
            op = schema.OperatorT()
            op.opcodeIndex = len(model.operatorCodes) - 1
            op.inputs, op.outputs = ends
            main.operators.insert(0 if name == "TANH" else 1, op)
        main.inputs = [first]
        model.signatureDefs[0].inputs[0].tensorIndex = first

    return models.edited(models.dense_int8(), change)
