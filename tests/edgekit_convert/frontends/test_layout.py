"""Data in the original's layout: recognised by the sizes of a sample, turned, and said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.preprocess import Preprocessing
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import DataSource, open_data
from edgekit_convert.frontends.examples import Examples
from edgekit_convert.frontends.layout import (
    channels_last,
    in_file_layout,
    layout_findings,
    layouts_from_json,
    layouts_json,
    names,
    turned_back,
)
from edgekit_convert.frontends.source import Source

IMAGE = (TensorSpec("image", (1, 6, 5, 3), "float32"),)
LAST = {"image": (0, 2, 3, 1)}


def numbered(*shape: int) -> Array:
    """An array of different numbers."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def samples(data: DataSource) -> list[Array]:
    """All samples of the image input."""
    return [raw["image"] for raw, _ in data.read()]


def in_layout(data: Any, inputs: tuple[TensorSpec, ...] = IMAGE, **options: Any) -> tuple[DataSource, list[str]]:
    """Data in the file's layout, and the levels of what was said."""
    layouts = options.pop("layouts", LAST)
    source = open_data(data, inputs, 100, "calibration")
    turned, findings = in_file_layout(source, inputs, layouts, options.pop("preprocessing", {}))
    return turned, [finding.level for finding in findings]


class TestAxes:
    """Orders of axes and their names."""

    @pytest.mark.parametrize(
        ("axes", "expected"),
        [
            ((0, 2, 3, 1), ("NCHW", "NHWC")),
            ((0, 2, 1), ("NCL", "NLC")),
            ((0, 2, 3, 4, 1), ("NCDHW", "NDHWC")),
            ((0, 3, 2, 1), ("0123", "0321")),
            ((1, 0), ("01", "10")),
        ],
    )
    def test_names(self, axes: tuple[int, ...], expected: tuple[str, str]) -> None:
        """Images, sounds and volumes have letters; other orders are numbered."""
        assert expected == names(axes)

    @pytest.mark.parametrize("rank", [3, 4, 5])
    def test_and_back(self, rank: int) -> None:
        """Turning there and back changes nothing."""
        array = numbered(*range(2, 2 + rank))
        there = np.transpose(array, channels_last(rank))
        assert array.shape[1] == there.shape[-1]
        assert np.array_equal(array, np.transpose(there, turned_back(channels_last(rank))))

    def test_in_the_manifest(self) -> None:
        """What is written is read again, and what is not of its form is left out."""
        data = layouts_json(LAST, {"map": (0, 2, 3, 1)})
        assert {"axes": [0, 2, 3, 1], "original": "NCHW", "file": "NHWC"} == data["output_layouts"]["map"]
        assert LAST == layouts_from_json(data)
        assert {} == layouts_json({}, {})
        broken: list[Any] = [
            {},
            {"layouts": 3},
            {"layouts": {"x": {"axes": [0, 0, 1]}}},
            {"layouts": {"x": {"axes": "01"}}},
        ]
        assert [{}, {}, {}, {}] == [layouts_from_json(item) for item in broken]

    def test_said_of_a_source(self) -> None:
        """One sentence for each input and output that is turned."""
        source = Source("torch", "net", IMAGE, lambda shapes: b"", layouts=LAST, output_layouts={"map": (0, 2, 3, 1)})
        assert [
            "the input 'image' is NHWC in the file and NCHW in the original.",
            "the output 'map' is NHWC in the file and NCHW in the original.",
        ] == [finding.text for finding in layout_findings(source)]


