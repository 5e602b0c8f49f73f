"""The command line prints on streams of every encoding, and on closed ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPELLED = {
    "ascii": "<= 3 [eps, gbar] +- 1/2 sqrt2",
    "latin-1": "<= 3 [eps, gbar] \xb1 \xbd sqrt2",
    "cp1252": "<= 3 [eps, gbar] \xb1 \xbd sqrt2",
    "utf-8": "≤ 3 [ε, ḡ] ± ½ √2",
}


@pytest.mark.parametrize("encoding", list(SPELLED))
def test_every_character_is_printed_or_spelled(encoding: str) -> None:
    code = "from noisescale.streams import prepare_streams; prepare_streams(); print('≤ 3 [ε, ḡ] ± ½ √2')"
    out = subprocess.run([sys.executable, "-c", code], env=_environment(encoding), stdout=subprocess.PIPE, check=True)
    assert out.stdout.decode(encoding).strip() == SPELLED[encoding]


HELP, CLAIMS, ODD_NAME = ["--help"], ["claims"], ["sweep", "nowhere \udcff.toml", "--out", "out"]


@pytest.mark.parametrize(
    ("encoding", "arguments"),
    [("ascii", HELP), ("ascii", CLAIMS), ("ascii", ODD_NAME), ("cp1252", CLAIMS), ("utf-8", ODD_NAME)],
)
def test_commands_print_in_any_encoding(encoding: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "noisescale", *arguments]
    ended = subprocess.run(command, env=_environment(encoding), cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == (2 if arguments[0] == "sweep" else 0)
    assert b"Traceback" not in ended.stderr and (ended.stdout or ended.stderr)


@pytest.mark.parametrize("closed", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_closed_stream_is_no_error(closed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "noisescale", "claims"]
    ended = subprocess.run(command, cwd=tmp_path, preexec_fn=lambda: os.close(closed), check=False)
    assert ended.returncode == 0


@pytest.mark.parametrize(
    "backend", ["module://no_such_package.backend", pytest.param("nonsense", marks=pytest.mark.full)]
)
def test_the_backend_of_a_notebook_does_not_matter(backend: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "noisescale", "claims"]
    environment = {**os.environ, "MPLBACKEND": backend}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def _environment(encoding: str) -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": encoding}
