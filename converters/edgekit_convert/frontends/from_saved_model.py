"""TensorFlow SavedModel folders, of TensorFlow 2 and 1."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError, OptionError, from_os_error
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.freeze import Network, import_tensorflow
from edgekit_convert.frontends.source import Opening, Source
from edgekit_convert.frontends.tf_graphs import NARROW, narrow_types, plain, refuse_outside, what_runs
from edgekit_convert.frontends.unused import refuse_unused

#: Files that make a folder a SavedModel.
FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
#: Types of inputs that are numbers with a form in TFLite; narrow ones become float32.
_NUMBERS = ("float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool", *NARROW)
_DEFAULT = "serving_default"
#: The tag of the graph that is for inference (``tf.saved_model.SERVING``).
_SERVE = "serve"


def open_model(path: Path, opening: Opening) -> Source:
    """Open a SavedModel and one of its signatures.

    What the file holds is looked through first: nothing of a folder that is refused was loaded or run.

    Raises:
        ModelFileError: it is damaged.
        ConversionError: TensorFlow cannot load it, an input or output is no tensor of numbers, or it reaches outside of itself.
        OptionError: it does not have the signature that was asked for, or has several and none is the default.
    """
    refuse_unused(opening, "a SavedModel", "model", "channels_last")
    tf = import_tensorflow()
    meta_graph = _meta_graph(path)
    signatures = _signatures(meta_graph)
    key = _chosen(signatures, opening.signature, path)
    _check_numbers(tf, signatures, key, path)
    nodes = what_runs(meta_graph)
    if not opening.trust_source:
        refuse_outside(nodes, str(path))
    narrow = narrow_types(nodes)
    loaded, function, notes = _load(tf, path, meta_graph, key)
    specs, dtypes = _inputs(tf, signatures[key], function, opening.shapes, path)
    if narrow:
        notes.append(f"the model computes in {' and '.join(narrow)} in places: these were made float32.")
    if len(signatures) > 1 and opening.signature is None:
        others = ", ".join(sorted(name for name in signatures if name != key))
        notes.append(f"the signature {key!r} was taken; the others are {others} (--signature).")

    def call(values: dict[str, Any]) -> dict[str, Any]:
        return {str(name): value for name, value in function(**values).items()}

    network = Network(call, dtypes, str(path), trusted=opening.trust_source)
    # The functions use variables that TensorFlow frees with the object that owns them.
    return Source("saved_model", path.name, specs, network.export, network.reference, tuple(notes), owner=loaded)


def _meta_graph(path: Path) -> Any:
    """The graph that is for inference, read and not loaded."""
    from tensorflow.python.saved_model import loader_impl

    for name in FILES:
        if (path / name).is_file():
            try:
                with (path / name).open("rb"):
                    break
            except OSError as error:
                raise from_os_error(error, path / name, "read") from error
    try:
        graphs = list(loader_impl.parse_saved_model(str(path)).meta_graphs)
    except Exception as error:  # protobuf's and TensorFlow's own errors, all about the file
        raise ModelFileError(
            f"{path} is damaged: {name} is no SavedModel ({first_line(error)}). Copy it again, or export the model again."
        ) from error
    if not graphs:
        raise ModelFileError(f"{path} is damaged: {name} holds no graph. Copy it again, or export the model again.")
    serving = [graph for graph in graphs if _SERVE in graph.meta_info_def.tags]
    if len(graphs) > 1 and len(serving) != 1:
        tags = "; ".join(", ".join(graph.meta_info_def.tags) or "no tag" for graph in graphs)
        raise ConversionError(
            f"the SavedModel {path} has {len(graphs)} graphs ({tags}), and one with the tag {_SERVE!r} was expected: export it "
            "for inference."
        )
    return (serving or graphs)[0]


def _signatures(meta_graph: Any) -> dict[str, Any]:
    """What can be called, by name."""
    return {
        str(key): signature
        for key, signature in sorted(meta_graph.signature_def.items())
        if not key.startswith("__saved_model_") and signature.outputs
    }


def _chosen(signatures: Mapping[str, Any], asked: str | None, path: Path) -> str:
    names = ", ".join(signatures)
    if not signatures:
        raise ConversionError(
            f"the SavedModel {path} has no signature: export it with one (`model.export` of Keras, or "
            "`tf.saved_model.save(module, folder, signatures=module.call.get_concrete_function(...))`)."
        )
    if asked is not None:
        if asked not in signatures:
            raise OptionError(f"the SavedModel {path} has no signature {asked!r}: it has {names}.")
        return asked
    if _DEFAULT in signatures:
        return _DEFAULT
    if len(signatures) == 1:
        return next(iter(signatures))
    raise OptionError(
        f"the SavedModel {path} has the signatures {names} and no {_DEFAULT!r}: choose one (--signature)."
    )


def _check_numbers(tf: Any, signatures: Mapping[str, Any], key: str, path: Path) -> None:
    """Refuse what is no dense tensor of numbers, by name, before anything is loaded."""
    for side in ("input", "output"):
        for name, info in sorted(getattr(signatures[key], f"{side}s").items()):
            kind = _kind(tf, info)
            if kind in _NUMBERS:
                continue
            fitting = [
                other
                for other, signature in signatures.items()
                if all(
                    _kind(tf, item) in _NUMBERS for item in (*signature.inputs.values(), *signature.outputs.values())
                )
            ]
            instead = f"; of its signatures {', '.join(fitting)} would do (--signature)" if fitting else ""
            raise ConversionError(
                f"{path}: the {side} {name!r} of {key!r} is of type {kind}, only tensors of numbers can be converted{instead}. "
                f"Export the model with {'inputs' if side == 'input' else 'outputs'} that are such."
            )


def _kind(tf: Any, info: Any) -> str:
    if info.HasField("coo_sparse"):
        return "sparse tensor"
    if info.HasField("composite_tensor"):
        return "ragged or other composite tensor"
    return str(tf.dtypes.as_dtype(info.dtype).name)


def _load(tf: Any, path: Path, meta_graph: Any, key: str) -> tuple[Any, Any, list[str]]:
    """Load with the current loader, or with the old one for folders that TensorFlow 2.3 and before wrote.

    Returns:
        What owns the variables, the signature's function, and what the user should know.
    """
    tags = list(meta_graph.meta_info_def.tags)
    said = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _has_old_optimizer(meta_graph):
            # It would fail ('_UserObject' object has no attribute 'add_slot') halfway, and leave functions registered under the
            # names that the other loader wants.
            said = "an old optimizer's state ('add_slot') needs tf-keras"
        else:
            try:
                loaded = tf.saved_model.load(str(path), tags=tags)
                return loaded, loaded.signatures[key], []
            except (
                Exception
            ) as error:  # TensorFlow raises its own, Python's and protobuf's errors, all about the folder
                said = str(error) or type(error).__name__
        try:
            function = _frozen_by_version_1(tf, path, tags, key)
        except Exception as error:  # as above; what the current loader said is nearer to the cause
            raise ConversionError(_not_loaded(path, said)) from error
    version = meta_graph.meta_info_def.tensorflow_version or "an unknown version"
    note = f"written by TensorFlow {version}; read with the loader for version 1: the current one refuses it ({_line(said)})."
    return function, function, [note]


def _frozen_by_version_1(tf: Any, path: Path, tags: list[str], key: str) -> Callable[..., dict[str, Any]]:
    """A signature with constants in place of variables, as a session of TensorFlow 1 loads it."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        signature = v1.saved_model.loader.load(session, tags, str(path)).signature_def[key]
        inputs = {str(name): str(info.name) for name, info in sorted(signature.inputs.items())}
        outputs = {str(name): str(info.name) for name, info in sorted(signature.outputs.items())}
        ends = [name.split(":")[0] for name in outputs.values()]
        graph = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), ends)
    whole = v1.wrap_function(lambda: tf.import_graph_def(plain(graph), name=""), [])
    pruned = whole.prune(list(inputs.values()), list(outputs.values()))

    def call(**values: Any) -> dict[str, Any]:
        return dict(zip(outputs, pruned(*[values[name] for name in inputs]), strict=True))

    return call


