"""Transfer over width on a language of known entropy (`make language`).

Both examples (SGD and AdamW) are swept. The page has the distance of the best loss from the entropy, the optima with
their intervals, and the recommendation for width 64. It is tested on fresh seeds against a grid of rates and batches
that is trained at this width: its loss should be within 1 % of the distance between the constant predictor and the
entropy.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import pandas as pd

from noisescale import SweepSpec, fit, recommend, sweep
from noisescale.laws import Fit, Recommendation
from noisescale.store import Study
from noisescale.sweeps.grid import Grid

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "language.md"
EXAMPLES = {"SGD": "transformer-language.toml", "AdamW": "transformer-language-adamw.toml"}
WIDTH, FRESH, WITHIN = 64, 1000, 0.01


def main() -> None:
    """Sweep both examples, test their recommendations, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="runs", help="where the studies are kept")
    folder = Path(parser.parse_args().folder)
    lines = ["# A language of known entropy", "", *(__doc__ or "").strip().splitlines(), ""]
    for name, example in EXAMPLES.items():
        lines += of_example(name, SweepSpec.from_toml(FOLDER.parent / "examples" / example), folder)
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def of_example(name: str, spec: SweepSpec, folder: Path) -> list[str]:
    """Return the part of the page for one example.

    Args:
        name: Name of the optimizer.
        spec: The example.
        folder: Folder of the studies.
    """
    began = time.monotonic()
    study = sweep(spec, folder / spec.name, quiet=True)
    seconds = time.monotonic() - began
    entropy = Grid(spec).dataset(0.0).entropy
    assert entropy is not None
    recommendation = recommend(study, WIDTH)
    there = at_width(spec, folder)
    reached = at_setting(spec, recommendation, folder)
    chance = float(there.chance_loss.iloc[0])
    cells = there.groupby(["batch_size", "learning_rate"]).test_loss.mean().sort_values()
    (batch, rate), best = cells.index[0], float(cells.iloc[0])  # type: ignore[misc]
    loss = float(reached.test_loss.mean())
    share = (loss - best) / (chance - entropy)
    expected = recommendation.expected_metric
    setting = f"ε = {recommendation.learning_rate.value:.4g}, B = {recommendation.batch_size}"
    text = [
        f"## {name}", "",
        f"The sweep took {seconds:.0f} s (less if it had begun before). The entropy is {entropy:.4f} nats per token.",
        f"The constant predictor has a loss of {chance:.4f}.", "",
        *optima(fit(study), entropy), "",
        f"Recommended for width {WIDTH}: {setting}, {recommendation.steps} steps;",
        f"expected loss {expected.value:.4f} [{expected.low:.4f}, {expected.high:.4f}].",
        "", "| setting at width 64, fresh seeds | loss | above the entropy |", "|---|---|---|",
        f"| recommended: {setting} | {loss:.4f} | {loss - entropy:.4f} |",
        f"| best of {len(cells)} cells: ε = {rate:.4g}, B = {batch} | {best:.4f} | {best - entropy:.4f} |", "",
        f"The recommendation is {100 * share:+.2f} % of the distance behind the best cell (at most {100 * WITHIN:g} %: "
        f"{'yes' if share <= WITHIN else 'no'}).", "",
    ]  # fmt: skip
    return text


def optima(fitted: Fit, entropy: float) -> list[str]:
    """Return the table of the best rate of each width at each batch size, with its interval."""
    lines = ["| width | B | best ε, 95 % interval | loss at the optimum | above the entropy |", "|---|---|---|---|---|"]
    for series in fitted.groups[0].series:
        for row in series.widths:
            optimum = row.optima["loss"]
            batch = series.fixed_value if series.fixed == "batch_size" else optimum.batch_size.value
            rate, height = optimum.learning_rate, optimum.height
            low, high = (
                f"{end:.3g}" if math.isfinite(end) else sign for end, sign in zip(rate.interval, "<>", strict=True)
            )
            interval = f"{rate.value:.3g} [{low}, {high}]"
            reached = f"{height.value:.4f} | {height.value - entropy:.4f}"
            lines.append(f"| {row.width:g} | {batch:g} | {interval} | {reached} |")
    return lines


def at_width(spec: SweepSpec, folder: Path) -> pd.DataFrame:
    """Train the grid of the example at the width that was never trained, on fresh seeds."""
    grid = spec.grid.model_copy(update={"width": (WIDTH,)})
    fresh = spec.model_copy(update={"grid": grid, "seeds": fresh_seeds(spec)})
    return finished(sweep(fresh, folder / f"{spec.name}-{WIDTH}", quiet=True))


def at_setting(spec: SweepSpec, recommendation: Recommendation, folder: Path) -> pd.DataFrame:
    """Train the recommended setting on the same seeds."""
    setting = {
        "width": (WIDTH,),
        "learning_rate": (recommendation.learning_rate.value,),
        "batch_size": (recommendation.batch_size,),
    }
    fresh = spec.model_copy(
        update={
            "grid": spec.grid.model_copy(update=setting),
            "training": spec.training.model_copy(update={"steps": recommendation.steps}),
            "fit": spec.fit.model_copy(update={"extend_edges": False}),
            "seeds": fresh_seeds(spec),
        }
    )
    name = f"{spec.name}-{recommendation.batch_size}-{recommendation.learning_rate.value:.6g}"
    return finished(sweep(fresh, folder / name, quiet=True))


def fresh_seeds(spec: SweepSpec) -> tuple[int, ...]:
    """Return as many seeds as the example has, none of which it trains."""
    return tuple(range(FRESH, FRESH + len(spec.seeds)))


def finished(study: Study) -> pd.DataFrame:
    """Return the runs of the grid."""
    runs = study.runs()
    return runs[runs.purpose == "sweep"]


if __name__ == "__main__":
    main()
