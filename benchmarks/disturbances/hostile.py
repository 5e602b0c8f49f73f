"""A folder from somebody else: links, forged footers, a removed plan, and code that was edited."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow.parquet as pq

from disturbances.fault import Report
from disturbances.kills import interrupt
from disturbances.subject import Outcome, Subject, wait_for_exit
from noisescale.store.seal import seal_table

# Files that a sweep writes in its folder.
_WRITTEN = ("lock", "log.txt", "times.jsonl", "heartbeat.json", "unfinished", "plan.jsonl", "code.json")
_FOLDERS = ("shards", "checkpoints", "kernels", "failures")
_TEXT = "somebody's file"
_MODEL = """
from torch import nn


def model(width, input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""


def interrupt_early(subject: Subject) -> None:
    """Run a sweep until some packs are finished, and interrupt it."""
    driver = subject.start()
    subject.wait_for_packs(2, driver)
    interrupt(driver, 1)
    wait_for_exit(driver)
    subject.record_finished()


def links(subject: Subject, generator: random.Random) -> Report:
    """Put a link in the place of each file and folder that a sweep writes, one after another, and sweep.

    Args:
        subject: The sweep.
        generator: Not used.
    """
    report = Report("a link in the place of each file and folder that a sweep writes", 0)
    interrupt_early(subject)
    victim, elsewhere = subject.folder / "victim", subject.folder / "elsewhere"
    elsewhere.mkdir()
    for name in (*_WRITTEN, *_FOLDERS):
        path, kept = subject.out / name, subject.folder / f"kept-{name}"
        victim.write_text(_TEXT, encoding="utf-8")
        (elsewhere / "file").write_text(_TEXT, encoding="utf-8")
        if path.exists():
            path.rename(kept)
        path.symlink_to(elsewhere if name in _FOLDERS else victim)
        outcome = subject.complete()
        path.unlink()
        if kept.exists():
            kept.rename(path)
        report.times += 1
        report.check("exit code 2 and one line that names the link", _refuses(outcome, str(path)))
        untouched = victim.read_text(encoding="utf-8") == _TEXT and os.listdir(elsewhere) == ["file"]
        report.check("what the link leads to is untouched", untouched)
    return report


def forged_footer(subject: Subject, generator: random.Random) -> Report:
    """Add a file of results with a valid seal whose footer names packs outside the folder.

    Args:
        subject: The sweep.
        generator: Not used.
    """
    report = Report("files of results with a valid seal whose footer leads out of the folder", 0)
    interrupt_early(subject)
    victim = subject.folder / "victim.parquet"
    table = pq.read_table(next((subject.out / "shards").glob("*.parquet")))
    for name in ("../../victim", str(subject.folder / "victim")):
        victim.write_text(_TEXT, encoding="utf-8")
        forged = subject.out / "shards" / "packs-0123456789abcdef.parquet"
        forged.write_bytes(seal_table(table, [name]))
        outcome = subject.complete()
        report.times += 1
        report.check("the file outside is untouched", victim.exists() and victim.read_text(encoding="utf-8") == _TEXT)
        report.check("the forged file is moved aside", not forged.exists() and outcome.code == 0)
    return report


def removed_plan(subject: Subject, generator: random.Random) -> Report:
    """Remove the plan of an interrupted sweep.

    Args:
        subject: The sweep.
        generator: Not used.
    """
    report = Report("the plan removed in the middle of a sweep", 1)
    interrupt_early(subject)
    (subject.out / "plan.jsonl").unlink()
    report.check("the sweep completes", subject.complete().code == 0)
    return report


def edited_code(subject: Subject, generator: random.Random) -> Report:
    """Edit the model of an interrupted sweep, and then take the edit back.

    Args:
        subject: The sweep. Its family is "edited_model:model".
        generator: Not used.
    """
    report = Report("the model edited in the middle of a sweep, and the edit taken back", 0)
    file = subject.folder / "edited_model.py"
    file.write_text(_MODEL, encoding="utf-8")
    paths = os.pathsep.join([str(subject.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    subject.environment |= {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    interrupt_early(subject)
    for edited in (_MODEL.replace("nn.ReLU()", "nn.Tanh()"), _MODEL.replace("width)", "width + 0)", 1)):
        before = subject.shards()
        file.write_text(edited, encoding="utf-8")
        report.check("exit code 2 and one line that names the file", _refuses(subject.complete(), str(file)))
        report.check("no run of the edited model is stored", subject.shards() == before)
        report.times += 1
    file.write_text(f"# A comment.\n{_MODEL}", encoding="utf-8")
    return report


def _refuses(outcome: Outcome, path: str) -> bool:
    return outcome.code == 2 and outcome.is_one_message and Path(path).name in outcome.stderr
