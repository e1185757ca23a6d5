"""The benchmark of conversions: its networks are hard in the way they say, its figures are right, its tables are written."""

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
from edgekit_convert.verify.intervals import Interval

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import hard_models  # the benchmarks are scripts, not a package
import quality
import quality_tables
from quality_rows import CASES, Row, beside_peers, compare, total_disagreement

COUNT = 8


@pytest.fixture(scope="module")
def digits() -> hard_models.Data:
    """A few images for the networks that tell digits."""
    return hard_models.load_data("silu", train=2 * COUNT, test=COUNT)


def ready(images: Any) -> Any:
    """Images as the networks take them."""
    return (images.astype(np.float32) - 127.5) / 127.5


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        pytest.param("hard_swish", {"HARD_SWISH": 7, "DEPTHWISE_CONV_2D": 5}, id="hard swish"),
        pytest.param("silu", {"LOGISTIC": 22, "MUL": 22}, id="silu"),
        pytest.param("transformer", {"GELU": 3, "SOFTMAX": 2, "RSQRT": 5, "BATCH_MATMUL": 4}, id="transformer"),
        pytest.param("wide_channels", {"DEPTHWISE_CONV_2D": 5, "CONV_2D": 6}, id="wide channels"),
        pytest.param("boxes_and_scores", {"CONCATENATION": 1, "LOGISTIC": 2}, id="detector"),
    ],
)
def test_the_hard_networks_have_the_operators_that_they_are_for(name: str, operators: dict[str, int]) -> None:
    """As the converter makes them of the layers."""
    side = hard_models.MODELS[name].side
    opened = open_source(hard_models.build(name))
    float_model = opened.export({spec.name: (1, side, side, 3) for spec in opened.inputs})
    seen = Counter(op.name for op in ModelFile.read(float_model).graph.main.ops)
    assert operators == {operator: seen[operator] for operator in operators}


