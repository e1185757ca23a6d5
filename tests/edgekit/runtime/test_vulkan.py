"""``edgekit.runtime.vulkan``: what the texts of a failure mean. The texts are the real ones, shortened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.runtime import vulkan

#: ai-edge-litert 2.3.0 on Debian 12: no loader; the loader without a driver; with a damaged one; with Mesa 22.3's llvmpipe.
NO_LOADER = """INFO: [delegate_webgpu.cc:342] Create WebGPU environment (use_low_power=0, enable_host_mapped_pointer=1)
Warning: Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file: No such file or directory
    at operator() (third_party/dawn/src/dawn/native/vulkan/BackendVk.cpp:368)

ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
"""
NO_DRIVER = """Warning: loader_get_json: Failed to open JSON file /nonexistent.json
Warning: vkCreateInstance: Found no drivers!
Warning: vkCreateInstance failed with VK_ERROR_INCOMPATIBLE_DRIVER
    at CheckVkSuccessImpl (third_party/dawn/src/dawn/native/vulkan/VulkanError.cpp:106)

ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
"""
DAMAGED = """Warning: /opt/driver/libvulkan_x.so: file too short
Warning: loader_icd_scan: Failed loading library associated with ICD JSON /opt/driver/libvulkan_x.so. Ignoring this JSON
Warning: vkCreateInstance: Found no drivers!
ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
"""
LLVMPIPE = """Warning: Vulkan shaderUniform*ArrayDynamicIndexing required.
 - While initializing adapter (backend=BackendType::Vulkan)
    at InitializeImpl (third_party/dawn/src/dawn/native/vulkan/PhysicalDeviceVk.cpp:256)

ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
"""
NO_GPU = "ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found\n"
NO_ACCELERATOR = "WARNING: [gpu_registry.cc:160] GPU accelerator could not be loaded and registered.\n"
STATE = "ERROR: [model_load.cc:316] Variable tensors not yet supported.\n"
CHOSEN = (
    "I0000 00:00:1795265377.445237   21217 environment.cc:532] Selected adapter: SwiftShader Device (Subzero), "
    "arch=swiftshader, vendor=google, backend=Vulkan, adapterType=CPU / Software\n"
)


@pytest.mark.parametrize(
    ("said", "begins", "remedy"),
    [
        (NO_LOADER, "this system has no Vulkan, which the GPU is reached through (libvulkan.so.1: cannot open", "apt-get install libvulkan1"),
        (NO_DRIVER, "Vulkan is installed, and no driver for a GPU", "mesa-vulkan-drivers"),
        (DAMAGED, "the Vulkan driver /opt/driver/libvulkan_x.so cannot be loaded: it is damaged, or made for another processor", "again"),
        (LLVMPIPE, "the Vulkan driver cannot do what LiteRT needs (Vulkan shaderUniform*ArrayDynamicIndexing required)", "A newer driver may"),
        (NO_GPU, "a Vulkan driver is installed, and it finds no GPU", "/dev/dri"),
        (NO_ACCELERATOR, "this build of LiteRT has no accelerator for the GPU", "pip install -U ai-edge-litert"),
        (STATE, "the model keeps a state between runs", "does not take"),
    ],
    ids=["no loader", "no driver", "damaged", "llvmpipe", "no gpu", "no accelerator", "state"],
)  # fmt: skip
def test_a_reason_for_each_failure(said: str, begins: str, remedy: str) -> None:
    """Each is told apart, and the sentence says what to do."""
    reason = vulkan.explain(said)
    assert reason is not None
    assert reason.startswith(begins)
    assert remedy in reason


def test_an_unknown_text() -> None:
    """Nothing is made up."""
    assert vulkan.explain("INFO: all is well\n") is None
    assert vulkan.device("INFO: all is well\n") is None
    assert vulkan.significant("INFO: all is well\n") is None


def test_the_device() -> None:
    """A driver that computes on the CPU is called so; a GPU is not."""
    assert "SwiftShader Device (Subzero), a software driver" == vulkan.device(CHOSEN)
    real = CHOSEN.replace("SwiftShader Device (Subzero)", "V3D 7.1.7").replace("CPU / Software", "Integrated GPU")
    assert "V3D 7.1.7" == vulkan.device(real)


def test_what_matters_of_a_log() -> None:
    """One line, without where in its sources the runtime was, and bounded."""
    assert "Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file: No such file or directory" == (
        vulkan.significant(NO_LOADER)
    )
    assert "Vulkan shaderUniform*ArrayDynamicIndexing required" == vulkan.significant(LLVMPIPE)
    assert "Failed to initialize WebGPU environment: INTERNAL: No adapters found" == vulkan.significant(NO_GPU)
    assert "Variable tensors not yet supported" == vulkan.significant(STATE)
    long = vulkan.significant("".join(f"ERROR: line {number}\n" for number in range(1000)))
    assert long is not None
    assert len(long) <= 301
    assert "ERROR" not in long


def test_terminals_are_not_obeyed() -> None:
    """What a driver prints may hold anything."""
    assert "a?[31mb" == vulkan.significant("a\x1b[31mb\n")


def test_the_loader_beside_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a driver that an environment variable names: in its manifest's folder, or in its library's."""
    library = tmp_path / "driver" / "libvulkan_x.so"
    library.parent.mkdir()
    (library.parent / vulkan.LOADER).write_bytes(b"")
    manifest = tmp_path / "x.json"
    manifest.write_text(json.dumps({"ICD": {"library_path": "driver/libvulkan_x.so"}}))
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setenv("VK_DRIVER_FILES", f"/nonexistent.json:{manifest}")
    assert [str(library.parent / vulkan.LOADER)] == vulkan._beside_drivers()
    for text in ("", "[]", '{"ICD": 3}', '{"ICD": {"library_path": 3}}', "\x00"):
        manifest.write_text(text)
        assert [] == vulkan._beside_drivers()
