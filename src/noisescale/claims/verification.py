"""From a claim's id to its verdict."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from noisescale.claims.claim import Claim
from noisescale.claims.evidence import SCALES, Evidence, NotRun, Request, Scale
from noisescale.claims.multiple_tests import holm_levels, joint_outcome
from noisescale.claims.study import NOT_AT_THIS_SCALE
from noisescale.claims.sweep_runs import LATE
from noisescale.claims.table import CLAIMS, choose_claims
from noisescale.claims.verdict import Verdict, as_entries
from noisescale.errors import BadInput
from noisescale.store import versions, write_atomically

# Name of the folder of sweeps, in the folder of the verdicts.
STUDIES = "studies"
# Distance between the first seeds of two sets. No experiment uses as many seeds.
SEEDS_APART = 1000
_LEVEL = 0.025


@dataclass(frozen=True)
class _Examination:
    """One claim, examined.

    Args:
        claim: The claim.
        request: The request that its experiment received.
        evidence: The evidence; None if the experiment did not run.
        reason: The reason why it did not run.
        seconds: Duration, in seconds.
    """

    claim: Claim
    request: Request
    evidence: Evidence | None
    reason: str
    seconds: float

    @property
    def p_value(self) -> float | None:
        """The largest p-value of the statistics that the criterion tests."""
        return None if self.evidence is None else max(statistic.p_value for statistic in self.evidence.statistics)


def verify(
    names: str | list[str],
    *,
    scale: str = "laptop",
    out: Path,
    seed_set: int = 0,
    max_seconds: float | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[tuple[Verdict, Evidence | None]]:
    """Run the experiments of claims, judge the claims together, and write each verdict as `ID.json`.

    Args:
        names: An id or the name of a paper, or several of them.
        scale: Size of the experiments: "smoke", "laptop" or "gpu".
        out: Folder of the verdicts.
        seed_set: Number of the set of seeds. Two sets share no seed.
        max_seconds: Time in seconds after which a sweep pauses; the same call continues it.
        log: Function that receives a line for each claim before its experiment.

    Returns:
        The verdict of each claim with its evidence; the evidence is None if the experiment did not run.

    Raises:
        BadInput: A claim or the scale is unknown, or the folder cannot be made.
    """
    known_scale = next((known for known in SCALES if known == scale), None)
    if known_scale is None:
        raise BadInput("--scale", f"one of {', '.join(SCALES)}", repr(scale))
    claims = choose_claims([names] if isinstance(names, str) else names)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput("--out", "a folder that can be made", f"{out}: {error.strerror}") from None
    first_seed = SEEDS_APART * seed_set
    folder = out / STUDIES / f"{scale}-{first_seed}"
    request = Request(known_scale, first_seed, folder, max_seconds=max_seconds)
    examined = [_examine(claim, request, log) for claim in claims]
    levels = _levels(examined, known_scale)
    verdicts = [(_verdict(item, levels.get(item.claim.id, 0.0)), item.evidence) for item in examined]
    for verdict, _ in verdicts:
        text = json.dumps(verdict.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out / f"{verdict.id}.json", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return verdicts


def criterion_commit() -> str:
    """Return the commit that last changed the claims or the laws, on which every criterion and statistic rests.

    Returns:
        The commit, with a remark if there are changes that are not committed; or "not in a repository".
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words, "--", ".", "../laws"], cwd=folder, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changed, commit = git("status", "--porcelain"), git("log", "-1", "--format=%H")
    if not commit:
        return "not in a repository"
    return f"{commit} with changes that are not committed" if changed else commit


def _examine(claim: Claim, request: Request, log: Callable[[str], None]) -> _Examination:
    began = time.perf_counter()
    evidence, reason = None, ""
    try:
        if claim.experiment is None or not claim.runs_at(request.scale):
            raise NotRun(NOT_AT_THIS_SCALE)
        log(f"{claim.id}: {claim.statement}")
        with _one_thread():
            evidence = claim.experiment(request)
        if not evidence.statistics:
            raise NotRun("the experiment returned no statistic")
    except NotRun as error:
        evidence, reason = None, str(error)
    return _Examination(claim, request, evidence, reason, time.perf_counter() - began)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread in this process: the tensors are too small to share, and sweeps train in other processes.

    With two threads, beside other work, one experiment took ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _levels(examined: Sequence[_Examination], scale: Scale) -> dict[str, float]:
    """Correct the level of each claim for the other claims of its paper."""
    levels: dict[str, float] = {}
    for paper in dict.fromkeys(item.claim.paper for item in examined):
        p_values = {item.claim.id: item.p_value for item in examined if item.claim.paper == paper}
        tested = {id: p_value for id, p_value in p_values.items() if p_value is not None}
        levels |= holm_levels(tested, _claims_of_paper(paper, scale), _LEVEL)
    return levels


