"""``edgekit.runtime.npu``: what is here of an NPU's libraries, and the reason for the refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekit.host import NPU_LIBRARIES, Fact, HostFacts
from edgekit.runtime.npu import VENDORS, NpuLibrary, find_npu, npu_reason

DISPATCH = NpuLibrary("qualcomm", "dispatch", "/opt/litert/libLiteRtDispatch_Qualcomm.so")
RUNTIME = NpuLibrary("qualcomm", "runtime", "/usr/lib/libQnnHtp.so")


def seen(*paths: str) -> list[NpuLibrary]:
    """What is found of libraries on the library path, without those of LiteRT's package."""
    host = HostFacts(npu_libraries=Fact(paths, "/usr/lib"))
    return [item for item in find_npu(host) if item.path in paths]


def test_every_library_of_the_host_has_a_vendor() -> None:
    """What ``HostFacts`` looks for is known here."""
    assert [] == [item.path for item in seen(*(f"/usr/lib/{name}" for name in NPU_LIBRARIES)) if not item.vendor]


@pytest.mark.parametrize(
    ("path", "vendor", "role"),
    [
        ("/vendor/lib64/libQnnHtp.so", "qualcomm", "runtime"),
        ("/vendor/lib64/libQnnSystem.so", "qualcomm", "runtime"),
        ("/vendor/lib64/libneuron_adapter.so", "mediatek", "runtime"),
        ("/vendor/lib64/libneuronusdk_adapter.mtk.so", "mediatek", "runtime"),
        ("/vendor/lib64/libedgetpu_litert.so", "google-tensor", "runtime"),
        ("/usr/lib/librknnrt.so", "rockchip", "runtime"),
        ("/usr/lib/libhailort.so", "hailo", "runtime"),
        ("/usr/lib/libvx_delegate.so", "verisilicon", "runtime"),
        ("/usr/lib/libethosu_delegate.so", "ethos-u", "runtime"),
        ("/usr/lib/libopenvino.so.2631", "intel-openvino", "runtime"),
        ("/data/libLiteRtDispatch_Qualcomm.so", "qualcomm", "dispatch"),
        ("/data/libLiteRtDispatch_MediaTek.so", "mediatek", "dispatch"),
        ("/data/libLiteRtDispatch_GoogleTensor.so", "google-tensor", "dispatch"),
        ("/data/libLiteRtDispatch_IntelOpenvino.so", "intel-openvino", "dispatch"),
        ("/data/libLiteRtCompilerPlugin_Samsung.so", "samsung", "compiler"),
        ("/data/libLiteRtCompilerPlugin_google_tensor.so", "google-tensor", "compiler"),
        ("/data/libLiteRtDispatch_Nobody.so", "", "dispatch"),
        ("/data/libsomething.so", "", "runtime"),
    ],
)
def test_names(path: str, vendor: str, role: str) -> None:
    """A library's name tells the vendor and what it is for."""
    assert [NpuLibrary(vendor, role, path)] == seen(path)


def test_what_litert_brings_along() -> None:
    """The package's own libraries are found in their folders, each of a vendor that is known."""
    pytest.importorskip("ai_edge_litert", reason="this environment's interpreter brings no vendors' libraries")
    found = find_npu(HostFacts())
    if not found:
        pytest.skip("this build of ai-edge-litert brings no vendors' libraries")
    assert {item.vendor for item in found} <= {vendor.id for vendor in VENDORS}
    assert {item.role for item in found} <= {"dispatch", "compiler"}
    assert all(Path(item.path).is_file() for item in found)


def test_a_machine_with_nothing() -> None:
    """What would be needed."""
    reason = npu_reason(())
    assert re.search(r"does not run models on an NPU\. LiteRT would need .* and none is here\.$", reason)


def test_only_a_compiler() -> None:
    """What makes models for an NPU is no way to run them."""
    compiler = NpuLibrary("samsung", "compiler", "/x/libLiteRtCompilerPlugin_Samsung.so")
    assert re.search(r"none is here; only the compilers .* for Samsung Exynos are\.$", npu_reason((compiler,)))


def test_the_way_without_the_vendors_runtime() -> None:
    """The dispatch library is there; what it loads is named."""
    reason = npu_reason((DISPATCH,))
    assert re.search(r"LiteRT's dispatch library is here \(/opt/.*\); what it loads is not: .*libQnnHtp\.so", reason)


def test_the_vendors_runtime_without_the_way() -> None:
    """The vendor's runtime is there; LiteRT's part is named."""
    assert re.search(
        r"runtime is here \(/usr/lib/libQnnHtp\.so\); LiteRT's libLiteRtDispatch_Qualcomm\.so is not",
        npu_reason((RUNTIME,)),
    )


def test_both() -> None:
    """All that is needed is there: it is still refused, as nobody has tried it."""
    reason = npu_reason((DISPATCH, RUNTIME))
    assert reason.startswith("this version of edgekit does not run models on an NPU.")
    assert re.search("the dispatch library and the vendor's runtime are here", reason)


def test_a_vendor_without_a_way() -> None:
    """LiteRT has none for Rockchip's."""
    reason = npu_reason((NpuLibrary("rockchip", "runtime", "/usr/lib/librknnrt.so"),))
    assert re.search(r"librknnrt\.so\); it takes a model in Rockchip's own format", reason)


def test_an_unknown_vendor() -> None:
    """A dispatch library of nobody is listed all the same; a runtime of nobody is left out."""
    items = (
        NpuLibrary("", "dispatch", "/x/libLiteRtDispatch_Nobody.so"),
        NpuLibrary("", "runtime", "/x/libsomething.so"),
    )
    assert "/x/libLiteRtDispatch_Nobody.so is here, of a vendor that is not known" in npu_reason(items)
    assert "libsomething" not in npu_reason(items)