class TestData:
    """Calibration and verification data."""

    def test_in_the_files_layout(self) -> None:
        """Nothing is done, and nothing said."""
        data = numbered(4, 6, 5, 3)
        turned, said = in_layout(data)
        assert [] == said
        assert np.array_equal(data, np.stack(samples(turned)))

    def test_in_the_originals(self) -> None:
        """Each sample is turned, and that is said once."""
        data = numbered(4, 3, 6, 5)
        turned, said = in_layout(data)
        assert ["note"] == said
        assert np.array_equal(np.moveaxis(data, 1, -1), np.stack(samples(turned)))
        assert len(samples(turned)) == len(samples(turned)) == 4  # it can be read again

    def test_with_labels_and_other_inputs(self) -> None:
        """Labels and inputs that lie the same way stay."""
        inputs = (*IMAGE, TensorSpec("numbers", (1, 3, 6), "float32"))
        data = {"image": numbered(4, 3, 6, 5), "numbers": numbered(4, 3, 6), "y": np.arange(4)}
        turned, said = in_layout(data, inputs)
        first, label = next(iter(turned.read()))
        assert (["note"], 0, (6, 5, 3), (3, 6)) == (said, label, first["image"].shape, first["numbers"].shape)

    def test_either(self) -> None:
        """Sizes that fit both ways are the file's, and the warning names both."""
        inputs = (TensorSpec("image", (1, 3, 3, 3), "float32"),)
        source = open_data(numbered(2, 3, 3, 3), inputs, 100, "calibration")
        turned, (finding,) = in_file_layout(source, inputs, LAST, {})
        assert source is turned
        assert "warning" == finding.level
        assert "can be NHWC, as the file takes it, or NCHW" in finding.text
        assert "numpy.transpose(data, [0, 2, 3, 1])" in finding.text

    @pytest.mark.parametrize(("shape", "expected"), [((9, 7, 3), (9, 7, 3)), ((3, 9, 7), (9, 7, 3))])
    def test_open_sizes(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        """Where the sizes are open, the channels tell."""
        turned, _ = in_layout(numbered(2, *shape), (TensorSpec("image", (-1, -1, -1, 3), "float32"),))
        assert expected == samples(turned)[0].shape

    @pytest.mark.parametrize("shape", [(20, 30, 3), (3, 20, 30)])
    def test_before_a_resize(self, shape: tuple[int, ...]) -> None:
        """Pictures that are resized afterwards are of any size, and resizing needs the channels last."""
        item = {"image": Preprocessing(resize=(5, 6))}
        turned, _ = in_layout(numbered(2, *shape), preprocessing=item)
        ready = next(iter(CalibrationSet(turned, IMAGE, item)))
        assert (1, 6, 5, 3) == ready.inputs["image"].shape

    def test_neither(self) -> None:
        """What fits in no order is left to the message about its size."""
        turned, said = in_layout(numbered(2, 8, 8, 4))
        assert [] == said
        with pytest.raises(
            DataError, match=r"sample 0 has shape \[8, 8, 4\], the model's input 'image' takes \[6, 5, 3\]"
        ):
            next(iter(CalibrationSet(turned, IMAGE, {})))

    def test_the_other_way_round(self) -> None:
        """Data with the channels last for an input that was kept with the channels first: the message says so."""
        first = (TensorSpec("image", (1, 3, 6, 5), "float32"),)
        turned, _ = in_layout(numbered(2, 6, 5, 3), first, layouts={})
        with pytest.raises(
            DataError,
            match=r"channels first, and the data have them last: .*; or, where you gave it, leave out --channels-first",
        ):
            next(iter(CalibrationSet(turned, first, {})))

    def test_functions(self) -> None:
        """A function that gives batches."""

        def batches() -> Iterator[Any]:
            yield from [numbered(2, 3, 6, 5), numbered(2, 3, 6, 5)]

        turned, said = in_layout(batches)
        assert (["note"], [(6, 5, 3)] * 4) == (said, [value.shape for value in samples(turned)])

    def test_sound(self) -> None:
        """Three axes."""
        inputs = (TensorSpec("signal", (1, 50, 4), "float32"),)
        turned, said = in_layout(numbered(2, 4, 50), inputs, layouts={"signal": (0, 2, 1)})
        assert (["note"], (50, 4)) == (said, next(iter(turned.read()))[0]["signal"].shape)


class TestExamples:
    """First samples for sources that do not say what they take."""

    def test_arrays(self) -> None:
        """One reading."""
        (only,) = Examples(numbered(4, 3, 6, 5)).first(["image"])
        assert (3, 6, 5) == only["image"].shape

    @pytest.mark.parametrize(
        ("item", "shapes"),
        [
            (numbered(2, 3, 6, 5), [(3, 6, 5), (2, 3, 6, 5)]),
            (numbered(3, 6, 5), [(3, 6, 5), (6, 5)]),
            (numbered(8, 4), [(4,), (8, 4)]),
            (numbered(4), [(4,), ()]),
        ],
        ids=["batch of images", "image", "batch of rows", "row"],
    )
    def test_what_iterates(self, item: Array, shapes: list[tuple[int, ...]]) -> None:
        """Samples or batches, the likelier first."""
        assert shapes == [found["x"].shape for found in Examples([item, item]).first(["x"])]

    def test_numbers(self) -> None:
        """Single numbers are no batches."""
        assert [()] == [found["x"].shape for found in Examples([np.float32(1), np.float32(2)]).first(["x"])]

    def test_resized(self) -> None:
        """Sizes are those after the resize."""
        pictures = np.zeros((2, 20, 30, 3), np.uint8)
        for data in (pictures, np.moveaxis(pictures, -1, 1)):
            (found,) = Examples(data, Preprocessing(resize=(5, 6))).first(["image"])
            assert (6, 5, 3) == found["image"].shape

    def test_names(self) -> None:
        """Names that the data carry, without labels and the name of the only input."""
        assert ("image", "numbers") == Examples({"image": [], "numbers": [], "y": []}).input_names()
        assert ("ids",) == Examples("file.npz:ids=key,y=labels").input_names()
        assert () == Examples("file.npz:x=key,y=labels").input_names() == Examples(np.zeros(3)).input_names()

    def test_no_samples(self) -> None:
        """Data without a sample."""
        with pytest.raises(DataError, match="empty: it has 0 samples"):
            Examples([]).first(["x"])
