"""``edgekit_profiles.resolver``: the delegate that is picked, and the reason for each that is not."""

from __future__ import annotations

from pathlib import Path

import machine_trees as trees
import pytest
import tiny_models as models

from edgekit.errors import DelegateError, ProfileError
from edgekit.host import Fact, HostFacts, read_host
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import KINDS, DelegateChoice, DelegateSpec
from edgekit_profiles import Target, choose_delegate, choose_for, find_target, load_profile
from edgekit_profiles.profile import DelegateRule

NOT_COMPILED = "the model was not compiled for the Edge TPU (no operator edgetpu-custom-op): run edgetpu_compiler on a fully int8 file"
NO_LIBRARY = "the library libedgetpu was not found: install the package libedgetpu1-std"
NO_DEVICE = "no Edge TPU was found on USB (/sys/bus/usb/devices) or PCIe (/dev/apex_*)"
NO_GPU_YET = "this version of edgekit does not run models on the GPU yet"
COMPILED = "the model was compiled for the Edge TPU and holds the operator edgetpu-custom-op, which this delegate does not have"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def plain() -> ModelFile:
    """A model for the CPU."""
    return ModelFile.read(models.dense_int8())


@pytest.fixture
def compiled() -> ModelFile:
    """A model with the operator that the Edge TPU compiler leaves in place of what it mapped."""
    b = models.Builder()
    x = b.tensor("x", (1, 8), "int8", quant=models.DENSE_INPUT)
    y = b.tensor("logits", (1, 4), "int8", quant=models.DENSE_OUTPUT)
    b.op("CUSTOM", [x], [y])
    b.codes[0].customCode = b"edgetpu-custom-op"
    return ModelFile.read(b.build({"x": x}, {"logits": y}))


def _target(tmp_path: Path, files: dict[str, str | bytes], profile_id: str, *, here: bool = True) -> Target:
    host = read_host(trees.plant(tmp_path / "root", files))
    return Target(load_profile(profile_id), host, here, "as the test says")


def _reasons(choice: DelegateChoice) -> dict[str, str]:
    """Why each other delegate was not picked; every kind is the pick or in here."""
    reasons = {item.kind: item.reason for item in choice.rejected}
    assert sorted([choice.spec.kind, *reasons]) == sorted(KINDS)
    return reasons


def test_a_plain_model_on_a_raspberry_pi_5(tmp_path: Path, plain: ModelFile) -> None:
    """XNNPACK with the profile's threads; for the others what was found there and what was not."""
    choice = choose_for(_target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5"), plain, None)
    assert choice.spec == DelegateSpec("xnnpack", 4)
    assert choice.profile_id == "raspberry-pi-5"
    assert choice.reason == (
        "the first usable delegate in the order of the profile raspberry-pi-5: the CPU delegate that is part of every "
        "interpreter; 4 threads, the profile's default"
    )
    assert _reasons(choice) == {
        "edgetpu": f"{NOT_COMPILED}; {NO_LIBRARY}; {NO_DEVICE}",
        "gpu": f"{NO_GPU_YET}; Vulkan driver files were found here (broadcom_icd.aarch64.json, lvp_icd.aarch64.json); "
        "no OpenCL library was found here",
        "none": "it can be used, but xnnpack comes before it and leaves every operator that it does not take to these same "
        "kernels; ask for it to compare the two",
    }


def test_a_plain_model_with_an_edge_tpu_plugged_in(tmp_path: Path, plain: ModelFile) -> None:
    """With library and device there, only the model is in the way."""
    files = {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}
    choice = choose_for(_target(tmp_path, files, "raspberry-pi-5"), plain, None)
    assert choice.spec.kind == "xnnpack"
    assert _reasons(choice)["edgetpu"] == NOT_COMPILED


def test_a_compiled_model_with_an_edge_tpu_plugged_in(tmp_path: Path, compiled: ModelFile) -> None:
    """Model, library and device fit: the Edge TPU is picked, and nothing else could run it."""
    files = {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}
    choice = choose_for(_target(tmp_path, files, "raspberry-pi-5"), compiled, 2)
    assert choice.spec == DelegateSpec("edgetpu", 2)
    assert choice.reason == (
        "the first usable delegate in the order of the profile raspberry-pi-5: the model was compiled for the Edge TPU, and "
        "USB 18d1:9302 at 2-1 and /usr/lib/aarch64-linux-gnu/libedgetpu.so.1 are here; 2 threads, as asked for"
    )
    assert _reasons(choice)["xnnpack"] == COMPILED
    assert _reasons(choice)["none"] == COMPILED


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("usr/lib/aarch64-linux-gnu/libedgetpu.so.1", NO_LIBRARY), ("sys/bus/usb/devices/2-1/idVendor", NO_DEVICE)],
)
def test_a_compiled_model_where_something_is_missing(
    tmp_path: Path, compiled: ModelFile, missing: str, reason: str
) -> None:
    """Nothing else can run it, so the pick stays, and its reason says that it will not run and why."""
    files = {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}
    del files[missing]
    choice = choose_for(_target(tmp_path, files, "raspberry-pi-5"), compiled, None)
    assert choice.spec.kind == "edgetpu"
    assert choice.reason == (
        "the model was compiled for the Edge TPU and holds the operator edgetpu-custom-op, which no other delegate runs. It "
        f"will not run here as things are: {reason}; 4 threads, the profile's default"
    )


