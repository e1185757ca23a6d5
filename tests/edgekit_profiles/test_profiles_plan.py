"""``edgekit_profiles.plan``: which delegates run a model here, how much of it, how fast, and which one is picked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_models as models
import vulkan_drivers
from standin_delegates import compiled_model, standin_edgetpu

import edgekit
from edgekit.host import Fact
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import KINDS, DelegateSpec
from edgekit_profiles import find_target, load_profile
from edgekit_profiles.plan import Expected, Plan, make_plan
from edgekit_profiles.resolver import Target
from edgekit_profiles.trying import Share


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No profiles of the user's, an empty cache, and no Vulkan driver."""
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(tmp_path / "devices"))
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)


@pytest.fixture
def model() -> ModelFile:
    """A small image classifier."""
    return ModelFile.read(models.conv_float())


def here() -> Target:
    """This machine, with a profile that lists what is tried below."""
    target = find_target(None)
    assert target.profile is not None
    return target._replace(profile=load_profile("generic-x86_64-linux"), attached=())


def row(plan: Plan, kind: str) -> dict[str, object]:
    """A delegate of a plan, as JSON."""
    return next(item.to_json() for item in plan.delegates if item.kind == kind)


def test_every_delegate_is_in_it(model: ModelFile) -> None:
    """Each once, the pick marked; nothing was measured, and no time is invented."""
    plan = make_plan(model, here())
    assert sorted(KINDS) == sorted(item.kind for item in plan.delegates)
    assert ["xnnpack"] == [item.kind for item in plan.delegates if item.picked]
    assert {None} == {item.expected for item in plan.delegates} | {item.timed for item in plan.delegates}
    assert (False, None, None) == (plan.failed, plan.unmet, plan.problem)


def test_shares(model: ModelFile) -> None:
    """What XNNPACK takes is read back; the interpreter's own kernels run everything."""
    plan = make_plan(model, here())
    for kind in ("xnnpack", "none"):
        found = row(plan, kind)
        assert (1.0, 1.0, True) == (found["operator_share"], found["mac_share"], found["tried"])
        assert str(found["share_by"]).startswith("read back from ")


def test_without_a_vulkan_driver(model: ModelFile) -> None:
    """The GPU is refused in words, the model runs, and a required GPU is told to be missing."""
    plan = make_plan(model, here(), require="gpu")
    assert "no Vulkan driver was found on this machine" in str(row(plan, "gpu")["reason"])
    assert (False, False) == (row(plan, "gpu")["available"], row(plan, "gpu")["tried"])
    assert plan.unmet is not None
    assert plan.unmet.startswith("gpu was required and cannot be used: no Vulkan driver was found on this machine")
    assert ("xnnpack", True, None) == (plan.choice.spec.kind, plan.failed, plan.problem)


def test_measured_times_decide_and_are_remembered(model: ModelFile) -> None:
    """The fastest is picked with the times as the reason; the next plan and the next load know them."""
    plan = make_plan(model, here(), measure=True)
    times = {item.kind: item.timed.ns for item in plan.delegates if item.timed is not None}
    assert {"xnnpack", "none"} == set(times)
    assert times[plan.choice.spec.kind] <= min(times.values()) / 0.95
    assert plan.choice.reason.startswith(("measured fastest here: ", "measured as fast as any here"))
    again = make_plan(model, here())
    assert times == {item.kind: item.expected.ns for item in again.delegates if item.expected is not None}
    assert plan.choice.reason == again.choice.reason
    expected = again.pick.expected
    assert expected is not None
    assert expected.by.startswith("measured here on ")


def test_what_is_required_is_the_pick(model: ModelFile) -> None:
    """Also where another one comes first; that one's reason says so."""
    plan = make_plan(model, here(), require="none")
    assert ("none", None, False) == (plan.choice.spec.kind, plan.unmet, plan.failed)
    assert plan.choice.reason.startswith("required; ")
    assert str(row(plan, "xnnpack")["reason"]).startswith("none was required. ")


