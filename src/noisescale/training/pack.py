"""The packed trainer: R runs of equal shapes trained as one program."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import Factory
from noisescale.parameterizations import stream, stream_number
from noisescale.runs import Run, RunResult
from noisescale.training.augmentation import Draws, augment, check_augmentation, draw_block
from noisescale.training.batches import Stretch, batches_of, rate_factor_at
from noisescale.training.evaluation import chunk_of, evaluate
from noisescale.training.exact_statistics import exact_statistics
from noisescale.training.footprint import footprint
from noisescale.training.graphed import GraphedStep, is_short
from noisescale.training.kernels import GenericKernel, Tensors, Trial, choose_kernel, moving_buffers
from noisescale.training.late import average_steps, evaluation_steps
from noisescale.training.losses import LOSSES, check_loss, target_rows
from noisescale.training.measured import Measurements
from noisescale.training.metrics import Split, metrics_of
from noisescale.training.optimizers import OPTIMIZERS, rate_multipliers
from noisescale.training.parts import cuda_peak, equal_parts, part_size, runs_in_memory
from noisescale.training.precision import PRECISIONS, check_precision
from noisescale.training.results import pack_results
from noisescale.training.sampling import FRESH_BLOCK, index_block
from noisescale.training.schedules import parse_schedule
from noisescale.training.start import build_start
from noisescale.training.state import NOT_DIVERGED, PackState, clear_runs, finite_runs

# Steps between looks for a loss that is not finite. A run that has one never recovers, so a rarer look loses nothing
# but the exact step; at 25 its cost is below 1 % of a step.
CHECK_EVERY = 25

# A training loss this many times its initial value at two evaluations in a row is divergence; a catapult's spike is
# not (Lewkowycz et al. 2020). The bound is the one of Sohl-Dickstein 2024 for a loss that has left every scale.
EXPLOSION = 1e6

# The short ladder of the largest stable rate asks only whether a run has collapsed: enough to tell 0.1 from 0.13. They
# are drawn at random, because a user's arrays may be sorted by class.
STABILITY_EXAMPLES = 1000

# A step of work between two looks at the clock: short beside the 30 s that a kill may cost.
_LOOK_SECONDS = 2.0


class PackTrainer:
    """Trains the runs of one pack; `state` is all that changes.

    Arguments:
        runs: equal in everything but learning rate, momentum, weight decay, σ0² and seed.
        dataset: as `load_dataset` gives it. factory: `(width, input_shape, num_classes) -> nn.Module`.
        reference_width: another width, from which growing fan-ins are seen. device: "cpu", "cuda", …
        kernel: as `choose_kernel` takes it: "auto", a name in `KERNELS`, or the `choice` of an earlier trainer.
        compile: whether `torch.compile` is asked for; results do not need it.
    Raises:
        BadInput: runs of different shapes, other data than the runs name, a batch above the training set, or a loss,
            precision or augmentation that the data or the device does not allow.
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
    ) -> None:
        first = runs[0]
        _check(runs, dataset, device)
        self.runs, self.dataset, self.device = list(runs), dataset, device
        self._precision = PRECISIONS[first.precision]
        self._dtype = self._precision.dtype
        self._loss, self._metrics = LOSSES[first.loss], metrics_of(first.loss, first.metrics)
        self._schedule, self._batches = parse_schedule(first.schedule), batches_of(first)
        self._augmentations = first.augmentation.split()
        self._start = build_start(runs, dataset, factory, reference_width)
        self.tables = self._start.tables
        module = self._module = self._start.module.to(device=device, dtype=self._dtype)
        self._splits = self._move_splits()
        self._evaluated = {"train": self._stability_split()} if first.purpose == "stability" else self._splits
        parameters = self._start.stacked(device, self._dtype)
        batch = self._splits["train"].inputs[: self._batches.largest]
        self._footprint = footprint(module, batch)
        optimizer = OPTIMIZERS[first.optimizer]
        slots = {slot: _zeros_like(parameters) for slot in optimizer.slot_names(runs)}
        buffers = self._own_buffers(moving_buffers(module, batch))
        never = torch.full((len(runs),), NOT_DIVERGED, dtype=torch.int64, device=device)
        averages = _zeros_like(parameters) if first.average else {}
        self._state = PackState(0, parameters, slots, buffers, never, torch.zeros_like(never), averages)
        trial = self._trial(batch, self._splits["train"].rows[: len(batch)])
        with self._precision.apply(device):
            together = self._together(trial)
            # Beyond its cache a core may still gain by more runs at once; beyond its memory a GPU may not.
            most = together if device == "cuda" else len(runs)
            self._choice = choose_kernel(copy.deepcopy(module), self._loss, trial, kernel, together, most)
        # Runs are independent, so a large pack trains part after part, in parts of equal size.
        size = equal_parts(len(runs), self._choice.together)
        self._parts = [slice(start, start + size) for start in range(0, len(runs), size)]
        self._updates = [optimizer.pack(self.runs[p], self.tables[p], _views(parameters, p)) for p in self._parts]
        self._graphs: dict[int, GraphedStep | None] = {}
        # The order of the examples of the block in which the state stands; what follows from seed and step is no state.
        self._block = -1
        self._block_order: Tensor
        self._block_draws: Draws
        self._kernel, gradients = self._choice.kernel, self._choice.kernel.losses_and_gradients
        self._gradients = torch.compile(gradients) if compile else gradients
        self._evaluations = evaluation_steps(self._batches.step_at, first.evaluations)
        self._measurements = self._make_measurements(parameters) if first.measure else None
        self._averaged_at = average_steps(self._batches.step_at(Fraction(1 - first.late_fraction)), first.steps)

    @property
    def kernel(self) -> str:
        """The name of the kernel in use, as the column `kernel` of a study has it."""
        return self._kernel.name

    @property
    def choice(self) -> str:
        """What `kernel` must be for this pack to be computed to the bit as it is: a kernel and its runs at once."""
        return self._choice.name

    @property
    def measured(self) -> bool:
        """Whether a measurement chose the kernel or, on a GPU, the number of runs at once."""
        return self._choice.measured or self.device == "cuda"

    @property
    def note(self) -> str:
        """What a user should know of how the runs are computed; empty for most."""
        return self._choice.note

    @property
    def state(self) -> PackState:
        return self._state

    @state.setter
    def state(self, state: PackState) -> None:
        self._state = state.to(self.device)
        self._graphs.clear()
        self._freeze_rates(state.frozen)

    @property
    def done(self) -> bool:
        return self._state.step >= self.runs[0].steps or bool(self._state.frozen.all())

    def advance(self, until: int | None = None, seconds: float | None = None) -> None:
        """Train up to the step `until` (default: the budget), evaluating on the way.

        Arguments:
            seconds: the time after which to return early, at a step from which the same numbers follow.
        """
        state, first = self._state, self.runs[0]
        until = first.steps if until is None else min(until, first.steps)
        began = time.perf_counter()
        with self._precision.apply(self.device):
            if state.step == 0 and not state.evaluated_steps:
                self._evaluate()
            while state.step < until and not self.done:
                stretch = self._batches.at(state.step)
                next_evaluation = min(step for step in self._evaluations if step > state.step)
                stop = min(until, next_evaluation, stretch.end, state.step + self._look_every())
                before = None
                if self._measurements is not None and next_evaluation - 1 in self._measurements.before:
                    # The last step before the measurement alone, so that what lies before it is at hand after it.
                    if state.step == next_evaluation - 1:
                        before = {name: tensor.clone() for name, tensor in state.parameters.items()}
                    else:
                        stop = min(stop, next_evaluation - 1)
                self._train(stretch, stop)
                if state.step == next_evaluation:
                    self._evaluate(before)
                if seconds is not None and time.perf_counter() - began > seconds:
                    break
            if self.done and first.average and not state.averaged:
                self._evaluate_averages()

    def results(self) -> list[RunResult]:
        """What was found, one result a run; call it once `done`."""
        elapsed = [self._batches.elapsed(step) for step in self._state.evaluated_steps]
        return pack_results(
            self.runs, self._state, self._evaluated["train"], elapsed, self._along(), self._start, self.device,
            self.kernel,
        )  # fmt: skip

    def _make_measurements(self, parameters: Tensors) -> Measurements:
        return Measurements(
            self.runs[0], self._evaluations, self._batches.step_at, self._splits["train"], self._module, self._loss,
            rate_multipliers(self.tables, parameters), numbers=self._footprint.kept, packable=not self._choice.note,
        )  # fmt: skip

    def _look_every(self) -> int:
        """Steps between two looks at the clock."""
        done, seconds = self._state.step, self._state.seconds["training"]
        return max(1, int(_LOOK_SECONDS * done / seconds)) if done and seconds else 1

    def _train(self, stretch: Stretch, stop: int) -> None:
        """The steps of one stretch from the state's own up to step number `stop`."""
        began, state = time.perf_counter(), self._state
        order = self._order(stretch)
        with torch.no_grad():
            for number, part in enumerate(self._parts):
                if not state.frozen[part].all():
                    self._train_part(number, part, stretch, order, stop)
        state.step = stop
        state.seconds["training"] += time.perf_counter() - began

    def _train_part(self, number: int, part: slice, stretch: Stretch, order: Tensor, stop: int) -> None:
        """The steps of a stretch for some of the runs; `order` [R, L] holds its block."""
        state, update, first, runs = self._state, self._updates[number], self.runs[0], self.runs[part]
        size = stretch.batch_size
        averages, parameters = _views(state.averages, part), _views(state.parameters, part)
        begin, end = (stretch.start + (step - stretch.first) * size for step in (state.step, stop))
        index = order[part, begin:end].view(len(runs), -1, size).transpose(0, 1)
        graph = self._graph(number, part, stretch, index) if self.device == "cuda" else None
        for step, own in enumerate(index.flatten(1).unbind(), state.step + 1):
            decay = self._schedule.decay_factor(stretch.progress_at(step - 1))
            update.prepare(step, rate_factor_at(first, self._schedule, step - 1, stretch), decay)
            # At fixed steps only: an interruption must not change at which step divergence is seen.
            check = step % CHECK_EVERY == 0
            losses = self._step(number, part, stretch, own, step, check) if graph is None else graph(own)
            if check and losses is not None:
                failing = torch.zeros_like(state.frozen)
                failing[part] = ~torch.isfinite(losses)
                self._freeze(failing, step)
            if averages and step in self._averaged_at:
                weight = 1 / (1 + self._averaged_at.index(step))
                for name, average in averages.items():
                    average.lerp_(parameters[name], weight)

    def _step(self, number: int, part: slice, stretch: Stretch, index: Tensor, step: int, check: bool) -> Tensor | None:
        """Step number `step` on the examples at `index` [R·B]; losses [R] where they are asked for."""
        state, train, size = self._state, self._splits["train"], stretch.batch_size
        parameters, buffers = (_views(own, part) for own in (state.parameters, state.buffers))
        slots = {slot: _views(own, part) for slot, own in state.slots.items()}
        runs = self.runs[part]
        inputs = train.inputs.index_select(0, index)
        if self._augmentations:
            begin = stretch.start + (step - 1 - stretch.first) * size
            inputs = augment(inputs, self._block_draws.at(part, begin, begin + size))
        targets = train.rows.index_select(0, index).view(len(runs), size, -1)
        draws = [stream_number(run.seed, "forward pass", step) for run in runs] if self._choice.draws else None
        inputs = inputs.view(len(runs), size, *inputs.shape[1:])
        losses, gradients = self._gradients(parameters, buffers, inputs, targets, check, draws)
        self._updates[number].step(parameters, slots, gradients)
        return losses

    def _graph(self, number: int, part: slice, stretch: Stretch, index: Tensor) -> GraphedStep | None:
        """The step of a part as a CUDA graph, where it is short and depends on nothing but the index."""
        moves = self._schedule.of == "batch_size"  # a graph for each size would be used for a few steps
        if moves or self._augmentations or self._choice.draws or self.kernel == "loop":
            return None
        if number not in self._graphs:
            state = self._state
            changed = [one[part] for own in state.changed_by_steps() for one in own.values()]

            def body(own: Tensor) -> Tensor:
                losses = self._step(number, part, stretch, own, 1, True)
                assert losses is not None
                return losses

            index = index.flatten(1)[0].contiguous()
            short = is_short(lambda: body(index), changed)
            self._graphs[number] = GraphedStep(body, index, changed) if short else None
        return self._graphs[number]

    def _together(self, trial: Trial) -> int:
        """Runs that the cache, or a GPU's free memory, holds at once."""
        # On a GPU the line through two peaks begins after a first step, in which libraries take what they keep.
        runs = len(self.runs)
        if self.device != "cuda":
            return part_size(trial.parameters, self._batches.largest, self._footprint.kept)
        kernel = GenericKernel(copy.deepcopy(self._module), self._loss)

        def step(count: int) -> None:
            own = trial.first(count)
            with torch.no_grad():
                kernel.losses_and_gradients(own.parameters, own.buffers, own.inputs, own.targets)

        try:
            step(1)
            torch.cuda.empty_cache()
            return runs_in_memory(cuda_peak(step, self.device), torch.cuda.mem_get_info()[0], runs)
        except Exception:  # a user's module may raise anything; what cannot be packed is trained one run at a time
            return 1

    def _own_buffers(self, moving: Tensors) -> Tensors:
        """Buffers [R, …] that differ between runs: those that training moves, and those that a factory draws."""
        buffers = {name: buffer.expand(len(self.runs), *buffer.shape).clone() for name, buffer in moving.items()}
        for name in self._start.buffers[0]:
            drawn = torch.stack([own[name] for own in self._start.buffers])
            like = self._dtype if drawn.is_floating_point() else drawn.dtype
            buffers[name] = drawn.to(device=self.device, dtype=like)
        return buffers

    def _trial(self, inputs: Tensor, targets: Tensor) -> Trial:
        """A step, every run on the same examples."""
        parameters, buffers, runs = self._state.parameters, self._state.buffers, len(self.runs)
        return Trial(parameters, buffers, inputs.expand(runs, *inputs.shape), targets.expand(runs, *targets.shape))

    def _order(self, stretch: Stretch) -> Tensor:
        """Indices [R, L] of the stretch's block, kept until another block is asked for."""
        if self._block != stretch.block:
            first, examples = self.runs[0], len(self.dataset.x_train)
            seeds = [run.seed for run in self.runs]
            size, steps = stretch.batch_size, min(stretch.steps, FRESH_BLOCK)
            order = index_block(first.sampling, seeds, stretch.block, examples, size, steps)
            if self._augmentations:
                shape = self.dataset.input_shape
                draws = draw_block(self._augmentations, seeds, stretch.block, order.shape[1], shape)
                self._block_draws = draws.to(self.device)
            self._block, self._block_order = stretch.block, order.to(self.device)
        return self._block_order

    def _freeze(self, failing: Tensor, step: int) -> None:
        state = self._state
        new = failing & ~state.frozen
        if new.any():
            state.diverged_at[new] = step
            clear_runs(state.changed_by_steps(), new)
            self._freeze_rates(state.frozen)

    def _freeze_rates(self, frozen: Tensor) -> None:
        for part, update in zip(self._parts, self._updates, strict=True):
            update.freeze(frozen[part])

    def _evaluate(self, before: Tensors | None = None) -> None:
        began = time.perf_counter()
        state = self._state
        exact = self.runs[0].batch_statistics == "exact"
        buffers = self._exact_buffers(state.parameters) if exact else state.buffers
        found = self._evaluated_metrics(state.parameters, buffers)
        for quantity, values in found.items():
            state.curves.setdefault(quantity, []).append(values)
        state.evaluated_steps.append(state.step)
        train_losses = state.curves["train_loss"]
        above = (train_losses[-1] > EXPLOSION * train_losses[0]).to(state.exploded.device)
        state.exploded = torch.where(above, state.exploded + 1, 0)
        finite = torch.isfinite(train_losses[-1]).to(above.device) & finite_runs(state.parameters)
        failing = ~finite | (state.exploded >= 2)
        self._freeze(failing, state.step)
        if self._measurements is not None:
            state.add_measured(self._measure(self._measurements, buffers, before), len(self.runs))
        state.seconds["evaluation"] += time.perf_counter() - began

    def _measure(self, measurements: Measurements, buffers: Tensors, before: Tensors | None) -> dict[str, Tensor]:
        """What is measured at this step, empty where nothing is; `buffers` are those of the evaluation."""
        state = self._state
        if state.step not in measurements.steps or bool(state.frozen.all()):
            return {}
        last = max(state.step - 1, 0)
        factor = rate_factor_at(self.runs[0], self._schedule, last, self._batches.at(last))
        rates = torch.tensor([run.learning_rate * factor for run in self.runs], dtype=torch.float64).to(self.device)
        return measurements.measure(state.parameters, buffers, before, rates, state.frozen)

    def _evaluate_averages(self) -> None:
        """What the mean of the late iterates reaches; its batch statistics are no iterate's, hence measured."""
        began, state = time.perf_counter(), self._state
        state.averaged = self._evaluated_metrics(state.averages, self._exact_buffers(state.averages))
        state.seconds["evaluation"] += time.perf_counter() - began

    def _evaluated_metrics(self, parameters: Tensors, buffers: Tensors) -> dict[str, Tensor]:
        """Return every metric [R] on every split, NaN for frozen runs."""
        found = {}
        for name, split in self._evaluated.items():
            values = evaluate(self._kernel, self._metrics, parameters, buffers, split, self._footprint.largest)
            for metric, value in values.items():
                value[self._state.frozen] = torch.nan
                found[f"{name}_{metric}"] = value.cpu()
        return found

    def _exact_buffers(self, parameters: Tensors) -> Tensors:
        """The buffers with every batch normalization's statistics over the whole training set, run after run."""
        state = self._state
        buffers = {name: buffer.clone() for name, buffer in state.buffers.items()}
        chunk = chunk_of(self._footprint.largest, self._splits["train"].inputs)
        for run in torch.nonzero(~state.frozen).flatten().tolist() if buffers else ():
            own = {name: tensor[run] for name, tensor in (*parameters.items(), *buffers.items())}
            self._module.load_state_dict(own, strict=False)
            exact_statistics(self._module, self._splits["train"].inputs, chunk)
            for name, buffer in self._module.named_buffers():
                if name in buffers:
                    buffers[name][run] = buffer
        return buffers

    def _along(self) -> dict[str, list[float]]:
        """What a schedule does to all runs alike, at every evaluation: the values of the step that led to it."""
        first, found = self.runs[0], self._state.evaluated_steps
        if first.schedule == "constant":
            return {}
        last = [max(step - 1, 0) for step in found]
        stretches = [self._batches.at(step) for step in last]
        rates = [rate_factor_at(first, self._schedule, step, own) for step, own in zip(last, stretches, strict=True)]
        examples = len(self.dataset.x_train)
        return {
            "rate_factor": rates,
            "batch_size": [float(stretch.batch_size) for stretch in stretches],
            "epoch": [self._batches.examples(step) / examples for step in found],
        }

    def _move_splits(self) -> dict[str, Split]:
        data = self.dataset
        parts = {"train": (data.x_train, data.y_train)}
        if self.runs[0].purpose == "sweep":
            parts["validation"] = (data.x_validation, data.y_validation)
            parts["test"] = (data.x_test, data.y_test)
        splits = {}
        for name, (inputs, targets) in parts.items():
            if len(inputs):
                rows = target_rows(targets, data.num_classes, self._dtype).to(self.device)
                labels = None if targets.is_floating_point() else targets.to(self.device)
                splits[name] = Split(inputs.to(device=self.device, dtype=self._dtype), rows, labels)
        return splits

    def _stability_split(self) -> Split:
        train, first = self._splits["train"], self.runs[0]
        generator = stream(first.data_seed, "stability examples")
        index = torch.randperm(len(train.inputs), generator=generator)[:STABILITY_EXAMPLES]
        return train.take(index.to(self.device))


def _check(runs: Sequence[Run], dataset: Dataset, device: str) -> None:
    first, examples = runs[0], len(dataset.x_train)
    if any(run.shape_key != first.shape_key for run in runs):
        raise BadInput("runs", "runs of one pack that share everything but rate, momentum, decay, variance and seed")
    check_loss(first.loss, dataset.y_train)
    check_precision(first.precision, device)
    check_augmentation(first.augmentation.split(), dataset.input_shape)
    if first.train_size != examples:
        raise BadInput(f"dataset {first.dataset}", f"the {first.train_size} training examples of the runs", examples)
    if not 0 < first.batch_size <= examples:
        raise BadInput("grid.batch_size", f"between 1 and the {examples} training examples", first.batch_size)


def _views(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    return {name: tensor[part] for name, tensor in tensors.items()}


def _zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
