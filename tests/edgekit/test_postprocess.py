"""``edgekit.postprocess``: labels and scores of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from PIL import Image

import edgekit
from edgekit.errors import EngineError, TensorError
from edgekit.modelfile import ModelFile
from edgekit.postprocess import Classifier, Label, softmax
from edgekit.preprocess import Preprocessing
from edgekit.tensors import Array, QuantParams, dequantize

NAMES = ("cat", "dog", "eel", "fox")


def options(name: str) -> tuple[str, Any]:
    """An operator's options as the schema package leaves them."""
    return name, getattr(models.schema, f"{name}T")()


def ending(*names: str, classes: int = 4, dtype: str = "float32", quant: QuantParams | None = None) -> bytes:
    """A model ``x`` → operators of these names, one after the other → ``y``, which is [1, ``classes``]."""
    b = models.Builder()
    x = at = b.tensor("x", (1, classes), dtype, quant=quant)
    for place, name in enumerate(names):
        y = b.tensor(f"y{place}", (1, classes), dtype, quant=quant)
        if name == "RESHAPE":
            shape = b.tensor("shape", (2,), "int32", data=np.array([1, classes], np.int32))
            b.op("RESHAPE", [at, shape], [y])
        elif name == "CUSTOM":
            b.op("CUSTOM", [at], [y])
            b.codes[-1].customCode = b"edgetpu-custom-op"
        elif name == "ADD":
            b.op("ADD", [at, at], [y], options("AddOptions"))
        elif name == "SOFTMAX":
            kind, item = options("SoftmaxOptions")
            item.beta = 1.0
            b.op("SOFTMAX", [at], [y], (kind, item))
        else:
            b.op(name, [at], [y])
        at = y
    return b.build({"x": x}, {"y": at})


def spelled_out() -> bytes:
    """A softmax as EXP, SUM and DIV."""
    b = models.Builder()
    x, e, y = b.tensor("x", (1, 4)), b.tensor("e", (1, 4)), b.tensor("y", (1, 4))
    axes, total = b.tensor("axes", (1,), "int32", data=np.array([1], np.int32)), b.tensor("total", (1, 1))
    b.op("EXP", [x], [e], options("ExpOptions"))
    kind, item = options("ReducerOptions")
    item.keepDims = True
    b.op("SUM", [e, axes], [total], (kind, item))
    b.op("DIV", [e, total], [y], options("DivOptions"))
    return b.build({"x": x}, {"y": y})


def class_number() -> bytes:
    """A model that gives the number of the best class."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1,), "int64")
    axis = b.tensor("axis", (), "int32", data=np.array(1, np.int32))
    kind, item = options("ArgMaxOptions")
    item.outputType = 4
    b.op("ARG_MAX", [x, axis], [y], (kind, item))
    return b.build({"x": x}, {"y": y})


def image_to_image() -> bytes:
    """A model whose output is an image."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4, 4, 3)), b.tensor("y", (1, 4, 4, 3))
    b.op("ADD", [x, x], [y], options("AddOptions"))
    return b.build({"x": x}, {"y": y})


def read(content: bytes, labels: tuple[str, ...] = NAMES) -> ModelFile:
    """A model, with a manifest that holds these labels."""
    return ModelFile.read(models.with_manifest(content, labels=labels))


@dataclass(frozen=True)
class Ending:
    """A model, and what its output holds."""

    id: str
    model: Callable[[], bytes]
    scores: str


ENDINGS = [
    Ending("softmax", lambda: ending("ADD", "SOFTMAX"), "probabilities"),
    Ending("softmax, carried on", lambda: ending("SOFTMAX", "RESHAPE"), "probabilities"),
    Ending("softmax spelled out", spelled_out, "probabilities"),
    Ending("sigmoid", lambda: ending("LOGISTIC"), "probabilities"),
    Ending("logits", lambda: ending("ADD"), "logits"),
    Ending("log-probabilities", lambda: ending("LOG_SOFTMAX"), "logits"),
    Ending("logits, carried on", lambda: ending("SOFTMAX", "ADD", "RESHAPE"), "logits"),
]


@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.id)
def test_scores_are_probabilities(case: Ending) -> None:
    """Whatever a graph ends in, what comes out of a run is read as probabilities, with a softmax where there was none."""
    model = read(case.model())
    x = np.array([[0.5, -1.0, 2.0, 0.25]], np.float32)
    with edgekit.load(model, delegate="none") as session:
        output = session.run(x)
    assert case.scores == Classifier.of(model).scores
    plain = output[0] if case.scores == "probabilities" else softmax(output[0])
    best = Classifier.of(model).read(output)
    assert ["eel", "cat", "fox", "dog"] == [label.name for label in best]
    assert [2, 0, 3, 1] == [label.index for label in best]
    np.testing.assert_allclose(plain[[2, 0, 3, 1]], [label.score for label in best], rtol=1e-6)
    if case.id != "sigmoid":
        assert sum(label.score for label in best) == pytest.approx(1, abs=1e-5)


