"""``edgekit.preprocess``: the same image becomes the same numbers everywhere."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import OptionError, TensorError
from edgekit.preprocess import Preprocessing, from_options, resize
from edgekit.tensors import Array

IMAGE = np.random.default_rng(0).integers(0, 256, (23, 17, 3)).astype(np.uint8)


def by_pillow(image: Array, width: int, height: int) -> Array:
    """Pillow's BILINEAR on each channel as floats, so that nothing is rounded to integers."""
    channels = [
        np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
        for c in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def dense_weights(source: int, target: int) -> Array:
    """One axis of the filter written out as a ``[target, source]`` matrix."""
    scale = source / target
    centers = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source)[None, :] - centers[:, None]) / max(scale, 1.0)
    weights = np.clip(1.0 - distance, 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def by_matrices(image: Array, width: int, height: int) -> Array:
    """The whole image times both matrices, in double precision."""
    upright = np.einsum("th,hwc->twc", dense_weights(image.shape[0], height), image.astype(np.float64))
    return np.asarray(np.einsum("tw,hwc->htc", dense_weights(image.shape[1], width), upright))


def photo(height: int, width: int) -> Array:
    """Random pixels."""
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


class TestResize:
    """The triangle filter."""

    @pytest.mark.parametrize(
        ("rows", "columns", "width", "height"),
        [(260, 301, 96, 112), (48, 49, 112, 150), (901, 33, 7, 5), (150, 150, 150, 64), (150, 150, 64, 150)],
    )
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
    def test_bands_are_the_whole_filter(self, rows: int, columns: int, width: int, height: int, dtype: str) -> None:
        """Band by band gives what the filter's matrices give, to float32's accuracy."""
        image = photo(rows, columns).astype(dtype)
        result = resize(image, width, height)
        assert "float32" == str(result.dtype)
        np.testing.assert_allclose(by_matrices(image, width, height), result, rtol=0, atol=2e-4)

    @pytest.mark.parametrize(
        "size", [(224, 224), (60, 224), (224, 50), (60, 50)], ids=lambda size: f"{size[0]}x{size[1]}"
    )
    def test_a_window_is_a_part(self, size: tuple[int, int]) -> None:
        """A part of the result is what the same part of the whole result is."""
        image, (width, height) = photo(50, 60), size
        whole = resize(image, width, height)
        part = resize(image, width, height, window=(3, 5, width - 10, height - 20))
        np.testing.assert_allclose(whole[5 : height - 15, 3 : width - 7], part, rtol=0, atol=1e-4)

    def test_a_large_photo_needs_little_memory(self) -> None:
        """12 megapixels become 224x224 with less than 10 MB besides; as float32 the photo alone has 144 MB."""
        image = np.zeros((3000, 4000, 3), np.uint8)
        resize(image, 224, 224)
        tracemalloc.start()
        try:
            resize(image, 224, 224)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 10e6

    @pytest.mark.parametrize(
        ("width", "height"),
        [(17, 23), (34, 46), (9, 12), (5, 7), (100, 3), (3, 100), (17, 9), (9, 23), (1, 1), (16, 22), (18, 24)],
        ids=lambda size: str(size),
    )
    def test_same_as_pillow(self, width: int, height: int) -> None:
        """Smaller, larger, one way or both: Pillow's values, to float32's accuracy."""
        result = resize(IMAGE, width, height)
        assert ((height, width, 3), "float32") == (result.shape, str(result.dtype))
        np.testing.assert_allclose(by_pillow(IMAGE, width, height), result, rtol=0, atol=2e-4)

    def test_same_size_changes_nothing(self) -> None:
        """The image's own size gives the image back."""
        np.testing.assert_array_equal(IMAGE.astype(np.float32), resize(IMAGE, 17, 23))

    @pytest.mark.parametrize(("width", "height"), [(5, 4), (40, 51)])
    def test_a_constant_stays(self, width: int, height: int) -> None:
        """One colour all over stays that colour, at the edges too."""
        result = resize(np.full((23, 17, 2), 200.0), width, height)
        np.testing.assert_allclose(np.full((height, width, 2), 200.0), result, rtol=1e-6)

    @pytest.mark.parametrize(("width", "height"), [(5, 4), (40, 51)])
    def test_a_batch_is_its_images(self, width: int, height: int) -> None:
        """Each image of a batch becomes what it becomes alone."""
        batch = np.stack([IMAGE, IMAGE[::-1], 255 - IMAGE])
        single = np.stack([resize(image, width, height) for image in batch])
        np.testing.assert_allclose(single, resize(batch, width, height), rtol=0, atol=1e-4)

    def test_the_input_is_left_alone(self) -> None:
        """An image that is float32 already is not written to."""
        image = IMAGE.astype(np.float32)
        Preprocessing((17, 23), "rgb", (1.0,), (2.0,)).apply(image)
        np.testing.assert_array_equal(IMAGE.astype(np.float32), image)


class TestApply:
    """Resize, then colour order, then normalisation."""

    def test_nothing_to_do(self) -> None:
        """Values of any type become float32."""
        result = Preprocessing().apply(IMAGE)
        assert "float32" == str(result.dtype)
        np.testing.assert_array_equal(IMAGE, result)

    def test_a_scalar_stays_a_scalar(self) -> None:
        """An input without axes is not given one."""
        result = Preprocessing().apply(np.float32(5))
        assert (result.shape, float(result)) == ((), 5.0)

    def test_bgr_turns_the_channels_around(self) -> None:
        """Red and blue change places, in one image and in a batch."""
        np.testing.assert_array_equal(IMAGE[..., [2, 1, 0]], Preprocessing(color="bgr").apply(IMAGE))
        np.testing.assert_array_equal(IMAGE[None, ..., [2, 1, 0]], Preprocessing(color="bgr").apply(IMAGE[None]))

    def test_rgb_is_what_is_given(self) -> None:
        """Images come in RGB, so that asking for it changes nothing."""
        np.testing.assert_array_equal(IMAGE, Preprocessing(color="rgb").apply(IMAGE))

    def test_one_mean_for_all_channels(self) -> None:
        """``(x - mean) / std``."""
        result = Preprocessing(mean=(127.5,), std=(0.5,)).apply(np.array([[0, 127], [128, 255]], np.uint8))
        assert [[-255.0, -1.0], [1.0, 255.0]] == result.tolist()

    def test_a_mean_for_each_channel_of_the_model_s_order(self) -> None:
        """The means belong to the channels as the model sees them: after the change to BGR."""
        item = Preprocessing(color="bgr", mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
        assert [[[(3 - 10) / 1, (2 - 20) / 2, (1 - 30) / 4]]] == item.apply(np.array([[[1, 2, 3]]])).tolist()

    def test_all_together(self) -> None:
        """The three steps in their order, against Pillow and numpy."""
        item = Preprocessing((9, 11), "bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
        expected = (by_pillow(IMAGE, 9, 11)[..., ::-1] - [1, 2, 3]) / [4, 5, 6]
        np.testing.assert_allclose(expected, item.apply(IMAGE), rtol=0, atol=1e-4)

    def test_a_batch_is_its_images(self) -> None:
        """Calibration, in batches, sees what the device, one by one, sees."""
        item = Preprocessing((9, 11), "bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
        batch = np.stack([IMAGE, IMAGE[::-1]])
        np.testing.assert_allclose(np.stack([item.apply(image) for image in batch]), item.apply(batch), atol=1e-4)

    @pytest.mark.parametrize(
        "item",
        [
            Preprocessing(mean=(127.5,), std=(127.5,)),
            Preprocessing(None, "bgr", (123.7, 116.8, 103.9), (58.4, 57.1, 57.4)),
            Preprocessing(None, None, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), crop=(64, 60)),
        ],
        ids=["one mean", "three", "cropped"],
    )
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
    def test_normalised_to_the_last_bit(self, item: Preprocessing, dtype: str) -> None:
        """However the channels are laid out for speed, each value is ``(x - mean) / std`` in numpy's own types."""
        image = photo(70, 80).astype(dtype)
        plain = image if item.crop is None else image[5:65, 8:72]
        plain = plain[..., ::-1] if item.color == "bgr" else plain
        expected = (plain - np.asarray(item.mean, np.float32)) / np.asarray(item.std, np.float32)
        np.testing.assert_array_equal(expected.astype(np.float32), item.apply(image))

    @pytest.mark.parametrize(
        ("item", "shape", "words"),
        [
            (Preprocessing(crop=(9, 4)), (8, 8, 3), "cannot crop 9x4 out of an image of 8x8"),
            (Preprocessing(crop=(4, 6), resize_shorter=5), (8, 9, 3), "cannot crop 4x6 out of an image of 5x5"),
            (
                Preprocessing(resize_shorter=224),
                (1, 300, 3),
                "an image of 300x1 would become 67200x224: sides up to 65536",
            ),
            (Preprocessing(crop=(4, 4)), (8, 8), r"cannot preprocess shape \[8, 8\] as an image"),
            (Preprocessing(resize=(4, 4)), (8, 8), r"cannot preprocess shape \[8, 8\] as an image"),
            (Preprocessing(color="bgr"), (1, 2, 8, 8, 3), r"cannot preprocess shape \[1, 2, 8, 8, 3\] as an image"),
            (Preprocessing(color="bgr"), (8, 8, 1), "cannot reorder 1 channels to BGR: 3 were expected"),
            (Preprocessing(mean=(1.0, 2.0), std=(1.0, 1.0)), (8, 8, 3), "normalisation has 2 channels, the input 3"),
            (Preprocessing(mean=(1.0, 2.0), std=(1.0, 1.0)), (), "normalisation has 2 channels, the input has no axes"),
            (Preprocessing(resize=(4, 4)), (0, 8, 3), r"cannot preprocess shape \[0, 8, 3\] as an image"),
        ],
        ids=[
            "too wide",
            "too high",
            "a line",
            "crop, two axes",
            "two axes",
            "five axes",
            "grey to BGR",
            "channels",
            "scalar",
            "empty",
        ],
    )
    def test_what_does_not_fit(self, item: Preprocessing, shape: tuple[int, ...], words: str) -> None:
        """The message says what was seen and what was expected."""
        with pytest.raises(TensorError, match=words):
            item.apply(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize(
        "item", [Preprocessing(), Preprocessing(resize=(4, 4)), Preprocessing(mean=(1.0,), std=(2.0,))]
    )
    @pytest.mark.parametrize("dtype", ["U1", "O", "M8[s]", "c8"])
    def test_what_is_no_number(self, item: Preprocessing, dtype: str) -> None:
        """Text, objects, dates and complex numbers are refused."""
        with pytest.raises(TensorError, match="numbers were expected"):
            item.apply(np.zeros((8, 8, 3), dtype))


class TestCrop:
    """The centre is cut out, after the resize."""

    @pytest.mark.parametrize(
        ("shape", "crop", "left", "top"),
        [
            ((8, 10, 3), (4, 4), 3, 2),
            ((9, 11, 3), (4, 4), 4, 2),  # 3.5 and 2.5 pixels over: to the even number, as torchvision does
            ((8, 10, 1), (10, 8), 0, 0),
        ],
        ids=["even", "odd", "all of it"],
    )
    def test_centre(self, shape: tuple[int, int, int], crop: tuple[int, int], left: int, top: int) -> None:
        """The middle stays, in one image and in a batch."""
        image = np.arange(np.prod(shape)).reshape(shape)
        expected = image[top : top + crop[1], left : left + crop[0]]
        result = Preprocessing(crop=crop).apply(image)
        assert ("float32", True) == (str(result.dtype), result.flags.c_contiguous)
        np.testing.assert_array_equal(expected, result)
        np.testing.assert_array_equal(expected[None], Preprocessing(crop=crop).apply(image[None]))

    @pytest.mark.parametrize(
        ("rows", "columns", "expected"),
        [(60, 80, (42, 32)), (80, 60, (32, 42)), (60, 60, (32, 32)), (7, 1000, (4571, 32))],
    )
    def test_the_shorter_side(self, rows: int, columns: int, expected: tuple[int, int]) -> None:
        """The shorter side becomes 32, the longer follows in proportion, cut to whole pixels."""
        item = Preprocessing(resize_shorter=32)
        assert expected == item.resized(columns, rows)
        assert (*expected[::-1], 3) == item.apply(photo(rows, columns)).shape

    @pytest.mark.parametrize(
        "shape", [(60, 81), (81, 60), (32, 50), (20, 21)], ids=lambda shape: f"{shape[1]}x{shape[0]}"
    )
    def test_resize_crop_and_the_rest(self, shape: tuple[int, int]) -> None:
        """What image classifiers are trained with: the shorter side to 32, the centre 28x24, BGR, normalised."""
        image = photo(*shape)
        item = Preprocessing(None, "bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (28, 24), 32)
        width, height = item.resized(shape[1], shape[0])
        left, top = round((width - 28) / 2), round((height - 24) / 2)
        whole = by_pillow(image, width, height)[top : top + 24, left : left + 28, ::-1]
        np.testing.assert_allclose((whole - [1, 2, 3]) / [4, 5, 6], item.apply(image), rtol=0, atol=1e-4)

    def test_a_resize_to_a_size_and_the_centre(self) -> None:
        """``resize`` keeps its meaning, and the crop comes after it."""
        whole = Preprocessing(resize=(40, 36)).apply(photo(60, 81))
        result = Preprocessing(resize=(40, 36), crop=(20, 30)).apply(photo(60, 81))
        np.testing.assert_allclose(whole[3:33, 10:30], result, rtol=0, atol=1e-4)


class TestForms:
    """What it is made of, and its JSON form."""

    @pytest.mark.parametrize(
        "item",
        [
            Preprocessing(),
            Preprocessing((224, 192), "bgr", (1.5, 2.5, 3.5), (0.1, 0.2, 0.3)),
            Preprocessing(mean=(127.5,), std=(127.5,)),
            Preprocessing(resize=(256, 256), crop=(224, 192)),
            Preprocessing(resize_shorter=256, crop=(224, 224)),
        ],
    )
    def test_json_and_back(self, item: Preprocessing) -> None:
        """The manifest's form gives an equal object, whatever else is in it."""
        assert item == Preprocessing.from_json({**item.to_json(), "later": 1})

    def test_files_without_a_crop(self) -> None:
        """What has no crop is written as it always was, and read from files that know no such key."""
        old = {"resize": [8, 6], "color": None, "mean": [1.0], "std": [2.0]}
        assert Preprocessing((8, 6), None, (1.0,), (2.0,)) == Preprocessing.from_json(old)
        assert old == Preprocessing((8, 6), None, (1.0,), (2.0,)).to_json()

    def test_identity(self) -> None:
        """Nothing to do, or only the order that images have anyway."""
        assert Preprocessing().is_identity
        assert Preprocessing(color="rgb").is_identity
        assert not Preprocessing(color="bgr").is_identity
        assert not Preprocessing(resize=(1, 1)).is_identity
        assert not Preprocessing(crop=(1, 1)).is_identity
        assert not Preprocessing(mean=(0.0,), std=(1.0,)).is_identity

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"mean": (1.0, 2.0), "std": (1.0,)}, "has 2 means and 1 standard deviations"),
            ({"mean": (1.0,), "std": (0.0,)}, "divides by 0"),
            ({"mean": (float("nan"),), "std": (1.0,)}, "NaN or infinity"),
            ({"mean": (1.0,), "std": (float("inf"),)}, "NaN or infinity"),
            ({"color": "hsv"}, "unknown color 'hsv': expected rgb or bgr"),
            ({"resize": (0, 10)}, "cannot resize to 0x10"),
            ({"resize": (10, 65537)}, "cannot resize to 10x65537"),
            ({"crop": (10, 0)}, "cannot crop to 10x0"),
            ({"resize_shorter": 0}, "cannot resize the shorter side to 0"),
            ({"resize": (8, 8), "resize_shorter": 8}, "resize to 8x8 and of the shorter side to 8: one was expected"),
            ({"resize": (8, 8), "crop": (8, 9)}, "cannot crop 8x9 out of images of 8x8"),
            ({"resize_shorter": 8, "crop": (9, 9)}, "cannot crop 9x9 out of images of a shorter side of 8"),
        ],
        ids=[
            "counts",
            "zero",
            "nan",
            "infinite",
            "colour",
            "no width",
            "huge",
            "no height",
            "no side",
            "both",
            "crop",
            "side",
        ],
    )
    def test_impossible_values(self, fields: dict[str, Any], words: str) -> None:
        """They are refused when the object is made, not when an image comes."""
        with pytest.raises(OptionError, match=words):
            Preprocessing(**fields)


@dataclass(frozen=True)
class Options:
    """The options as given, and what they mean."""

    id: str
    given: tuple[Any, ...]
    expected: Preprocessing


@pytest.mark.parametrize(
    "case",
    [
        Options("none of them", (None, None, None), Preprocessing()),
        Options("normalise: none", ("none", None, None), Preprocessing()),
        Options("normalise", ("127.5,127.5", None, None), Preprocessing(mean=(127.5,), std=(127.5,))),
        Options("spaces", (" 1 , 2 ", None, None), Preprocessing(mean=(1.0,), std=(2.0,))),
        Options("numbers", ((1, 2), None, None), Preprocessing(mean=(1.0,), std=(2.0,))),
        Options("channels", ("1,2,3,4,5,6", None, None), Preprocessing(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))),
        Options("resize", (None, "224x192", None), Preprocessing(resize=(224, 192))),
        Options("resize, large X", (None, "224X192", None), Preprocessing(resize=(224, 192))),
        Options("resize, numbers", (None, (224, 192), None), Preprocessing(resize=(224, 192))),
        Options("the shorter side", (None, "256", None), Preprocessing(resize_shorter=256)),
        Options("the shorter side, a number", (None, 256, None), Preprocessing(resize_shorter=256)),
        Options("crop", (None, None, None, "24x20"), Preprocessing(crop=(24, 20))),
        Options("crop, numbers", (None, None, None, (24, 20)), Preprocessing(crop=(24, 20))),
        Options("resize and crop", (None, "256", None, "224x224"), Preprocessing(resize_shorter=256, crop=(224, 224))),
        Options("colour", (None, None, "bgr"), Preprocessing(color="bgr")),
    ],
    ids=lambda case: case.id,
)
def test_options(case: Options) -> None:
    """The texts of the command line and the numbers of Python mean the same."""
    assert case.expected == from_options(*case.given)


