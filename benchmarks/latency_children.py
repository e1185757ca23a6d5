"""What ``latency.py`` does in processes of its own: making a model, one conversion, running a file, looking into it.

Each is started as ``python latency_children.py KIND REQUEST``, as ``quality_children.py`` is, whose parts do most of the work.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import quality_children as children
from quality_children import Answer

#: Tools by the name that ``--tools`` takes.
PEERS = (*children.PEERS, "litert-quantizer-dynamic")
OURS = ("edgekit-auto", "edgekit-int8")
#: edgekit without the rules for the delegate, strictly int8: what the claims about rewriting compare with.
PLAIN = "edgekit-plain"


def run(kind: str, request: Answer, timeout_s: float) -> Answer:
    """Run one child process of this file; see ``quality_children.run``."""
    return children.run(kind, request, timeout_s, __file__)


def prepare(request: Answer) -> Answer:
    """Make the source, the float ``.tflite`` and the data of a model.

    Args:
        request: ``name``, ``kind`` (``zoo`` or ``asset``), ``folder``, ``assets``, ``seed``, ``epochs``, ``calibration``, ``test``,
            ``normalize`` and ``resize``, and ``source``, ``data`` and ``labelled`` of an asset.

    Returns:
        What ``quality_children.prepare`` returns, and the seconds of training.
    """
    told: Answer = {}
    if request["kind"] == "zoo":
        made, told["training_s"] = _trained(request)
        request = {**request, **made, "kind": "asset", "labelled": True}
    return {**children.prepare(request), **told}


def _trained(request: Answer) -> tuple[Answer, float]:
    """A network of the zoo, trained here unless this very one was trained before, laid out as the assets are."""
    import zoo

    name, seed, epochs = request["name"], request["seed"], request["epochs"]
    code = b"".join(path.read_bytes() for path in sorted(Path(zoo.__file__).parent.glob("*.py")))
    text = f"{name} {seed} {epochs} {request['calibration']} {request['test']}"
    key = hashlib.sha256(code + text.encode()).hexdigest()[:16]
    folder = Path(request["folder"]) / key
    finished = folder / "seconds.npy"
    if not finished.exists():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        made = zoo.made(
            name, seed=seed, epochs=epochs, assets=Path(request["assets"]),
            calibration=request["calibration"], test=request["test"],
        )  # fmt: skip
        seconds = time.perf_counter() - started
        np.savez(folder / "data" / "samples.npz", calibration=made.calibration, test=made.test, test_labels=made.labels)
        made.model.save(folder / "model.keras")
        np.save(finished, np.array(seconds))  # last, so that what is found is whole
    return {"assets": str(folder), "source": "model.keras", "data": "samples"}, float(np.load(finished))


def convert(request: Answer) -> Answer:
    """One conversion.

    Args:
        request: as for ``quality_children.convert``, and ``effort`` for edgekit.

    Returns:
        ``seconds``, and what edgekit noticed and did.
    """
    tool, output = request["tool"], Path(request["output"])
    if tool in children.PEERS:
        return children.convert({**request, "from_float": False, "order": None})
    work = _dynamic if tool == "litert-quantizer-dynamic" else _edgekit
    content, told = work(request)
    output.write_bytes(content)
    return told


def _dynamic(request: Answer) -> tuple[bytes, Answer]:
    """litert-quantizer's dynamic int8 recipe of the float ``.tflite``."""
    from litert_quantizer import quantizer, recipe

    content = Path(request["float"]).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        work = quantizer.Quantizer(bytearray(content), recipe.dynamic_wi8_afp32())
        done = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(done.quantized_model), {"seconds": time.perf_counter() - began}


def edgekit_at(tool: str, effort: str) -> dict[str, Any]:
    """What each tool name means to ``edgekit.convert``."""
    if tool == PLAIN:
        return {"recipe": "int8", "effort": effort, "delegate_rules": False}
    return {"recipe": tool.removeprefix("edgekit-"), "effort": effort}


def _edgekit(request: Answer) -> tuple[bytes, Answer]:
    """edgekit, of the float ``.tflite``."""
    from litert_quantizer import quantizer  # noqa: F401  # what it imports is not the conversion's time

    import edgekit

    edgekit.convert  # noqa: B018  # the name is looked up on first use
    calibration = np.load(request["calibration"])
    began = time.perf_counter()
    done = edgekit.convert(
        request["float"],
        calibration,
        normalize=request["normalize"],
        resize=request["resize"],
        **edgekit_at(request["tool"], request["effort"]),
    )
    seconds = time.perf_counter() - began
    findings = [f"{finding.code}: {finding.text}" for finding in done.findings]
    return done.model.content, {"seconds": seconds, "findings": findings}


def look(request: Answer) -> Answer:
    """What is in a file, and what XNNPACK takes of it.

    Args:
        request: ``model``.

    Returns:
        ``sha256`` and ``size_bytes`` of the flatbuffer, ``macs``, shares of them by type, and ``partitions``.

    Raises:
        EngineError: the interpreter cannot load it.
    """
    import edgekit
    from edgekit.errors import EngineError

    seen = edgekit.inspect(request["model"])
    if seen.partitions is None:
        raise EngineError(str(seen.load_error))
    size = seen.size_bytes if seen.manifest is None else int(seen.manifest.verification["int8_bytes"])
    dynamic = sum(layer.macs for layer in seen.layers if layer.scheme.startswith("dynamic"))
    return {
        "sha256": seen.sha256,
        "size_bytes": size,
        "macs": seen.macs,
        "int8_mac_share": seen.int8_mac_share,
        "dynamic_mac_share": dynamic / seen.macs if seen.macs else None,
        "partitions": seen.partitions.to_json(),
    }


KINDS: dict[str, Callable[[Answer], Answer]] = {
    "prepare": prepare,
    "convert": convert,
    "outputs": children.outputs,
    "look": look,
}

if __name__ == "__main__":
    children.KINDS.update(KINDS)
    children.main()
