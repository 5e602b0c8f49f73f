"""All sections of a spec together, and the rules that concern more than one section."""

from __future__ import annotations

from pydantic import model_validator

from noisescale.errors import BadInput
from noisescale.sweeps.spec_data_and_model import DatasetSection, ModelSection
from noisescale.sweeps.spec_grid import GridSection
from noisescale.sweeps.spec_measure import MeasureSection
from noisescale.sweeps.spec_sections import (
    FitSection,
    StabilitySection,
    TrainingSection,
)
from noisescale.sweeps.spec_values import MOST_SEEDS, Section, Seeds, key
from noisescale.training import OPTIMIZERS, Schedule, check_metric_name


class SpecFields(Section):
    """The sections of a spec. `Grid` needs them, and `SweepSpec` adds `runs()`, which needs `Grid`."""

    name: str = key("string", "name of the study, shown in the report")
    seeds: Seeds = key(
        f"number of seeds, 1 to {MOST_SEEDS}, or list of whole numbers from 0 to below 2^32",
        "each cell of the grid is trained once per seed. A number n stands for the seeds 0, 1, …, n − 1",
    )
    dataset: DatasetSection = key("section", "the data set")
    model: ModelSection = key("section", "the network")
    grid: GridSection = key("section", "the axes of the grid")
    training: TrainingSection = key("section", "how each run is trained. It states the budget unless `[grid]` does")
    measure: MeasureSection = key("section", "what is measured during training", default=MeasureSection())
    fit: FitSection = key("section", "how the optimum is chosen", default=FitSection())
    stability: StabilitySection = key(
        "section", "the ladder of short runs that locates the largest stable rate", default=StabilitySection()
    )

    @model_validator(mode="after")
    def _rules_between_sections(self) -> SpecFields:
        places = {
            "training.steps": self.training.steps,
            "training.epochs": self.training.epochs,
            "grid.steps": self.grid.steps,
            "grid.epochs": self.grid.epochs,
        }
        given = [name for name, value in places.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(places)}; got {', '.join(given) or 'none'}")
        if self.grid.label_noise is not None and self.dataset.label_noise:
            raise ValueError("label noise in one place, dataset.label_noise or grid.label_noise; got both")
        if self.grid.train_size is not None and self.dataset.train_size is not None:
            raise ValueError("training sizes in one place, dataset.train_size or grid.train_size; got both")
        if self.grid.schedule is not None and self.training.schedule != Schedule():
            raise ValueError("schedules in one place, training.schedule or grid.schedule; got both")
        options = {
            "class_weights": self.training.class_weights is not None,
            "label_smoothing": bool(self.training.label_smoothing),
            "ignore_index": self.training.ignore_index is not None,
        }
        if self.training.loss != "cross_entropy" and any(options.values()):
            used = ", ".join(f"training.{name}" for name, given in options.items() if given)
            raise ValueError(f"training.loss = 'cross_entropy' for {used}; got {self.training.loss!r}")
        try:
            check_metric_name(self.fit.metric, self.fit.direction)
        except BadInput as error:
            raise ValueError(f"for {error.name} {error.required}; got {error.got}") from None
        for name in self.grid.optimizer:
            optimizer = OPTIMIZERS[name]
            try:
                optimizer.check(decay=self.training.decay or optimizer.decays[0], nesterov=self.training.nesterov)
            except BadInput as error:
                raise ValueError(f"for {error.name} {error.required}; got {error.got}") from None
        if self.grid.fixed and ":" not in self.model.family:
            raise ValueError(f"grid.width, because the family {self.model.family!r} has a width; got none")
        self._check_checkpoint()
        if self.training.nesterov and not any(self.grid.momentum):
            raise ValueError("a momentum above 0 in grid.momentum where training.nesterov is true; got none")
        return self

    def _check_checkpoint(self) -> None:
        if self.model.checkpoint is None:
            if self.model.reinitialize is not None:
                raise ValueError("model.checkpoint where model.reinitialize is given; got none")
            return
        if self.grid.parameterization != ("own",):
            names = ", ".join(self.grid.parameterization)
            raise ValueError(f"grid.parameterization = ['own'] where model.checkpoint is given; got {names}")
        if len(self.grid.width) > 1:
            raise ValueError(f"one width where model.checkpoint is given; got {len(self.grid.width)} in grid.width")
