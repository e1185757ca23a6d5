"""An opened ONNX model: what it is, its float ``.tflite``, its results in onnxruntime, and where the two part."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from edgekit_convert.frontends.onnx_child import layouts, reading, shaping, upgrading
from edgekit_convert.frontends.onnx_child.checking import check_operators, check_outputs, inputs_of
from edgekit_convert.frontends.onnx_child.comparing import TOLERANCE, best_layout, difference, random_inputs
from edgekit_convert.frontends.onnx_child.refusal import RefusedError, first_line


@dataclass(frozen=True)
class Float:
    """The float ``.tflite`` that was made.

    Attributes:
        content: the flatbuffer, its inputs and outputs named by their places: ``input_0``, ``output_0``.
        shapes: of the inputs by name, in the file's layouts.
        outputs: the layout of each output, in order.
        prepared: what it was made from.
        turn: how it was converted, see ``converting.to_network``.
    """

    content: bytes
    shapes: dict[str, list[int]]
    outputs: list[tuple[int, ...]]
    prepared: shaping.Prepared
    turn: bool


#: Inputs by name in the original's layouts, and onnxruntime's outputs in order.
Sample = tuple[dict[str, Any], list[Any]]


@dataclass
class OpenedModel:
    """One model.

    Attributes:
        name: the file's.
        model: the ``ModelProto``, floats in float32.
        inputs: name, sizes and type of each that is used, as the original has them.
        outputs: the names, in order.
        layouts: of the inputs in the file, by name.
        places: where each input has its channels, see ``layouts.place_of_channels``.
        channels_last: whether inputs with the channels second come out with the channels last.
        notes: what was done to it.
    """

    name: str
    model: Any
    inputs: list[dict[str, Any]]
    outputs: list[str]
    layouts: dict[str, tuple[int, ...]]
    places: dict[str, str]
    channels_last: bool
    notes: list[str]
    _session: Any = None
    _float: Float | None = None

    @classmethod
    def open(cls, path: str, *, channels_last: bool) -> OpenedModel:
        """Read a model and see what it is.

        Args:
            path: the file.
            channels_last: whether inputs with the channels second come out with the channels last.

        Raises:
            RefusedError: it cannot be converted.
        """
        name = os.path.basename(path)
        model, notes = reading.read(path)
        check_operators(model, name)
        every = inputs_of(model, name)
        check_outputs(model, name)
        reading.leave_out_unread(model)
        outputs = [item.name for item in model.graph.output]
        read = {item for graph in reading.graphs(model.graph) for node in graph.node for item in node.input} | set(
            outputs
        )
        inputs = [item for item in every if item["name"] in read]
        unused = [item["name"] for item in every if item["name"] not in read]
        if not inputs:
            raise RefusedError("conversion", f"{name}: no output depends on an input: there is nothing to convert.")
        if unused:
            notes = (*notes, f"nothing reads the input {', '.join(unused)}, which is left out.")
            for item in [value for value in model.graph.input if value.name in unused]:
                model.graph.input.remove(item)
        places = {item["name"]: layouts.place_of_channels(model, item["name"], len(item["shape"])) for item in inputs}
        chosen = {
            item["name"]: layouts.channels_last(len(item["shape"]))
            for item in inputs
            if channels_last and places[item["name"]] == "first"
        }
        result = cls(name, model, inputs, outputs, chosen, places, channels_last, list(notes))
        result._start()
        return result

    def _start(self) -> None:
        """Load it into onnxruntime, the runtime that everything is compared with."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base but this
            newest = re.search(r"official support for domain ai\.onnx is till opset (\d+)", str(error))
            if newest is not None:
                raise RefusedError(
                    "conversion",
                    f"{self.name} is written for ONNX's operators of version {upgrading.opset_of(self.model)}, and onnxruntime "
                    f"{onnxruntime.__version__} has those up to {newest.group(1)}: export it for that version or an older one.",
                ) from error
            advice = "Check it with onnx.checker.check_model, and export it again"
            opset = upgrading.opset_of(self.model)
            if opset < upgrading.OLDEST_OPSET:
                advice = f"It is written for ONNX's operators of version {opset}: export it for {upgrading.OLDEST_OPSET} or newer"
            raise RefusedError(
                "conversion", f"onnxruntime cannot load {self.name}: {first_line(error)}. {advice}."
            ) from error

    def described(self) -> dict[str, Any]:
        """What edgekit needs to know of it."""
        return {
            "inputs": [
                {
                    **item,
                    "shape": layouts.arrange(item["shape"], self._layout(item)),
                    "layout": self.layouts.get(item["name"]),
                }
                for item in self.inputs
            ],
            "outputs": self.outputs,
            "notes": self.notes,
        }

    def _layout(self, item: dict[str, Any]) -> tuple[int, ...]:
        return self.layouts.get(item["name"], layouts.original(len(item["shape"])))

    def run(self, values: dict[str, Any]) -> list[Any]:
        """Run onnxruntime; where the float model exists for these sizes, it has to say the same.

        Args:
            values: inputs by name, in the file's layouts.

        Returns:
            The outputs in the order of their names, in the file's layouts where there is a file.

        Raises:
            RefusedError: onnxruntime does not take the values, or the float model's results differ.
        """
        expected = self._expected(self._in_original(values))
        made = self._float
        if made is not None and {name: list(value.shape) for name, value in values.items()} == made.shapes:
            found = self._compare(made, values, expected)
            place = max(range(len(found)), key=lambda number: found[number])
            if found[place] > TOLERANCE:
                raise self._apart(made, self._in_original(values), place, found[place], "the data")
        order = sorted(range(len(self.outputs)), key=lambda place: self.outputs[place])
        if made is None:
            return [expected[place] for place in order]
        return [np.transpose(expected[place], made.outputs[place]) for place in order]

    def _in_original(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            item["name"]: np.transpose(
                values[item["name"]], layouts.between(self._layout(item), layouts.original(len(item["shape"])))
            )
            for item in self.inputs
        }

    def _expected(self, values: dict[str, Any]) -> list[Any]:
        """Results of onnxruntime on inputs in the original's layouts."""
        feeds = {
            item["name"]: np.ascontiguousarray(values[item["name"]], np.dtype(item["dtype"])) for item in self.inputs
        }
        try:
            return [np.asarray(item) for item in self._session.run(self.outputs, feeds)]
        except Exception as error:  # as above
            raise RefusedError("conversion", f"onnxruntime cannot run {self.name}: {first_line(error)}.") from error

    def _compare(self, made: Float, values: dict[str, Any], expected: list[Any]) -> list[float]:
        """How far the float model is from onnxruntime, by output."""
        from edgekit_convert.frontends.onnx_child.converting import run_tflite

        feeds = {
            f"input_{place}": np.ascontiguousarray(values[item["name"]], np.dtype(item["dtype"]))
            for place, item in enumerate(self.inputs)
        }
        actual = run_tflite(made.content, feeds)
        return [
            difference(np.transpose(item, made.outputs[place]), actual[f"output_{place}"])
            if np.ndim(item) == len(made.outputs[place])
            else float("inf")
            for place, item in enumerate(expected)
        ]

    def export(self, shapes: dict[str, list[int]], output: str) -> dict[str, Any]:
        """Make the float ``.tflite`` and compare it on random inputs.

        Several ways are tried until one agrees with onnxruntime: with constants folded and without, with inputs turned to
        channels last and with the operators turned one by one.

        Args:
            shapes: of the inputs by name, in the file's layouts.
            output: where the file goes.

        Returns:
            The layouts of the outputs, the largest difference, and what should be known.

        Raises:
            RefusedError: it cannot be converted, or the result differs.
        """
        from edgekit_convert.frontends.onnx_child.converting import NotConvertedError

        own = {item["name"]: layouts.restore(shapes[item["name"]], self._layout(item)) for item in self.inputs}
        samples, notes = self._samples(own)
        failures: list[str] = []
        apart: tuple[Float, dict[str, Any], int, float] | None = None
        for simplify in (True, False):
            with _folder() as folder:
                prepared = shaping.prepare(self.model, own, self.places, folder, simplify=simplify)
            check_operators(prepared.model, self.name, simplified=True)
            for turn in (True, False) if any(prepared.channels_second) else (True,):
                try:
                    made = self._convert(prepared, shapes, samples, turn=turn)
                except NotConvertedError as error:
                    failures.append(prepared.original_names(str(error)))
                    continue
                place, worst, values = self._furthest(made, samples)
                if worst <= TOLERANCE:
                    self._float = made
                    with open(output, "wb") as file:
                        file.write(made.content)
                    return {"outputs": made.outputs, "difference": worst, "samples": len(samples), "notes": notes}
                apart = apart or (made, values, place, worst)
        if apart is not None:
            raise self._apart(*apart, "random inputs")
        raise RefusedError("conversion", f"{self.name} cannot become a .tflite: {failures[0]}.")

    def _samples(self, shapes: dict[str, list[int]]) -> tuple[list[Sample], list[str]]:
        """Random inputs in the original's layouts with onnxruntime's results, as far as it takes them."""
        samples: list[Sample] = []
        refused: RefusedError | None = None
        for values in random_inputs(self.inputs, shapes):
            try:
                samples.append((values, self._expected(values)))
            except RefusedError as error:
                refused = error
        if refused is None:
            return samples, []
        try:
            self._expected({item["name"]: np.zeros(shapes[item["name"]], item["dtype"]) for item in self.inputs})
        except RefusedError:
            raise refused from None  # not even zeros: it is the sizes that are wrong
        return samples, [f"the float model was compared on {len(samples)} of 4 random inputs: {refused}"]

    def _convert(
        self, prepared: shaping.Prepared, shapes: dict[str, list[int]], samples: list[Sample], *, turn: bool
    ) -> Float:
        """One way of converting."""
        from edgekit_convert.frontends.onnx_child.converting import ForeignOperatorsError, to_tflite

        network = self._network(prepared, turn=turn)
        have = self._output_layouts(network, prepared, samples)
        want = [
            layout if self.channels_last and len(layout) > 3 and layout == layouts.channels_last(len(layout))
            else layouts.original(len(layout))
            for layout in have
        ]  # fmt: skip
        places = {item["name"]: place for place, item in enumerate(self.inputs)}
        inputs = [(f"input_{places[name]}", self._layout(self.inputs[places[name]])) for name in prepared.inputs]
        outputs = [(f"output_{place}", have[place], want[place]) for place in range(len(have))]
        try:
            content = to_tflite(network, inputs, outputs)
        except ForeignOperatorsError as error:
            at = ", ".join(prepared.operators_at(sorted(error.places))[:5])
            raise RefusedError(
                "conversion",
                f"{self.name} cannot become a .tflite: {f'{at} would need ' if at else 'it would need '}{error.operators}, which "
                "TFLite does not have, and the interpreters that pip installs cannot run. Replace what makes it by other layers.",
            ) from error
        return Float(content, shapes, want, prepared, turn)

    def _network(self, prepared: shaping.Prepared, *, turn: bool) -> Any:
        """The TensorFlow function of a prepared model, its layouts those of the original."""
        from edgekit_convert.frontends.onnx_child.converting import to_network

        second = [
            item.name for item, yes in zip(prepared.model.graph.input, prepared.channels_second, strict=True) if yes
        ]
        with _folder() as folder:
            network = to_network(prepared.model, second, turn=turn, folder=folder)
        composed = tuple(
            tuple(layouts.arrange(own, layout)) for own, layout in zip(prepared.layouts, network.layouts, strict=True)
        )
        return replace(network, layouts=composed)

    def _output_layouts(self, network: Any, prepared: shaping.Prepared, samples: list[Sample]) -> list[tuple[int, ...]]:
        """In which layout the network has each output, found by comparing values."""
        from edgekit_convert.frontends.onnx_child.converting import NotConvertedError

        if not samples:
            return [layouts.original(len(tensor.shape)) for tensor in network.keras.outputs]
        values, expected = samples[0]
        try:
            actual = network.run([values[name] for name in prepared.inputs])
        except Exception as error:  # whatever TensorFlow raises where the network does not run
            raise NotConvertedError(f"onnx2tf's model does not run: {first_line(error)}") from error
        return [
            best_layout(a, b)[0] if a.ndim == b.ndim else layouts.original(b.ndim)
            for a, b in zip(expected, actual, strict=True)
        ]

    def _furthest(self, made: Float, samples: list[Sample]) -> tuple[int, float, dict[str, Any]]:
        """The output that differs most, by how much, and on which inputs."""
        worst: tuple[int, float, dict[str, Any]] = (0, 0.0, {})
        for values, expected in samples:
            arranged = {item["name"]: np.transpose(values[item["name"]], self._layout(item)) for item in self.inputs}
            for place, value in enumerate(self._compare(made, arranged, expected)):
                if value > worst[1]:
                    worst = (place, value, values)
        return worst

    def _apart(self, made: Float, values: dict[str, Any], place: int, value: float, what: str) -> RefusedError:
        """The error for a float model that differs, with the first layer that does."""
        from edgekit_convert.frontends.onnx_child.locating import first_layer_apart

        by = f"{value:.1e} of its size" if np.isfinite(value) else "in shape, or in having no finite value"
        text = (
            f"the float .tflite of {self.name} differs from onnxruntime on {what}: output {self.outputs[place]!r} by {by}, at "
            f"most {TOLERANCE:.0e} was expected."
        )
        with _folder() as folder:
            return RefusedError(
                "conversion", f"{text} {first_layer_apart(made.prepared, values, turn=made.turn, folder=folder)}"
            )


@contextmanager
def _folder() -> Iterator[str]:
    """A folder of its own in this process's own folder, which edgekit removes even if this process is ended."""
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        yield folder