def _has_old_optimizer(meta_graph: Any) -> bool:
    """Whether there is an optimizer whose state the current loader cannot put anywhere: tf-keras, which has its class, is missing."""
    slots = any(node.slot_variables for node in meta_graph.object_graph_def.nodes)
    return slots and importlib.util.find_spec("tf_keras") is None


def _line(text: str) -> str:
    return first_line(ValueError(text))


def _not_loaded(path: Path, said: str) -> str:
    text = f"TensorFlow cannot load the SavedModel {path}: {_line(said)}."
    if "not registered" in said:
        text += " It has an operator of a library that TensorFlow alone does not have: export the model without it."
    elif "variables" in said:
        text += " A SavedModel is the whole folder, `variables` included: copy it again."
    return text


def _inputs(
    tf: Any, signature: Any, function: Any, shapes: Mapping[str, tuple[int, ...]], path: Path
) -> tuple[tuple[TensorSpec, ...], dict[str, str]]:
    """What goes in, in the signature's order, and the types that TensorFlow takes by name."""
    names = [str(name) for name in getattr(function, "structured_input_signature", ((), {}))[1]]
    if set(names) != set(signature.inputs):
        names = sorted(signature.inputs)
    specs, dtypes = [], {}
    for name in names:
        info = signature.inputs[name]
        dtypes[name] = _kind(tf, info)
        if info.tensor_shape.unknown_rank:
            given = shapes.get(name, shapes.get("") if len(names) == 1 else None)
            if given is None:
                raise ConversionError(
                    f"{path}: the input {name!r} has no known number of sizes: say which (--shape {name}=1,224,224,3)."
                )
            shape = tuple(given)
        else:
            shape = tuple(-1 if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        if not shape:
            raise ConversionError(
                f"{path}: the input {name!r} is a single number, not a batch of samples (such as the share that dropout keeps, or "
                "whether this is training). Export a signature in which it is a constant."
            )
        specs.append(TensorSpec(name, shape, "float32" if dtypes[name] in NARROW else dtypes[name]))
    return tuple(specs), dtypes
