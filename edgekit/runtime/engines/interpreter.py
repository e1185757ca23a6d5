"""The Interpreter API that LiteRT, tflite-runtime and TensorFlow share, behind one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport, load_library
from edgekit.tensors import Array


@dataclass(frozen=True)
class Loaded:
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
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error
        main = model.graph.main
        self._inputs = main.inputs
        self._outputs = main.outputs

    def _refused(self, error: Exception) -> EngineError | DelegateError:
        text = " ".join(str(error).split()) or type(error).__name__
        if "edgetpu-custom-op" in text:
            return EngineError(
                f"{self._model.name} was compiled for the Edge TPU and needs that delegate: use --delegate edgetpu "
                f"({self.version} said: {text})."
            )
        return EngineError(
            f"{self.version} cannot run {self._model.name}: {text}. "
            "The model may use operators that this runtime does not have; `edgekit inspect` lists them."
        )

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
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error

    def shapes(self) -> list[tuple[int, ...]]:
        """The inputs' current sizes, none open."""
        details = {item["index"]: item for item in self._interpreter.get_input_details()}
        return [tuple(int(size) for size in details[index]["shape"]) for index in self._inputs]

    def set_input(self, position: int, value: Array) -> None:
        """Copy an array of the input's own dtype and current shape in."""
        self._interpreter.set_tensor(self._inputs[position], value)

    def invoke(self) -> None:
        """Run the graph.

        Raises:
            EngineError: a kernel failed.
        """
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error

    def get_output(self, position: int) -> Array:
        """A copy of an output, in the file's own dtype."""
        array: Array = self._interpreter.get_tensor(self._outputs[position])
        return array

    def partitions(self) -> PartitionReport:
        """Which operators the delegate took.

        After delegation the interpreter lists one more node for each delegated part. The part's operators are
        those between that node's inputs and its outputs.
        """
        ops = self._model.graph.main.ops
        nodes = self._interpreter._get_ops_details()[len(ops) :]
        producer = {tensor: op.index for op in ops for tensor in op.outputs}
        parts = []
        for node in nodes:
            if node["op_name"] not in ("DELEGATE", "Delegate") and "elegate" not in node["op_name"]:
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