def test_required_and_taken_in_part() -> None:
    """A delegate that leaves operators outside does not meet it."""
    b = models.Builder()
    x, i = b.tensor("x", (1, 4)), b.tensor("i", (1, 4), "int32")
    b.op("RELU", [x], [b.tensor("y", (1, 4))])
    b.op("CAST", [x], [i])
    plan = make_plan(ModelFile.read(b.build({"x": x}, {"i": i})), here(), require="xnnpack")
    assert plan.unmet is not None
    assert "xnnpack was required to take the whole model, and takes xnnpack: " in plan.unmet


def test_a_model_that_nothing_runs() -> None:
    """Both CPU delegates were tried and say why; the plan failed."""
    plan = make_plan(ModelFile.read(models.custom_op("Mystery")), here())
    assert plan.failed
    for kind in ("xnnpack", "none"):
        assert (False, True) == (row(plan, kind)["available"], row(plan, kind)["tried"])
    assert "Mystery" in str(plan.problem)


def test_another_machine(model: ModelFile) -> None:
    """Nothing is tried for it; what XNNPACK takes is predicted from the runtime here, and a GPU cannot be promised."""
    target = Target(load_profile("raspberry-pi-5"), find_target(None).host, False, "as the test says")
    plan = make_plan(model, target, require="gpu", measure=True)
    assert [False] * len(KINDS) == [item.tried for item in plan.delegates]
    assert (1.0, False) == (row(plan, "xnnpack")["mac_share"], plan.measured)
    assert str(row(plan, "xnnpack")["share_by"]).startswith("predicted: as ")
    assert plan.unmet == (
        "gpu was required, and this machine is not raspberry-pi-5: whether it works is known there only."
    )
    assert plan.failed


def test_predictions_from_outside(model: ModelFile) -> None:
    """What the caller can predict fills in what cannot be asked."""
    plan = make_plan(
        model,
        here(),
        share=lambda kind: Share(0.5, 0.25, "a guess") if kind == "edgetpu" else None,
        expect=lambda spec: Expected(7.0, "a table") if spec.kind == "none" else None,
    )
    assert (0.5, 0.25, "a guess") == tuple(
        row(plan, "edgetpu")[key] for key in ("operator_share", "mac_share", "share_by")
    )
    assert (7.0, "a table") == (row(plan, "none")["predicted_ns"], row(plan, "none")["predicted_by"])


