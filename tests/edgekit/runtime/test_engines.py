"""``edgekit.runtime.engines``: which interpreter is used, and what happens when there is none or it refuses."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
from processes import run_python

import edgekit
from edgekit.errors import EngineError, ModelFileError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import ENGINES, compiled, installed, litert, open_engine, tensorflow_lite, tflite_runtime

MODEL = ModelFile.read(models.dense_float())
CPU = DelegateSpec("none")
REAL_FIND_SPEC = importlib.util.find_spec


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these interpreters be found, and no other."""

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if name in ENGINES.values():
            return ModuleSpec(name, None) if name in names else None
        return REAL_FIND_SPEC(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


class TestChoice:
    """Which interpreter is taken."""

    def test_names_are_the_modules_own(self) -> None:
        """The table and the modules agree."""
        assert [litert.NAME, tflite_runtime.NAME, compiled.NAME, tensorflow_lite.NAME] == list(ENGINES)

    @pytest.mark.parametrize(
        ("packages", "expected"),
        [
            (
                ("ai_edge_litert", "tflite_runtime", "tensorflow"),
                ("litert", "tflite-runtime", "litert-compiled", "tensorflow"),
            ),
            (("tensorflow", "tflite_runtime"), ("tflite-runtime", "tensorflow")),
            (("tensorflow",), ("tensorflow",)),
            ((), ()),
        ],
        ids=lambda value: "+".join(value) or "none",
    )
    def test_order_of_preference_with_find_spec_replaced(
        self, packages: tuple[str, ...], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """LiteRT first, then tflite-runtime, TensorFlow last."""
        pretend_installed(monkeypatch, *packages)
        assert installed() == expected

    def test_looking_imports_nothing(self) -> None:
        """Finding out what is installed is cheap."""
        code = "import sys; from edgekit.runtime.engines import installed; installed(); print(*sys.modules)"
        done = run_python("-c", code, check=True)
        assert set(done.stdout.split()) & set(ENGINES.values()) == set()

    def test_the_first_installed_is_used(self) -> None:
        """Without a name the first one runs."""
        assert open_engine(MODEL, CPU).name == installed()[0]

    def test_none_installed_with_find_spec_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message names what to install, for 64-bit and for 32-bit devices."""
        pretend_installed(monkeypatch)
        for package in ENGINES.values():
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(EngineError, match="no interpreter is installed") as caught:
            edgekit.load(models.dense_float(), delegate="none")
        for words in ("pip install ai-edge-litert", "x86-64 and arm64", "armv7l", "edgekit[tflite-runtime]"):
            assert words in str(caught.value)

    def test_one_that_cannot_be_imported_with_the_module_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reason is said when there is no other to go on with."""
        pretend_installed(monkeypatch, "ai_edge_litert")
        for package in ENGINES.values():
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(EngineError, match=r"litert cannot be used: .*Install one"):
            edgekit.load(models.dense_float(), delegate="none")

    def test_one_that_is_not_installed_with_find_spec_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interpreter that was named and is not there is an error that lists those that are."""
        pretend_installed(monkeypatch, "ai_edge_litert")
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(
            EngineError, match=r"the engine 'tensorflow' cannot be used: .*Installed: litert, litert-compiled\."
        ):
            open_engine(MODEL, CPU, "tensorflow")

    def test_tflite_runtime_under_numpy_2_with_the_version_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was built for numpy 1: the reason and the remedy, instead of a crash while importing."""
        monkeypatch.setattr(np, "__version__", "2.1.3")
        with pytest.raises(
            EngineError, match=r"tflite-runtime needs numpy 1, and numpy 2\.1\.3 is installed \(`pip install"
        ):
            open_engine(MODEL, CPU, "tflite-runtime")


class TestRefusal:
    """What an interpreter does not take."""

    def test_operator_that_it_does_not_have(self, engine: str | None) -> None:
        """The message names interpreter and operator, and the command that lists them."""
        with pytest.raises(EngineError, match=r"cannot run the model: .*Mystery.*`edgekit inspect` lists them"):
            open_engine(ModelFile.read(models.custom_op("Mystery")), CPU, engine)

    def test_file_is_named(self, engine: str | None, tmp_path: Path) -> None:
        """Among many models it is clear which one was refused."""
        path = tmp_path / "mine.tflite"
        path.write_bytes(models.custom_op())
        with pytest.raises(EngineError, match=r"cannot run .*mine\.tflite: "):
            open_engine(ModelFile.read(path), CPU, engine)

    def test_more_memory_than_there_is(self) -> None:
        """A tensor of terabytes is refused before an interpreter sees it."""

        def change(model: object) -> None:
            for tensor in model.subgraphs[0].tensors:  # type: ignore[attr-defined]
                tensor.shape = [2**20, 2**20]

        content = models.edited(models.add_two_inputs(), change)
        with pytest.raises(ModelFileError, match="larger than 2 GiB"):
            open_engine(ModelFile.read(content), CPU)


@dataclass(frozen=True)
class Part:
    """A graph, and which of its operators XNNPACK takes."""

    id: str
    content: bytes
    partitions: tuple[tuple[int, ...], ...]
    outside: tuple[int, ...]


def _chain(*dtypes: str) -> bytes:
    """A chain of additions, with casts where the type changes; int32 stays outside of XNNPACK."""
    b = models.Builder()
    first = current = b.tensor("t0", (1, 4), dtypes[0])
    for number, dtype in enumerate(dtypes):
        after = b.tensor(f"sum{number}", (1, 4), dtype)
        b.op("ADD", [current, current], [after], ("AddOptions", models.schema.AddOptionsT()))
        current = after
        if number + 1 < len(dtypes) and dtypes[number + 1] != dtype:
            cast = b.tensor(f"cast{number}", (1, 4), dtypes[number + 1])
            b.op("CAST", [current], [cast], ("CastOptions", models.schema.CastOptionsT()))
            current = cast
    return b.build({"t0": first}, {"y": current})


PARTS = [
    Part("whole", models.conv_float(), ((0, 1, 2, 3),), ()),
    Part("in the middle", _chain("int32", "float32", "float32", "int32"), ((2, 3),), (0, 1, 4, 5)),
    Part("two parts", _chain("float32", "int32", "float32"), ((0,), (4,)), (1, 2, 3)),
    Part("none", _chain("int32", "int32"), (), (0, 1)),
]


@pytest.mark.parametrize("case", PARTS, ids=lambda case: case.id)
def test_partitions(case: Part, engine: str | None) -> None:
    """What the delegate took is read back operator by operator."""
    opened = open_engine(ModelFile.read(case.content), DelegateSpec("xnnpack"), engine)
    report = opened.partitions()
    assert (report.partitions, report.outside) == (case.partitions, case.outside)


def test_tensorflow_s_interpreter_gives_the_same() -> None:
    """Where TensorFlow is installed its interpreter is one more engine (in a process of its own, for its size)."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    code = (
        "import sys, json, warnings; import edgekit; warnings.simplefilter('error')\n"
        "with edgekit.load(sys.stdin.buffer.read(), delegate='xnnpack', engine='tensorflow') as model:\n"
        "    print(json.dumps([model.engine.split()[0], model.got, model.run([[0.5] * 8]).tolist()]))"
    )
    done = run_python("-c", code, text=False, input=models.dense_float(), check=True)
    with edgekit.load(models.dense_float(), delegate="xnnpack") as model:
        expected = model.run([[0.5] * 8])
    name, got, result = json.loads(done.stdout)
    assert (name, got) == ("tensorflow", "xnnpack")
    np.testing.assert_allclose(result, expected, rtol=1e-5)


#: Runs every mutant of a model that passes the structural check, in one process: a crash ends it.
MUTANTS = """
import resource, struct, sys
import edgekit, tiny_models as models
from edgekit.modelfile import ModelFile
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
name, engine = sys.argv[1], sys.argv[2] or None
content = getattr(models, name)()
ran = refused = 0
for at in range(0, len(content) - 3, 4):
    for value in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x01000000, 0xFFFF, len(content), 1, 0):
        mutant = content[:at] + struct.pack("<I", value) + content[at + 4 :]
        try:
            model = ModelFile.read(mutant)
        except edgekit.ModelFileError:
            continue
        print(at, hex(value), flush=True)
        try:
            with edgekit.load(model, delegate="xnnpack", engine=engine) as session:
                shapes = {spec.name: [max(1, size) for size in spec.shape] for spec in session.inputs}
                if all(max(shape, default=1) < 1000 for shape in shapes.values()):
                    import numpy
                    session.run({name: numpy.ones(shape) for name, shape in shapes.items()})
            ran += 1
        except edgekit.EdgekitError:
            refused += 1
print("done", ran, refused)
"""


@pytest.mark.parametrize("name", ["dense_float", "dense_int8", "add_two_inputs", "fixed_reshape"])
def test_no_damaged_file_ends_the_process(name: str, engine: str | None) -> None:
    """What passes the structural check runs or is refused; the interpreter never crashes on it."""
    support = str(Path(models.__file__).parent)
    code = f"import sys; sys.path.insert(0, {support!r})\n{MUTANTS}"
    done = run_python("-c", code, name, engine or "")
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"the last one tried was {last}: {done.stderr[-600:]}"
    word, ran, refused = last[0].split()
    assert word == "done"
    assert min(int(ran), int(refused)) > 20
