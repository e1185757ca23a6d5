"""``edgekit``'s public face: what is exported, how, and what it says of itself."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import edgekit
import edgekit_convert
import edgekit_profiles
from edgekit import bench

PACKAGES = [edgekit, edgekit_convert, edgekit_profiles, bench]
every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
EVERY_NAME = [(package, name) for package in PACKAGES for name in package.__all__]


@every_package
def test_all_is_sorted_and_without_doubles(package: ModuleType) -> None:
    """``__all__`` is in order, so that a change to it is one line."""
    assert sorted(set(package.__all__)) == list(package.__all__)


@pytest.mark.parametrize(("package", "name"), EVERY_NAME, ids=lambda item: getattr(item, "__name__", item))
def test_every_name_can_be_imported_and_is_explained(package: ModuleType, name: str) -> None:
    """Each exported name exists, and its docstring says what it is."""
    item = getattr(package, name)
    if callable(item):
        text = inspect.getdoc(item) or ""
        assert text.split("\n")[0].endswith((".", ":")), text
        # A dataclass without a docstring gets its own signature for one.
        assert not text.startswith(f"{name}(")


def public_members() -> list[tuple[str, object]]:
    """Functions, methods and properties of exported classes."""
    members: dict[str, object] = {}
    for package, name in EVERY_NAME:
        item = getattr(package, name)
        if not inspect.isclass(item):
            continue
        for own, member in vars(item).items():
            if not own.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                members[f"{item.__name__}.{own}"] = member
    return sorted(members.items())


@pytest.mark.parametrize(("name", "member"), public_members(), ids=lambda item: item if isinstance(item, str) else "")
def test_every_member_is_explained(name: str, member: object) -> None:
    """So does each public method and property of an exported class."""
    assert (inspect.getdoc(member) or "").strip(), name


@every_package
def test_reexports_are_explicit(package: ModuleType) -> None:
    """``from x import X as X`` for each name: strict type checkers export nothing else."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    aliases = {
        alias.name: alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "typing")
        for alias in node.names
    }
    assert {name: name for name in package.__all__} == aliases


def test_lazy_names_have_a_twin_for_type_checkers() -> None:
    """What ``__getattr__`` finds at run time is imported from the same module under ``TYPE_CHECKING``."""
    tree = ast.parse(Path(edgekit.__file__).read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    twins = {
        alias.name: node.module
        for block in guarded
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert twins == edgekit._LAZY


def test_names_are_shown() -> None:
    """``dir()`` lists every exported name, whether it has been used or not."""
    assert set(edgekit.__all__) <= set(dir(edgekit))


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError that names it, as for any module."""
    with pytest.raises(AttributeError, match="module 'edgekit' has no attribute 'lode'"):
        edgekit.lode  # noqa: B018
    with pytest.raises(ImportError, match="lode"):
        exec("from edgekit import lode")


def test_every_error_is_exported() -> None:
    """Each class of the error tree can be caught by its name in ``edgekit``."""
    errors = importlib.import_module("edgekit.errors")
    names = {name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, Exception)}
    assert names <= set(edgekit.__all__)


def test_the_packages_are_marked_as_typed() -> None:
    """Each of the three packages carries ``py.typed``."""
    folders = [Path(str(package.__file__)).parent for package in (edgekit, edgekit_convert, edgekit_profiles)]
    assert [True] * 3 == [(folder / "py.typed").is_file() for folder in folders]
