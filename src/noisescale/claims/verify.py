"""From a claim's id to its verdict."""

from __future__ import annotations

import inspect
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from noisescale.claims.claim import SCALES, Claim, Evidence, NotRun, Request, Scale
from noisescale.claims.criterion import holm_levels, joint_outcome
from noisescale.claims.table import choose_claims
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
        except NotRun as reason:
            notes[claim.id] = str(reason)
        if request.used:
            setting, differs = ("; ".join(dict.fromkeys(own)) for own in zip(*request.used, strict=True))
            claims[claims.index(claim)] = replace(claim, differs=differs)
            evidence = None if evidence is None else replace(evidence, setting=setting)
        found[claim.id] = evidence, time.perf_counter() - began
    worst = {id: max(one.p_value for one in own.statistics) for id, (own, _) in found.items() if own is not None}
    levels = holm_levels(worst)
    verdicts = [
        (
            _verdict(claim, *found[claim.id], scale, first_seed, levels.get(claim.id, 0.0), notes.get(claim.id, "")),
            found[claim.id][0],
        )
        for claim in claims
    ]
    for verdict, _ in verdicts:
        text = json.dumps(verdict.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out / f"{verdict.id}.json", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return verdicts


def criterion_commit(claim: Claim) -> str:
    """The commit that last changed the file of the claim's experiment; says so where that is not committed."""
    source = inspect.getsourcefile(claim.experiment) if claim.experiment is not None else None
    if source is None:
        return "no experiment"
    path = Path(source)

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words, "--", path.name], cwd=path.parent, capture_output=True, text=True, check=True
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


def _scale(name: str) -> Scale:
    return next(scale for scale in SCALES if scale == name)


def _verdict(
    claim: Claim, evidence: Evidence | None, seconds: float, scale: str, first_seed: int, level: float, why_not: str
) -> Verdict:
    about = (claim.id, claim.paper, claim.statement, claim.criterion, claim.source, claim.differs)
    if evidence is None:
        return Verdict(*about, "not run", (), scale, first_seed, 0, 0, "", {}, (), None, 0.0, "no experiment",
                       versions(), seconds, why_not)  # fmt: skip
    outcome = joint_outcome(evidence.statistics, level)
    open_ = [one for one in evidence.statistics if one.outcome == "inconclusive"]
    needed = [one.seeds_needed for one in open_]
    enough = max((n for n in needed if n is not None), default=None) if None not in needed else None
    seeds = max(one.seeds for one in evidence.statistics)
    if outcome == "inconclusive":
        more = f"about {enough} seeds would settle it" if enough else "more seeds would not settle it at these values"
        note = more if open_ else "supported alone, not among all claims verified together (Holm)"
    else:
        note = ""
    return Verdict(
        *about, outcome, as_entries(evidence.statistics), scale, first_seed, seeds, evidence.runs, evidence.setting,
        dict(evidence.reported), as_entries(evidence.beside), enough, level, criterion_commit(claim), versions(),
        seconds, note,
    )  # fmt: skip
