"""``edgekit.runtime.edgetpu``: one right reason for each way in which an Edge TPU fails, on stand-in libraries compiled here."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import standin_delegates as standins
import tiny_models as models
from processes import run_python

from edgekit.errors import DelegateError, EngineError
from edgekit.host import Fact, HostFacts
from edgekit.modelfile import ModelFile
from edgekit.runtime import delegates, edgetpu, engines
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.edgetpu import CAUSES, EdgetpuProbe, check_options, each_device, explain, is_proven, probe_edgetpu
from edgekit.runtime.edgetpu_reasons import Heard, judge, telling

Build = Callable[[str], str]
USB = "USB /sys/bus/usb/devices/2-1"


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile a stand-in once; its path."""
    if shutil.which("gcc") is None:
        pytest.skip("the stand-ins for libedgetpu are compiled with gcc, which is not installed")
    made: dict[str, str] = {}

    def build(behaviour: str) -> str:
        if behaviour not in made:
            made[behaviour] = str(standins.standin_edgetpu(tmp_path_factory.mktemp("edgetpu"), behaviour))
        return made[behaviour]

    return build


@pytest.fixture(scope="session")
def model() -> ModelFile:
    """A model as the Edge TPU compiler leaves it."""
    return ModelFile.read(standins.compiled_model(runtime=12))


@dataclass(frozen=True)
class Failure:
    """What a stand-in does, and what is made of it: the cause, a part of the reason, a part of the native words."""

    behaviour: str
    cause: str
    reason: str
    native: str | None


FAILURES = [
    Failure("no device", "no-device", r"no Edge TPU is connected: .* Connect it; `lsusb`", "Failed allocating Edge TPU device"),
    Failure(
        "refused permission, USB", "no-permission",
        r"this user may not open the Edge TPU at USB /sys/bus/usb/devices/2-1\. .*usermod -aG plugdev", r"USB error -3 \[OpenDevice\]",
    ),
    Failure(
        "refused permission, PCIe", "no-permission",
        r"this user may not open the Edge TPU at PCIe /dev/apex_0\. .*usermod -aG apex", r"Device open failed : -1 \(Permission denied\)",
    ),
    Failure(
        "held by another process, USB", "busy",
        r"another process holds the Edge TPU at USB /sys/bus/usb/devices/2-1: .*lsof /dev/bus/usb", r"USB error -6 \[ClaimInterface\]",
    ),
    Failure(
        "held by another process, PCIe", "busy",
        r"another process holds the Edge TPU at PCIe /dev/apex_0: .*lsof /dev/apex_0", r"\(Operation not permitted\)",
    ),
    Failure("lost", "device-lost", r"does not answer as it should\. Pull it out", "USB transfer error 2"),
    Failure("noisy refusal", "no-permission", r"this user may not open the Edge TPU at USB .* and log in again; if", r"USB error -3"),
    Failure("silent", "refused", "refused to open the Edge TPU at USB .* and gave no reason", None),
    Failure(
        "older runtime", "runtime-too-old",
        r"compiled for Edge TPU runtime 14, and the library is runtime 13: .*--min_runtime_version 13", "Package requires runtime version",
    ),
    Failure("other TensorFlow Lite", "other-runtime", "made for another version of TensorFlow Lite", "Unsupported data type in custom op"),
    Failure("older TensorFlow Lite", "crashed", "crashed while the model was loaded: .* Most likely the library was made for another", None),
    Failure("damaged model", "damaged-model", "compiled for the Edge TPU is damaged", "Package verification failed"),
    Failure("refused model", "refused", "the Edge TPU refused the model. Compile it again", "Unimplemented: something new"),
    Failure("unplugged in a run", "device-lost", "the Edge TPU does not answer", "USB transfer error 5"),
    Failure("no such function", "wrong-library", "is a library, and not the Edge TPU's", "undefined symbol"),
    Failure("crash, load", "crashed", "crashed while the library was loaded: .* died of SIGSEGV. Most likely the library is", None),
    Failure("crash, devices", "crashed", "crashed while the library looked for devices: .* died of SIGSEGV", None),
    Failure("crash, open", "crashed", "crashed while the device was opened: .* died of SIGSEGV", None),
    Failure("crash, model", "crashed", "crashed while the model was loaded: .* another version of TensorFlow Lite", None),
    Failure("crash, run", "crashed", "crashed while the model ran: .* died of SIGSEGV", None),
    Failure("crash, close", "crashed", "crashed while the device was closed: .* died of SIGSEGV", None),
    Failure("leaves, open", "crashed", "crashed while the device was opened: .* ended with exit code 3", None),
]  # fmt: skip


