"""Runs of single settings on a study's data and model, in a folder apart from the runs of the study."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.runs import Run, pack_id
from noisescale.store import SHARDS, Study, check_writable, fill_failures
from noisescale.sweeps.code_identity import CodeIdentity
from noisescale.sweeps.cost import ModelSize, seconds
from noisescale.sweeps.executors import build_executor
from noisescale.sweeps.folder import CHECKPOINTS, KERNELS, create_folder, spec_of_record
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.lock import driver_lock
from noisescale.sweeps.machine import Workers, choose_device
from noisescale.sweeps.plan import Pack, PackLimits, pack_size
from noisescale.sweeps.session import check_code, check_data, check_importable, model_sizes
from noisescale.sweeps.spec_measure import NOT_MEASURED
from noisescale.sweeps.timed_steps import time_pack
from noisescale.sweeps.watchdog import STUCK_AFTER, remove_alive_files
from noisescale.training import Schedule, TrainingSetting, batches_of, parse_schedule

# Distance from the study's first seed to the first seed here. Stability ladders use a distance of a million.
FIRST_SEED = 3_000_000

# Number of packs of the study that calibrate the estimate of the cost.
_CALIBRATION_PACKS = 8

# Work of fewer seconds is done in this process, and its time is not measured in advance.
SHORT_SECONDS = 20.0

# Multiple of the available time beyond which a rough estimate is enough to see that the time does not suffice.
_TOO_LONG = 10.0


@dataclass(frozen=True)
class SettingRuns:
    """Runs of settings at chosen widths, with the data, the model and the training of a study.

    The loop is the study's: its data, loss, sampling, schedule, clipping and augmentation. Only what a
    `TrainingSetting` names differs. Seeds are fresh: the study's runs use none of them.

    Args:
        study: The study. Its folder gets the subfolder `check`, and nothing else in it changes.
        seeds: Number of seeds.
    """

    study: Study
    seeds: int
    _sizes: dict[int, ModelSize] = field(default_factory=dict)
    _times: dict[object, float] = field(default_factory=dict)

    @cached_property
    def grid(self) -> Grid:
        """The grid of the study's spec.

        Raises:
            BadInput: The data has changed since the sweep, or the study has several schedules or label noises.
        """
        grid = Grid(spec_of_record(self.study.spec))
        for key, values in {"schedule": grid.schedules, "label_noise": grid.label_noises}.items():
            if len(values) > 1:
                raise BadInput("--check", f"a study with one value of {key}", f"{len(values)} values")
        check_data(self.study.folder, grid)
        return grid

    @cached_property
    def _code(self) -> CodeIdentity | None:
        return check_code(self.study.folder, self.grid)

    @property
    def folder(self) -> Path:
        """The folder of these runs."""
        return self.study.folder / "check"

    @property
    def widths(self) -> tuple[int, ...]:
        """Trained widths of the study."""
        return self.grid.spec.grid.width

    def seed_numbers(self) -> list[int]:
        """Return the fresh seeds."""
        first = min(self.grid.spec.seeds) + FIRST_SEED
        return list(range(first, first + self.seeds))

    def nearest_batch(self, batch_size: int) -> int:
        """Return the batch size nearest to a given one that the data and the model allow."""
        examples = len(self.grid.dataset(self.grid.label_noises[0]).x_train)
        allowed = [size for size in range(1, examples + 1) if self.grid.can_train_on(size)]
        return min(allowed, key=lambda size: abs(math.log(size / batch_size)))

    def examples(self, setting: TrainingSetting, width: int) -> int:
        """Return the number of examples that a run of a setting sees."""
        run = self.runs(setting, width)[0]
        return batches_of(run).examples(run.steps)

    def runs(self, setting: TrainingSetting, width: int) -> list[Run]:
        """Return the runs of a setting, one for each seed."""
        schedule = self.grid.schedules[0].text
        if setting.keeps_batch and parse_schedule(schedule).of == "batch_size":
            schedule = Schedule().text
        values = {**setting.hyperparameters, **NOT_MEASURED}
        return [
            self.grid.run(
                parameterization=setting.parameterization, width=width, batch_size=setting.batch_size,
                learning_rate=setting.learning_rate, optimizer=setting.optimizer, init_scale=setting.init_scale,
                weight_decay=setting.weight_decay, decay=setting.decay, no_decay=" ".join(setting.no_decay),
                nesterov=setting.nesterov, label_noise=self.grid.label_noises[0], schedule=schedule,
                steps=setting.steps, seed=seed, **values,
            )
            for seed in self.seed_numbers()
        ]  # fmt: skip

    def seconds(self, settings: Iterable[TrainingSetting], width: int, limit: float) -> float:
        """Estimate the time that all settings take at a width, in seconds, on the workers of this machine.

        The first estimate is that of a sweep's plan, times the ratio of the measured to the planned time of the study's
        packs. Where the time matters, the first steps of the packs are timed instead.

        Args:
            settings: The settings.
            width: Width of the networks.
            limit: The time that is available, in seconds.
        """
        packs = [pack for setting in settings for pack in self._packs(setting, width)]
        times = [self._calibration * pack.seconds for pack in packs]
        if SHORT_SECONDS < sum(times) < _TOO_LONG * limit:
            with contextlib.suppress(Exception):  # a user's module may raise anything; training then reports it
                times = [self._timed(pack) for pack in packs]
        workers = self._workers_for(sum(times))
        return max(sum(times) / workers.count, max(times, default=0.0))

    def train(self, settings: Sequence[TrainingSetting], width: int) -> list[NDArray[np.float64]]:
        """Train every setting on every seed. Finished runs are not repeated, so an interrupted call can continue.

        Args:
            settings: The settings.
            width: Width of the networks.

        Returns:
            For each setting, the test metric of the spec's `fit.metric` by seed, averaged over the end of training. A
            run that diverged or collapsed has the metric of the constant predictor.

        Raises:
            BadInput: A setting cannot be trained, the data has changed, or another process uses the folder.
        """
        if self.folder.is_symlink():
            raise BadInput(str(self.folder), "a folder of its own, because nothing is written through links", "a link")
        check_writable(self.folder)
        create_folder(self.folder)
        with driver_lock(self.folder):
            for name in (SHARDS, CHECKPOINTS, KERNELS):
                (self.folder / name).mkdir(exist_ok=True)
                for leftover in (self.folder / name).glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)
            remove_alive_files(self.folder / CHECKPOINTS)
            self._check_finished()
            self._train_missing(settings, width)
        values = self._values()
        return [values.loc[[run.run_id for run in self.runs(setting, width)]].to_numpy() for setting in settings]

    @cached_property
    def _workers(self) -> Workers:
        workers = Workers.of(choose_device("auto"))
        try:
            check_importable(self.grid.spec, "local", workers)
        except BadInput:  # a model of a notebook: one worker is this process
            return Workers.of("cpu", 1)
        return workers

    def _workers_for(self, total: float) -> Workers:
        """Return the workers for work of so many seconds. Short work is done here, because workers start slowly."""
        return self._workers if total > SHORT_SECONDS else Workers(1, 1, self._workers.device)

    def _timed(self, pack: Pack) -> float:
        """Return the time of a pack from its first steps. Packs of equal shape take equal times."""
        key = (pack.runs[0].shape_key, len(pack.runs))
        if key not in self._times:
            data = self.grid.data_of(pack.runs[0])
            self._times[key] = time_pack(pack, data, self._workers.device, self._workers.threads).seconds
        return self._times[key]

    def _size(self, width: int) -> ModelSize:
        if width not in self._sizes:
            self._sizes.update(model_sizes(self.grid, [width]))
        return self._sizes[width]

    def _packs(self, setting: TrainingSetting, width: int) -> list[Pack]:
        """Return the packs of a setting. Each is stored when it is done."""
        runs, size = self.runs(setting, width), self._size(width)
        length = pack_size(runs, size, PackLimits.of(self._workers))
        parts = [runs[start : start + length] for start in range(0, len(runs), length)]
        return [Pack(pack_id(part), tuple(part), seconds(part, size)) for part in parts]

    @cached_property
    def _calibration(self) -> float:
        """The ratio of the measured to the planned time of the study's packs at its widest width; 1 if unknown."""
        finished = self.study.finished()
        if finished.empty:
            return 1.0
        rows = finished[(finished.width == finished.width.max()) & (finished.purpose == "sweep")]
        measured = planned = 0.0
        for _, pack in list(rows.groupby("pack_id"))[:_CALIBRATION_PACKS]:
            # pandas stores a missing value as NaN in columns of numbers.
            records = pack.astype(object).where(pack.notna(), None).to_dict("records")
            runs = [Run.from_record(record) for record in records]
            measured += float(pack.seconds.sum())
            planned += seconds(runs, self._size(int(runs[0].width)))
        return measured / planned if measured > 0 and planned > 0 else 1.0

    def _check_finished(self) -> None:
        """Check that the same code trained the finished runs, because a setting is compared with those of now."""
        finished = self._finished()
        # Version 0.1 recorded no code.
        if not finished.empty and set(finished.code) - {"", "" if self._code is None else self._code.digest}:
            required = "runs of the code as it is now; remove this folder to train them again"
            raise BadInput(str(self.folder), required, "runs of other code")

    def _train_missing(self, settings: Sequence[TrainingSetting], width: int) -> None:
        finished = set(self._finished().run_id)
        names, jobs = {}, []
        for setting in settings:
            for pack in self._packs(setting, width):
                if not finished.issuperset(run.run_id for run in pack.runs) and pack.pack_id not in names:
                    names[pack.pack_id] = setting.name
                    jobs.append(self._job(pack))
        jobs.sort(key=lambda job: -job.pack.seconds)
        workers = self._workers_for(sum(self._calibration * job.pack.seconds for job in jobs))
        executor = build_executor("local", workers, self.folder.absolute(), STUCK_AFTER)
        with executor:
            for event in executor.run(jobs, lambda: False, lambda: None):
                if isinstance(event, Outcome) and event.error is not None:
                    required = f"settings that the model can be trained with; {names[event.pack_id]} fails"
                    raise BadInput("--check", required, event.error)

    def _job(self, pack: Pack) -> Job:
        folder = self.folder.absolute()
        options = self.grid.data_options(pack.runs[0])
        return Job(
            pack, options, folder / SHARDS, folder / KERNELS, folder / CHECKPOINTS, self._workers.device, compile=False,
            code=self._code, checkpoint=self.grid.checkpoint,
        )  # fmt: skip

    def _finished(self) -> pd.DataFrame:
        return Study(self.folder, self.study.spec).finished()

    def _values(self) -> pd.Series:
        """Return the test metric of each finished run, by its id. A failed run has that of the constant predictor."""
        metric, runs = self.grid.metric, self._finished().set_index("run_id")
        return fill_failures(runs, f"test_{metric}", metric)