def test_dead_channels_stay_dead_in_training(digits: hard_models.Data) -> None:
    """One channel in eight of each layer has next to no weights, with a bias; training moves the others alone."""
    network = hard_models.build("hard_swish")

    def scales() -> list[Any]:
        return [np.array(layer.gamma) for layer in network.layers if type(layer).__name__ == "BatchNormalization"]

    before = scales()
    hard_models.train(network, "hard_swish", digits, epochs=1)
    for old, new in zip(before, scales(), strict=True):
        dead = np.abs(old) < 1e-5
        assert max(2, len(old) // 8) == int(dead.sum())
        np.testing.assert_array_equal(old[dead], new[dead])
        assert not np.array_equal(old[~dead], new[~dead])


def test_channels_differ_widely() -> None:
    """Each layer's channels have sizes from about 1/32 to 2, and the weights that read them undo that."""
    network = hard_models.build("wide_channels")
    scales = [np.abs(layer.gamma) for layer in network.layers if type(layer).__name__ == "BatchNormalization"]
    assert all(scale.max() / scale.min() > 16 for scale in scales)
    reading = [
        np.abs(layer.kernel).mean(axis=(0, 1, 3)) for layer in network.layers if "Depthwise" in type(layer).__name__
    ]
    assert all(
        np.corrcoef(weights, 1 / scale)[0, 1] > 0.8 for weights, scale in zip(reading, scales[::2], strict=False)
    )


def test_the_residual_stream_has_large_channels(digits: hard_models.Data) -> None:
    """The first sum of the transformer reaches far beyond what a normalised tensor does."""
    import keras

    network = hard_models.build("transformer")
    first = next(layer for layer in network.layers if type(layer).__name__ == "Add")
    stream = np.asarray(keras.Model(network.input, first.output)(ready(digits.train)))
    assert stream.min() < -5
    assert stream.max() > 10


def test_the_detector_mixes_ranges() -> None:
    """Boxes inside the frame of 320 pixels and scores from 0 to 1 are one tensor."""
    images = hard_models.load_data("boxes_and_scores", train=COUNT, test=1).train
    output = np.asarray(hard_models.build("boxes_and_scores")(ready(images)))
    assert (COUNT, 64, 5) == output.shape
    assert 0 <= output[:, :, :4].min()
    assert 200 < output[:, :, :4].max() <= 320
    assert 0 <= output[:, :, 4].min() <= output[:, :, 4].max() <= 1


def test_the_data_follow_from_the_seed(digits: hard_models.Data) -> None:
    """The same seed gives the same images, another one others; calibration is a part of the training data."""
    again, other = (hard_models.load_data("silu", seed, train=2 * COUNT, test=COUNT) for seed in (0, 1))
    np.testing.assert_array_equal(digits.test, again.test)
    assert not np.array_equal(digits.test, other.test)
    np.testing.assert_array_equal(digits.train[:COUNT], digits.calibration(COUNT))


def test_boxes_overlap_by_their_common_share() -> None:
    """Intersection over union: the same box 1, half of it 0.5, another place 0."""
    box = np.array([[0, 0, 10, 10]] * 3, np.float32)
    other = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose([1, 0.5, 0], hard_models.overlap(box, other))


def test_classes_are_compared_by_the_highest_score() -> None:
    """Three of four samples say the same; the float model is right twice, the other once."""
    exact = np.eye(4)[[0, 1, 2, 3]]
    seen = np.eye(4)[[0, 1, 2, 0]]
    same, right = compare(exact, seen, np.array([0, 0, 0, 3]), boxes=False)
    assert [True, True, True, False] == same.tolist()
    assert right is not None
    assert [0.5, 0.25, 0.25] == [item.value for item in right]


def test_boxes_are_compared_by_the_best_one() -> None:
    """The box with the highest score counts, wherever in the grid it is."""
    exact = np.zeros((2, 3, 5), np.float32)
    exact[:, 1] = [10, 10, 50, 50, 0.9]
    seen = exact.copy()
    seen[0, 2] = [11, 10, 51, 50, 1.0]  # nearly the same box
    seen[1, 0] = [200, 200, 240, 240, 1.0]
    same, right = compare(exact, seen, exact[:, 1, :4], boxes=True)
    assert [True, False] == same.tolist()
    assert right is not None
    assert [1.0, 0.5, 0.5] == [item.value for item in right]


def made(case: str, tool: str, wrong: int, sqnr: float = 20.0, count: int = 400) -> Row:
    """A row whose first ``wrong`` samples differ from the float model's."""
    same = np.arange(count) >= wrong
    known = {"seconds": 1.5, "peak_bytes": 2**28, "baseline_bytes": 2**27}
    interval = Interval(sqnr, sqnr - 1, sqnr + 1)
    return Row(CASES[case], tool, conversion=known, same=same, sqnr_db=interval, size_bytes=1000)


@pytest.mark.parametrize(
    ("wrong", "sqnr", "expected"),
    [
        pytest.param(4, 25.0, (False, False), id="better"),
        pytest.param(12, 19.95, (False, False), id="within chance"),
        pytest.param(40, 19.0, (True, True), id="worse"),
    ],
)
def test_a_row_stands_beside_the_best_peer(wrong: int, sqnr: float, expected: tuple[bool, bool]) -> None:
    """Agreement against the closest peer by a paired interval, SQNR against the clearest with a tenth of a dB."""
    rows = [
        made("kws", "TFLiteConverter", 10, 18.0),
        made("kws", "litert-quantizer", 30, 20.0),
        made("kws", "edgekit-high", wrong, sqnr),
    ]
    against = beside_peers(rows[2], rows).against
    assert against is not None
    assert ("TFLiteConverter", "litert-quantizer") == (against.agreement_peer, against.sqnr_peer)
    assert expected == (against.significantly_worse, against.noisier)


def test_disagreement_is_summed_over_the_real_models_that_all_converted() -> None:
    """Not over the self-made ones, nor over one that TFLiteConverter could not read; a tool that lacks one has no sum."""
    rows = [
        made("kws", "TFLiteConverter", 10),
        made("resnet8", "TFLiteConverter", 20),
        made("kws", "edgekit-fast", 4),
        made("resnet8", "edgekit-fast", 8),
        made("kws", "edgekit-high", 1),
        made("mobilenet_v1", "edgekit-fast", 100),
        made("silu", "edgekit-fast", 100),
    ]
    totals = total_disagreement(rows)
    assert {"TFLiteConverter": 30, "edgekit-fast": 12} == {tool: count for tool, (count, _) in totals.items()}
    assert [0.075, 0.03] == pytest.approx([share for _, share in totals.values()])


def test_the_page_has_a_line_for_what_failed() -> None:
    """A tool that failed, one that was not tried, and what was measured are all in the tables."""
    ratio = Ratio(0.5, 0.4, 0.6)
    rows = [made("kws", "TFLiteConverter", 10), made("kws", "edgekit-high", 4, 28.0)]
    rows = [dataclasses.replace(beside_peers(row, rows), latency=ratio, latency_of_peer=ratio) for row in rows]
    rows.append(Row(CASES["kws"], "litert-quantizer", failure="RuntimeError: it | broke"))
    rows.append(Row(CASES["mobilenet_v1"], "TFLiteConverter", skipped="no source"))
    tools = dict.fromkeys(("tensorflow", "litert-quantizer", "ai-edge-litert", "edgekit", "python"), "1.0")
    timed = {"tool": "edgekit-fast", "failure": "out of memory", "repeat": 0, "alpha": 1.0, "side": 224, "count": 10}
    orders = [{"model": "kws", "tool": "edgekit-fast", "failure": None, "sha256": ["a", "a"], "same": True}]
    result = quality.Result(tools, rows, {}, total_disagreement(rows), [timed], [timed], orders)
    page = quality_tables.document(result)
    assert not result.passed
    for text in (
        "| litert-quantizer | failed: RuntimeError: it \\| broke |",
        "| TFLiteConverter | not tried: no source |",
        "| DS-CNN, keyword spotting | edgekit-high | 99.00 % (97.5 to 99.6) | 28.0 dB (27.0 to 29.0) |",
        "+8.0 dB to TFLiteConverter | – |",
        "| 1.0 kB | 0.50 (0.40–0.60) | 0.50 (0.40–0.60) | 1.5 s | 256 MiB | 128 MiB | – |",
        "| DS-CNN, keyword spotting, effort high: at least 27 dB and 98.7 % | 28.0 dB, 99.00 % | yes |",
        "| 4 samples against 10; sum of shares 1.00 against 2.50 points | yes |",
        "failed: out of memory",
        "| kws | edgekit-fast | the same bytes |",
    ):
        assert text in page
    assert json.loads(json.dumps(result.to_json()))["rows"][1]["against"]["significantly_worse"] is False


def test_the_benchmark_runs_and_reports(tmp_path: Path) -> None:
    """One network trained for a moment, converted with two tools and judged; a model that is not there is a row and exit status 1."""
    options = ["--work", str(tmp_path / "work"), "--assets", str(tmp_path), "--epochs", "1", "--rounds", "0"]
    written = ["--json", str(tmp_path / "raw.json"), "--markdown", str(tmp_path / "docs" / "page.md")]
    tools = ["--tools", "litert-quantizer", "edgekit-fast", "input-only"]
    assert quality.main(["--models", "wide_channels", "kws", *tools, *options, *written]) == 1
    raw = json.loads((tmp_path / "raw.json").read_text())
    failed = {(row["model"], row["tool"]) for row in raw["rows"] if row["failure"]}
    assert {("kws", tool) for tool in tools[1:]} == failed
    ours = next(row for row in raw["rows"] if row["model"] == "wide_channels" and row["tool"] == "edgekit-fast")
    assert 897 == len(ours["same"])
    assert 0 < ours["baseline_bytes"] <= ours["peak_bytes"]
    assert ours["sqnr_db"]["value"] > 0
    assert "| ReLU6 depthwise | edgekit-fast |" in (tmp_path / "docs" / "page.md").read_text()
