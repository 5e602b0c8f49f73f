"""The papers' statements as commands: each runs its experiment and returns a verdict."""

from noisescale.claims.claim import PAPERS as PAPERS
from noisescale.claims.claim import Claim as Claim
from noisescale.claims.claim import Curve as Curve
from noisescale.claims.claim import Evidence as Evidence
from noisescale.claims.claim import Panel as Panel
from noisescale.claims.claim import Request as Request
from noisescale.claims.table import CLAIMS as CLAIMS
from noisescale.claims.table import listed_claims as listed_claims
from noisescale.claims.verdict import Verdict as Verdict
from noisescale.claims.verify import SEEDS_APART as SEEDS_APART
from noisescale.claims.verify import verify as verify
