"""``CostTable``: what each operator takes in each type, and what a change of type takes, measured once and kept.

Operators are measured as models of their own on the delegate that will run them, the forms of one operator in turn so that a slow
moment meets all of them. A conversion that is given a table reads from it and measures only what it lacks: with a complete
table the same decisions follow again, bit for bit, on any machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import DataError, OptionError, from_os_error
from edgekit.files import write_whole
from edgekit.graph import Op, Subgraph
from edgekit.host import read_host
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert import graph as editing
from edgekit_convert.assign.timer import Here, Timer
from edgekit_convert.graph.slices import Sliceable

SCHEMA = 1
#: Rounds over the forms that are measured together; each is run for about so long in each round.
_ROUNDS, _ROUND_NS = 9, 300_000
#: Likewise for whole models; fewer rounds, but not fewer than of operators, where they would take longer than that in all.
_MODEL_ROUNDS, _MODEL_ROUND_NS, _MODELS_NS = 40, 3_000_000, 6e9
#: So many models are in memory at once.
_TOGETHER = 24
_HOST_FACTS = ("system", "machine", "cpu_model", "logical_cores")
#: Constants of at most so many values decide what an operator does, and are part of its key.
_FEW = 16
_EMPTY_KEY = "an empty run"
#: Changes of type are measured at two sizes; what lies between follows a line.
_SIZES = (256, 65536)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Form:
    """One operator in one type, as a model of its own.

    Attributes:
        key: what the time depends on: operator, types, shapes, options and small constants.
        content: the model.
    """

    key: str
    content: bytes


class CostTable:
    """Measured times in nanoseconds, by what was measured.

    Args:
        spec: the delegate and threads that it is for.
        timer: what measures; ``None`` for the interpreter of this process.
        measured_on: what it was measured on: ``host`` facts and ``engine``; ``None`` for this machine.
        entries: nanoseconds by key; ``None`` for what the interpreter cannot run.
    """

    def __init__(
        self,
        spec: DelegateSpec,
        *,
        timer: Timer | None = None,
        measured_on: Mapping[str, Any] | None = None,
        entries: Mapping[str, float | None] | None = None,
    ) -> None:
        self._spec = spec
        self.timer: Timer = timer or Here(spec)
        self._measured_on = dict(measured_on) if measured_on is not None else None
        self._entries = dict(entries or {})
        self._origin = "the cost table"

    @classmethod
    def open(cls, path: Path | None, spec: DelegateSpec, timer: Timer | None = None) -> CostTable:
        """Read a table, or begin one.

        Args:
            path: a file that ``save`` wrote; one that does not exist, or ``None``, gives an empty table.
            spec: the delegate and threads that the conversion is for.
            timer: what measures; ``None`` for the interpreter of this process.

        Raises:
            DataError: the file is not a cost table.
            OptionError: it is one of another delegate.
        """
        if path is None:
            return cls(spec, timer=timer)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls(spec, timer=timer)
        except OSError as error:
            raise from_os_error(error, path, "read", DataError) from error
        found = _parsed(content, path)
        wanted = {"delegate": spec.kind, "threads": spec.threads or 1}
        seen = {name: found.get(name) for name in wanted}
        if seen != wanted:
            raise OptionError(
                f"{path} was measured on the delegate {seen['delegate']} with {seen['threads']} threads, and this conversion is "
                f"for {wanted['delegate']} with {wanted['threads']}: give another file, which is made when it does not exist."
            )
        table = cls(spec, timer=timer, measured_on=found["measured_on"], entries=found["entries"])
        table._origin = str(path)
        return table

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all; an older one is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        write_whole(path, (json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n").encode(), overwrite=True)

    def to_json(self) -> dict[str, Any]:
        """The file's form."""
        return {
            "schema": SCHEMA,
            "delegate": self._spec.kind,
            "threads": self._spec.threads or 1,
            "measured_on": self.measured_on,
            "entries": dict(sorted(self._entries.items())),
        }

    @property
    def measured_on(self) -> dict[str, Any]:
        """The machine and interpreter that the times are of."""
        if self._measured_on is None:
            self._measured_on = _this_machine(self._engine_version())
        return self._measured_on

    @property
    def sha256(self) -> str:
        """The digest of the content, by which a manifest names it."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def of_this_machine(self) -> bool:
        """Whether more can be measured: a table of another machine can only be read."""
        return self._measured_on is None or self._measured_on == _this_machine(self._engine_version())

    def check_timer(self) -> None:
        """See that what measures works, before much else is done.

        Raises:
            OptionError: it does not.
        """
        self._engine_version()

    def ns(self, key: str) -> float | None:
        """What an operator takes beyond an empty run; ``None`` where it cannot run. It must have been measured."""
        value = self._entries[key]
        return None if value is None else max(0.0, value - (self._entries[_EMPTY_KEY] or 0.0))

    def measure(self, wanted: Sequence[Sequence[Form]], progress: Progress = lambda done, total: None) -> None:
        """Measure what the table lacks.

        Args:
            wanted: forms that are to be compared stand together.
            progress: called with forms done and in all.

        Raises:
            OptionError: something is missing, and the table is another machine's.
        """
        missing: list[list[Form]] = [[_empty_run()]] if _EMPTY_KEY not in self._entries else []
        known = set(self._entries)
        for forms in wanted:
            group = list({form.key: form for form in forms if form.key not in known}.values())
            known.update(form.key for form in group)
            if group:
                missing.append(group)
        total = sum(len(group) for group in missing)
        if total == 0:
            return
        self._require_this_machine(total)
        done = 0
        while missing:
            batch: list[Form] = []
            while missing and (not batch or len(batch) + len(missing[0]) <= _TOGETHER):
                batch += missing.pop(0)
            times = self.timer.timed({form.key: form.content for form in batch}, rounds=_ROUNDS, round_ns=_ROUND_NS)
            self._entries.update(times)
            done += len(batch)
            progress(done, total)

    def beside(self, models: Mapping[str, bytes]) -> dict[str, float | None]:
        """Whole models measured in turn, as they are compared.

        Args:
            models: flatbuffers by any name.

        Returns:
            Nanoseconds of one run by name; ``None`` for what the interpreter cannot run, and for all where the table is another
            machine's and does not have them.
        """
        digests = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in models.items()}
        together = " ".join(sorted(set(digests.values())))
        keys = {name: f"model {digest} beside {together}" for name, digest in digests.items()}
        if any(key not in self._entries for key in keys.values()):
            if not self.of_this_machine:
                return dict.fromkeys(models)
            contents = {keys[name]: content for name, content in models.items()}
            self._entries.update(
                self.timer.timed(contents, rounds=_MODEL_ROUNDS, round_ns=_MODEL_ROUND_NS, limit_ns=_MODELS_NS)
            )
        return {name: self._entries[key] for name, key in keys.items()}

    def _require_this_machine(self, missing: int) -> None:
        here = _this_machine(self._engine_version())
        if self.measured_on != here:
            raise OptionError(
                f"{self._origin} lacks {missing} times, and was measured on another machine or interpreter "
                f"({_named(self.measured_on)}) than this one ({_named(here)}): times of two machines do not go together. Give another "
                "file, which is made when it does not exist, or complete this one where it was made."
            )

    def _engine_version(self) -> str:
        return self.timer.version(_empty_run().content)


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    wrong = DataError(
        f"{path} is not a cost table: a JSON file that edgekit wrote was expected. Give another name, and it is made."
    )
    try:
        found: dict[str, Any] = json.loads(content)
        schema, measured_on, entries = found["schema"], found["measured_on"], found["entries"]
    except (ValueError, KeyError, TypeError) as error:
        raise wrong from error
    if isinstance(schema, int) and schema > SCHEMA:
        raise DataError(
            f"{path} is a cost table of schema {schema}; this edgekit reads up to {SCHEMA}: update edgekit."
        )
    if not isinstance(measured_on, dict) or not isinstance(entries, dict) or not all(map(_is_time, entries.values())):
        raise wrong
    return found


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < math.inf)


def _this_machine(engine: str) -> dict[str, Any]:
    facts = dict(read_host().items())
    host = {name: None if (fact := facts.get(name)) is None else fact.value for name in _HOST_FACTS}
    return {"host": host, "engine": engine}


def _named(measured_on: Mapping[str, Any]) -> str:
    host = measured_on.get("host")
    model = host.get("cpu_model") if isinstance(host, dict) else None
    return f"{model or 'unknown processor'}, {measured_on.get('engine')}"


def form_of(whole: Sliceable, op: Op) -> Form:
    """One operator of a model as a model of its own.

    Args:
        whole: the model.
        op: one of its operators.
    """
    return Form(_key(whole.main, op), whole.cut([op.index], op.outputs).content)


def _key(main: Subgraph, op: Op) -> str:
    def one(index: int) -> str:
        if index < 0:
            return "none"
        tensor = main.tensors[index]
        text = f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]"
        if tensor.data is None:
            return text
        small = tensor.dtype in ("int32", "int64", "bool") and tensor.quant is None and tensor.elements <= _FEW
        return f"{text}={tensor.array().reshape(-1).tolist()}" if small else f"{text}*"

    sides = (", ".join(one(index) for index in side) for side in (op.inputs, op.outputs))
    return f"{op.name}({' -> '.join(sides)}){_options(op)}"


def _options(op: Op) -> str:
    """The options' own bytes, field by field as the file has them."""
    if op.options is None or not any(op.options.fields):
        return ""
    # Options are a few scalars; what is behind a vector's offset does not change how long the operators here take.
    return f" options {','.join(str(op.option(field, 'b', 0)) for field in range(len(op.options.fields)))}"


