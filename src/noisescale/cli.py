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

from noisescale.errors import BadInput, printable
from noisescale.streams import output_as_errors, prepare_streams

app = typer.Typer(
    help="Find, explain and transfer the hyperparameters of training: learning rate, batch size, width, weight decay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Error codes of a wrong path, which the user can correct, unlike a full or failing disk.
_PATH_ERRORS = (
    errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM,
    errno.EROFS,
)  # fmt: skip

INTERRUPTED = 130
# Returned by a command that stopped at its time limit: the exit code of an interrupt, without its message.
PAUSED = -INTERRUPTED

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `noisescale sweep` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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


@app.command("sweep")
def sweep_command(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec of the sweep.")],
    out: Annotated[Path, typer.Option(help="Folder of the results. The same command continues it.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes (default: one per core, or per GPU).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each worker (default: OMP_NUM_THREADS, or 1 with --jobs).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    executor: Annotated[str, typer.Option(help="local, ray or slurm.")] = "local",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec.")
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile where possible.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this many seconds. The same command continues.")
    ] = None,
    max_pack_seconds: Annotated[
        float | None, typer.Option(min=0, help="Fail packs that train for longer, in seconds. Checkpoints stay.")
    ] = None,
    stuck_after: Annotated[
        float, typer.Option(min=1, help="Kill a worker that reports no progress for this many seconds.")
    ] = 900.0,
    max_runs: Annotated[int, typer.Option(min=1, help="Largest number of runs of the grid.")] = 10**6,
    accept_changed_code: Annotated[
        bool, typer.Option("--accept-changed-code", help="Go on with a model or data whose code has changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run. Write nothing.")] = False,
) -> int:
    """Train all missing runs of a sweep: the grid, the stability ladders and extensions."""
    from noisescale.sweeps import Grid, SweepSpec, failures, missing_runs, sweep
    from noisescale.sweeps import dry_run as estimate

    checked = SweepSpec.from_toml(spec, tuple(set_ or ()))
    if dry_run:
        # The count comes first, because the rest takes longer.
        print(f"grid      {Grid(checked).size:,} runs", flush=True)
        estimated = estimate(
            checked, out, jobs=jobs, threads=threads, device=device, executor=executor, max_runs=max_runs,
            accept_changed_code=accept_changed_code,
        )  # fmt: skip
        for line in estimated.lines():
            print(line)
        return 0
    sweep(
        checked, out, jobs=jobs, threads=threads, device=device, executor=executor, compile=compile,
        max_seconds=max_seconds, max_pack_seconds=max_pack_seconds, stuck_after=stuck_after,
        accept_changed_code=accept_changed_code, max_runs=max_runs,
    )  # fmt: skip
    failed = failures(out)
    for pack_id, error in failed.items():
        print(f"failed: pack {pack_id}: {error}", file=sys.stderr)
    if max_seconds is not None and (missing := missing_runs(out, failed)):
        print(f"stopped after {max_seconds:g} s with {missing} runs to do; the same command continues", file=sys.stderr)
        return PAUSED
    return 1 if failed else 0


@app.command("status")
def status_command(folder: Folder, as_json: AsJson = False) -> int:
    """Count runs by state, also while the sweep runs."""
    from noisescale.sweeps import status

    state = status(folder)
    if as_json:
        _print_json(state.as_json())
    else:
        for line in state.lines():
            print(line)
    return 1 if state.failed else 0


@app.command("fit")
def fit_command(folder: Folder, as_json: AsJson = False) -> int:
    """Locate the optimum of every width and fit the scaling laws, with confidence intervals."""
    from noisescale.laws import fit
    from noisescale.report import fit_tables
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    _warn_if_unfinished(folder)
    with record_time(folder, "fit"):
        report = fit(study)
    for warning in report.warnings:
        print(f"noisescale: {warning}", file=sys.stderr)
    if as_json:
        _print_json(report.as_json())
    else:
        _print_tables(fit_tables(report))
    return 0


@app.command("report")
def report_command(folder: Folder) -> int:
    """Write DIR/report with a self-contained index.html, its figures and report.json."""
    from noisescale.report import write_report
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    _warn_if_unfinished(folder)
    with record_time(folder, "report"):
        path = write_report(study)
    print(f"report: {path}")
    return 0


@app.command("recommend")
def recommend_command(
    folder: Folder,
    width: Annotated[
        int | None, typer.Option(min=1, help="The width to train. A study of one fixed model has none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Keep this batch size.")] = None,
    prefer: Annotated[
        str, typer.Option(help="metric: the best metric. steps, examples or time: the least among those as good.")
    ] = "metric",
    tolerance: Annotated[str, typer.Option(help="Loss that is still as good, as a share of the span.")] = "0.5%",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Follow runs with grid.optimizer=sgd, say.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Train so many steps, if budgets are compared.")] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="See about so many examples, likewise.")] = None,
    train_size: Annotated[
        int | None, typer.Option(min=1, help="Number of training examples, if the study compares several.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Train it and default settings, and compare them.")] = False,
    check_seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds of the check.")] = 5,
    check_budget: Annotated[float, typer.Option(min=0, help="Seconds that the check may take.")] = 600.0,
    as_json: AsJson = False,
) -> int:
    """Recommend a learning rate, a batch size and steps, for a width if the study's model has one."""
    from noisescale.check import check_recommendation
    from noisescale.laws import read_settings, read_share, recommend
    from noisescale.report import check_tables, recommendation_tables
    from noisescale.store import Study

    study = Study.open(folder)
    _warn_if_unfinished(folder)
    held, share = read_settings("--set", set_ or []), read_share("--tolerance", tolerance)
    recommendation = recommend(
        study, width, batch_size, prefer=prefer, tolerance=share, held=held, steps=steps, examples=examples,
        train_size=train_size,
    )  # fmt: skip
    values, tables = recommendation.as_json(), recommendation_tables(recommendation)
    if check:
        with output_as_errors():
            result = check_recommendation(
                study, recommendation, batch_size, held=held, seeds=check_seeds, budget=check_budget,
                log=lambda line: print(line, file=sys.stderr, flush=True),
            )  # fmt: skip
        values["check"] = result.as_json()
        tables += check_tables(result, fixed=recommendation.fixed)
    if as_json:
        _print_json(values)
    else:
        _print_tables(tables)
    return 0


@app.command("measure")
def measure_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="package.module:name of a model or a function that builds it.")
    ],
    data: Annotated[str, typer.Option(help="The name of a data set, or package.module:function that returns arrays.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights, written by torch.save(model.state_dict(), path).")
    ] = None,
    loss: Annotated[
        str,
        typer.Option(help="cross_entropy, mse, binary_cross_entropy, or package.module:function."),
    ] = "cross_entropy",
    ignore_index: Annotated[int | None, typer.Option(help="Label of targets that do not count.")] = None,
    outputs: Annotated[
        str | None, typer.Option(help="Entry of the model's outputs, if it returns a dictionary, a tuple or an object.")
    ] = None,
    examples: Annotated[int, typer.Option(min=2, help="Largest number of training examples, drawn at random.")] = 1024,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the choice of examples and of random probes.")
    ] = 0,
    as_given: Annotated[bool, typer.Option("--as-given", help="Do not shift and scale the inputs.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Key of the weights in the checkpoint (default: the usual ones).")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width, for a factory as a sweep takes it.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure this quantity, by its name in --json. Can be repeated.")
    ] = None,
    max_products: Annotated[
        int, typer.Option(min=1, help="Largest number of products with a matrix, for each quantity.")
    ] = 1000,
    as_json: AsJson = False,
) -> int:
    """Measure the gradient noise and curvature of a model, with standard errors."""
    from noisescale.datasets import DatasetOptions, load_dataset
    from noisescale.measure import load_model, measure_model
    from noisescale.report import MeasurementLines, measured_tables
    from noisescale.user_code import contained

    with output_as_errors():
        multi_label = loss == "binary_cross_entropy" and ":" in data
        loaded = load_dataset(DatasetOptions(data, standardize=False if as_given else None, multi_label=multi_label))
        shape = (loaded.input_shape, loaded.num_classes)
        loaded_model = load_model(model, checkpoint, key=key, width=width, data=shape, outputs=outputs)
        with MeasurementLines() as lines, contained():
            measurement = measure_model(
                loaded_model, loaded, loss=loss, examples=examples, seed=seed, ignore_index=ignore_index,
                only=only or (), max_products=max_products, on_progress=lines.show,
            )  # fmt: skip
    if as_json:
        _print_json(measurement.as_json())
    else:
        _print_tables(measured_tables(measurement))
    return 0


