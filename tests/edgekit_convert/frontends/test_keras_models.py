"""Keras models in memory: what goes in and comes out, how they are called, what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from edgekit.errors import AlreadyQuantisedError, ConversionError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.freeze import import_tensorflow


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    """Keras 3, and Keras 2 as tf-keras."""
    import_tensorflow()
    return pytest.importorskip(request.param)


@pytest.fixture
def keras3() -> Any:
    """Keras 3."""
    import_tensorflow()
    return pytest.importorskip("keras")


def agrees(source: Any, **shapes: tuple[int, ...]) -> ModelFile:
    """Export, and see that LiteRT computes what the model does on random inputs."""
    pivot = ModelFile.read(source.export(shapes))
    random = np.random.default_rng(0)
    with Session(pivot, DelegateChoice(DelegateSpec("none", 1), "comparing")) as session:
        for _ in range(3):
            values = {
                spec.name: random.normal(size=shapes[spec.name]).astype(np.float32)
                if spec.dtype == "float32"
                else random.integers(0, 5, shapes[spec.name]).astype(spec.dtype)
                for spec in source.inputs
            }
            result = session.run(values)
            actual = [result[name] for name in sorted(result)] if isinstance(result, dict) else [result]
            for a, b in zip(source.reference(values), actual, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return pivot


def names(pivot: ModelFile) -> list[str]:
    """The operators of the main graph."""
    return [op.name for op in pivot.graph.main.ops]


def test_several_inputs_and_outputs_keep_their_names(keras: Any) -> None:
    """Two inputs, the second one first, and a dictionary of outputs."""
    a, b = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([a, b])
    outputs = {"score": keras.layers.Dense(1)(joined), "classes": keras.layers.Dense(4)(joined)}
    source = open_source(keras.Model([b, a], outputs))
    assert ["right", "left"] == [spec.name for spec in source.inputs]
    pivot = agrees(source, left=(1, 3), right=(1, 2))
    assert {"left": (1, 3), "right": (1, 2)} == {spec.name: spec.shape for spec in pivot.inputs}
    assert {"classes": (1, 4), "score": (1, 1)} == {spec.name: spec.shape for spec in pivot.outputs}


def test_a_dictionary_of_inputs_and_lists_in_outputs(keras3: Any) -> None:
    """Outputs inside each other have both names."""
    a, b = keras3.Input((3,), name="left"), keras3.Input((2,), name="right")
    joined = keras3.layers.Concatenate()([a, b])
    heads = [keras3.layers.Dense(2)(joined), keras3.layers.Dense(5)(joined)]
    pivot = agrees(
        open_source(keras3.Model({"left": a, "right": b}, {"heads": heads, "all": joined})), left=(1, 3), right=(1, 2)
    )
    assert {"all": (1, 5), "heads_0": (1, 2), "heads_1": (1, 5)} == {spec.name: spec.shape for spec in pivot.outputs}


def test_an_input_that_nothing_uses_stays(keras: Any) -> None:
    """Programs give it all the same."""
    a, b = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    pivot = agrees(open_source(keras.Model([a, b], keras.layers.Dense(1)(a))), left=(1, 3), right=(1, 2))
    assert {"left", "right"} == {spec.name for spec in pivot.inputs}


@pytest.mark.parametrize("name", ["self", "in/put", "1st", "name", "lambda", "été"])
def test_input_names_that_are_no_identifiers(keras3: Any, name: str) -> None:
    """Names that TensorFlow's functions cannot take survive."""
    if "/" in name:  # Keras refuses that in a layer's name; tf-keras does not
        keras3 = pytest.importorskip("tf_keras")
    x = keras3.Input((3,), name=name)
    source = open_source(keras3.Model(x, keras3.layers.Dense(2)(x)))
    assert [name] == [spec.name for spec in source.inputs]
    assert [name] == [spec.name for spec in ModelFile.read(source.export({name: (1, 3)})).inputs]


def test_nested_models_that_share_layers(keras: Any) -> None:
    """A model in a model, called twice."""
    inner = keras.Sequential(
        [keras.layers.Input((8, 8, 4)), keras.layers.SeparableConv2D(6, 3), keras.layers.BatchNormalization()]
    )
    x = keras.Input((8, 8, 4), name="x")
    y = keras.layers.Add()([inner(x), inner(keras.layers.ReLU()(x))])
    pivot = agrees(open_source(keras.Model(x, keras.layers.GlobalAveragePooling2D()(y))), x=(1, 8, 8, 4))
    assert "MUL" not in names(pivot)  # batch normalisation is folded


def test_subclassed_models_that_were_called(keras3: Any) -> None:
    """They know what they were called with."""
    model = subclassed(keras3)
    model(np.zeros((5, 6), np.float32))
    source = open_source(model)
    assert [("x", (-1, 6))] == [(spec.name, spec.shape) for spec in source.inputs]
    assert {"hidden", "scores"} == {spec.name for spec in agrees(source, x=(1, 6)).outputs}


