"""The engine ``litert-compiled``: LiteRT's CompiledModel, which owns its buffers and chooses accelerators by itself.

It does not check what is written into a buffer (a shorter array is taken silently), so sizes are checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines.interpreter import FOREIGN, RESOURCES, Loaded
from edgekit.runtime.signatures import Entry
from edgekit.tensors import Array, TensorSpec

NAME = "litert-compiled"


def load() -> Loaded:
    """Import the package.

    Raises:
        ImportError: it is not installed, or is older than CompiledModel's options.
    """
    import ai_edge_litert
    from ai_edge_litert import compiled_model

    if not hasattr(compiled_model, "CpuOptions"):
        raise ImportError(f"ai-edge-litert {ai_edge_litert.__version__} has no options for CompiledModel; update it")
    return Loaded(NAME, f"ai-edge-litert {ai_edge_litert.__version__} CompiledModel", compiled_model)


class CompiledEngine:
    """One model as a CompiledModel on the CPU. Not thread-safe; a ``Session`` adds the lock.

    Args:
        loaded: the engine.
        model: a checked model with at least one signature, or an old file with none, which gets a default one.
        spec: ``xnnpack`` and its threads; ``None`` threads means 1.
        entry: the signature to run; ``None`` for the first.

    Raises:
        EngineError: the runtime refused the model.
        DelegateError: another delegate is asked for.
    """

    def __init__(self, loaded: Loaded, model: ModelFile, spec: DelegateSpec, entry: Entry | None = None) -> None:
        self.name = loaded.name
        self.version = loaded.version
        self._model, self._spec = model, spec
        if spec.kind != "xnnpack":
            raise DelegateError(
                f"the engine {NAME!r} runs models on the CPU through xnnpack, {spec.kind!r} was asked for: "
                "use --delegate xnnpack, or another engine."
            )
        self._ins = entry.inputs if entry is not None else model.inputs
        self._outs = entry.outputs if entry is not None else model.outputs
        self._key = entry.key if entry is not None else None
        self._module = loaded.module
        self._open()

    def _open(self) -> None:
        module = self._module
        options = module.Options(
            hardware_accelerators=module.HardwareAccelerator.CPU,
            cpu_options=module.CpuOptions(num_threads=self._spec.threads or 1),
        )
        try:
            path = self._model.native_path()
            if path is not None:
                self._compiled: Any = module.CompiledModel.from_file(path, options=options)
            else:
                self._content = self._model.content  # which the runtime may go on reading
                self._compiled = module.CompiledModel.from_buffer(self._content, options=options)
            self._signature = self._compiled.get_signature_index(self._key) if self._key is not None else 0
            names = self._compiled.get_signature_by_index(self._signature)
            self._key = str(names["key"])
            self._input_order = _order(names["inputs"], self._ins)
            self._output_order = _order(names["outputs"], self._outs)
            self._make_buffers()
        except FOREIGN as error:
            raise self.refused(error) from error

    def _make_buffers(self) -> None:
        self._inputs = self._compiled.create_input_buffers(self._signature)
        self._outputs = self._compiled.create_output_buffers(self._signature)
        found = self._compiled.get_input_tensor_details(self._key)
        self._in_shapes = [_shape(found, spec.name, position) for position, spec in enumerate(self._ins)]
        found = self._compiled.get_output_tensor_details(self._key)
        self._out_shapes = [_shape(found, spec.name, position) for position, spec in enumerate(self._outs)]

    def refused(self, error: Exception, *, sizes: str = "") -> EngineError:
        """What a foreign error means; CompiledModel's own texts name source lines only."""
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return EngineError(
            f"{self.version} cannot run {self._model.name}{sizes}: {text}. The engine 'litert' may say more exactly why."
        )

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Give open sizes a value.

        Args:
            shapes: one for each input.

        Raises:
            EngineError: the graph does not work at these sizes.
        """
        try:
            for place, shape in zip(self._input_order, shapes, strict=True):
                self._compiled.resize_input_tensor(place, list(shape), self._signature, False)
            self._make_buffers()
        except FOREIGN as error:
            sizes = ", ".join(f"{spec.name} {list(shape)}" for spec, shape in zip(self._ins, shapes, strict=True))
            raise self.refused(error, sizes=f" with {sizes}") from error

    def shapes(self) -> list[tuple[int, ...]]:
        """The inputs' current sizes."""
        return list(self._in_shapes)

    def set_input(self, position: int, value: Array) -> None:
        """Copy an array of the input's own dtype and current shape in.

        Raises:
            EngineError: the array is another, or the runtime does not take it.
        """
        spec = self._ins[position]
        if value.shape != self._in_shapes[position] or value.dtype != spec.dtype:
            raise EngineError(
                f"input {spec.name!r} takes {spec.dtype}{list(self._in_shapes[position])}, not {value.dtype}{list(value.shape)}."
            )
        try:
            self._inputs[self._input_order[position]].write(value)
        except FOREIGN as error:
            raise self.refused(error) from error

    def invoke(self) -> None:
        """Run the graph.

        Raises:
            EngineError: a kernel failed.
        """
        try:
            self._compiled.run_by_index(self._signature, self._inputs, self._outputs)
        except FOREIGN as error:
            raise self.refused(error) from error

    def get_output(self, position: int) -> Array:
        """A copy of an output, in the file's own dtype.

        Raises:
            EngineError: the runtime does not give it.
        """
        shape = self._out_shapes[position]
        buffer = self._outputs[self._output_order[position]]
        try:
            array: Array = buffer.read(int(np.prod(shape)), np.dtype(self._outs[position].dtype).type)
        except FOREIGN as error:
            raise self.refused(error) from error
        return array.reshape(shape)

    def view_output(self, position: int) -> Array:
        """A copy: this engine shows no memory of its own."""
        return self.get_output(position)

    def calls(
        self, *, copy: bool = True
    ) -> tuple[Callable[[Array], object], Callable[[], object], Callable[[], Array]] | None:
        """``None``: there is nothing shorter than the methods."""
        return None

    def reset(self) -> None:
        """Forget what stateful operators hold, by making the model anew; the runtime refuses variable tensors when it loads.

        Raises:
            EngineError: the model cannot be made anew.
        """
        if any(op.name in RESOURCES for graph in self._model.graph.subgraphs for op in graph.ops):
            sizes = self.shapes()
            self._open()
            if sizes != self.shapes():
                self.resize(sizes)

    def partitions(self) -> PartitionReport:
        """All operators in one part, or an error: this engine tells only whether it took all of them.

        Raises:
            EngineError: it did not take all.
        """
        names = tuple(op.name for op in self._model.graph.main.ops)
        if not self._compiled.is_fully_accelerated():
            raise EngineError(
                f"{self.version} left operators outside and does not tell which: the engine 'litert' does."
            )
        return PartitionReport(self._spec.kind, (tuple(range(len(names))),), (), names)

    def abandon(self) -> None:
        """Never free the model: after a fork its threads do not exist, and waiting for them would not end."""
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._compiled))

    def close(self) -> None:
        """Free the model."""
        self._inputs = self._outputs = []
        self._compiled = None


def _order(names: Sequence[str], specs: Sequence[TensorSpec]) -> list[int]:
    """Where each input or output is in the runtime's list; by place where names differ (files without signatures)."""
    places = [names.index(spec.name) if spec.name in names else -1 for spec in specs]
    return places if -1 not in places else list(range(len(specs)))


def _shape(details: dict[str, Any], name: str, position: int) -> tuple[int, ...]:
    item = details[name] if name in details else list(details.values())[position]
    return tuple(int(size) for size in item["shape"])