class TestFailures:
    """Each failure has its own reason, and this program goes on."""

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.behaviour)
    def test_of_a_standin(self, failure: Failure, standin: Build, model: ModelFile, engine: str | None) -> None:
        """The cause, a sentence with the remedy, and the library's own words."""
        library = standin(failure.behaviour)
        probe = probe_edgetpu(model, library=library, host=HostFacts(), engine=engine)
        assert (False, failure.cause, library) == (probe.usable, probe.cause, probe.library)
        assert re.search(failure.reason, probe.reason)
        assert (failure.native is None) == (probe.native is None)
        assert re.search(failure.native or "", probe.native or "")

    def test_they_are_told_apart(self) -> None:
        """No two of them are recognised by the same sentence."""
        assert len(FAILURES) == len({failure.reason for failure in FAILURES})
        assert {failure.cause for failure in FAILURES} < set(CAUSES)

    @pytest.mark.parametrize(
        ("step", "doing"),
        [
            ("load", "while the library was loaded"),
            ("open", "while the device was opened"),
            ("run", "while the model ran"),
        ],
    )
    def test_a_standin_that_hangs(
        self, step: str, doing: str, standin: Build, model: ModelFile, engine: str | None
    ) -> None:
        """It is ended when its time is up, and the reason says what it was doing."""
        probe = probe_edgetpu(model, library=standin(f"hang, {step}"), timeout_s=1.0, host=HostFacts(), engine=engine)
        assert (False, "hung") == (probe.usable, probe.cause)
        assert re.search(f"was not done after 1 seconds, {doing}; its process was ended", probe.reason)

    def test_a_standin_that_lacks_a_library(self, tmp_path: Path, standin: Build, model: ModelFile) -> None:
        """The library that it needs is named, as the linker does."""
        standin("works")
        library = str(standins.without_its_dependency(tmp_path))
        probe = probe_edgetpu(model, library=library)
        assert (False, "missing-dependency") == (probe.usable, probe.cause)
        assert re.search(r"needs the library libstandin-for-usb\.so\.0, which was not found", probe.reason)

    def test_of_the_file(self, tmp_path: Path, standin: Build, model: ModelFile) -> None:
        """What is no library, cut short or for another processor is never loaded."""
        whole = Path(standin("works")).read_bytes()
        text, short = tmp_path / "text.so", tmp_path / "short.so"
        text.write_text("<html>not found</html>")
        short.write_bytes(whole[: len(whole) // 2])
        other = tmp_path / "other.so"
        other.write_bytes(whole)
        standins.for_another_processor(other)
        seen = [probe_edgetpu(model, library=str(path)) for path in (text, short, other, tmp_path / "absent.so")]
        assert ["damaged-library", "damaged-library", "wrong-architecture", "no-library"] == [
            item.cause for item in seen
        ]
        assert re.search(r"text\.so is no library: it begins with b'<html>no'", seen[0].reason)
        assert re.search(rf"short\.so is cut short: it has {len(whole) // 2} bytes, and \d+ bytes", seen[1].reason)
        assert re.search(r"other\.so is for \w+ processors \(64 bits\), and this Python is for \w+", seen[2].reason)
        assert re.search(r"absent\.so does not exist", seen[3].reason)

    def test_no_library_on_a_machine_made_to_have_none(self, monkeypatch: pytest.MonkeyPatch, model: ModelFile) -> None:
        """The package to install is named."""
        monkeypatch.setattr(delegates, "edgetpu_library", lambda: None)
        probe = probe_edgetpu(model)
        assert (False, "no-library", None) == (probe.usable, probe.cause, probe.library)
        assert probe.reason.endswith("was not found: install Coral's package libedgetpu1-std.")

    def test_a_model_that_was_not_compiled(self, standin: Build) -> None:
        """It would run on the CPU without a word: refused before anything is loaded."""
        probe = probe_edgetpu(ModelFile.read(models.dense_int8()), library=standin("crash, load"))
        assert (False, "not-compiled") == (probe.usable, probe.cause)
        assert re.search("was not compiled for the Edge TPU .* run `edgetpu_compiler`", probe.reason)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", None),
        ("I driver/driver_factory_default.cc:31] Failed to open /sys/class/apex: No such file or directory\n", None),
        ("I0000 00:00:1 1 port.cc:153] oneDNN: round-off errors\nINFO: Created a delegate after no error.\n", None),
        (
            "F :838] transfer on tag 1 failed. Abort. \x1b[1mDeadline\n",
            "F :838] transfer on tag 1 failed. Abort. [1mDeadline",
        ),
        ("a failed\nb\nc failed\nd failed\ne failed\n", "c failed | d failed | e failed"),
    ],
)
def test_what_a_log_tells(log: str, expected: str | None) -> None:
    """Routine lines are left out, and no control characters come through."""
    assert expected == telling(log)


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (
            "libusb-1.0.so.0: cannot open shared object file: No such file or directory", "missing-dependency",
            r"needs the library libusb-1\.0\.so\.0 \(package libusb-1\.0-0\), which was not found",
        ),
        (
            "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by libedgetpu.so.1)", "missing-dependency",
            r"needs what this system does not have: .*GLIBC_2\.38",
        ),
        ("libedgetpu.so.1: cannot open shared object file: No such file or directory", "no-library", "libedgetpu.so.1 was not found"),
        ("libedgetpu.so.1: wrong ELF class: ELFCLASS32", "wrong-architecture", "is for other processors than this Python"),
        ("libedgetpu.so.1: file too short", "damaged-library", r"cannot be loaded \(libedgetpu\.so\.1: file too short\)"),
    ],
)  # fmt: skip
def test_what_the_linker_says(error: str, cause: str, reason: str) -> None:
    """Of a library that is known by its name only, the linker's words are what there is."""
    heard = Heard(({"ready": True}, {"stage": "library"}, {"error": error}), "", 0, 30.0)
    found = judge(heard, "libedgetpu.so.1", {}, None, None)
    assert (cause, error) == (found.cause, found.native)
    assert re.search(reason, found.reason)


