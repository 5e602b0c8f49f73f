"""What was found: immutable shards, and the study that reads them."""

from noisescale.store.compaction import compact as compact
from noisescale.store.seal import DamagedFile as DamagedFile
from noisescale.store.shards import finished_packs as finished_packs
from noisescale.store.shards import set_damaged_aside as set_damaged_aside
from noisescale.store.shards import versions as versions
from noisescale.store.shards import write_atomically as write_atomically
from noisescale.store.shards import write_shard as write_shard
from noisescale.store.study import FAILURES as FAILURES
from noisescale.store.study import MEASURES as MEASURES
from noisescale.store.study import SHARDS as SHARDS
from noisescale.store.study import Failure as Failure
from noisescale.store.study import Study as Study
from noisescale.store.study import parse_spec as parse_spec
from noisescale.store.study import read_failures as read_failures
from noisescale.store.times import record_time as record_time
from noisescale.store.times import record_times as record_times
