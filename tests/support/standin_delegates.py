"""Stand-ins for libedgetpu, compiled in the test: no Edge TPU is connected to a machine that runs tests.

Each has the functions of the real library (``edgetpu_c.h``, and TFLite's external delegate interface) and one behaviour. What they print
and report are the texts of the real one's source (github.com/google-coral/libedgetpu), so that what reads them is tested on those.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import flatbuffers
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

_SOURCE = Path(__file__).with_name("standin_edgetpu.c")
_OPEN = "I driver/usb/local_usb_device.cc:1013] OpenDevice: [/sys/bus/usb/devices/2-1]\\n"
_FAILED = "I tflite/edgetpu_context_direct.cc:401] Failed to open device "
_USB, _PCIE = "[Apex (USB)] at [/sys/bus/usb/devices/2-1]: ", "[Apex (PCIe)] at [/dev/apex_0]: "
_STEPS = {"load": 1, "devices": 2, "open": 3, "model": 4, "run": 5, "close": 6}


def _refusal(text: str) -> dict[str, object]:
    """A device that is listed and does not open; the library says why in its log only."""
    return {"REFUSAL": f'"{_OPEN}{_FAILED}{text}\\n"'}


#: What each stand-in does: macros of the C source. ``works`` takes each ``edgetpu-custom-op`` and adds 1 to its floats, plus the index of
#: the device that it was opened on.
BEHAVIOURS: dict[str, dict[str, object]] = {
    "works": {},
    "two devices": {"DEVICES": 2},
    "pcie": {"PCIE": 1},
    "no device": {"DEVICES": 0},
    "refused permission, USB": _refusal(_USB + "Permission denied: USB error -3 [OpenDevice]"),
    "refused permission, PCIe": {
        "PCIE": 1, **_refusal(_PCIE + "Failed precondition: Device open failed : -1 (Permission denied)")
    },
    "held by another process, USB": _refusal(_USB + "Deadline exceeded: USB error -6 [ClaimInterface]"),
    "held by another process, PCIe": {
        "PCIE": 1, **_refusal(_PCIE + "Failed precondition: Device open failed : -1 (Operation not permitted)")
    },
    "lost": _refusal(_USB + "Deadline exceeded: USB transfer error 2 [LibUsbDataOutCallback]"),
    "silent": {"REFUSAL": '""'},
    "older runtime": {
        "RUNTIME": 13,
        "PREPARE_ERROR": '"Failed to prepare for TPU. Failed precondition: Package requires runtime version (14), which is newer than '
        'this runtime version (13)."',
    },
    "other TensorFlow Lite": {"PREPARE_ERROR": '"Internal: Unsupported data type in custom op handler: 0"'},
    "older TensorFlow Lite": {"OLD_REGISTRATION": 1},
    "damaged model": {"PREPARE_ERROR": '"Failed to prepare for TPU. Internal: Package verification failed."'},
    "refused model": {"PREPARE_ERROR": '"Failed to prepare for TPU. Unimplemented: something new"'},
    "unplugged in a run": {"RUN_ERROR": '"Failed to execute request. USB transfer error 5 [LibUsbDataInCallback]"'},
    "no such function": {"NO_PLUGIN": 1},
    "no listing": {"NO_LISTING": 1},
    "noisy": {"NOISE_KB": 3000},
    "noisy refusal": {"NOISE_KB": 300, **_refusal(_USB + "Permission denied: USB error -3 [OpenDevice]")},
    "answers itself": {"ANSWER": r'"{\"error\": \"a lie\"}"'},
    **{f"crash, {step}": {"CRASH": number} for step, number in _STEPS.items()},
    **{f"hang, {step}": {"HANG": number} for step, number in _STEPS.items()},
    "leaves, open": {"LEAVE": 3},
}  # fmt: skip


def standin_edgetpu(folder: Path, behaviour: str) -> Path:
    """Compile the stand-in with a behaviour; the path of the library."""
    path = folder / "libedgetpu.so.1"
    macros = [f"-D{name}={value}" for name, value in BEHAVIOURS[behaviour].items()]
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", *macros, "-o", path, _SOURCE], check=True)
    return path


def without_its_dependency(folder: Path) -> Path:
    """A stand-in that needs a library which is not there, as libedgetpu does where libusb is not installed."""
    needed = folder / "libusb-1.0.so.0"
    empty = folder / "empty.c"
    empty.write_text("int standin_for_libusb(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libstandin-for-usb.so.0", "-o", needed, empty], check=True)
    path = folder / "libedgetpu.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", path, _SOURCE, needed], check=True)
    needed.unlink()
    return path


def for_another_processor(path: Path) -> Path:
    """Change the ELF header of a library to the other one of x86-64 and aarch64."""
    content = bytearray(path.read_bytes())
    machine = struct.unpack_from("<H", content, 18)[0]
    struct.pack_into("<H", content, 18, 0xB7 if machine != 0xB7 else 0x3E)
    path.write_bytes(content)
    return path


def compiled_model(runtime: int = 12, *, then_relu: bool = False) -> bytes:
    """Float 4 → 4: what the Edge TPU compiler leaves of a model, with an empty program for a runtime version.

    Args:
        runtime: the oldest Edge TPU runtime that may load it.
        then_relu: whether a RELU follows that the compiler left to the CPU.
    """
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("CUSTOM", [x], [y])
    b.codes[-1].customCode = b"edgetpu-custom-op"
    b.ops[-1].customOptions = list(custom_options(runtime))
    b.ops[-1].customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    if then_relu:
        z = b.tensor("z", (1, 4))
        b.op("RELU", [y], [z])
        y = z
    content: bytes = b.build({"x": x}, {"y": y})
    return content


def custom_options(runtime: int, *, key: str = "4") -> bytes:
    """The data of an ``edgetpu-custom-op`` as the compiler writes them: a FlexBuffers map with a FlatBuffers ``Package``."""
    package = flatbuffers.Builder(64)
    program = package.CreateByteVector(b"\0" * 32)
    package.StartObject(9)
    package.PrependInt32Slot(0, runtime, 0)
    package.PrependUOffsetTRelativeSlot(1, program, 0)
    package.Finish(package.EndObject())
    data = flexbuffers.Builder()
    with data.Map():
        data.Int("1", 1)
        data.Key(key)
        data.Blob(bytes(package.Output()))
        data.Int("5", 0)
    return bytes(data.Finish())