def test_softmax_is_never_applied_twice() -> None:
    """The scores of a model with a softmax are its own, to the bit."""
    model = read(models.dense_float())
    with edgekit.load(model, delegate="xnnpack") as session:
        output = session.run(np.linspace(-1, 1, 8, dtype=np.float32)[None])
    scores = {label.index: label.score for label in Classifier.of(model).read(output)}
    assert output[0].tolist() == [scores[index] for index in range(4)]


@pytest.mark.parametrize(
    ("quant", "scores"),
    [
        (QuantParams((1 / 256,), (-128,)), "probabilities"),
        (QuantParams((1 / 255,), (-128,)), "probabilities"),
        (QuantParams((0.1,), (-128,)), "logits"),
        (QuantParams((1 / 256,), (0,)), "logits"),
    ],
    ids=["0 to 1", "0 to 1 whole", "0 to 25", "-0.5 to 0.5"],
)
def test_a_delegate_s_own_operator(quant: QuantParams, scores: str) -> None:
    """Where the end of the graph is hidden, the output's range tells."""
    model = read(ending("CUSTOM", dtype="int8", quant=quant))
    assert scores == Classifier.of(model).scores
    output = dequantize(np.array([[-100, 100, 0, -128]], np.int8), quant)
    assert "dog" == Classifier.of(model).read(output, 1)[0].name


def test_int8_logits() -> None:
    """A quantised model without a softmax."""
    model = read(models.dense_int8())
    with edgekit.load(model, delegate="xnnpack") as session:
        output = session.run(np.linspace(-1, 1, 8, dtype=np.float32)[None])
    best = Classifier.of(model).read(output, 2)
    order = np.argsort(-output[0])
    assert [NAMES[order[0]], NAMES[order[1]]] == [label.name for label in best]
    np.testing.assert_allclose(softmax(output[0])[order[:2]], [label.score for label in best], rtol=1e-6)


@pytest.mark.parametrize(("value", "best"), [(2.0, "yes"), (-2.0, "no")])
def test_one_probability_is_two_classes(value: float, best: str) -> None:
    """A single sigmoid says how likely the second class is."""
    model = read(ending("LOGISTIC", classes=1), ("no", "yes"))
    with edgekit.load(model, delegate="none") as session:
        labels = Classifier.of(model).read(session.run(np.array([[value]], np.float32)))
    assert (best, 2) == (labels[0].name, len(labels))
    assert labels[0].score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert labels[1].score == pytest.approx(1 - labels[0].score)


def test_without_labels() -> None:
    """Classes without names have their index."""
    output = np.array([0.1, 0.2, 0.6, 0.1], np.float32)
    best = Classifier.of(ModelFile.read(models.dense_float())).read(output, 2)
    assert (Label(2, None, float(np.float32(0.6))), Label(1, None, float(np.float32(0.2)))) == best
    assert "class 2 0.600" == str(best[0])
    assert "fox 0.250" == str(Label(3, "fox", 0.25))


@pytest.mark.parametrize(("top", "count"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_top(top: int, count: int) -> None:
    """At most so many, the best first, and of equal ones the first."""
    output = np.array([[0.25, 0.25, 0.25, 0.25]], np.float32)
    best = Classifier.of(read(models.dense_float())).read(output, top)
    assert list(NAMES[:count]) == [label.name for label in best]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], [0.5, 0.5]),
        ([1000.0, 0.0], [1.0, 0.0]),
        ([-1000.0, -1000.0], [0.5, 0.5]),
        ([np.inf, 0.0], [1.0, 0.0]),
        ([-np.inf, 0.0], [0.0, 1.0]),
        ([np.inf, np.inf], [0.5, 0.5]),
    ],
    ids=["equal", "large", "small", "infinite", "minus infinity", "two infinite"],
)
def test_softmax_of_extremes(values: list[float], expected: list[float]) -> None:
    """No overflow, no NaN."""
    np.testing.assert_allclose(expected, softmax(np.array(values, np.float32)), atol=1e-7)


@dataclass(frozen=True)
class Refused:
    """What is no classifier, and words of the message."""

    id: str
    model: Callable[[], ModelFile]
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Refused("two outputs", lambda: read(models.add_two_inputs()), r"has 2 outputs \(sum float32.*Use run\(\)"),
        Refused("an image", lambda: read(image_to_image()), r"one score for each class was expected, its output is y"),
        Refused("a class number", lambda: read(class_number()), "it ends in ARG_MAX, which gives no scores"),
        Refused("one value", lambda: read(ending("ADD", classes=1), ()), "is one value, and no probability"),
        Refused(
            "too few labels", lambda: read(models.dense_float(), NAMES[:3]), "has 3 labels and 4 classes.*--labels"
        ),
        Refused(
            "no labels, no softmax",
            lambda: ModelFile.read(ending("ADD")),
            r"cannot tell whether the model is a classifier: it has no labels.* comes from ADD, not from a softmax",
        ),
    ],
    ids=lambda case: case.id,
)
def test_what_is_no_classifier(case: Refused) -> None:
    """The message says what was seen, what was expected and what to do."""
    with pytest.raises(TensorError, match=case.words):
        Classifier.of(case.model())


