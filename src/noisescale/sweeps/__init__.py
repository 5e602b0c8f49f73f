"""What to run: the spec, its grid, the plan into packs, and the driver."""

from noisescale.sweeps.grid import Grid as Grid
from noisescale.sweeps.spec import SweepSpec as SweepSpec
from noisescale.sweeps.status import missing_runs as missing_runs
from noisescale.sweeps.sweep import failures as failures
from noisescale.sweeps.sweep import sweep as sweep