class TestTheMachine:
    """What the machine shows sharpens the reason where the library says nothing."""

    def test_a_device_that_only_the_system_sees(self, standin: Build) -> None:
        """In a container the files of /sys show what the process cannot open."""
        host = HostFacts(edgetpu_devices=Fact(("USB 18d1:9302 at 2-1",), "/sys/bus/usb/devices"))
        probe = probe_edgetpu(None, library=standin("no device"), host=host)
        assert "device-hidden" == probe.cause
        assert re.search(r"the system shows USB 18d1:9302 at 2-1, .* cannot reach it: in a container", probe.reason)

    def test_a_pcie_device_without_its_driver(self, standin: Build) -> None:
        """The bus shows it, and there is no device file."""
        host = HostFacts(edgetpu_devices=Fact(("PCIe 1ac1:089a at 01:00.0",), "/proc/bus/pci/devices"))
        probe = probe_edgetpu(None, library=standin("no device"), host=host)
        assert "no-driver" == probe.cause
        assert re.search("its driver is not loaded. Install the package gasket-dkms", probe.reason)

    def test_a_device_file_that_is_not_writable(self, standin: Build) -> None:
        """The library says nothing, and the device file's owner is the reason."""
        why = "this user may not write to /dev/apex_0 (group root, mode 0600): it needs a udev rule"
        probe = probe_edgetpu(None, library=standin("silent"), host=HostFacts(edgetpu_access=Fact(why, "/dev/apex_0")))
        assert ("no-permission", f"{why}.") == (probe.cause, probe.reason)

    def test_two_things_at_once(self, standin: Build) -> None:
        """A device that is missing hides that the model is too new: both are said."""
        model = ModelFile.read(standins.compiled_model(runtime=15))
        probe = probe_edgetpu(model, library=standin("no device"), host=HostFacts())
        assert "no-device" == probe.cause
        assert re.search(
            "Besides, the model was compiled for Edge TPU runtime 15, and the library is runtime 14", probe.reason
        )


