"""``edgekit.modelfile``: a model's bytes, and what they say of its inputs and outputs."""

from __future__ import annotations

import gc
import hashlib
import io
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from processes import run_python

from edgekit.errors import ModelFileError
from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams, TensorSpec


class TestRead:
    """From a path or from bytes."""

    def test_path_and_text_and_bytes_give_the_same(self, dense_int8_file: Path) -> None:
        """The source makes no difference to content, hash and structure."""
        content = models.dense_int8()
        sources: list[Any] = [dense_int8_file, str(dense_int8_file), content, bytearray(content), memoryview(content)]
        seen = [ModelFile.read(source) for source in sources]
        assert [(content, hashlib.sha256(content).hexdigest())] * 5 == [(m.content, m.sha256) for m in seen]
        assert [seen[0].inputs] * 5 == [model.inputs for model in seen]

    def test_the_path_is_kept(self, dense_int8_file: Path) -> None:
        """A model that was read from a file is called by it, another one is "the model"."""
        named, anonymous = ModelFile.read(dense_int8_file), ModelFile.read(models.dense_int8())
        assert (dense_int8_file, str(dense_int8_file)) == (named.path, named.name)
        assert (None, "the model") == (anonymous.path, anonymous.name)

    def test_other_paths(self, dense_int8_file: Path) -> None:
        """Anything with ``__fspath__`` is a path."""

        class Place:
            def __fspath__(self) -> str:
                return str(dense_int8_file)

        assert dense_int8_file == ModelFile.read(Place()).path

    def test_missing_file(self, tmp_path: Path) -> None:
        """The message names the file and asks for the spelling."""
        with pytest.raises(ModelFileError, match=r"no such file: .*none\.tflite\. Check the spelling"):
            ModelFile.read(tmp_path / "none.tflite")

    def test_what_is_done_meanwhile(self, dense_int8_file: Path) -> None:
        """It is called once, and not for a file that is refused before."""
        called: list[str] = []
        ModelFile.read(dense_int8_file, meanwhile=lambda: called.append("good"))
        with pytest.raises(ModelFileError):
            ModelFile.read(b"no model at all", meanwhile=lambda: called.append("bad"))
        assert ["good"] == called

    def test_scales_of_channels_stay_in_the_file(self) -> None:
        """As Python's numbers they would take a megabyte for a network of usual size."""
        expected = QuantParams((0.5, 0.25), (0, 0), 0)
        b = models.Builder()
        x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
        b.tensor("weights", (2, 4), "int8", quant=expected, data=np.ones((2, 4), np.int8))
        b.op("ADD", [x, x], [y], ("AddOptions", models.schema.AddOptionsT()))
        (weights,) = (t for t in ModelFile.read(b.build({"x": x}, {"y": y})).graph.main.tensors if t.name == "weights")
        assert weights.quant is not None
        assert "scales" not in vars(weights.quant)
        assert expected == weights.quant

    def test_folder(self, tmp_path: Path) -> None:
        """A folder is not a model."""
        with pytest.raises(ModelFileError, match="it is a folder, a file was expected"):
            ModelFile.read(tmp_path)

    def test_path_through_a_file(self, dense_int8_file: Path) -> None:
        """A part of the path that is a file is said to be one."""
        with pytest.raises(ModelFileError, match="a part of that path is a file"):
            ModelFile.read(dense_int8_file / "model.tflite")

    @pytest.mark.parametrize("name", ["a\0b", "n" * 5000], ids=["NUL", "too long"])
    def test_impossible_name(self, name: str) -> None:
        """A name that the system refuses is an edgekit error."""
        with pytest.raises(ModelFileError, match="cannot read"):
            ModelFile.read(name)

    @pytest.mark.parametrize("content", [b"", b"hello", os.urandom(1000)], ids=["empty", "text", "random"])
    def test_not_a_model(self, content: bytes, tmp_path: Path) -> None:
        """The message names the file."""
        path = tmp_path / "m.tflite"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"m\.tflite is (empty|not a \.tflite model)"):
            ModelFile.read(path)

    def test_archive_of_numpy(self, tmp_path: Path) -> None:
        """A file of another kind is refused for what it is not."""
        stream = io.BytesIO()
        np.savez(stream, a=np.zeros(3))
        with pytest.raises(ModelFileError, match=r"is not a \.tflite model"):
            ModelFile.read(stream.getvalue())


