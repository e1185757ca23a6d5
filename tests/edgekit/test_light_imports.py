"""What each way into edgekit loads, and what it leaves alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import run_python

FRAMEWORKS = frozenset({"tensorflow", "keras", "tf_keras", "litert_quantizer", "torch", "onnx", "jax", "sklearn"})
INTERPRETERS = frozenset({"ai_edge_litert", "tflite_runtime", "tensorflow"})
TERMINAL = frozenset({"click", "rich"})
TOML = frozenset({"tomllib", "tomli"})
OURS = frozenset({"edgekit_convert", "edgekit_profiles"})
IMAGES = frozenset({"PIL"})


def loaded_by(code: str, *arguments: str) -> set[str]:
    """The modules that Python imports while it runs some code, as ``-X importtime`` reports them."""
    done = run_python("-X", "importtime", "-c", code, *arguments, check=True)
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:") and "|" in line]
    return {row.rsplit("|", 1)[1].strip() for row in rows}


def packages(modules: set[str]) -> set[str]:
    """The top-level packages of some modules."""
    return {module.partition(".")[0] for module in modules}


@dataclass(frozen=True)
class Way:
    """A way into edgekit: the code, packages that it must load, and packages that it must not."""

    id: str
    code: str
    needs: frozenset[str]
    spares: frozenset[str]


MODEL = "import sys, edgekit; s = edgekit.load(sys.argv[1]{}); s.run([[0.0] * 8]); s.close()"
HELP = "import sys; sys.argv = ['edgekit', {!r}]; from edgekit.cli import main\ntry: main()\nexcept SystemExit: pass"
WAYS = [
    Way(
        "import edgekit",
        "import edgekit",
        frozenset({"edgekit"}),
        FRAMEWORKS | INTERPRETERS | TERMINAL | TOML | OURS | IMAGES,
    ),
    Way(
        "every name of the core",
        "import edgekit; [getattr(edgekit, n) for n, m in edgekit._LAZY.items() if m.startswith('edgekit.')]",
        frozenset({"edgekit", "numpy"}),
        FRAMEWORKS | INTERPRETERS | TERMINAL | TOML | OURS | IMAGES,
    ),
    Way(
        "load and run, delegate named",
        MODEL.format(", delegate='xnnpack'"),
        frozenset({"numpy"}),
        FRAMEWORKS | TERMINAL | TOML | OURS | IMAGES,
    ),
    Way(
        "load and run, delegate of the profile",
        MODEL.format(""),
        frozenset({"numpy", "edgekit_profiles"}),
        FRAMEWORKS | TERMINAL | {"edgekit_convert"} | IMAGES,
    ),
    Way("edgekit_convert", "import edgekit_convert", frozenset({"edgekit"}), FRAMEWORKS | TERMINAL | TOML | IMAGES),
    Way(
        "edgekit_profiles",
        "import edgekit_profiles",
        frozenset({"edgekit"}),
        FRAMEWORKS | INTERPRETERS | TERMINAL | IMAGES | {"edgekit_convert"},
    ),
    Way(
        "edgekit --help",
        HELP.format("--help"),
        frozenset({"click"}),
        FRAMEWORKS | INTERPRETERS | TOML | OURS | IMAGES,
    ),
    Way(
        "edgekit --version",
        HELP.format("--version"),
        frozenset({"click"}),
        FRAMEWORKS | INTERPRETERS | TOML | OURS | IMAGES,
    ),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.id)
def test_only_what_is_needed_is_loaded(way: Way, dense_float_file: Path) -> None:
    """Each way in loads its own packages and spares the heavy ones."""
    seen = packages(loaded_by(way.code, str(dense_float_file)))
    assert way.needs <= seen
    assert set() == way.spares & seen


@pytest.mark.parametrize("command", ["convert", "inspect", "run", "log", "devices", "plan", "bench", "demo"])
def test_help_of_a_command_is_light(command: str) -> None:
    """Asking what a command does loads no framework and no interpreter."""
    code = HELP.format(command).replace("]", ", '--help']", 1)
    assert set() == packages(loaded_by(code)) & (FRAMEWORKS | INTERPRETERS | IMAGES)


def test_importing_edgekit_loads_no_third_party_package() -> None:
    """What ``import edgekit`` adds to a bare interpreter is edgekit, numpy and the standard library."""
    seen = packages(loaded_by("import edgekit") - loaded_by("pass"))
    allowed = {*sys.stdlib_module_names, "edgekit", "numpy"}
    assert set() == {name for name in seen if name not in allowed}