class TestReady:
    """A stand-in that works."""

    @pytest.mark.parametrize(
        ("behaviour", "devices", "runtime"),
        [
            ("works", (USB,), 14),
            ("pcie", ("PCIe /dev/apex_0",), 14),
            ("noisy", (USB,), 14),
            ("answers itself", (USB,), 14),
            ("no listing", (), None),
        ],
    )
    def test_it_is_usable(
        self,
        behaviour: str,
        devices: tuple[str, ...],
        runtime: int | None,
        standin: Build,
        model: ModelFile,
        engine: str | None,
    ) -> None:
        """The devices and the runtime's version are told; megabytes of log, or what it prints as an answer, are no harm."""
        probe = probe_edgetpu(model, library=standin(behaviour), engine=engine)
        expected = (True, "ready", None, devices, runtime)
        assert expected == (probe.usable, probe.cause, probe.native, probe.devices, probe.runtime)
        assert re.search("it runs on the Edge TPU", probe.reason)

    def test_without_a_model(self, standin: Build) -> None:
        """The delegate starts, and needs no interpreter for that."""
        assert probe_edgetpu(None, library=standin("works")).usable

    def test_another_python(self, standin: Build, model: ModelFile) -> None:
        """Another Python tries it with its own packages; one that is not there is an error."""
        assert probe_edgetpu(None, library=standin("works"), python=sys.executable).usable
        with pytest.raises(EngineError, match=r"the Edge TPU cannot be tried: /nowhere/python cannot be started"):
            probe_edgetpu(model, library=standin("works"), python="/nowhere/python")

    def test_no_process_is_left(self, standin: Build) -> None:
        """Neither a crash nor a hang leaves a process behind."""
        code = (
            "import os, sys; from edgekit.host import HostFacts; from edgekit.runtime.edgetpu import probe_edgetpu\n"
            "for library in sys.argv[1:]: print(probe_edgetpu(None, library=library, timeout_s=1.0, host=HostFacts()).cause)\n"
            "try: print(os.waitpid(-1, os.WNOHANG))\n"
            "except ChildProcessError: print('none')\n"
        )
        done = run_python("-c", code, standin("crash, open"), standin("hang, open"))
        assert ["crashed", "hung", "none"] == done.stdout.split(), done.stderr

    def test_it_is_remembered(self, standin: Build, tmp_path: Path, model: ModelFile, engine: str | None) -> None:
        """A library that ran a model is proven for this interpreter, until its file changes."""
        library = tmp_path / "libedgetpu.so.1"
        shutil.copy(standin("works"), library)
        name = engine or "litert"
        engines._import(name)
        assert not is_proven(str(library), name)
        assert probe_edgetpu(None, library=str(library), engine=name).usable
        assert probe_edgetpu(model, library=str(library), engine=name, python=sys.executable).usable
        assert (False, False) == (is_proven(str(library), name), is_proven(str(library), None))
        assert probe_edgetpu(model, library=str(library), engine=name).usable
        assert is_proven(str(library), name)
        edgetpu._proven.clear()
        assert is_proven(str(library), name)
        os.utime(library, ns=(1, 1))
        assert not is_proven(str(library), name)

    def test_a_failure_is_not_remembered(self, standin: Build, model: ModelFile, engine: str | None) -> None:
        """What crashed is tried again in a process of its own."""
        library = standin("crash, run")
        probe_edgetpu(model, library=library, engine=engine)
        assert not is_proven(library, engine or "litert")


