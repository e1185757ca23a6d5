"""Vulkan drivers for tests: SwiftShader, which computes on the CPU, and stand-ins that fail in one way each.

SwiftShader comes with Chromium. The stand-ins are built here with gcc from the C source below; they pass everything on to
SwiftShader but the one thing that they do wrongly, and compute nothing by themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

#: Where Debian, Ubuntu and others have Chromium's copy; EDGEKIT_TEST_VULKAN_DRIVER names another manifest.
MANIFESTS = (
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
    "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
)
#: What a stand-in does wrongly.
FAULTS = (
    "crashes",
    "crashes_running",
    "hangs",
    "is_killed",
    "finds_no_gpu",
    "computes_nothing",
    "computes_nothing_later",
)

_SOURCE = r"""
/* A stand-in for a Vulkan driver, built by edgekit's tests: it passes calls on to a real one, and does one thing wrongly. */
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void (*Function)(void);
typedef Function (*Find)(void *, const char *);

static void *real(const char *name) {
    static void *library;
    if (!library) library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
    return dlsym(library, name);
}

#if defined finds_no_gpu
static int32_t no_gpus(void *instance, uint32_t *count, void *devices) {
    *count = 0;
    return 0; /* VK_SUCCESS */
}
#endif

#if defined computes_nothing || defined computes_nothing_later || defined crashes_running
static void (*real_dispatch)(void *, uint32_t, uint32_t, uint32_t);
static long calls;
__attribute__((destructor)) static void count(void) {
    const char *name = getenv("STAND_IN_COUNT_FILE");
    FILE *file = name ? fopen(name, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld", calls);
    fclose(file);
}
static void dispatch(void *buffer, uint32_t x, uint32_t y, uint32_t z) {
#if defined crashes_running
    *(volatile int *)0 = 1;
#elif defined computes_nothing_later
    const char *right = getenv("STAND_IN_RIGHT_DISPATCHES");
    if (calls++ < (right ? atol(right) : 0)) real_dispatch(buffer, x, y, z);
#endif
}
#endif

static Function wrapped(const char *name, Function found);

#if defined computes_nothing || defined computes_nothing_later || defined crashes_running
static Find real_of_device;
static Function of_device(void *device, const char *name) { return wrapped(name, real_of_device(device, name)); }
#endif

static Function wrapped(const char *name, Function found) {
#if defined finds_no_gpu
    if (!strcmp(name, "vkEnumeratePhysicalDevices")) return (Function)no_gpus;
#endif
#if defined computes_nothing || defined computes_nothing_later || defined crashes_running
    if (!strcmp(name, "vkGetDeviceProcAddr") && found) {
        real_of_device = (Find)found;
        return (Function)of_device;
    }
    if (!strcmp(name, "vkCmdDispatch") && found) {
        real_dispatch = (void (*)(void *, uint32_t, uint32_t, uint32_t))found;
        return (Function)dispatch;
    }
#endif
    return found;
}

__attribute__((visibility("default"))) int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
#if defined crashes
    *(volatile int *)0 = 1;
#elif defined hangs
    for (;;) pause();
#elif defined is_killed
    kill(getpid(), SIGKILL);
#endif
    return ((int32_t (*)(uint32_t *))real("vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
}

__attribute__((visibility("default"))) Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    return wrapped(name, ((Find)real("vk_icdGetInstanceProcAddr"))(instance, name));
}
"""


def swiftshader() -> Path:
    """The manifest of SwiftShader's driver; the test is skipped where there is none."""
    for name in (os.environ.get("EDGEKIT_TEST_VULKAN_DRIVER"), *MANIFESTS):
        if name and Path(name).is_file():
            return Path(name)
    pytest.skip("SwiftShader's Vulkan driver is not here: install the package chromium (Debian, Ubuntu)")


def stand_in(folder: Path, fault: str) -> Path:
    """Build a stand-in driver.

    Args:
        folder: where to.
        fault: one of ``FAULTS``.

    Returns:
        Its manifest, for VK_DRIVER_FILES. The Vulkan loader that comes with SwiftShader lies beside it.
    """
    assert fault in FAULTS
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in drivers are built with gcc, and it is not here")
    real = swiftshader()
    library = json.loads(real.read_text())["ICD"]["library_path"]
    source = folder / "stand_in.c"
    source.write_text(_SOURCE)
    built = folder / f"libstand_in_{fault}.so"
    command = ["gcc", "-shared", "-fPIC", f"-D{fault}", f'-DREAL="{(real.parent / library).resolve()}"']
    subprocess.run([*command, "-o", str(built), str(source), "-ldl"], check=True)
    loader = real.parent / "libvulkan.so.1"
    if loader.exists() and not (folder / loader.name).exists():
        (folder / loader.name).symlink_to(loader)
    manifest = folder / f"stand_in_{fault}.json"
    manifest.write_text(
        json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": str(built), "api_version": "1.1.0"}})
    )
    return manifest