def test_subclassed_models_need_shapes(keras3: Any) -> None:
    """One that was never called; the error says which option, and what its input is called."""
    with pytest.raises(
        ConversionError, match=r"does not know its inputs \(a subclassed model, or a Sequential.*--shape x=1,224,224,3"
    ):
        open_source(subclassed(keras3))
    agrees(open_source(subclassed(keras3), Opening(shapes={"": (1, 6)})), x=(1, 6))


def subclassed(keras: Any) -> Any:
    """A model that is code."""

    class Model(keras.Model):  # type: ignore[misc]  # Keras is untyped
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(2)

        def call(self, x: Any, training: bool = False) -> dict[str, Any]:
            hidden = self.first(x) * (0.0 if training else 1.0)
            return {"scores": self.second(hidden), "hidden": hidden}

    return Model()


def test_subclassed_models_of_several_inputs(keras3: Any) -> None:
    """As arguments, with a shape for each."""

    class Model(keras3.Model):  # type: ignore[misc]  # Keras is untyped
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = keras3.layers.Dense(4), keras3.layers.Dense(4)

        def call(self, left: Any, right: Any) -> Any:
            return self.one(left) - self.two(right)

    model = Model()
    model(np.zeros((1, 6), np.float32), np.zeros((1, 3), np.float32))
    with pytest.raises(ConversionError, match="--shape left=1,224,224,3 --shape right=1,224,224,3"):
        open_source(model)
    agrees(open_source(model, Opening(shapes={"left": (1, 6), "right": (1, 3)})), left=(1, 6), right=(1, 3))


def test_a_sequential_without_an_input(keras3: Any) -> None:
    """It is a model that was not called yet."""
    model = keras3.Sequential([keras3.layers.Dense(2)])
    with pytest.raises(ConversionError, match="does not know its inputs"):
        open_source(model)
    agrees(open_source(model, Opening(shapes={"": (1, 6)})), inputs=(1, 6))


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_layers_are_unrolled(keras: Any, layer: str) -> None:
    """No loop is left, also backwards, and the model is as it was."""
    recurrent = getattr(keras.layers, layer)
    model = keras.Sequential(
        [
            keras.layers.Input((5, 3), name="x"),
            keras.layers.Bidirectional(recurrent(4, return_sequences=True)),
            recurrent(2),
        ]
    )
    source = open_source(model)
    pivot = agrees(source, **{source.inputs[0].name: (1, 5, 3)})
    assert "WHILE" not in names(pivot)
    assert not model.layers[-1].unroll


def test_recurrent_layers_of_open_length(keras3: Any) -> None:
    """The shape that is fixed decides."""
    model = keras3.Sequential([keras3.Input((None, 3), name="x"), keras3.layers.GRU(4)])
    assert "WHILE" not in names(agrees(open_source(model), x=(1, 6, 3)))


def test_long_recurrent_layers_are_refused(keras3: Any) -> None:
    """With the layer and the limit."""
    model = keras3.Sequential([keras3.Input((300, 2), name="x"), keras3.layers.SimpleRNN(2, name="memory")])
    with pytest.raises(ConversionError, match=r"has control flow.*While in \S*memory.*up to 256 steps"):
        open_source(model).export({"x": (1, 300, 2)})


def test_layers_that_branch_are_refused(keras3: Any) -> None:
    """The operator and the layer are named."""
    tf = import_tensorflow()

    class Gate(keras3.layers.Layer):  # type: ignore[misc]  # Keras is untyped
        def call(self, x: Any) -> Any:
            return tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)

    model = keras3.Sequential([keras3.Input((4,), name="x"), Gate(name="gate")])
    with pytest.raises(
        ConversionError, match=r"has control flow, which has no form in int8: (Stateless)?If in \S*gate"
    ):
        open_source(model).export({"x": (1, 4)})