def test_a_device_that_is_not_this_machine(tmp_path: Path, plain: ModelFile, compiled: ModelFile) -> None:
    """The pick follows the profile, what this machine has does not count, and the reasons say that nothing was looked for."""
    target = _target(tmp_path, {**trees.X86_64_PC, **trees.CORAL_USB}, "raspberry-pi-5", here=False)
    not_looked = "This machine is not raspberry-pi-5, so the hardware that this needs was not looked for"
    choice = choose_for(target, plain, None)
    assert choice.spec == DelegateSpec("xnnpack", 4)
    assert not_looked in choice.reason
    assert _reasons(choice)["edgetpu"] == NOT_COMPILED
    assert _reasons(choice)["gpu"] == (
        f"{NO_GPU_YET}; a Vulkan driver was not looked for, since this machine is not raspberry-pi-5; an OpenCL library was "
        "not looked for either"
    )
    choice = choose_for(target, compiled, None)
    assert choice.spec == DelegateSpec("edgetpu", 4)
    assert not_looked in choice.reason


def test_without_a_model(tmp_path: Path) -> None:
    """For a device alone, the Edge TPU's reason says that it depends on the model."""
    choice = choose_for(_target(tmp_path, trees.X86_64_PC, "generic-x86_64-linux"), None, None)
    assert choice.spec == DelegateSpec("xnnpack", 1)
    assert _reasons(choice)["edgetpu"] == (
        f"it runs only models that were compiled for it, and no model was named; {NO_LIBRARY}; {NO_DEVICE}"
    )


def test_a_machine_without_a_profile(plain: ModelFile) -> None:
    """XNNPACK on one thread, with the reason."""
    host = HostFacts(system=Fact("Windows", "sys.platform"), machine=Fact("AMD64", "PROCESSOR_ARCHITECTURE"))
    choice = choose_for(Target(None, host, True, "no device profile fits this machine"), plain, None)
    assert choice.spec == DelegateSpec("xnnpack", 1)
    assert choice.profile_id is None
    assert choice.reason == (
        "no device profile fits this machine, and the CPU delegate that is part of every interpreter; 1 thread, because "
        "nothing is known of how this machine's cores share their work"
    )
    assert _reasons(choice)["edgetpu"] == (
        f"{NOT_COMPILED}; {NO_LIBRARY}; whether an Edge TPU is connected can be seen on Linux only, not on Windows"
    )


