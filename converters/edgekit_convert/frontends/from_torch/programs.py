"""``torch.export`` programs (``.pt2``): looked through before PyTorch opens them, because opening one can run code.

``torch.export.load`` unpickles what fails to load as weights alone, evaluates the expressions of open sizes as Python
(``sympy.sympify``), looks operators up by any dotted name below ``torch``, and loads compiled libraries. A program that
``torch.export.save`` wrote of an ordinary network needs none of that: tensors are raw bytes, operators are ``torch.ops.aten``, and
expressions are sums and products of sizes. What needs more is refused by name, unless the caller trusts the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError, from_os_error
from edgekit_convert.frontends.foreign import first_line
from edgekit_convert.frontends.from_torch.lowering import quiet

#: Operators that PyTorch itself dispatches, and arithmetic on sizes.
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.\w+(\.\w+)?"
    r"|(torch\.ops\.)?_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.(_)?sym_\w+|math\.(ceil|floor|trunc|sqrt)"
)
#: Of those, what reads or writes files.
_FILES = re.compile(r"torch\.ops\.aten\.(from_file|save|load)(\.|$)")
#: Names in the expressions of sizes: PyTorch's symbols, and functions of theirs (PyTorch, ``torch/utils/_sympy/functions.py``).
_SYMBOL = re.compile(r"z?[suf]+[a-z]?\d+")
_FUNCTIONS = frozenset(
    {"Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing", "Where", "Pow", "PowByNatural",
     "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "FloorToInt", "CeilToInt", "TruncToInt", "RoundToInt",
     "Add", "Mul", "Integer", "Rational", "positive", "nonnegative", "negative", "zero", "nonzero", "integer", "real", "precision",
     "ToFloat", "IntTrueDiv", "FloatTrueDiv", "floor", "ceiling", "oo", "int_oo", "true", "false", "True", "False"}
)  # fmt: skip
#: Containers that inputs and outputs may be in; none is a leaf.
_CONTAINERS = (None, "builtins.dict", "builtins.list", "builtins.tuple", "collections.OrderedDict")
_TOKENS = re.compile(
    r"\s+|Symbol\('\w+'|Float\('[-+.\deE]+'|[A-Za-z_]\w*|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+*/%(),<>=!&|~]"
)


def load_program(torch: Any, path: Path, *, trusted: bool) -> Any:
    """Load a program, without running code from the file unless it is trusted.

    Args:
        torch: the module.
        path: what ``torch.export.save`` wrote.
        trusted: whether code from the file may run.

    Returns:
        The ``ExportedProgram``.

    Raises:
        ConversionError: loading it would run code, or PyTorch refused it.
        ModelFileError: it is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    if not trusted:
        why = _needs_trust(torch, content, path)
        if why is not None:
            raise ConversionError(
                f"{path} {why}, so that opening it could run code, which edgekit does not do. Pass --trust-source if you trust the "
                "file, or export the module again with torch.export.save."
            )
    try:
        with quiet(), contextlib.nullcontext() if trusted else _weights_only(torch):
            program = torch.export.load(io.BytesIO(content))
    except Exception as error:  # PyTorch raises its own, Python's and JSON errors here, all about the file
        raise ConversionError(
            f"PyTorch {torch.__version__} cannot load {path}: {type(error).__name__}: {first_line(error)}. A program of another "
            "version of PyTorch has to be exported again with this one."
        ) from error
    if not trusted:
        _check_operators(torch, program, path)
    return program


def _needs_trust(torch: Any, content: bytes, path: Path) -> str | None:
    """What in a file could run code; ``None`` where nothing can.

    Raises:
        ModelFileError: it is damaged.
    """
    try:
        for records, read in _views(torch, content):
            for name in records:
                why = _look_at_record(torch, name, read)
                if why is not None:
                    return why
    except (zipfile.BadZipFile, ValueError, RuntimeError, KeyError, EOFError, RecursionError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or cut short: {first_line(error)}. Copy or download the file again, or export the model again."
        ) from error
    return None


def _look_at_record(torch: Any, name: str, read: Callable[[str], bytes]) -> str | None:
    tail = name.rpartition("/")[2]
    if "aotinductor/" in name or tail.endswith((".so", ".dll", ".dylib", ".cubin")):
        return f"holds compiled code ({name})"
    if tail.startswith(("custom_obj_", "opaque_obj_")):
        return f"holds a pickled object ({name})"
    if tail.endswith(".json"):
        return _look(json.loads(read(name)))
    return _look_at_pickle(torch, read(name), name) if tail.endswith(".pt") else None


