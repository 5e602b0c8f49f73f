"""The quantities that can order a ladder. Optima and their laws over width are stated in the same quantities."""

from __future__ import annotations

from dataclasses import dataclass

# Why a group has no noise scale. The learning rate orders its ladders.
NO_NOISE_SCALE = (
    "the optimizer has no noise scale, every batch is the whole training set, or the rate falls to the end of a fixed "
    "number of steps"
)


@dataclass(frozen=True)
class Quantity:
    """A quantity that can order a ladder.

    Args:
        name: Column of a study, and field of cells and optima.
        words: Name in a sentence.
        symbol: Symbol in tables.
        tex: Symbol in figures.
    """

    name: str
    words: str
    symbol: str
    tex: str

    @property
    def axis_label(self) -> str:
        """Label of a figure's axis."""
        return f"{self.words} {self.tex}"


# In order of preference: ḡ if the read-out's fan-in grows with width, g if no layer grows, and the learning rate at a
# fixed batch size if there is no law of the noise.
QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("normalized_noise_scale", "normalized noise scale", "ḡ", r"$\bar{g}$"),
        Quantity("noise_scale", "noise scale", "g", "$g$"),
        Quantity("learning_rate", "learning rate", "ε", r"$\epsilon$"),
    )
}
