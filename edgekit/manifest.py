"""The manifest: what travels inside the model file, and how it is packed there.

A model file is a standard flatbuffer with a ZIP appended, as TensorFlow Lite metadata does for
associated files: ``edgekit.json`` (this manifest), ``labels.txt`` and ``golden.npz``. One missing byte at the end makes a
ZIP invisible, so the flatbuffer's own ``metadata`` table announces it: the entry ``edgekit`` holds 16 bytes,
the magic ``EKMF``, a 32-bit schema number and the flatbuffer's length as 64-bit, little-endian.
An entry without a manifest behind it is a damaged file, and so is a manifest without an entry.

Every byte is covered: the flatbuffer by the manifest's ``sha256``, the ZIP by the comment at its end, which holds the SHA-256 of
all ZIP bytes before it. Schema 1 of the announcement is without that seal; such files are read as well.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgekit.digest import sha256_hex
from edgekit.errors import ModelFileError, OptionError
from edgekit.records import Record

if TYPE_CHECKING:
    from edgekit.flatbuffer import Content
    from edgekit.preprocess import Preprocessing

SCHEMA = 1
ENTRY = "edgekit"
MANIFEST_NAME = "edgekit.json"
LABELS_NAME = "labels.txt"
GOLDEN_NAME = "golden.npz"
_ANNOUNCEMENT = struct.Struct("<4sIQ")
_MAGIC = b"EKMF"
#: The announcement's schema number: 1 is without a seal, 2 with it.
SEALED = 2
#: What the ZIP's comment says, before the 64 digits.
_SEAL = b"edgekit sha256 "
_SEAL_BYTES = len(_SEAL) + 64
#: The end of a file, in which the list of the ZIP's files lies.
_TAIL = 4096
#: The ZIP format's local file header, and the length of its end record without a comment (APPNOTE 4.3.7 and 4.3.16).
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_END_OF_ZIP = 22
#: A manifest is text about a model; more than this is not one.
_MAX_BYTES = 64 * 1024 * 1024
#: The ZIP format's earliest date, so that the same input gives the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
#: Golden data are compressed when that leaves less than this share of them.
_PAYS = 0.9


_AGAIN = "Copy or download the file again, or convert the model again."
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Manifest(Record):
    """What edgekit knows about a model file, written into the file itself.

    Attributes:
        sha256: of the flatbuffer part.
        preprocessing: by input name.
        labels: class names in output order; empty where unknown.
        recipe: what was asked for and done: ``name``, ``io`` and more.
        source: what the model was made from: ``kind``, ``name``, ``float_sha256``; ``layouts`` and ``output_layouts`` where the
            original has its axes in another order: by tensor name ``axes``, which of the original's axes each axis here is, and what
            the orders are called, ``original`` and ``file``, such as NCHW and NHWC.
        calibration: ``fingerprint``, ``count`` and the findings of the audit.
        verification: the figures of the proof, as ``VerifyReport.to_json`` gives them.
        runtime: ``proven``: a runtime that was seen to load and run the file; ``oldest``: the oldest that does.
        golden: what ``golden.npz`` behind the flatbuffer holds, as ``Golden.to_json`` gives it; empty without one.
        tools: versions of what made the file.
    """

    sha256: str
    preprocessing: Mapping[str, Preprocessing] = _NOTHING
    labels: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = _NOTHING
    source: Mapping[str, Any] = _NOTHING
    calibration: Mapping[str, Any] = _NOTHING
    verification: Mapping[str, Any] = _NOTHING
    runtime: Mapping[str, Any] = _NOTHING
    golden: Mapping[str, Any] = _NOTHING
    tools: Mapping[str, str] = _NOTHING

    def to_json(self) -> dict[str, Any]:
        """The content of ``edgekit.json``."""
        return {
            "schema": SCHEMA,
            "sha256": self.sha256,
            "preprocessing": {name: item.to_json() for name, item in self.preprocessing.items()},
            "labels": list(self.labels),
            "recipe": dict(self.recipe),
            "source": dict(self.source),
            "calibration": dict(self.calibration),
            "verification": dict(self.verification),
            "runtime": dict(self.runtime),
            "golden": dict(self.golden),
            "tools": dict(self.tools),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], origin: str) -> Manifest:
        """Read ``edgekit.json``.

        Raises:
            ModelFileError: it is of a newer schema, or not a manifest.
        """
        schema = data.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise ModelFileError(f"{origin}: its manifest has schema {schema!r}, a positive integer was expected.")
        if schema > SCHEMA:
            raise ModelFileError(
                f"{origin}: its manifest has schema {schema}, this edgekit reads up to {SCHEMA}. Update edgekit."
            )
        try:
            return cls(
                sha256=str(data["sha256"]),
                preprocessing=_preprocessing(data["preprocessing"]),
                labels=tuple(str(label) for label in data.get("labels", ())),
                recipe=dict(data.get("recipe", {})),
                source=dict(data.get("source", {})),
                calibration=dict(data.get("calibration", {})),
                verification=dict(data.get("verification", {})),
                runtime=dict(data.get("runtime", {})),
                golden=dict(data.get("golden", {})),
                tools=dict(data.get("tools", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OptionError) as error:
            raise ModelFileError(
                f"{origin}: its manifest is not valid ({error!r}). Convert the model again."
            ) from error


def _preprocessing(items: Mapping[str, Any]) -> dict[str, Preprocessing]:
    if not items:
        return {}
    from edgekit.preprocess import Preprocessing

    return {name: Preprocessing.from_json(item) for name, item in items.items()}


def announcement(flatbuffer_bytes: int, *, sealed: bool = True) -> bytes:
    """The 16 bytes of the flatbuffer's ``edgekit`` metadata entry; without the seal they are as edgekit 0.1 wrote them."""
    return _ANNOUNCEMENT.pack(_MAGIC, SEALED if sealed else 1, flatbuffer_bytes)


