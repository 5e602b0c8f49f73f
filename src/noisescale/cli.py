"""The command line: it reads arguments, calls the library, and turns bad input into one message."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from noisescale.errors import BadInput

app = typer.Typer(
    help="Find, explain and transfer the hyperparameters of SGD: learning rate, batch size, width.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# What lies at a path is not what is needed there, which is the user's to mend; a disk that is full or fails is not.
_OF_THE_PATH = (
    errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM,
)  # fmt: skip

INTERRUPTED = 130
# What a command returns whose time was up; the same exit code, without the words for an interrupt.
PUT_ASIDE = -INTERRUPTED

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `noisescale sweep` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"noisescale {version('noisescale')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Find, explain and transfer the hyperparameters of SGD: learning rate, batch size, width."""


@app.command("sweep")
def sweep_command(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to run.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same command again continues it.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one a core).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    executor: Annotated[str, typer.Option(help="local, ray or slurm.")] = "local",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec.")
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Ask for torch.compile; results do not need it.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Put the work aside after so long; the same command goes on with it.")
    ] = None,
    max_pack_seconds: Annotated[
        float | None, typer.Option(min=0, help="Let a pack fail that trains for longer; its checkpoint stays.")
    ] = None,
    stuck_after: Annotated[
        float, typer.Option(min=1, help="Kill a worker that gives no sign of life for so many seconds.")
    ] = 900.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run; write nothing.")] = False,
) -> int:
    """Run what is missing in DIR: the grid, the stability ladder, edges and longer budgets."""
    from noisescale.sweeps import SweepSpec, failures, missing_runs, sweep
    from noisescale.sweeps import dry_run as estimate

    checked = SweepSpec.from_toml(spec, tuple(set_ or ()))
    if dry_run:
        for line in estimate(checked, out, jobs=jobs, device=device, executor=executor).lines():
            print(line)
        return 0
    sweep(
        checked, out, jobs=jobs, device=device, executor=executor, compile=compile, max_seconds=max_seconds,
        max_pack_seconds=max_pack_seconds, stuck_after=stuck_after,
    )  # fmt: skip
    failed = failures(out)
    for pack_id, error in failed.items():
        print(f"failed: pack {pack_id}: {error}", file=sys.stderr)
    if max_seconds is not None and (missing := missing_runs(out, failed)):
        print(f"stopped after {max_seconds:g} s with {missing} runs to do; the same command goes on", file=sys.stderr)
        return PUT_ASIDE
    return 1 if failed else 0


@app.command("status")
def status_command(folder: Folder, as_json: AsJson = False) -> int:
    """Count runs by state and say what is missing; works while the sweep runs."""
    from noisescale.sweeps import status

    found = status(folder)
    if as_json:
        _print_json(found.as_json())
    else:
        for line in found.lines():
            print(line)
    return 1 if found.failed else 0


@app.command("fit")
def fit_command(folder: Folder, as_json: AsJson = False) -> int:
    """Find the optimum of every width and fit every law, with intervals."""
    from noisescale.laws import fit
    from noisescale.report import fit_tables
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    _note_what_is_missing(folder)
    with record_time(folder, "fit"):
        found = fit(study)
    if as_json:
        _print_json(found.as_json())
    else:
        _print_tables(fit_tables(found))
    return 0


@app.command("report")
def report_command(folder: Folder) -> int:
    """Write DIR/report/index.html, self-contained, its figures and report.json."""
    from noisescale.report import write_report
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    _note_what_is_missing(folder)
    with record_time(folder, "report"):
        path = write_report(study)
    print(f"report: {path}")
    return 0


@app.command("recommend")
def recommend_command(
    folder: Folder,
    width: Annotated[int, typer.Option(min=1, help="The width to train.")],
    batch_size: Annotated[int | None, typer.Option(min=1, help="Keep this batch size.")] = None,
    as_json: AsJson = False,
) -> int:
    """Recommend a learning rate and a batch size for a width that was not trained."""
    from noisescale.laws import recommend
    from noisescale.report import recommendation_tables
    from noisescale.store import Study

    study = Study.open(folder)
    _note_what_is_missing(folder)
    found = recommend(study, width=width, batch_size=batch_size)
    if as_json:
        _print_json(found.as_json())
    else:
        _print_tables(recommendation_tables(found))
    return 0


@app.command("measure")
def measure_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="package.module:model, or a factory of it.")],
    data: Annotated[str, typer.Option(help="A data set's name, or package.module:function of arrays.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights that torch.save(model.state_dict()) wrote.")] = None,
    loss: Annotated[str, typer.Option(help="cross_entropy or mse.")] = "cross_entropy",
    examples: Annotated[int, typer.Option(min=2, help="Of the training set, at most, drawn at random.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Of that choice and of random probes.")] = 0,
    as_given: Annotated[bool, typer.Option("--as-given", help="Do not shift and scale the inputs.")] = False,
    as_json: AsJson = False,
) -> int:
    """Measure gradient noise and curvature of one model, every number with its error."""
    from noisescale.datasets import DatasetOptions, load_dataset
    from noisescale.measure import load_model, measure_model
    from noisescale.report import measured_tables

    loaded = load_dataset(DatasetOptions(data), standardized=not as_given)
    found = measure_model(load_model(model, checkpoint), loaded, loss=loss, examples=examples, seed=seed)
    if as_json:
        _print_json(found.as_json())
    else:
        _print_tables(measured_tables(found))
    return 0