@pytest.mark.parametrize(
    ("output", "top", "error", "words"),
    [
        (np.zeros((2, 4)), 5, TensorError, "8 scores for 4 classes of the model: one image's output was expected"),
        (np.zeros(4), 0, TensorError, "top=0: at least 1 was expected"),
        (np.array([0, np.nan, 0, 0]), 5, EngineError, "gave NaN"),
    ],
    ids=["a batch", "none wanted", "NaN"],
)
def test_outputs_that_cannot_be_read(output: Array, top: int, error: type[Exception], words: str) -> None:
    """Another model's output, a senseless number, and values that are no numbers."""
    with pytest.raises(error, match=words):
        Classifier.of(read(models.dense_float())).read(output, top)


ANIMALS = ("ant", "bee", "cow", "doe", "eel")
PIXELS = np.random.default_rng(5).integers(0, 256, (30, 40, 3)).astype(np.uint8)
ITEM = Preprocessing(None, "bgr", (127.5,), (64.0,), (12, 12), 14)


def image_classifier(**fields: Any) -> bytes:
    """A model of images 12x12 with labels and preprocessing."""
    given = {"labels": ANIMALS, "preprocessing": {"image": ITEM}, **fields}
    return models.with_manifest(models.conv_float(), **given)


class TestClassify:
    """An image in, names out."""

    @pytest.mark.parametrize(
        "loaded", [{}, {"preprocess": True}, {"isolate": True}, {"isolate": True, "preprocess": True}]
    )
    def test_any_session(self, loaded: dict[str, Any]) -> None:
        """However it was loaded, the image is preprocessed once, and the answer is what run() gives for it."""
        with edgekit.load(image_classifier(), delegate="xnnpack", **loaded) as session:
            best = session.classify(PIXELS, top=2)
        with edgekit.load(image_classifier(), delegate="xnnpack") as session:
            expected = session.run(ITEM.apply(PIXELS)[None])[0]
        order = np.argsort(-expected)[:2]
        assert [(int(i), ANIMALS[i], float(expected[i])) for i in order] == [(x.index, x.name, x.score) for x in best]

    def test_any_form_of_image(self, tmp_path: Path) -> None:
        """A path, bytes, a Pillow image and an array have the same classes."""
        path = tmp_path / "image.png"
        Image.fromarray(PIXELS).save(path)
        with edgekit.load(image_classifier(), delegate="xnnpack") as session:
            expected = session.classify(PIXELS)
            for source in (path, str(path), path.read_bytes(), Image.open(path), PIXELS.astype(np.float32)):
                assert expected == session.classify(source)
            assert 6 == session.latency.summary().count

    def test_grey_images(self) -> None:
        """A model of one channel takes grey images without a third axis, and colour files."""
        content = models.with_manifest(models.conv_float(channels=1), labels=ANIMALS)
        with edgekit.load(content, delegate="xnnpack") as session:
            expected = session.classify(PIXELS[:12, :12, :1])
            assert expected == session.classify(PIXELS[:12, :12, 0])

    def test_without_labels(self) -> None:
        """A manifest without labels: the classes have no names."""
        with edgekit.load(image_classifier(labels=()), delegate="xnnpack") as session:
            assert {None} == {label.name for label in session.classify(PIXELS)}

    @pytest.mark.parametrize(
        ("content", "options", "image", "words"),
        [
            (image_classifier(), {"io": "native"}, PIXELS, "was loaded with io='native': classify needs real numbers"),
            (image_classifier(), {"io": "native", "isolate": True}, PIXELS, "was loaded with io='native'"),
            (models.conv_float(), {}, PIXELS, "has no manifest, so its preprocessing and labels are not known"),
            (models.with_manifest(models.add_two_inputs()), {}, PIXELS, "has 2 inputs: classify is for one image"),
            (image_classifier(preprocessing={}), {}, PIXELS, r"has shape \[1, 30, 40, 3\], expected \[1, 12, 12, 3\]"),
            (image_classifier(), {}, PIXELS[None], "A batch is run image by image"),
        ],
        ids=["native", "native, isolated", "foreign file", "two inputs", "another size", "a batch"],
    )
    def test_refused(self, content: bytes, options: dict[str, Any], image: Array, words: str) -> None:
        """The message says what was seen, what was expected and what to do."""
        with edgekit.load(content, delegate="xnnpack", **options) as session, pytest.raises(TensorError, match=words):
            session.classify(image)
