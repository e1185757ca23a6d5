"""Files and folders that no frontend takes: what they are, and what to do instead. Nothing in them is run or unpickled."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

_KINDS = "a .keras, .h5, .onnx, .pt2 or float .tflite file, a PyTorch state dict (with --model), or a SavedModel folder, was expected"
#: How files of other kinds begin, and what to do with them.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first, and give what is inside"),
    (b"BZh", "compressed with bzip2: unpack it first, and give what is inside"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first, and give what is inside"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first, and give what is inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first, and give what is inside"),
    (b"Rar!", "a RAR archive: unpack it first, and give what is inside"),
    (b"\x93NUMPY", "an array of numpy's: data, not a model"),
    (b"GGUF", "a GGUF file of llama.cpp, which is quantised: the original model was expected"),
    (b"\x7fELF", "a compiled program or library: the model that it was made from was expected"),
)
#: Suffixes of other kinds, for files whose beginning says nothing.
_SUFFIXES: dict[str, str] = {
    ".pb": "a TensorFlow graph without its folder. A SavedModel is the whole folder: give that. A frozen graph of TensorFlow 1 "
    "has neither names nor types of its inputs: wrap it with `tf.compat.v1.wrap_function` and save it with "
    "`tf.saved_model.save(..., signatures=...)`",
    ".pbtxt": "a TensorFlow graph as text, without weights. Give the SavedModel folder",
    ".meta": "the graph of a TensorFlow 1 checkpoint: load it in TensorFlow, and save it with `tf.saved_model.save`",
    ".index": "a part of a TensorFlow checkpoint, which is weights without a model: load it into its model, and save that "
    "(`model.save('model.keras')`)",
    ".ckpt": "a checkpoint, which is weights without a model: load it into its model, and save that",
    ".json": "a description without weights: give the whole model (`model.save('model.keras')`). A TensorFlow.js model has to be "
    "saved again from the original",
    ".npz": "arrays of numpy's: data or weights, not a model. Load them into the model, and save that",
    ".mlmodel": "a Core ML model: convert the original that it was made from",
    ".prototxt": "a Caffe network: convert it to ONNX first",
    ".caffemodel": "the weights of a Caffe network: convert it to ONNX first",
    ".pdmodel": "a Paddle model: convert it to ONNX first (paddle2onnx)",
    ".xml": "the graph of an OpenVINO model: convert the original that it was made from",
    ".engine": "compiled by TensorRT for one GPU: convert the original that it was made from",
    ".plan": "compiled by TensorRT for one GPU: convert the original that it was made from",
    ".dlc": "compiled for one chip: convert the original that it was made from",
    ".py": "a program: import the model in it, and pass the model object to edgekit.convert",
    ".ipynb": "a notebook: pass the model object in it to edgekit.convert",
}
_OURS = (".keras", ".h5", ".hdf5", ".tflite", ".onnx", ".pt2", ".pt", ".pth", ".th")
_MOST_LOOKED_AT = 64 * 1024


def refused_file(path: Path, head: bytes) -> str:
    """Why a file cannot be converted.

    Args:
        path: the file, which can be read.
        head: its first bytes, 8 at least where it has as many.
    """
    if not head:
        return f"{path} is empty: it is damaged or not what its name says; {_KINDS}. Copy or download the file again."
    with path.open("rb") as file:
        begin = file.read(_MOST_LOOKED_AT)
    for start, what in _BEGINNINGS:
        if begin.startswith(start):
            return f"{path} is {what}. {_sentence(_KINDS)}"
    if begin[257:262] == b"ustar":
        return f"{path} is a tar archive: unpack it first, and give what is inside. {_sentence(_KINDS)}"
    if begin.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return f"{path} is a web page, not a model: the download went to another address than the file's. Download it again."
    if zipfile.is_zipfile(path):
        return _refused_archive(path)
    pickled = _pickled(begin)
    if pickled:
        return (
            f"{path} is a pickle{pickled}. Reading a pickle runs whatever code is in it, which edgekit does not do, and nothing of it "
            "was run. Load it in your own program if you trust it, and pass the model object to edgekit.convert, or save the "
            f"model in a format of its framework. {_sentence(_KINDS)}"
        )
    suffix = path.suffix.lower()
    if suffix in _OURS:
        return (
            f"{path} is damaged or not what its name says: it begins with {head[:8]!r}; {_KINDS}. "
            "Copy or download the file again, or save the model again."
        )
    if suffix.startswith(".data-") or suffix in _SUFFIXES:
        return f"{path} is {_SUFFIXES.get(suffix, _SUFFIXES['.index'])}. {_sentence(_KINDS)}"
    return f"{path} is of no kind that can be converted: it begins with {head[:8]!r}; {_KINDS}."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _refused_archive(path: Path) -> str:
    """What a ZIP that is none of ours holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        return f"{path} is damaged: {error}. Copy or download the file again, or save the model again."
    inside = ", ".join(names[:5]) or "nothing"
    if any(name.endswith("saved_model.pb") for name in names):
        advice = "it holds a SavedModel: unpack it, and give the folder"
    elif any(name.lower().endswith(_OURS) for name in names):
        advice = "it holds a model: unpack it, and give that"
    elif names and all(name.endswith(".npy") for name in names):
        advice = "it holds arrays of numpy's: data or weights, not a model"
    elif any(name.endswith((".pkl", ".pickle")) for name in names):
        advice = (
            "it holds a pickle. Reading one runs whatever code is in it, which edgekit does not do, and nothing of it was run: load it "
            "in your own program if you trust it, and save the model in a format of its framework"
        )
    else:
        advice = f"it holds {inside}, and no model of a kind that can be converted"
    return f"{path} is a ZIP archive: {advice}. {_sentence(_KINDS)}"


