"""``edgekit_convert.compat``: a file's operators against the runtimes of a device, and the tables against the real runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models as models

from edgekit.modelfile import ModelFile
from edgekit.operators import OPERATORS
from edgekit_convert import graph as editing
from edgekit_convert.compat import Compatibility, compatibility
from edgekit_convert.compat.registered import CUSTOM, registered
from edgekit_convert.package.versions import released_in
from edgekit_profiles import load_profile
from edgekit_profiles.profile import DeviceProfile, RuntimeWheel

#: Says of each file in a folder whether the interpreter finds its operators; loading applies no kernel, as no operator is used.
ASK = """
import json, os, sys
try:
    from tflite_runtime import interpreter as tflite
except ImportError:
    from ai_edge_litert import interpreter as tflite
resolver = tflite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
found = {}
for name in os.listdir(sys.argv[1]):
    try:
        tflite.Interpreter(model_path=os.path.join(sys.argv[1], name), experimental_op_resolver_type=resolver)
        found[name] = True
    except ValueError as error:
        found[name] = False
print(json.dumps(found))
"""


def with_codes(*codes: tuple[str, int], custom: str | None = None) -> bytes:
    """A small model that names further operators in a version, and uses none of them."""

    def add(edited: Any) -> None:
        for name, version in codes:
            code = editing.schema().OperatorCodeT()
            code.builtinCode = OPERATORS.index(name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            if name == "CUSTOM":
                code.customCode = (custom or "").encode()
            edited.operatorCodes.append(code)

    return models.edited(models.dense_float(), add)


def device(*wheels: tuple[str, str]) -> DeviceProfile:
    """A device with these runtimes."""
    profile = load_profile("generic-aarch64-linux")
    return profile._replace(
        runtimes=tuple(RuntimeWheel(package, version, None, (), "a test") for package, version in wheels)
    )


def check(content: bytes, *wheels: tuple[str, str]) -> Compatibility:
    """A model against some runtimes."""
    return compatibility(ModelFile.read(content), device(*(wheels or (("tflite-runtime", "2.14.0"),))))


@pytest.mark.parametrize(
    "runtime", [("ai-edge-litert", "2.3.0"), ("tflite-runtime", "2.14.0")], ids=lambda item: item[0]
)
def test_the_tables_are_what_the_runtimes_say(runtime: tuple[str, str], tmp_path: Path) -> None:
    """Each operator in its last version is found, and in the next one it is not; no other operator is found at all."""
    python = sys.executable
    if runtime[0] == "tflite-runtime":
        python = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON", "")
        if not python:
            pytest.skip("EDGEKIT_TFLITE_RUNTIME_PYTHON does not name a Python that has tflite-runtime")
    table = registered(*runtime)
    assert table is not None
    for name in OPERATORS:
        if name in ("CUSTOM", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            continue
        last = table.get(name, 0)
        for version in {max(1, last), last + 1}:
            (tmp_path / f"{name}@{version}").write_bytes(with_codes((name, version)))
    done = subprocess.run([python, "-I", "-c", ASK, str(tmp_path)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 300
    assert {key: int(key.split("@")[1]) <= table.get(key.split("@")[0], 0) for key in found} == found


def test_the_tables_agree_with_the_releases() -> None:
    """Of what the release table knows, tflite-runtime 2.14.0 has what was released up to then, and LiteRT has at least that."""
    table, newer = registered("tflite-runtime", "2.14.0"), registered("ai-edge-litert", "2.3.0")
    assert table is not None
    assert newer is not None
    compared = 0
    for name, last in table.items():
        assert newer[name] >= last
        since = released_in(name, last)
        if since is None:
            continue
        compared += 1
        assert [int(part) for part in since.split(".")] <= [2, 14, 0]
        later = released_in(name, last + 1)
        assert later is None or [int(part) for part in later.split(".")] > [2, 14, 0], name
    assert compared > 100


def test_everything_is_there() -> None:
    """An int8 model on the last tflite-runtime, with the oldest runtime that would do."""
    found = check(models.dense_int8())
    assert (True, (), "1.14.0") == (found.passed, found.runtimes[0].missing, found.oldest)
    assert found.oldest_text.startswith("TensorFlow Lite 1.14.0 (tflite-runtime from that version")
    assert found.to_json()["passed"] is True


def test_a_version_that_is_too_new() -> None:
    """It is named with its version, what the runtime has, and the first runtime that has it; an unused code counts too."""
    found = check(with_codes(("CONV_2D", 8)), ("tflite-runtime", "2.14.0"), ("ai-edge-litert", "2.3.0"))
    assert (True, False, True) == (found.passed, found.runtimes[0].has_all, found.runtimes[1].has_all)
    (missing,) = found.runtimes[0].missing
    assert str(missing) == (
        "CONV_2D version 8 (it has up to version 7): the oldest runtime that has it is TensorFlow Lite 2.15.0 (newer than the "
        "last tflite-runtime, 2.14.0; ai-edge-litert 2.3.0 has it)"
    )
    assert 0 == missing.op.count


def test_an_operator_that_the_release_table_does_not_know() -> None:
    """What is known is which of the runtimes that were asked has it."""
    found = check(with_codes(("STABLEHLO_SCATTER", 1)), ("tflite-runtime", "2.14.0"), ("ai-edge-litert", "2.3.0"))
    assert ["ai-edge-litert 2.3.0 has it; which one was the first is not known"] == [
        item.why for item in found.runtimes[0].missing
    ]
    nowhere = check(with_codes(("STABLEHLO_SORT", 1)), ("ai-edge-litert", "2.3.0"))
    assert (False, "no runtime that is known has it") == (nowhere.passed, nowhere.runtimes[0].missing[0].why)


def test_older_and_unknown_runtimes() -> None:
    """An older tflite-runtime is judged by the releases; of a LiteRT that was not asked only what older ones had is certain."""
    wheels = (("tflite-runtime", "2.5.0"), ("tflite-runtime", "2.9.1"), ("ai-edge-litert", "1.0.1"), ("another", "1"))
    found = check(with_codes(("GELU", 2)), *wheels)
    assert [False, True, True, None] == [item.has_all for item in found.runtimes]
    newest = check(with_codes(("TRANSPOSE", 9)), ("ai-edge-litert", "1.0.1"))
    assert (None, ("TRANSPOSE",)) == (newest.passed, tuple(op.name for op in newest.runtimes[0].unknown))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Mystery", "a custom operator that no runtime brings"),
        ("FlexAddV2", "it needs TensorFlow's Flex delegate"),
    ],
)
def test_custom_operators(name: str, why: str) -> None:
    """No runtime has them by itself; the remedy depends on the kind."""
    found = check(models.custom_op(name))
    assert (False, None) == (found.passed, found.oldest)
    assert [name] == [str(item.op) for item in found.runtimes[0].missing]
    assert found.runtimes[0].missing[0].why.startswith(why)
    assert f"none by itself: {name} is no operator of TensorFlow Lite" == found.oldest_text


@pytest.mark.parametrize("name", sorted(CUSTOM))
def test_custom_operators_that_runtimes_bring(name: str) -> None:
    """The four that are registered with the builtin ones are not missing."""
    assert check(with_codes(("CUSTOM", 1), custom=name)).passed


def test_the_edge_tpus_operator() -> None:
    """It comes with the Edge TPU's library where the device can have one, and is missing where it cannot."""
    content = models.custom_op("edgetpu-custom-op")
    with_tpu = check(content)
    assert with_tpu.passed
    assert "comes with libedgetpu" in with_tpu.runtimes[0].notes[0]
    profile = device(("tflite-runtime", "2.14.0"))
    without = profile._replace(delegates=tuple(rule for rule in profile.delegates if rule.kind != "edgetpu"))
    assert compatibility(ModelFile.read(content), without).passed is False


