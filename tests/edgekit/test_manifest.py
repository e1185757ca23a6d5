"""``edgekit.manifest``: what travels behind the flatbuffer, and how damage to it is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import tiny_models as models
from processes import run_python

from edgekit.digest import sha256_hex
from edgekit.errors import ModelFileError
from edgekit.manifest import ENTRY, SCHEMA, SEALED, Manifest, announcement, append
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing

FLATBUFFER = models.announced(models.dense_int8())
SHA256 = hashlib.sha256(FLATBUFFER).hexdigest()
#: The same as edgekit 0.1 announced it: nothing but the ZIP's own checksums protects what is behind.
UNSEALED = FLATBUFFER.replace(announcement(len(FLATBUFFER)), announcement(len(FLATBUFFER), sealed=False))
UNSEALED_SHA256 = hashlib.sha256(UNSEALED).hexdigest()
FULL = Manifest(
    sha256=SHA256,
    preprocessing={"x": Preprocessing((8, 1), "bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "y": Preprocessing()},
    labels=("cat", "Käse", "三", "a, b"),
    recipe={"name": "int8", "io": "int8", "rewrites": {"squeeze": 2}},
    source={"kind": "keras", "name": "a.keras"},
    calibration={"count": 12, "findings": [{"level": "warning", "code": "x", "text": "…"}]},
    verification={"checks": [], "on": {}},
    runtime={"proven": "tflite-runtime 2.14.0"},
    golden={"count": 3, "sha256": "0"},
    tools={"edgekit": "0"},
)


FULL_UNSEALED = FULL._replace(sha256=UNSEALED_SHA256)


def zipped(text: str | bytes, *, name: str = "edgekit.json", method: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP with one file in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


def manifest_text(change: Callable[[dict[str, Any]], object] = lambda data: None) -> str:
    """The full manifest as JSON, after a change."""
    data = {**FULL.to_json(), "sha256": UNSEALED_SHA256}
    change(data)
    return json.dumps(data)


def unsealed() -> bytes:
    """A file as edgekit 0.1 wrote it."""
    stream = io.BytesIO()
    stream.write(UNSEALED)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("edgekit.json", manifest_text())
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in FULL.labels))
    return stream.getvalue()


class TestRoundTrip:
    """What was written is read again."""

    def test_manifest(self) -> None:
        """Every field comes back equal."""
        assert FULL == ModelFile.read(append(FLATBUFFER, FULL)).manifest

    def test_empty_manifest(self) -> None:
        """A manifest that knows nothing but the flatbuffer's hash comes back as well."""
        assert Manifest(SHA256) == ModelFile.read(append(FLATBUFFER, Manifest(SHA256))).manifest

    def test_json_form(self) -> None:
        """The JSON form has the schema number and every field, in plain types."""
        data = json.loads(json.dumps(FULL.to_json()))
        assert ["schema", *Manifest._fields] == list(data)
        assert FULL == Manifest.from_json(data, "it")

    def test_same_input_gives_same_bytes(self) -> None:
        """No clock and no chance gets into the file."""
        assert append(FLATBUFFER, FULL) == append(FLATBUFFER, FULL)

    def test_the_hash_is_of_the_flatbuffer(self) -> None:
        """Another manifest behind the same flatbuffer has the same hash."""
        other = append(FLATBUFFER, Manifest(SHA256, labels=("a",)))
        assert (SHA256, SHA256) == (ModelFile.read(append(FLATBUFFER, FULL)).sha256, ModelFile.read(other).sha256)

    def test_standard_tools_read_the_zip(self) -> None:
        """``zipfile`` lists the files from the whole model, with the labels one a line."""
        with zipfile.ZipFile(io.BytesIO(append(FLATBUFFER, FULL))) as archive:
            assert archive.testzip() is None
            assert ["edgekit.json", "labels.txt"] == archive.namelist()
            assert "cat\nKäse\n三\na, b\n".encode() == archive.read("labels.txt")
            assert SHA256 == json.loads(archive.read("edgekit.json"))["sha256"]

    def test_no_labels_no_file(self) -> None:
        """A model without class names has no ``labels.txt``."""
        with zipfile.ZipFile(io.BytesIO(append(FLATBUFFER, Manifest(SHA256)))) as archive:
            assert ["edgekit.json"] == archive.namelist()

    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_zip_that_another_tool_packed(self, method: int) -> None:
        """A ZIP that was packed again, compressed and in another order, is read as well."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("labels.txt", "x\n")
            archive.writestr("edgekit.json", manifest_text())
        assert FULL_UNSEALED == ModelFile.read(UNSEALED + stream.getvalue()).manifest

    def test_flatbuffer_that_ends_like_a_zip(self) -> None:
        """What a constant happens to hold is not taken for a ZIP to write into."""
        ending = b"PK\x05\x06" + bytes(18)
        assert append(FLATBUFFER + ending, FULL).startswith(FLATBUFFER + ending + b"PK\x03\x04")

    def test_unknown_keys_are_ignored(self) -> None:
        """A later version of the same schema may add keys."""
        text = manifest_text(lambda data: (data.update(more=1), data["preprocessing"]["x"].update(later=3)))
        assert FULL_UNSEALED == ModelFile.read(UNSEALED + zipped(text)).manifest

    def test_older_file(self) -> None:
        """What edgekit 0.1 wrote, without the seal, is read as before."""
        assert FULL_UNSEALED == ModelFile.read(unsealed()).manifest


class TestWithoutAnnouncement:
    """A flatbuffer that announces nothing."""

    @pytest.mark.parametrize("behind", [b"", zipped("labels", name="labels.txt"), bytes(5000)])
    def test_what_is_behind_is_ignored(self, behind: bytes) -> None:
        """Whatever another tool appended is not ours."""
        content = models.dense_int8() + behind
        model = ModelFile.read(content)
        assert (None, hashlib.sha256(content).hexdigest()) == (model.manifest, model.sha256)

    @pytest.mark.parametrize("behind", [zipped(manifest_text()), append(FLATBUFFER, FULL)[len(FLATBUFFER) :]])
    def test_a_manifest_that_nothing_announces(self, behind: bytes) -> None:
        """A manifest at the end shows that the announcement was lost, and with it the hash's meaning."""
        with pytest.raises(
            ModelFileError, match="is damaged: edgekit wrote it with a manifest, which its flatbuffer no"
        ):
            ModelFile.read(models.dense_int8() + behind)

    def test_an_announcement_of_another_name(self) -> None:
        """One wrong letter in the entry's name does not turn the file into one without a manifest."""
        at = FLATBUFFER.index(b"\x07\0\0\0edgekit\0") + 4
        content = FLATBUFFER[:at] + b"e" + FLATBUFFER[at + 1 :]
        assert content == FLATBUFFER
        for letter in (b"E", b"x"):
            with pytest.raises(ModelFileError, match="which its flatbuffer no longer announces"):
                ModelFile.read(FLATBUFFER[:at] + letter + FLATBUFFER[at + 1 :])