def _views(torch: Any, content: bytes) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Names and reader of the files in an archive, as each of the two readers sees it that PyTorch uses.

    Two readers can find different files in one archive that was made for that.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    yield list(held), held.__getitem__
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    except RuntimeError:  # of before PyTorch 2.8, for which the other one is used
        return
    yield list(reader.get_all_records()), reader.get_record


def _look(item: Any) -> str | None:
    """What in a program's description could run code; ``None`` where nothing can."""
    if isinstance(item, list):
        return next((why for why in map(_look, item) if why is not None), None)
    if not isinstance(item, dict):
        return None
    for key, value in item.items():
        if key in ("target", "as_operator") and not (isinstance(value, str) and _is_plain_operator(value)):
            return f"calls {str(value)[:200]!r}, which is none of PyTorch's operators"
        if key == "expr_str" and not (isinstance(value, str) and _is_plain_expression(value)):
            return f"has {str(value)[:200]!r} for a size"
        if key in ("in_spec", "out_spec") and value and not _is_plain_structure(value):
            return "has inputs or outputs in containers of its own"
        if key == "range_constraints" and isinstance(value, dict):
            odd = next((name for name in value if not _is_plain_expression(str(name))), None)
            if odd is not None:
                return f"has {odd[:200]!r} for a size"
        if key in ("as_custom_obj", "as_opaque"):
            return "has a custom object among its constants"
        if key == "use_pickle" and value:
            return "holds pickled tensors"
        why = _look(value)
        if why is not None:
            return why
    return None


def _is_plain_operator(name: str) -> bool:
    return (
        _OPERATORS.fullmatch(name) is not None
        and _FILES.match(name) is None
        and "__" not in name.replace("aten.__", "aten.").replace("__.", ".")
    )


def _is_plain_structure(text: Any) -> bool:
    """Whether the nesting of inputs or outputs, in JSON, is of plain containers: others can name a module that is imported.

    See PyTorch, ``torch/utils/_pytree.py``, ``treespec_loads``.
    """
    waiting = [json.loads(text)] if isinstance(text, str) else [None]
    if not (isinstance(waiting[0], list) and len(waiting[0]) == 2):  # the version of the form, then the form
        return False
    waiting = [waiting[0][1]]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict) or item.get("type") not in _CONTAINERS or "__enum__" in str(item.get("context")):
            return False
        waiting += item.get("children_spec", ())
    return True


def _is_plain_expression(text: str) -> bool:
    """Whether an expression is arithmetic on sizes: without attributes, strings and other names."""
    place = 0
    while place < len(text):
        token = _TOKENS.match(text, place)
        if token is None:
            return False
        word = token.group()
        if word.isidentifier() and not (word in _FUNCTIONS or _SYMBOL.fullmatch(word)):
            return False
        place = token.end()
    return True


def _look_at_pickle(torch: Any, content: bytes, name: str) -> str | None:
    try:
        with quiet():
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it is, PyTorch would go on and unpickle it
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        return f"holds the pickled object {found.group(1)} ({name})" if found else f"holds pickled objects ({name})"
    return None


@contextlib.contextmanager
def _weights_only(torch: Any) -> Iterator[None]:
    """Let ``torch.load`` read weights alone, whatever it is asked for.

    ``torch.export.load`` tries that first and falls back on unpickling everything
    (PyTorch, ``torch/_export/serde/serialize.py``, ``deserialize_torch_artifact``).
    """
    before = torch.load

    def load(*args: Any, **options: Any) -> Any:
        return before(*args, **{**options, "weights_only": True})

    torch.load = load
    try:
        yield
    finally:
        torch.load = before


def _check_operators(torch: Any, program: Any, path: Path) -> None:
    """See once more, in what was loaded, that nothing but PyTorch's operators is called."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            target = node.target
            if node.op != "call_function":
                continue
            if isinstance(target, torch._ops.OpOverload):
                plain = f"torch.ops.{target._schema.name.replace('::', '.')}"
            else:
                plain = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
            if not _is_plain_operator(plain):
                raise ConversionError(
                    f"{path} calls {plain}, which is none of PyTorch's operators. Pass --trust-source if you trust the file."
                )
