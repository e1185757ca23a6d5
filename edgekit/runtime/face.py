"""``Face``: what a loaded model shows its user, in this process (``Session``) and in one of its own (``Isolated``)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit.errors import one_of
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, PartitionReport
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.values import IO_MODES, NON_FINITE, Values
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from edgekit.postprocess import Label
    from edgekit.runtime.signatures import Entry

_clock = time.perf_counter_ns


class Face(ABC):
    """One loaded model: arrays in, arrays out, every run timed.

    Args:
        model: a checked model.
        choice: the delegate, with the reason for it.
        io: ``"float"`` or ``"native"``.
        preprocess: whether ``run`` applies the manifest's preprocessing.
        signature: the entry point to run; ``None`` for the main one.
        non_finite: ``"refuse"`` or ``"allow"``.

    Attributes:
        model: the model.
        asked: the delegate that was asked for, and why.
        inputs: what goes in.
        outputs: what comes out.
        io: ``"float"`` or ``"native"``.
        preprocesses: whether ``run`` applies the manifest's preprocessing.
        latency: the times of all runs.

    Raises:
        ModelFileError: there is no such signature.
        OptionError: an option that does not exist.
        TensorError: the model's inputs or outputs are no numbers, or its preprocessing is not known.
    """

    latency: LatencyLog

    def __init__(
        self,
        model: ModelFile,
        choice: DelegateChoice,
        *,
        io: str,
        preprocess: bool,
        signature: str | None,
        non_finite: str,
    ) -> None:
        one_of(io, IO_MODES, "io")
        one_of(non_finite, NON_FINITE, "non_finite")
        self.model = model
        self.asked = choice
        self.io = io
        self.preprocesses = preprocess
        self._entry: Entry | None = None
        if signature is not None:
            from edgekit.runtime.signatures import entry

            self._entry = entry(model, signature)
        self.inputs: tuple[TensorSpec, ...] = self._entry.inputs if self._entry is not None else model.inputs
        self.outputs: tuple[TensorSpec, ...] = self._entry.outputs if self._entry is not None else model.outputs
        self._values = Values(
            model, self.inputs, self.outputs, native=io == "native", preprocess=preprocess, non_finite=non_finite
        )

    def _about(self) -> dict[str, Any]:
        """What a log's header says of the model and the machine."""
        import platform

        return {
            "model_sha256": self.model.sha256,
            "model": self.model.path.name if self.model.path is not None else None,
            "host": {"machine": platform.machine(), "system": platform.system(), "node": platform.node()},
        }

    @property
    @abstractmethod
    def partitions(self) -> PartitionReport:
        """What the delegate really took of the graph.

        Raises:
            EngineError: the engine does not tell.
        """

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
        return self._values.preprocessed(value, name)

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
            One array when there is one output, else a dict by output name; the caller owns them unless the session was loaded
            with ``copy=False``. float32 with ``io="float"`` (types that are not quantised keep theirs), the file's own types
            with ``"native"``.

        Raises:
            TensorError: a name, shape, dtype or value does not fit.
            EngineError: a kernel failed and nothing is left to go on with, or the session is closed.
            FaultError: the process that an isolated model runs in crashed, hung or outgrew its limits: there is no result.
        """
        return self._run(value, named, _clock())

    def run_queued(self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike], since_ns: int) -> Any:
        """``run``, for callers that keep a queue: the time since then goes into the log as queue time.

        Args:
            value: as for ``run``.
            since_ns: ``time.perf_counter_ns()`` when the input was put into the queue.
        """
        return self._run(value, {}, since_ns)

    @abstractmethod
    def _run(
        self,
        value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
        named: Mapping[str, npt.ArrayLike],
        since_ns: int,
    ) -> Any:
        """Run the model on an input that was asked for at this moment of ``time.perf_counter_ns()``."""

    def _named(self, results: list[Array]) -> Any:
        """What a run gives back."""
        if len(results) == 1:
            return results[0]
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def batch(self, values: Iterable[Any], *, size: int | None = None) -> Iterator[Any]:
        """Run many inputs; see ``edgekit.runtime.batch.batch``.

        Args:
            values: inputs, each without or with a batch axis of 1; taken as results are asked for.
            size: samples in one run; ``None`` for the model's own batch size, 8 where it is open.

        Returns:
            The results, in order.
        """
        from edgekit.runtime.batch import batch

        return batch(self, values, size=size)

    def classify(self, image: Any, top: int = 5) -> tuple[Label, ...]:
        """The likeliest classes of an image; the manifest's preprocessing is applied with ``preprocess=True`` and without.

        Args:
            image: an array ``[height, width, channels]``, a Pillow image, or the path or the bytes of an image file (these need Pillow).
            top: how many at most.

        Returns:
            The labels, likeliest first; names are ``None`` where the model has none.

        Raises:
            EdgekitError: the model is no classifier, or the image cannot be read.
        """
        from edgekit.postprocess import classify

        return classify(self, image, top)

    @abstractmethod
    def close(self) -> None:
        """Finish the log and free the model. Harmless when called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
