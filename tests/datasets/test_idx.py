from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.datasets.idx import parse_idx
from noisescale.errors import BadInput

PATH = Path("some-images.gz")
IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
HEADER = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4)
COMPLETE = gzip.compress(HEADER + IMAGES.tobytes(), mtime=0)


def test_images_are_read_as_written() -> None:
    np.testing.assert_array_equal(parse_idx(COMPLETE, (2, 3, 4), PATH), IMAGES)


def test_labels_are_read_as_written() -> None:
    content = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes([7, 0, 9]))
    np.testing.assert_array_equal(parse_idx(content, (3,), PATH), [7, 0, 9])


@given(length=st.integers(0, len(COMPLETE) - 1))
def test_a_file_cut_anywhere_is_refused_by_its_name(length: int) -> None:
    with pytest.raises(BadInput) as refused:
        parse_idx(COMPLETE[:length], (2, 3, 4), PATH)
    assert refused.value.name == str(PATH)


@pytest.mark.parametrize(
    ("unpacked", "message"),
    [
        (b"", "magic number 00000803"),
        (b"\x00\x00\x08\x01" + HEADER[4:] + IMAGES.tobytes(), "magic number 00000803.*Got: 00000801"),
        (HEADER[:7], r"shape \[2, 3, 4\]"),
        (HEADER[:-1] + b"\x05" + IMAGES.tobytes(), r"shape \[2, 3, 4\].*Got: shape \[2, 3, 5\]"),
        (HEADER + IMAGES.tobytes()[:-1], "40 bytes, header included.*Got: 39 bytes, truncated"),
        (HEADER + IMAGES.tobytes() + b"x", "40 bytes, header included.*Got: more"),
    ],
)
def test_the_message_names_the_error(unpacked: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_idx(gzip.compress(unpacked), (2, 3, 4), PATH)


@pytest.mark.parametrize("content", [b"plain text", COMPLETE[:-8] + bytes(4) + COMPLETE[-4:]])
def test_a_file_that_is_not_gzip_or_fails_gzips_checksum_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="must be a complete gzip file"):
        parse_idx(content, (2, 3, 4), PATH)
