"""NPUs: what LiteRT would need to run a model on one, and what of it is on this machine. Listed, and refused with the reason.

LiteRT reaches an NPU through a vendor's dispatch library (LiteRT documentation, "LiteRT Dispatch API for NPU Runtime Integration"), which
in turn loads the vendor's own runtime. The model's parts are compiled for one chip before, by the vendor's compiler plugin.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from edgekit.records import Record

if TYPE_CHECKING:
    from edgekit.host import HostFacts


class NpuVendor(Record):
    """What one vendor's NPUs need.

    Attributes:
        id: a short name.
        name: what the vendor calls it.
        dispatch: the name of LiteRT's dispatch library, up to its ending; empty where LiteRT has none.
        runtime: beginnings of the names of the vendor's own libraries.
        needs: what has to be installed, in words.
    """

    id: str
    name: str
    dispatch: str
    runtime: tuple[str, ...]
    needs: str


class NpuLibrary(Record):
    """A library for an NPU that is on this machine.

    Attributes:
        vendor: the id of its ``NpuVendor``; empty where the name tells of none.
        role: ``dispatch`` (LiteRT's way to the NPU), ``compiler`` (makes models for it) or ``runtime`` (the vendor's own).
        path: where it lies.
    """

    vendor: str
    role: str
    path: str


#: Vendors of the LiteRT documentation ("NPU acceleration with LiteRT") and of the compiler plugins in ai-edge-litert 2.3's wheel, whose
#: headers name the vendors' libraries that they load; then those that LiteRT's package has no dispatch library for (Rockchip's
#: rknn-toolkit2, Hailo's HailoRT, NXP's "i.MX Machine Learning User's Guide").
VENDORS: tuple[NpuVendor, ...] = (
    NpuVendor(
        "qualcomm", "Qualcomm AI Engine Direct", "libLiteRtDispatch_Qualcomm", ("libQnn",),
        "Qualcomm's AI Engine Direct SDK (QAIRT) with libQnnHtp.so and libQnnSystem.so, on a Snapdragon with a Hexagon processor",
    ),
    NpuVendor(
        "mediatek", "MediaTek NeuroPilot", "libLiteRtDispatch_MediaTek", ("libneuron_adapter", "libneuronusdk_adapter"),
        "MediaTek's NeuroPilot runtime (libneuron_adapter.so), on a Dimensity",
    ),
    NpuVendor(
        "google-tensor", "Google Tensor", "libLiteRtDispatch_GoogleTensor", ("libedgetpu_litert",),
        "the Google Tensor SDK (by application) and the phone's own libedgetpu_litert.so, on a Pixel",
    ),
    NpuVendor(
        "samsung", "Samsung Exynos", "libLiteRtDispatch_Samsung", (),
        "Samsung's Exynos AI runtime, on an Exynos phone",
    ),
    NpuVendor(
        "intel-openvino", "Intel OpenVINO", "libLiteRtDispatch_IntelOpenvino", ("libopenvino",),
        "Intel's OpenVINO runtime (libopenvino.so) and NPU driver, on a Core Ultra",
    ),
    NpuVendor("rockchip", "Rockchip RKNPU", "", ("librknnrt",), "a model in Rockchip's own format, made by its rknn-toolkit2"),
    NpuVendor("hailo", "Hailo", "", ("libhailort",), "a model in Hailo's own format (HEF), made by its Dataflow Compiler"),
    NpuVendor(
        "verisilicon", "VeriSilicon (such as in NXP's i.MX 8M Plus)", "", ("libvx_delegate",),
        "a TFLite delegate of its own, which edgekit does not load",
    ),
    NpuVendor(
        "ethos-u", "Arm Ethos-U (such as in NXP's i.MX 93)", "", ("libethosu_delegate",),
        "a TFLite delegate of its own and a model that Vela compiled, which edgekit does not load",
    ),
)  # fmt: skip
_ROLES = {"libLiteRtDispatch": "dispatch", "libLiteRtCompilerPlugin": "compiler"}
_MAX_FILES = 200


def find_npu(host: HostFacts | None = None) -> tuple[NpuLibrary, ...]:
    """The libraries for NPUs that are on this machine; nothing is loaded, no package is imported.

    Args:
        host: what is known of the machine; ``None`` to find out.
    """
    if host is None:
        from edgekit.host import read_host

        host = read_host()
    fact: Any = getattr(host, "npu_libraries", None)
    paths = [*_packaged(), *(fact.value if fact is not None else ())]
    return tuple(_library(path) for path in dict.fromkeys(paths))


def npu_reason(found: tuple[NpuLibrary, ...]) -> str:
    """Why a model does not run on an NPU here, and what would be needed, in sentences.

    Args:
        found: what ``find_npu`` found.
    """
    text = "this version of edgekit does not run models on an NPU."
    vendors = {vendor.id: vendor for vendor in VENDORS}
    ways = [item for item in found if item.role == "dispatch"]
    own = [item for item in found if item.role == "runtime" and item.vendor]
    if not ways and not own:
        seen = sorted({vendors[item.vendor].name for item in found if item.vendor})
        text += " LiteRT would need a vendor's dispatch library (libLiteRtDispatch_*.so) and the vendor's own runtime, and none is here"
        return f"{text}; only the compilers that make models for {', '.join(seen)} are." if seen else f"{text}."
    for item in ways:
        vendor = vendors.get(item.vendor)
        if vendor is None:
            text += f" The dispatch library {item.path} is here, of a vendor that is not known."
        elif any(other.vendor == item.vendor for other in own):
            text += f" {vendor.name}: the dispatch library and the vendor's runtime are here ({item.path})."
        else:
            text += f" {vendor.name}: LiteRT's dispatch library is here ({item.path}); what it loads is not: {vendor.needs}."
    for id_ in dict.fromkeys(item.vendor for item in own):
        vendor = vendors.get(id_)
        if vendor is None or any(item.vendor == id_ for item in ways):
            continue
        path = next(item.path for item in own if item.vendor == id_)
        lacks = f"LiteRT's {vendor.dispatch}.so is not" if vendor.dispatch else f"it takes {vendor.needs}"
        text += f" {vendor.name}: the vendor's runtime is here ({path}); {lacks}."
    return text


def _library(path: str) -> NpuLibrary:
    name = os.path.basename(path)
    role = next((role for start, role in _ROLES.items() if name.startswith(start)), "runtime")
    if role == "runtime":
        return NpuLibrary(
            next((item.id for item in VENDORS if item.runtime and name.startswith(item.runtime)), ""), role, path
        )
    plain = name.partition(".")[0].rpartition("_")[2].lower()  # …_IntelOpenvino; Google's plugin is …_google_tensor
    for vendor in VENDORS:
        ending = vendor.dispatch.rpartition("_")[2].lower()
        if ending and (plain == ending or name.lower().replace("_", "").partition(".")[0].endswith(ending)):
            return NpuLibrary(vendor.id, role, path)
    return NpuLibrary("", role, path)


def _packaged() -> list[str]:
    """What LiteRT's package brings along, in ``vendors/<vendor>/dispatch`` and ``…/compiler``."""
    try:
        spec = importlib.util.find_spec("ai_edge_litert")
    except (ImportError, ValueError):
        return []
    found: list[str] = []
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for folder, inside, names in os.walk(os.path.join(root, "vendors")):
            inside.sort()
            found += [os.path.join(folder, name) for name in sorted(names) if name.startswith(tuple(_ROLES))]
            if len(found) > _MAX_FILES:
                break
    return found[:_MAX_FILES]
