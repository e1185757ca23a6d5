"""The page of a comparison: what it shows is what the report says, whole, escaped and without network."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ModelFileError, OutputError
from edgekit.report.depth import alone_along, noise_along
from edgekit.report.layer_fields import LAYER_FIELDS, short_name
from edgekit.report.verify_html import (
    Compared,
    check_page,
    compared,
    save_page,
    verify_page,
)

HOSTILE = "<script>alert('&')</script>"
FILES = (Compared("float", "float.tflite", 4000, "a" * 64), Compared("int8", "int8.tflite", 1000, "b" * 64))


def layer(number: int, sqnr_db: float | None, **changes: Any) -> dict[str, Any]:
    """One layer as ``LayerReport.to_json`` gives it."""
    share = 0.0 if sqnr_db is None else 10 ** (-sqnr_db / 10)
    return {
        "number": number, "worst": None, "operator": "CONV_2D", "name": f"layer{number}", "int8_name": f"q{number}",
        "shape": [1, 8, 8, 4], "dtype": "int8", "scale": 0.5, "zero_point": -3, "low": -1.5, "high": 63.0,
        "clipped_low": 0.0, "clipped_high": 0.0123, "steps": 200, "noise_share": share, "sqnr_db": sqnr_db, "bias": 0.004,
        "alone_share": None, "alone_db": None, **changes,
    }  # fmt: skip


def report(layers: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """A report as ``VerifyReport.to_json`` gives it."""
    interval = {"value": 0.975, "low": 0.95, "high": 0.99}
    output = {"name": "scores", "sqnr_db": {"value": 24.0, "low": 23.0, "high": None}, "agreement": interval,
              "max_abs_error": 0.0625}  # fmt: skip
    metric = {
        "name": "accuracy",
        "float": interval,
        "int8": interval,
        "drop": {"value": 0.01, "low": -0.01, "high": 0.03},
    }
    return {
        "checks": [{"name": "loads and runs", "passed": True, "text": "litert"}],
        "on": {"data": {"origin": "x.npy", "count": 80, "outputs": [output], "metric": metric}},
        "engine": "litert", "delegate": "xnnpack", "float_bytes": 4000, "int8_bytes": 1000, "int8_mac_share": 1.0,
        "float_ops": [],
        "layers": None if layers is None else {"samples": 64, "unmatched": ["NEG odd"], "likeness": 1.0, "layers": layers},
        **changes,
    }  # fmt: skip


class Words(HTMLParser):
    """Collects tags and text, and checks that what opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an empty tag."""
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note text outside the style sheet."""
        if self.open[-1:] != ["style"]:
            self.text += f"{data} "


