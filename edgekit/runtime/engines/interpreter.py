"""The Interpreter API that LiteRT, tflite-runtime and TensorFlow share, behind one class.

The packages' own methods look for live views at each call and pass on to a wrapper of the native interpreter; here that wrapper is
called, which takes a third less time for a small model. Views of its memory are made in one place, ``view_output``, and as
long as one lives the memory is not moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgekit.errors import EngineError
from edgekit.graph import Subgraph
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import EDGETPU_OPERATOR, DelegateSpec, PartitionReport, load_library
from edgekit.runtime.signatures import Entry
from edgekit.tensors import Array

#: What the interpreters raise when they refuse; a name that is not UTF-8 is a ``ValueError`` too, a damaged RESHAPE an
#: ``IndexError``.
FOREIGN = (ValueError, RuntimeError, MemoryError, IndexError)
#: Operators that may choose their output's size while they run (schema.fbs); then tensors may move in memory during a run.
_SIZING = frozenset(
    {
        "CALL", "CALL_ONCE", "DELEGATE", "IF", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "RANGE", "SEGMENT_SUM",
        "STABLEHLO_CASE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "UNIQUE", "WHERE", "WHILE",
    }
)  # fmt: skip
#: Operators with a state that ``reset_all_variables`` does not reach.
RESOURCES = frozenset({"VAR_HANDLE", "CALL_ONCE"})


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
        entry: the signature to run; ``None`` for the main one.

    Raises:
        EngineError: the interpreter refused the model.
        DelegateError: the delegate cannot be loaded, or refused the model.
    """

    def __init__(self, loaded: Loaded, model: ModelFile, spec: DelegateSpec, entry: Entry | None = None) -> None:
        self.name = loaded.name
        self.version = loaded.version
        self._loaded = loaded
        self._model = model
        self._spec = spec
        main = model.graph.main
        self._subgraph = entry.subgraph if entry is not None else 0
        self._inputs = entry.input_tensors if entry is not None else main.inputs
        self._outputs = entry.output_tensors if entry is not None else main.outputs
        self._names = [spec.name for spec in (entry.inputs if entry is not None else model.inputs)]
        self._views: list[Array | None] = [None] * len(self._outputs)
        self._still = self._subgraph == 0 and _stands_still(main)
        self._open()

    def _open(self) -> None:
        module, spec = self._loaded.module, self._spec
        delegates = load_library(module, spec, self._model)
        resolvers = module.OpResolverType
        try:
            self._interpreter: Any = module.Interpreter(
                **self._source(),
                num_threads=spec.threads or 1,
                experimental_delegates=delegates or None,
                experimental_op_resolver_type=(
                    resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if spec.kind == "none" else resolvers.BUILTIN
                ),
            )
            self._native: Any = self._interpreter._interpreter
            self._allocate()
        except FOREIGN as error:
            remedy = "The model may use operators that this runtime does not have; `edgekit inspect` lists them."
            raise self.refused(error, remedy=remedy) from error

    def _allocate(self) -> None:
        self._native.AllocateTensors()  # without a number: delegates are applied here
        if self._subgraph:
            self._native.AllocateTensors(self._subgraph)

    def _source(self) -> dict[str, Any]:
        path = self._model.native_path()  # the very file that was checked, mapped by the interpreter and not copied
        return {"model_path": path} if path is not None else {"model_content": self._model.content}

    def refused(self, error: Exception, *, sizes: str = "", remedy: str = "") -> EngineError:
        """What a foreign error means."""
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, MemoryError):
            text, remedy = f"not enough memory ({text})", "It needs a device with more, or smaller inputs."
        if self._spec.kind == "edgetpu":
            from edgekit.runtime.edgetpu import explain

            meaning = explain(text, self.version)
            if meaning is not None:
                return EngineError(f"{self._model.name}: {meaning} ({self.version} said: {text}).")
        if EDGETPU_OPERATOR in text:
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
        if any(view is not None for view in self._views):
            self._views = [None] * len(self._views)
            self._open()  # views that the caller still has keep the old interpreter, and its memory, alive
        try:
            for index, shape in zip(self._inputs, shapes, strict=True):
                self._native.ResizeInputTensor(index, np.array(shape, np.int32), False, self._subgraph)
            self._allocate()
        except FOREIGN as error:
            pairs = zip(self._names, shapes, strict=True)
            sizes = f" with {', '.join(f'{name} {list(shape)}' for name, shape in pairs)}"
            remedy = "Use the sizes that it was made for; a fixed RESHAPE inside it may take no others."
            raise self.refused(error, sizes=sizes, remedy=remedy) from error

    def shapes(self) -> list[tuple[int, ...]]:
        """The inputs' current sizes, none open.

        Raises:
            EngineError: the interpreter cannot tell.
        """
        try:
            sizes = [self._native.TensorSize(index, self._subgraph) for index in self._inputs]
        except FOREIGN as error:
            raise self.refused(error) from error
        return [tuple(int(size) for size in shape) for shape in sizes]

    def set_input(self, position: int, value: Array) -> None:
        """Copy an array of the input's own dtype and current shape in.

        Raises:
            EngineError: the interpreter does not take it.
        """
        try:
            self._native.SetTensor(self._inputs[position], value, self._subgraph)
        except FOREIGN as error:
            raise self.refused(error) from error

    def invoke(self) -> None:
        """Run the graph.

        Raises:
            EngineError: a kernel failed.
        """
        try:
            self._native.Invoke(self._subgraph)
        except FOREIGN as error:
            raise self.refused(error) from error

    def get_output(self, position: int) -> Array:
        """A copy of an output, in the file's own dtype.

        Raises:
            EngineError: there is none: no operator computes it.
        """
        try:
            array: Array = self._native.GetTensor(self._outputs[position], self._subgraph)
        except FOREIGN as error:
            raise self.refused(error) from error
        return array

    def view_output(self, position: int) -> Array:
        """An output where it lies, read-only, in the file's own dtype; the next run changes its values.

        The view keeps the interpreter and so its memory. Where tensors may move during a run it is a copy after all.

        Raises:
            EngineError: there is none: no operator computes it.
        """
        if not self._still:
            return self.get_output(position)
        view = self._views[position]
        if view is None:
            self.get_output(position)  # says what is wrong with a tensor that has no memory
            try:
                view = self._native.tensor(self._native, self._outputs[position])
            except FOREIGN as error:
                raise self.refused(error) from error
            view.flags.writeable = False
            self._views[position] = view
        return view

    def calls(
        self, *, copy: bool = True
    ) -> tuple[Callable[[Array], object], Callable[[], object], Callable[[], Array]] | None:
        """Setting the only input, running, and getting the only output, with nothing between; ``None`` where it takes more.

        Setting raises one of ``FOREIGN`` for an array of another dtype or shape. The calls are good until the next ``resize``,
        ``reset`` or ``close``.
        """
        if len(self._inputs) != 1 or len(self._outputs) != 1 or self._subgraph:
            return None
        native, source, result = self._native, self._inputs[0], self._outputs[0]
        get: Callable[[], Array] = partial(native.GetTensor, result, 0)
        if self._still:
            try:
                self.get_output(0)
                get = native.tensor(native, result).copy if copy else partial(self.view_output, 0)
            except (EngineError, *FOREIGN):
                return None  # a tensor without memory: the methods say so
        return partial(native.SetTensor, source), native.Invoke, get

    def reset(self) -> None:
        """Forget what stateful operators hold.

        Raises:
            EngineError: the interpreter cannot be made anew.
        """
        if any(op.name in RESOURCES for graph in self._model.graph.subgraphs for op in graph.ops):
            sizes = self.shapes()
            self._views = [None] * len(self._views)
            self._open()
            if sizes != self.shapes():
                self.resize(sizes)
            return
        try:
            self._native.ResetVariableTensors()
        except FOREIGN as error:
            raise self.refused(error) from error

    def abandon(self) -> None:
        """Never free the interpreter: after a fork its threads do not exist, and waiting for them would not end."""
        import ctypes

        for item in (self._native, self._interpreter):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))

    def partitions(self) -> PartitionReport:
        """Which operators the delegate took.

        After delegation the interpreter lists one more node for each delegated part. The part's operators are
        those between that node's inputs and its outputs.

        Raises:
            EngineError: the interpreter cannot tell.
        """
        if self._subgraph:
            raise EngineError(f"{self.version} tells what a delegate took of a model's first subgraph only.")
        ops = self._model.graph.main.ops
        # libedgetpu takes the compiler's operators and no others; what is left to the CPU XNNPACK may take, under the same name.
        only = EDGETPU_OPERATOR if self._spec.kind == "edgetpu" else None
        try:
            nodes = self._interpreter._get_ops_details()[len(ops) :]
        except FOREIGN as error:
            raise self.refused(error) from error
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
            if only is None or all(ops[index].name == only for index in part):
                parts.append(tuple(sorted(part)))
        taken = {index for part in parts for index in part}
        outside = tuple(op.index for op in ops if op.index not in taken)
        return PartitionReport(self._spec.kind, tuple(parts), outside, tuple(op.name for op in ops))

    def close(self) -> None:
        """Free the interpreter and its delegates; views keep what they show."""
        self._interpreter = self._native = None
        self._views = []


def _stands_still(graph: Subgraph) -> bool:
    """Whether no tensor's size depends on values, so that memory stays where it was put before the first run.

    Sizes come from integers that are computed; where all integers that go into operators are constants, none are.
    """
    tensors = graph.tensors
    return not any(
        op.custom
        or op.name in _SIZING
        or any(
            index >= 0 and tensors[index].dtype in ("int32", "int64") and tensors[index].data is None
            for index in op.inputs
        )
        for op in graph.ops
    )
