"""Is the recommendation good? (`make holdout`)

Two widths that the law has not seen: the study's largest, recommended from the narrower ones alone, and twice the
largest, recommended from all. At each, the recommended (ε, B) and a dense √2 ladder of batches around it are trained on
fresh seeds for the recommended time ε·steps, beside three rivals. Regret is the accuracy of the best rung minus that
of the choice; the best rung is chosen on one half of the seeds and read off the other, so that it is not flattered.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisescale.errors import BadInput
from noisescale.laws import Recommendation, fit, recommend
from noisescale.laws.interval import mean_over_seeds
from noisescale.laws.results import Fit, WidthFit
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

ROOT = Path(__file__).resolve().parent.parent
FRESH_SEEDS = list(range(600, 610))
RUNGS = [2 ** (step / 2) for step in range(-4, 5)]


@dataclass(frozen=True)
class Narrower:
    """A study as it would be without its widest networks."""

    study: Study
    below: int

    @property
    def spec(self) -> dict[str, Any]:
        return self.study.spec

    def runs(self) -> pd.DataFrame:
        """The runs of the narrower networks."""
        runs = self.study.runs()
        return runs[runs.width < self.below]


@dataclass(frozen=True)
class Candidate:
    """One way to choose a rate and a batch."""

    name: str
    learning_rate: float
    batch_size: int
    steps: int


def narrowest(found: Fit) -> WidthFit:
    """The narrowest width whose optimum the law uses."""
    group = found.groups[0]
    used = [width for width in group.series[group.primary].widths if width.optima["accuracy"].in_law]
    if not used:
        raise BadInput("--study", "a study with an optimum that its law uses", "none")
    return used[0]


def studied_rate(found: Fit) -> float:
    """The rate that the study held fixed."""
    group = found.groups[0]
    return group.series[group.primary].fixed_value


def candidates(found: Fit, advice: Recommendation) -> list[Candidate]:
    """The recommendation, its ladder, and the rivals that are single settings.

    All have the recommended training time ε·steps. "reused" keeps the narrow network's own rate and batch; "linear"
    multiplies its ε/B by the ratio of widths, which is the law with its slope fixed at one. The
    recommended noise at the rate that the study trained shows what the larger batch costs.
    """
    rate, batch, steps = advice.learning_rate.value, advice.batch_size, advice.steps
    narrow = narrowest(found)
    best = narrow.optima["accuracy"]
    linear = max(1, round(rate / (best.temperature.value * advice.width / narrow.width)))
    own_rate, own_batch = best.learning_rate.value, max(1, round(best.batch_size.value))
    at_rate = studied_rate(found)
    same_noise = max(1, round(advice.train_size / (advice.noise_scale.value / at_rate + 1)))
    rungs = {max(1, round(batch * factor)) for factor in RUNGS}
    return [
        Candidate("recommended", rate, batch, steps),
        Candidate("narrow network's setting reused", own_rate, own_batch, round(rate * steps / own_rate)),
        Candidate("linear scaling with width", rate, linear, steps),
        Candidate("recommended noise at the study's rate", at_rate, same_noise, round(rate * steps / at_rate)),
        *(Candidate("ladder", rate, rung, steps) for rung in sorted(rungs)),
    ]


def train(study: Study, width: int, candidate: Candidate, folder: Path, jobs: int | None) -> np.ndarray[Any, Any]:
    """Late-time test accuracy of one setting, one value a fresh seed; failed runs count at chance."""
    spec = json.loads(json.dumps(study.spec))
    spec["seeds"] = FRESH_SEEDS
    spec["grid"].update(width=[width], learning_rate=[candidate.learning_rate], batch_size=[candidate.batch_size])
    spec["training"].update(steps=candidate.steps, epochs=None)
    spec["fit"]["extend_edges"] = False
    spec["stability"].update(seeds=0, batch_size=None)
    name = f"{width}-{candidate.learning_rate!r}-{candidate.batch_size}-{candidate.steps}-seeds{FRESH_SEEDS[0]}"
    runs = sweep(SweepSpec.from_dict(spec), folder / name, jobs=jobs, quiet=True).runs().sort_values("seed")
    sound = (runs.status == "completed") & ~runs.collapsed
    return runs.test_accuracy.where(sound, runs.chance_accuracy).to_numpy()


def cross_fitted_best(ladder: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Accuracy per seed of the rung that the other half of the seeds calls best, from ladder[rungs, seeds]."""
    seeds = ladder.shape[1]
    halves = [np.arange(seeds) % 2 == part for part in (0, 1)]
    best = np.empty(seeds)
    for half in halves:
        best[half] = ladder[int(ladder[:, ~half].mean(1).argmax())][half]
    return best


