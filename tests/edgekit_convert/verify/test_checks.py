"""The proof of each recipe: what passes, what fails, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit_convert.quantize import int8_operators, io_for, operators_of, quantize
from edgekit_convert.verify.checks import Check, check_file, reasons

RANGES = {
    "image": (-3.0, 3.0),
    "features": (0.0, 9.0),
    "pooled": (0.0, 4.0),
    "logits": (-9.0, 9.0),
    "probabilities": (0.0, 1.0),
}
MACS = f"{12 * 12 * 8 * 27 + 8 * 5:,}"
WEIGHTS = 8 * 27 + 5 * 8


def checks(made: bytes, recipe: str, *, strict: bool = False, io: str | None = None) -> dict[str, Check]:
    """What a file is checked for under a recipe, by name."""
    seen = inspect(made, partitions=False)
    float_ops = reasons(seen, operators_of(recipe), recipe)
    found = check_file(seen, ModelFile.read(made), io or io_for(recipe, None), recipe, strict, (), float_ops)
    return {check.name: check for check in found}


def made(recipe: str, layers: dict[str, str] | None = None, io: str | None = None) -> bytes:
    """The small image classifier under a recipe."""
    return quantize(models.conv_float(), RANGES, io_for(recipe, io), recipe=recipe, layers=layers)


@dataclass(frozen=True)
class Proof:
    """A recipe, and what its own file is seen to be: all checks that say more than yes or no."""

    recipe: str
    says: dict[str, tuple[bool | None, str]]


PROOFS = [
    Proof(
        "int8",
        {
            "multiply-accumulates in int8": (True, f"100.0 % of {MACS}"),
            "operators left in float": (True, "none"),
        },
    ),
    Proof(
        "int16x8",
        {
            "multiply-accumulates with int16 activations": (True, f"100.0 % of {MACS}"),
            "weights in int8": (True, f"100.0 % of {WEIGHTS}"),
            "operators left in float": (None, "none"),
        },
    ),
    Proof(
        "dynamic",
        {
            "weights in int8": (True, f"100.0 % of {WEIGHTS}"),
            "activations": (
                True,
                f"quantised at run time in CONV_2D, FULLY_CONNECTED, 100.0 % of {MACS} multiply-accumulates; float32 in "
                "the other operators",
            ),
        },
    ),
    Proof("float16", {"weights in float16": (True, f"100.0 % of {WEIGHTS}"), "activations": (True, "float32")}),
    Proof("weights", {"weights in int8": (True, f"100.0 % of {WEIGHTS}"), "activations": (True, "float32")}),
]


@pytest.mark.parametrize("case", PROOFS, ids=lambda case: case.recipe)
def test_each_recipe_proves_itself(case: Proof) -> None:
    """A file of the recipe passes, and the proof says what is static, dynamic, or only stored."""
    found = checks(made(case.recipe), case.recipe, strict=case.recipe == "int8")
    ends = found.pop("input and output types")
    assert (True, f"image {io_for(case.recipe, None)}, probabilities {io_for(case.recipe, None)}") == (
        ends.passed,
        ends.text,
    )
    assert found.pop("no Flex or custom operators").passed
    assert case.says == {name: (check.passed, check.text) for name, check in found.items()}


@pytest.mark.parametrize("claimed", [case.recipe for case in PROOFS])
@pytest.mark.parametrize("real", [case.recipe for case in PROOFS])
def test_no_recipe_passes_as_another(claimed: str, real: str) -> None:
    """A file that is something else than its recipe says fails, whichever two they are."""
    found = checks(made(real), claimed, strict=claimed == "int8")
    passes = all(check.passed is not False for name, check in found.items() if name != "input and output types")
    assert (claimed == real) == passes


def test_int8_is_strict_about_int16() -> None:
    """An operator with int16 activations is not int8, even one without multiply-accumulates; auto names it."""
    mixed = made("int8", {"probabilities": "int16"})
    strict, auto = checks(mixed, "int8", strict=True), checks(mixed, "auto")
    name = "operators with int16 activations"
    assert ((False, "SOFTMAX"), (True, "SOFTMAX")) == (
        (strict[name].passed, strict[name].text),
        (auto[name].passed, auto[name].text),
    )
    wide = checks(made("int8", {"features": "int16"}), "int8", strict=True)["multiply-accumulates in int8"]
    assert (False, f"{100 * 40 / 31144:.1f} % of {MACS}") == (wide.passed, wide.text)


def test_layers_of_several_kinds_are_listed() -> None:
    """Where not all layers are int8, the proof says how many are what."""
    found = checks(made("auto", {"logits": "float"}), "auto")
    assert (None, "float x1, int8 x1") == (found["layers with weights"].passed, found["layers with weights"].text)
    assert "layers with weights" not in checks(made("auto"), "auto")


def test_reasons() -> None:
    """Why an operator computes on floats depends on the recipe and on how its weights are held."""
    seen = inspect(made("dynamic"), partitions=False)
    assert (
        ("CONV_2D", "its weights are int8, its activations are quantised at run time"),
        ("MEAN", "the recipe 'dynamic' leaves activations float"),
    ) == reasons(seen, operators_of("dynamic"), "dynamic")[:2]
    swish = models.Builder()
    x, y = swish.tensor("x", (1, 4)), swish.tensor("y", (1, 4))
    swish.op("HARD_SWISH", [x], [y], ("HardSwishOptions", models.schema.HardSwishOptionsT()))
    left = inspect(
        quantize(swish.build({"x": x}, {"y": y}), {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, "int16", recipe="int16x8")
    )
    assert (("HARD_SWISH", "litert-quantizer has no int16 form of it"),) == reasons(
        left, operators_of("int16x8"), "int16x8"
    )
    kept = inspect(models.dense_float())
    assert ("SOFTMAX", "litert-quantizer left it: the types or constants around it do not allow int8") == reasons(
        kept, int8_operators(), "auto"
    )[1]


def test_values_beyond_float16() -> None:
    """What float16 cannot hold is excused, and named; what it could hold is not."""

    def enlarge(model: Any) -> None:
        tensor = next(item for item in model.subgraphs[0].tensors if item.name == b"weights")
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).copy()
        values[0] = -70000
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    huge = models.edited(models.conv_float(), enlarge)
    found = checks(quantize(huge, None, "float32", recipe="float16"), "float16")["weights in float16"]
    assert found.passed
    assert (
        f"{100 * 216 / WEIGHTS:.1f} % of {WEIGHTS}; left float32 because some values are beyond float16: those of "
        "FULLY_CONNECTED logits" == found.text
    )
    plain = checks(models.conv_float(), "float16")["weights in float16"]
    assert (False, f"0.0 % of {WEIGHTS}; not those of CONV_2D features, FULLY_CONNECTED logits") == (
        plain.passed,
        plain.text,
    )


def test_a_model_without_weights() -> None:
    """There is nothing to pass, and nothing fails."""
    found = checks(models.add_two_inputs(), "weights", io="float32")
    assert (None, "the model has none") == (found["weights in int8"].passed, found["weights in int8"].text)
