"""Files and folders that are no model of a kind that is taken: each gets one message that says what it is."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelFileError
from edgekit_convert.frontends import open_source


def zipped(*names: str) -> bytes:
    """A ZIP archive with empty files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


def tarred() -> bytes:
    """A tar archive with one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.h5"))
    return file.getvalue()


def numpy_array() -> bytes:
    """An ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("model.tflite", b"\x00" * 100, "damaged or not what its name says", id="garbage tflite"),
        pytest.param("model.keras", b"PK nothing", "damaged or not what its name says", id="garbage keras"),
        pytest.param("model.H5", b"what is this", "damaged or not what its name says", id="garbage h5"),
        pytest.param("model.h5", b"\x89HDF\r\n\x1a\n" + b"\x00" * 50, "damaged or cut short", id="cut h5"),
        pytest.param("model.bin", b"abc", "of no kind that can be converted: it begins with b'abc'", id="unknown"),
        pytest.param("empty.tflite", b"", r"is empty: it is damaged .*Copy or download the file again", id="empty"),
        pytest.param("model.h5", b"\n<!DOCTYPE html><html>", "is a web page, not a model", id="web page"),
        pytest.param("model.keras", b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`", id="git lfs"),
        pytest.param("model.h5.gz", gzip.compress(b"x"), "compressed with gzip: unpack it first", id="gzip"),
        pytest.param("model.tar", tarred(), "is a tar archive: unpack it first", id="tar"),
        pytest.param("model.npy", numpy_array(), "an array of numpy's: data, not a model", id="npy"),
        pytest.param("w.npz", zipped("a.npy"), "ZIP archive: it holds arrays of numpy's", id="npz"),
        pytest.param("m.zip", zipped("m/saved_model.pb"), "it holds a SavedModel: unpack it", id="zipped SavedModel"),
        pytest.param("m.zip", zipped("m/model.keras"), "it holds a model: unpack it", id="zipped keras"),
        pytest.param(
            "m.docx", zipped("word/document.xml"), "and no model of a kind that can be converted", id="other zip"
        ),
        pytest.param("frozen.pb", b"\n\x03abc", "a TensorFlow graph without its folder", id="frozen graph"),
        pytest.param("model.ckpt-5.index", b"\x00\x00\x01", "a part of a TensorFlow checkpoint", id="checkpoint"),
        pytest.param(
            "ckpt.data-00000-of-00001", b"\x07\x01", "a part of a TensorFlow checkpoint", id="checkpoint data"
        ),
        pytest.param("model.json", b'{"class_name": "Model"}', "a description without weights", id="json"),
        pytest.param("train.py", b"import keras\n", "a program: import the model in it", id="python"),
        pytest.param("q.gguf", b"GGUF\x03", "a GGUF file of llama.cpp", id="gguf"),
        pytest.param("net.engine", b"ptrt", "compiled by TensorRT for one GPU", id="tensorrt"),
    ],
)
def test_files_are_named_for_what_they_are(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """And what was expected, or what to do."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        open_source(path)


def versioned(folder: Path) -> None:
    """As TensorFlow Serving wants models."""
    (folder / "1").mkdir()
    (folder / "1" / "saved_model.pb").write_bytes(b"")


def checkpoint(folder: Path) -> None:
    """As ``tf.train.Checkpoint`` writes."""
    (folder / "checkpoint").write_text("")
    (folder / "ckpt-1.index").write_bytes(b"")


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        pytest.param(
            lambda folder: None, r"not a SavedModel: it has no saved_model\.pb\. It holds nothing", id="empty"
        ),
        pytest.param(versioned, r"{folder}.1 is one: give that", id="versions"),
        pytest.param(checkpoint, "is a TensorFlow checkpoint, which is weights without a model", id="checkpoint"),
        pytest.param(
            lambda folder: (folder / "m.keras").write_bytes(b""), r"holds m\.keras: give the file", id="a file"
        ),
        pytest.param(lambda folder: (folder / "variables").mkdir(), "Copy the whole folder again", id="variables"),
        pytest.param(lambda folder: (folder / "model.json").write_text("{}"), r"a TensorFlow\.js model", id="tf.js"),
    ],
)
def test_folders_are_named_for_what_they_are(tmp_path: Path, fill: Callable[[Path], None], message: str) -> None:
    """And where the model may be."""
    fill(tmp_path)
    with pytest.raises(ModelFileError, match=message.replace("{folder}", str(tmp_path))):
        open_source(tmp_path)


def test_missing_files() -> None:
    """The path is said."""
    with pytest.raises(ModelFileError, match=r"no such file: .*absent\.keras"):
        open_source(Path("nowhere") / "absent.keras")
