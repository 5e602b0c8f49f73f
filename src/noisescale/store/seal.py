"""A Parquet file that carries the digest of its own bytes, so that a flipped bit is seen wherever it is."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noisescale.errors import BadInput

# From a file's schema to the columns that are decoded, None for all; a ValueError says what is wrong with it.
Choose = Callable[[pa.Schema], list[str] | None]

# Raised when a shard's rows mean something that an older version would misread.
FORMAT = 2

# Of a file with the runs of one pack: it has not changed.
_OF_ONE_PACK = 1

# In the footer of a file with the runs of several packs: their ids, with spaces between.
_PACKS_KEY = b"noisescale.packs"

_FORMAT_KEY, _DIGEST_KEY = b"noisescale.format", b"noisescale.sha256"
_BLANK = b"0" * 64
# The key, the length of its value, the value; and how far from the end they can be.
_SIGN, _FOOTER = re.compile(re.escape(_DIGEST_KEY) + rb".{2}([0-9a-f]{64})", re.DOTALL), 2**20


class DamagedFile(BadInput):
    """A sealed file that is not as it was written."""


def sealed(table: pa.Table, packs: Sequence[str] = ()) -> bytes:
    """The table as a Parquet file, with its format and a SHA-256 of the whole file in its footer.

    The digest is that of the file with zeros in the digest's place.

    Args:
        table: The rows of the shard.
        packs: The ids of the packs, where there are several.
    """
    about = {_FORMAT_KEY: str(FORMAT if packs else _OF_ONE_PACK).encode(), _DIGEST_KEY: _BLANK}
    if packs:
        about[_PACKS_KEY] = " ".join(packs).encode()
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(about)
    data = buffer.getvalue()
    place = data.rindex(_BLANK)
    return data[:place] + _digest(data) + data[place + len(_BLANK) :]


def unsealed(data: bytes, name: str, choose: Choose) -> pa.Table:
    """The table of a file, after its digest was checked; files from before there were digests have none to check.

    Args:
        data: The file's bytes.
        name: For messages.
        choose: From the schema to the columns that are decoded.

    Raises:
        DamagedFile: The bytes are not those that were written, or not of such a file. BadInput: a newer version wrote
            them.
    """
    _check(data, name)
    return _table(data, name, choose)


def packs_in_footer(path: Path) -> list[str]:
    """The ids of the packs whose runs a file holds, from its footer alone.

    Raises:
        DamagedFile: There is no footer that says so.
    """
    try:
        packs: list[str] = (pq.read_metadata(path).metadata or {})[_PACKS_KEY].decode().split()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(str(path), error) from None
    return packs


def check_seal(data: bytes, name: str, choose: Choose) -> None:
    """Raise as `unsealed` does; of a file with a digest no more than its schema is decoded for that."""
    if _check(data, name):
        with _damage_of(name):
            choose(pq.read_schema(pa.BufferReader(data)))
    else:
        _table(data, name, choose)


def _check(data: bytes, name: str) -> bool:
    """Whether there is a digest, which then holds."""
    # The digest is looked for, not parsed: a damaged footer is no input for a parser.
    sign = _SIGN.search(data, max(0, len(data) - _FOOTER))
    if sign is None:
        if _FORMAT_KEY in data:  # no single flip removes both keys
            raise _damaged(name, "a footer without its digest")
        return False
    place = sign.start(1)
    if _digest(data[:place] + _BLANK + data[place + len(_BLANK) :]) != sign.group(1):
        raise _damaged(name, "bytes that differ from those that were written")
    written = pq.read_metadata(pa.BufferReader(data)).metadata[_FORMAT_KEY].decode()
    if int(written) > FORMAT:
        raise BadInput(name, f"a file of format {FORMAT} or older; update noisescale to read newer ones", written)
    return True


def _table(data: bytes, name: str, choose: Choose) -> pa.Table:
    with _damage_of(name):
        file = pq.ParquetFile(pa.BufferReader(data))
        return file.read(choose(file.schema_arrow))


@contextmanager
def _damage_of(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(name, error) from None


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _damaged(name: str, found: object) -> DamagedFile:
    required = "a shard as a sweep wrote it; the same `noisescale sweep` sets it aside and trains its runs again"
    return DamagedFile(name, required, found)
