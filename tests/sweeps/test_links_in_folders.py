"""Nothing is written through links in the folder of a study, and what they lead to stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisescale.cli import main

FILES = (
    "lock", "log.txt", "times.jsonl", "heartbeat.json", "unfinished", "plan.jsonl", "spec.json", "data.json",
    "model.json", "code.json",
)  # fmt: skip
FOLDERS = ("shards", "failures", "checkpoints", "kernels", "damaged", "slurm")
TEXT = "somebody's file"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_spec: str) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "spec.toml").write_text(small_spec)
    assert main(["sweep", str(folder / "spec.toml"), "--out", str(folder / "out"), "--jobs", "1"]) == 0
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter a folder with a study in `out`, a file and a folder of somebody else, and check that these stay."""
    shutil.copytree(finished, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    Path("victim").write_text(TEXT)
    Path("elsewhere").mkdir()
    Path("elsewhere/file").write_text(TEXT)
    (Path("elsewhere") / "x.alive").write_text(TEXT)
    (Path("elsewhere") / ".x.tmp").write_text(TEXT)
    before = facts()
    yield tmp_path / "place"
    assert facts() == before


def facts() -> dict[str, tuple[int, int, str]]:
    paths = [Path("victim"), Path("elsewhere"), *sorted(Path("elsewhere").iterdir())]
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size, path.read_text() if path.is_file() else "")
        for path in paths
    }


def put_link(path: Path, kind: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True, parents=True)
    if kind == "hard link":
        os.link("victim", path)
    else:
        path.symlink_to(Path("victim" if kind == "link" else "elsewhere").absolute())


def sweep(*options: str) -> int:
    return main(["sweep", "spec.toml", "--out", "out", "--jobs", "1", *options])


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_sweep_refuses_a_link(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_link(Path("out") / name, "folder link" if name in FOLDERS else "link")
    assert sweep("--set", "seeds=3") == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", ["shards/new.parquet", "failures/x.json", "checkpoints/x.pt", "kernels/x.txt"])
def test_a_sweep_refuses_a_link_in_a_subfolder(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_link(Path("out") / name, "link")
    assert sweep() == 2
    assert str(Path("out") / name) in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_a_sweep_changes_no_file_with_another_name(name: str, place: Path) -> None:
    put_link(Path("out") / name, "hard link")
    assert sweep("--set", "seeds=3") in (0, 2)


@pytest.mark.parametrize("name", ["checkpoints/x.alive", "kernels/.x.tmp", "shards/.x.parquet.1.tmp"])
def test_a_sweep_removes_the_name_and_not_the_file(name: str, place: Path) -> None:
    put_link(Path("out") / name, "hard link")
    assert sweep("--set", "seeds=3") == 0
    assert not (Path("out") / name).exists()


@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize("command", [["status", "out"], ["fit", "out"], ["recommend", "out", "--width", "4"]])
@pytest.mark.parametrize("name", ["lock", "times.jsonl", "log.txt"])
def test_commands_that_read_write_nothing_through_links(name: str, command: list[str], kind: str, place: Path) -> None:
    put_link(Path("out") / name, kind)
    assert main(command) in (0, 2)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("report", "folder link", 2),
        ("report/figures", "folder link", 2),
        ("report/index.html", "link", 2),
        ("report/report.json", "link", 2),
        ("report/figures/optimum.svg", "link", 2),
        ("report/index.html", "hard link", 0),
        ("report/report.json", "hard link", 0),
        ("every figure", "hard link", 0),
    ],
)
def test_a_report_is_not_written_through_links(
    name: str, kind: str, code: int, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "every figure":
        assert main(["report", "out"]) == 0
        figures = [path for path in Path("out/report/figures").iterdir()]
        assert {path.suffix for path in figures} == {".png", ".svg"}
    else:
        figures = [Path("out") / name]
    for path in figures:
        put_link(path, kind)
    assert main(["report", "out"]) == code
    assert code == 0 or name in capsys.readouterr().err
    assert code == 2 or all(path.stat().st_nlink == 1 for path in figures)


@pytest.mark.parametrize("name", ["check", "check/shards", "check/checkpoints", "check/lock", "check/check.json"])
def test_a_check_is_not_written_through_links(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_link(Path("out") / name, "link" if "." in name or name.endswith("lock") else "folder link")
    assert main(["recommend", "out", "--width", "2", "--check", "--check-seeds", "2"]) == 2
    assert name.rpartition("/")[2] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["lock", "check.json"])
def test_a_check_changes_no_file_with_another_name(name: str, place: Path) -> None:
    put_link(Path("out/check") / name, "hard link")
    code = main(["recommend", "out", "--width", "2", "--check", "--check-seeds", "2"])
    assert code == (2 if name == "lock" else 0)


def test_the_folder_itself_may_be_a_link(place: Path) -> None:
    Path("real").mkdir()
    Path("out").rename("real/out")
    Path("out").symlink_to("real/out")
    assert sweep("--set", "seeds=3") == 0
    assert main(["fit", "out"]) == 0
    assert Path("out").is_symlink()
