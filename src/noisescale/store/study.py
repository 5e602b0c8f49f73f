"""The tables of a finished or running sweep: one row per run, per evaluation, or per run and layer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from noisescale.errors import BadInput
from noisescale.input_shapes import FLAGS, NUMBERS, WHOLE, InputShape, NamedShapes, TokenShape
from noisescale.noise_laws import NOISE_COLUMNS, SGD_NOISE
from noisescale.runs import Run
from noisescale.store.accepted_batches import AcceptedBatches, read_accepted_batches
from noisescale.store.entries import check_readable
from noisescale.store.folder import SHARDS, read_failures, read_spec
from noisescale.store.json_record import positive, read_record
from noisescale.store.nested import NestedCurves, flat_rows
from noisescale.store.shards import read_shards

# A cell (the runs that differ only in the seed) is late, which means converged, if the 95 % interval of its drift lies
# within ± this share of the metric's span, the distance from the constant predictor to the best cell. This is an
# equivalence test. A test for "no significant drift" would pass more easily with fewer seeds.
LATE_MARGIN = 0.01

# The rate falls late if the schedule's factor at the end is below half of its value at the last evaluation before the
# late window. If this value is already below the floor, the mean over the window equals the value at the end, with less
# noise.
LATE_FALL, LATE_FLOOR = 0.5, 0.05

MEASURES = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss", "train_accuracy", "train_loss")

# The columns that depend on when and where a run trained.
CIRCUMSTANCES = ("seconds", "device", "threads", "versions")


@dataclass(frozen=True)
class Study:
    """The results of one sweep.

    Args:
        folder: The folder of the sweep, `--out` of `noisescale sweep`.
        spec: The spec of the sweep with every default.
    """

    folder: Path
    spec: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Open the folder of a sweep.

        Args:
            folder: The folder.

        Returns:
            The study.

        Raises:
            BadInput: The folder holds no sweep, or a pipe or a device.
        """
        path = Path(folder)
        check_readable(path)
        return cls(path, read_spec(path))

    def data_shape(self) -> tuple[InputShape, int]:
        """Return the shape of one input and the number of classes, the arguments of a model factory.

        The shape of tokens is a `TokenShape`, which knows the vocabulary, and that of inputs by name a `NamedShapes`.

        Raises:
            BadInput: The record of the data is missing or damaged.
        """
        required = "the data's shape as a sweep wrote it; the same `noisescale sweep` writes it again"
        path = self.folder / "data.json"
        if (record := read_record(path, required, _data_shape)) is None:
            raise BadInput(str(path), required, "something else")
        return record

    def data_digests(self) -> dict[float, tuple[str, ...]]:
        """Return the digests of the data, of each size, by the fraction of redrawn labels.

        The result is empty for studies that do not record them.

        Raises:
            BadInput: The record of the data is damaged.
        """
        required = "the data's digests as a sweep wrote them; the same `noisescale sweep` writes them again"
        return read_record(self.folder / "data.json", required, _digests) or {}

    def accepted_batches(self) -> AcceptedBatches | None:
        """Return the batch sizes on which the model can be trained. None for a study of version 0.1.

        Raises:
            BadInput: The record is damaged.
        """
        return read_accepted_batches(self.folder)

    def runs(self) -> pd.DataFrame:
        """Return one row per run, with the keys of `Run`, the noise scales and the results as columns.

        Returns:
            The frame. Accuracies (fractions) and losses (in the unit of the loss, nats for cross-entropy) are means
            over the last part of training, NaN for diverged runs. If the rate falls in this part, they are the values
            of the last evaluation, and there is no drift. `late` is True for all runs of a cell (equal settings except
            the seed) if the cell has converged, or if its rate falls to the end. Runs whose last attempt failed
            (because of the machine or the model) have the status "failed", the error in `error`, and no results.
        """
        failed = self._failed
        return pd.concat([self._runs, failed], ignore_index=True) if len(failed) else self._runs.copy()

    def finished(self) -> pd.DataFrame:
        """Return the rows of `runs()` with a result: completed and diverged runs."""
        return self._runs.copy()

    def curves(self) -> pd.DataFrame:
        """Return one row per evaluation: run_id, step, epoch, learning_rate, batch_size, losses and accuracies.

        The learning rate and the batch size are the values at the last step before the evaluation.
        """
        table = read_shards(self.folder / SHARDS)
        if table is None:
            return pd.DataFrame(columns=["run_id", "step", "epoch", "learning_rate", "batch_size", *MEASURES])
        curves = NestedCurves(table["curves"])
        names = dict.fromkeys(["step", *MEASURES, *curves.names])
        missing = np.full(int(curves.lengths.sum()), np.nan)
        frame = pd.DataFrame({name: curves.flat(name) if name in curves.names else missing for name in names})
        sizes, rates, ids, examples = (
            np.repeat(table[name].to_pandas().to_numpy(), curves.lengths)
            for name in ("batch_size", "learning_rate", "run_id", "train_size")
        )
        # Only runs with a schedule store these columns. For other runs, the rate and the batch size are constant, and
        # the epoch follows from the step.
        scheduled = {
            name: frame.pop(name) if name in frame else pd.Series(np.nan, frame.index)
            for name in ("rate_factor", "batch_size", "epoch")
        }
        frame.insert(0, "run_id", ids)
        frame.insert(2, "epoch", scheduled["epoch"].fillna(frame["step"] * sizes / examples))
        frame.insert(3, "learning_rate", rates * scheduled["rate_factor"].fillna(1.0))
        frame.insert(4, "batch_size", scheduled["batch_size"].fillna(pd.Series(sizes, frame.index)).astype(sizes.dtype))
        return frame

    def layers(self) -> pd.DataFrame:
        """Return one row per run and layer: fan-in, initial variance, rate multiplier and normalized noise scale."""
        table = self._table
        if table is None:
            return pd.DataFrame(columns=["run_id", "layer"])
        return flat_rows(table["layers"], table["run_id"].to_pandas().rename("run_id"))

    @cached_property
    def _table(self) -> pa.Table | None:
        return read_shards(self.folder / SHARDS, curves=False)

    @cached_property
    def _failed(self) -> pd.DataFrame:
        records = []
        for pack_id, failure in read_failures(self.folder).items():
            common = {"pack_id": pack_id, "status": "failed", "error": failure.error}
            records += [{**run.as_dict(), "run_id": run.run_id, **common} for run in failure.runs]
        frame = pd.DataFrame(records)
        return frame[~frame.run_id.isin(self._runs.run_id)] if records else frame

    @cached_property
    def _runs(self) -> pd.DataFrame:
        table = self._table
        if table is None:
            return pd.DataFrame(columns=["run_id", "pack_id", *(f.name for f in fields(Run)), "status", *MEASURES])
        frame: pd.DataFrame = table.drop_columns(["curves", "layers"]).to_pandas()
        for measure in MEASURES:
            if measure not in frame:
                frame[measure] = np.nan
        # The number of epochs is the number of examples seen, divided by N. Only runs with a schedule store it.
        last = pd.Series(NestedCurves(table["curves"]).last("epoch"), frame.index)
        frame["epochs"] = last.fillna(frame.steps * frame.batch_size / frame.train_size)
        _set_noise(frame)
        falls = _rate_falls_late(frame, NestedCurves(table["curves"])) & (frame.status == "completed")
        _score_by_last_evaluation(frame, falls)
        reference = self._reference_layers()
        frame = frame.assign(falls=falls).merge(reference, on="run_id", how="left")
        frame["late"] = _late_cells(frame, frame.pop("falls"))
        return frame

    def _reference_layers(self) -> pd.DataFrame:
        layers = self.layers()
        reference = layers[layers.is_reference.astype(bool)]
        names = {"layer": "reference_layer", "fan_in": "reference_fan_in", "init_variance": "init_variance"}
        return reference.rename(columns=names)[["run_id", *names.values(), "normalized_noise_scale"]]


