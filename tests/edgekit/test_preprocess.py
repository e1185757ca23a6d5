"""``edgekit.preprocess``: the same image becomes the same numbers everywhere."""

from __future__ import annotations

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


class TestResize:
    """The triangle filter."""

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
        ("item", "shape", "words"),
        [
            (Preprocessing(resize=(4, 4)), (8, 8), r"cannot preprocess shape \[8, 8\] as an image"),
            (Preprocessing(color="bgr"), (1, 2, 8, 8, 3), r"cannot preprocess shape \[1, 2, 8, 8, 3\] as an image"),
            (Preprocessing(color="bgr"), (8, 8, 1), "cannot reorder 1 channels to BGR: 3 were expected"),
            (Preprocessing(mean=(1.0, 2.0), std=(1.0, 1.0)), (8, 8, 3), "normalisation has 2 channels, the input 3"),
            (Preprocessing(mean=(1.0, 2.0), std=(1.0, 1.0)), (), "normalisation has 2 channels, the input has no axes"),
            (Preprocessing(resize=(4, 4)), (0, 8, 3), r"cannot preprocess shape \[0, 8, 3\] as an image"),
        ],
        ids=["two axes", "five axes", "grey to BGR", "channels", "scalar", "empty"],
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


class TestForms:
    """What it is made of, and its JSON form."""

    @pytest.mark.parametrize(
        "item",
        [
            Preprocessing(),
            Preprocessing((224, 192), "bgr", (1.5, 2.5, 3.5), (0.1, 0.2, 0.3)),
            Preprocessing(mean=(127.5,), std=(127.5,)),
        ],
    )
    def test_json_and_back(self, item: Preprocessing) -> None:
        """The manifest's form gives an equal object, whatever else is in it."""
        assert item == Preprocessing.from_json({**item.to_json(), "later": 1})

    def test_identity(self) -> None:
        """Nothing to do, or only the order that images have anyway."""
        assert Preprocessing().is_identity
        assert Preprocessing(color="rgb").is_identity
        assert not Preprocessing(color="bgr").is_identity
        assert not Preprocessing(resize=(1, 1)).is_identity
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
        ],
        ids=["counts", "zero", "nan", "infinite", "colour", "no width", "huge"],
    )
    def test_impossible_values(self, fields: dict[str, Any], words: str) -> None:
        """They are refused when the object is made, not when an image comes."""
        with pytest.raises(OptionError, match=words):
            Preprocessing(**fields)


@dataclass(frozen=True)
class Options:
    """The three options as given, and what they mean."""

    id: str
    given: tuple[Any, Any, Any]
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
        Options("colour", (None, None, "bgr"), Preprocessing(color="bgr")),
    ],
    ids=lambda case: case.id,
)
def test_options(case: Options) -> None:
    """The texts of the command line and the numbers of Python mean the same."""
    assert case.expected == from_options(*case.given)


@dataclass(frozen=True)
class Unreadable:
    """The three options as given, and words of the message."""

    id: str
    given: tuple[Any, Any, Any]
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
        Unreadable("one side", (None, "224", None), "cannot read --resize '224': WIDTHxHEIGHT such as 224x224"),
        Unreadable("three sides", (None, "1x2x3", None), "cannot read --resize '1x2x3'"),
        Unreadable("words for sides", (None, "axb", None), "cannot read --resize 'axb'"),
        Unreadable("half pixels", (None, (10.5, 10), None), r"cannot read --resize \(10\.5, 10\)"),
        Unreadable("a number", (None, 224, None), "cannot read --resize 224"),
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
