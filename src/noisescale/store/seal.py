"""Parquet files with a digest of their bytes, which reveals a flipped bit anywhere in the file."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noisescale.errors import BadInput
from noisescale.store.columns import check_values

# A function that maps the schema of a file to the columns to decode, or to None for all columns. It raises a ValueError
# for an unsuitable schema.
Choose = Callable[[pa.Schema], list[str] | None]
Check = Callable[[pa.Table], None]

# Increase this number when an older version would misread new shards.
FORMAT = 2

# The format of a file with the runs of a single pack (runs that train together). It has not changed since format 1.
_SINGLE_PACK_FORMAT = 1

# The footer key of a file with the runs of several packs. Its value is their ids, separated by spaces.
_PACKS_KEY = b"noisescale.packs"

# The footer keys of the format and of the SHA-256 digest.
_FORMAT_KEY, _DIGEST_KEY = b"noisescale.format", b"noisescale.sha256"
# The digest of a file is computed with these zeros in the place of the digest.
_BLANK = b"0" * 64
# The digest in the footer: the key, two bytes with the length of the value, and the value.
_DIGEST_PATTERN = re.compile(re.escape(_DIGEST_KEY) + rb".{2}([0-9a-f]{64})", re.DOTALL)
_PACK_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
# The footer begins at most this many bytes before the end of the file.
_FOOTER_BYTES = 2**20


class DamagedFile(BadInput):
    """A sealed file that differs from what was written."""


def seal_table(table: pa.Table, packs: Sequence[str] = ()) -> bytes:
    """Encode a table as a Parquet file whose footer holds the format and a SHA-256 digest of the whole file.

    While the digest is computed, zeros stand in its place.

    Args:
        table: The rows of the shard.
        packs: The ids of the packs if there are several.

    Returns:
        The bytes of the file.
    """
    metadata = {_FORMAT_KEY: str(FORMAT if packs else _SINGLE_PACK_FORMAT).encode(), _DIGEST_KEY: _BLANK}
    if packs:
        metadata[_PACKS_KEY] = " ".join(packs).encode()
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    data = buffer.getvalue()
    start = data.rindex(_BLANK)
    return data[:start] + _digest(data) + data[start + len(_BLANK) :]


def unseal_table(data: bytes, name: str, choose: Choose, check: Check = check_values) -> pa.Table:
    """Verify the digest of a file, and decode and check its table. Files of the oldest versions have no digest.

    Args:
        data: The bytes of the file.
        name: The name of the file, for messages.
        choose: Maps the schema to the columns to decode.
        check: Raises a ValueError if the decoded values are not those of a shard.

    Returns:
        The table.

    Raises:
        DamagedFile: The bytes differ from what was written, or are not a shard.
        BadInput: A newer version wrote the file.
    """
    _verify_digest(data, name)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        table = file.read(choose(file.schema_arrow))
        check(table)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise damaged_file(name, error) from None
    return table


def packs_in_footer(path: Path) -> list[str]:
    """Read the ids of the packs of a joined file from its footer alone.

    Args:
        path: The file.

    Returns:
        The ids.

    Raises:
        DamagedFile: The footer does not hold ids of packs.
    """
    try:
        packs: list[str] = (pq.read_metadata(path).metadata or {})[_PACKS_KEY].decode().split()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise damaged_file(str(path), error) from None
    # The ids become names of files, so they must not lead out of the folder.
    if not all(_PACK_ID.fullmatch(pack) for pack in packs):
        raise damaged_file(str(path), "ids that are not those of packs")
    return packs


def _verify_digest(data: bytes, name: str) -> None:
    """Verify the digest of a file, if it has one."""
    # Search for the digest instead of parsing the footer, which may be damaged.
    match = _DIGEST_PATTERN.search(data, max(0, len(data) - _FOOTER_BYTES))
    if match is None:
        if _FORMAT_KEY in data:  # a single flipped bit cannot remove both keys
            raise damaged_file(name, "a footer without its digest")
        return
    start = match.start(1)
    if _digest(data[:start] + _BLANK + data[start + len(_BLANK) :]) != match.group(1):
        raise damaged_file(name, "bytes that differ from what was written")
    try:
        written = int((pq.read_metadata(pa.BufferReader(data)).metadata or {})[_FORMAT_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise damaged_file(name, error) from None
    if written > FORMAT:
        raise BadInput(name, f"a file of format {FORMAT} or older; update noisescale to read newer formats", written)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def damaged_file(name: str, reason: object) -> DamagedFile:
    """Build the error for a damaged shard, to be raised.

    Args:
        name: The name of the file.
        reason: What the file holds instead.
    """
    required = "a shard as a sweep wrote it; the same `noisescale sweep` moves it to damaged/ and trains its runs again"
    return DamagedFile(name, required, reason)
