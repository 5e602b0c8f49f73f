"""A disk that is full, a file that may not grow, a place that cannot be written, not even by root."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from disturbances.fault import NotHere, Report
from disturbances.kills import interrupt
from disturbances.processes import start
from disturbances.subject import Ended, Subject, digests, ended

# Sizes in kilobytes that a small file system has one after the other; a sweep of the smaller size needs more than all
# but the last. Sizes in bytes that a file may have: first no file can be written, at last shards, but no longer plan.
DISKS = (64, 160, 320, 65536)
FILES = (1_000, 12_000, 40_000)

_FULL = """
mkdir small && mount -t tmpfs -o size={first}k tmpfs small || exit 77
for size in {sizes}; do
    mount -o remount,size=${{size}}k small
    {sweep} > /dev/null 2> said.$size; echo $? > code.$size
    mkdir -p kept.$size/shards; cp -p small/out/shards/*.parquet kept.$size/shards/ 2> /dev/null
done
cp -a small/out out
"""


def full_disk(subject: Subject, chance: random.Random) -> Report:
    """A small file system that fills up, grows, fills up again, and at last has room."""
    apart = _own_mounts()
    report = Report(f"a file system of {', then '.join(f'{size} kB' for size in DISKS[:-1])}", len(DISKS) - 1)
    sweep = shlex.join(subject.command(Path("small/out")))
    script = _FULL.format(first=DISKS[0], sizes=" ".join(map(str, DISKS)), sweep=sweep)
    done = subprocess.run([*apart, "sh", "-c", script], cwd=subject.folder, capture_output=True, text=True)
    if done.returncode == 77:
        raise NotHere(f"no small file system may be mounted: {done.stderr.strip()}")
    for size in DISKS:
        how = Ended(int((subject.folder / f"code.{size}").read_text()), (subject.folder / f"said.{size}").read_text())
        if size == DISKS[-1]:
            report.check("with room it completes", how.code == 0)
        else:
            report.check("exit code 1, one line that says so", how.code == 1 and _says(how, "No space left"))
            subject.finished = {**digests(subject.folder / f"kept.{size}"), **subject.finished}
    return report


def small_files(subject: Subject, chance: random.Random) -> Report:
    """A limit to the size of a file, which stands for a quota, in a sweep that has its first plan and some packs."""
    report = Report(f"files limited to {', then '.join(f'{size} bytes' for size in FILES)}", len(FILES))
    driver = subject.start()
    subject.wait_for_packs(2, driver)
    interrupt(driver, 1)
    ended(driver)
    subject.remember()
    for size in FILES:
        how = ended(subject.start(largest_file=size))
        subject.remember()
        report.check("exit code 1, one line that says so", how.code == 1 and _says(how, "File too large"))
    return report


def proc(subject: Subject, chance: random.Random) -> Report:
    """A place in /proc, where nobody can make a folder."""
    report = Report("output under /proc, then elsewhere", 1)
    how = ended(start(subject.command(Path("/proc/noisescale"))))
    report.check("exit code 2, one line that names it", how.code == 2 and _says(how, "/proc/noisescale"))
    ended(subject.start("--max-seconds", "4"))
    return report


def immutable(subject: Subject, chance: random.Random) -> Report:
    """The folder of shards is made immutable while the sweep runs, then the whole folder before it starts."""
    report = Report("folder made immutable (chattr +i): in mid-sweep, and before a start", 2)
    driver = subject.start()
    going = subject.wait_for_packs(2, driver)
    with _immutable(subject.out / "shards"):
        subject.remember()
        how = ended(driver)
        # The path's fault, not the disk's, so 2.
        report.check("exit code 2 and one line in mid-sweep", going and how.code == 2 and _says(how, "not permitted"))
    with _immutable(subject.out):
        how = subject.complete()
        report.check("refused in one line before a start", how.code in (1, 2) and _says(how, str(subject.out)))
    return report


def read_only(subject: Subject, chance: random.Random) -> Report:
    """The folder of a sweep in progress lies on a file system that is read-only now."""
    apart = _own_mounts()
    report = Report("folder of an interrupted sweep mounted read-only", 1)
    driver = subject.start()
    subject.wait_for_packs(2, driver)
    driver.kill()
    ended(driver)
    subject.remember()
    where = shlex.quote(str(subject.out))
    script = f"mount --bind {where} {where} && mount -o remount,ro,bind {where} || exit 77\nexec "
    command = [*apart, "sh", "-c", script + shlex.join(subject.command())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        raise NotHere(f"no folder may be mounted read-only: {done.stderr.strip()}")
    how = Ended(done.returncode, done.stderr)
    report.check("exit code 2, one line that names it", how.code == 2 and _says(how, str(subject.out)))
    return report


def _says(how: Ended, text: str) -> bool:
    return how.in_one_line and text in how.last


@contextlib.contextmanager
def _immutable(folder: Path) -> Iterator[None]:
    if shutil.which("chattr") is None:
        raise NotHere("chattr is not installed")
    done = subprocess.run(["chattr", "+i", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"no folder may be made immutable: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def _own_mounts() -> list[str]:
    """How a command is started that may mount what nobody else sees."""
    if shutil.which("unshare") is None:
        raise NotHere("unshare is not installed")
    apart = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    done = subprocess.run([*apart, "true"], capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"no mounts of one's own: {done.stderr.strip()}")
    return apart
