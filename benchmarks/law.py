"""Fit the law on disjoint seed sets and in every design (`make law`). This takes long and can be resumed.

Each sweep is `noisescale sweep examples/<design>.toml` with other seeds. The tables go to benchmarks/results/law.md and
law.csv, the figure to docs/figures/law.svg.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from noisescale.estimate import Estimate
from noisescale.laws import Fit, fit
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.results import MetricLaws, Series
from noisescale.noise_laws import SGD_NOISE
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

ROOT = Path(__file__).resolve().parent.parent
DESIGNS = {
    "mnist1d": "rate and steps fixed, batch varied (time held constant)",
    "mnist1d-epochs": "rate and epochs fixed, batch varied (the paper's protocol)",
    "mnist1d-rates": "batch and steps fixed, rate varied",
    "mnist1d-standard": "standard parameterization; rate and steps fixed, batch varied",
}
# Set D was trained for the main design after the last change of the estimators. The other sets were also fitted with
# an earlier form of the estimators.
SEED_SETS = {"A": range(100, 120), "B": range(120, 140), "C": range(140, 160), "D": range(180, 200)}
LAWS = {
    "ḡ": "normalized_noise_scale",
    "ḡ, with bounds": "with_bounds",
    "ε/B": "temperature",
    "B*": "largest_batch",
}
MARKERS = {"A": "o", "B": "s", "C": "^", "D": "D"}
EDGE_COLOR = "#b03a2e"
COLORS = {"A": "#000000", "B": "#3b6fb6", "C": "#c26a1c", "D": "#6b6b6b"}


@dataclass(frozen=True)
class Fitted:
    """The fit of one design on one seed set.

    Args:
        design: Name of the design.
        seeds: Name of the seed set.
        fit: The fit.
    """

    design: str
    seeds: str
    fit: Fit

    @property
    def series(self) -> Series:
        """The primary series of the only group."""
        group = self.fit.groups[0]
        return group.primary_series


def run(design: str, name: str, folder: Path, jobs: int | None, finished: bool) -> Fitted:
    """Train the missing runs of a design on a seed set, and fit the design.

    Args:
        design: Name of the design.
        name: Name of the seed set.
        folder: Folder of the sweeps.
        jobs: Number of worker processes.
        finished: Whether to train nothing and to fit the stored runs.
    """
    out = folder / f"{design}-{name}"
    if finished:
        return Fitted(design, name, fit(Study.open(out)))
    seeds = list(SEED_SETS[name])
    spec = SweepSpec.from_toml(ROOT / "examples" / f"{design}.toml", (f"seeds={seeds}", "stability.price=false"))
    return Fitted(design, name, fit(sweep(spec, out, jobs=jobs)))


def slope_rows(fitted: list[Fitted]) -> Iterator[dict[str, object]]:
    """Yield one row per design, seed set, metric and law."""
    for entry in fitted:
        for metric, laws in entry.series.laws.items():
            for symbol, attribute in LAWS.items():
                law: PowerLaw = getattr(laws, attribute)
                yield {
                    "design": entry.design,
                    "seeds": entry.seeds,
                    "metric": metric,
                    "law": symbol,
                    "slope": law.slope.value,
                    "low": law.slope.low,
                    "high": law.slope.high,
                    "lack_of_fit": law.lack_of_fit,
                    "status": law.status,
                    "widths": " ".join(f"{width:g}" for width in law.widths),
                    "censored": " ".join(f"{width:g}" for width in law.censored),
                    "excluded": excluded(laws),
                }


def slope_of(row: dict[str, object]) -> str:
    """Format the slope of a row with its interval, with a mark if the law is inconclusive."""
    value, low, high = (float(str(row[key])) for key in ("slope", "low", "high"))
    text = span(Estimate(value, low, high, "1", ""))
    return text if row["status"] == "ok" or text == "–" else f"inconclusive: {text}"


def excluded(laws: MetricLaws) -> str:
    """Format the widths that the noise law excludes, with the reason for each width."""
    return "; ".join(f"{entry.width:g}: {entry.reason}" for entry in laws.excluded)


def optimum_rows(fitted: list[Fitted]) -> Iterator[dict[str, str]]:
    """Yield one row per design, width and metric, with one column per seed set."""
    for design in dict.fromkeys(entry.design for entry in fitted):
        entries = [entry for entry in fitted if entry.design == design]
        for index, width in enumerate(entries[0].series.widths):
            for metric in width.optima:
                row = {"design": design, "width": f"{width.width:g}", "metric": metric}
                for entry in entries:
                    optimum = entry.series.widths[index].optima[metric]
                    labels = ", ".join(label for label in optimum.labels if label != "interior")
                    row[entry.seeds] = f"{span(optimum.normalized_noise_scale)} {labels}".strip()
                    row[f"height {entry.seeds}"] = f"{optimum.height.value:.3f}"
                yield row


def span(estimate: Estimate) -> str:
    """Format a value and its interval with three digits. The word "open" replaces an infinite end."""
    if not math.isfinite(estimate.value):
        return "–"
    low, high = (f"{end:.3g}" if math.isfinite(end) else "open" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.3g} [{low}, {high}]"


def markdown(rows: list[dict[str, str]]) -> str:
    """Format rows as a Markdown table. Cells of seed sets that were not run are blank."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row.get(name, "") for name in head) + " |" for row in rows])


