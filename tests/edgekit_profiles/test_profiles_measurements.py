"""``edgekit_profiles.measurements`` and ``measure``: timing delegates in processes of their own, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models as models

from edgekit.errors import OptionError
from edgekit.host import Fact, HostFacts
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit_profiles.measure import measure
from edgekit_profiles.measurements import Measurement, Timed, recall, remember, runtime_version

HOST = HostFacts(machine=Fact("x86_64", "uname"), vulkan_drivers=Fact(("/a.json",), "/"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def model() -> ModelFile:
    """A small model."""
    return ModelFile.read(models.dense_float())


def found() -> Measurement:
    """What a measurement gives."""
    timed = Timed("xnnpack", 2, "a runtime 1.0", (3.0, 1.0, 2.0), (5.0, 6.0, 7.0), 30)
    return Measurement("2026-11-21", runtime_version(), {"xnnpack": timed}, {"gpu": "no"})


def only_file(folder: Path) -> Path:
    """The one file that was kept."""
    (path,) = (folder / "plans").iterdir()
    return path


def test_medians() -> None:
    """A delegate's time is the median of its launches, of an even number the middle of two."""
    timed = found().times["xnnpack"]
    assert (2.0, 1.5) == (timed.ns, timed._replace(medians_ns=(1.0, 2.0)).ns)
    assert (timed, None, None) == (found().of("xnnpack", 2), found().of("xnnpack", 1), found().of("none", 2))


def test_what_was_kept_comes_back(model: ModelFile, own_cache: Path) -> None:
    """For the same model and machine, and one file for each model."""
    assert recall(model, HOST) is None
    remember(model, HOST, found()._replace(when="2026-11-20"))
    remember(model, HOST, found())
    assert found() == recall(model, HOST)
    assert f"{model.size_bytes}-{model.sha256[:16]}.json" == only_file(own_cache).name


def test_what_does_not_count(model: ModelFile, own_cache: Path) -> None:
    """Another model, machine, driver or runtime: nothing is known."""
    remember(model, HOST, found())
    assert recall(ModelFile.read(models.dense_int8()), HOST) is None
    assert recall(model, HOST._replace(machine=Fact("aarch64", "uname"))) is None
    assert recall(model, HOST._replace(vulkan_drivers=None)) is None
    remember(model, HOST, found()._replace(version="a runtime 0.9"))
    assert recall(model, HOST) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"{" * 100_000,
        lambda data: b"[1]",
        lambda data: json.dumps({**data, "schema": 2}).encode(),
        lambda data: json.dumps({**data, "times": {"xnnpack": {}}}).encode(),
        lambda data: json.dumps({**data, "times": {"xnnpack": {**data["times"]["xnnpack"], "medians_ns": [-1]}}}).encode(),
        lambda data: json.dumps({**data, "times": {"xnnpack": {**data["times"]["xnnpack"], "medians_ns": []}}}).encode(),
        lambda data: json.dumps(data).encode() + b" " * 300_000,
    ],
    ids=["empty", "nested", "a list", "newer", "no times", "negative", "none", "huge"],
)  # fmt: skip
def test_a_spoiled_file(model: ModelFile, own_cache: Path, spoil: Any) -> None:
    """It costs the knowledge, and is no error."""
    remember(model, HOST, found())
    path = only_file(own_cache)
    path.write_bytes(spoil(json.loads(path.read_bytes())))
    assert recall(model, HOST) is None


def test_a_folder_that_takes_no_files(model: ModelFile, own_cache: Path) -> None:
    """Nothing is kept, and nothing is raised."""
    own_cache.write_text("a file in the folder's place")
    remember(model, HOST, found())
    assert recall(model, HOST) is None


def test_measuring_two_delegates(model: ModelFile) -> None:
    """Each launch is timed on its own; what was taken is read back; what was refused before is kept with it."""
    seen: list[tuple[str, int, int]] = []
    measured, series = measure(
        model,
        [DelegateSpec("xnnpack", 2), DelegateSpec("none", 1)],
        refused={"gpu": "no driver"},
        launches=2,
        progress=lambda *step: seen.append(step),
    )
    assert [("Measuring", done, 4) for done in range(4)] == seen[:4]
    assert {"xnnpack": 2, "none": 1} == {kind: timed.threads for kind, timed in measured.times.items()}
    for timed in measured.times.values():
        assert (2, 2) == (len(timed.medians_ns), len(timed.load_ns))
        assert min(timed.medians_ns) > 0
        assert timed.runs >= 10
    assert {"gpu": "no driver"} == measured.refused
    taken = [item.partitions.taken for item in series if item.partitions is not None]
    assert [2, 0] == taken


def test_a_delegate_that_cannot_be_measured() -> None:
    """Its error is kept as the reason, the others are measured."""
    content = models.custom_op("Mystery")
    measured, (series,) = measure(ModelFile.read(content), [DelegateSpec("xnnpack", 1)], launches=2)
    assert {} == dict(measured.times)
    assert "unresolved custom op: Mystery" in str(series.error)
    assert measured.refused == {"xnnpack": series.error}


def test_a_process_that_hangs(model: ModelFile) -> None:
    """It is ended when its time is up, and that is the reason."""
    _, (series,) = measure(model, [DelegateSpec("xnnpack", 1)], launches=1, limit_s=0.01)
    assert "it was not done in time while it" in str(series.error)


def test_no_launches(model: ModelFile) -> None:
    """At least one is needed."""
    with pytest.raises(OptionError, match="launches is 0: at least 1 was expected"):
        measure(model, [], launches=0)
