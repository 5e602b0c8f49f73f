"""Entries of a study's folder: links, other names, pipes, sockets and devices."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.store import append_line, check_readable, check_writable, record_times

PLACES = ("lock", "log.txt", "spec.json", "shards/a.parquet", "report/index.html", "failures", "x\x1b[2J")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(path.parent)  # the path of a socket has at most a hundred characters
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_pipe, make_socket, make_device])
@pytest.mark.parametrize("place", PLACES)
def test_a_pipe_or_a_device_is_refused(place: str, make: object, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    check_readable(tmp_path)
    make(path)  # type: ignore[operator]
    for check in (check_readable, check_writable):
        with pytest.raises(BadInput) as message:
            check(tmp_path)
        assert str(message.value).isprintable() and path.name.rpartition("\x1b")[2] in str(message.value)


@pytest.mark.parametrize("target", ["file", "folder", "nothing", "itself"])
@pytest.mark.parametrize("place", PLACES)
def test_a_link_is_read_but_not_written(place: str, target: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    path = folder / place
    path.parent.mkdir(parents=True)
    (tmp_path / "file").write_text("somebody's file")
    (tmp_path / "folder").mkdir()
    path.symlink_to(path if target == "itself" else tmp_path / target)
    check_readable(folder)
    with pytest.raises(BadInput, match="nothing is written through links") as message:
        check_writable(folder)
    assert str(message.value).isprintable()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "shards").mkdir(parents=True)
    (tmp_path / "study").symlink_to("real")
    check_readable(tmp_path / "study")
    check_writable(tmp_path / "study")


@pytest.mark.parametrize("name", ["lock", "log.txt", "times.jsonl"])
def test_a_file_with_another_name_is_not_appended_to(name: str, tmp_path: Path) -> None:
    folder, victim = tmp_path / "study", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("somebody's file")
    os.link(victim, folder / name)
    check_readable(folder)
    with pytest.raises(BadInput, match="another name"):
        check_writable(folder)
    with pytest.raises(OSError, match="links"):
        append_line(folder / name, "line")
    assert victim.read_text() == "somebody's file"


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link"])
def test_times_are_not_written_through_links(kind: str, tmp_path: Path) -> None:
    folder, victim = tmp_path / "study", tmp_path / "victim"
    folder.mkdir()
    record_times(folder, "fit", {"wall": 1.0})
    assert len((folder / "times.jsonl").read_text().splitlines()) == 1
    (folder / "times.jsonl").unlink()
    if kind != "dangling link":
        victim.write_text("somebody's file")
    if kind == "hard link":
        os.link(victim, folder / "times.jsonl")
    else:
        (folder / "times.jsonl").symlink_to(victim)
    record_times(folder, "fit", {"wall": 1.0})
    assert (victim.read_text() if victim.exists() else "none") == (
        "none" if kind == "dangling link" else "somebody's file"
    )


def test_folders_of_other_tools_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's logs hold links and may be many, on slow file systems."""
    for place in ("slurm/session/job", "damaged/a/b", "shards", "report/figures/c", "checkpoints"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "slurm" / "session" / "link").symlink_to(tmp_path)
    make_pipe(tmp_path / "slurm" / "session" / "pipe")
    scanned, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: scanned.append(str(folder)) or scan(folder))
    check_readable(tmp_path)
    assert sorted(scanned) == [str(tmp_path / place) for place in ("", "checkpoints", "report", "shards")]
    check_writable(tmp_path)
    for name in ("slurm", "damaged"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / name).symlink_to(tmp_path / "shards")
        with pytest.raises(BadInput, match="nothing is written through links"):
            check_writable(tmp_path)
        (tmp_path / name).unlink()