@app.command("claims")
def claims_command(as_json: AsJson = False) -> int:
    """List every claim of the papers: its statement, its statistic, its criterion, and where it can be run."""
    from noisescale.claims import listed_claims
    from noisescale.report import claims_tables

    found = listed_claims()
    if as_json:
        _print_json(found)
    else:
        _print_tables(claims_tables(found))
    return 0


@app.command("verify")
def verify_command(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Claims, or papers: C2.3, li2020.")],
    out: Annotated[Path, typer.Option(help="Folder of the verdicts, one file each.")],
    scale: Annotated[str, typer.Option(help="smoke, laptop or gpu.")] = "laptop",
    seed_set: Annotated[int, typer.Option(min=0, max=999, help="Another number, other seeds throughout.")] = 0,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Put a sweep aside after so long; the same command goes on with it.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run the experiments of claims and say whether each is supported, contradicted or left open."""
    from noisescale.claims import verify
    from noisescale.report import verdict_tables, write_verdicts

    found = verify(
        names, scale=scale, out=out, seed_set=seed_set, max_seconds=max_seconds,
        log=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    pages = write_verdicts(found, out)
    if as_json:
        _print_json([verdict.as_json() for verdict, _ in found])
    else:
        _print_tables(verdict_tables([verdict for verdict, _ in found]))
        print(f"wrote {', '.join(map(str, pages))}")
    return 1 if any(verdict.verdict == "not run" for verdict, _ in found) else 0


@app.command("export")
def export_command(
    folder: Folder,
    to: Annotated[str, typer.Option(help="csv, parquet, optuna, tensorboard or mlflow.")],
    out: Annotated[Path, typer.Option(help="A path that is not there yet: a folder, for optuna a file.")],
) -> int:
    """Write a study in another tool's own format."""
    from noisescale.exports import export
    from noisescale.store import Study

    study = Study.open(folder)
    _note_what_is_missing(folder)
    print(f"wrote {export(study, to, out)}")
    return 0


@app.command("doctor")
def doctor_command(as_json: AsJson = False) -> int:
    """Say versions, devices, threads, precision, which data were found and what is missing."""
    from noisescale.sweeps import examine

    found = examine()
    if as_json:
        _print_json(found)
    else:
        for name, value in found.items():
            print(f"{name:18} {value if not isinstance(value, dict) else ''}".rstrip())
            for key, entry in value.items() if isinstance(value, dict) else ():
                print(f"  {key:16} {entry}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 some runs failed, 2 bad input, 130 interrupted."""
    with _interrupts():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, standalone_mode=False)
        if code == PUT_ASIDE:
            return INTERRUPTED
        if code == INTERRUPTED:  # Typer makes this of an interrupt, or, in older versions, Abort
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
        # The reader of our output has gone (`| head`); Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        kept = "" if error.errno in _OF_THE_PATH else "; everything finished so far is kept"
        print(f"noisescale: {error.filename or 'the disk'}: {error.strerror}{kept}", file=sys.stderr)
        return 2 if error.errno in _OF_THE_PATH else 1
    except MemoryError as error:
        print(f"noisescale: the memory: {error}; everything finished so far is kept", file=sys.stderr)
        return 1
    except Exception as error:
        # Typer's own usage errors carry a message and an exit code.
        if hasattr(error, "format_message"):
            print(f"noisescale: {error.format_message()}", file=sys.stderr)
            return 2
        raise


def _note_what_is_missing(folder: Path) -> None:
    """Say that a sweep is unfinished before its numbers are read."""
    from noisescale.sweeps import is_driven, missing_runs

    missing, running = missing_runs(folder), is_driven(folder)
    if missing or running:
        state = "is still running" if running else "is unfinished"
        count = f", {missing} planned runs are missing" if missing else ""
        print(f"noisescale: the sweep {state}{count}: what follows may change", file=sys.stderr)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Let the first interrupt or request to end raise; a second, while what is running is put away, is heard no more.

    Whoever presses a third time wants out at once.
    """
    seen = 0

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise KeyboardInterrupt
        if seen > 2:
            os._exit(INTERRUPTED)

    # A shell starts what runs in its background with interrupts ignored, which is to stay so.
    wanted = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    before = [(one, signal.signal(one, hear)) for one in wanted]
    try:
        yield
    finally:
        for one, handler in before:
            # While the interpreter ends it takes handlers away, but not this one.
            signal.signal(one, signal.SIG_IGN if seen else handler)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _print_tables(tables: list[Any]) -> None:
    # A fixed width where the output is no terminal: a table that folds at 80 columns is not readable in a log.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
