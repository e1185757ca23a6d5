"""A TensorFlow function becomes a float ``.tflite`` with fixed shapes, named inputs and a signature.

Variables are turned into constants first: the converter then folds batch normalisation into convolutions, which it
does not do for variables that it must keep. Networks that compute in float16, bfloat16 or float64 (Keras's mixed
precision) become float32 ones, which is what the interpreters' kernels take.
"""

from __future__ import annotations

import keyword
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, EdgekitError
from edgekit.modelfile import ModelFile
from edgekit.operators import CALLS
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.frontends import tf_graphs
from edgekit_convert.frontends.foreign import first_line

#: Longer recurrent layers stay loops: unrolled, each step is operators of its own in the file.
LONGEST_UNROLLED = 256
#: Names that cannot be keyword arguments of a traced function, because its own methods have them.
_TAKEN = frozenset({"self", "args", "kwargs", "func", "name"})


def import_tensorflow() -> Any:
    """Import TensorFlow, quietly.

    Raises:
        ConversionError: it is not installed.
    """
    import logging
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with warnings.catch_warnings():
            # Deprecations between TensorFlow and its own dependencies are no business of the user's.
            warnings.simplefilter("ignore")
            import tensorflow
    except ImportError as error:
        raise ConversionError(
            f"this source needs TensorFlow ({error}): `pip install 'edgekit[convert]'`. A float .tflite needs it not."
        ) from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow


@dataclass(frozen=True)
class _Frozen:
    """A function whose variables are constants.

    Attributes:
        function: takes tensors in the order of ``arguments``.
        arguments: input names as identifiers.
        outputs: output names in order.
        narrow: types that became float32.
    """

    function: Any
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    narrow: tuple[str, ...]


class Network:
    """A TensorFlow function of named tensors, which is frozen for the shapes that are asked for."""

    def __init__(
        self,
        call: Callable[[dict[str, Any]], Mapping[str, Any]],
        dtypes: Mapping[str, str],
        origin: str,
        *,
        trusted: bool = False,
    ) -> None:
        """Take the function; nothing is traced yet.

        Args:
            call: takes tensors by input name, returns tensors by output name.
            dtypes: by input name, as the model has them.
            origin: what to call the model in messages.
            trusted: whether operators that reach outside of the model may be run.
        """
        self._call, self._dtypes, self._origin, self._trusted = call, dict(dtypes), origin, trusted
        self._names = _arguments(dtypes)
        self._frozen: dict[tuple[tuple[int, ...], ...], _Frozen] = {}

    def export(self, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
        """The float ``.tflite`` with the signature ``serving_default``.

        Args:
            shapes: fixed, by input name.

        Raises:
            ConversionError: TensorFlow or its converter refused the model.
        """
        frozen = self._freeze(shapes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                flatbuffer = _convert(frozen)
        except Exception as error:  # TensorFlow raises its own, Python's and MLIR's errors here, all about the model
            raise ConversionError(_explain(error, frozen.function.graph.as_graph_def())) from error
        _refuse_control_flow(flatbuffer, frozen.function.graph.as_graph_def())
        return _own_names_and_order(flatbuffer, {value: key for key, value in self._names.items()}, frozen.outputs)

    def reference(self, values: Mapping[str, Array]) -> list[Array]:
        """What TensorFlow computes, outputs in the order of their names.

        Raises:
            ConversionError: TensorFlow refused the model.
        """
        tf = import_tensorflow()
        frozen = self._freeze({name: values[name].shape for name in self._dtypes})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if frozen.narrow:  # its own rounding is far coarser than what is looked for
                tensors = zip(frozen.arguments, frozen.function.inputs, strict=True)
                back = {argument: name for name, argument in self._names.items()}
                given = [tf.constant(values[back[argument]], tensor.dtype) for argument, tensor in tensors]
                return [np.asarray(result) for result in _flat(frozen.function(*given))]
            results = self._call({name: tf.constant(values[name], kind) for name, kind in self._dtypes.items()})
        return [np.asarray(results[key]) for key in sorted(results)]

    def _freeze(self, shapes: Mapping[str, tuple[int, ...]]) -> _Frozen:
        key = tuple(shapes[name] for name in self._dtypes)
        if key not in self._frozen:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._frozen[key] = self._trace(dict(zip(self._dtypes, key, strict=True)))
            except EdgekitError:
                raise
            except Exception as error:  # whatever a model's layers raise when they are called
                raise ConversionError(_explain(error, None)) from error
        return self._frozen[key]

    def _trace(self, shapes: Mapping[str, tuple[int, ...]]) -> _Frozen:
        tf = import_tensorflow()
        specs = {
            self._names[name]: tf.TensorSpec(shapes[name], kind, name=self._names[name])
            for name, kind in self._dtypes.items()
        }

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
        def traced(**arguments: Any) -> Any:
            return dict(self._call({name: arguments[argument] for name, argument in self._names.items()}))

        concrete = traced.get_concrete_function(**specs)
        graph = concrete.graph.as_graph_def()
        if not self._trusted:
            tf_graphs.refuse_outside(tf_graphs.nodes(graph), self._origin)
        tf_graphs.refuse_state(graph, self._origin)
        outputs = tuple(sorted(concrete.structured_outputs))
        graph, inputs = _with_constants(concrete)
        graph = tf_graphs.without_signed_zeros(graph)
        narrow = tf_graphs.narrow_types(tf_graphs.nodes(graph))
        plain = tf_graphs.plain(graph)
        whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(plain, name=""), [])
        frozen = whole.prune(inputs, [tensor.name for tensor in concrete.outputs])
        arguments = tuple(name.split(":")[0] for name in inputs)
        return _Frozen(frozen, arguments, outputs, narrow)


def to_float_tflite(
    function: Callable[[dict[str, Any]], Mapping[str, Any]], shapes: Mapping[str, tuple[tuple[int, ...], str]]
) -> bytes:
    """Convert a function of named tensors that is the caller's own.

    Args:
        function: takes tensors by input name, returns tensors by output name.
        shapes: fixed shape and dtype by input name.

    Returns:
        The flatbuffer, with the signature ``serving_default``.

    Raises:
        ConversionError: TensorFlow or its converter refused the function.
    """
    network = Network(function, {name: dtype for name, (_, dtype) in shapes.items()}, "the function", trusted=True)
    return network.export({name: shape for name, (shape, _) in shapes.items()})


def _with_constants(concrete: Any) -> tuple[Any, list[str]]:
    """The graph of a function with constants in place of variables, calls inlined, and the names of the tensors that go in.

    It is the first half of ``convert_variables_to_constants_v2``. The second half registers every function that a loader left in
    the graph's library anew, which fails where its name is taken.
    """
    from tensorflow.python.framework import convert_to_constants

    # Loops are left as they are, so that they can be named.
    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False
    )
    graph, converted = convert_to_constants._replace_variables_by_constants(data)
    captures = concrete.graph.internal_captures
    gone = {captures[number].name for number in converted}
    return graph, [tensor.name for tensor in concrete.inputs if tensor.name not in gone]


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]


