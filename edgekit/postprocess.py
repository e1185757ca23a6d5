"""What a classifier says, in words: class names, scores between 0 and 1, the best few. numpy alone.

Whether an output still needs a softmax is read from the graph, never guessed from the values of one run, so that one model's
scores always mean the same:

* it ends in SOFTMAX, or in EXP divided by a sum, which is a softmax spelled out: probabilities, left alone;
* it ends in LOGISTIC: each class has a probability of its own, left alone; one single such value is a yes or no, and makes
  two classes of it;
* it ends in LOG_SOFTMAX, or in anything else: a softmax is applied (of log-probabilities it gives the probabilities);
* a delegate's own operator hides how it ends: probabilities where the output's integers reach from 0 to 1 at most, which is
  how TensorFlow Lite stores those (quantization specification: scale 1/256), else a softmax.

RESHAPE, QUANTIZE and other operators that only carry values on are looked through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from edgekit.errors import EngineError, TensorError
from edgekit.graph import Graph, Op
from edgekit.images import read_image
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.face import Face

#: Operators that hand on their first input's values.
_CARRIERS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE", "CAST"})
#: Operators whose output is whole numbers: class numbers, comparisons, sizes.
_NO_SCORES = frozenset({"ARG_MAX", "ARG_MIN", "TOPK_V2", "SHAPE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"})
#: The highest that integers of probabilities may stand for: 256 steps of 1/256 at most, and the rounding of the scale.
_ONE = 1.001
#: Half of what float32 holds, so that differences of two such numbers still do.
_LARGE = np.float32(1.7e38)


class Label(Record):
    """One class of a classifier, with its score for one image.

    Attributes:
        index: the class' place in the output.
        name: its name; ``None`` where the model has no labels.
        score: its probability, from 0 to 1.
    """

    index: int
    name: str | None
    score: float

    def __str__(self) -> str:
        return f"{self.name if self.name is not None else f'class {self.index}'} {self.score:.3f}"


class Classifier(Record):
    """How to read a classifier's output; made once for a model with ``Classifier.of``.

    Attributes:
        model: the model's name, for messages.
        labels: class names in output order; empty where the model has none.
        classes: how many classes there are.
        scores: ``"probabilities"`` as they are, ``"logits"`` that need a softmax, or ``"yes or no"``: one probability.
    """

    model: str
    labels: tuple[str, ...]
    classes: int
    scores: str

    @classmethod
    def of(cls, model: ModelFile) -> Classifier:
        """Find out how a model's output is to be read.

        Args:
            model: a model with one output, a score for each class.

        Raises:
            TensorError: it is no classifier, or cannot be told to be one.
        """
        name = model.name
        if len(model.outputs) != 1:
            raise TensorError(
                f"{name} has {len(model.outputs)} outputs ({', '.join(str(spec) for spec in model.outputs)}): classify reads "
                "the one output of a classifier. Use run()."
            )
        spec = model.outputs[0]
        labels = model.manifest.labels if model.manifest is not None else ()
        if max(spec.shape, default=1) != _count(spec) or spec.dtype == "bool":
            raise TensorError(f"{name} is no classifier: one score for each class was expected, its output is {spec}.")
        last = _last(model.graph)
        if last is not None and last.name in _NO_SCORES:
            raise TensorError(f"{name} is no classifier: it ends in {last.name}, which gives no scores. Use run().")
        scores, certain = _scores(model.graph, last, spec)
        count = _count(spec)
        if count == 1:
            if last is None or last.name != "LOGISTIC":
                raise TensorError(f"{name} is no classifier: its output {spec} is one value, and no probability.")
            count, scores = 2, "yes or no"
        if labels and len(labels) != count:
            raise TensorError(
                f"{name} has {len(labels)} labels and {count} classes. Convert it again with as many (--labels)."
            )
        if not labels and not certain:
            raise TensorError(
                f"cannot tell whether {name} is a classifier: it has no labels, and its output {spec} comes from "
                f"{last.name if last is not None else 'nowhere'}, not from a softmax. Convert it with labels (--labels), or use run()."
            )
        return cls(name, labels, count, scores)

    def read(self, output: Array, top: int = 5) -> tuple[Label, ...]:
        """The best classes of one output.

        Args:
            output: one image's scores as real numbers, with or without axes of size 1.
            top: how many classes at most.

        Returns:
            The best first; of equal scores the lower index.

        Raises:
            TensorError: ``top`` is below 1, or the output is not of this model.
            EngineError: the model gave NaN.
        """
        if top < 1:
            raise TensorError(f"top={top}: at least 1 was expected.")
        values = np.asarray(output, np.float32).reshape(-1)
        expected = 1 if self.scores == "yes or no" else self.classes
        if values.size != expected:
            raise TensorError(
                f"{values.size} scores for {self.classes} classes of {self.model}: one image's output was expected."
            )
        if np.isnan(values).any():
            raise EngineError(f"{self.model} gave NaN for this image: its scores mean nothing.")
        if self.scores == "logits":
            values = softmax(values)
        elif self.scores == "yes or no":
            values = np.asarray([1 - values[0], values[0]], np.float32)
        best = np.argsort(-values, kind="stable")[:top]
        return tuple(Label(int(i), self.labels[i] if self.labels else None, float(values[i])) for i in best)


#: Each session's way to read its output, found out at its first image.
_readers: WeakKeyDictionary[Face, Classifier] = WeakKeyDictionary()


def classify(session: Face, image: Any, top: int = 5) -> tuple[Label, ...]:
    """The likeliest classes of one image; ``Session.classify`` is this.

    The manifest's preprocessing is applied whether the session was loaded with ``preprocess`` or not.

    Args:
        session: a loaded classifier.
        image: see ``edgekit.images.read_image``.
        top: how many classes at most.

    Returns:
        The best first; names are ``None`` where the model has no labels.

    Raises:
        TensorError: the model is no classifier, has no manifest, or the image does not fit it.
        DataError: the image cannot be read.
        EngineError: Pillow is needed and not installed, or the model gave NaN.
    """
    model = session.model
    if session.io == "native":
        raise TensorError(f"{model.name} was loaded with io='native': classify needs real numbers, io='float'.")
    reader = _readers.get(session)
    if reader is None:
        if len(session.inputs) != 1:
            raise TensorError(f"{model.name} has {len(session.inputs)} inputs: classify is for one image. Use run().")
        if session.outputs != model.outputs:
            raise TensorError(f"{model.name} was loaded with a signature: classify reads the main one. Use run().")
        if model.manifest is None:
            raise TensorError(
                f"{model.name} has no manifest, so its preprocessing and labels are not known: preprocess yourself and use run()."
            )
        reader = _readers[session] = Classifier.of(model)
    spec = session.inputs[0]
    pixels = read_image(image, spec.shape[-1] if len(spec.shape) == 4 else 3)
    if not session.preprocesses:
        item = model.manifest.preprocessing.get(spec.name) if model.manifest is not None else None
        pixels = (pixels if item is None else item.apply(pixels))[None]
    return reader.read(session.run(pixels), top)


def softmax(values: Array) -> Array:
    """Powers of e that sum to one over the last axis; infinite values are taken for very large ones.

    Args:
        values: real numbers without NaN.

    Returns:
        float32 of the same shape.
    """
    work = np.asarray(values, np.float32).clip(-_LARGE, _LARGE)
    powers = np.exp(work - work.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _count(spec: TensorSpec) -> int:
    """How many values an image has; an open size is the batch's."""
    count = 1
    for size in spec.shape:
        count *= size if size != -1 else 1
    return count


