"""The order in which the packages may import each other.

``edgekit`` core ← ``edgekit_profiles`` ← ``edgekit_convert`` ← what joins them. The sources that are read are those of
the installed packages.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit
import edgekit_convert
import edgekit_profiles

#: What may import the later packages: the Python and the command line's way in, and the demo with its page.
JOINERS = ("edgekit", "edgekit.api", "edgekit.demo", "edgekit.cli", "edgekit.report.demo_page")


def sources() -> dict[str, ast.Module]:
    """Every module of the three packages, by dotted name."""
    found = {}
    for package in (edgekit, edgekit_profiles, edgekit_convert):
        for folder in map(Path, package.__path__):
            for path in sorted(folder.rglob("*.py")):
                parts = [package.__name__, *path.relative_to(folder).with_suffix("").parts]
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


SOURCES = sources()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a source imports, at its top or inside a function; relative imports are not used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            # ``from edgekit import manifest`` imports a module too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of some packages, or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def breaches(importers: list[str], forbidden: tuple[str, ...]) -> list[str]:
    """Imports of forbidden packages."""
    return [
        f"{name} imports {module}"
        for name in importers
        for module in imports(SOURCES[name])
        if inside(module, forbidden)
    ]


def modules_of(*packages: str, but: tuple[str, ...] = ()) -> list[str]:
    """The modules of some packages, without some of them."""
    return [name for name in SOURCES if inside(name, packages) and not inside(name, but)]


def test_all_sources_are_seen() -> None:
    """The walk finds the modules that the rules are about."""
    for name in ("edgekit", "edgekit.runtime.session", "edgekit.runtime.engines.litert", "edgekit.cli.run"):
        assert name in SOURCES
    assert {"edgekit_profiles.resolver", "edgekit_convert.pipeline", "edgekit_convert.frontends"} <= set(SOURCES)
    assert "edgekit.errors.from_os_error" in set(imports(SOURCES["edgekit.files"]))


def test_the_core_does_not_know_the_later_packages() -> None:
    """Profiles and converter are imported by what joins them only."""
    core = [name for name in modules_of("edgekit") if name not in JOINERS and not inside(name, JOINERS[1:])]
    assert len(core) > 20
    assert [] == breaches(core, ("edgekit_profiles", "edgekit_convert"))


def test_the_face_imports_the_later_packages_for_type_checkers_only() -> None:
    """``edgekit/__init__.py`` names them under ``TYPE_CHECKING``, and finds them lazily."""
    tree = SOURCES["edgekit"]
    at_run_time = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    seen = [module for node in at_run_time for module in imports(node)]
    assert [] == [module for module in seen if inside(module, ("edgekit_profiles", "edgekit_convert", "edgekit.api"))]


def test_profiles_do_not_know_the_converter() -> None:
    """A device needs no converter to know what it is."""
    assert [] == breaches(modules_of("edgekit_profiles"), ("edgekit_convert",))


@pytest.mark.parametrize("package", ["edgekit_profiles", "edgekit_convert"])
def test_later_packages_do_not_reach_back_to_what_joins_them(package: str) -> None:
    """Neither imports the API, the command line or the demo."""
    assert [] == breaches(modules_of(package), JOINERS[1:])


def test_the_runtime_stands_alone() -> None:
    """What lives in a device needs no command line, benchmark, report or demo."""
    forbidden = ("edgekit.cli", "edgekit.bench", "edgekit.report", "edgekit.demo", "edgekit.api", "edgekit.inspection")
    runtime = modules_of("edgekit.runtime")
    below = ["edgekit.errors", "edgekit.files", "edgekit.tensors", "edgekit.graph", "edgekit.manifest"]
    assert [] == breaches([*runtime, *below, "edgekit.modelfile", "edgekit.preprocess"], forbidden)


def test_what_lies_below_the_runtime_does_not_know_it() -> None:
    """Reading a model file needs no interpreter."""
    below = ["errors", "digest", "files", "tensors", "graph", "preprocess", "manifest", "modelfile"]
    assert [] == breaches([f"edgekit.{name}" for name in below], ("edgekit.runtime",))


def test_nothing_but_the_command_line_draws_on_the_terminal() -> None:
    """Click and rich are imported under ``edgekit.cli`` only."""
    assert [] == breaches(
        modules_of("edgekit", "edgekit_profiles", "edgekit_convert", but=("edgekit.cli",)), ("click", "rich")
    )


def test_native_delegates_are_loaded_in_one_place() -> None:
    """``load_delegate`` is called in ``edgekit.runtime.delegates`` alone."""
    calls = [
        name
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load_delegate"
    ]
    assert ["edgekit.runtime.delegates"] == calls


def test_no_module_is_a_drawer() -> None:
    """No module is called ``utils``, ``helpers``, ``common`` or ``misc``."""
    assert [] == [name for name in SOURCES if name.rsplit(".")[-1] in ("utils", "util", "helpers", "common", "misc")]