def _empty_run() -> Form:
    return Form(_EMPTY_KEY, _change("float32", "float32", 1, reshape=True))


def changes(source: str, result: str) -> list[Form]:
    """A change of type at the sizes that are measured.

    Args:
        source: ``int8``, ``int16`` or ``float32``.
        result: another of these.
    """
    return [Form(f"change {source} -> {result} [{size}]", _change(source, result, size)) for size in _SIZES]


def change_ns(table: CostTable, source: str, result: str, elements: int) -> float | None:
    """What a change of type takes at any size.

    Args:
        table: one that has measured ``changes(source, result)``.
        source: the type before.
        result: the type after.
        elements: how many values.
    """
    small, large = (table.ns(form) for form in (f"change {source} -> {result} [{size}]" for size in _SIZES))
    if small is None or large is None:
        return None
    slope = max(0.0, large - small) / (_SIZES[1] - _SIZES[0])
    return max(0.0, small + slope * (elements - _SIZES[0]))


def _change(source: str, result: str, elements: int, *, reshape: bool = False) -> bytes:
    """A model that changes the type of a row of values; or one that does nothing, where ``reshape`` is set."""
    types = editing.schema()
    model, main, code, op = types.ModelT(), types.SubGraphT(), types.OperatorCodeT(), types.OperatorT()
    name = "RESHAPE" if reshape else "DEQUANTIZE" if result == "float32" else "QUANTIZE"
    code.builtinCode = code.deprecatedBuiltinCode = getattr(types.BuiltinOperator, name)
    code.version = 1 if reshape else 3
    main.tensors, main.name = [], b"main"
    for number, dtype in enumerate((source, result)):
        tensor = types.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = b"tensor%d" % number, [1, elements], True
        tensor.type, tensor.buffer = getattr(types.TensorType, dtype.upper()), 0
        if dtype != "float32":
            tensor.quantization = types.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.02 / (1 + number)], [0]
        main.tensors.append(tensor)
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    options = f"{name.capitalize()}Options"
    op.builtinOptionsType = getattr(types.BuiltinOptions, options)
    op.builtinOptions = getattr(types, f"{options}T")()
    if reshape:
        op.builtinOptions.newShape = [1, elements]
    main.inputs, main.outputs, main.operators = [0], [1], [op]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [main], [code], [types.BufferT()]
    return editing.write(model)