class TestOptions:
    """What libedgetpu is asked for: it ignores or refuses without a word what it does not know."""

    @pytest.mark.parametrize("device", ["", "usb", "pci", ":0", "usb:1", "pci:12"])
    def test_devices(self, device: str) -> None:
        """Each form that libedgetpu knows."""
        check_options({"device": device})

    @pytest.mark.parametrize("device", ["usb0", "tpu", "usb:", ":-1", "usb:123", "/dev/apex_0", "USB"])
    def test_devices_that_it_does_not_know(self, device: str) -> None:
        """The message says which forms there are."""
        with pytest.raises(
            DelegateError, match=r"option device=.*: expected usb, pci, or with a number .* :0, usb:0, pci:0"
        ):
            check_options({"device": device})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"speed": "Max"}, r"has no option 'speed': expected one of device, Performance, Usb\.AlwaysDfu"),
            ({"Performance": "Turbo", "device": ":0"}, "Performance='Turbo': expected Low, Medium, High or Max"),
            ({"Usb.MaxBulkInQueueLength": "256", "device": ":0"}, "expected 0 to 255"),
            (
                {"Performance": "Low"},
                "libedgetpu ignores Performance where the device is not named by its number: add device=:0",
            ),
            ({"Usb.AlwaysDfu": "True", "device": "usb"}, r"libedgetpu ignores Usb\.AlwaysDfu"),
        ],
    )
    def test_others(self, options: dict[str, str], message: str) -> None:
        """Names, values, and those that have no effect."""
        with pytest.raises(DelegateError, match=message):
            check_options(options)
        with pytest.raises(DelegateError, match=message):
            probe_edgetpu(None, options=options)

    def test_what_has_an_effect(self) -> None:
        """Together with a device's number all are passed on."""
        check_options(
            {"device": ":0", "Performance": "Low", "Usb.AlwaysDfu": "False", "Usb.MaxBulkInQueueLength": "32"}
        )

    def test_a_device_that_is_not_there(self, standin: Build) -> None:
        """The number is out of range, or the kind is another: the message says what there is."""
        for device in ("usb:1", "pci", ":1"):
            probe = probe_edgetpu(None, library=standin("works"), options={"device": device})
            assert "no-such-device" == probe.cause
            assert re.search(rf"there is no Edge TPU '{device}': the library sees 1 \({USB}\)", probe.reason)

    def test_one_delegate_for_each_device(self, standin: Build) -> None:
        """Two devices give two delegates, told apart by their numbers; each can be tried."""
        probe = probe_edgetpu(None, library=standin("two devices"))
        specs = each_device(probe)
        assert [{"device": ":0"}, {"device": ":1"}] == [dict(spec.options) for spec in specs]
        second = probe_edgetpu(None, library=standin("two devices"), options=specs[1].options)
        assert re.search("it runs on the Edge TPU at USB /sys/bus/usb/devices/2-2", second.reason)


