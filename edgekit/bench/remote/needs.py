"""What a device is, and what it lacks of the base wheel and its dependencies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bench.remote.errors import RemoteError

_LITERT, _TFLITE = "ai_edge_litert", "tflite_runtime"
#: Engine name → the module that must be there.
_ENGINE_MODULES = {
    "litert": _LITERT,
    "litert-compiled": _LITERT,
    "tflite-runtime": _TFLITE,
    "tensorflow": "tensorflow",
}
#: tflite-runtime 2.14.0 is the last one; it has wheels up to this Python, and for numpy 1.
_TFLITE_PYTHON = (3, 11)
#: What a 64-bit kernel calls itself below 32-bit programs, and what those are.
_NARROW = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}


@dataclass(frozen=True)
class Requirement:
    """A distribution in the versions that serve.

    Attributes:
        name: the distribution's.
        limits: such as ``">=1.23.2,<2"``; empty for any.
    """

    name: str
    limits: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.limits}"

    def allows(self, version: str) -> bool:
        """Whether a version serves; one that is not known does.

        Args:
            version: such as ``"2.1.0"``.
        """
        found = numbers(version)
        if not found:
            return True
        for limit in filter(None, self.limits.split(",")):
            operator, bound = limit[:2] if limit[1] == "=" else limit[0], numbers(limit.lstrip("<>="))
            width = max(len(found), len(bound))
            left, right = (value + (0,) * (width - len(value)) for value in (found, bound))
            if not {">=": left >= right, "==": left == right, "<": left < right}[operator]:
                return False
        return True


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version.

    Args:
        version: such as ``"2.1.0rc1"``, which gives 2, 1, 0.
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@dataclass(frozen=True)
class Device:
    """What the other machine said of itself.

    Attributes:
        python: its version, three numbers.
        executable: where it is.
        abi: the tag of extensions made for it, such as ``"cp311"``.
        system: such as ``"Linux"``.
        machine: what its programs are made for: ``"x86_64"``, ``"aarch64"``, ``"armv7l"``, …
        glibc: the C library's version; ``None`` for another library than glibc.
        root: edgekit's folder there.
        free_bytes: what the file system of that folder has left.
        found: versions of what can be imported, by module; ``edgekit`` has a hash of its sources in place of a version.
    """

    python: tuple[int, int, int]
    executable: str
    abi: str
    system: str
    machine: str
    glibc: tuple[int, int] | None
    root: str
    free_bytes: int
    found: Mapping[str, str]

    @classmethod
    def of(cls, hello: Mapping[str, Any]) -> Device:
        """Read what the agent says.

        Args:
            hello: its answer.

        Raises:
            RemoteError: it is a Python that no wheels are made for.
        """
        if hello["implementation"] != "cpython":
            raise RemoteError(
                f"{hello['executable']} on the device is {hello['implementation']}: CPython was expected. Name one with --remote-python."
            )
        machine = str(hello["machine"])
        name, version = hello["libc"]
        glibc = numbers(version)
        return cls(
            python=(hello["python"][0], hello["python"][1], hello["python"][2]),
            executable=hello["executable"],
            abi=hello["abi"],
            system=hello["system"],
            machine=_NARROW.get(machine, machine) if hello["bits"] == 32 else machine,
            glibc=(glibc[0], glibc[1]) if name == "glibc" and len(glibc) > 1 else None,
            root=hello["root"],
            free_bytes=hello["free_bytes"],
            found=hello["found"],
        )

    def __str__(self) -> str:
        libc = f"glibc {self.glibc[0]}.{self.glibc[1]}" if self.glibc else "another C library than glibc"
        return f"{self.system} on {self.machine} with Python {'.'.join(map(str, self.python))} and {libc}"

    def lacks(self, engine: str | None) -> list[Requirement]:
        """Distributions that must be sent; the command line's are not needed there.

        Args:
            engine: the interpreter that was asked for, or ``None`` for any.

        Raises:
            RemoteError: it cannot be sent.
        """
        missing = []
        interpreter = self._interpreter(engine)
        numpy = Requirement("numpy", ">=1.23.2,<2" if interpreter == _TFLITE else ">=1.23.2")
        # An interpreter that is installed there came with a numpy that serves it.
        if not self._has("numpy", numpy if interpreter else Requirement("numpy", ">=1.23.2")):
            missing.append(numpy)
        if interpreter == _LITERT:
            # Its other dependencies are imported by its converter's tools only.
            missing += [Requirement("ai-edge-litert", ">=2.1"), Requirement("ml-dtypes")]
        elif interpreter == _TFLITE:
            missing.append(Requirement("tflite-runtime", "==2.14.0"))
        if self.python < (3, 11) and "tomli" not in self.found:
            missing.append(Requirement("tomli", ">=2"))
        return missing

    def modules(self, engine: str | None, sent: Sequence[Requirement]) -> list[str]:
        """What must be importable before anything is measured.

        Args:
            engine: see ``lacks``.
            sent: what was sent.
        """
        if engine is not None:
            module = _ENGINE_MODULES[engine]
        else:
            names = {item.name.replace("-", "_") for item in sent} | set(self.found)
            module = next(name for name in (_LITERT, _TFLITE, "tensorflow") if name in names)
        return ["numpy", "edgekit.bench.remote.job", module if module == "tensorflow" else f"{module}.interpreter"]

    def _has(self, module: str, requirement: Requirement) -> bool:
        return module in self.found and requirement.allows(self.found[module])

    def _interpreter(self, engine: str | None) -> str | None:
        """The interpreter's module that must be sent; ``None`` when there is one."""
        if engine is None:
            if self._has(_LITERT, Requirement("", ">=2.1")) or _TFLITE in self.found or "tensorflow" in self.found:
                return None
            wanted = _TFLITE if self.machine == "armv7l" else _LITERT
        else:
            wanted = _ENGINE_MODULES[engine]
            if self._has(wanted, Requirement("", ">=2.1" if wanted == _LITERT else "")):
                return None
        if wanted == "tensorflow":
            raise RemoteError(
                "TensorFlow is not installed on the device, and is too large to be sent: install it there, or name another engine."
            )
        if wanted == _TFLITE and self.python[:2] > _TFLITE_PYTHON:
            raise RemoteError(
                f"no interpreter has wheels for {self}: tflite-runtime, the only one for 32-bit Arm, has them up to Python "
                f"{_TFLITE_PYTHON[0]}.{_TFLITE_PYTHON[1]}. Name such a Python with --remote-python, or use a 64-bit system."
                if self.machine == "armv7l"
                else f"tflite-runtime has no wheels for Python {self.python[0]}.{self.python[1]}: name an older one with --remote-python."
            )
        return wanted
