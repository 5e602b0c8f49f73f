"""Every example runs from its spec to a fit, at smoke size."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisescale.laws import fit
from noisescale.sweeps import SweepSpec, sweep

EXAMPLES = Path(__file__).parents[1] / "examples"
SMOKE = (
    "seeds=3", "dataset.train_size=80", "dataset.test_size=50", "grid.batch_size=[8]", "training.evaluations=2",
    "fit.extend_edges=false", "stability.seeds=0", "stability.batch_size=[8]",
)  # fmt: skip
# Own data have their own size.
OWN_DATA = ("own_model",)


# Meant for a GPU: even at smoke size a minute on two cores.
LARGE = ("preresnet32-cifar10",)
ALL = [
    pytest.param(path, id=path.stem, marks=pytest.mark.full if path.stem in LARGE else ())
    for path in sorted(EXAMPLES.glob("*.toml"))
]


@pytest.mark.parametrize("path", ALL)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    stated = SweepSpec.from_toml(path)
    if stated.dataset.name in ("fashion_mnist", "cifar10"):
        monkeypatch.setenv("NOISESCALE_DATA", str(request.getfixturevalue("data_folder")))
    budget = "training.epochs=0.5" if stated.training.epochs is not None else "training.steps=4"
    sizes = tuple(entry for entry in SMOKE if path.stem not in OWN_DATA or not entry.startswith("dataset."))
    spec = SweepSpec.from_toml(path, (*sizes, budget))
    widths = spec.grid.width[:2]
    rates = spec.grid.learning_rate[:2] if spec.grid.learning_rate else None
    spec = spec.model_copy(update={"grid": spec.grid.model_copy(update={"width": widths, "learning_rate": rates})})
    study = sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    runs = study.finished()
    assert len(runs) == 3 * len(widths) * len(rates or ()) * len(spec.grid.parameterization) * len(
        spec.grid.schedule or (None,)
    )
    assert {width.width for width in fit(study).groups[0].series[0].widths} == set(map(float, widths))
