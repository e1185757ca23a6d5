"""``edgekit.host.native``: a stand-in for the C library of Android and of macOS, built here, and what is read from it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

from edgekit.host import native

#: The two functions with the prototypes of Android's <sys/system_properties.h> and macOS's <sys/sysctl.h>. The values are those of
#: github.com/sergev/vak-opensource, sysinfo/Google-Pixel-7-Pro/fastfetch.txt and sysinfo/Macmini9.1/sysctl.txt.
STAND_IN = r"""
#include <errno.h>
#include <stddef.h>
#include <string.h>

int __system_property_get(const char *name, char *value) {
    const char *found = "";
    if (!strcmp(name, "ro.build.version.release")) found = "16";
    if (!strcmp(name, "ro.product.model")) found = "Pixel 7 Pro";
    if (!strcmp(name, "ro.garbage")) found = "\x1b[31m\xff";
    strcpy(value, found);
    return (int)strlen(found);
}

static int give(const void *found, size_t size, void *old, size_t *old_size) {
    if (*old_size < size) { errno = ENOMEM; return -1; }
    memcpy(old, found, size);
    *old_size = size;
    return 0;
}

int sysctlbyname(const char *name, void *old, size_t *old_size, void *new_value, size_t new_size) {
    int one = 1, zero = 0;
    long long memory = 17179869184LL;
    if (!strcmp(name, "hw.model")) return give("Macmini9,1", 11, old, old_size);
    if (!strcmp(name, "machdep.cpu.brand_string")) return give("Apple M1", 9, old, old_size);
    if (!strcmp(name, "hw.optional.arm64")) return give(&one, sizeof one, old, old_size);
    if (!strcmp(name, "hw.optional.AdvSIMD")) return give(&one, sizeof one, old, old_size);
    if (!strcmp(name, "hw.optional.arm.FEAT_FP16")) return give(&one, sizeof one, old, old_size);
    if (!strcmp(name, "hw.optional.arm.FEAT_DotProd")) return give(&one, sizeof one, old, old_size);
    if (!strcmp(name, "hw.optional.arm.FEAT_I8MM")) return give(&zero, sizeof zero, old, old_size);
    if (!strcmp(name, "hw.memsize")) return give(&memory, sizeof memory, old, old_size);
    if (!strcmp(name, "hw.odd")) return give("abc", 3, old, old_size);
    errno = ENOENT;
    return -1;
}
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for the C library is built with gcc, and it is not here")
    folder = tmp_path_factory.mktemp("native")
    (folder / "standin.c").write_text(STAND_IN)
    library = folder / "libstandin.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, folder / "standin.c"], check=True, timeout=120)
    return library


def test_android_properties(stand_in: Path) -> None:
    """A property's text, and ``None`` for one that is not set."""
    library = ctypes.CDLL(str(stand_in))
    assert native.android_property("ro.product.model", library) == "Pixel 7 Pro"
    assert native.android_property("ro.not.set", library) is None


def test_sysctl(stand_in: Path) -> None:
    """Texts, and integers of four and eight bytes; ``None`` for what the kernel does not have or is something else."""
    library = ctypes.CDLL(str(stand_in))
    assert native.sysctl_text("hw.model", library) == "Macmini9,1"
    assert native.sysctl_number("hw.optional.arm64", library) == 1
    assert native.sysctl_number("hw.memsize", library) == 17_179_869_184
    assert native.sysctl_text("hw.nothing", library) is None
    assert native.sysctl_number("hw.odd", library) is None


def test_a_c_library_without_them() -> None:
    """Linux's has neither: nothing is known, nothing raises."""
    assert native.android_property("ro.product.model") is None
    assert native.sysctl_text("hw.model") is None
    assert native.sysctl_number("hw.optional.arm64") is None


READ = "import json; from edgekit.host import read_host; print(json.dumps(read_host().to_json()))"
ANDROID = f"import sys; sys.getandroidapilevel = lambda: 36; {READ}"
#: A program that Rosetta translates is told that the machine is an Intel one.
MACOS = (
    "import os, sys; sys.platform = 'darwin'; "
    f"os.uname = lambda: os.uname_result(('Darwin', 'mac', '24.1.0', 'Darwin', '{{machine}}')); {READ}"
)


def _read(stand_in: Path, code: str) -> dict[str, Any]:
    """What a process reads of its machine when the stand-in's functions are in its C library."""
    done = run_python("-c", code, env={**os.environ, "LD_PRELOAD": str(stand_in)}, check=True)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_facts_of_a_phone(stand_in: Path) -> None:
    """On Android the C library tells release and model, and the system is not called Linux."""
    facts = _read(stand_in, ANDROID)
    assert facts["system"] == {"value": "Android", "source": "sys.getandroidapilevel"}
    assert facts["android"] == {"value": "16", "source": "system property ro.build.version.release"}
    assert facts["product"] == {"value": "Pixel 7 Pro", "source": "system property ro.product.model"}


@pytest.mark.parametrize("program", ["arm64", "x86_64"])
def test_facts_of_a_mac(stand_in: Path, program: str) -> None:
    """The kernel of macOS tells model and processor; the programs' architecture is what it says to this one."""
    facts = _read(stand_in, MACOS.format(machine=program))
    assert facts["system"] == {"value": "Darwin", "source": "uname"}
    assert facts["machine"] == {"value": "arm64", "source": "sysctl hw.optional.arm64"}
    assert facts["userland"] == {"value": program, "source": "uname"}
    assert facts["product"] == {"value": "Macmini9,1", "source": "sysctl hw.model"}
    assert facts["cpu_model"] == {"value": "Apple M1", "source": "sysctl machdep.cpu.brand_string"}
    assert facts["cpu_flags"]["value"] == ["AdvSIMD", "arm.FEAT_FP16", "arm.FEAT_DotProd"]