def test_versions_that_are_too_low_in_the_file() -> None:
    """What the graph needs counts, and the file is told to say too little."""

    def lower(edited: Any) -> None:
        for code in edited.operatorCodes:
            code.version = 1

    found = check(models.edited(models.dense_int8(), lower))
    dense = next(op for op in found.ops if op.name == "FULLY_CONNECTED")
    assert (4, 1) == (dense.version, dense.declared)
    assert any(
        note.startswith("the file says FULLY_CONNECTED version 1, and its graph needs 4") for note in found.notes
    )


def test_a_file_that_loads_and_computes_wrongly() -> None:
    """Float activations and int8 weights with a scale for each row, at a version that says nothing of it: told apart."""

    def rows(edited: Any) -> None:
        weights = edited.subgraphs[0].tensors[edited.subgraphs[0].operators[0].inputs[1]]
        weights.type = editing.schema().TensorType.INT8
        quant = editing.schema().QuantizationParametersT()
        quant.scale, quant.zeroPoint = [0.1] * weights.shape[0], [0] * weights.shape[0]
        weights.quantization = quant
        size = int(weights.shape[0] * weights.shape[1])
        edited.buffers[weights.buffer].data = edited.buffers[weights.buffer].data[:size]
        edited.operatorCodes[edited.subgraphs[0].operators[0].opcodeIndex].version = 9

    found = check(models.edited(models.dense_float(), rows))
    (missing,) = found.runtimes[0].missing
    assert (12, 9, 10) == (missing.op.version, missing.op.declared, missing.has)
    assert missing.why.endswith("; the file says version 9: it may load and compute wrongly")


@pytest.mark.parametrize(
    ("device_id", "words"),
    [("coral-usb", "name that one as well"), ("generic-android-arm64", "has to be looked at itself")],
)
def test_a_device_without_runtimes(device_id: str, words: str) -> None:
    """Nothing is promised, the oldest runtime is said all the same."""
    found = compatibility(ModelFile.read(models.dense_int8()), load_profile(device_id))
    assert (None, (), "1.14.0") == (found.passed, found.runtimes, found.oldest)
    assert any(words in note for note in found.notes)