@dataclass(frozen=True)
class Unreadable:
    """The options as given, and words of the message."""

    id: str
    given: tuple[Any, ...]
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Unreadable(
            "one number", ("127.5", None, None), "--normalize has 1 numbers: one mean and one standard deviation"
        ),
        Unreadable("three numbers", ("1,2,3", None, None), "--normalize has 3 numbers"),
        Unreadable("no numbers", ((), None, None), "--normalize has 0 numbers"),
        Unreadable("empty text", ("", None, None), "cannot read --normalize '': MEAN,STD such as 127.5,127.5"),
        Unreadable("words", ("mean,std", None, None), "cannot read --normalize 'mean,std'"),
        Unreadable("objects", ((None, 1), None, None), r"cannot read --normalize \(None, 1\)"),
        Unreadable("not a list", (5.0, None, None), r"cannot read --normalize 5\.0"),
        Unreadable("deviation of 0", ("1,0", None, None), "divides by 0"),
        Unreadable("NaN", ("nan,1", None, None), "NaN or infinity"),
        Unreadable("too large", ("1e999,1", None, None), "NaN or infinity"),
        Unreadable("no size", (None, "large", None), "cannot read --resize 'large': WIDTHxHEIGHT such as 224x224"),
        Unreadable("no sizes", (None, "", None), "or 256 for the shorter side, was expected"),
        Unreadable(
            "crop, one side", (None, None, None, "224"), "cannot read --crop '224': WIDTHxHEIGHT such as 224x224"
        ),
        Unreadable("crop, a number", (None, None, None, 224), "cannot read --crop 224"),
        Unreadable("crop, too large", (None, "20x20", None, "24x8"), "cannot crop 24x8 out of images of 20x20"),
        Unreadable("no shorter side", (None, "0", None), "cannot resize the shorter side to 0"),
        Unreadable("a negative side", (None, -5, None), "cannot resize the shorter side to -5"),
        Unreadable("three sides", (None, "1x2x3", None), "cannot read --resize '1x2x3'"),
        Unreadable("words for sides", (None, "axb", None), "cannot read --resize 'axb'"),
        Unreadable("half pixels", (None, (10.5, 10), None), r"cannot read --resize \(10\.5, 10\)"),
        Unreadable("a fraction", (None, 22.4, None), r"cannot read --resize 22\.4"),
        Unreadable("no pixels", (None, "0x5", None), "cannot resize to 0x5"),
        Unreadable("negative", (None, "-4x5", None), "cannot resize to -4x5"),
        Unreadable("colour unknown", (None, None, "yuv"), "unknown color 'yuv': expected rgb or bgr"),
    ],
    ids=lambda case: case.id,
)
def test_options_that_mean_nothing(case: Unreadable) -> None:
    """The message shows what was given and an example of what was expected."""
    with pytest.raises(OptionError, match=case.words):
        from_options(*case.given)
