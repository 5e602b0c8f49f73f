"""The public surface, as a user imports it."""

from __future__ import annotations

import noisescale

SPEC = {
    "name": "public",
    "seeds": 2,
    "dataset": {"name": "digits"},
    "model": {"family": "mlp"},
    "grid": {"width": [4, 8], "learning_rate": [0.5, 1.0], "batch_size": [32]},
    "training": {"steps": 20},
}


def test_every_name_of_the_contract_is_there() -> None:
    names = ("SweepSpec", "sweep", "Study", "fit", "recommend", "parameterize", "Recommendation", "BadInput",
             "verify", "export", "measure")  # fmt: skip
    assert all(hasattr(noisescale, name) for name in names)


def test_a_spec_lists_its_runs() -> None:
    runs = noisescale.SweepSpec.from_dict(SPEC).runs()
    assert len(runs) == 2 * 2 * 2
    assert len({run.run_id for run in runs}) == len(runs)
    assert {run.width for run in runs} == {4, 8}
