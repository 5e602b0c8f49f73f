"""Finds published files: in the folder NOISESCALE_DATA, then the user cache, then a download."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pooch

from noisescale.errors import BadInput

DATA_FOLDER_VARIABLE = "NOISESCALE_DATA"


@dataclass(frozen=True)
class PublishedFile:
    """A file whose bytes are known.

    Args:
        folder: The data set's folder below each place that is searched.
        name: The file's name in that folder.
        md5: The checksum of its bytes, in hex.
        addresses: Where it can be downloaded, in the order to try.
    """

    folder: str
    name: str
    md5: str
    addresses: tuple[str, ...]


def user_cache() -> Path:
    """Return the folder for downloaded and generated data; it need not exist."""
    return Path(pooch.os_cache("noisescale"))


def find_local(folder: str, name: str) -> Path | None:
    """Return where a file or folder lies on this machine, NOISESCALE_DATA before the user cache, or None.

    Args:
        folder: The data set's folder below each place.
        name: The name to look for in it.

    Raises:
        BadInput: NOISESCALE_DATA is set but names no folder.
    """
    places = [user_cache()]
    chosen = os.environ.get(DATA_FOLDER_VARIABLE)
    if chosen:
        if not Path(chosen).is_dir():
            raise BadInput(DATA_FOLDER_VARIABLE, "must name an existing folder", chosen)
        places.insert(0, Path(chosen))
    candidates = (place / folder / name for place in places)
    return next((path for path in candidates if path.exists()), None)


def find_or_download(file: PublishedFile) -> Path:
    """Return the path of a published file, downloaded into the user cache where this machine has none.

    Raises:
        BadInput: No address delivers the file; the message says where to put it by hand.
    """
    local = find_local(file.folder, file.name)
    if local is not None:
        return local
    cache = user_cache() / file.folder
    failures = []
    for address in file.addresses:
        try:
            return Path(pooch.retrieve(address, known_hash=f"md5:{file.md5}", fname=file.name, path=cache))
        except (OSError, ValueError) as error:  # network, HTTP status and disk; a wrong checksum
            failures.append(f"{address} ({type(error).__name__})")
    raise BadInput(
        f"{file.folder}/{file.name}",
        f"this file (md5 {file.md5}) is needed and could not be downloaded; put it into {cache}, "
        f"or into the subfolder {file.folder} of a folder named by {DATA_FOLDER_VARIABLE}",
        f"no answer or a wrong one from {', '.join(failures)}",
    )


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        BadInput: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), "must be a readable file", error.strerror) from error


def check_md5(content: bytes, md5: str, path: Path) -> None:
    """Check that a file holds the published bytes.

    Raises:
        BadInput: The checksum differs.
    """
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != md5:
        required = f"must be the published file, md5 {md5}; replace it, or delete it to have it downloaded"
        raise BadInput(str(path), required, f"md5 {got}")