def test_the_gpu_measured(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The float MobileNetV1 on SwiftShader: XNNPACK and the GPU measured, equal within the tolerance, XNNPACK picked."""
    monkeypatch.setenv("VK_DRIVER_FILES", str(vulkan_drivers.swiftshader()))
    model = ModelFile.read(assets / "mobilenet_v1_0.25_224" / "float.tflite")
    plan = make_plan(model, here(), measure=True)
    times = {item.kind: item.timed.ns for item in plan.delegates if item.timed is not None}
    assert {"xnnpack", "gpu", "none"} == set(times)
    assert times["xnnpack"] < times["gpu"]
    gpu = row(plan, "gpu")
    assert ("xnnpack", True, True) == (plan.choice.spec.kind, gpu["available"], gpu["tried"])
    assert str(gpu["reason"]).startswith("it can be used, and was measured slower: ")
    notes = " ".join(gpu["notes"]) if isinstance(gpu["notes"], list) else ""
    assert "gives what the CPU gives (largest difference " in notes
    assert "preparing the model took " in notes
    assert gpu["mac_share"] == 1.0
    with edgekit.load(model) as session:
        assert "xnnpack" == session.asked.spec.kind


@dataclass(frozen=True)
class Broken:
    """A driver that fails, and words of the reason."""

    fault: str
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Broken("crashes", "it was ended by SIGSEGV"),
        Broken("is_killed", "it was ended by SIGKILL"),
        Broken("computes_nothing", "the GPU gives wrong numbers"),
    ],
    ids=lambda case: case.fault,
)
def test_a_broken_driver(case: Broken, model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is refused with that reason, this process lives on, and the next load does not try again."""
    monkeypatch.setenv("VK_DRIVER_FILES", str(vulkan_drivers.stand_in(tmp_path, case.fault)))
    plan = make_plan(model, here(), measure=True)
    gpu = row(plan, "gpu")
    assert (False, True) == (gpu["available"], gpu["tried"])
    assert case.words in str(gpu["reason"])
    assert not plan.failed
    assert f"it was tried on {plan_day(model)} and refused: " in str(row(make_plan(model, here()), "gpu")["reason"])


def plan_day(model: ModelFile) -> str:
    """The day of what is remembered of a model."""
    from edgekit_profiles.resolver import measured_here

    found = measured_here(here(), model)
    assert found is not None
    return found.when


def test_options_that_the_gpu_does_not_have(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile's mistake is a reason, and takes nothing down."""
    monkeypatch.setenv("VK_DRIVER_FILES", str(vulkan_drivers.swiftshader()))
    target = here()
    assert target.profile is not None
    rules = tuple(
        rule._replace(options={"precision": "fp8"}) if rule.kind == "gpu" else rule for rule in target.profile.delegates
    )
    plan = make_plan(model, target._replace(profile=target.profile._replace(delegates=rules)), require="gpu")
    assert "fp8" in str(row(plan, "gpu")["reason"])
    assert plan.unmet is not None


def test_specs_are_checked(model: ModelFile) -> None:
    """An unknown delegate to require is told."""
    with pytest.raises(edgekit.DelegateError, match="unknown delegate 'cpu'"):
        make_plan(model, here(), require="cpu")
    assert DelegateSpec("xnnpack", 3) == make_plan(model, here(), threads=3).choice.spec


def with_edgetpu(library: Path) -> Target:
    """This machine with a stand-in for the Edge TPU's library, and a device that the test claims to be there."""
    target = here()
    found = target.host._replace(
        edgetpu_devices=Fact(("USB 18d1:9302 at 2-1",), "the test"),
        edgetpu_library=Fact(str(library), "the test"),
        edgetpu_access=None,
    )
    return target._replace(host=found)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("works", None),
        ("no device", "no Edge TPU"),
        ("refused permission, USB", "may not"),
        ("crash, open", "SIGSEGV"),
    ],
)
def test_a_stand_in_for_the_edge_tpu(
    behaviour: str, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled model goes there when the library works, and is told why it does not when it fails; nothing here is harmed."""
    library = standin_edgetpu(tmp_path, behaviour)
    monkeypatch.setattr("edgekit.runtime.delegates.edgetpu_library", lambda: str(library))
    plan = make_plan(ModelFile.read(compiled_model()), with_edgetpu(library), require="edgetpu")
    found = row(plan, "edgetpu")
    assert (True, 1.0) == (found["tried"], found["operator_share"])
    assert "edgetpu" == plan.choice.spec.kind
    if words is None:
        assert (None, True, False) == (plan.unmet, found["available"], plan.failed)
    else:
        assert plan.unmet is not None
        assert words in plan.unmet
        assert (False, True) == (found["available"], plan.failed)


def test_a_compiled_model_with_an_operator_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the operators is counted in the compiled file; the work inside is not known; it is not the whole model."""
    library = standin_edgetpu(tmp_path, "works")
    monkeypatch.setattr("edgekit.runtime.delegates.edgetpu_library", lambda: str(library))
    plan = make_plan(ModelFile.read(compiled_model(then_relu=True)), with_edgetpu(library), require="edgetpu")
    assert (0.5, None) == (row(plan, "edgetpu")["operator_share"], row(plan, "edgetpu")["mac_share"])
    assert plan.unmet == "edgetpu was required to take the whole model, and its compiler left operators to the CPU."
