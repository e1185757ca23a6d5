"""The Interpreter API that LiteRT, tflite-runtime and TensorFlow share, behind one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import EngineError
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateSpec, PartitionReport, load_library
from edgekit.tensors import Array

#: What the interpreters raise when they refuse; a name that is not UTF-8 is a ``ValueError`` too.
_FOREIGN = (ValueError, RuntimeError, MemoryError)


class Loaded(Record):
    """An imported engine.

    Attributes:
        name: the engine's name, as in ``engines.ENGINES``.
        version: package and version, for reports.
        module: has ``Interpreter``, ``OpResolverType`` and ``load_delegate``.
    """

    name: str
    version: str
    module: Any


class InterpreterEngine:
    """One model in one interpreter on one delegate. Not thread-safe; a ``Session`` adds the lock.

    Args:
        loaded: the engine.
        model: a checked model.
        spec: the delegate and threads; ``None`` threads means 1.

    Raises:
        EngineError: the interpreter refused the model.
        DelegateError: the delegate cannot be loaded, or refused the model.
    """

    def __init__(self, loaded: Loaded, model: ModelFile, spec: DelegateSpec) -> None:
        self.name = loaded.name
        self.version = loaded.version
        self._model = model
        self._spec = spec
        resolvers = loaded.module.OpResolverType
        delegates = load_library(loaded.module, spec)
        try:
            self._interpreter: Any = loaded.module.Interpreter(
                model_content=model.content,
                num_threads=spec.threads or 1,
                experimental_delegates=delegates or None,
                experimental_op_resolver_type=(
                    resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if spec.kind == "none" else resolvers.BUILTIN
                ),
            )
            self._interpreter.allocate_tensors()
        except _FOREIGN as error:
            remedy = "The model may use operators that this runtime does not have; `edgekit inspect` lists them."
            raise self._refused(error, remedy=remedy) from error
        main = model.graph.main
        self._inputs = main.inputs
        self._outputs = main.outputs

    def _refused(self, error: Exception, *, sizes: str = "", remedy: str = "") -> EngineError:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, MemoryError):
            text, remedy = f"not enough memory ({text})", "It needs a device with more, or smaller inputs."
        if "edgetpu-custom-op" in text:
            return EngineError(
                f"{self._model.name} was compiled for the Edge TPU and needs that delegate: use --delegate edgetpu "
                f"({self.version} said: {text})."
            )
        return EngineError(f"{self.version} cannot run {self._model.name}{sizes}: {text}. {remedy}".rstrip())

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Give open sizes a value.

        Args:
            shapes: one for each input.

        Raises:
            EngineError: the graph does not work at these sizes.
        """
        try:
            for index, shape in zip(self._inputs, shapes, strict=True):
                self._interpreter.resize_tensor_input(index, list(shape))
            self._interpreter.allocate_tensors()
        except _FOREIGN as error:
            pairs = zip(self._model.inputs, shapes, strict=True)
            sizes = f" with {', '.join(f'{spec.name} {list(shape)}' for spec, shape in pairs)}"
            remedy = "Use the sizes that it was made for; a fixed RESHAPE inside it may take no others."
            raise self._refused(error, sizes=sizes, remedy=remedy) from error

    def shapes(self) -> list[tuple[int, ...]]:
        """The inputs' current sizes, none open.

        Raises:
            EngineError: the interpreter cannot tell.
        """
        try:
            details = {item["index"]: item for item in self._interpreter.get_input_details()}
        except _FOREIGN as error:
            raise self._refused(error) from error
        return [tuple(int(size) for size in details[index]["shape"]) for index in self._inputs]

    def set_input(self, position: int, value: Array) -> None:
        """Copy an array of the input's own dtype and current shape in.

        Raises:
            EngineError: the interpreter does not take it.
        """
        try:
            self._interpreter.set_tensor(self._inputs[position], value)
        except _FOREIGN as error:
            raise self._refused(error) from error

    def invoke(self) -> None:
        """Run the graph.

        Raises:
            EngineError: a kernel failed.
        """
        try:
            self._interpreter.invoke()
        except _FOREIGN as error:
            raise self._refused(error) from error

    def get_output(self, position: int) -> Array:
        """A copy of an output, in the file's own dtype.

        Raises:
            EngineError: there is none: no operator computes it.
        """
        try:
            array: Array = self._interpreter.get_tensor(self._outputs[position])
        except _FOREIGN as error:
            raise self._refused(error) from error
        return array

    def partitions(self) -> PartitionReport:
        """Which operators the delegate took.

        After delegation the interpreter lists one more node for each delegated part. The part's operators are
        those between that node's inputs and its outputs.

        Raises:
            EngineError: the interpreter cannot tell.
        """
        ops = self._model.graph.main.ops
        try:
            nodes = self._interpreter._get_ops_details()[len(ops) :]
        except _FOREIGN as error:
            raise self._refused(error) from error
        producer = {tensor: op.index for op in ops for tensor in op.outputs}
        parts = []
        for node in nodes:
            if "delegate" not in node["op_name"].lower():
                continue
            stop = {int(index) for index in node["inputs"]}
            waiting = [int(index) for index in node["outputs"]]
            part: set[int] = set()
            while waiting:
                tensor = waiting.pop()
                index = producer.get(tensor)
                if index is None or index in part or (tensor in stop):
                    continue
                part.add(index)
                waiting.extend(item for item in ops[index].inputs if item >= 0)
            parts.append(tuple(sorted(part)))
        taken = {index for part in parts for index in part}
        outside = tuple(op.index for op in ops if op.index not in taken)
        return PartitionReport(self._spec.kind, tuple(parts), outside, tuple(op.name for op in ops))

    def close(self) -> None:
        """Free the interpreter and its delegates."""
        self._interpreter = None
