"""The benchmark of latency: its networks have the layers that they are for, its figures and claims are right, its page is written."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench.results import Ratio
from edgekit.modelfile import ModelFile
from edgekit_convert.frontends import open_source
from edgekit_convert.frontends.freeze import import_tensorflow
from edgekit_convert.verify.intervals import Interval

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import latency  # the benchmarks are scripts, not a package
import latency_tables
import zoo
from latency_claims import claims
from latency_rows import CASES, FLOAT, Row, compare, find, geometric_mean
from zoo import data, dense, training

SIDE = 48


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        pytest.param("vit", {"GELU": 4, "SOFTMAX": 4, "RSQRT": 9, "BATCH_MATMUL": 8, "CONV_2D": 1}, id="vit"),
        pytest.param("mobilevit", {"SOFTMAX": 4, "TRANSPOSE": 24, "DEPTHWISE_CONV_2D": 5}, id="mobilevit"),
        pytest.param("yolo", {"RESIZE_NEAREST_NEIGHBOR": 2, "MAX_POOL_2D": 3, "SPLIT": 8, "TILE": 0}, id="yolo"),
        pytest.param("deeplab", {"RESIZE_BILINEAR": 3, "DEPTHWISE_CONV_2D": 14, "SPACE_TO_BATCH_ND": 0}, id="deeplab"),
        pytest.param("lstm", {"TANH": 50, "LOGISTIC": 74, "WHILE": 0}, id="lstm"),
        pytest.param("gru", {"TANH": 25, "LOGISTIC": 49, "WHILE": 0}, id="gru"),
        pytest.param("resnet18", {"CONV_2D": 20, "ADD": 8, "MAX_POOL_2D": 1}, id="resnet18"),
        pytest.param("mobilenet_v3_small", {"HARD_SWISH": 19, "SOFTMAX": 1}, id="mobilenet v3"),
    ],
)
def test_the_networks_have_the_operators_that_they_are_for(name: str, operators: dict[str, int]) -> None:
    """As the converter makes them of the layers."""
    import_tensorflow()
    item = zoo.ZOO[name]
    opened = open_source(item.make(item.side) if item.side else item.make())
    (spec,) = opened.inputs
    seen = Counter(op.name for op in ModelFile.read(opened.export({spec.name: (1, *spec.shape[1:])})).graph.main.ops)
    assert operators == {operator: seen[operator] for operator in operators}


def test_pictures_follow_from_the_seed() -> None:
    """The same seed gives the same pictures, another one and the test others."""
    first, again, other = (data.pictures(SIDE, 6, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs, other.inputs)
    assert not np.array_equal(first.inputs, data.pictures(SIDE, 6, 0, test=True).inputs)


def test_boxes_hold_the_masks() -> None:
    """All of a digit's pixels are of its class and inside its box, which is a smaller part of the image where it can be anywhere."""
    samples = data.pictures(SIDE, 8, 0, anywhere=True, masks=True)
    for mask, label, box in zip(samples.masks, samples.labels, samples.boxes, strict=True):
        assert {0, int(label) + 1} == set(np.unique(mask))
        rows, columns = np.nonzero(mask)
        left, top, right, bottom = np.rint(box * SIDE).astype(int)
        assert left <= columns.min() <= columns.max() < right
        assert top <= rows.min() <= rows.max() < bottom
        assert SIDE // 4 <= right - left <= SIDE * 5 // 8


def test_words_are_shaken_but_keep_their_labels() -> None:
    """More words than there were, each near the one that it was made of."""
    words = data.Samples(
        np.random.default_rng(0).normal(0, 1, (3, 49, 10, 1)), np.array([5, 7, 9]), np.empty((0, 4)), np.empty(0)
    )
    more = data.shaken_words(words, 7, 0)
    assert [5, 7, 9, 5, 7, 9, 5] == more.labels.tolist()
    assert (7, 49, 10, 1) == more.inputs.shape
    assert not np.array_equal(more.inputs[0], more.inputs[3])
    nearest = [np.abs(np.roll(words.inputs[0], shift, axis=0) - more.inputs[0]).mean() for shift in range(-5, 6)]
    assert min(nearest) < 0.5


def test_a_box_is_wanted_at_the_scale_of_its_size() -> None:
    """A small box in the finest grid, a large one in the coarsest, each in the cell of its middle."""
    boxes = np.array([[0.1, 0.1, 0.3, 0.3], [0.0, 0.2, 0.6, 0.8]], np.float32)
    targets = dense.box_targets(boxes, 160)
    assert (2, 400 + 100 + 25, 5) == targets.shape
    cells = targets[:, :, 4].argmax(axis=1).tolist()
    assert [4 * 20 + 4, 500 + 2 * 5 + 1] == cells
    np.testing.assert_array_equal(boxes, targets[[0, 1], cells, :4])