def _convert(frozen: _Frozen) -> bytes:
    """Save a frozen function with a signature, and convert that."""
    tf = import_tensorflow()

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def serve(**arguments: Any) -> Any:
        results = _flat(frozen.function(*[arguments[key] for key in frozen.arguments]))
        return dict(zip(frozen.outputs, results, strict=True))

    specs = {
        argument: tf.TensorSpec(tensor.shape, tensor.dtype, name=argument)
        for argument, tensor in zip(frozen.arguments, frozen.function.inputs, strict=True)
    }
    module = tf.Module()
    module.frozen = frozen.function
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        signature = serve.get_concrete_function(**specs)
        # Gradients of one's own (swish has one) cannot be saved without their variables, and are not needed.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures={"serving_default": signature}, options=options)
        converted: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        return converted


def _own_names_and_order(flatbuffer: bytes, names: Mapping[str, str], outputs: Sequence[str]) -> bytes:
    """Undo what the way through TensorFlow changed: input names made identifiers, and the order of the outputs.

    Args:
        flatbuffer: what the converter made.
        names: the source's input names by identifier.
        outputs: output names in the source's order.
    """
    edited = editing.read(flatbuffer)
    (signature,) = edited.signatureDefs
    for item in signature.inputs:
        item.name = names[item.name.decode()].encode()
    order = {item.name.decode(): int(item.tensorIndex) for item in signature.outputs}
    edited.subgraphs[0].outputs = [order[name] for name in outputs]
    return editing.write(edited)


def _arguments(names: Iterable[str]) -> dict[str, str]:
    """Identifiers by input name, which TensorFlow's keyword arguments need; no two alike."""
    found: dict[str, str] = {}
    for name in names:
        cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not cleaned or cleaned[0].isdigit() or cleaned[0] == "_" or cleaned in _TAKEN or keyword.iskeyword(cleaned):
            cleaned = f"input_{cleaned}"
        free, number = cleaned, 1
        while free in found.values():
            free, number = f"{cleaned}_{number}", number + 1
        found[name] = free
    return found


def _explain(error: Exception, graph: Any) -> str:
    """What a failed trace or conversion means.

    Args:
        error: what TensorFlow raised.
        graph: the frozen ``GraphDef``, to name layers from; ``None`` where there is none yet.
    """
    text = str(error)
    needed = [re.search(rf"(?:{kind}): ([^\n]+)", text) for kind in ("Flex ops|TF Select ops", "Custom ops")]
    names = [name.strip().removeprefix("Flex") for match in needed if match for name in match.group(1).split(",")]
    if names:
        return (
            f"the model uses operators that TFLite does not have: {_places(names, graph)}. The interpreters that pip installs "
            "cannot run them (TensorFlow's own kernels, Flex, are not in them); replace the layers that make them with others."
        )
    return f"TensorFlow could not turn this model into a float .tflite: {type(error).__name__}: {first_line(error)}."


def _places(names: Sequence[str], graph: Any) -> str:
    """Operators of TensorFlow, with the layers that have them as far as the graph tells."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for item in tf_graphs.operations(graph) if graph is not None else ():
        if item.layer not in found.get(item.op, [item.layer]):
            found[item.op].append(item.layer)
    return "; ".join(
        f"{name} in {', '.join(layers[:3])}{f' and {len(layers) - 3} more' if len(layers) > 3 else ''}"
        if layers
        else name
        for name, layers in found.items()
    )


def _refuse_control_flow(flatbuffer: bytes, graph: Any) -> None:
    """Refuse a network that branches or repeats: what is inside has no ranges to be measured.

    Raises:
        ConversionError: it does, and the converter could not do without.
    """
    if not any(op.name in CALLS for op in ModelFile.read(flatbuffer).graph.main.ops):
        return
    kept = tf_graphs.loops(graph)
    where = _places([item.op for item in kept], graph) or "a loop that TensorFlow's converter made"
    raise ConversionError(
        f"the model has control flow, which has no form in int8: {where}. Recurrent layers of Keras convert without loops up to "
        f"{LONGEST_UNROLLED} steps (fix the length with --shape); others have to be unrolled (`unroll=True`) or replaced by "
        "operations on whole tensors before the model is saved."
    )
