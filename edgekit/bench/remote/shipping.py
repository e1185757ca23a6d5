"""Brings files to a device: what it has already stays there, what was cut off goes on where it ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.bench.remote.base import Base
from edgekit.bench.remote.errors import ConnectionLost, RemoteError
from edgekit.bench.remote.needs import Device, Requirement
from edgekit.bench.remote.ssh import Link
from edgekit.bench.remote.wheels import Wheel, downloaded, from_folder, sent_before
from edgekit.report.units import size_text
from edgekit.version import __version__

Progress = Callable[[str, int, int], None]

#: So much goes in one piece; each is answered, so that a full disk is known at once.
_PIECE = 1 << 19
#: What is left free on the device beyond what is sent.
_SPARE_BYTES = 20_000_000
#: What is smaller is gone before it could be shown.
_SMALL_BYTES = 100_000
#: Unpacking and the first import take minutes on a slow card.
_SLOW_S = 900.0


class Shipping:
    """Sends files over a connection.

    Args:
        link: the connection.
        device: what is at its other end.
        key: of the job that it is for, so that two who send the same are not in each other's way.
        progress: called as ``progress(step, done, total)``, in kilobytes.

    Attributes:
        sent_bytes: how much was sent.
    """

    def __init__(self, link: Link, device: Device, key: str, progress: Progress) -> None:
        self._link = link
        self._device = device
        self._key = key
        self._progress = progress
        self.sent_bytes = 0

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Ask the agent, and raise what it refuses.

        Args:
            do: see ``Link.ask``.
            values: see there.

        Raises:
            RemoteError: it refused.
            ConnectionLost: it did not answer.
        """
        answer = self._link.ask(do, **values)
        if "error" in answer:
            raise refusal(answer, self._link, self._device)
        return answer

    def packages(self, base: Base, engine: str | None, wheels: Path | None) -> list[str]:
        """Have everything there that measuring needs, and see that it can be imported.

        Args:
            base: this edgekit.
            engine: the interpreter that was asked for, or ``None`` for any.
            wheels: a folder with wheels; ``None`` to download them.

        Returns:
            The packages that go on Python's path there; none where all is installed.

        Raises:
            RemoteError: something is missing, or cannot be imported there.
            ConnectionLost: the connection ended.
        """
        have = self.ask("have")
        archives: dict[
            str, tuple[str, bytes | Path, int]
        ] = {}  # hash, content and unpacked size of what may have to be sent
        used: list[str] = []
        if self._device.found.get("edgekit") != base.source_hash:
            used.append(f"edgekit-{__version__}-{base.source_hash[:16]}")
            archives[used[0]] = (hashlib.sha256(base.wheel).hexdigest(), base.wheel, 5 * len(base.wheel))
        lacking = self._device.lacks(engine)
        before = {
            item: sent_before(have["present"], item, self._device) if wheels is None else None for item in lacking
        }
        used += [name for name in before.values() if name is not None]
        for wheel in self._wheels([item for item in lacking if before[item] is None], wheels):
            used.append(wheel.folder(self._device))
            archives[used[-1]] = (wheel.sha256, wheel.path, wheel.unpacked_bytes)
        missing = [name for name in archives if name not in have["present"]]
        sizes = sum(_size(archives[name][1]) + archives[name][2] for name in missing)
        self._room(sizes, have["free_bytes"])
        self.files({archives[name][0]: archives[name][1] for name in missing}, ["incoming", self._key])
        for number, name in enumerate(missing):
            self._progress(f"Unpacking on {self._link.destination.host}", number, len(missing))
            self.ask("unpack", folder=["incoming", self._key], sha256=archives[name][0], name=name, silence_s=_SLOW_S)
        if missing:
            self._progress(f"Unpacking on {self._link.destination.host}", len(missing), len(missing))
        modules = self._device.modules(engine, lacking)
        self._progress(f"Importing on {self._link.destination.host}", 0, 0)
        answer = self._link.ask("check", modules=modules, packages=used, silence_s=_SLOW_S)
        if "error" in answer:
            where = f"Nothing that was installed there by hand is touched; `edgekit bench clean {self._link.destination}` removes what edgekit put there."
            raise RemoteError(
                f"{', '.join(modules)} cannot be imported on {self._link.destination} ({self._device}): {answer['error']}. {where}"
            )
        return used

    def _wheels(self, lacking: Sequence[Requirement], folder: Path | None) -> list[Wheel]:
        if not lacking:
            return []
        if folder is not None:
            return from_folder(folder, lacking, self._device)
        self._progress(f"Fetching wheels for {self._device.machine}, Python {self._device.abi}", 0, 0)
        return downloaded(lacking, self._device)

    def files(self, files: Mapping[str, bytes | Path], folder: Sequence[str]) -> None:
        """Send files that are not there.

        Args:
            files: by SHA-256.
            folder: where to, below edgekit's folder there.

        Raises:
            RemoteError: there is no room, or they cannot be written.
            ConnectionLost: the connection ended.
        """
        if not files:
            return
        sizes = self.ask("sizes", folder=list(folder), files=list(files))["sizes"]
        missing = [name for name in files if sizes[name] >= 0]
        total = sum(_size(files[name]) - sizes[name] for name in missing)
        self._room(total, None)
        step, done = f"Copying {size_text(total)} to {self._link.destination.host}", 0
        for name in missing:
            source = files[name]
            data = source if isinstance(source, bytes) else source.read_bytes()
            offset = min(int(sizes[name]), len(data))
            again = offset > 0
            while True:
                piece = data[offset : offset + _PIECE]
                if total > _SMALL_BYTES:
                    self._progress(step, done // 1000, total // 1000)
                answer = self._link.ask(
                    "put", folder=list(folder), sha256=name, offset=offset, size=len(data), payload=piece
                )
                self.sent_bytes += len(piece)
                done += len(piece)
                offset += len(piece)
                if answer.get("whole"):
                    break
                if answer.get("kind") == "damaged" and again:  # what lay there was not the beginning of this file
                    offset, again, total = 0, False, total + len(data)
                elif "error" in answer:
                    raise refusal(answer, self._link, self._device)
        if total > _SMALL_BYTES:
            self._progress(step, total // 1000, total // 1000)

    def _room(self, needed: int, free: int | None) -> None:
        free = self._device.free_bytes if free is None else free
        if needed and needed + _SPARE_BYTES > free:
            raise RemoteError(
                f"{self._link.destination} has {size_text(free)} free in {self._device.root}, and {size_text(needed + _SPARE_BYTES)} are "
                "needed: make room there, or name a folder with more with --remote-folder."
            )


def _size(source: bytes | Path) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def refusal(answer: Mapping[str, Any], link: Link, device: Device | None = None) -> RemoteError:
    """What the agent refuses, as an error that says what to do.

    Args:
        answer: its answer.
        link: the connection.
        device: what is known of the machine.
    """
    text, kind, where = answer["error"], answer.get("kind"), link.destination
    if kind == "full":
        return RemoteError(
            f"the disk of {where} is full ({text}): make room there, or name another folder with --remote-folder."
        )
    if kind == "denied":
        return RemoteError(
            f"edgekit's folder on {where} cannot be written ({text}): give that user a home folder that can, or name another folder with "
            "--remote-folder."
        )
    if kind == "damaged":
        return ConnectionLost(f"{where}: {text}.")
    return RemoteError(f"{where} refused: {text}.")
