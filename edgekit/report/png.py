"""A greyscale PNG from an array, with the standard library: for small pictures inside a page."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from edgekit.tensors import Array


def grey_png(image: Array) -> bytes:
    """Encode 8-bit grey values.

    Args:
        image: ``[height, width]`` uint8, 0 is black.

    Returns:
        A PNG file (PNG specification: signature, then IHDR, IDAT and IEND, each line behind filter type 0).
    """
    height, width = image.shape
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = image

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
