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
from edgekit_profiles import Target, choose_delegate, choose_for, fallback_order, find_target, load_profile
from edgekit_profiles.measurements import Measurement, Timed, remember, runtime_version
from edgekit_profiles.profile import DelegateRule

NOT_COMPILED = "the model was not compiled for the Edge TPU (no operator edgetpu-custom-op): run edgetpu_compiler on a fully int8 file"
NO_LIBRARY = "the library libedgetpu was not found: install the package libedgetpu1-std"
NO_DEVICE = "no Edge TPU was found on USB (/sys/bus/usb/devices) or PCIe (/dev/apex_*)"
NO_VULKAN = (
    "no Vulkan driver was found on this machine, and the GPU is reached through one: install the driver of your GPU (Debian, "
    "Ubuntu and Raspberry Pi OS: the package mesa-vulkan-drivers). The model runs on the CPU without it"
)
UNTRIED = "it has not been tried with this model here: `edgekit plan MODEL --measure` does that in a process of its own"
NO_NPU = "edgekit does not run models on NPUs: LiteRT needs the vendor's dispatch library and SDK for that"
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
        "gpu": UNTRIED,
        "none": "it can be used, but xnnpack comes before it and leaves every operator that it does not take to these same "
        "kernels; ask for it to compare the two",
        "npu": "the profile raspberry-pi-5 does not list it",
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
        "it is picked only after a trial on the device itself, and this machine is not raspberry-pi-5"
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


def _measured(times: dict[str, float], *, threads: int = 4, refused: dict[str, str] | None = None) -> Measurement:
    """What ``edgekit plan --measure`` would have found, in milliseconds."""
    timed = {kind: Timed(kind, threads, "a runtime 1.0", (1e6 * ms,), (1e6,), 10) for kind, ms in times.items()}
    return Measurement("2026-11-21", "a_runtime 1.0", timed, refused or {})


