"""Disk faults: a full file system, a limit on file sizes, and folders that nobody can write to."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from disturbances.fault import NotPossible, Report
from disturbances.kills import interrupt
from disturbances.processes import start
from disturbances.subject import Outcome, Subject, digests, wait_for_exit

# Successive sizes of a small file system, in kB. Only the last is large enough for the sweep.
DISKS = (64, 160, 320, 65536)
# Successive limits on the size of a file, in bytes. The first limit allows no file at all. The last limit allows
# shards, but no longer plan.
FILES = (1_000, 12_000, 40_000)

_FULL = """
mkdir small && mount -t tmpfs -o size={first}k tmpfs small || exit 77
for size in {sizes}; do
    mount -o remount,size=${{size}}k small
    {sweep} > /dev/null 2> stderr.$size; echo $? > code.$size
    mkdir -p shards.$size/shards; cp -p small/out/shards/*.parquet shards.$size/shards/ 2> /dev/null
done
cp -a small/out out
"""


def full_disk(subject: Subject, generator: random.Random) -> Report:
    """Run a sweep on a small file system that fills up and grows several times until it is large enough."""
    private_mounts = _private_mounts()
    report = Report(f"file system of {', then '.join(f'{size} kB' for size in DISKS[:-1])}", len(DISKS) - 1)
    sweep = shlex.join(subject.command(Path("small/out")))
    script = _FULL.format(first=DISKS[0], sizes=" ".join(map(str, DISKS)), sweep=sweep)
    done = subprocess.run([*private_mounts, "sh", "-c", script], cwd=subject.folder, capture_output=True, text=True)
    if done.returncode == 77:
        raise NotPossible(f"no small file system can be mounted: {done.stderr.strip()}")
    for size in DISKS:
        outcome = Outcome(
            int((subject.folder / f"code.{size}").read_text()), (subject.folder / f"stderr.{size}").read_text()
        )
        if size == DISKS[-1]:
            report.check("it completes once there is space", outcome.code == 0)
        else:
            report.check(
                "exit code 1 and one line that says why",
                outcome.code == 1 and _message_contains(outcome, "No space left"),
            )
            subject.finished = {**digests(subject.folder / f"shards.{size}"), **subject.finished}
    return report


def small_files(subject: Subject, generator: random.Random) -> Report:
    """Limit the size of files, as a quota does, in a sweep that has a plan and some finished packs."""
    report = Report(f"files limited to {', then '.join(f'{size} bytes' for size in FILES)}", len(FILES))
    driver = subject.start()
    subject.wait_for_packs(2, driver)
    interrupt(driver, 1)
    wait_for_exit(driver)
    subject.record_finished()
    for size in FILES:
        outcome = wait_for_exit(subject.start(largest_file=size))
        subject.record_finished()
        report.check(
            "exit code 1 and one line that says why", outcome.code == 1 and _message_contains(outcome, "File too large")
        )
    return report


def proc(subject: Subject, generator: random.Random) -> Report:
    """Ask for an output folder in /proc, where nobody can create one."""
    report = Report("output under /proc, then elsewhere", 1)
    outcome = wait_for_exit(start(subject.command(Path("/proc/noisescale"))))
    report.check(
        "exit code 2 and one line that names the path",
        outcome.code == 2 and _message_contains(outcome, "/proc/noisescale"),
    )
    wait_for_exit(subject.start("--max-seconds", "4"))
    return report


def immutable(subject: Subject, generator: random.Random) -> Report:
    """Make the folder of shards immutable while the sweep runs. Then make the whole folder immutable before a start."""
    report = Report("folder made immutable (chattr +i), during the sweep and before a start", 2)
    driver = subject.start()
    running = subject.wait_for_packs(2, driver)
    with _immutable(subject.out / "shards"):
        subject.record_finished()
        outcome = wait_for_exit(driver)
        # The exit code is 2, because the path is at fault and not the disk.
        report.check(
            "exit code 2 and one line during the sweep",
            running and outcome.code == 2 and _message_contains(outcome, "not permitted"),
        )
    with _immutable(subject.out):
        outcome = subject.complete()
        report.check(
            "refused in one line before a start",
            outcome.code in (1, 2) and _message_contains(outcome, str(subject.out)),
        )
    return report


def read_only(subject: Subject, generator: random.Random) -> Report:
    """Remount the folder of an interrupted sweep read-only."""
    private_mounts = _private_mounts()
    report = Report("folder of an interrupted sweep mounted read-only", 1)
    driver = subject.start()
    subject.wait_for_packs(2, driver)
    driver.kill()
    wait_for_exit(driver)
    subject.record_finished()
    where = shlex.quote(str(subject.out))
    script = f"mount --bind {where} {where} && mount -o remount,ro,bind {where} || exit 77\nexec "
    command = [*private_mounts, "sh", "-c", script + shlex.join(subject.command())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        raise NotPossible(f"no folder can be mounted read-only: {done.stderr.strip()}")
    outcome = Outcome(done.returncode, done.stderr)
    report.check(
        "exit code 2 and one line that names the path",
        outcome.code == 2 and _message_contains(outcome, str(subject.out)),
    )
    return report


def _message_contains(outcome: Outcome, text: str) -> bool:
    return outcome.is_one_message and text in outcome.last_line


@contextlib.contextmanager
def _immutable(folder: Path) -> Iterator[None]:
    if shutil.which("chattr") is None:
        raise NotPossible("chattr is not installed")
    done = subprocess.run(["chattr", "+i", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise NotPossible(f"no folder can be made immutable: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def _private_mounts() -> list[str]:
    """Return the command that runs another command with private mounts.

    Raises:
        NotPossible: This system does not allow private mounts.
    """
    if shutil.which("unshare") is None:
        raise NotPossible("unshare is not installed")
    private_mounts = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    done = subprocess.run([*private_mounts, "true"], capture_output=True, text=True)
    if done.returncode:
        raise NotPossible(f"private mounts are not allowed: {done.stderr.strip()}")
    return private_mounts
