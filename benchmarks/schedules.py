"""Test whether a growing batch size can replace a falling learning rate (`make schedules`).

Each batch schedule in examples/batch-schedule.toml is compared with the rate schedule that it replaces, seed by seed
and at equal epochs, by the equivalence test of `noisescale.laws.equivalence`. The control is the run with a constant
rate and batch size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from noisescale.laws.equivalence import equivalence
from noisescale.report.style import INK, legend_below, new_figure, pictures, plain
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

ROOT = Path(__file__).resolve().parent.parent
BATCH = ' of="batch_size"'


def final(runs: pd.DataFrame, schedule: str, metric: str) -> pd.Series:
    """Return a metric at the end of every run with a schedule, by seed.

    Raises:
        SystemExit: A run diverged.
    """
    chosen = runs[runs.schedule == schedule].set_index("seed").sort_index()
    if not (chosen.status == "completed").all():
        raise SystemExit(f"every run with the schedule {schedule} must complete. Got a diverged run: lower the rate")
    return chosen[f"final_{metric}"]


def rows(runs: pd.DataFrame, metric: str, scale: float, unit: str, digits: int) -> list[str]:
    """Tabulate each pair of schedules with both means, the difference, the control and the verdict.

    Args:
        runs: Runs of the study.
        metric: Name of the metric.
        scale: Factor that converts the metric to the unit of the table.
        unit: Unit of the table.
        digits: Number of decimals in the table.
    """
    lines = []
    for batch_schedule in sorted(schedule for schedule in runs.schedule.unique() if schedule.endswith(BATCH)):
        rate_schedule = batch_schedule.removesuffix(BATCH)
        batch, rate, constant = (final(runs, name, metric) for name in (batch_schedule, rate_schedule, "constant"))
        result = equivalence((batch - rate).to_numpy(), (constant - rate).to_numpy())
        difference = result.difference
        steps = [int(runs[runs.schedule == name].steps.iloc[0]) for name in (rate_schedule, batch_schedule)]
        cells = [
            f"`{rate_schedule}`",
            f"{steps[0]:,} / {steps[1]:,}",
            f"{scale * rate.mean():.{digits}f} / {scale * batch.mean():.{digits}f}",
            f"{scale * difference.value:.{digits}f} "
            f"[{scale * difference.low:.{digits}f}, {scale * difference.high:.{digits}f}]",
            f"{scale * result.control.value:.{digits}f}",
            f"{scale * result.margin:.{digits}f} {unit}",
            result.result,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(study: Study, path: Path) -> None:
    """Draw rate, batch size and test accuracy against epochs for the step schedules."""
    runs = study.runs()
    curves = study.curves().merge(runs[["run_id", "schedule"]], on="run_id")
    rate = next(name for name in runs.schedule.unique() if name.startswith("step") and BATCH not in name)
    styles = {
        "the rate falls": (rate, {"color": "#1b4f8f", "ls": "-"}),
        "the batch grows": (rate + BATCH, {"color": "#d95f02", "ls": "--"}),
        "neither": ("constant", {"color": INK, "ls": ":"}),
    }
    with pictures():
        figure = new_figure(6.4)
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 2.4))
        handles = []
        for label, (schedule, style) in styles.items():
            points = curves[curves.schedule == schedule].copy()
            points["evaluation"] = points.groupby("run_id").cumcount()
            mean = points.groupby("evaluation").mean(numeric_only=True)
            error = points.groupby("evaluation").test_accuracy.sem()
            for axis, name in zip(axes, ("learning_rate", "batch_size", "test_accuracy"), strict=True):
                (line,) = axis.plot(mean.epoch, mean[name], label=label, **style)
            band = mean.test_accuracy - 2 * error, mean.test_accuracy + 2 * error
            axes[2].fill_between(mean.epoch, *band, color=style["color"], alpha=0.2, lw=0)
            handles.append(line)
        for axis, title in zip(axes, ("learning rate ε", "batch size B\n(examples)", "test accuracy"), strict=True):
            axis.set_ylabel(title)
        for axis in axes[:2]:
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(lambda value, _: plain(value))
        axes[2].set_xlabel("epochs")
        axes[2].set_title(f"mean of {runs.seed.nunique()} seeds; band: two standard errors")
        legend_below(figure, handles, columns=3)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Train the missing runs of the sweep, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "batch-schedule")
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    study = sweep(SweepSpec.from_toml(ROOT / "examples" / "batch-schedule.toml"), arguments.folder, jobs=arguments.jobs)
    runs = study.runs()
    head = [
        "| schedule | steps: rate / batch | rate / batch | batch − rate, 95 % | control | margin | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    text = "\n".join(
        [
            "# Batch schedules in place of rate schedules",
            "",
            *(__doc__ or "").strip().splitlines(),
            "",
            "Generated by `make schedules`; do not edit by hand.",
            "",
            f"{runs.seed.nunique()} seeds; values at the end of training.",
            "",
            "Test accuracy (points):",
            "",
            *head,
            *rows(runs, "test_accuracy", 100, "points", 2),
            "",
            "Training loss (nats; the margin is a quarter of the control, at least 0.005):",
            "",
            *head,
            *rows(runs, "train_loss", 1, "nats", 4),
            "",
            "![rate, batch and accuracy along training](../../docs/figures/batch-schedule.svg)",
        ]
    )
    (ROOT / "benchmarks" / "results" / "schedules.md").write_text(text + "\n", encoding="utf-8")
    draw(study, ROOT / "docs" / "figures" / "batch-schedule.svg")
    print(text)


if __name__ == "__main__":
    main()
