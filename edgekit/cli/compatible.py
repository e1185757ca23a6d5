"""How it is found out and printed whether a device's runtimes have what a file needs: ``edgekit inspect --device``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.cli.output import print_pairs, print_table
from edgekit.modelfile import ModelFile

if TYPE_CHECKING:
    from edgekit_convert.compat import Compatibility
    from edgekit_convert.edgetpu import EdgetpuReport


@dataclass(frozen=True)
class Compatible:
    """What was found out.

    Attributes:
        runtimes: the file against the device's runtimes.
        edgetpu: what the Edge TPU compiler would make of it; ``None`` where the device has none, or the file was compiled already.
        compiled: how many operators stayed on the CPU, of a file that was compiled for a device with an Edge TPU.
    """

    runtimes: Compatibility
    edgetpu: EdgetpuReport | None
    compiled: int | None

    @property
    def passed(self) -> bool:
        """Whether nothing is known that keeps the device from running the file."""
        return self.runtimes.passed is not False

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            **self.runtimes.to_json(),
            "edgetpu": self.edgetpu.to_json() if self.edgetpu is not None else None,
            "edgetpu_operators_on_cpu": self.compiled,
        }


def compare(model: ModelFile, device: str) -> Compatible:
    """Compare a file with a device, on paper: nothing is loaded.

    Args:
        model: the file.
        device: a profile's id or file.

    Raises:
        ProfileError: there is no such profile, or it is not valid.
        ConversionError: ai-edge-litert, which takes models apart, is not installed.
    """
    from edgekit_convert import edgetpu
    from edgekit_convert.compat import compatibility
    from edgekit_profiles import load_profile
    from edgekit_profiles.obstacles import EDGETPU_OPERATOR, is_edgetpu_model

    profile = load_profile(device)
    found = compatibility(model, profile)
    if not any(item.kind == "edgetpu" for item in profile.accelerators):
        return Compatible(found, None, None)
    if is_edgetpu_model(model):
        ops = model.graph.main.ops
        return Compatible(found, None, sum(1 for op in ops if op.name != EDGETPU_OPERATOR))
    return Compatible(found, edgetpu.check(model), None)


def print_compatible(found: Compatible) -> None:
    """Print a line for each runtime, what is missing, and what the Edge TPU would take."""
    runtimes = found.runtimes
    print_pairs(
        f"On {runtimes.device}",
        [
            *((item.name, _verdict(item.has_all) + _pythons(item.wheel.pythons)) for item in runtimes.runtimes),
            ("oldest runtime", runtimes.oldest_text),
            *(("note", note) for item in runtimes.runtimes for note in dict.fromkeys(item.notes)),
            *(("note", note) for note in runtimes.notes),
            *([("Edge TPU", f"{found.edgetpu.summary()}.")] if found.edgetpu is not None else []),
            *([("Edge TPU", _compiled(found.compiled))] if found.compiled is not None else []),
        ],
    )
    missing = [(item.name, str(row.op), _has(row.has), row.why) for item in runtimes.runtimes for row in item.missing]
    if missing:
        print_table("Missing operators", ("runtime", "operator", "it has", "remedy"), missing)
    unknown = [(item.name, str(op)) for item in runtimes.runtimes for op in item.unknown]
    if unknown:
        print_table("Not known", ("runtime", "operator"), unknown)
    if found.edgetpu is not None and found.edgetpu.left:
        print_table(
            "Not on the Edge TPU",
            ("operator", "times", "why"),
            [(name, str(count), f"{why}.") for name, count, why in found.edgetpu.groups()],
        )


def _verdict(has_all: bool | None) -> str:
    if has_all is None:
        return "it is not known whether it has every operator"
    return "has every operator in the version needed" if has_all else "cannot run the file: operators are missing"


def _pythons(pythons: tuple[str, ...] | None) -> str:
    return f" (for Python {', '.join(pythons)})" if pythons else ""


def _compiled(on_cpu: int) -> str:
    if on_cpu == 0:
        return "the file was compiled for it, and all of it runs there"
    return f"the file was compiled for it; {on_cpu} operator{'s run' if on_cpu > 1 else ' runs'} on the CPU"


def _has(version: int | None) -> str:
    return "-" if version is None else "none" if version == 0 else f"up to version {version}"