def figure(fitted: list[Fitted]) -> Figure:
    """Draw the best ḡ against width, with one panel per design and metric, and one marker per seed set."""
    designs = list(dict.fromkeys(entry.design for entry in fitted))
    result = Figure(figsize=(3.1 * len(designs), 6.2), layout="constrained")
    axes = result.subplots(2, len(designs), sharex=True, sharey=True, squeeze=False)
    for row, metric in enumerate(("accuracy", "loss")):
        for column, design in enumerate(designs):
            draw(axes[row][column], [entry for entry in fitted if entry.design == design], metric)
            axes[row][column].set_title(f"{design}\nbest by test {metric}", fontsize=9)
        axes[row][0].set_ylabel("optimal ḡ (examples)")
    for axis in axes[-1]:
        axis.set_xlabel("width (hidden units)")
    # All panels share their axes. The lower end leaves room for the legends.
    axes[0][0].set_ylim(15, 1.5 * max(axis.dataLim.y1 for axis in axes.flat))
    return result


def draw(axis: Axes, fitted: list[Fitted], metric: str) -> None:
    """Draw a panel. Filled points belong to the law, and a dotted interval is open on one side."""
    for shift, entry in enumerate(fitted):
        color, marker = COLORS[entry.seeds], MARKERS[entry.seeds]
        for width in entry.series.widths:
            optimum = width.optima[metric]
            value = optimum.normalized_noise_scale
            if not math.isfinite(value.value):
                continue
            x = width.width * 1.04 ** (shift - 1)
            low = value.low if math.isfinite(value.low) and value.low > 0 else value.value / 2
            high = value.high if math.isfinite(value.high) else value.value * 2
            axis.plot([x, x], [low, high], color=color, linewidth=1, linestyle="-" if value.bounded else ":")
            face = color if optimum.in_law and value.bounded else "white"
            axis.plot(x, value.value, marker, color=color, markerfacecolor=face, markersize=5)
        law = entry.series.laws[metric].normalized_noise_scale
        label = f"{entry.seeds}: no law"
        if law.status == "ok":
            ends = [entry.series.widths[0].width, entry.series.widths[-1].width]
            axis.plot(ends, [math.exp(law.log_at(end)) for end in ends], color=color, linewidth=1, alpha=0.6)
            label = f"{entry.seeds}: slope {law.slope.value:.2f} [{law.slope.low:.2f}, {law.slope.high:.2f}]"
        axis.plot([], [], marker, color=color, label=label)
    draw_edge(axis, fitted)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.2)
    axis.legend(fontsize=7, loc="lower right")


def draw_edge(axis: Axes, fitted: list[Fitted]) -> None:
    """Draw ḡ at the largest stable rate and at half of it, for designs that vary the rate.

    The law excludes optima above half of the largest stable rate.
    """
    by_width: dict[float, list[float]] = {}
    for entry in fitted:
        if entry.series.axis != "learning_rate":
            continue
        batch, widths = entry.series.fixed_value, {row.width: row for row in entry.series.widths}
        for edge in entry.fit.groups[0].edges:
            if edge.batch_size == batch and math.isfinite(edge.edge.rate.value):
                row = widths[edge.width]
                noise_per_rate = SGD_NOISE.per_rate(
                    "noise_scale", batch, row.train_size, replacement=entry.fit.replacement
                )
                noise = noise_per_rate * edge.edge.rate.value
                by_width.setdefault(edge.width, []).append(noise * math.exp(row.log_ratio))
    if by_width:
        medians = {width: statistics.median(by_width[width]) for width in sorted(by_width)}
        half_edges = [value / 2 for value in medians.values()]
        axis.plot(
            list(medians),
            list(medians.values()),
            color=EDGE_COLOR,
            linewidth=1,
            linestyle="--",
            label="stability edge",
        )
        axis.plot(list(medians), half_edges, color=EDGE_COLOR, linewidth=1, linestyle=":", label="half of it")


def write(fitted: list[Fitted], results: Path) -> None:
    """Write the tables and the figure."""
    rows = list(slope_rows(fitted))
    results.mkdir(parents=True, exist_ok=True)
    with (results / "law.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    slopes = [
        {
            "design": str(row["design"]),
            "metric": str(row["metric"]),
            "law": f"{row['law']} ∝ width^s",
            "seeds": str(row["seeds"]),
            "s [95 %]": slope_of(row),
            "τ": f"{row['lack_of_fit']:.2f}",
            "widths": str(row["widths"]),
            "censored": str(row["censored"]),
            "left out": str(row["excluded"]),
        }
        for row in rows
    ]
    designs = "\n".join(f"- `{name}`: {text}" for name, text in DESIGNS.items())
    text = (
        "# The law by seed set and design\n\nGenerated by `make law`; do not edit by hand.\n\n"
        f"{designs}\n\n## Slopes\n\n{markdown(slopes)}\n\n"
        "τ: scatter of the widths about the line beyond the noise of the seeds, in nats.\n\n"
        "## Optima: ḡ with its interval, by seed set, and the metric at the optimum\n\n"
        f"{markdown(list(optimum_rows(fitted)))}\n"
    )
    (results / "law.md").write_text(text, encoding="utf-8")
    figures = ROOT / "docs" / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    picture = figure(fitted)
    picture.savefig(figures / "law.svg", metadata={"Date": None})
    picture.savefig(results / "law.png", dpi=110)


def main() -> None:
    """Run the chosen designs on the chosen seed sets, and write the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--seeds", nargs="*", default=list(SEED_SETS), choices=list(SEED_SETS))
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "law")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--finished", action="store_true", help="train nothing; fit the sweeps that are finished")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    pairs = [
        (design, name) for name in arguments.seeds for design in arguments.designs if name != "D" or design == "mnist1d"
    ]
    if arguments.finished:
        pairs = [pair for pair in pairs if (arguments.folder / "-".join(pair) / "times.jsonl").exists()]
    fitted = [run(design, name, arguments.folder, arguments.jobs, arguments.finished) for design, name in pairs]
    write(sorted(fitted, key=lambda entry: list(DESIGNS).index(entry.design)), arguments.results)


if __name__ == "__main__":
    main()