def compare(study: Study, found: Fit, width: int, folder: Path, jobs: int | None) -> Iterator[dict[str, str]]:
    """One row per way of choosing, with its regret."""
    advice = recommend(found, width=width)
    accuracies: dict[Candidate, np.ndarray[Any, Any]] = {}
    for candidate in candidates(found, advice):
        accuracies[candidate] = train(study, width, candidate, folder, jobs)
    ladder = {c: values for c, values in accuracies.items() if c.name == "ladder"}
    rungs = np.stack(list(ladder.values()))
    best = cross_fitted_best(rungs)
    for candidate, values in accuracies.items():
        yield row(width, candidate.name, f"{candidate.learning_rate:.3g}", f"{candidate.batch_size}", values, best)
    # One random rung costs what the recommendation costs; three cost three times as much, judged by one run each.
    generator = np.random.default_rng(0)
    one = rungs[generator.integers(len(rungs), size=(1000, rungs.shape[1])), np.arange(rungs.shape[1])].mean(0)
    yield row(width, "random search, 1 trial", "–", "–", one, best)
    three = np.mean([_best_of(rungs, generator) for _ in range(1000)], axis=0)
    yield row(width, "random search, 3 trials", "–", "–", three, best)


def _best_of(rungs: np.ndarray[Any, Any], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Accuracy per seed of the best of three random rungs, chosen by another seed's runs."""
    picks = generator.choice(len(rungs), size=3, replace=False)
    seeds = rungs.shape[1]
    judge = (np.arange(seeds) + generator.integers(1, seeds)) % seeds
    chosen = picks[rungs[picks][:, judge].argmax(0)]
    return rungs[chosen, np.arange(seeds)]


def row(
    width: int, name: str, rate: str, batch: str, values: np.ndarray[Any, Any], best: np.ndarray[Any, Any]
) -> dict[str, str]:
    """One line of the table, in points of accuracy."""
    accuracy = mean_over_seeds(values, "fraction", "late-time test accuracy")
    regret = mean_over_seeds(best - values, "fraction", "regret, paired by seed")
    error = values.std(ddof=1) / math.sqrt(len(values))
    return {
        "width": str(width),
        "choice": name,
        "ε": rate,
        "B": batch,
        "accuracy": f"{100 * accuracy.value:.2f} [{100 * accuracy.low:.2f}, {100 * accuracy.high:.2f}]",
        "standard error": f"{100 * error:.2f}",
        "regret": f"{100 * regret.value:.2f} [{100 * regret.low:.2f}, {100 * regret.high:.2f}]",
    }


def main() -> None:
    """Compare at both widths and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=ROOT / "runs" / "mnist1d")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "holdout")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "holdout.md")
    chosen = parser.parse_args()
    study = Study.open(chosen.study)
    largest = int(max(study.spec["grid"]["width"]))
    rows = list(compare(study, fit(Narrower(study, largest)), largest, chosen.folder, chosen.jobs))
    rows += compare(study, fit(study), 2 * largest, chosen.folder, chosen.jobs)
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(entry[name] for name in head) + " |" for entry in rows]
    text = (
        "# Held-out widths\n\nGenerated by `make holdout`; accuracies and regrets in points, 95 % intervals over "
        f"{len(FRESH_SEEDS)} fresh seeds. {' '.join((__doc__ or '').split())}\n\n" + "\n".join(lines) + "\n"
    )
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    chosen.results.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
