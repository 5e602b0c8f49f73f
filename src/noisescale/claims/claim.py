"""A claim as data: the statement, the statistic, the criterion and the experiment."""

from __future__ import annotations

from dataclasses import dataclass

from noisescale.claims.evidence import Experiment, Scale
from noisescale.claims.study import ClaimStudy

PAPERS = {
    "park2019": "Park, Sohl-Dickstein, Le, Smith 2019 (arXiv:1905.03776)",
    "li2020": "Li, Lyu, Arora 2020 (arXiv:2010.02916)",
    "smith2020": "Smith, Elsen, De 2020 (arXiv:2006.15081)",
    "jastrzebski2017": "Jastrzębski et al. 2017 (arXiv:1711.04623)",
}


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Args:
        id: Identifier, such as "C2.3".
        paper: Name of the paper, a key of `PAPERS`.
        statement: The claim, in a sentence.
        statistic: The quantity that the criterion tests, in words.
        criterion: The region in which the statistic must lie, in words. The experiment tests it as a `Criterion`.
        source: How we know the statement: "read", "derived" or "recalled".
        experiment: The function that returns the evidence. If it is None, the verdict is "not run".
        minutes: Duration of the experiment at laptop scale on 2 cores, in minutes.
        differs: How the setting differs from the setting of the paper, in sentences.
        disputed: How the literature disagrees with the statement, in sentences.
        gpu_studies: The studies behind the verdict at GPU scale. All of them have sweeps for a GPU. A claim without
            such studies does not run at GPU scale.
    """

    id: str
    paper: str
    statement: str
    statistic: str
    criterion: str
    source: str
    experiment: Experiment | None = None
    minutes: float = 0.0
    differs: str = ""
    disputed: str = ""
    gpu_studies: tuple[ClaimStudy, ...] = ()

    @property
    def at_gpu(self) -> bool:
        """True if the claim can run at GPU scale."""
        return bool(self.gpu_studies) and all(study.gpu is not None for study in self.gpu_studies)

    @property
    def paper_title(self) -> str:
        """Authors, year and arXiv number of the paper, or its name if it is not a key of `PAPERS`."""
        return PAPERS.get(self.paper, self.paper)

    def runs_at(self, scale: Scale) -> bool:
        """Return whether the claim has an experiment at a scale.

        Args:
            scale: Size of the experiment.
        """
        return self.experiment is not None and (scale != "gpu" or self.at_gpu)

    def differs_at(self, scale: Scale) -> str:
        """Return how the setting at a scale differs from the setting of the paper.

        Args:
            scale: Size of the experiment.
        """
        if scale != "gpu" or not self.at_gpu:
            return self.differs
        return " ".join(dict.fromkeys(study.gpu.differs for study in self.gpu_studies if study.gpu))