def test_operators_without_a_form_in_tflite_are_named(keras3: Any) -> None:
    """A model that would need Flex is refused with the operator and its layer."""
    tf = import_tensorflow()

    class Digest(keras3.layers.Layer):  # type: ignore[misc]  # Keras is untyped
        def call(self, x: Any) -> Any:
            return x + tf.linalg.det(x[:, None, None, 0] * tf.eye(2))[:, None]

    source = open_source(keras3.Sequential([keras3.Input((1,), name="x"), Digest(name="digest")]))
    with pytest.raises(ConversionError, match=r"operators that TFLite does not have: MatrixDeterminant in \S*digest"):
        source.export({"x": (1, 1)})


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_policies_become_float32(keras: Any, policy: str) -> None:
    """A mixed-precision classifier, its weights kept."""
    before = keras.mixed_precision.global_policy() if keras.__name__ == "tf_keras" else keras.config.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = keras.Sequential(
            [
                keras.layers.Input((8, 8, 3), name="x"),
                keras.layers.Conv2D(8, 3),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )
    finally:
        keras.mixed_precision.set_global_policy(before)
    source = open_source(model)
    (kind,) = {"mixed_float16": ["float16"], "mixed_bfloat16": ["bfloat16"], "float64": ["float64"]}[policy]
    assert (f"the model computes in {kind} in places: these were made float32.",) == source.notes
    pivot = agrees(source, **{source.inputs[0].name: (1, 8, 8, 3)})
    assert ["CONV_2D", "MEAN", "FULLY_CONNECTED"] == names(pivot)


def test_whole_numbers_go_in(keras3: Any) -> None:
    """Word numbers for an embedding stay integers."""
    model = keras3.Sequential(
        [
            keras3.Input((7,), dtype="int32", name="x"),
            keras3.layers.Embedding(20, 4),
            keras3.layers.GlobalAveragePooling1D(),
        ]
    )
    source = open_source(model)
    assert "int32" == source.inputs[0].dtype
    assert "int32" == agrees(source, x=(1, 7)).inputs[0].dtype


def test_text_is_refused(keras3: Any) -> None:
    """The input is named."""
    x = keras3.Input((1,), dtype="string", name="text")
    with pytest.raises(ConversionError, match="the input 'text' is of type string"):
        open_source(keras3.Model(x, keras3.layers.Identity()(x)))


def test_sparse_inputs_are_refused(keras: Any) -> None:
    """The input is named."""
    x = keras.Input((8,), sparse=True, name="words")
    with pytest.raises(ConversionError, match="the input 'words' is of type sparse"):
        open_source(keras.Model(x, keras.layers.Dense(2)(x)))


def test_layers_that_keep_state_are_refused(keras3: Any) -> None:
    """A counter inside the model."""

    class Counts(keras3.layers.Layer):  # type: ignore[misc]  # Keras is untyped
        def build(self, shape: Any) -> None:
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            self.seen.assign_add(1.0)
            return x * self.seen

    model = keras3.Sequential([keras3.Input((4,), name="x"), Counts(name="counts")])
    with pytest.raises(ConversionError, match=r"keeps state from one run to the next: AssignVariableOp in \S*counts"):
        open_source(model).export({"x": (1, 4)})


def test_quantised_models_are_refused(keras3: Any) -> None:
    """Keras's own int8 is not what a device runs."""
    model = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(4, name="head")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an Input has nothing to quantise
        model.quantize("int8")
    with pytest.raises(AlreadyQuantisedError, match="Keras made head int8 or float8"):
        open_source(model)


@pytest.mark.parametrize(
    ("option", "opening"),
    [
        ("signature", Opening(signature="serving_default")),
        ("model", Opening(model="m:f")),
        ("channels_last", Opening(channels_last=True)),
        ("trust_source", Opening(trust_source=True)),
    ],
)
def test_options_without_a_meaning_are_errors(keras_model: Any, option: str, opening: Opening) -> None:
    """Nobody is to believe that they did something."""
    with pytest.raises(OptionError, match=rf"a Keras model in memory has no use for {option} \(--"):
        open_source(keras_model, opening)


def test_layers_alone_are_refused(keras3: Any) -> None:
    """A layer is put into a model first."""
    with pytest.raises(ConversionError, match=r"Dense: a Keras model was expected. Put a layer into one"):
        open_source(keras3.layers.Dense(2))


def test_other_objects_are_refused() -> None:
    """What has no frontend is named by its type."""
    with pytest.raises(ConversionError, match=r"cannot convert an object of type builtins\.int"):
        open_source(3)


def test_argmax_is_one_operator(keras3: Any) -> None:
    """Keras tells -0.0 from 0.0 by bits first, for which TFLite has no operator: that step is left out."""
    x = keras3.Input((6, 3), name="x")
    made = {"most": keras3.ops.argmax(x, -1), "least": keras3.ops.argmin(x, 1), "of_all": keras3.ops.argmax(x)}
    pivot = agrees(open_source(keras3.Model(x, made)), x=(1, 6, 3))
    assert {"ARG_MAX", "ARG_MIN"} <= set(names(pivot)) <= {"ARG_MAX", "ARG_MIN", "RESHAPE"}


def test_one_tensor_as_two_outputs(keras: Any) -> None:
    """Both names are there, with the values of the one tensor; so is the input that is given out as it came in."""
    x = keras.Input((5,), name="x")
    hidden = keras.layers.Dense(3)(x)
    pivot = agrees(open_source(keras.Model(x, {"one": hidden, "two": hidden, "same": x})), x=(1, 5))
    assert {"one": (1, 3), "two": (1, 3), "same": (1, 5)} == {spec.name: spec.shape for spec in pivot.outputs}
    assert len({*pivot.graph.main.inputs, *pivot.graph.main.outputs}) == 4
