"""Functions that build the specs of the claims' sweeps from shared defaults and the sections that differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisescale.sweeps import SweepSpec

Section = dict[str, Any]

# A fifth of the labels are redrawn at random.
NOISY_LABELS = {"label_noise": 0.2}
HALVING = {"kind": "halving"}


def claim_spec(name: str, first_seed: int, seeds: int, **sections: Mapping[str, Any]) -> SweepSpec:
    """Build a spec whose ladders are not extended, without a stability ladder. Sections can change both.

    No claim is about the price of a larger rate, so no spec measures it.

    Args:
        name: Name of the sweep and of its folder.
        first_seed: First seed.
        seeds: Number of seeds.
        **sections: Sections of the spec.
    """
    values: Section = {
        "name": name,
        "seeds": list(range(first_seed, first_seed + seeds)),
        "fit": {"extend_edges": False},
        "stability": {"seeds": 0},
        **sections,
    }
    values["stability"] = {"price": False, **values["stability"]}
    return SweepSpec.from_dict(values, f"the claims' study {name}")


def mnist1d_spec(name: str, first_seed: int, seeds: int, **sections: Mapping[str, Any]) -> SweepSpec:
    """Build a spec of MLPs with one hidden layer on MNIST-1D.

    Args:
        name: Name of the sweep and of its folder.
        first_seed: First seed.
        seeds: Number of seeds.
        **sections: Sections of the spec. Their keys replace the default keys.
    """
    defaults: dict[str, Section] = {
        "dataset": {"name": "mnist1d", "test_size": 20_000},
        "model": {"family": "mlp", "depth": 1},
        "grid": {"parameterization": ["ntk"], "width": [64], "learning_rate": [8.0], "batch_size": [16]},
        "training": {"evaluations": 16},
        "fit": {"extend_edges": False},
        "stability": {"seeds": 0},
    }
    keys = dict.fromkeys((*defaults, *sections))
    merged = {key: {**defaults.get(key, {}), **sections.get(key, {})} for key in keys}
    return claim_spec(name, first_seed, seeds, **merged)


def ladder(low: float, high: float, factor: float) -> dict[str, float]:
    """Describe a geometric ladder of learning rates.

    Args:
        low: Lowest rate.
        high: Highest rate.
        factor: Ratio of neighboring rates.
    """
    return {"from": low, "to": high, "factor": factor}