def _data_shape(values: Any) -> tuple[InputShape, int]:
    positive((values["num_classes"],))
    if "inputs" not in values:
        return _shape(values), values["num_classes"]
    entries = {str(name): entry for name, entry in values["inputs"].items()}
    if not entries or not all(entry["holds"] in (NUMBERS, WHOLE, FLAGS) for entry in entries.values()):
        raise ValueError
    shapes = {name: _shape(entry) for name, entry in entries.items()}
    return NamedShapes(shapes, {name: entry["holds"] for name, entry in entries.items()}), values["num_classes"]


def _shape(values: Any) -> tuple[int, ...]:
    shape = tuple(values["input_shape"])
    positive(shape)
    if "vocabulary" not in values:
        return shape
    positive((values["vocabulary"],))
    return TokenShape(shape, values["vocabulary"])


def _digests(values: Any) -> dict[float, tuple[str, ...]]:
    # Studies with one size recorded one digest, as a text.
    return {
        float(noise): (known,) if isinstance(known, str) else tuple(map(str, known))
        for noise, known in values.get("digests", {}).items()
    }


def _set_noise(frame: pd.DataFrame) -> None:
    """Set the measures of noise, which for SGD follow from the keys of a run, and otherwise are stored."""
    stored = (
        frame[list(NOISE_COLUMNS)] if NOISE_COLUMNS[0] in frame else pd.DataFrame(np.nan, frame.index, NOISE_COLUMNS)
    )
    setting = frame.batch_size, frame.train_size, frame.momentum
    replaced = frame.sampling == "with_replacement"
    for name in NOISE_COLUMNS:
        frame[name] = stored[name]
        if name in SGD_NOISE:
            without, with_replacement = (SGD_NOISE.per_rate(name, *setting, replacement=r) for r in (False, True))
            values = frame.learning_rate * without.where(~replaced, with_replacement)
            frame[name] = values.where(frame.optimizer == "sgd", stored[name])


