"""Running the compiler, and reading what it says: with a stand-in, as the real one is not on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import standin_edgetpu_compiler as standin
import tiny_models as models

from edgekit import manifest as packing
from edgekit.errors import ConversionError
from edgekit.manifest import Manifest
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.tensors import QuantParams
from edgekit_convert.edgetpu import attached, check, compile_model, log, mapped_in
from edgekit_convert.edgetpu.compiler import command, compiled_path, find_compiler
from edgekit_convert.graph import with_metadata

#: What compiler 16 printed for a model of which most stayed on the CPU; the form is that of google-coral/edgetpu issue 512.
PRINTED = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3438 ms.

Input model: yolo.tflite
Input size: 7.31MiB
Output model: yolo_edgetpu.tflite
Output size: 7.52MiB
On-chip memory used for caching model parameters: 6.89MiB
On-chip memory remaining for caching model parameters: 1.00KiB
Off-chip memory used for streaming uncached model parameters: 175.00KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 229
Operation log: yolo_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead run on \
the CPU, which is slower. If possible, consider updating your model to use only operations supported by the Edge TPU. For \
details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 227
Number of operations that will run on CPU: 2

Operator                       Count      Status

CONV_2D                        225        Mapped to Edge TPU
RESHAPE                        1          Operation is otherwise supported, but not mapped due to some unspecified limitation
RESHAPE                        2          Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        1          More than one subgraph is not supported
Compilation child process completed within timeout period.
Compilation succeeded!\x20
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The stand-in, as a program."""
    return str(standin.install(tmp_path))


def two_ops() -> bytes:
    """LOGISTIC and TANH in int8; the signature's names are not the tensors'."""
    b = models.Builder()
    quant = QuantParams((0.05,), (0,))
    x, y, z = (b.tensor(name, (1, 8), "int8", quant=quant) for name in ("serving_x:0", "inner", "PartitionedCall:0"))
    b.op("LOGISTIC", [x], [y], version=2)
    b.op("TANH", [y], [z], version=2)
    return b.build({"x": x}, {"z": z})


def small(*, labels: tuple[str, ...] = ()) -> ModelFile:
    """A small int8 model as edgekit writes one: with metadata, a manifest and names of its own."""
    flatbuffer = with_metadata(two_ops(), "a test", {"TFLITE_METADATA": b"normalisation"})
    digest = hashlib.sha256(flatbuffer).hexdigest()
    manifest = Manifest(
        digest, preprocessing={"x": Preprocessing(mean=(127.5,), std=(127.5,))}, labels=labels, golden={"count": 1}
    )
    return ModelFile.read(packing.append(flatbuffer, manifest))


def test_the_compilers_words_are_read() -> None:
    """Version, time, memory and each line of the table."""
    report = log.read(PRINTED)
    assert ("16.0.384591198", 3438, 1, 229) == (report.version, report.milliseconds, report.parts, report.operators)
    memory = (report.cached_bytes, report.spare_bytes, report.streamed_bytes)
    assert (round(6.89 * 2**20), 1024, 175 * 1024) == memory
    assert (227, 2) == (report.mapped, report.left)
    assert log.Row("RESIZE_NEAREST_NEIGHBOR", 1, "More than one subgraph is not supported") == report.rows[-1]


def test_what_is_missing_stays_unknown() -> None:
    """A text of another form gives no numbers rather than wrong ones."""
    report = log.read("Edge TPU Compiler version 99\nsomething else\n")
    assert ("99", None, None, (), 0) == (
        report.version, report.cached_bytes, report.operators, report.rows, report.mapped
    )  # fmt: skip


def test_a_compiled_model_comes_back(program: str) -> None:
    """The flatbuffer and the report, which says how many operators are mapped."""
    source = small()
    made = compile_model(source, program=program)
    assert standin.VERSION == made.report.version
    assert (2, 0) == (made.report.mapped, made.report.left)
    compiled = ModelFile.read(made.content)
    assert ["edgetpu-custom-op"] == [op.name for op in compiled.graph.main.ops]
    assert (True, True) == mapped_in(source, compiled)