class TestSpecs:
    """Inputs and outputs."""

    def test_float_model(self) -> None:
        """Names from the signature, sizes and types from the tensors."""
        model = ModelFile.read(models.dense_float())
        assert (TensorSpec("x", (1, 8), "float32"),) == model.inputs
        assert (TensorSpec("probabilities", (1, 4), "float32"),) == model.outputs

    def test_int8_model(self) -> None:
        """Scale and zero point belong to the spec, in float32's accuracy."""
        model = ModelFile.read(models.dense_int8())
        scales = [float(np.float32(quant.scales[0])) for quant in (models.DENSE_INPUT, models.DENSE_OUTPUT)]
        assert (TensorSpec("x", (1, 8), "int8", QuantParams((scales[0],), (0,))),) == model.inputs
        assert (TensorSpec("logits", (1, 4), "int8", QuantParams((scales[1],), (0,))),) == model.outputs

    def test_open_sizes(self) -> None:
        """A size that the file leaves open is -1."""
        assert (-1, 8) == ModelFile.read(models.dense_float(open_batch=True)).inputs[0].shape

    def test_several(self) -> None:
        """They come in the file's order."""
        model = ModelFile.read(models.add_two_inputs())
        assert (["a", "b"], ["sum", "difference"]) == (
            [spec.name for spec in model.inputs],
            [spec.name for spec in model.outputs],
        )

    def test_without_signature(self) -> None:
        """An old file's inputs have the tensors' own names."""
        model = ModelFile.read(models.dense_float(signature=False))
        assert ("x", "probabilities") == (model.inputs[0].name, model.outputs[0].name)

    def test_the_signature_s_names_come_first(self) -> None:
        """Where the signature calls a tensor by another name, that is what callers use."""

        def change(model: Any) -> None:
            model.signatureDefs[0].inputs[0].name = b"features"

        assert "features" == ModelFile.read(models.edited(models.dense_float(), change)).inputs[0].name

    def test_signature_of_another_subgraph(self) -> None:
        """A signature that does not belong to the main subgraph gives no names."""

        def change(model: Any) -> None:
            model.subgraphs.append(models.unpacked(models.dense_float()).subgraphs[0])
            model.signatureDefs[0].inputs[0].name = b"features"
            model.signatureDefs[0].subgraphIndex = 1

        assert "x" == ModelFile.read(models.edited(models.dense_float(), change)).inputs[0].name

    @pytest.mark.parametrize("dtype", ["FLOAT32", "FLOAT16", "INT64", "BOOL"])
    def test_scales_of_other_types_mean_nothing(self, dtype: str) -> None:
        """Old converters left scales on tensors that are not quantised; they are not used."""

        def change(model: Any) -> None:
            model.subgraphs[0].tensors[0].type = getattr(models.schema.TensorType, dtype)

        assert ModelFile.read(models.edited(models.dense_int8(), change)).inputs[0].quant is None

    def test_output_by_name(self) -> None:
        """An output by its name, or an error that lists the names."""
        model = ModelFile.read(models.add_two_inputs())
        assert model.outputs[1] is not None
        assert model.outputs[1] == model.output("difference")
        with pytest.raises(ModelFileError, match="the model has no output 'product': sum, difference"):
            model.output("product")


def test_it_does_not_change(dense_int8_file: Path, tmp_path: Path) -> None:
    """The object is frozen, and a file that is replaced later does not change it."""
    model = ModelFile.read(dense_int8_file)
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    other.replace(dense_int8_file)
    assert models.dense_int8() == model.content
    with pytest.raises(AttributeError):
        model.sha256 = "0"  # type: ignore[misc]


