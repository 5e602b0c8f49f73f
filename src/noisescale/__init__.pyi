# Instruments for any model, and the closed forms that they are checked against.
from . import measure as measure
from . import theory as theory

# The papers' claims.
from .claims import verify as verify

# Errors, and numbers with their intervals.
from .errors import BadInput as BadInput
from .estimate import Estimate as Estimate

# Formats of other tools.
from .exports import export as export

# From a sweep to a recommendation.
from .laws import Fit as Fit
from .laws import Recommendation as Recommendation
from .laws import fit as fit
from .laws import recommend as recommend

# Parameterizations for any model and optimizer, studies and sweeps.
from .store import Study as Study
from .sweeps import SweepSpec as SweepSpec
from .sweeps import sweep as sweep
from .training import parameterize as parameterize