def falls_late(before: ArrayLike, end: ArrayLike) -> NDArray[np.bool_]:
    """Return whether a rate falls in the late window, so that the run counts with its last evaluation.

    Args:
        before: Factors of the rate at the last evaluation before the window.
        end: Factors at the end.
    """
    before, end = np.asarray(before), np.asarray(end)
    return np.asarray((end < LATE_FALL * before) & (before >= LATE_FLOOR))


def _rate_falls_late(frame: pd.DataFrame, curves: NestedCurves) -> pd.Series:
    """Return, for each run, whether its schedule lowers the rate from the start of the late window to the end."""
    falls = np.zeros(len(frame), dtype=bool)
    if "rate_factor" not in curves.names:
        return pd.Series(falls, frame.index)
    run = np.repeat(np.arange(len(frame)), curves.lengths)
    begin = ((1 - frame.late_fraction) * curves.last("step")).to_numpy()
    early = curves.flat("step") <= begin[run]
    before = pd.Series(curves.flat("rate_factor")[early]).groupby(run[early]).last()
    places, last = before.index.to_numpy(), curves.last("rate_factor")
    falls[places] = falls_late(before.to_numpy(), last[places])
    return pd.Series(falls, frame.index)


def _score_by_last_evaluation(frame: pd.DataFrame, runs: pd.Series) -> None:
    """Replace the means over the late window by the last evaluation, in the marked runs."""
    for column in [name for name in map(str, frame.columns) if name.startswith("final_")]:
        name = column.removeprefix("final_")
        if runs.any() and name in frame:
            frame[name] = frame[name].where(~runs, frame[column])
        if runs.any() and f"drift_{name}" in frame:
            frame[f"drift_{name}"] = frame[f"drift_{name}"].mask(runs)


def _late_cells(frame: pd.DataFrame, falls: pd.Series) -> pd.Series:
    """Return, for each run, whether its cell is late: the 95 % t interval of the drift lies within the margin.

    A cell whose rate falls late is late too, because its runs are compared at the end of the schedule.

    The drift is the mean over the last window of evaluations minus the mean over the window before. Diverged seeds have
    no drift. The metric is the test accuracy, or, for real-valued targets, the test loss.
    """
    cell = frame.groupby([*(f.name for f in fields(Run) if f.name != "seed"), "code"], dropna=False).ngroup()
    missing = pd.Series(np.nan, frame.index)
    accuracy, loss = (
        frame.get(f"drift_test_{metric}", missing).astype(float) / _span(frame, metric, cell)
        for metric in ("accuracy", "loss")
    )
    has_accuracy = accuracy.notna().groupby(cell).transform("any")
    drift = accuracy.where(has_accuracy, loss).groupby(cell)
    seeds = drift.transform("count")
    half_width = stdtrit(seeds - 1, 0.975) * drift.transform("std") / np.sqrt(seeds)
    late: pd.Series = drift.transform("mean").abs() + half_width <= LATE_MARGIN
    return late | falls.groupby(cell).transform("any")


def _span(frame: pd.DataFrame, metric: str, cell: pd.Series) -> pd.Series:
    """Return the distance from the constant predictor to the best cell among the runs with the same data."""
    sign = 1.0 if metric == "accuracy" else -1.0
    constant = frame.get(f"chance_{metric}", pd.Series(np.nan, frame.index)).astype(float)
    above = sign * (frame[f"test_{metric}"].astype(float) - constant).groupby(cell).transform("mean")
    best = above.groupby([frame.dataset_hash, frame.label_noise], dropna=False).transform("max")
    return best.where(best > 0)


def diverged_or_collapsed(runs: pd.DataFrame) -> pd.Series:
    """Return the mask of the runs that diverged or collapsed. A collapsed run completed without learning.

    Analyses replace the metrics of these runs by the metrics of a constant predictor.

    Args:
        runs: Rows of `Study.runs()`. A table without the column `collapsed` has no collapsed runs.

    Returns:
        Mask of the rows.
    """
    diverged = runs["status"] == "diverged"
    return diverged | runs["collapsed"].fillna(False).astype(bool) if "collapsed" in runs else diverged


def fill_failures(runs: pd.DataFrame, column: str, metric: str, failed: pd.Series | None = None) -> pd.Series:
    """Return a metric of each run, with the constant predictor's value for the runs that diverged or collapsed.

    Args:
        runs: Rows of `Study.runs()`.
        column: Column of the metric, such as "test_accuracy".
        metric: Name of the metric, such as "accuracy".
        failed: Mask of the failed runs. Default: `diverged_or_collapsed(runs)`.

    Returns:
        The values. Those of failed runs stay if the constant predictor's value was not recorded.
    """
    values, constant = runs[column].astype(float), f"chance_{metric}"
    if constant not in runs:
        return values
    failed = diverged_or_collapsed(runs) if failed is None else failed.astype(bool)
    return values.where(~failed, runs[constant].astype(float))


def comparable_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Drop the columns that depend on when and where a run trained, to compare the results of two sweeps.

    Args:
        runs: `Study.runs()`.

    Returns:
        The other columns, in the order of the run ids.
    """
    return runs.drop(columns=[*CIRCUMSTANCES]).sort_values("run_id", ignore_index=True)
