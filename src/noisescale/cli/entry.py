"""The command line: it reads arguments, calls one command, and turns bad input into one message."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from noisescale.cli.claims import claims_command
from noisescale.cli.doctor import doctor_command
from noisescale.cli.exit_codes import INTERRUPTED, PAUSED
from noisescale.cli.export import export_command
from noisescale.cli.fit import fit_command
from noisescale.cli.interrupts import interrupts
from noisescale.cli.measure import measure_command
from noisescale.cli.recommend import recommend_command
from noisescale.cli.report import report_command
from noisescale.cli.status import status_command
from noisescale.cli.sweep import sweep_command
from noisescale.cli.verify import verify_command
from noisescale.errors import BadInput, printable
from noisescale.streams import prepare_streams

# In the order of the help, which is the order in which people use them.
COMMANDS: dict[str, Callable[..., int]] = {
    "sweep": sweep_command,
    "status": status_command,
    "fit": fit_command,
    "report": report_command,
    "recommend": recommend_command,
    "measure": measure_command,
    "claims": claims_command,
    "verify": verify_command,
    "export": export_command,
    "doctor": doctor_command,
}

# Error codes of a wrong path, which the user can correct, unlike a full or failing disk.
_PATH_ERRORS = (
    errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM,
    errno.EROFS,
)  # fmt: skip

app = typer.Typer(
    help="Find, explain and transfer the hyperparameters of training: learning rate, batch size, width, weight decay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"noisescale {version('noisescale')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, explain and transfer the hyperparameters of training: learning rate, batch size, width, weight decay."""


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The arguments of the command line; None for those of this process.

    Returns:
        The exit code: 0 done, 1 some runs failed, 2 bad input, 130 interrupted.
    """
    prepare_streams()
    # No figure is drawn on a screen. A notebook sets a backend that other environments lack, with which matplotlib
    # cannot be imported.
    os.environ["MPLBACKEND"] = "agg"
    with interrupts():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, standalone_mode=False)
        if code == PAUSED:
            return INTERRUPTED
        if code == INTERRUPTED:  # Typer returns this after an interrupt; older versions raise Abort
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BadInput as error:
        print(f"noisescale: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("noisescale: interrupted; everything finished so far is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The program that reads the output has ended (`| head`). Python flushes the output at exit. Redirect it,
        # because the flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        kept = "" if error.errno in _PATH_ERRORS else "; everything finished so far is kept"
        print(f"noisescale: {printable(str(error.filename or 'the disk'))}: {error.strerror}{kept}", file=sys.stderr)
        return 2 if error.errno in _PATH_ERRORS else 1
    except MemoryError as error:
        print(f"noisescale: the memory: {printable(str(error))}; everything finished so far is kept", file=sys.stderr)
        return 1
    except Exception as error:
        # Typer's usage errors have a message and an exit code.
        if hasattr(error, "format_message"):
            print(f"noisescale: {printable(error.format_message())}", file=sys.stderr)
            return 2
        raise
