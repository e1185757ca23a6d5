"""``Session``: one loaded model on one delegate. Arrays in, arrays out, every run timed."""

from __future__ import annotations

import time
from _thread import allocate_lock  # what threading.Lock is, without the import of threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import DelegateError, EdgekitError, EngineError, TensorError, one_of
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit.runtime.latency import LatencyLog
from edgekit.tensors import NUMPY_TYPES, Array, TensorSpec, dequantize, quantize

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

IO_MODES: tuple[str, ...] = ("float", "native")


class Session:
    """One loaded model. Use it as a context manager, or call ``close()``.

    Values are real numbers (``io="float"``, quantised and dequantised here) or the file's own integers
    (``io="native"``); that is chosen at load and never guessed from an input's dtype.

    Args:
        model: a checked model.
        choice: the delegate, with the reason for it.
        engine: an engine's name; ``None`` for the first that is installed.
        io: ``"float"`` or ``"native"``.
        preprocess: whether ``run`` applies the manifest's preprocessing to its inputs.
        require: a delegate that must take every operator, or loading fails.
        log: a JSON Lines file to append each run's times to.

    Attributes:
        model: the model.
        asked: the delegate that was asked for, and why.
        inputs: what goes in.
        outputs: what comes out.
        latency: the times of all runs.

    Raises:
        EngineError: no interpreter, or it refused the model.
        DelegateError: the delegate cannot be loaded, or took less than ``require`` demands.
    """

    def __init__(
        self,
        model: ModelFile,
        choice: DelegateChoice,
        *,
        engine: str | None = None,
        io: str = "float",
        preprocess: bool = False,
        require: str | None = None,
        log: Path | None = None,
    ) -> None:
        one_of(io, IO_MODES, "io")
        if preprocess and io == "native":
            raise TensorError("preprocessing gives real numbers: use io='float' with it, or preprocess yourself.")
        self.model = model
        self.asked = choice
        self.inputs: tuple[TensorSpec, ...] = model.inputs
        self.outputs: tuple[TensorSpec, ...] = model.outputs
        if preprocess and model.manifest is None:
            raise TensorError(self._no_manifest())
        for spec in (*self.inputs, *self.outputs):
            if spec.dtype not in NUMPY_TYPES:
                raise TensorError(f"{model.name}: {spec.name!r} is of type {spec.dtype}, only numbers can be run.")
            if spec.quant is not None and 0 in spec.quant.scales:
                raise TensorError(f"{model.name}: {spec.name!r} has scale 0, so that its integers mean nothing.")
        self._native = io == "native"
        self._preprocess = preprocess
        self._engine = open_engine(model, choice.spec, engine)
        self._partitions: PartitionReport | None = None
        if require is not None:
            self._check_required(require)
        self._shapes = self._engine.shapes()
        self._lock = allocate_lock()
        self._closed = False
        try:
            self.latency = LatencyLog(path=log, header=self._log_header() if log is not None else None)
        except EdgekitError:
            self._engine.close()
            raise

    def _check_required(self, require: str) -> None:
        DelegateSpec(require)  # knows which there are
        report = self.partitions
        if self.asked.spec.kind != require or (report.outside and require != "none"):
            self._engine.close()
            raise DelegateError(
                f"{require} was required to take the whole model, and got {report}. "
                "Drop --require to accept that, or convert the model for this delegate."
            )

    def _log_header(self) -> dict[str, Any]:
        import platform

        return {
            "model_sha256": self.model.sha256,
            "model": self.model.path.name if self.model.path is not None else None,
            "engine": self._engine.version,
            "asked": {"delegate": self.asked.spec.kind, "threads": self.asked.spec.threads},
            "got": self.partitions.to_json(),
            "host": {"machine": platform.machine(), "system": platform.system(), "node": platform.node()},
        }

    @property
    def engine(self) -> str:
        """The interpreter's package and version."""
        return self._engine.version

    @property
    def partitions(self) -> PartitionReport:
        """What the delegate really took of the graph."""
        if self._partitions is None:
            self._partitions = self._engine.partitions()
        return self._partitions

    @property
    def got(self) -> str:
        """The delegate that runs at least one operator; ``"none"`` when all fell to the interpreter's kernels."""
        return self.asked.spec.kind if self.partitions.partitions else "none"

    def preprocess(self, value: npt.ArrayLike, name: str | None = None) -> Array:
        """Apply the manifest's preprocessing to one input, and add the batch axis where it is missing.

        Args:
            value: an image or other raw input.
            name: which input; may be left out when there is one.

        Returns:
            float32, ready for ``run``.

        Raises:
            TensorError: the file has no preprocessing for that input, or the value does not fit it.
        """
        spec = self._spec(name)
        manifest = self.model.manifest
        if manifest is None:
            raise TensorError(self._no_manifest())
        array = self._array(spec, value)
        item = manifest.preprocessing.get(spec.name)
        if item is not None:
            array = item.apply(array)
        if array.ndim == len(spec.shape) - 1 and spec.shape[0] in (1, -1):
            array = array[None]
        return array

    def _no_manifest(self) -> str:
        return f"{self.model.name} has no manifest, so its preprocessing is not known: preprocess yourself."

    @staticmethod
    def _array(spec: TensorSpec, value: npt.ArrayLike) -> Array:
        try:
            return np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TensorError(f"input {spec.name!r} is not an array: {error}.") from error

    def _spec(self, name: str | None) -> TensorSpec:
        if name is None:
            if len(self.inputs) != 1:
                raise TensorError(f"{self.model.name} has {len(self.inputs)} inputs, name one: {self._names()}.")
            return self.inputs[0]
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise TensorError(f"{self.model.name} has no input {name!r}. It has {self._names()}.")

    def _names(self) -> str:
        return ", ".join(str(spec) for spec in self.inputs)

    def __call__(
        self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None, /, **named: npt.ArrayLike
    ) -> Any:
        """Same as ``run``."""
        return self.run(value, **named)

    def run(self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None, /, **named: npt.ArrayLike) -> Any:
        """Run the model once.

        Args:
            value: the input of a one-input model, or a mapping from input names to arrays.
            named: inputs by name.

        Returns:
            One array when there is one output, else a dict by output name; the caller owns them. float32 with
            ``io="float"`` (types that are not quantised keep theirs), the file's own types with ``"native"``.

        Raises:
            TensorError: a name, shape, dtype or value does not fit.
            EngineError: a kernel failed, or the session is closed.
        """
        clock = time.perf_counter_ns
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.model.name}: the session is closed. Load the model again.")
            start = clock()
            arrays = [
                self._prepare(spec, array) for spec, array in zip(self.inputs, self._gather(value, named), strict=True)
            ]
            shapes = [array.shape for array in arrays]
            if shapes != self._shapes:
                self._shapes = []  # when the graph refuses these, the next run must not take them for its own
                self._engine.resize(shapes)
                self._shapes = shapes
            for position, array in enumerate(arrays):
                self._engine.set_input(position, array)
            before = clock()
            self._engine.invoke()
            after = clock()
            results = [self._finish(spec, self._engine.get_output(i)) for i, spec in enumerate(self.outputs)]
            self.latency.add_ns(start, before - start, after - before, clock() - after)
        if len(results) == 1:
            return results[0]
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _gather(
        self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None, named: dict[str, npt.ArrayLike]
    ) -> list[npt.ArrayLike]:
        if value is not None and not isinstance(value, Mapping):
            if named:
                raise TensorError("inputs were given both by position and by name: use one of them.")
            if len(self.inputs) != 1:
                raise TensorError(
                    f"one array for {len(self.inputs)} inputs: pass them by name. It has {self._names()}."
                )
            return [value]
        given = {**(value or {}), **named}
        missing = [spec.name for spec in self.inputs if spec.name not in given]
        unknown = [name for name in given if all(spec.name != name for spec in self.inputs)]
        if missing or unknown:
            text = f"missing input {', '.join(missing)}" if missing else f"unknown input {', '.join(unknown)}"
            raise TensorError(f"{text}: {self.model.name} has {self._names()}.")
        return [given[spec.name] for spec in self.inputs]

    def _prepare(self, spec: TensorSpec, value: npt.ArrayLike) -> Array:
        array = self._array(spec, value)
        if self._preprocess:
            array = self.preprocess(array, spec.name)
        if not spec.accepts(array.shape):
            raise TensorError(self._shape_message(spec, array))
        if self._native:
            if array.dtype != spec.dtype:
                raise TensorError(
                    f"input {spec.name!r} is {array.dtype}, the file's own type {spec.dtype} was expected with "
                    "io='native'. Load with io='float' to pass real numbers."
                )
            return np.asarray(array, order="C")
        if array.dtype.kind not in "fiub":
            raise TensorError(f"input {spec.name!r} is of dtype {array.dtype}: numbers were expected.")
        if spec.quant is None and spec.dtype not in ("float32", "float16", "float64"):
            return self._integers(spec, array)
        if spec.quant is None and array.dtype != spec.dtype:
            with np.errstate(over="ignore"):  # what this type cannot hold becomes infinite, and is found below
                array = array.astype(spec.dtype)
        if array.dtype.kind == "f":
            self._check_finite(spec, array)
        if spec.quant is not None:
            return quantize(array, spec.quant, spec.dtype)
        return np.asarray(array, order="C")

    def _shape_message(self, spec: TensorSpec, array: Array) -> str:
        text = f"input {spec.name!r} has shape {list(array.shape)}, expected {list(spec.shape)}."
        if spec.accepts((1, *array.shape)):
            text += " Add the batch axis: x[None]."
        elif spec.accepts((1, *array.shape[1:])) and len(array) > 1:
            text += " Run the samples one by one: the model's batch size is 1."
        elif array.ndim == len(spec.shape) and array.ndim == 4:
            text += " Resize the image first, or load with preprocess=True if the model was converted with --resize."
        return text

    def _integers(self, spec: TensorSpec, array: Array) -> Array:
        if array.dtype == spec.dtype:
            return np.asarray(array, order="C")
        with np.errstate(invalid="ignore"):  # NaN and too large numbers differ afterwards
            cast = array.astype(spec.dtype)
        if not np.array_equal(cast, array):
            raise TensorError(
                f"input {spec.name!r} takes {spec.dtype}: values of {array.dtype} were given that it cannot hold."
            )
        return cast

    @staticmethod
    def _check_finite(spec: TensorSpec, array: Array) -> None:
        flat = array.reshape(-1)
        # One pass of BLAS finds that something is not finite (or overflowed); only then the exact test is worth its time.
        with np.errstate(all="ignore"):
            suspect = not np.isfinite(np.dot(flat, flat))
        if suspect and not np.isfinite(flat).all():
            bad = int(np.count_nonzero(~np.isfinite(flat)))
            raise TensorError(
                f"input {spec.name!r} holds {bad} NaN or infinite values of {flat.size}: finite numbers were expected."
            )

    def _finish(self, spec: TensorSpec, array: Array) -> Array:
        if self._native or spec.quant is None:
            return array
        return dequantize(array, spec.quant)

    def close(self) -> None:
        """Finish the log and free the interpreter. Harmless when called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.latency.close()
            self._engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