def _claims_of_paper(paper: str, scale: Scale) -> int:
    """Count the claims of a paper that can be verified at a scale, whether in this call or in another."""
    return sum(claim.paper == paper and claim.runs_at(scale) for claim in CLAIMS.values())


def _verdict(item: _Examination, level: float) -> Verdict:
    claim, scale = item.claim, item.request.scale
    verdict = Verdict(
        id=claim.id,
        paper=claim.paper,
        statement=claim.statement,
        criterion=claim.criterion,
        source=claim.source,
        differs=claim.differs_at(scale),
        scale=scale,
        first_seed=item.request.first_seed,
        versions=versions(),
        seconds=item.seconds,
        note=item.reason,
    )
    evidence = item.evidence
    if evidence is None:
        return verdict
    outcome = joint_outcome(evidence.statistics, level)
    seeds_needed, note = _what_would_settle_it(item, level)
    notes = [
        *([note] if outcome == "inconclusive" else []),
        *(["planted runs, no network was trained"] if evidence.provenance.planted else []),
    ]
    return replace(
        verdict,
        verdict=outcome,
        statistics=as_entries(evidence.statistics),
        seeds=max(statistic.seeds for statistic in evidence.statistics),
        runs=evidence.runs,
        setting=evidence.setting,
        reported=dict(evidence.reported),
        beside=as_entries(evidence.beside),
        seeds_needed=seeds_needed,
        level=level,
        criterion_commit=criterion_commit(),
        note="; ".join(notes),
        device=evidence.provenance.device,
    )


def _what_would_settle_it(item: _Examination, level: float) -> tuple[int | None, str]:
    """Return the number of seeds that would settle every open statistic, and a note that says so."""
    assert item.evidence is not None
    statistics = item.evidence.statistics
    # Holm's procedure may have stopped before this claim; this level settles it in any case.
    target = level or _LEVEL / _claims_of_paper(item.claim.paper, item.request.scale)
    undecided = [
        statistic for statistic in statistics if statistic.outcome != "contradicted" and statistic.p_value > target
    ]
    counts = {statistic.name: statistic.seeds_needed(target) for statistic in undecided}
    enough = max((count for count in counts.values() if count is not None), default=None)
    enough = None if None in counts.values() else enough
    notes = [f"about {enough} seeds would settle it"] if enough else []
    if enough and any(statistic.rests_on_the_fit(target) for statistic in undecided):
        notes[0] += " if the line fits: the widths scatter about it by no more than the noise of the seeds"
    if any(statistic.limited_by_lasting_error(target) for statistic in undecided):
        notes.append("more seeds alone would not settle it")
    if all(statistic.outcome == "supported" for statistic in statistics):
        notes.insert(0, "supported alone, not among all claims of the paper (Holm)")
    undefined = [statistic for statistic in undecided if math.isnan(statistic.estimate.value)]
    for statistic in undecided:
        if not statistic.has_tests:
            notes.append(f"{statistic.name}: {statistic.estimate.convention}")
        elif counts[statistic.name] is None and not statistic.limited_by_lasting_error(target):
            notes.append(f"{statistic.name}: the value lies where the criterion leaves the claim open")
    return enough, "; ".join([*notes, *(_too_young(item.evidence.reported) if undefined else ())])


def _too_young(reported: Mapping[str, float]) -> list[str]:
    """Say that few runs are late, because a law uses only the optima of late runs."""
    late = reported.get(LATE, 1.0)
    if not late < 1:
        return []
    share = f"{late:.0%} of the runs are late" if late else "no run is late"
    return [f"{share}, and a law uses only optima of late runs: train longer"]