@app.command("claims")
def claims_command(as_json: AsJson = False) -> int:
    """List the claims of the papers, with statement, statistic, criterion and available scales."""
    from noisescale.claims import listed_claims
    from noisescale.report import claims_tables

    claims = listed_claims()
    if as_json:
        _print_json(claims)
    else:
        _print_tables(claims_tables(claims))
    return 0


@app.command("verify")
def verify_command(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Claims or papers, such as C2.3 or li2020.")],
    out: Annotated[Path, typer.Option(help="Folder of the verdicts, with one file per claim.")],
    scale: Annotated[str, typer.Option(help="smoke, laptop or gpu.")] = "laptop",
    seed_set: Annotated[int, typer.Option(min=0, max=999, help="Another number uses different seeds throughout.")] = 0,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this many seconds. The same command continues.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run the experiments of claims and judge each as supported, contradicted or inconclusive."""
    from noisescale.claims import verify
    from noisescale.report import verdict_tables, write_verdict_pages

    verdicts = verify(
        names, scale=scale, out=out, seed_set=seed_set, max_seconds=max_seconds,
        log=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    pages = write_verdict_pages(verdicts, out)
    if as_json:
        _print_json([verdict.as_json() for verdict, _ in verdicts])
    else:
        _print_tables(verdict_tables([verdict for verdict, _ in verdicts]))
        print(f"wrote {', '.join(map(str, pages))}")
    return 1 if any(verdict.verdict == "not run" for verdict, _ in verdicts) else 0


@app.command("export")
def export_command(
    folder: Folder,
    to: Annotated[str, typer.Option(help="csv, parquet, optuna, tensorboard or mlflow.")],
    out: Annotated[
        Path, typer.Option(help="A path that does not exist yet: of a folder, or of a file if the format is one file.")
    ],
) -> int:
    """Write a study in the format of another tool."""
    from noisescale.exports import export
    from noisescale.store import Study

    study = Study.open(folder)
    _warn_if_unfinished(folder)
    print(f"wrote {export(study, to, out)}")
    return 0


@app.command("doctor")
def doctor_command(as_json: AsJson = False) -> int:
    """Print versions, devices, threads, precision and the location of each data set."""
    from noisescale.sweeps import examine

    machine = examine()
    if as_json:
        _print_json(machine)
    else:
        for name, value in machine.items():
            print(f"{name:18} {value if not isinstance(value, dict) else ''}".rstrip())
            for key, entry in value.items() if isinstance(value, dict) else ():
                print(f"  {key:16} {entry}")
    return 0


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
    with _interrupts():
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


def _warn_if_unfinished(folder: Path) -> None:
    """Print a warning that the numbers of an unfinished sweep may change."""
    from noisescale.sweeps import is_driven, missing_runs

    missing, running = missing_runs(folder), is_driven(folder)
    if missing or running:
        state = "is still running" if running else "is unfinished"
        count = f", {missing} planned runs are missing" if missing else ""
        print(f"noisescale: the sweep {state}{count}: what follows may change", file=sys.stderr)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Handle signals that ask the process to end: raise at the first, ignore the second, and exit at the third.

    The second signal is ignored because it may arrive during the cleanup.
    """
    signals = 0
    hard_exit = os._exit

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            raise KeyboardInterrupt
        if signals > 2:
            hard_exit(INTERRUPTED)

    # A shell starts background jobs with interrupts ignored. They stay ignored.
    handled = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    old_handlers = [(number, signal.signal(number, handle)) for number in handled]
    try:
        yield
    finally:
        for number, handler in old_handlers:
            # After a signal, ignore further signals. The interpreter removes handlers as it ends, but keeps SIG_IGN.
            signal.signal(number, signal.SIG_IGN if signals else handler)


def _print_tables(tables: list[Any]) -> None:
    from noisescale.report import print_tables

    print_tables(tables)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