class TestMeasured:
    """The pick when the delegates were measured."""

    def choice(self, tmp_path: Path, model: ModelFile, measured: Measurement, threads: int = 4) -> DelegateChoice:
        """The choice on a Raspberry Pi 5 with its Vulkan driver."""
        target = _target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5")
        return choose_for(target, model, threads, measured=measured)

    def test_the_fastest_is_picked(self, tmp_path: Path, plain: ModelFile) -> None:
        """Even where it comes later in the profile; the reasons have the times."""
        choice = self.choice(tmp_path, plain, _measured({"xnnpack": 3.0, "gpu": 1.5, "none": 9.0}))
        assert choice.spec == DelegateSpec("gpu", 4)
        assert choice.reason == (
            "measured fastest here: 1.50 ms a run, xnnpack 3.00 ms, none 9.00 ms (on 2026-11-21); 4 threads, as asked for"
        )
        assert _reasons(choice)["xnnpack"] == "it can be used, and was measured slower: 3.00 ms a run, gpu 1.50 ms"

    def test_one_that_measured_slower_is_not_picked(self, tmp_path: Path, plain: ModelFile) -> None:
        """The GPU's reason says by how much."""
        choice = self.choice(tmp_path, plain, _measured({"xnnpack": 3.0, "gpu": 230.0}))
        assert choice.spec.kind == "xnnpack"
        assert _reasons(choice)["gpu"] == "it can be used, and was measured slower: 230 ms a run, xnnpack 3.00 ms"

    def test_gains_below_five_per_cent_are_none(self, tmp_path: Path, plain: ModelFile) -> None:
        """The order of the profile decides between times that two measurements of the same could have."""
        choice = self.choice(tmp_path, plain, _measured({"xnnpack": 3.0, "gpu": 2.9}))
        assert choice.spec.kind == "xnnpack"
        assert choice.reason.startswith(
            "measured as fast as any here, and first in the profile: 3.00 ms a run, gpu 2.90 ms"
        )
        assert "was measured as fast within 5 %: 3.00 ms a run, 2.90 ms here" in _reasons(choice)["gpu"]

    def test_times_of_another_number_of_threads_do_not_count(self, tmp_path: Path, plain: ModelFile) -> None:
        """What was measured with four threads says nothing of one."""
        choice = self.choice(tmp_path, plain, _measured({"xnnpack": 3.0, "gpu": 1.5}), threads=1)
        assert choice.spec == DelegateSpec("xnnpack", 1)

    def test_what_was_refused_when_it_was_tried(self, tmp_path: Path, plain: ModelFile) -> None:
        """A GPU that gave wrong numbers stays refused, with that reason and the day."""
        choice = self.choice(tmp_path, plain, _measured({"xnnpack": 3.0}, refused={"gpu": "it gives wrong numbers"}))
        assert _reasons(choice)["gpu"] == "it was tried on 2026-11-21 and refused: it gives wrong numbers"

    def test_a_gpu_first_in_the_profile(self, tmp_path: Path, plain: ModelFile) -> None:
        """It is not picked before it was tried, and then it is."""
        target = _target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5")
        assert target.profile is not None
        order = tuple(DelegateRule(kind, (), (), "test", {"precision": "fp16"}) for kind in ("gpu", "xnnpack"))
        target = target._replace(profile=target.profile._replace(delegates=order))
        choice = choose_for(target, plain, 4)
        assert (choice.spec.kind, _reasons(choice)["gpu"]) == ("xnnpack", UNTRIED)
        tried = choose_for(target, plain, 4, measured=_measured({"xnnpack": 3.0, "gpu": 3.1}))
        assert tried.spec == DelegateSpec("gpu", 4, {"precision": "fp16"})

    def test_loading_follows_what_was_measured(
        self, plain: ModelFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The remembered times of this very model and machine are read where a model is loaded."""
        monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))
        host = read_host()
        before = choose_delegate(device=None, model=plain, threads=1)
        found = _measured({"xnnpack": 3.0, "none": 1.0}, threads=1)._replace(version=runtime_version())
        remember(plain, host, found)
        after = choose_delegate(device=None, model=plain, threads=1)
        assert (before.spec.kind, after.spec.kind) == ("xnnpack", "none")
        assert after.reason.startswith("measured fastest here: 1.00 ms a run, xnnpack 3.00 ms (on 2026-11-21)")


class TestAttached:
    """A machine with something attached to it."""

    def test_its_delegate_comes_first(self, tmp_path: Path, compiled: ModelFile) -> None:
        """Also on a machine whose own profile does not list that delegate; the CPU's are the machine's."""
        files = {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}
        target = _target(tmp_path, files, "raspberry-pi-5")
        coral = load_profile("coral-usb")
        assert target.profile is not None
        own = tuple(rule for rule in target.profile.delegates if rule.kind != "edgetpu")
        target = target._replace(profile=target.profile._replace(delegates=own))
        assert "the profile raspberry-pi-5 does not list it" in choose_for(target, compiled, 1).reason
        with_coral = target._replace(attached=(coral,))
        assert [rule.kind for rule in with_coral.rules][:2] == ["edgetpu", "xnnpack"]
        assert choose_for(with_coral, compiled, 1).spec.kind == "edgetpu"

    def test_named_and_not_attached(self, tmp_path: Path, plain: ModelFile, compiled: ModelFile) -> None:
        """For an accessory alone the CPU is that of whatever it is attached to."""
        target = _target(tmp_path, trees.X86_64_PC, "coral-usb", here=False)
        assert ["edgetpu", "xnnpack", "none"] == [rule.kind for rule in target.rules]
        assert ("xnnpack", "edgetpu") == tuple(choose_for(target, item, 1).spec.kind for item in (plain, compiled))

    def test_without_permission(self, tmp_path: Path, compiled: ModelFile) -> None:
        """A device that this user cannot open is not picked without saying so."""
        target = _target(tmp_path, {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}, "raspberry-pi-5")
        denied = Fact("this user may not open it", "/dev/bus/usb/002/003")
        choice = choose_for(target._replace(host=target.host._replace(edgetpu_access=denied)), compiled, 1)
        assert "It will not run here as things are: this user may not open it" in choice.reason


def test_an_npu_is_listed_and_refused(tmp_path: Path, plain: ModelFile) -> None:
    """With what was found of the vendor's libraries; edgekit runs nothing there."""
    target = _target(tmp_path, trees.RASPBERRY_PI_5, "rk3588")
    assert _reasons(choose_for(target, plain, 1))["npu"] == (
        f"no NPU library of a vendor was found on the library path; {NO_NPU}"
    )
    host = target.host._replace(npu_libraries=Fact(("/usr/lib/librknnrt.so",), "/usr/lib"))
    assert _reasons(choose_for(target._replace(host=host), plain, 1))["npu"] == (
        f"found were /usr/lib/librknnrt.so; {NO_NPU}"
    )


def test_without_a_vulkan_driver(tmp_path: Path, plain: ModelFile) -> None:
    """The GPU is refused in a sentence that says what it needs, and the model runs on the CPU."""
    choice = choose_for(_target(tmp_path, trees.X86_64_PC, "generic-x86_64-linux"), plain, None)
    assert choice.spec.kind == "xnnpack"
    assert _reasons(choice)["gpu"] == NO_VULKAN


class TestFallbacks:
    """What a model is loaded on when the pick cannot be."""

    def kinds(self, target: Target, pick: str, model: ModelFile, asked: tuple[str, ...] | None = None) -> list[str]:
        """The order, as kinds."""
        choice = DelegateChoice(DelegateSpec(pick, 2), "test")
        found = fallback_order(target, choice, model, asked)
        assert all(item.spec.threads == 2 for item in found)
        return [item.spec.kind for item in found]

    def test_the_policy_of_the_profile(self, tmp_path: Path, plain: ModelFile) -> None:
        """Its ``fallback`` in that order, its delegates where it has none, and nothing where it says nothing."""
        target = _target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5")
        assert target.profile is not None
        for policy, expected in ((("none", "xnnpack"), ["none", "xnnpack"]), (None, ["xnnpack", "none"]), ((), [])):
            changed = target._replace(profile=target.profile._replace(fallback=policy))
            assert expected == self.kinds(changed, "gpu", plain)

    def test_the_caller_decides(self, tmp_path: Path, plain: ModelFile) -> None:
        """The caller's order wins; the pick itself and repetitions are left out."""
        target = _target(tmp_path, trees.RASPBERRY_PI_5, "raspberry-pi-5")
        assert ["none"] == self.kinds(target, "xnnpack", plain, ("xnnpack", "none", "none"))
        assert [] == self.kinds(target, "xnnpack", plain, ())
        with pytest.raises(DelegateError, match="unknown delegate 'cpu'"):
            self.kinds(target, "xnnpack", plain, ("cpu",))

    def test_a_compiled_model_has_none(self, tmp_path: Path, compiled: ModelFile) -> None:
        """What only the Edge TPU has cannot run on the CPU."""
        target = _target(tmp_path, {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}, "raspberry-pi-5")
        assert [] == self.kinds(target, "edgetpu", compiled)


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
    with pytest.raises(ProfileError, match=r"unknown device 'toaster'\. Known devices: .*generic-aarch64-linux, "):
        choose_delegate(device="toaster", model=plain, threads=None)


def test_the_compiled_models_of_the_assets(assets: Path) -> None:
    """What the Edge TPU compiler really wrote is recognised, and what it was made from is not."""
    for path in sorted((assets / "edgetpu").glob("*.tflite")):
        choice = choose_delegate(device="raspberry-pi-5", model=ModelFile.read(path), threads=None)
        assert choice.spec.kind == ("edgetpu" if path.stem.endswith("_edgetpu") else "xnnpack"), path.name
