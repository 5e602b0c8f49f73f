"""Does a batch that grows stand in for a rate that falls? (`make schedules`)

Each schedule of the batch in examples/batch-schedule.toml is compared with the schedule of the rate that it replaces,
seed by seed and at equal epochs, by the equivalence test of `noisescale.laws.equivalence`; the control is the constant
run.
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
    """A metric at the end of every run with a schedule, by seed."""
    own = runs[runs.schedule == schedule].set_index("seed").sort_index()
    if not (own.status == "completed").all():
        raise SystemExit(f"a run with the schedule {schedule} diverged: choose a smaller rate")
    return own[f"final_{metric}"]


def rows(runs: pd.DataFrame, metric: str, scale: float, unit: str, digits: int) -> list[str]:
    """One row for each pair, with both means, the difference, the control and the verdict."""
    found = []
    for moved in sorted(one for one in runs.schedule.unique() if one.endswith(BATCH)):
        rate = moved.removesuffix(BATCH)
        ours, theirs, constant = (final(runs, one, metric) for one in (moved, rate, "constant"))
        answer = equivalence((ours - theirs).to_numpy(), (constant - theirs).to_numpy())
        steps = [int(runs[runs.schedule == one].steps.iloc[0]) for one in (rate, moved)]
        cells = [
            f"`{rate}`",
            f"{steps[0]:,} / {steps[1]:,}",
            f"{scale * theirs.mean():.{digits}f} / {scale * ours.mean():.{digits}f}",
            f"{scale * answer.difference.value:.{digits}f} [{scale * answer.difference.low:.{digits}f}, "
            f"{scale * answer.difference.high:.{digits}f}]",
            f"{scale * answer.control.value:.{digits}f}",
            f"{scale * answer.margin:.{digits}f} {unit}",
            answer.result,
        ]
        found.append("| " + " | ".join(cells) + " |")
    return found


def draw(study: Study, path: Path) -> None:
    """Rate, batch and test accuracy against epochs, of the runs whose schedule steps."""
    runs = study.runs()
    curves = study.curves().merge(runs[["run_id", "schedule"]], on="run_id")
    rate = next(one for one in runs.schedule.unique() if one.startswith("step") and BATCH not in one)
    looks = {
        "the rate falls": (rate, {"color": "#1b4f8f", "ls": "-"}),
        "the batch grows": (rate + BATCH, {"color": "#d95f02", "ls": "--"}),
        "neither": ("constant", {"color": INK, "ls": ":"}),
    }
    with pictures():
        figure = new_figure(6.4)
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 2.4))
        handles = []
        for label, (schedule, look) in looks.items():
            own = curves[curves.schedule == schedule].copy()
            own["place"] = own.groupby("run_id").cumcount()
            mean = own.groupby("place").mean(numeric_only=True)
            error = own.groupby("place").test_accuracy.sem()
            for axis, name in zip(axes, ("learning_rate", "batch_size", "test_accuracy"), strict=True):
                (line,) = axis.plot(mean.epoch, mean[name], label=label, **look)
            band = mean.test_accuracy - 2 * error, mean.test_accuracy + 2 * error
            axes[2].fill_between(mean.epoch, *band, color=look["color"], alpha=0.2, lw=0)
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
    """Run the sweep where it is missing; write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "batch-schedule")
    parser.add_argument("--jobs", type=int)
    chosen = parser.parse_args()
    study = sweep(SweepSpec.from_toml(ROOT / "examples" / "batch-schedule.toml"), chosen.folder, jobs=chosen.jobs)
    runs = study.runs()
    head = [
        "| schedule | steps: rate / batch | rate / batch | batch − rate, 95 % | control | margin | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    text = "\n".join(
        [
            "# A batch schedule in place of a rate schedule",
            "",
            f"Generated by `make schedules`. {' '.join((__doc__ or '').split())}",
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