def append(flatbuffer: bytes, manifest: Manifest, golden: bytes | None = None) -> bytes:
    """Return the model file: ``flatbuffer``, then the ZIP with the manifest, the labels and the golden data.

    Args:
        flatbuffer: with an ``edgekit`` metadata entry that holds its own length.
        manifest: what to write; its ``sha256`` must be the flatbuffer's.
        golden: ``Golden.content``; the manifest's ``golden`` must be the same ``Golden``'s ``to_json()``.
    """
    import zipfile

    stream = io.BytesIO()
    stream.write(flatbuffer)
    # "w" starts where the stream stands; "a" would look for a ZIP to go on with, and find one in a constant.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(MANIFEST_NAME, _ZIP_DATE), text.encode())
        if manifest.labels:
            lines = "".join(f"{label}\n" for label in manifest.labels)
            archive.writestr(zipfile.ZipInfo(LABELS_NAME, _ZIP_DATE), lines.encode())
        if golden is not None:
            # Noise does not shrink, and unpacking it would cost a device time for nothing.
            pays = len(zlib.compress(golden, 9)) < _PAYS * len(golden)
            method = zipfile.ZIP_DEFLATED if pays else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(GOLDEN_NAME, _ZIP_DATE), golden, method, 9)
        archive.comment = _SEAL + bytes(64)
    whole = stream.getbuffer()[:-_SEAL_BYTES]
    return bytes(whole) + _SEAL + sha256_hex(whole[len(flatbuffer) :]).encode()


def _first_entry(content: Content, start: int) -> bytes | None:
    """The manifest where ``append`` put it: first in the ZIP, not compressed. ``None`` when the ZIP is of another form.

    Spares a device the import of ``zipfile``, which takes longer than loading a small model.
    """
    if len(content) < start + _LOCAL_HEADER.size + _END_OF_ZIP:
        return None
    magic, _, flags, method, _, _, crc, size, full, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(content, start)
    first = start + _LOCAL_HEADER.size
    name = content[first : first + name_bytes]
    begin = first + name_bytes + extra_bytes
    simple = magic == b"PK\x03\x04" and flags & 0x09 == 0 and method == 0 and size == full
    if not (_ends_well(content) and simple and name == MANIFEST_NAME.encode() and begin + size <= len(content)):
        return None
    text = content[begin : begin + size]
    return text if zlib.crc32(text) == crc else None


def _ends_well(content: Content) -> bool:
    """Whether a ZIP's end record is where the file ends, before the seal or without one."""
    places = (len(content) - _END_OF_ZIP, len(content) - _END_OF_ZIP - _SEAL_BYTES)
    return any(content[place : place + 4] == b"PK\x05\x06" for place in places)


def _seal(content: Content, start: int) -> str | None:
    """What is wrong with the seal of the ZIP at ``start``; ``None`` when it holds."""
    end = len(content) - _SEAL_BYTES
    if end < start or content[end : end + len(_SEAL)] != _SEAL:
        return "the file does not end as it was written"
    with memoryview(content)[start:end] as sealed:
        if sha256_hex(sealed).encode() != content[end + len(_SEAL) :]:
            return "what lies behind the flatbuffer was changed after it was written"
    return None


