"""Which of PyTorch's files it is, told from the file itself and without PyTorch."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from edgekit.errors import ConversionError, ModelFileError

#: How a file begins that ``torch.save`` wrote before PyTorch 1.6: the pickled number 0x1950a86a20f9469cfc6c
#: (PyTorch, ``torch/serialization.py``, ``MAGIC_NUMBER``).
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: Where an ExecuTorch program has its flatbuffer identifier, "ET" and a version (ExecuTorch, ``schema/program.fbs``).
_EXECUTORCH = slice(4, 6)


def kind_of(path: Path) -> str | None:
    """What a file is to PyTorch.

    Args:
        path: an existing file.

    Returns:
        ``"program"`` for what ``torch.export.save`` wrote, ``"weights"`` for what ``torch.save`` wrote, whatever is inside, or a
        safetensors file; ``None`` for what PyTorch has nothing to do with.

    Raises:
        ConversionError: it is a TorchScript, an AOTInductor or an ExecuTorch file.
        ModelFileError: it is damaged.
    """
    with path.open("rb") as file:
        head = file.read(len(_LEGACY))
    if head == _LEGACY:
        return "weights"
    if zipfile.is_zipfile(path):
        kind = _archive(path)
        if kind is not None:
            return kind
    if _is_safetensors(path, head):
        return "weights"
    if head[_EXECUTORCH] == b"ET" and path.suffix == ".pte":
        raise ConversionError(
            f"{path} is an ExecuTorch program, compiled for its runtime. Convert the module or the torch.export program that it "
            "was made from."
        )
    return None


def _archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            # All but the oldest have one folder around everything.
            names = {name.partition("/")[2] or name: name for name in archive.namelist()}
            if "archive_format" in names and archive.read(names["archive_format"]) == b"pt2":
                if not any(name.startswith("models/") for name in names):
                    raise ConversionError(
                        f"{path} is a program that AOTInductor compiled: it holds machine code and no network. Convert the "
                        "torch.export program that it was made from."
                    )
                return "program"
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}. Copy or download the file again.") from error
    if "serialized_exported_program.json" in names:
        return "program"
    if "data.pkl" not in names:
        return None
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise ConversionError(
            f"{path} is a TorchScript file (torch.jit), whose code would run on loading. Convert the nn.Module that it was made "
            "from, its torch.export program (torch.export.save(torch.export.export(model.eval(), args), 'model.pt2')), or its "
            "weights (torch.save(model.state_dict(), 'weights.pth')) with --model MODULE:FUNCTION."
        )
    return "weights"


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Whether a file is of that format: the length of a JSON header in eight bytes, then the header.

    See the description of the format in the documentation of safetensors.
    """
    if path.suffix != ".safetensors" or len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    if not 2 <= length <= path.stat().st_size - 8 or head[8:9] != b"{":
        return False
    with path.open("rb") as file:
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False
