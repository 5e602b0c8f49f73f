"""From a claim's id to its verdict."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from noisescale.claims.claim import SCALES, Claim, Evidence, NotRun, Request, Scale
from noisescale.claims.criterion import holm_levels, joint_outcome
from noisescale.claims.device import device_name
from noisescale.claims.ladders import LATE
from noisescale.claims.table import CLAIMS, choose_claims
from noisescale.claims.verdict import Verdict, as_entries
from noisescale.errors import BadInput
from noisescale.store import write_atomically
from noisescale.store.shards import versions

# Folder of the sweeps, beside the verdicts.
STUDIES = "studies"
# Sets of seeds that no experiment's own seeds come near to.
SEEDS_APART = 1000


def verify(
    names: str | list[str],
    *,
    scale: str = "laptop",
    out: Path,
    seed_set: int = 0,
    max_seconds: float | None = None,
    said: Callable[[str], None] = lambda line: None,
) -> list[tuple[Verdict, Evidence | None]]:
    """Run the experiments of claims and judge them together.

    Arguments:
        names: an id or the name of a paper, or several. scale: "smoke", "laptop" or "gpu". out: folder in which each
            verdict is written as `ID.json`. seed_set: another number, other seeds throughout.
        max_seconds: after which a sweep is put aside; the same call goes on with it. said: told what is done.
    Returns:
        A verdict a claim, with what it was judged from; None where no experiment was run.
    Raises:
        BadInput: an unknown claim or scale, or a folder that cannot be made.
    """
    if scale not in SCALES:
        raise BadInput("--scale", f"one of {', '.join(SCALES)}", repr(scale))
    claims = choose_claims([names] if isinstance(names, str) else names)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput("--out", "a folder that can be made", f"{out}: {error.strerror}") from None
    first_seed = SEEDS_APART * seed_set
    found: dict[str, tuple[Evidence | None, float]] = {}
    notes: dict[str, str] = {}
    planted: set[str] = set()
    devices: dict[str, str] = {}
    for claim in list(claims):
        began = time.perf_counter()
        evidence = None
        request = Request(_scale(scale), first_seed, out / STUDIES / f"{scale}-{first_seed}", max_seconds=max_seconds)
        try:
            if claim.experiment is None or (scale == "gpu" and not claim.at_gpu):
                raise NotRun("no experiment for this claim at this scale")
            said(f"{claim.id}: {claim.statement}")
            with _one_thread():
                evidence = claim.experiment(request)
            if not evidence.statistics:
                notes[claim.id], evidence = evidence.setting, None
        except NotRun as reason:
            notes[claim.id] = str(reason)
        if request.planted:
            planted.add(claim.id)
        elif evidence is not None:
            devices[claim.id] = "; ".join(dict.fromkeys(request.devices or [device_name()]))
        if request.used:
            setting, differs = ("; ".join(dict.fromkeys(own)) for own in zip(*request.used, strict=True))
            claims[claims.index(claim)] = replace(claim, differs=differs)
            evidence = None if evidence is None else replace(evidence, setting=setting)
        found[claim.id] = evidence, time.perf_counter() - began
    levels: dict[str, float] = {}
    for paper in dict.fromkeys(claim.paper for claim in claims):
        own = {claim.id: _worst(found[claim.id][0]) for claim in claims if claim.paper == paper}
        levels |= holm_levels({id: p for id, p in own.items() if p is not None}, _family(paper, scale))
    verdicts = [
        (
            _verdict(
                claim,
                *found[claim.id],
                scale,
                first_seed,
                levels.get(claim.id, 0.0),
                notes.get(claim.id, ""),
                claim.id in planted,
                devices.get(claim.id, ""),
            ),
            found[claim.id][0],
        )
        for claim in claims
    ]
    for verdict, _ in verdicts:
        text = json.dumps(verdict.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out / f"{verdict.id}.json", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return verdicts


def criterion_commit() -> str:
    """The commit that last changed anything of which a criterion or a statistic is made; says so where it is changed.

    That is all of the claims and of the laws: an experiment's own file is not all that it rests on.
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Experiments that train in this process do so on tensors too small to be shared; sweeps have workers of their own.

    With two threads beside other work one of them took ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _worst(evidence: Evidence | None) -> float | None:
    return None if evidence is None else max(one.p_value for one in evidence.statistics)


def _family(paper: str, scale: str) -> int:
    """How many claims of a paper can be verified at a scale: so many tests are made in all, now or another time."""
    return sum(
        claim.paper == paper and claim.experiment is not None and (scale != "gpu" or claim.at_gpu)
        for claim in CLAIMS.values()
    )


def _scale(name: str) -> Scale:
    return next(scale for scale in SCALES if scale == name)


def _young(reported: Mapping[str, float]) -> list[str]:
    """Why there may be no law: it takes optima of late runs alone."""
    late = reported.get(LATE, 1.0)
    if not late < 1:
        return []
    share = f"{late:.0%} of the runs are late" if late else "no run is late"
    return [f"{share}, and a law takes optima of late runs alone: train longer"]


def _verdict(
    claim: Claim,
    evidence: Evidence | None,
    seconds: float,
    scale: str,
    first_seed: int,
    level: float,
    why_not: str,
    is_planted: bool,
    device: str,
) -> Verdict:
    about = (claim.id, claim.paper, claim.statement, claim.criterion, claim.source, claim.differs)
    if evidence is None:
        return Verdict(*about, "not run", (), scale, first_seed, 0, 0, "", {}, (), None, 0.0, "no experiment",
                       versions(), seconds, why_not)  # fmt: skip
    outcome = joint_outcome(evidence.statistics, level)
    # Where Holm's procedure has stopped before this claim, the level that would settle it in any case.
    wanted = level or 0.025 / _family(claim.paper, scale)
    open_ = [one for one in evidence.statistics if one.outcome != "contradicted" and one.p_value > wanted]
    needed = [one.seeds_needed(wanted) for one in open_]
    enough = max((n for n in needed if n is not None), default=None) if None not in needed else None
    seeds = max(one.seeds for one in evidence.statistics)
    note = ""
    if outcome == "inconclusive":
        alone = all(one.outcome == "supported" for one in evidence.statistics)
        first = "supported alone, not among all claims of the paper (Holm); " if alone else ""
        more = f"about {enough} seeds would settle it" if enough else "more seeds alone would not settle it"
        without = [f"{one.name}: {one.estimate.convention}" for one in open_ if math.isnan(one.estimate.value)]
        note = "; ".join([first + more, *without, *(_young(evidence.reported) if without else ())])
    if is_planted:
        note = f"{note}; planted runs, no network was trained".removeprefix("; ")
    return Verdict(
        *about, outcome, as_entries(evidence.statistics), scale, first_seed, seeds, evidence.runs, evidence.setting,
        dict(evidence.reported), as_entries(evidence.beside), enough, level, criterion_commit(), versions(),
        seconds, note, device,
    )  # fmt: skip