class TestPage:
    """The document."""

    def test_everything_is_on_it(self) -> None:
        """Verdict, figures with intervals, checks, layers, files with size and hash, and what the data were."""
        text = Words(verify_page(report([layer(0, 30.0), layer(1, 12.5, worst=1)]), FILES, "x.npz:test")).text
        for words in (
            "All checks passed", "97.50 % (95.0 to 99.0)", "24.0 dB (23.0 to –)", "+1.00 (-1.0 to 3.0)", "0.0625",
            "Figures on 80 samples", "loads and runs", "layer1", "12.5 dB", "1.2 % high", "-1.5 to 63", "+0.4 %",
            "NEG odd", "4,000 bytes", "b" * 64, "x.npz:test", "xnnpack", "4.00×",
        ):  # fmt: skip
            assert words in text, words

    def test_texts_are_text(self) -> None:
        """Markup in a name of a file, tensor, output or check is shown, not obeyed."""
        hostile = report([layer(0, 9.0, name=HOSTILE, operator=HOSTILE, worst=1)], engine=HOSTILE, delegate=HOSTILE)
        hostile["on"]["data"]["outputs"][0]["name"] = HOSTILE
        hostile["checks"] = [{"name": HOSTILE, "passed": False, "text": HOSTILE}]
        files = [Compared(file.role, HOSTILE, file.size_bytes, HOSTILE) for file in FILES]
        words = Words(verify_page(hostile, files, HOSTILE))
        assert "script" not in words.tags
        assert words.text.count(HOSTILE) >= 12

    def test_a_failed_check_is_told_first(self) -> None:
        """In the sentence below the heading and in the first tile."""
        bad = report()
        bad["checks"] = [{"name": "input and output types", "passed": False, "text": "float32"}]
        text = Words(verify_page(bad, FILES, "x")).text
        assert "1 of the checks failed: input and output types." in text
        assert text.index("FAILED") < text.index("same answer")

    def test_a_model_that_did_not_run(self) -> None:
        """Without figures and layers the page still says why."""
        text = Words(verify_page(report(on={}), FILES, "x")).text
        assert "loads and runs" in text
        assert "Layer by layer" not in text
        assert "Figures" not in text

    def test_no_labels_no_classes_no_error(self) -> None:
        """What was not measured is left out, and an exact output has no decibels."""
        plain = report()
        plain["on"]["data"]["metric"] = None
        plain["on"]["data"]["outputs"][0] |= {"agreement": None, "sqnr_db": {"value": None, "low": None, "high": None}}
        text = Words(verify_page(plain, FILES, "x")).text
        assert "no error" in text
        assert "accuracy" not in text

    def test_several_outputs_are_rows(self) -> None:
        """The task's figure stands with the first, and the tiles say which output they are of."""
        two = report()
        first = two["on"]["data"]["outputs"][0]
        two["on"]["data"]["outputs"] = [first, {**first, "name": "boxes", "agreement": None}]
        text = Words(verify_page(two, FILES, "x")).text
        assert "of scores" in text
        assert "boxes" in text


class TestPictures:
    """The drawings."""

    def test_points_stand_at_their_value(self) -> None:
        """Equal steps in dB are equal steps on the page, higher is better, and the worst one is larger."""
        root = ElementTree.fromstring(noise_along([layer(0, 40.0), layer(1, 30.0), layer(2, 20.0, worst=1)]))
        points = root.findall("circle")
        heights = [float(point.attrib["cy"]) for point in points]
        assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
        assert heights[0] < heights[2]
        assert [float(point.attrib["r"]) for point in points][2] > float(points[0].attrib["r"])
        assert ["2"] == [text.text for text in root.findall("text") if text.attrib["class"] == "value"]

    @pytest.mark.parametrize("value", [-40.0, 0.0, 3.0, 180.0])
    def test_the_axis_holds_every_value(self, value: float) -> None:
        """Below zero or far above: the point lies between the outermost lines, and there are few lines."""
        root = ElementTree.fromstring(noise_along([layer(0, value), layer(1, 15.0)]))
        lines = [float(line.attrib["y1"]) for line in root.findall("line")]
        points = [float(point.attrib["cy"]) for point in root.findall("circle")]
        assert len(lines) <= 8
        assert min(lines) - 0.1 <= min(points)
        assert max(points) <= max(lines) + 0.1

    def test_exact_and_lost_layers_lie_on_the_edges(self) -> None:
        """No error on the upper, an error without bounds on the lower edge, and the caption says so."""
        rows = [layer(0, None), layer(1, 20.0), layer(2, None, noise_share=None)]
        root = ElementTree.fromstring(noise_along(rows))
        heights = [float(point.attrib["cy"]) for point in root.findall("circle")]
        lines = [float(line.attrib["y1"]) for line in root.findall("line")]
        assert (heights[0], heights[2]) == (min(lines), max(lines))
        text = Words(verify_page(report(rows), FILES, "x")).text
        assert "upper edge" in text
        assert "on the lower" in text

    def test_bars_share_out_the_sum(self) -> None:
        """A layer that adds three times as much is three times as tall; one without is flat."""
        rows = [layer(0, 20.0, alone_share=0.03, alone_db=15.2), layer(1, 20.0, alone_share=0.01, alone_db=20.0),
                layer(2, 20.0)]  # fmt: skip
        bars = ElementTree.fromstring(alone_along(rows)).findall("rect")
        tall = [float(bar.attrib["height"]) for bar in bars]
        assert tall[0] == pytest.approx(3 * tall[1], rel=0.01)
        assert tall[2] == 0
        assert "adds alone" in Words(verify_page(report(rows), FILES, "x")).text

    @pytest.mark.parametrize("count", [1, 2, 150])
    def test_any_number_of_layers(self, count: int) -> None:
        """From one to more than the picture has units for: all inside it."""
        rows = [layer(number, 10.0 + number % 7, alone_share=0.1, alone_db=10.0) for number in range(count)]
        for picture in (noise_along(rows), alone_along(rows)):
            root = ElementTree.fromstring(picture)
            places = [
                float(item.attrib.get("cx") or item.attrib["x"])
                for item in (*root.findall("circle"), *root.findall("rect"))
            ]
            assert len(places) == count
            assert 0 <= min(places) <= max(places) <= 360


