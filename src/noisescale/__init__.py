"""Find, explain and transfer the hyperparameters of SGD: learning rate, batch size, width, weight decay."""

# instruments on any model, and the closed forms that they are checked against
from noisescale import measure as measure
from noisescale import theory as theory

# the papers' claims
from noisescale.claims import verify as verify

# errors
from noisescale.errors import BadInput as BadInput

# other tools' formats
from noisescale.exports import export as export

# from a sweep to a recommendation
from noisescale.laws import Fit as Fit
from noisescale.laws import Recommendation as Recommendation
from noisescale.laws import fit as fit
from noisescale.laws import recommend as recommend

# parameterizations for any torch.optim.SGD
from noisescale.parameterizations import parameterize as parameterize
from noisescale.store import Study as Study
from noisescale.sweeps import SweepSpec as SweepSpec
from noisescale.sweeps import sweep as sweep
