"""The packed trainer: R runs whose tensors have equal shapes are trained as one program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import Factory, converted, converted_dtype, copy_module
from noisescale.named_inputs import Inputs, expand
from noisescale.runs import PER_RUN, Run, RunResult
from noisescale.training.augmentation import check_augmentation
from noisescale.training.batches import Stretch, batches_of, rate_factor_at
from noisescale.training.block_order import BlockOrder
from noisescale.training.initialization import initialize_pack
from noisescale.training.kernels import GenericKernel, Tensors, Trial, choose_kernel, moving_buffers
from noisescale.training.late_window import average_steps, average_weight, evaluation_steps
from noisescale.training.later_passes import like_the_first
from noisescale.training.losses import check_loss
from noisescale.training.measurements import Measurements
from noisescale.training.memory import cuda_peak, equal_parts, footprint, part_size, runs_in_memory
from noisescale.training.microbatches import parts_of
from noisescale.training.objectives import objective_of
from noisescale.training.optimizers import OPTIMIZERS, sgd_multipliers
from noisescale.training.pack_evaluation import PackEvaluation, move_splits
from noisescale.training.pack_results import pack_results
from noisescale.training.part_step import OnStep, PartStep
from noisescale.training.precision import PRECISIONS, check_precision
from noisescale.training.schedules import parse_schedule
from noisescale.training.state import NOT_DIVERGED, PackState, clear_runs, finite_runs, views, zeros_like
from noisescale.training.stopwatch import Stopwatch

# Calls a function and checks what its passes do.
Watch = Callable[[Callable[[], Any]], Any]

# Steps between checks for a loss that is not finite. A run with such a loss never recovers, so rarer checks lose only
# the exact step of divergence. With a check every 25 steps, checks add less than 1 % to the time of training.
CHECK_EVERY = 25

# A run has diverged if its training loss exceeds this many times the initial loss at two evaluations in a row. A single
# spike is not enough, because runs recover from a catapult (Lewkowycz et al. 2020). Sohl-Dickstein 2024 uses the same
# bound.
EXPLOSION = 1e6

# Seconds of training between two looks at the clock. They are few compared with the 20 s between two checkpoints.
_LOOK_SECONDS = 2.0


class PackTrainer:
    """Trains the runs of one pack. Everything that training changes is in `state`.

    Args:
        runs: Runs that may differ only in the keys that `runs.PER_RUN` lists.
        dataset: The data, as `load_dataset` returns them.
        factory: A function `(width, input_shape, num_classes) -> nn.Module`.
        reference_width: Another width. The comparison with it shows which fan-ins grow with width.
        device: Name of the device: "cpu", "cuda", …
        kernel: "auto", a name in `KERNELS`, or the attribute `choice` of an earlier trainer.
        compile: Whether to use `torch.compile`. Results do not depend on it.
        on_step: A function that is called before each update with the number of the step, the slice of the runs that
            train together, and their gradients.

    Raises:
        BadInput: The runs differ in other keys, the training set does not have the size that the runs state, the batch
            size exceeds the training set, or the data or the device do not allow the loss, precision or augmentation.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        dataset: Dataset,
        factory: Factory,
        *,
        reference_width: int,
        device: str = "cpu",
        kernel: str = "auto",
        compile: bool = False,
        on_step: OnStep | None = None,
    ) -> None:
        any_run = runs[0]
        _check(runs, dataset, device)
        self.runs, self.dataset, self.device = list(runs), dataset, device
        # The families of this package draw nothing. A compiler and an observer may.
        watches = ":" in any_run.family and not compile and on_step is None
        self._watched: Watch = like_the_first if watches else lambda call: call()
        self._precision = PRECISIONS[any_run.precision]
        self._dtype = self._precision.dtype
        self._objective = objective_of(any_run, dataset)
        self._schedule, self._batches = parse_schedule(any_run.schedule), batches_of(any_run)
        self._initial = initialize_pack(runs, dataset, factory, reference_width)
        self.tables = self._initial.tables
        module = self._module = converted(self._initial.module, self._dtype, device)
        self._splits = move_splits(runs, dataset, self._objective, device, self._dtype)
        train = self._splits["train"]
        self._at_once = parts_of(self._batches.largest, any_run.microbatch)[0].stop
        batch = train.take(slice(self._at_once))
        self._footprint = footprint(module, batch.inputs)
        self._state = self._first_state(moving_buffers(module))
        parameters = self._state.parameters
        trial = self._trial(batch.inputs, batch.targets)
        with self._precision.apply(device):
            together = self._together(trial)
            # On a CPU, more runs at once than the cache holds may be faster. On a GPU, the memory is a strict limit.
            most = together if device == "cuda" else len(runs)
            self._choice = choose_kernel(copy_module(module), self._objective, trial, kernel, together, most)
        losses_and_gradients = self._choice.kernel.losses_and_gradients
        if compile:
            losses_and_gradients = torch.compile(losses_and_gradients)
        order = BlockOrder(runs, len(dataset.x_train), dataset.input_shape, device)
        # Runs are independent, so a large pack is split into parts of equal size that train one after another.
        size, row = equal_parts(len(runs), self._choice.together), OPTIMIZERS[any_run.optimizer]
        self._order, self._parts = order, []
        for start in range(0, len(runs), size):
            runs_slice = slice(start, start + size)
            optimizer = row.for_pack(self.runs[runs_slice], self.tables[runs_slice], views(parameters, runs_slice))
            step = PartStep(
                runs, runs_slice, optimizer, self._choice, losses_and_gradients, train, order, self._objective.share,
                on_step,
            )  # fmt: skip
            self._parts.append(step)
        self._evaluation = PackEvaluation(
            any_run, self._splits, module, self._choice.kernel, self._objective, self._footprint.largest
        )
        self._evaluations = evaluation_steps(self._batches.step_at, any_run.evaluations)
        self._measurements = self._make_measurements() if any_run.measure else None
        self._averaged_at = average_steps(self._batches.step_at(Fraction(1 - any_run.late_fraction)), any_run.steps)

    @property
    def kernel(self) -> str:
        """The name of the kernel in use, which the column `kernel` of a study shows."""
        return self._choice.kernel.name

    @property
    def choice(self) -> str:
        """The value of `kernel` that reproduces this pack to the bit: a kernel with its number of runs at once."""
        return self._choice.text

    @property
    def choice_is_measured(self) -> bool:
        """Whether a measurement chose the kernel or, on a GPU, the number of runs at once."""
        return self._choice.measured or self.device == "cuda"

    @property
    def note(self) -> str:
        """The reason why runs are computed one at a time, for the user. Empty if they are not."""
        return self._choice.note

    @property
    def state(self) -> PackState:
        """The state of the pack. After it is set, training continues from the new state."""
        return self._state

    @state.setter
    def state(self, state: PackState) -> None:
        self._state = state.to(self.device)
        for part in self._parts:
            part.forget_graph()
            part.optimizer.freeze(self._state.frozen[part.runs_slice])

    @property
    def done(self) -> bool:
        """Whether the budget is spent or every run has diverged."""
        return self._state.step >= self.runs[0].steps or bool(self._state.frozen.all())

    def advance(self, until: int | None = None, seconds: float | None = None) -> None:
        """Train up to a step, including the evaluations due before and at this step.

        Args:
            until: The number of steps at which to stop. Default: the whole budget.
            seconds: The time after which to return early, in seconds. It does not affect the results of training.
        """
        state, any_run = self._state, self.runs[0]
        until = any_run.steps if until is None else min(until, any_run.steps)
        started = time.perf_counter()
        with self._precision.apply(self.device):
            if state.step == 0 and not state.evaluated_steps:
                self._evaluate()
            while state.step < until and not self.done:
                stretch = self._batches.at(state.step)
                next_evaluation = min(step for step in self._evaluations if step > state.step)
                stop = min(until, next_evaluation, stretch.end, state.step + self._look_every())
                before = None
                if self._measurements is not None and next_evaluation - 1 in self._measurements.before:
                    # The last step before the measurement runs separately, so that the weights before it can be copied.
                    if state.step == next_evaluation - 1:
                        before = {name: tensor.clone() for name, tensor in state.parameters.items()}
                    else:
                        stop = min(stop, next_evaluation - 1)
                self._watched(partial(self._train, stretch, stop))
                if state.step == next_evaluation:
                    self._evaluate(before)
                if seconds is not None and time.perf_counter() - started > seconds:
                    break
            if self.done and any_run.average and not state.averaged:
                self._evaluate_averages()

    def results(self) -> list[RunResult]:
        """Return one result per run. Call this method only after training, when `done` is true."""
        elapsed = [self._batches.elapsed(step) for step in self._state.evaluated_steps]
        return pack_results(
            self.runs, self._state, self._evaluation.splits["train"], elapsed, self._shared_curves(), self._initial,
            self._objective, self.device, self.kernel,
        )  # fmt: skip

    def _first_state(self, moving: Tensors) -> PackState:
        parameters = self._initial.stacked(self.device, self._dtype)
        slots = OPTIMIZERS[self.runs[0].optimizer].slot_names(self.runs)
        never = torch.full((len(self.runs),), NOT_DIVERGED, dtype=torch.int64, device=self.device)
        return PackState(
            step=0,
            parameters=parameters,
            slots={slot: zeros_like(parameters) for slot in slots},
            buffers=self._run_buffers(moving),
            diverged_at=never,
            exploded=torch.zeros_like(never),
            averages=zeros_like(parameters) if self.runs[0].average else {},
        )

    def _run_buffers(self, moving: Tensors) -> Tensors:
        """Return the buffers that differ between runs, because training changes them or the factory draws them."""
        buffers = {name: buffer.expand(len(self.runs), *buffer.shape).clone() for name, buffer in moving.items()}
        for name in self._initial.buffers[0]:
            drawn = torch.stack([buffers_of_run[name] for buffers_of_run in self._initial.buffers])
            buffers[name] = drawn.to(device=self.device, dtype=converted_dtype(drawn, self._dtype))
        return buffers

    def _trial(self, inputs: Inputs, targets: Tensor) -> Trial:
        """Return the tensors of a step in which every run sees the same examples."""
        parameters, buffers, runs = self._state.parameters, self._state.buffers, len(self.runs)
        return Trial(parameters, buffers, expand(inputs, runs), targets.expand(runs, *targets.shape))

    def _together(self, trial: Trial) -> int:
        """Return the number of runs that the cache, or a GPU's free memory, holds at once."""
        runs = len(self.runs)
        if self.device != "cuda":
            return part_size(trial.parameters, self._at_once, self._footprint.kept)
        kernel = GenericKernel(copy_module(self._module), self._objective)

        def step(count: int) -> None:
            tensors = trial.first(count)
            with torch.no_grad():
                kernel.losses_and_gradients(*tensors.tensors, seeds=range(count))

        try:
            # In the first step, libraries allocate their workspace, which must not count as the memory of a run.
            step(1)
            torch.cuda.empty_cache()
            return runs_in_memory(cuda_peak(step, self.device), torch.cuda.mem_get_info()[0], runs)
        # A user's module may raise any error. A module that cannot be packed is trained one run at a time.
        except Exception:
            return 1

    def _make_measurements(self) -> Measurements:
        return Measurements(
            self.runs[0], self._evaluations, self._batches.step_at, self._splits["train"], self._module,
            self._objective, sgd_multipliers(self.tables, self._state.parameters), numbers=self._footprint.kept,
            packable=not self._choice.note,
        )  # fmt: skip

    def _look_every(self) -> int:
        """Return the number of steps between two looks at the clock."""
        done, seconds = self._state.step, self._state.seconds["training"]
        return max(1, int(_LOOK_SECONDS * done / seconds)) if done and seconds else 1

    def _train(self, stretch: Stretch, stop: int) -> None:
        """Take the steps of one stretch up to step number `stop`."""
        watch, state = Stopwatch(), self._state
        with torch.no_grad():
            for part in self._parts:
                if not state.frozen[part.runs_slice].all():
                    self._train_part(part, stretch, stop)
        state.step = stop
        state.seconds["training"] += watch.seconds()

    def _train_part(self, part: PartStep, stretch: Stretch, stop: int) -> None:
        state, any_run = self._state, self.runs[0]
        tensors, averages = part.tensors(state), views(state.averages, part.runs_slice)
        constant = (1.0, 1.0) if any_run.schedule == "constant" else None
        for step, index in enumerate(self._order.steps(stretch, part.runs_slice, state.step, stop), state.step + 1):
            part.optimizer.prepare(step, *(constant or self._factors(stretch, step - 1)))
            # Only at fixed steps, because an interruption must not change the step at which divergence is detected.
            check = step % CHECK_EVERY == 0
            losses = part.take(state, tensors, stretch, index, step, check)
            if check and losses is not None:
                failing = torch.zeros_like(state.frozen)
                failing[part.runs_slice] = ~torch.isfinite(losses)
                self._freeze(failing, step)
            if averages and (weight := average_weight(step, any_run.average_decay, self._averaged_at)):
                for name, average in averages.items():
                    average.lerp_(tensors.parameters[name], weight)

    def _factors(self, stretch: Stretch, step: int) -> tuple[float, float]:
        """Return the schedule's factors of the learning rate and of the decay at a step, counted from 0."""
        rate = rate_factor_at(self.runs[0], self._schedule, step, stretch)
        return rate, self._schedule.decay_factor(stretch.progress_at(step))

    def _freeze(self, failing: Tensor, step: int) -> None:
        state = self._state
        newly_diverged = failing & ~state.frozen
        if newly_diverged.any():
            state.diverged_at[newly_diverged] = step
            clear_runs(state.changed_by_steps(), newly_diverged)
            for part in self._parts:
                part.optimizer.freeze(state.frozen[part.runs_slice])

    def _evaluate(self, before: Tensors | None = None) -> None:
        watch, state = Stopwatch(), self._state
        metrics, buffers = self._watched(partial(self._evaluation.of_state, state))
        for name, values in metrics.items():
            state.curves.setdefault(name, []).append(values)
        state.evaluated_steps.append(state.step)
        self._freeze(self._failing(), state.step)
        if self._measurements is not None:
            state.add_measured(self._measure(self._measurements, buffers, before), len(self.runs))
        state.seconds["evaluation"] += watch.seconds()

    def _failing(self) -> Tensor:
        """Return whether each run has infinite numbers, or an exploded loss at two evaluations in a row, shape [R]."""
        state, losses = self._state, self._state.curves["train_loss"]
        above = (losses[-1] > EXPLOSION * losses[0]).to(state.exploded.device)
        state.exploded = torch.where(above, state.exploded + 1, 0)
        finite = torch.isfinite(losses[-1]).to(above.device) & finite_runs(state.parameters)
        return ~finite | (state.exploded >= 2)

    def _measure(self, measurements: Measurements, buffers: Tensors, before: Tensors | None) -> dict[str, Tensor]:
        """Return the quantities measured at this step, with the buffers of the evaluation. Empty at other steps."""
        state = self._state
        if state.step not in measurements.steps or bool(state.frozen.all()):
            return {}
        last = max(state.step - 1, 0)
        factor = rate_factor_at(self.runs[0], self._schedule, last, self._batches.at(last))
        rates = torch.tensor([run.learning_rate * factor for run in self.runs], dtype=torch.float64).to(self.device)
        return measurements.measure(state.parameters, buffers, before, rates, state.frozen)

    def _evaluate_averages(self) -> None:
        watch, state = Stopwatch(), self._state
        state.averaged = self._evaluation.of_averages(state)
        state.seconds["evaluation"] += watch.seconds()

    def _shared_curves(self) -> dict[str, list[float]]:
        """Return the schedule's curves, which all runs share: at each evaluation, the values of the step before it."""
        any_run, evaluated = self.runs[0], self._state.evaluated_steps
        if any_run.schedule == "constant":
            return {}
        steps = [max(step - 1, 0) for step in evaluated]
        stretches = [self._batches.at(step) for step in steps]
        examples = len(self.dataset.x_train)
        return {
            "rate_factor": [
                rate_factor_at(any_run, self._schedule, step, stretch)
                for step, stretch in zip(steps, stretches, strict=True)
            ],
            "batch_size": [float(stretch.batch_size) for stretch in stretches],
            "epoch": [self._batches.examples(step) / examples for step in evaluated],
        }


def _check(runs: Sequence[Run], dataset: Dataset, device: str) -> None:
    any_run, examples = runs[0], len(dataset.x_train)
    if any(run.shape_key != any_run.shape_key for run in runs):
        raise BadInput("runs", f"runs of one pack that differ only in {', '.join(PER_RUN)}")
    check_loss(any_run.loss, dataset.y_train)
    check_precision(any_run.precision, device)
    check_augmentation(any_run.augmentation.split(), dataset.input_shape)
    if any_run.train_size != examples:
        raise BadInput(
            f"dataset {any_run.dataset}", f"the {any_run.train_size} training examples of the runs", examples
        )
    if not 0 < any_run.batch_size <= examples:
        raise BadInput("grid.batch_size", f"between 1 and the {examples} training examples", any_run.batch_size)