class TestFields:
    """The columns that terminal and page share."""

    @pytest.mark.parametrize(
        ("key", "changes", "expected"),
        [
            ("sqnr_db", {"noise_share": 0.0, "sqnr_db": None}, "no error"),
            ("sqnr_db", {"noise_share": None, "sqnr_db": None}, "lost"),
            ("clipped", {"clipped_low": 0.0, "clipped_high": 0.0}, "none"),
            ("clipped", {"clipped_low": 1e-6, "clipped_high": 0.25}, "<0.1 % low, 25.0 % high"),
            ("clipped", {"clipped_low": None, "clipped_high": None}, "–"),
            ("bias", {"bias": -1e-7}, "0.0 %"),
            ("bias", {"bias": -0.02}, "-2.0 %"),
            ("alone_db", {}, "–"),
            ("alone_db", {"alone_share": 0.0}, "no error"),
            ("shape", {"shape": []}, "one number"),
        ],
    )
    def test_cells(self, key: str, changes: dict[str, Any], expected: str) -> None:
        """What a reader sees for the unusual values."""
        (field,) = [field for field in LAYER_FIELDS if field.key == key]
        assert expected == field.cell({**layer(0, 20.0), **changes})

    def test_long_names_keep_their_end(self) -> None:
        """Converters join the names of what they fused, and the last one tells most."""
        assert short_name("a" * 20) == "a" * 20
        assert short_name("x" * 100 + "model/conv2d_7/Conv2D").endswith("xmodel/conv2d_7/Conv2D")
        assert len(short_name("x" * 1000)) < 40


class TestSaving:
    """The file."""

    def test_the_page_is_written_whole(self, tmp_path: Path, dense_float_file: Path, dense_int8_file: Path) -> None:
        """With the sizes and hashes of the files themselves."""
        page = tmp_path / "page.html"
        save_page(page, report([layer(0, 20.0)]), str(dense_float_file), str(dense_int8_file), "x", overwrite=False)
        text = page.read_text(encoding="utf-8")
        facts = compared("int8", str(dense_int8_file))
        assert facts.sha256 is not None
        assert facts.sha256 in text
        assert facts.size_bytes == dense_int8_file.stat().st_size
        assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []

    def test_a_folder_has_no_hash(self, tmp_path: Path) -> None:
        """A SavedModel is named only."""
        assert Compared("float", tmp_path.name, None, None) == compared("float", str(tmp_path))

    def test_a_file_that_went_away(self, tmp_path: Path) -> None:
        """The message names it."""
        with pytest.raises(ModelFileError, match=r"no such file: .*gone\.tflite"):
            compared("float", str(tmp_path / "gone.tflite"))

    def test_a_model_is_never_replaced(self, dense_int8_file: Path) -> None:
        """Not even with ``overwrite``."""
        with pytest.raises(OutputError, match="it is one of the models"):
            check_page(dense_int8_file, ("absent.tflite", str(dense_int8_file)), overwrite=True)
