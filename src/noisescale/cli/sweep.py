"""`noisescale sweep`: train the missing runs of a spec, or say what would run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from noisescale.cli.exit_codes import PAUSED


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
