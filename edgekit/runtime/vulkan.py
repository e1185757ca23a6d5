"""Vulkan as LiteRT's GPU accelerator needs it on Linux: its loader, and what the native texts of a failure mean.

LiteRT says by itself only at which of its source lines it stopped; the reason stands in what it and the loader print.
"""

from __future__ import annotations

import json
import os
import re
import sys

#: What every Linux program reaches Vulkan through (Khronos, "Architecture of the Vulkan Loader Interfaces").
LOADER = "libvulkan.so.1"
#: Environment variables that name driver manifests; the second is the older name (the same document, "Driver Discovery").
DRIVER_VARIABLES: tuple[str, ...] = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
#: A manifest is a few lines.
_MANIFEST_BYTES = 1 << 16
_PACKAGES = "Debian, Ubuntu and Raspberry Pi OS: `sudo apt-get install libvulkan1 mesa-vulkan-drivers`"
#: Lines of a log that are about something else: the search for NPU plugins, and where in its sources the runtime was.
_BESIDE_THE_POINT = re.compile(
    r"plugin|Dispatch API|vendors/|registry\.cc|NPU|InitGoogle|Source Location|^INFO|^I\d{4} |^\s*$|OpenCL library|^\s*at |^\S+\.cc:\d+$"
    r"|Failed to get buffer requirements|operations will run|operations are not supported|^(?!ERROR|WARNING)[A-Z][A-Z0-9_]*: "
)
#: Where a line of a log comes from: a place in the sources, and a time.
_ORIGIN = re.compile(r"^(?:└ )?(?:ERROR|WARNING|Warning|[EWF]\d{4} [\d:. ]+\d+ [\w.]+:\d+\]):? ?(?:\[[\w./]+:\d+\] ?)?")
#: What follows from the line before it.
_CONSEQUENCE = re.compile(r"WebGPU environment|While initializing adapter|VK_ERROR_INCOMPATIBLE_DRIVER")
_MOST = 300


def load_loader() -> str | None:
    """Make the Vulkan loader available to this process, so that the accelerator finds it.

    Where the system has none, the one beside a driver that ``VK_DRIVER_FILES`` names will do: browsers bring both.

    Returns:
        Its name or path; ``None`` where there is none. Other systems than Linux are not asked.
    """
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    for name in (LOADER, *_beside_drivers()):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)  # found again by its soname when the accelerator asks for it
        except OSError:
            continue
        return name
    return None


def _beside_drivers() -> list[str]:
    found = []
    for variable in DRIVER_VARIABLES:
        for manifest in (os.environ.get(variable) or "").split(os.pathsep):
            folders = [os.path.dirname(manifest)] if manifest else []
            library = _library_of(manifest) if manifest else ""
            if library:
                folders.append(os.path.dirname(library))
            found += [os.path.join(folder, LOADER) for folder in folders if folder]
    return [path for path in dict.fromkeys(found) if os.path.isfile(path)]


def _library_of(manifest: str) -> str:
    """The driver's library that a manifest names; "" when it cannot be told."""
    try:
        with open(manifest, "rb") as file:
            named = json.loads(file.read(_MANIFEST_BYTES))["ICD"]["library_path"]
        return os.path.join(os.path.dirname(manifest), named) if "/" in named else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def explain(said: str) -> str | None:
    """Why LiteRT found no GPU, in a sentence that names the remedy; ``None`` when the text is about something else.

    Args:
        said: what the runtime, WebGPU and the Vulkan loader printed (ai-edge-litert 2.3.0, Vulkan loader 1.3).
    """
    if "GPU accelerator could not be loaded and registered" in said and "No adapters found" not in said:
        return (
            "this build of LiteRT has no accelerator for the GPU of this system. Update it (`pip install -U ai-edge-litert`); its "
            "wheels for Linux, macOS and Windows have one"
        )
    found = re.search(r"Couldn't load Vulkan: (.+)", said)
    if found:
        return (
            f"this system has no Vulkan, which the GPU is reached through ({found[1].strip()}). Install it and the driver of "
            f"your GPU ({_PACKAGES})"
        )
    found = re.search(r"Failed loading library associated with ICD JSON (\S+)", said)
    if found:
        return (
            f"the Vulkan driver {found[1].rstrip('.')} cannot be loaded: it is damaged, or made for another processor. Install the driver "
            f"again ({_PACKAGES})"
        )
    if "Found no drivers" in said or "VK_ERROR_INCOMPATIBLE_DRIVER" in said:
        return (
            f"Vulkan is installed, and no driver for a GPU. Install the driver of your GPU ({_PACKAGES}); a GPU without a Vulkan "
            "driver cannot be used"
        )
    found = re.search(r"Warning: (.+)\n - While initializing adapter", said)
    if found:
        return (
            f"the Vulkan driver cannot do what LiteRT needs ({found[1].strip().rstrip('.')}). A newer driver may; Mesa's software driver "
            "llvmpipe of Debian 12 (Mesa 22.3) cannot"
        )
    if "Variable tensors not yet supported" in said:
        return "the model keeps a state between runs (variable tensors), which LiteRT's CompiledModel does not take"
    if "No adapters found" in said:
        return "a Vulkan driver is installed, and it finds no GPU. Check that the GPU is there and that this user may open /dev/dri"
    return None


def device(said: str) -> str | None:
    """The GPU that LiteRT chose, from what it printed; ``None`` when it did not say. Drivers that compute on the CPU are named so."""
    found = re.search(r"Selected adapter: (.+?), arch=.*?adapterType=(.+)", said)
    if found is None:
        return None
    name = found[1].strip()
    return f"{name}, a software driver" if "software" in found[2].lower() else name


def significant(said: str) -> str | None:
    """The lines of a log that are about a failure, as one line of bounded length; ``None`` when there are none."""
    lines = [" ".join(line.split()) for line in said.splitlines() if not _BESIDE_THE_POINT.search(line)]
    lines = [line for line in lines if not _CONSEQUENCE.search(line)] or lines
    text = "; ".join(dict.fromkeys(line for line in (_ORIGIN.sub("", line).rstrip(".") for line in lines) if line))
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text[:_MOST] + ("…" if len(text) > _MOST else "") or None
