"""The quantity along a ladder, in which optima and their law over widths are stated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One quantity that a ladder can be ordered by.

    Args:
        name: The column of a study; also the field of cells, optima and laws.
        words: The name in a sentence.
        symbol: The symbol in tables.
        tex: The symbol in figures.
    """

    name: str
    words: str
    symbol: str
    tex: str

    @property
    def axis_label(self) -> str:
        """The label of a figure's axis."""
        return f"{self.words} {self.tex}"


# In order of preference: ḡ where the read-out's fan-in grows with width, g where no layer grows, and the learning rate
# at a fixed batch where the optimizer has no noise scale.
QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("normalized_noise_scale", "normalized noise scale", "ḡ", r"$\bar{g}$"),
        Quantity("noise_scale", "noise scale", "g", "$g$"),
        Quantity("learning_rate", "learning rate", "ε", r"$\epsilon$"),
    )
}
