"""The IDX format of MNIST: a magic number, the sizes of the array's axes, and the bytes of the array.

Source: LeCun, Cortes, Burges, "The MNIST database", section "File formats".
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.errors import BadInput


def parse_idx(content: bytes, shape: tuple[int, ...], path: Path) -> Array:
    """Return the uint8 array of a gzip-compressed IDX file. Its shape must be `shape`.

    Args:
        content: The compressed bytes.
        shape: Shape of the published array: [N, H, W] for images, [N] for labels.
        path: The file's name, for messages.

    Raises:
        BadInput: The file is not gzip, has a wrong magic number or other sizes, is truncated, or is too long.
    """
    # The magic number is two zero bytes, 8 for unsigned bytes, and the number of axes. The size of each axis follows,
    # as a big-endian 32-bit number.
    magic = bytes([0, 0, 8, len(shape)])
    header = magic + np.array(shape, dtype=">u4").tobytes()
    expected_length = len(header) + math.prod(shape)
    try:
        # Reading one byte more than expected shows that a file is too long, without unpacking all of it.
        unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(expected_length + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise BadInput(str(path), "must be a complete gzip file", error) from error
    if unpacked[:4] != magic:
        raise BadInput(
            str(path), f"must start with the IDX magic number {magic.hex()}", unpacked[:4].hex() or "nothing"
        )
    if unpacked[: len(header)] != header:
        sizes = np.frombuffer(unpacked[4 : len(header)].ljust(len(header) - 4, b"\0"), dtype=">u4")
        raise BadInput(str(path), f"must hold an array of shape {list(shape)}", f"shape {sizes.tolist()}")
    if len(unpacked) != expected_length:
        excess = "more" if len(unpacked) > expected_length else f"{len(unpacked)} bytes, truncated"
        raise BadInput(str(path), f"must unpack to {expected_length} bytes, header included", excess)
    return np.frombuffer(unpacked, dtype=np.uint8, offset=len(header)).reshape(shape)
