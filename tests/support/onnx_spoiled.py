"""Run in the ONNX environment: converts a model with an onnx2tf that is given other weights for one layer.

Arguments: the folder of ``edgekit_convert``, the model, the layer's name. Prints one line of JSON: what is said when the result is
compared on random inputs, and what when it is compared on data.
"""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any

for name, folder in (("edgekit_convert", sys.argv[1]), ("edgekit_convert.frontends", f"{sys.argv[1]}/frontends")):
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [folder]

from onnx import numpy_helper  # noqa: E402

from edgekit_convert.frontends.onnx_child import comparing, converting, model  # noqa: E402  # after the two above
from edgekit_convert.frontends.onnx_child.refusal import RefusedError  # noqa: E402

_to_network = converting.to_network


def spoiled(proto: Any, *arguments: Any, **options: Any) -> Any:
    """Convert with all weights of the layer half as large again."""
    changed = type(proto)()
    changed.CopyFrom(proto)
    (node,) = [item for item in changed.graph.node if item.name == sys.argv[3]]
    for tensor in changed.graph.initializer:
        if tensor.name in node.input:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.5, tensor.name))
    return _to_network(changed, *arguments, **options)


def said(attempt: Any) -> str:
    """The refusal of an attempt."""
    try:
        attempt()
    except RefusedError as error:
        return str(error)
    return "nothing"


converting.to_network = spoiled
from edgekit_convert.frontends.onnx_child import locating  # noqa: E402  # takes the function when it is imported

answers = os.dup(1)
os.dup2(2, 1)  # what libraries print
opened = model.OpenedModel.open(sys.argv[2], channels_last=True)
shapes = {"image": [1, 12, 12, 3]}
found = {"random": said(lambda: opened.export(shapes, "out.tflite"))}
found["file"] = "a .tflite" if os.path.exists("out.tflite") else "no .tflite"
# Differences on random inputs are overlooked, so that the data have to show them.
tolerance, model.TOLERANCE = model.TOLERANCE, float("inf")
opened.export(shapes, "out.tflite")
model.TOLERANCE = tolerance
values = next(comparing.random_inputs([{"name": "image", "dtype": "float32"}], shapes))
found["data"] = said(lambda: opened.run(values))
assert locating.to_network is spoiled
os.write(answers, (json.dumps(found) + "\n").encode())