def test_another_input_size_keeps_the_weights_but_not_the_statistics() -> None:
    """What was trained on small images knows its own size's statistics and has a last layer that was fitted there."""
    import_tensorflow()
    import keras
    from keras import layers

    def small(side: int) -> Any:
        image = keras.Input((side, side, 3))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, 2)(image)))
        return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))

    item = dataclasses.replace(zoo.ZOO["resnet18"], make=small, side=SIDE, train_side=24)
    trained = small(24)
    own = data.pictures(SIDE, 64, 0)
    model = training._at_side(trained, item, own)
    training._fit_last(model, item, own, epochs=1)
    assert (SIDE, SIDE) == model.input.shape[1:3]
    np.testing.assert_array_equal(trained.layers[1].kernel, model.layers[1].kernel)
    assert not np.array_equal(trained.layers[-1].kernel, model.layers[-1].kernel)
    seen = np.asarray(model.layers[1](training.ready(item, own.inputs)))
    np.testing.assert_allclose(model.layers[2].moving_mean, seen.mean(axis=(0, 1, 2)), atol=1e-4)


def test_classes_and_pixels_are_compared_by_the_highest_value() -> None:
    """Three of four samples agree; of a sample's pixels three of four; the noise is one of the signal's size in one sample."""
    exact, seen = np.eye(4)[[0, 1, 2, 3]], np.eye(4)[[0, 1, 2, 0]]
    same, noise = compare(exact, seen, "colors")
    assert [1, 1, 1, 0] == same.tolist()
    assert noise.value == pytest.approx(10 * np.log10(4 / 2))
    same, _ = compare(exact.reshape(1, 2, 2, 4), seen.reshape(1, 2, 2, 4), "masks")
    assert [0.75] == same.tolist()


def test_boxes_are_compared_by_the_best_one() -> None:
    """The box with the highest score counts, wherever in the grid it is."""
    exact = np.zeros((2, 3, 5), np.float32)
    exact[:, 1] = [0.1, 0.1, 0.5, 0.5, 0.9]
    seen = exact.copy()
    seen[0, 2] = [0.11, 0.1, 0.51, 0.5, 1.0]  # nearly the same box
    seen[1, 0] = [0.6, 0.6, 0.8, 0.8, 1.0]
    assert [1, 0] == compare(exact, seen, "boxes")[0].tolist()


def row(name: str, tool: str, value: float, *, share: float = 1.0, sqnr: float = 20.0, of_tflite: float = 0.2) -> Row:
    """A row of one tool, its latency known to a tenth."""
    spread = {1: Ratio(value, value - 0.05, value + 0.05)}
    made = Row(CASES[name], tool, seconds=1.5, sha256="ab" * 32, size_bytes=1000, macs=10**6, int8_mac_share=share)
    return dataclasses.replace(
        made,
        same=np.array([1.0, 1.0, 0.0, 1.0]),
        sqnr_db=Interval(sqnr, sqnr - 1, sqnr + 1),
        p50_ns={1: int(value * 1e6)},
        latency={} if tool == FLOAT else spread,
        latency_of_tflite={} if tool == "TFLiteConverter" else {1: Ratio(of_tflite, None, None)},
        partitions={"partitions": 2, "operators": 10, "taken": 8, "outside": {"HARD_SWISH": 2}},
    )


def test_the_geometric_mean_is_over_what_was_measured() -> None:
    """Of 0.25 and 1 it is a half; a failed row counts for nothing."""
    rows = [row("resnet8", "edgekit-auto", 0.25), row("vit", "edgekit-auto", 1.0), row("yolo", "edgekit-int8", 3.0)]
    rows.append(Row(CASES["kws"], "edgekit-auto", failure="it broke"))
    mean = geometric_mean(rows, "edgekit-auto", 1)
    assert mean is not None
    assert (pytest.approx(0.5), 2) == mean
    assert geometric_mean(rows, "edgekit-auto", 2) is None


@pytest.mark.parametrize(
    ("value", "share", "met"),
    [
        pytest.param(0.5, 0.9, True, id="faster"),
        pytest.param(1.04, 0.9, True, id="slower within noise"),
        pytest.param(1.06, 0.9, False, id="slower"),
        pytest.param(0.5, 0.79, False, id="hardly int8"),
    ],
)
def test_int8_is_held_to_be_no_slower(value: float, share: float, met: bool) -> None:
    """The interval must allow that it is not slower, and four fifths of the work must be in int8."""
    first = claims([row("yolo", "edgekit-auto", value, share=share)], ["yolo"])[0]
    assert met is first.met