class TestMapped:
    """A model that was read from a path lies where it lay."""

    def test_constants_are_in_the_mapping(self, dense_int8_file: Path) -> None:
        """Nothing of the file is copied, and a constant keeps the mapping alive."""
        model = ModelFile.read(dense_int8_file)
        data = model.graph.main.tensors[1].data
        assert data is not None
        assert isinstance(data.obj, mmap.mmap)
        assert data.obj is model.data
        expected = model.graph.main.tensors[1].array().copy()
        tensor = model.graph.main.tensors[1]
        del model, data
        gc.collect()
        np.testing.assert_array_equal(expected, tensor.array())

    def test_size(self, dense_int8_file: Path) -> None:
        """The length is known without a copy."""
        assert [len(models.dense_int8())] * 2 == [
            ModelFile.read(dense_int8_file).size_bytes,
            ModelFile.read(models.dense_int8()).size_bytes,
        ]

    def test_native_path_is_the_checked_file(self, dense_int8_file: Path, tmp_path: Path) -> None:
        """Whatever is under the name later, the path leads to what was checked."""
        model = ModelFile.read(dense_int8_file)
        other = tmp_path / "other"
        other.write_bytes(models.dense_float())
        other.replace(dense_int8_file)
        path = model.native_path()
        assert path is not None
        assert models.dense_int8() == Path(path).read_bytes()

    def test_bytes_have_no_path(self) -> None:
        """What came as bytes is given to native code as bytes."""
        assert ModelFile.read(models.dense_int8()).native_path() is None

    @pytest.mark.parametrize("content", [b"", b"something else"], ids=["cut", "overwritten"])
    def test_a_change_in_place_is_noticed(self, dense_int8_file: Path, content: bytes) -> None:
        """A mapping follows what is written into the file: neither a copy nor native code may come from it."""
        model = ModelFile.read(dense_int8_file)
        dense_int8_file.write_bytes(content)
        with pytest.raises(ModelFileError, match="was changed in place after it was checked: load it again"):
            model.native_path()
        with pytest.raises(ModelFileError, match="write the new file under another name in the same folder"):
            _ = model.content

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
    def test_nothing_stays_open(self, dense_int8_file: Path) -> None:
        """Descriptors and mappings go with the model, also when it was refused."""

        def count() -> int:
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        bad = dense_int8_file.with_name("bad.tflite")
        bad.write_bytes(models.dense_int8()[:-200])
        before = count()
        kept = [ModelFile.read(dense_int8_file) for _ in range(20)]
        assert count() > before
        for _ in range(20):
            with pytest.raises(ModelFileError):
                ModelFile.read(bad)
        del kept
        assert before == count()

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a limit on open files as Linux has it")
    def test_no_descriptor_left_for_the_mapping(self, dense_int8_file: Path) -> None:
        """The file is read instead, and with none at all the message names the limit."""
        code = f"""
import os, resource
from edgekit.modelfile import ModelFile
from edgekit.errors import ModelFileError
ModelFile.read({str(dense_int8_file)!r})
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
while True:
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
for free in (1, 0):
    for number in range(free):
        os.close(held.pop())
    try:
        model = ModelFile.read({str(dense_int8_file)!r})
        print(len(model.content))
    except ModelFileError as error:
        print(error)
"""
        done = run_python("-c", code, check=True)
        lines = done.stdout.splitlines()
        assert str(len(models.dense_int8())) == lines[0]
        assert lines[1].endswith("Too many open files.")


class TestNotARegularFile:
    """Names of what is no file are errors at once, whatever reading would have done."""

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
    def test_fifo(self, tmp_path: Path) -> None:
        """A FIFO that nobody writes to would wait for ever."""
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(ModelFileError, match="it is not a regular file"):
            ModelFile.read(tmp_path / "fifo")

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
    @pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
    def test_device(self, name: str) -> None:
        """A device has no end, or nothing in it."""
        with pytest.raises(ModelFileError, match=r"it is not a regular file .* Save the model to a file first"):
            ModelFile.read(name)

    def test_link(self, dense_int8_file: Path, tmp_path: Path) -> None:
        """A link to a file is a file."""
        link = tmp_path / "link.tflite"
        link.symlink_to(dense_int8_file)
        assert models.dense_int8() == ModelFile.read(link).content


def test_soundness_is_part_of_reading() -> None:
    """A file whose graph an interpreter would crash on is refused, each time."""

    def change(model: Any) -> None:
        model.subgraphs[0].operators[0].outputs = [1]

    content = models.edited(models.dense_float(), change)
    for _ in range(2):
        with pytest.raises(
            ModelFileError, match=r"operator 0 \(FULLY_CONNECTED\) writes tensor 1 \('weights'\), a constant"
        ):
            ModelFile.read(content)