def test_what_stays_on_the_cpu_is_read_back(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth is in the compiled file, whatever the check said."""
    monkeypatch.setenv(standin.LEFT, "1")
    source = small()
    made = compile_model(source, program=program)
    assert (1, 1) == (made.report.mapped, made.report.left)
    assert (True, False) == mapped_in(source, ModelFile.read(made.content))
    assert [True, True] == [op.mapped for op in check(source).ops]


def test_the_compiler_gets_no_manifest_and_the_result_has_one(program: str) -> None:
    """What the compiler drops is put back: names, metadata, preprocessing, labels; its own part stays byte for byte."""
    source = small(labels=("a", "b", "c", "d"))
    made = compile_model(source, program=program)
    bare = ModelFile.read(made.content)
    assert ((), None) == (bare.graph.signatures, bare.manifest)
    compiled = attached(made.content, source)
    assert [spec.name for spec in source.inputs] == [spec.name for spec in compiled.inputs]
    assert [spec.name for spec in source.outputs] == [spec.name for spec in compiled.outputs]
    assert b"normalisation" == compiled.graph.metadata["TFLITE_METADATA"]
    assert source.manifest is not None
    assert compiled.manifest is not None
    assert source.manifest.preprocessing == compiled.manifest.preprocessing
    assert ("a", "b", "c", "d") == compiled.manifest.labels
    assert {} == compiled.manifest.golden
    assert standin.PROGRAM_BYTES in compiled.content


@pytest.mark.parametrize("name", ["deeplabv3_mnv2_dm05_pascal_quant", "keras_lstm_mnist_ptq"])
def test_a_real_compiled_part_survives(name: str, assets: Path) -> None:
    """What the real compiler made is the same bytes after the manifest was attached."""
    folder = assets / "edgetpu"
    plain = ModelFile.read(folder / f"{name}.tflite")
    flatbuffer = with_metadata(plain.content, "a test", {})
    manifest = Manifest(hashlib.sha256(flatbuffer).hexdigest(), labels=("a",))
    source = ModelFile.read(packing.append(flatbuffer, manifest))
    before = (folder / f"{name}_edgetpu.tflite").read_bytes()
    compiled = attached(before, source)
    assert mapped_in(plain, ModelFile.read(before)) == mapped_in(plain, compiled)
    assert [spec.name for spec in plain.inputs] == [spec.name for spec in compiled.inputs]
    assert compiled.manifest is not None
    assert custom_options(before) == custom_options(compiled.content)


def custom_options(content: bytes) -> list[bytes]:
    """What the compiled parts of a model hold, read by the schema's own package."""
    from ai_edge_litert import schema_py_generated as schema

    main = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    ops = [main.Operators(index) for index in range(main.OperatorsLength())]
    return [np.asarray(op.CustomOptionsAsNumpy()).tobytes() for op in ops if op.CustomOptionsLength()]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("float", "it takes the model for one that is not quantised"),
        ("version", "does not know operator CONV_2D in version 6"),
        ("dynamic", "a size in the model is computed while it runs"),
        ("large", "does not fit into the Edge TPU's memory"),
        ("internal", "it gave up without a reason"),
        ("silent", r"made no model \(exit code 1\). It said: Compilation failed!"),
    ],
)
def test_each_failure_has_its_reason(mode: str, words: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler prints when it gives up becomes a sentence that says what to do."""
    monkeypatch.setenv(standin.MODE, mode)
    with pytest.raises(ConversionError, match=words):
        compile_model(small(), program=program)


def test_a_compiler_that_hangs_is_stopped(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit the compiler is ended and the message says so."""
    monkeypatch.setenv(standin.MODE, "hang")
    with pytest.raises(ConversionError, match=r"did not finish within 0\.5 s and was stopped"):
        compile_model(small(), program=program, timeout_s=0.5)


def test_a_program_for_another_machine_is_named(tmp_path: Path) -> None:
    """A compiler that this machine cannot run gives a message, not a traceback."""
    path = tmp_path / "edgetpu_compiler"
    path.write_bytes(b"\x7fELF not for this machine")
    path.chmod(0o755)
    with pytest.raises(ConversionError, match=r"cannot be run: .* x86-64 Debian"):
        compile_model(small(), program=str(path))


def test_without_a_compiler_the_message_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without the compiler is told which machine has one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    with pytest.raises(ConversionError, match="not installed: edgetpu_compiler runs on x86-64 Debian and Ubuntu only"):
        compile_model(small())


def test_a_model_of_another_shape_is_not_attached(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiled model has other outputs than its source, nothing is put together."""
    monkeypatch.setenv(standin.MODE, "other")
    source = small()
    with pytest.raises(ConversionError, match="other outputs than its source"):
        attached(compile_model(source, program=program).content, source)


def test_the_command_is_ready_to_paste() -> None:
    """Paths with blanks are quoted; an older runtime is passed on."""
    path = Path("my models/net.tflite")
    assert "edgetpu_compiler -s -o 'my models' 'my models/net.tflite'" == command(path)
    assert "edgetpu_compiler -s -m 13 -o . net.tflite" == command(Path("net.tflite"), runtime=13)
    assert Path("my models/net_edgetpu.tflite") == compiled_path(path)