def _producers(graph: Graph) -> dict[int, Op]:
    return {index: op for op in graph.main.ops for index in op.outputs}


def _through(producers: dict[int, Op], tensor: int) -> Op | None:
    """What computed a tensor's values, looking through what only carries them on."""
    op = producers.get(tensor)
    # A file may name its operators in any order, a circle of carriers included.
    for _ in range(len(producers)):
        if op is None or op.name not in _CARRIERS or not op.inputs:
            break
        op = producers.get(op.inputs[0])
    return op


def _last(graph: Graph) -> Op | None:
    return _through(_producers(graph), graph.main.outputs[0])


def _scores(graph: Graph, last: Op | None, spec: TensorSpec) -> tuple[str, bool]:
    """What the output holds, and whether that alone says that it is a classifier's."""
    if last is None:
        return "logits", False
    if last.name in ("SOFTMAX", "LOGISTIC"):
        return "probabilities", True
    if last.name == "LOG_SOFTMAX":
        return "logits", True
    if last.name == "DIV" and last.inputs:
        above = _through(_producers(graph), last.inputs[0])
        return ("probabilities", True) if above is not None and above.name == "EXP" else ("logits", False)
    if last.custom and spec.quant is not None and spec.quant.per_tensor:
        limits = np.iinfo(spec.dtype)
        low, high = (spec.quant.scales[0] * (end - spec.quant.zero_points[0]) for end in (limits.min, limits.max))
        if low >= 0 and high <= _ONE:
            return "probabilities", True
    return "logits", False
