"""``compatibility``: a file's operators against the runtimes that a device profile lists; nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.compat.registered import CUSTOM, registered
from edgekit_convert.package.versions import fix_versions, released_in, required_runtime
from edgekit_profiles.obstacles import EDGETPU_OPERATOR
from edgekit_profiles.profile import DeviceProfile, RuntimeWheel

#: The last TensorFlow Lite that was published as tflite-runtime (PyPI, release history of tflite-runtime).
LAST_TFLITE_RUNTIME = "2.14.0"


@dataclass(frozen=True)
class NeededOp:
    """An operator code of a file.

    Attributes:
        name: the operator's name in the schema, or a custom operator's own.
        version: the version that it needs: what the file says, or what the graph needs where that is more.
        declared: the version that the file says.
        count: how many operators use it.
        custom: whether it is a custom operator.
        since: the first TensorFlow Lite that has it, such as ``"2.3.0"``; ``None`` where that is not known.
    """

    name: str
    version: int
    declared: int
    count: int
    custom: bool
    since: str | None

    def __str__(self) -> str:
        return self.name if self.custom else f"{self.name} version {self.version}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Missing:
    """An operator that a runtime does not have.

    Attributes:
        op: which, and in which version.
        has: the last version that the runtime has; 0 for none, ``None`` where that is not known.
        why: what is to be done, or since when a runtime has it, as the rest of a sentence.
    """

    op: NeededOp
    has: int | None
    why: str

    def __str__(self) -> str:
        has = f" (it has up to version {self.has})" if self.has else ""
        return f"{self.op}{has}: {self.why}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"op": self.op.to_json(), "has": self.has, "why": self.why}


@dataclass(frozen=True)
class Runtime:
    """One of a device's runtimes, and what it makes of a file.

    Attributes:
        wheel: what the profile says of it.
        has_all: whether it has every operator in the version needed; ``None`` where that is not known.
        missing: what it does not have.
        unknown: operators of which it is not known whether it has them.
        notes: what else is to be known.
    """

    wheel: RuntimeWheel
    has_all: bool | None
    missing: tuple[Missing, ...]
    unknown: tuple[NeededOp, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Package and version."""
        return f"{self.wheel.package} {self.wheel.version}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "package": self.wheel.package,
            "version": self.wheel.version,
            "pythons": list(self.wheel.pythons) if self.wheel.pythons is not None else None,
            "machines": list(self.wheel.machines) if self.wheel.machines is not None else None,
            "has_all": self.has_all,
            "missing": [item.to_json() for item in self.missing],
            "unknown": [item.to_json() for item in self.unknown],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Compatibility:
    """Whether a device can load a file.

    Attributes:
        device: the profile's id.
        ops: the operator codes of the file.
        runtimes: the device's runtimes, in the profile's order.
        oldest: the oldest TensorFlow Lite that has all operators, such as ``"2.3.0"``; ``None`` where that is not known.
        oldest_text: the same as a sentence, with the packages.
        notes: what else is to be known.
    """

    device: str
    ops: tuple[NeededOp, ...]
    runtimes: tuple[Runtime, ...]
    oldest: str | None
    oldest_text: str
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool | None:
        """Whether one of the device's runtimes has everything; ``None`` where that is not known or none is listed."""
        found = [item.has_all for item in self.runtimes]
        return True if True in found else None if None in found or not found else False

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "device": self.device,
            "passed": self.passed,
            "operators": [item.to_json() for item in self.ops],
            "runtimes": [item.to_json() for item in self.runtimes],
            "oldest": self.oldest,
            "oldest_text": self.oldest_text,
            "notes": list(self.notes),
        }


def compatibility(model: ModelFile, profile: DeviceProfile) -> Compatibility:
    """Compare a file's operators with what a device's runtimes have.

    Args:
        model: the model.
        profile: the device.

    Raises:
        ConversionError: ai-edge-litert, which takes models apart, is not installed.
    """
    ops = needed(model)
    oldest = required_runtime(model.content)
    edgetpu = any(rule.kind == "edgetpu" for rule in profile.delegates)
    notes = [
        f"the file says {item.name} version {item.declared}, and its graph needs {item.version}: an older runtime may load it "
        "and compute something else; `edgekit convert` writes the right versions"
        for item in ops
        if item.declared < item.version
    ]
    if not profile.runtimes:
        what = "the runtime is that of the machine it is attached to: name that one as well"
        known = what if profile.role == "accessory" else "what a program there brings along has to be looked at itself"
        notes.append(f"the profile {profile.id} lists no runtime with wheels for it; {known}")
    return Compatibility(
        device=profile.id,
        ops=ops,
        runtimes=tuple(_judged(wheel, ops, oldest, edgetpu) for wheel in profile.runtimes),
        oldest=oldest,
        oldest_text=_oldest_text(ops, oldest),
        notes=tuple(notes),
    )


