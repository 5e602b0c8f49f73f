from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from noisescale.datasets.files import PublishedFile, check_md5, find_local, find_or_download, read_bytes
from noisescale.errors import BadInput

CONTENT = b"the published bytes"
MD5 = hashlib.md5(CONTENT).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the files good/file and damaged/file on this machine."""
    for folder, content in (("good", CONTENT), ("damaged", b"other bytes")):
        (tmp_path / "served" / folder).mkdir(parents=True)
        (tmp_path / "served" / folder / "file").write_bytes(content)
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def published(*addresses: str) -> PublishedFile:
    return PublishedFile("mnist", "file", MD5, addresses)


def test_the_named_folder_is_searched_before_the_cache(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_local("mnist", "file") is None
    for place in (empty_cache, tmp_path / "named"):
        (place / "mnist").mkdir(parents=True)
        (place / "mnist" / "file").write_bytes(CONTENT)
    assert find_local("mnist", "file") == empty_cache / "mnist" / "file"
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path / "named"))
    assert find_or_download(published()) == tmp_path / "named" / "mnist" / "file"


def test_a_named_folder_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path / "absent"))
    with pytest.raises(BadInput, match=r"NOISESCALE_DATA: must name an existing folder.*absent"):
        find_local("mnist", "file")


def test_a_download_skips_addresses_that_fail_and_is_kept(server: str, empty_cache: Path) -> None:
    file = published(f"{server}/absent/file", f"{server}/damaged/file", f"{server}/good/file")
    assert find_or_download(file).read_bytes() == CONTENT
    assert find_or_download(published()) == empty_cache / "mnist" / "file"


def test_a_damaged_download_is_not_kept(server: str, empty_cache: Path) -> None:
    with pytest.raises(BadInput, match=r"damaged/file \(ValueError\)"):
        find_or_download(published(f"{server}/damaged/file"))
    assert list((empty_cache / "mnist").iterdir()) == []


def test_if_no_address_answers_the_message_names_the_file_and_its_folder(server: str, empty_cache: Path) -> None:
    with pytest.raises(BadInput) as refused:
        find_or_download(published(f"{server}/absent/file", "http://127.0.0.1:9/file"))
    assert refused.value.name == "mnist/file"
    for part in (
        MD5,
        str(empty_cache / "mnist"),
        "NOISESCALE_DATA",
        "absent/file (HTTPError)",
        "9/file (ConnectionError)",
    ):
        assert part in str(refused.value)


def test_a_wrong_checksum_is_refused_by_the_path() -> None:
    check_md5(CONTENT, MD5, Path("some/file"))
    with pytest.raises(BadInput, match=rf"some/file: must be the published file, md5 {MD5}"):
        check_md5(b"other", MD5, Path("some/file"))


def test_a_file_that_cannot_be_read_is_refused_by_the_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="absent: must be a readable file.*No such file"):
        read_bytes(tmp_path / "absent")