class TestExplain:
    """What an interpreter's error about an Edge TPU model means."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "Failed to prepare for TPU. Failed precondition: Package requires runtime version (14), which is newer than this runtime "
                "version (13).Node number 2 (EdgeTpuDelegateForCustomOp) failed to prepare.",
                "the model was compiled for Edge TPU runtime 14, and the library is runtime 13",
            ),
            ("Internal: Unsupported data type in custom op handler: 0", "made for another version of TensorFlow Lite"),
            ("Failed to execute request. USB transfer error 2", "the Edge TPU does not answer"),
            ("Failed to prepare for TPU. Invalid argument: Executable verification failed.", "is damaged"),
        ],
    )
    def test_known_texts(self, text: str, expected: str) -> None:
        """Those of the library's source and of its users' reports."""
        assert expected in (explain(text) or "")

    def test_others(self) -> None:
        """An error about something else is left as it is."""
        assert explain("Encountered unresolved custom op: Mystery.") is None


@dataclass(frozen=True)
class Loads:
    """Opening it in this process: what a stand-in does, and the error."""

    behaviour: str
    message: str


class TestOpen:
    """Loading the delegate into this program."""

    def open(self, library: str, engine: str | None, **options: str) -> object:
        """The delegate, through an interpreter's own module."""
        loaded = engines._import(engine or "litert")
        assert loaded.name == edgetpu.engine_of(loaded.module)
        spec = DelegateSpec("edgetpu", options=options)
        return edgetpu.open_delegate(
            lambda: loaded.module.load_delegate(library, options), spec, library, self.model(), loaded.name
        )

    def model(self) -> ModelFile:
        """A model as the Edge TPU compiler leaves it."""
        return ModelFile.read(standins.compiled_model())

    def test_it_opens(self, standin: Build, engine: str | None) -> None:
        """What works is loaded, with its options."""
        assert self.open(standin("works"), engine, device=":0") is not None

    @pytest.mark.parametrize(
        "case",
        [
            Loads("crash, load", "crashed while the library was loaded"),
            Loads("crash, model", "crashed while the model was loaded"),
            Loads("no device", "no Edge TPU is connected"),
            Loads("older runtime", r"runtime 13.* It said: Failed to prepare for TPU.* runs with --delegate xnnpack"),
        ],
        ids=lambda case: case.behaviour,
    )
    def test_it_does_not(self, case: Loads, standin: Build, engine: str | None) -> None:
        """What would end the program is found out in another process; each failure is an error with its reason."""
        with pytest.raises(DelegateError, match=f"the Edge TPU cannot be used: .*{case.message}"):
            self.open(standin(case.behaviour), engine)

    # LiteRT's own Delegate object fails a second time when it is deleted half-made.
    @pytest.mark.filterwarnings("ignore:.*Delegate.__del__:pytest.PytestUnraisableExceptionWarning")
    def test_a_proven_one_that_fails_today(
        self, standin: Build, engine: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not tried beforehand, and the reason is found afterwards."""
        monkeypatch.setattr(edgetpu, "is_proven", lambda library, name: True)
        with pytest.raises(DelegateError, match="another process holds the Edge TPU at PCIe /dev/apex_0"):
            self.open(standin("held by another process, PCIe"), engine)

    # LiteRT's own Delegate object fails a second time when it is deleted half-made.
    @pytest.mark.filterwarnings("ignore:.*Delegate.__del__:pytest.PytestUnraisableExceptionWarning")
    def test_a_second_time_in_this_program(self, standin: Build, engine: str | None) -> None:
        """A library that is loaded already is not tried elsewhere; when it refuses, this program itself may hold the device."""
        library = standin("held by another process, USB")
        edgetpu._opened.add(library)
        with pytest.raises(DelegateError, match=r"refused to start a second time in this program\. .* device=:0"):
            self.open(library, engine)

    def test_what_is_loaded_already_is_not_tried(self, standin: Build, engine: str | None, tmp_path: Path) -> None:
        """Another process would find the device held by this one."""
        library = str(shutil.copy(standin("works"), tmp_path / "libedgetpu.so.1"))
        edgetpu._opened.add(library)
        assert self.open(library, engine) is not None
        assert not is_proven(library, engine or "litert")

    def test_a_model_that_was_not_compiled(
        self, standin: Build, engine: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A proven library does not make it run there."""
        monkeypatch.setattr(edgetpu, "is_proven", lambda library, name: True)
        monkeypatch.setattr(self, "model", lambda: ModelFile.read(models.dense_int8()))
        with pytest.raises(DelegateError, match="was not compiled for the Edge TPU"):
            self.open(standin("works"), engine)

    def test_from_several_threads(self, standin: Build, engine: str | None, tmp_path: Path) -> None:
        """One tries it, the others wait and find it tried."""
        library = str(shutil.copy(standin("works"), tmp_path / "libedgetpu.so.1"))
        opened: list[object] = []
        threads = [threading.Thread(target=lambda: opened.append(self.open(library, engine))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 4 == len(opened)
        assert library in edgetpu._opened


def test_what_a_probe_says() -> None:
    """The fields of the contract come first, in order."""
    expected = ("usable", "reason", "native", "library", "devices")
    assert expected == EdgetpuProbe._fields[:5]