@dataclass(frozen=True)
class Broken:
    """A file with an announcement and something else than its manifest behind it."""

    id: str
    content: bytes
    words: str


def _flipped() -> bytes:
    """A weight's bit is flipped: the structure stays right."""
    data = ModelFile.read(UNSEALED + zipped(manifest_text())).graph.main.tensors[1].data
    assert data is not None
    at = UNSEALED.index(bytes(data))
    return UNSEALED[:at] + bytes([UNSEALED[at] ^ 1]) + UNSEALED[at + 1 :] + zipped(manifest_text())


def _entry(data: bytes) -> bytes:
    """A flatbuffer whose announcement is something else."""
    content = UNSEALED.replace(announcement(len(UNSEALED), sealed=False), data)
    assert content != UNSEALED
    return content + zipped(manifest_text())


def _compressed(method: int) -> bytes:
    """A manifest whose ZIP says that the plain text is compressed."""
    content = bytearray(zipped(manifest_text()))
    struct.pack_into("<H", content, 8, method)
    struct.pack_into("<H", content, content.rindex(b"PK\x01\x02") + 10, method)
    return UNSEALED + bytes(content)


NONE_READ = "is damaged or cut short: it announces a manifest, and none can be read"
BROKEN = [
    Broken("nothing behind", UNSEALED, NONE_READ),
    Broken("one byte missing", unsealed()[:-1], NONE_READ),
    Broken("half of it missing", unsealed()[:-400], NONE_READ),
    Broken("sealed, nothing behind", FLATBUFFER, "announces a manifest, and the file does not end as it was written"),
    Broken("sealed, one byte missing", append(FLATBUFFER, FULL)[:-1], "the file does not end as it was written"),
    Broken("sealed, one byte more", append(FLATBUFFER, FULL) + b"\0", "the file does not end as it was written"),
    Broken("sealed, another's ZIP", FLATBUFFER + zipped(manifest_text()), "does not end as it was written"),
    Broken("another ZIP", UNSEALED + zipped("a\nb\n", name="labels.txt"), NONE_READ),
    Broken("not JSON", UNSEALED + zipped("{truncated"), NONE_READ),
    Broken("not text", UNSEALED + zipped(b"\xff\xfe\x00"), NONE_READ),
    Broken("endless nesting", UNSEALED + zipped("[" * 100_000), NONE_READ),
    Broken("no object", UNSEALED + zipped("[1, 2]"), "its manifest is not a JSON object"),
    Broken("deflated, says the ZIP", _compressed(8), NONE_READ),
    Broken("deflate64, says the ZIP", _compressed(9), NONE_READ),
    Broken("bzip2, says the ZIP", _compressed(12), NONE_READ),
    Broken("LZMA, says the ZIP", _compressed(14), NONE_READ),
    Broken("Zstandard, says the ZIP", _compressed(93), NONE_READ),
    Broken("weight flipped", _flipped(), f"its manifest says {UNSEALED_SHA256[:16]}…"),
    Broken(
        "entry empty", models.edited(FLATBUFFER, lambda model: setattr(model.buffers[-1], "data", None)), "not valid"
    ),
    Broken(
        "entry's magic",
        _entry(b"XXXX" + announcement(len(UNSEALED), sealed=False)[4:]),
        "its edgekit entry is not valid",
    ),
    Broken(
        "entry's schema",
        _entry(announcement(len(UNSEALED))[:4] + bytes(4) + bytes(8)),
        "in schema 0, this edgekit reads",
    ),
    Broken(
        "entry's length", _entry(announcement(1 << 40)), "is cut short: .* bytes of a 1099511627776-byte flatbuffer"
    ),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_damage_is_an_error(case: Broken) -> None:
    """A manifest that is announced must be there, whole, and belong to this flatbuffer."""
    with pytest.raises(ModelFileError, match=case.words) as caught:
        ModelFile.read(case.content)
    assert "opy or download the file again, or convert the model again." in str(caught.value)


def test_bytes_behind_an_older_zip_are_harmless() -> None:
    """A transfer that pads a file without a seal does not hide the manifest."""
    assert FULL_UNSEALED == ModelFile.read(unsealed() + bytes(100)).manifest


def test_announcement_of_another_length() -> None:
    """An entry that names a place before the flatbuffer's end does not fit the hash."""
    with pytest.raises(ModelFileError, match=r"is damaged: its flatbuffer has sha256 .*, its manifest says"):
        ModelFile.read(_entry(announcement(len(UNSEALED) - 4, sealed=False)))


@pytest.mark.parametrize("sound", [True, False], ids=["sound", "not sound"])
def test_a_changed_flatbuffer_is_told_as_such(sound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when what became of it would not be safe to load, and when the whole file was loaded before."""
    whole = append(FLATBUFFER, FULL)
    weights = next(item.data for item in ModelFile.read(whole).graph.main.tensors if item.data)
    changed = bytearray(whole)
    changed[FLATBUFFER.index(bytes(weights))] ^= 1
    if not sound:

        def refuse(*_: object) -> None:
            raise ModelFileError("it is not sound")

        monkeypatch.setattr("edgekit.modelfile.check_sound", refuse)
        monkeypatch.setattr("edgekit.modelfile._SOUND", set())
    with pytest.raises(ModelFileError, match="its flatbuffer has sha256"):
        ModelFile.read(bytes(changed))


def test_every_byte_of_an_older_zip_may_be_damaged() -> None:
    """Whichever byte behind the flatbuffer is wrong: the manifest that was written, or a ModelFileError."""
    content = unsealed()
    for at in range(len(UNSEALED), len(content)):
        for value in sorted({0, 1, 8, 0x7F, 0xFF, content[at] ^ 1} - {content[at]}):
            try:
                seen = ModelFile.read(content[:at] + bytes([value]) + content[at + 1 :]).manifest
            except ModelFileError:
                continue
            assert FULL_UNSEALED == seen, f"byte {at - len(UNSEALED)} of the ZIP = {value}"


class TestSealed:
    """A file that was written with a seal: whatever is changed in it, anywhere, it is refused."""

    FILE = append(FLATBUFFER, FULL, b"golden data")

    def test_it_is_read(self) -> None:
        """The healthy file."""
        assert FULL == ModelFile.read(self.FILE).manifest

    def test_every_byte(self) -> None:
        """Each byte of the flatbuffer, the ZIP and the seal, flipped in one bit and overwritten."""

        def passes(content: bytes) -> bool:
            try:
                ModelFile.read(content)
            except ModelFileError:
                return False
            return True

        whole = self.FILE
        seen = [
            (at, value)
            for at, own in enumerate(whole)
            for value in {own ^ 1, own ^ 0x80, 0, 0xFF} - {own}
            if passes(whole[:at] + bytes([value]) + whole[at + 1 :])
        ]
        assert [] == seen

    def test_every_cut(self) -> None:
        """However much of the end is missing, the file does not pass for one without a manifest."""
        for length in range(len(self.FILE)):
            with pytest.raises(ModelFileError):
                ModelFile.read(self.FILE[:length])

    def test_bytes_between(self) -> None:
        """Nothing may be put between the flatbuffer and the ZIP."""
        with pytest.raises(ModelFileError, match="what lies behind the flatbuffer was changed after it was written"):
            ModelFile.read(FLATBUFFER + bytes(8) + self.FILE[len(FLATBUFFER) :])

    def test_the_seal_is_the_zip_s_comment(self) -> None:
        """Standard tools show it."""
        with zipfile.ZipFile(io.BytesIO(self.FILE)) as archive:
            end = len(self.FILE) - len(archive.comment)
            digest = hashlib.sha256(self.FILE[len(FLATBUFFER) : end]).hexdigest()
            assert b"edgekit sha256 " + digest.encode() == archive.comment


@dataclass(frozen=True)
class Invalid:
    """A change to the manifest that makes it invalid, and words of the message."""

    id: str
    change: Callable[[dict[str, Any]], object]
    words: str


INVALID = [
    Invalid(
        "newer schema",
        lambda data: data.update(schema=SCHEMA + 1),
        f"has schema {SCHEMA + 1}, this edgekit reads up to {SCHEMA}. Update edgekit",
    ),
    Invalid("no schema", lambda data: data.pop("schema"), "has schema None, a positive integer was expected"),
    Invalid("schema as text", lambda data: data.update(schema="1"), "has schema '1', a positive integer"),
    Invalid("schema 0", lambda data: data.update(schema=0), "has schema 0, a positive integer"),
    Invalid("no hash", lambda data: data.pop("sha256"), r"its manifest is not valid \(.*sha256"),
    Invalid("no preprocessing", lambda data: data.pop("preprocessing"), "its manifest is not valid"),
    Invalid("preprocessing as a list", lambda data: data.update(preprocessing=[1]), "its manifest is not valid"),
    Invalid("preprocessing of null", lambda data: data["preprocessing"].update(x=None), "its manifest is not valid"),
    Invalid(
        "deviation of 0", lambda data: data["preprocessing"]["x"].update(std=[0, 0, 0]), "its manifest is not valid"
    ),
    Invalid(
        "unknown colour order", lambda data: data["preprocessing"]["x"].update(color="hsv"), "its manifest is not valid"
    ),
    Invalid(
        "resize of one side", lambda data: data["preprocessing"]["x"].update(resize=[8]), "its manifest is not valid"
    ),
    Invalid("labels as a number", lambda data: data.update(labels=3), "its manifest is not valid"),
    *(
        Invalid(f"{key} as text", lambda data, key=key: data.update({key: "text"}), "its manifest is not valid")
        for key in ("recipe", "source", "calibration", "verification", "runtime", "tools")
    ),
    Invalid("other hash", lambda data: data.update(sha256="0" * 64), "its manifest says 0000000000000000…"),
]


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.id)
def test_invalid_manifest(case: Invalid) -> None:
    """The message names the file and what is wrong with its manifest."""
    with pytest.raises(ModelFileError, match=case.words) as caught:
        ModelFile.read(UNSEALED + zipped(manifest_text(case.change)))
    assert str(caught.value).startswith("the model")


def test_a_manifest_beyond_all_measure() -> None:
    """A ZIP that would unpack to more than any manifest is not unpacked."""
    content = zipped(b" " * (65 * 1024 * 1024), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="it claims 68157440 bytes"):
        ModelFile.read(UNSEALED + content)


def test_nan_does_not_get_into_a_manifest() -> None:
    """JSON has no NaN: writing one is our own mistake, and is noticed."""
    with pytest.raises(ValueError, match="JSON"):
        append(FLATBUFFER, FULL._replace(verification={"sqnr_db": float("nan")}))


def test_announcement() -> None:
    """Magic, schema and length, little-endian; and the entry's name is the one in the file."""
    assert b"EKMF" + bytes([SEALED, 0, 0, 0]) + (0x0102030405).to_bytes(8, "little") == announcement(0x0102030405)
    assert b"EKMF\1\0\0\0" + bytes(8) == announcement(0, sealed=False)
    entry = ModelFile.read(append(FLATBUFFER, FULL)).graph.metadata[ENTRY]
    assert announcement(len(FLATBUFFER)) == entry


@pytest.mark.parametrize(
    ("data", "openssl"),
    [(b"", False), (b"abc", False), (bytes(range(256)) * 1000, False), (bytes(3 << 20), True)],
    ids=["empty", "short", "long", "very long"],
)
def test_digest_is_sha256(data: bytes, openssl: bool) -> None:
    """With and without ``hashlib`` in the process, the digest is SHA-256's; only much data load it."""
    code = (
        "import sys; sys.modules.pop('hashlib', None); from edgekit.digest import sha256_hex\n"
        "print(sha256_hex(memoryview(sys.stdin.buffer.read())), 'hashlib' in sys.modules)"
    )
    done = run_python("-c", code, text=False, input=data, check=True)
    expected = hashlib.sha256(data).hexdigest()
    assert (expected, f"{expected} {openssl}\n".encode()) == (sha256_hex(data), done.stdout)
