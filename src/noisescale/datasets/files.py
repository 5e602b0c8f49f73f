"""Finds published files: first in the folder NOISESCALE_DATA, then in the user's cache, and else by a download."""

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
    """A published file with a known checksum.

    Args:
        folder: Name of the data set's folder, within NOISESCALE_DATA and within the user's cache.
        name: Name of the file in the data set's folder.
        md5: MD5 checksum of the file's bytes, in hex.
        addresses: URLs for the download, in the order in which they are tried.
    """

    folder: str
    name: str
    md5: str
    addresses: tuple[str, ...]


def user_cache() -> Path:
    """Return the folder for downloaded and generated data, which may not exist yet."""
    return Path(pooch.os_cache("noisescale"))


def find_local(folder: str, name: str) -> Path | None:
    """Return the path of a file or folder on this machine, or None if there is none.

    NOISESCALE_DATA is searched before the user's cache.

    Args:
        folder: Name of the data set's folder.
        name: Name of the file or folder within it.

    Raises:
        BadInput: NOISESCALE_DATA is set but does not name an existing folder.
    """
    roots = [user_cache()]
    data_folder = os.environ.get(DATA_FOLDER_VARIABLE)
    if data_folder:
        if not Path(data_folder).is_dir():
            raise BadInput(DATA_FOLDER_VARIABLE, "must name an existing folder", data_folder)
        roots.insert(0, Path(data_folder))
    candidates = (root / folder / name for root in roots)
    return next((path for path in candidates if path.exists()), None)


def find_or_download(file: PublishedFile) -> Path:
    """Return the path of a published file. If this machine does not have it, download it into the user's cache.

    Raises:
        BadInput: The file cannot be downloaded. The message names the folder into which it can be copied by hand.
    """
    local = find_local(file.folder, file.name)
    if local is not None:
        return local
    cache = user_cache() / file.folder
    failures = []
    for address in file.addresses:
        try:
            return Path(pooch.retrieve(address, known_hash=f"md5:{file.md5}", fname=file.name, path=cache))
        # An OSError comes from the network, the HTTP status or the disk, and a ValueError from a wrong checksum.
        except (OSError, ValueError) as error:
            failures.append(f"{address} ({type(error).__name__})")
    raise BadInput(
        f"{file.folder}/{file.name}",
        f"this file (md5 {file.md5}) is needed and could not be downloaded; put it into {cache}, "
        f"or into the subfolder {file.folder} of the folder that {DATA_FOLDER_VARIABLE} names",
        f"no answer or a wrong file from {', '.join(failures)}",
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
    """Check that a file has the published checksum.

    Raises:
        BadInput: The checksum differs.
    """
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != md5:
        required = f"must be the published file, md5 {md5}; replace it, or delete it to have it downloaded"
        raise BadInput(str(path), required, f"md5 {got}")
