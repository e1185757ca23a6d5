"""The representative data are audited: counted, fingerprinted, and told about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import DataError
from edgekit.graph import Graph, parse
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit_convert.calibration import Audit, CalibrationSet, audit, preprocessing_for, scales_its_input
from edgekit_convert.calibration.data import open_data

CONV = ModelFile.read(models.conv_float())
RANDOM = np.random.default_rng(0)


def conv_set(data: Any, preprocessing: Preprocessing | None = None) -> CalibrationSet:
    """Data for the tiny classifier, whose input is 12x12x3."""
    named = {"image": preprocessing} if preprocessing else {}
    return CalibrationSet(open_data(data, CONV.inputs, 1000, "calibration"), CONV.inputs, named)


def run_audit(data: CalibrationSet, *, said_raw: bool = False, graph: Graph = CONV.graph) -> Audit:
    """Audit without showing progress."""
    return audit(data, said_raw=said_raw, graph=graph, progress=lambda done, total: None)


def codes(found: Audit) -> set[str]:
    """The findings' short names."""
    return {finding.code for finding in found.findings}


def floats(count: int = 40) -> Any:
    """Random images in -1..1."""
    return RANDOM.uniform(-1, 1, (count, 12, 12, 3)).astype(np.float32)


def pixels(count: int = 40) -> Any:
    """Random uint8 images."""
    return RANDOM.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)


def test_clean_data_has_no_findings() -> None:
    """Forty distinct images in -1..1 are fine."""
    found = run_audit(conv_set(floats()))
    assert found.count == 40
    assert codes(found) == set()


def test_raw_pixels_into_a_float_input_name_the_option() -> None:
    """uint8 0..255 without --normalize is a finding that names it."""
    found = run_audit(conv_set(pixels()))
    assert codes(found) == {"raw-pixels"}
    assert "--normalize 127.5,127.5" in found.findings[0].text
    assert found.findings[0].level == "warning"


def test_raw_pixels_can_be_declared_right() -> None:
    """--normalize none says that the model was trained on them."""
    assert codes(run_audit(conv_set(pixels()), said_raw=True)) == set()


def test_normalised_pixels_are_fine() -> None:
    """With --normalize there is nothing to say, and the range is the normalised one."""
    found = run_audit(conv_set(pixels(), Preprocessing(mean=(127.5,), std=(127.5,))))
    assert codes(found) == set()
    assert found.ranges["image"] == (-1.0, 1.0)


def test_data_that_were_normalised_twice_are_noticed() -> None:
    """Values of 0..1 divided by 255 again."""
    found = run_audit(conv_set(np.abs(floats()), Preprocessing(mean=(0,), std=(255,))))
    assert codes(found) == {"tiny-values"}


def test_a_model_that_scales_its_input_changes_the_finding() -> None:
    """A leading MUL by 1/255 means raw pixels are right and scaled ones wrong."""
    graph = parse(_rescaling(), "model")
    assert scales_its_input(graph, "image") == pytest.approx(1 / 255)
    assert codes(run_audit(conv_set(pixels()), graph=graph)) == set()
    assert codes(run_audit(conv_set(np.abs(floats())), graph=graph)) == {"scaled-twice"}


def _rescaling() -> bytes:
    b = models.Builder()
    x = b.tensor("image", (1, 12, 12, 3))
    factor = b.tensor("factor", (), data=np.float32(1 / 255))
    y = b.tensor("scaled", (1, 12, 12, 3))
    b.op("MUL", [x, factor], [y], ("MulOptions", schema.MulOptionsT()))
    return b.build({"image": x}, {"scaled": y})


def test_duplicates_constants_and_few_samples_are_noticed() -> None:
    """Each is a finding of its own."""
    doubled = floats(40)
    doubled[1:20] = doubled[0]
    assert codes(run_audit(conv_set(doubled))) == {"duplicates"}
    assert codes(run_audit(conv_set(floats(5)))) == {"few-samples"}
    assert "constant-input" in codes(run_audit(conv_set(np.ones((40, 12, 12, 3), np.float32))))


def test_nan_names_the_sample() -> None:
    """NaN is refused, and the message says where."""
    bad = floats()
    bad[7, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="sample 7 holds 1 NaN or infinite values of 432"):
        run_audit(conv_set(bad))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param((40, 16, 16, 3), "Pass --resize 12x12", id="another size"),
        pytest.param((40, 3, 12, 12), "channels-first", id="channels first"),
        pytest.param((40, 7), r"has shape \[7\], the model's input 'image' takes \[12, 12, 3\]", id="another rank"),
    ],
)
def test_wrong_shapes_name_the_remedy(shape: tuple[int, ...], message: str) -> None:
    """Images of another size name --resize, channels-first data are recognised."""
    with pytest.raises(DataError, match=message):
        run_audit(conv_set(np.zeros(shape, np.float32)))


def test_resize_makes_other_sizes_fit() -> None:
    """With --resize they are taken."""
    found = run_audit(conv_set(RANDOM.uniform(0, 1, (40, 16, 20, 3)), Preprocessing(resize=(12, 12))))
    assert found.count == 40


def test_an_exhausted_source_is_empty() -> None:
    """A function whose iterator gives nothing is refused with the likely causes."""
    with pytest.raises(DataError, match=r"gave no sample at all\. Likely causes"):
        run_audit(conv_set(lambda: iter(())))


def test_fingerprint_depends_on_values_only() -> None:
    """The same samples give the same fingerprint from an array and from a list, in any order; other values another."""
    data = floats()
    first = run_audit(conv_set(data)).fingerprint
    assert first == run_audit(conv_set(list(data))).fingerprint
    assert first == run_audit(conv_set(data[::-1])).fingerprint
    assert first != run_audit(conv_set(data[1:])).fingerprint
    assert first != run_audit(conv_set(data * np.float32(0.5))).fingerprint
    assert first != run_audit(conv_set(data + 0.001)).fingerprint


def test_open_sizes_are_pinned_by_the_first_sample() -> None:
    """The batch becomes 1."""
    model = ModelFile.read(models.dense_float(open_batch=True))
    data = CalibrationSet(open_data(np.zeros((3, 8)), model.inputs, 9, "calibration"), model.inputs, {})
    assert data.pinned() == {"x": (1, 8)}


def test_options_go_to_the_only_image_input() -> None:
    """With several float inputs the options cannot know which is meant."""
    one = Preprocessing(mean=(1.0,), std=(2.0,))
    assert preprocessing_for(CONV.inputs, one) == {"image": one}
    assert preprocessing_for(CONV.inputs, Preprocessing()) == {}
    with pytest.raises(DataError, match="are for one float input"):
        preprocessing_for(ModelFile.read(models.add_two_inputs()).inputs, one)