def test_claims_about_two_models_have_figures_of_their_own() -> None:
    """Limits against float and TFLiteConverter, noise beside the file without rewrites; a tool that failed misses its claim."""
    rows = [
        row("mobilenet_v3_small", "edgekit-auto", 0.55, sqnr=19.0),
        row("mobilenet_v3_small", "edgekit-plain", 2.7, sqnr=19.5),
        row("vit", "edgekit-auto", 0.6, sqnr=22.0, of_tflite=0.13),
        row("vit", "TFLiteConverter", 5.9, sqnr=20.0),
        Row(CASES["mobilenet_v3_small"], "edgekit-int8", failure="no kernel"),
    ]
    seen = {claim.text: claim.met for claim in claims(rows, ["mobilenet_v3_small", "vit", "resnet8"])}
    small, vit = CASES["mobilenet_v3_small"].title, CASES["vit"].title
    expected = {
        f"{small}, edgekit-auto: at most 0.60 × float": True,
        f"{small}, edgekit-auto: at most 0.22 × TFLiteConverter": True,
        f"{small}, edgekit-int8: at most 0.65 × float": False,
        f"{small}, edgekit-auto: agreement at least edgekit-plain's": True,
        f"{small}, edgekit-auto: SQNR at least edgekit-plain's": False,
        f"{vit}, edgekit-auto: at most 0.65 × float": True,
        f"{vit}, edgekit-auto: at most 0.12 × TFLiteConverter": False,
        f"{vit}, edgekit-auto: SQNR at least TFLiteConverter's": True,
        f"{CASES['resnet8'].title}, edgekit-int8: the same bytes with rules for the delegate and without": None,
    }
    assert expected == {text: met for text, met in seen.items() if text in expected}


def test_the_page_has_a_line_for_what_failed() -> None:
    """A tool that failed, what was measured, what the delegate left, and the claims are all on it."""
    rows = [row("yolo", FLOAT, 1.0), row("yolo", "edgekit-auto", 0.5)]
    rows.append(Row(CASES["yolo"], "litert-quantizer", failure="RuntimeError: it | broke"))
    names = ("edgekit", "tensorflow", "keras", "litert-quantizer", "ai-edge-litert", "python")
    known = {"yolo": {"float_bytes": 2_000_000, "training_s": 61.0}}
    settings = latency.Settings(Path(), Path(), ("edgekit-auto", "litert-quantizer"), "fast", (1,), 9, 3, 0, None)
    result = latency.Result(dict.fromkeys(names, "1.0"), settings, rows, known)
    page = latency_tables.document(result)
    assert not result.passed
    for text in (
        "| YOLO-like, SiLU, 160 | litert-quantizer | failed: RuntimeError: it \\| broke |",
        "| YOLO-like, SiLU, 160 | edgekit-auto | 0.500 ms | 0.50 (0.45–0.55) | 0.20 | 100 % | 2 (8 of 10) | HARD_SWISH ×2 |",
        "| YOLO-like, SiLU, 160 | edgekit-auto | 75.0 % (30.1 to 95.4) | 20.0 dB (19.0 to 21.0) | 1.0 kB | 1.5 s |",
        "| edgekit-auto | 0.500 | 1 |",
        "| geometric mean of latency against float at most 0.55 | 0.500 over 1 models | yes |",
        "| YOLO-like, SiLU, 160 | 1.0 M | 2.0 MB | 61 s |",
    ):
        assert text in page
    assert json.loads(json.dumps(result.to_json()))["rows"][1]["latency"]["1"]["value"] == 0.5


def test_the_benchmark_runs_and_reports(tmp_path: Path) -> None:
    """One network trained for a moment, converted and timed; a model that is not there is a row and exit status 1."""
    options = ["--work", str(tmp_path / "work"), "--assets", str(tmp_path), "--epochs", "1", "--effort", "fast"]
    options += ["--rounds", "2", "--launches", "2", "--threads", "1"]
    written = ["--json", str(tmp_path / "raw.json"), "--markdown", str(tmp_path / "docs" / "page.md")]
    tools = ["--tools", "litert-quantizer-dynamic", "edgekit-auto"]
    assert latency.main(["--models", "vit", "resnet8", *tools, *options, *written]) == 1
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert {"resnet8"} == {item["model"] for item in raw["rows"] if item["failure"]}
    by_tool = {item["tool"]: item for item in raw["rows"] if item["model"] == "vit"}
    assert {FLOAT, *tools[1:]} == set(by_tool)
    assert 200 == len(by_tool["edgekit-auto"]["same"])
    assert by_tool["edgekit-auto"]["sqnr_db"]["value"] > 0
    assert by_tool["edgekit-auto"]["size_bytes"] < by_tool[FLOAT]["size_bytes"]
    assert by_tool["litert-quantizer-dynamic"]["dynamic_mac_share"] > 0.5
    assert {"1"} == set(by_tool["edgekit-auto"]["latency"])
    assert 2 == len(raw["models"]["vit"]["latency_ns"]["1"][FLOAT])
    assert "| ViT, 144 tokens × 96, 4 blocks | edgekit-auto |" in (tmp_path / "docs" / "page.md").read_text()
    assert find([], "vit", FLOAT) is None
