"""The engine ``litert-compiled``: LiteRT's CompiledModel on the CPU with XNNPACK's options, and on the GPU.

It does not check what is written into a buffer (a shorter array is taken silently), so sizes are checked here. Nor does it say when it
has no GPU accelerator: asked for the GPU with the CPU for the rest, it then runs all on the CPU and calls that fully accelerated
(ai-edge-litert 2.3.0). So the GPU is asked for alone first.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines.interpreter import FOREIGN, RESOURCES, Loaded
from edgekit.runtime.engines.xnnpack_options import XnnpackOptions
from edgekit.runtime.signatures import Entry
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.gpu import GpuProbe

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


#: Types that its buffers read and write; values of others go through them as bytes.
_BUFFER_TYPES = frozenset({"float32", "float16", "int32", "int8", "uint8", "bool"})


class CompiledEngine:
    """One model as a CompiledModel. Not thread-safe; a ``Session`` adds the lock.

    Buffers are the runtime's own, in the GPU's memory where the GPU has an input or output; setting and getting copies.

    Args:
        loaded: the engine.
        model: a checked model with at least one signature, or an old file with none, which gets a default one.
        spec: ``xnnpack`` or ``gpu`` with threads for the CPU's part (``None`` means 1) and options: ``XnnpackOptions``,
            ``gpu.GpuSettings``.
        entry: the signature to run; ``None`` for the first.

    Raises:
        EngineError: the runtime refused the model.
        DelegateError: another delegate is asked for, or the GPU is not to be used: see ``gpu.trusted``.
    """

    def __init__(self, loaded: Loaded, model: ModelFile, spec: DelegateSpec, entry: Entry | None = None) -> None:
        self.name = loaded.name
        self.version = loaded.version
        self._model, self._spec, self._loaded = model, spec, loaded
        if spec.kind not in ("xnnpack", "gpu"):
            raise DelegateError(
                f"the engine {NAME!r} runs models on the GPU, and on the CPU through xnnpack, {spec.kind!r} was asked for: "
                "use --delegate xnnpack, or another engine."
            )
        self._ins = entry.inputs if entry is not None else model.inputs
        self._outs = entry.outputs if entry is not None else model.outputs
        self._entry = entry
        self._key = entry.key if entry is not None else None
        self._module = loaded.module
        self._probe: GpuProbe | None = None
        if spec.kind == "gpu":
            from edgekit.runtime import gpu, vulkan

            self._settings = gpu.GpuSettings.of(spec.options)
            self._probe = gpu.trusted(model, spec, self._key)
            vulkan.load_loader()
        else:
            self._xnnpack = XnnpackOptions.of(spec.options)
        self._open()

    def _open(self) -> None:
        try:
            self._compiled: Any = self._compile()
            self._signature = self._compiled.get_signature_index(self._key) if self._key is not None else 0
            names = self._compiled.get_signature_by_index(self._signature)
            self._key = str(names["key"])
            self._input_order = _order(names["inputs"], self._ins)
            self._output_order = _order(names["outputs"], self._outs)
            self._make_buffers()
        except FOREIGN as error:
            raise self.refused(error) from error

    def _compile(self) -> Any:
        module = self._module
        kinds = module.HardwareAccelerator
        if self._spec.kind == "xnnpack":
            return self._made(
                kinds.CPU, module.CpuOptions(num_threads=self._spec.threads or 1, **self._xnnpack.native())
            )
        cpu = module.CpuOptions(num_threads=self._spec.threads or 1)
        settings = self._settings
        gpu = module.GpuOptions(enforce_f32=settings.precision == "fp32", **dict.fromkeys(settings.switches, True))
        with contextlib.suppress(
            *FOREIGN
        ):  # it takes a part of the model, or there is none: then the next call fails as well
            return self._made(kinds.GPU, cpu, gpu)
        compiled = self._made(kinds.GPU | kinds.CPU, cpu, gpu)
        if compiled.is_fully_accelerated():  # after the GPU alone did not take all of it
            raise DelegateError(
                f"{self.version} left all of {self._model.name} to the CPU: it has no accelerator for the GPU of this system, or "
                "the GPU takes none of the operators. Use --delegate xnnpack."
            )
        return compiled

    def _made(self, accelerators: Any, cpu: Any, gpu: Any = None) -> Any:
        module = self._module
        options = module.Options(hardware_accelerators=accelerators, cpu_options=cpu, gpu_options=gpu)
        path = self._model.native_path()
        if path is not None:
            return module.CompiledModel.from_file(path, options=options)
        self._content = self._model.content  # which the runtime may go on reading
        return module.CompiledModel.from_buffer(self._content, options=options)

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
        if spec.dtype not in _BUFFER_TYPES:
            value = np.ascontiguousarray(value).reshape(-1).view(np.int8)
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
        dtype = np.dtype(self._outs[position].dtype)
        count = math.prod(shape)
        try:
            if dtype.name in _BUFFER_TYPES:
                array: Array = buffer.read(count, dtype.type)
            else:
                array = buffer.read(count * dtype.itemsize, np.int8).view(dtype)
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

    def takes_all(self) -> bool:
        """Whether the accelerator runs every operator, as the runtime says."""
        return bool(self._compiled.is_fully_accelerated())

    def partitions(self) -> PartitionReport:
        """Which operators the accelerator took.

        This engine tells only whether it took all of them. Of XNNPACK the interpreter of the same package, which has the same one,
        tells the rest; of the GPU what the runtime said when it was tried, where that determines them.

        Raises:
            EngineError: it did not take all, and which is not known.
        """
        names = tuple(op.name for op in self._model.graph.main.ops)
        if self.takes_all():
            return PartitionReport(self._spec.kind, (tuple(range(len(names))),), (), names)
        if self._spec.kind == "gpu":
            return self._on_gpu(names)
        if self._entry is None and not self._xnnpack.flags:
            report = self._asked_interpreter()
            if report.outside:
                return report
        raise EngineError(f"{self.version} left operators outside and does not tell which: the engine 'litert' does.")

    def _asked_interpreter(self) -> PartitionReport:
        from edgekit.runtime.engines import litert
        from edgekit.runtime.engines.interpreter import InterpreterEngine

        engine = InterpreterEngine(litert.load(), self._model, DelegateSpec("xnnpack", self._spec.threads))
        try:
            return engine.partitions()
        finally:
            engine.close()

    def _on_gpu(self, names: tuple[str, ...]) -> PartitionReport:
        from edgekit.runtime.gpu import placement

        probe = self._probe
        if probe is None or probe.taken is None:
            raise EngineError(f"{self.version} left operators to the CPU and does not tell which.")
        found = placement(self._model.graph.main, probe.taken, probe.left) if self._entry is None else None
        if found is None:
            raise EngineError(
                f"{self.version} took {probe.taken} of {len(names)} operators for the GPU and does not tell which "
                f"({' '.join(probe.left) or 'it gave no reason'})."
            )
        outside = tuple(index for index in range(len(names)) if index not in found)
        return PartitionReport("gpu", (found,), outside, names)

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
