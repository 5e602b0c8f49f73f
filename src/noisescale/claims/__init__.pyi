# A claim, its row and its verdict.
from .claim import PAPERS as PAPERS
from .claim import Claim as Claim

# Statistics and criteria.
from .criterion import Criterion as Criterion
from .criterion import Outcome as Outcome
from .criterion import above as above
from .criterion import below as below
from .criterion import different_from as different_from
from .criterion import within as within
from .equivalence_tests import equivalence as equivalence

# What an experiment receives and returns.
from .evidence import Evidence as Evidence
from .evidence import NotRun as NotRun
from .evidence import Request as Request
from .multiple_tests import holm_levels as holm_levels
from .multiple_tests import joint_outcome as joint_outcome
from .panel import Curve as Curve
from .panel import Panel as Panel

# The sweeps that an experiment obtains, and the worlds that stand in for them at smoke scale.
from .planted import World as World
from .provenance import Provenance as Provenance
from .statistic import Statistic as Statistic
from .statistic import over_pairs as over_pairs
from .statistic import over_seeds as over_seeds
from .study import ClaimStudy as ClaimStudy
from .study import GpuSweeps as GpuSweeps
from .study import obtain as obtain
from .sweep_runs import SweepRuns as SweepRuns
from .table import CLAIMS as CLAIMS
from .table import listed_claims as listed_claims
from .verdict import Verdict as Verdict
from .verification import SEEDS_APART as SEEDS_APART
from .verification import verify as verify