def needed(model: ModelFile) -> tuple[NeededOp, ...]:
    """The operator codes of a file with the versions that they need, by name; a runtime refuses for one that is unused as well.

    Args:
        model: the model.

    Raises:
        ConversionError: ai-edge-litert, which takes models apart, is not installed.
    """
    edited = editing.read(model.content)
    declared = [int(code.version) for code in edited.operatorCodes]
    fix_versions(edited)
    counts = [0] * len(declared)
    for subgraph in edited.subgraphs:
        for op in subgraph.operators:
            counts[op.opcodeIndex] += 1
    names = {value: name for name, value in vars(editing.schema().BuiltinOperator).items() if isinstance(value, int)}
    found: dict[tuple[str, int, int], NeededOp] = {}
    for code, before, count in zip(edited.operatorCodes, declared, counts, strict=True):
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")
        custom = name == "CUSTOM"
        if custom:
            text = code.customCode or b""
            name = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        version = int(code.version)
        key = (name, version, before)
        earlier = found[key].count if key in found else 0
        since = None if custom else released_in(name, version)
        found[key] = NeededOp(name, version, before, earlier + count, custom, since)
    return tuple(found[key] for key in sorted(found))


def _judged(wheel: RuntimeWheel, ops: tuple[NeededOp, ...], oldest: str | None, edgetpu: bool) -> Runtime:
    """What one runtime has of a file's operators."""
    table = registered(wheel.package, wheel.version)
    missing: list[Missing] = []
    unknown: list[NeededOp] = []
    notes: list[str] = []
    for op in ops:
        if op.custom:
            if op.name == EDGETPU_OPERATOR and edgetpu:
                notes.append(
                    f"{EDGETPU_OPERATOR} comes with libedgetpu, the Edge TPU's library: use --delegate edgetpu"
                )
            elif op.name not in CUSTOM:
                missing.append(Missing(op, None, _custom_why(op.name)))
        elif table is not None:
            has = table.get(op.name, 0)
            if has < op.version:
                loads = f"; the file says version {op.declared}: it may load and compute wrongly"
                missing.append(Missing(op, has, _since_why(op) + (loads if op.declared <= has else "")))
        elif wheel.package == "tflite-runtime" and op.since is not None:
            if _key(op.since) > _key(wheel.version):
                missing.append(Missing(op, None, _since_why(op)))
        elif not _in_every_newer(wheel, op):
            unknown.append(op)
    if oldest is not None and wheel.package == "tflite-runtime" and not missing and _key(oldest) > _key(wheel.version):
        # Weights with a scale for each row in FULLY_CONNECTED have no version of their own.
        notes.append(f"it has every operator, and may compute wrongly: what the file uses works from {oldest} on")
    has_all = False if missing else None if unknown else True
    return Runtime(wheel, has_all, tuple(missing), tuple(unknown), tuple(notes))


def _in_every_newer(wheel: RuntimeWheel, op: NeededOp) -> bool:
    """Whether a LiteRT that was not asked has an operator: what the last tflite-runtime had no LiteRT has dropped."""
    last = registered("tflite-runtime", LAST_TFLITE_RUNTIME) or {}
    return wheel.package == "ai-edge-litert" and last.get(op.name, 0) >= op.version


def _custom_why(name: str) -> str:
    if name == EDGETPU_OPERATOR:
        return "it comes with libedgetpu, and the device's profile lists no Edge TPU"
    if name.startswith("Flex"):
        return "it needs TensorFlow's Flex delegate, which no wheel of a runtime brings: convert the model without TensorFlow operators"
    return "a custom operator that no runtime brings: its library has to be built and loaded"


def _since_why(op: NeededOp) -> str:
    if op.since is not None:
        return f"the oldest runtime that has it is TensorFlow Lite {op.since}{_packages(op.since)}"
    new = (registered("ai-edge-litert", "2.3.0") or {}).get(op.name, 0)
    if new >= op.version:
        return "ai-edge-litert 2.3.0 has it; which one was the first is not known"
    return "no runtime that is known has it"


def _packages(since: str) -> str:
    """Which packages have a version of TensorFlow Lite."""
    if _key(since) <= _key(LAST_TFLITE_RUNTIME):
        return f" (tflite-runtime from that version up to its last, {LAST_TFLITE_RUNTIME}, and ai-edge-litert)"
    return f" (newer than the last tflite-runtime, {LAST_TFLITE_RUNTIME}; ai-edge-litert 2.3.0 has it)"


def _oldest_text(ops: tuple[NeededOp, ...], oldest: str | None) -> str:
    if oldest is not None:
        return f"TensorFlow Lite {oldest}{_packages(oldest)}"
    foreign = [op.name for op in ops if op.custom and op.name not in CUSTOM]
    if foreign:
        return f"none by itself: {', '.join(foreign)} is no operator of TensorFlow Lite"
    for package, version in (("tflite-runtime", LAST_TFLITE_RUNTIME), ("ai-edge-litert", "2.3.0")):
        table = registered(package, version) or {}
        if all(op.custom or table.get(op.name, 0) >= op.version for op in ops):
            lacking = ", ".join(str(op) for op in ops if not op.custom and op.since is None) or "an operator"
            return f"{package} {version} at the latest: since when there is {lacking} is not known"
    return "none that is known"


def _key(version: str) -> tuple[int, ...]:
    """A version for comparing; what is not a number ends it."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
