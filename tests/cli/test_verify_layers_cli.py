"""``edgekit verify --per-layer --html``: the table, the page, and what is refused before the long run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli import cli

PAIR = ("float.tflite", "int8.tflite", "--data", "data.npz:x")


@pytest.fixture(scope="module")
def pair() -> bytes:
    """An int8 model of ``conv_float``."""
    images = np.random.default_rng(2).uniform(-1, 1, (48, 12, 12, 3)).astype(np.float32)
    return edgekit.convert(models.conv_float(), images).model.content


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: bytes) -> Path:
    """A folder with both models and data, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "float.tflite").write_bytes(models.conv_float())
    (tmp_path / "int8.tflite").write_bytes(pair)
    images = np.random.default_rng(3).uniform(-1, 1, (20, 12, 12, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images)
    return tmp_path


def verify(*arguments: str) -> Result:
    """Run ``edgekit verify`` in this process."""
    return CliRunner().invoke(cli, ["verify", *arguments])


def test_the_table_follows_the_graph(here: Path) -> None:
    """A row for each tensor from the input to the output, the three worst numbered."""
    result = verify(*PAIR, "--per-layer")
    assert result.exit_code == 0, result.output
    table = result.stdout[result.stdout.index("Layer by layer, on 20 samples") :]
    places = [table.index(name) for name in ("image", "features", "pooled", "logits", "probabilities")]
    assert places == sorted(places)
    rows = [line.split() for line in table.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert ["0", "1", "2", "3", "4"] == [row[0] for row in rows]
    assert {"dB"} <= {word for row in rows for word in row}


def test_without_the_option_there_is_no_table(here: Path) -> None:
    """The figures alone."""
    assert "Layer by layer" not in verify(*PAIR).stdout


def test_json_has_the_layers(here: Path) -> None:
    """In the graph's order, the worst ranked."""
    layers = json.loads(verify(*PAIR, "--per-layer", "--json").stdout)["layers"]
    assert ["INPUT", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"] == [row["operator"] for row in layers["layers"]]
    assert sorted(row["worst"] for row in layers["layers"] if row["worst"]) == [1, 2, 3]
    worst = min(layers["layers"], key=lambda row: row["sqnr_db"])
    assert worst["worst"] == 1


def test_the_page(here: Path) -> None:
    """It holds the layers without ``--per-layer``, and is named on stdout."""
    result = verify(*PAIR, "--html", "page.html")
    assert result.exit_code == 0, result.output
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "SQNR along the network" in text
    assert "int8.tflite against float.tflite" in text
    assert result.stdout.rstrip().endswith("page.html")
    assert "Layer by layer" not in result.stdout


def test_json_beside_a_page_is_one_document(here: Path) -> None:
    """Nothing but JSON on stdout."""
    result = verify(*PAIR, "--html", "page.html", "--json")
    assert json.loads(result.stdout)["layers"]["samples"] == 20


def test_overwrite(here: Path) -> None:
    """An existing page is kept unless told."""
    (here / "page.html").write_text("mine")
    assert verify(*PAIR, "--html", "page.html").exit_code == 2
    assert (here / "page.html").read_text() == "mine"
    assert verify(*PAIR, "--html", "page.html", "--overwrite").exit_code == 0
    assert (here / "page.html").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*PAIR, "--html", "absent/page.html"), "the folder absent does not exist"),
        ((*PAIR, "--html", "."), "it is a folder"),
        ((*PAIR, "--html", "int8.tflite", "--overwrite"), "it is one of the models"),
        (("int8.tflite", "float.tflite", "--data", "data.npz:x", "--per-layer"), "give the float model first"),
        (("float.tflite", "dense.tflite", "--data", "data.npz:x", "--per-layer"), "not the same network"),
        (("float.tflite", "int8.tflite", "--data", "rows.npy", "--per-layer"), "sample 0 has shape"),
        (("float.tflite", "page.txt", "--data", "data.npz:x", "--html", "p.html"), "page.txt is not a .tflite model"),
    ],
    ids=["no folder", "a folder", "a model", "swapped", "another network", "other data", "no model"],
)
def test_what_is_refused(here: Path, arguments: tuple[str, ...], words: str) -> None:
    """One message, exit code 2, and no page."""
    (here / "dense.tflite").write_bytes(models.dense_int8())
    (here / "page.txt").write_text("this is no model at all")
    np.save(here / "rows.npy", np.zeros((3, 8), np.float32))
    before = (here / "int8.tflite").read_bytes()
    result = verify(*arguments)
    assert (result.exit_code, "Traceback" in result.output) == (2, False), result.output
    assert words in " ".join(result.stderr.split())
    assert not (here / "p.html").exists()
    assert (here / "int8.tflite").read_bytes() == before


def test_an_unwritable_page_is_noticed_before_the_run(here: Path) -> None:
    """Nothing is read: no progress is told."""
    result = verify(*PAIR, "--html", "absent/page.html")
    assert "…" not in result.stderr


def test_a_model_that_does_not_run(here: Path) -> None:
    """The check fails, exit code 1, and the page says why."""
    (here / "custom.tflite").write_bytes(models.custom_op("Mystery"))
    np.save(here / "rows.npy", np.zeros((3, 4), np.float32))
    result = verify("custom.tflite", "custom.tflite", "--data", "rows.npy", "--per-layer", "--html", "page.html")
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert "FAILED" in (here / "page.html").read_text(encoding="utf-8")