def _pickled(begin: bytes) -> str | None:
    """What a pickle would import, in words; ``""`` where it names nothing early on, ``None`` for what is no pickle.

    Only the instructions are listed, as ``pickletools`` does without running them.
    """
    if begin[:1] == b"x" and begin[1:2] in b"\x01\x5e\x9c\xda":  # zlib, as joblib compresses
        import zlib

        try:
            begin = zlib.decompressobj().decompress(begin, _MOST_LOOKED_AT)
        except zlib.error:
            return None
    if not (begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) and not begin.startswith(
        (b"(", b"c")
    ):
        return None
    texts: list[str] = []
    steps = 0
    try:
        for code, argument, _ in pickletools.genops(begin):
            steps += 1
            if code.name in ("GLOBAL", "INST"):
                return f" of {str(argument).replace(' ', '.')}"
            if code.name == "STACK_GLOBAL" and len(texts) > 1:
                return f" of {texts[-2]}.{texts[-1]}"
            if isinstance(argument, str):
                texts.append(argument)
    except Exception:  # it goes on behind what was looked at, or is text that happens to begin like one
        if begin[:1] != b"\x80":
            return None
    return "" if steps > 1 else None


def refused_folder(path: Path) -> str:
    """Why a folder cannot be converted."""
    inside = sorted(item.name for item in path.iterdir())
    below = sorted(item.parent for item in path.glob("*/saved_model.pb"))
    if below:
        return f"the folder {path} is not a SavedModel: it has no saved_model.pb. {', '.join(map(str, below[-3:]))} is one: give that."
    models = [name for name in inside if name.lower().endswith(_OURS)]
    if models:
        return f"the folder {path} is not a SavedModel: it has no saved_model.pb. It holds {', '.join(models[:5])}: give the file."
    if "checkpoint" in inside or any(name.endswith(".index") for name in inside):
        return (
            f"the folder {path} is a TensorFlow checkpoint, which is weights without a model: load it into its model, and save that "
            "(`model.save('model.keras')`)."
        )
    if "variables" in inside:
        return f"the folder {path} is not a SavedModel: it has no saved_model.pb beside its variables. Copy the whole folder again."
    if "model.json" in inside:
        return f"the folder {path} is a TensorFlow.js model: convert the original that it was made from."
    if path.suffix == ".mlpackage":
        return f"the folder {path} is a Core ML model: convert the original that it was made from."
    return f"the folder {path} is not a SavedModel: it has no saved_model.pb. It holds {', '.join(inside[:5]) or 'nothing'}."
