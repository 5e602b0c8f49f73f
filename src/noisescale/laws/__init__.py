"""From runs to laws: optima, power laws over width, stability edges, recommendations, with intervals that cover."""

from __future__ import annotations

from noisescale.laws.fit import fit as fit
from noisescale.laws.interval import Estimate as Estimate
from noisescale.laws.recommend import Recommendation as Recommendation
from noisescale.laws.recommend import recommend as recommend
from noisescale.laws.results import Fit as Fit
