"""Forged folders of studies: every command answers without a traceback, and changes nothing around the folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import file_damages
from forged import FORGERIES, VICTIMS, check_place
from hypothesis import strategies as st
from running import CASES, LONG, MARK, Answer, sizes, try_many
from studies import COMMANDS, IntactStudy, answer_of
from surroundings import snapshot, unchanged

TEXT = "somebody's file"


# Each part takes about a minute in the long form.
PARTS = 10


@pytest.mark.parametrize("part", range(1, PARTS + 1))
@sizes("hostile")
def test_forged_folders(count: int, part: int, intact: IntactStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of reports are left out: they take a second and read no file."""
    monkeypatch.setattr("noisescale.report.write._draw", lambda *arguments: [])
    for name in VICTIMS:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(TEXT, encoding="utf-8")

    def check(case: tuple[str, list[Any]]) -> None:
        command, forgeries = case
        shutil.copytree(intact.folder, "damaged")
        try:
            for forgery in forgeries:
                forgery.apply(Path("damaged"))
            with unchanged(Path(), ("damaged", "exported")):
                answer = answer_of(command)
            check_answer(answer)
            assert not Path(MARK).exists()
        finally:
            shutil.rmtree("damaged")

    forged = st.one_of(FORGERIES, FORGERIES, FORGERIES, file_damages(intact.files))
    cases = st.tuples(st.sampled_from([*COMMANDS, "sweep"]), st.lists(forged, min_size=1, max_size=3))
    assert try_many(count, cases, check, part) >= count


def test_the_long_form_tries_two_thousand_folders() -> None:
    assert PARTS * LONG["hostile"] >= 2000 and PARTS * CASES["hostile"] >= 50


def check_answer(answer: Answer) -> None:
    """Check that a command refused the folder in a sentence, or ended as it may, and that no text steers a terminal."""
    assert answer.refused or answer.code in (0, 1), answer
    for line in (answer.out + answer.err).split("\n"):
        assert line.isprintable(), answer
        assert len(line) < 10_000 or answer.out.startswith("{"), answer


@pytest.mark.parametrize("place", ["../x", "/x", "damaged/../../x", "link/x", ".."])
def test_a_forgery_outside_the_working_folder_is_an_error(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner" / "damaged").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner")
    Path("link").symlink_to(tmp_path)
    for inside in ("x", "damaged/x", "damaged/../x"):
        check_place(Path(inside))
    with pytest.raises(AssertionError, match="leads out"):
        check_place(Path(place))


@pytest.mark.parametrize("change", ["contents", "a new file", "removed", "touched", "a new folder", "a link"])
def test_a_change_around_the_folder_is_seen(change: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "file"
    file.write_text("before")
    (tmp_path / "left out").mkdir()
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with pytest.raises(AssertionError, match="inner"), unchanged(tmp_path, ("left out",)):
        (tmp_path / "left out" / "anything").touch()
        if change == "contents":
            file.write_text("after!")
            os.utime(file, ns=times)
        elif change == "a new file":
            (tmp_path / "inner" / "other").touch()
        elif change == "removed":
            file.unlink()
        elif change == "touched":
            os.utime(file, ns=(0, 0))
        elif change == "a new folder":
            (tmp_path / "inner" / "folder").mkdir()
        else:
            file.unlink()
            file.symlink_to("elsewhere")


def test_a_folder_that_nobody_changes_has_one_snapshot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with unchanged(tmp_path, ()):
        assert (tmp_path / "file").read_text() == "text"
    assert list(snapshot(tmp_path)) == [str(tmp_path / "file")]