def test_threads_that_are_asked_for_win(tmp_path: Path, plain: ModelFile) -> None:
    """Even more than there are cores: whoever asks may be measuring."""
    choice = choose_for(_target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5"), plain, 8)
    assert choice.spec.threads == 8
    assert choice.reason.endswith("; 8 threads, as asked for")


def test_no_more_threads_than_the_process_may_use(tmp_path: Path, plain: ModelFile) -> None:
    """A process that is bound to two cores gets two threads, not the board's four."""
    files = {**trees.RASPBERRY_PI_5, "sys/devices/system/cpu/online": "0,2\n"}
    choice = choose_for(_target(tmp_path, files, "raspberry-pi-5"), plain, None)
    assert choice.spec.threads == 2
    assert choice.reason.endswith("; 2 threads: the profile says 4, and this process may use only 2")


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_impossible_numbers_of_threads(plain: ModelFile, threads: int) -> None:
    """Refused with the range, not replaced by the default."""
    with pytest.raises(DelegateError, match=f"{threads} threads asked for: from 1 to 1024 were expected"):
        choose_delegate(device="raspberry-pi-5", model=plain, threads=threads)


def test_a_profile_that_lists_less(tmp_path: Path, plain: ModelFile) -> None:
    """What a profile does not list is rejected for that; when nothing that it lists is usable, XNNPACK is."""
    target = _target(tmp_path, trees.X86_64_PC, "generic-x86_64-linux")
    assert target.profile is not None
    only_gpu = target.profile._replace(delegates=(DelegateRule("gpu", ("vulkan-driver",), (), "test"),))
    choice = choose_for(target._replace(profile=only_gpu), plain, None)
    assert choice.spec.kind == "xnnpack"
    assert choice.reason == (
        "no delegate that the profile lists can be used, and this one is part of every interpreter; 1 thread, the profile's "
        "default"
    )
    assert _reasons(choice)["none"] == "the profile generic-x86_64-linux does not list it"


def test_the_order_of_the_profile_decides(tmp_path: Path, plain: ModelFile) -> None:
    """A profile can put the interpreter's own kernels first."""
    target = _target(tmp_path, trees.X86_64_PC, "generic-x86_64-linux")
    assert target.profile is not None
    rules = tuple(DelegateRule(kind, (), (), "test") for kind in ("none", "xnnpack"))
    choice = choose_for(target._replace(profile=target.profile._replace(delegates=rules)), plain, None)
    assert choice.spec.kind == "none"
    assert _reasons(choice)["xnnpack"] == "it can be used, but none comes before it in the profile"


def test_find_target_of_a_named_device() -> None:
    """A named device is this machine when its rules hold here, and otherwise the reason says what differs."""
    here = find_target(None)
    assert here.here
    assert here.profile is not None
    assert find_target(here.profile.id).here
    other = "generic-aarch64-linux" if here.profile.id != "generic-aarch64-linux" else "generic-x86_64-linux"
    target = find_target(other)
    assert (target.here, target.name) == (False, other)
    assert target.reason.startswith("architecture is ")


def test_choose_delegate_on_this_machine(plain: ModelFile) -> None:
    """What ``edgekit.load`` calls: this machine's profile, and a model for the CPU goes to XNNPACK."""
    choice = choose_delegate(device=None, model=plain, threads=3)
    profile = find_target(None).profile
    assert profile is not None
    assert choice.spec == DelegateSpec("xnnpack", 3)
    assert choice.profile_id == profile.id


def test_choose_delegate_for_an_unknown_device(plain: ModelFile) -> None:
    """The message lists the known ids."""
    with pytest.raises(ProfileError, match=r"unknown device 'toaster'\. Known devices: generic-aarch64-linux, "):
        choose_delegate(device="toaster", model=plain, threads=None)


def test_the_compiled_models_of_the_assets(assets: Path) -> None:
    """What the Edge TPU compiler really wrote is recognised, and what it was made from is not."""
    for path in sorted((assets / "edgetpu").glob("*.tflite")):
        choice = choose_delegate(device="raspberry-pi-5", model=ModelFile.read(path), threads=None)
        assert choice.spec.kind == ("edgetpu" if path.stem.endswith("_edgetpu") else "xnnpack"), path.name