def _from_zip(content: Content, start: int, name: str = MANIFEST_NAME) -> bytes:
    """The manifest, or another file, from a ZIP of any form.

    Raises:
        ValueError: there is no ZIP, it is damaged, or the file is out of all proportion.
        KeyError: the ZIP has no such file.
    """
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(content[start:])) as archive:
            info = archive.getinfo(name)
            if info.file_size > _MAX_BYTES:
                raise ValueError(f"it claims {info.file_size} bytes")
            return archive.read(info)
    except KeyError:
        raise
    except Exception as error:  # each decompressor that a damaged header can name has errors of its own
        raise ValueError(str(error)) from error


def announced_bytes(metadata: Mapping[str, bytes]) -> int:
    """How long the flatbuffer is that announces a manifest; 0 where it announces none, or not as it should."""
    entry = metadata.get(ENTRY, b"")
    if len(entry) != _ANNOUNCEMENT.size:
        return 0
    length: int = _ANNOUNCEMENT.unpack(entry)[2]
    return length


def read(content: Content, metadata: Mapping[str, bytes], origin: str) -> Manifest | None:
    """Read the manifest behind a flatbuffer.

    Args:
        content: the whole file, or its mapping.
        metadata: the flatbuffer's.
        origin: what to call the file in messages.

    Returns:
        The manifest, whose ``sha256`` is that of the flatbuffer; ``None`` where the file announces none.

    Raises:
        ModelFileError: a manifest is announced and missing, does not belong to this flatbuffer, or is not announced.
    """
    manifest = read_claims(content, metadata, origin)
    if manifest is not None:
        with memoryview(content)[: announced_bytes(metadata)] as flatbuffer:
            check_hash(manifest, sha256_hex(flatbuffer), origin)
    return manifest


def check_hash(manifest: Manifest, sha256: str, origin: str) -> None:
    """Raise when a manifest is another flatbuffer's.

    Args:
        manifest: the manifest.
        sha256: the flatbuffer's.
        origin: what to call the file in messages.

    Raises:
        ModelFileError: it is.
    """
    if manifest.sha256 != sha256:
        raise ModelFileError(
            f"{origin} is damaged: its flatbuffer has sha256 {sha256[:16]}…, its manifest says {manifest.sha256[:16]}…. {_AGAIN}"
        )


def read_claims(content: Content, metadata: Mapping[str, bytes], origin: str) -> Manifest | None:
    """``read`` but for the hash of the flatbuffer, which ``check_hash`` must follow: until then the manifest may be another file's.

    Args:
        content: the whole file, or its mapping.
        metadata: the flatbuffer's.
        origin: what to call the file in messages.

    Raises:
        ModelFileError: a manifest is announced and missing, or is not announced.
    """
    entry = metadata.get(ENTRY)
    again = _AGAIN
    if entry is None:
        tail = content[max(0, len(content) - _TAIL) :]
        if MANIFEST_NAME.encode() in tail or _SEAL in tail or any(data[:4] == _MAGIC for data in metadata.values()):
            raise ModelFileError(
                f"{origin} is damaged: edgekit wrote it with a manifest, which its flatbuffer no longer announces. {again}"
            )
        return None
    if len(entry) != _ANNOUNCEMENT.size or entry[:4] != _MAGIC:
        raise ModelFileError(f"{origin} is damaged: its edgekit entry is not valid. {again}")
    _, schema, length = _ANNOUNCEMENT.unpack(entry)
    if length > len(content):
        raise ModelFileError(f"{origin} is cut short: {len(content)} bytes of a {length}-byte flatbuffer. {again}")
    if not 1 <= schema <= SEALED:
        raise ModelFileError(
            f"{origin} announces its manifest in schema {schema}, this edgekit reads 1 to {SEALED}. Update edgekit, or {again[0].lower()}{again[1:]}"
        )
    wrong = _seal(content, length) if schema == SEALED else None
    if wrong is not None:
        raise ModelFileError(f"{origin} is damaged or cut short: it announces a manifest, and {wrong}. {again}")
    try:
        text = _first_entry(content, length)
        data = json.loads(_from_zip(content, length) if text is None else text)
    except (KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(
            f"{origin} is damaged or cut short: it announces a manifest, and none can be read ({error}). {again}"
        ) from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{origin}: its manifest is not a JSON object. {again}")
    return Manifest.from_json(data, origin)


def read_golden(content: Content, entry: bytes | None) -> bytes | None:
    """The golden data behind a flatbuffer whose manifest was read before; ``None`` where there are none.

    Args:
        content: the whole file.
        entry: the flatbuffer's ``edgekit`` metadata entry, or ``None``.

    Raises:
        ValueError: they are there and damaged.
    """
    if entry is None:
        return None
    _, _, length = _ANNOUNCEMENT.unpack(entry)
    try:
        return _from_zip(content, length, GOLDEN_NAME)
    except KeyError:
        return None
