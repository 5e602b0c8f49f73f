"""The packed trainer: R runs of equal shapes trained as one program."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import Factory
from noisescale.noise_scale import noise_scale
from noisescale.parameterizations import (
    Table,
    build_table,
    describe_parameters,
    initial_parameters,
    stream,
    stream_number,
)
from noisescale.parameterizations.layers import layer_rows
from noisescale.runs import Run, RunResult
from noisescale.training.evaluation import Split, chunk_of, evaluate
from noisescale.training.exact_statistics import exact_statistics
from noisescale.training.footprint import footprint
from noisescale.training.kernels import Tensors, Trial, choose_kernel, moving_buffers
from noisescale.training.late import evaluation_steps, late_mean_and_drift
from noisescale.training.losses import LOSSES, check_loss, target_rows
from noisescale.training.sampling import block_length, index_block
from noisescale.training.sgd import PackedSGD
from noisescale.training.state import NOT_DIVERGED, PackState, clear_runs, finite_runs

DTYPES = {"float64": torch.float64, "float32": torch.float32}

# Steps between looks for a loss that is not finite. A run that has one never recovers, so a rarer look loses nothing
# but the exact step; at 25 its cost is below 1 % of a step.
CHECK_EVERY = 25

# Parameters and one step's activations of the runs that train together between two evaluations: about a core's
# second-level cache with its gradients. More runs at once stream their weights from memory at every step (measured:
# half the speed at width 128 with 64 runs), fewer share a step's overhead among too few.
PART_BYTES = 2 << 20

# A training loss this many times its initial value at two evaluations in a row is divergence; a catapult's spike is
# not (Lewkowycz et al. 2020). The bound is the one of Sohl-Dickstein 2024 for a loss that has left every scale.
EXPLOSION = 1e6

# A run is collapsed when it does no better than a constant: training accuracy within this of the largest class's share.
COLLAPSE_MARGIN = 0.02

# The short ladder of the largest stable rate asks only whether a run has collapsed: enough to tell 0.1 from 0.13. They
# are drawn at random, because a user's arrays may be sorted by class.
STABILITY_EXAMPLES = 1000


class PackTrainer:
    """Trains the runs of one pack; `state` is all that changes.

    Arguments:
        runs: equal in everything but learning rate, momentum, weight decay, σ0² and seed.
        dataset: as `load_dataset` gives it. factory: `(width, input_shape, num_classes) -> nn.Module`.
        reference_width: another width, from which growing fan-ins are seen. device: "cpu", "cuda", …
        kernel: as `choose_kernel` takes it: "auto", a name in `KERNELS`, or the `choice` of an earlier trainer.
        compile: whether `torch.compile` is asked for; results do not need it.
    Raises:
        BadInput: runs of different shapes, a batch above the training set, or a loss that the targets do not allow.
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
        if any(run.shape_key != first.shape_key for run in runs):
            raise BadInput(
                "runs", "runs of one pack that share everything but rate, momentum, decay, variance and seed"
            )
        check_loss(first.loss, dataset.y_train)
        examples = len(dataset.x_train)
        if not 0 < first.batch_size <= examples:
            raise BadInput("grid.batch_size", f"between 1 and the {examples} training examples", first.batch_size)
        self.runs, self.dataset, self.device = list(runs), dataset, device
        self._dtype = DTYPES[first.precision]
        self._loss = LOSSES[first.loss]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(first.seed)
            module = factory(first.width, dataset.input_shape, dataset.num_classes)
            reference = factory(reference_width, dataset.input_shape, dataset.num_classes)
            width = first.base_width
            base = None if width is None else factory(width, dataset.input_shape, dataset.num_classes)
        self._described = describe_parameters(module, reference, base, first.query_rows.split())
        self.tables = [build_table(run.parameterization, self._described, run.init_scale) for run in runs]
        self._starts = [_start(table, factory, run, dataset) for table, run in zip(self.tables, runs, strict=True)]
        module = self._module = module.to(device=device, dtype=self._dtype)
        self._splits = self._move_splits()
        self._evaluated = {"train": self._stability_split()} if first.purpose == "stability" else self._splits
        parameters = {
            row.name: torch.stack([start[row.name] for start in self._starts]).to(device=device, dtype=self._dtype)
            for row in self.tables[0]
        }
        train = self._splits["train"]
        batch = train.inputs[: first.batch_size]
        self._footprint = footprint(module, batch)
        velocity = _zeros_like(parameters) if any(run.momentum for run in runs) else {}
        moving = moving_buffers(module, batch)
        buffers = {name: buffer.expand(len(runs), *buffer.shape).clone() for name, buffer in moving.items()}
        never = torch.full((len(runs),), NOT_DIVERGED, dtype=torch.int64, device=device)
        self._state = PackState(0, parameters, velocity, buffers, never, torch.zeros_like(never))
        together = part_size(parameters, first.batch_size, self._footprint.kept) if device == "cpu" else len(runs)
        trial = self._trial(batch, train.rows[: len(batch)])
        self._choice = choose_kernel(copy.deepcopy(module), self._loss, trial, kernel, together)
        # Runs are independent, so a large pack trains part after part, in parts of equal size; on a GPU it is one.
        size = _equal_parts(len(runs), self._choice.together)
        self._parts = [slice(start, start + size) for start in range(0, len(runs), size)]
        self._sgd = [PackedSGD(self.runs[p], self.tables[p], _views(parameters, p)) for p in self._parts]
        self._kernel, gradients = self._choice.kernel, self._choice.kernel.losses_and_gradients
        self._gradients = torch.compile(gradients) if compile else gradients
        self._evaluations = evaluation_steps(first.steps, first.evaluations)

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
        """Whether a measurement chose the kernel."""
        return self._choice.measured

    @property
    def note(self) -> str:
        """What a user should know of how the runs are computed; empty for most."""
        return self._choice.note

    @property
    def state(self) -> PackState:
        return self._state

    @state.setter
    def state(self, state: PackState) -> None:
        self._state = state
        self._freeze_rates(state.frozen)

    @property
    def done(self) -> bool:
        return self._state.step >= self.runs[0].steps or bool(self._state.frozen.all())

    def advance(self, until: int | None = None) -> None:
        """Train up to the step `until` (default: the budget), evaluating on the way."""
        state, first = self._state, self.runs[0]
        until = first.steps if until is None else min(until, first.steps)
        if state.step == 0 and not state.evaluated_steps:
            self._evaluate()
        length = block_length(first.sampling, len(self.dataset.x_train), first.batch_size)
        while state.step < until and not self.done:
            block, offset = divmod(state.step, length)
            next_evaluation = min(step for step in self._evaluations if step > state.step)
            stop = min(until, next_evaluation, (block + 1) * length)
            self._train(block, offset, offset + stop - state.step, stop)
            if stop == next_evaluation:
                self._evaluate()

    def results(self) -> list[RunResult]:
        """What was found, one result a run; call it once `done`."""
        seconds = sum(self._state.seconds.values()) / len(self.runs)
        return [self._result(position, seconds) for position in range(len(self.runs))]

    def _train(self, block: int, start: int, end: int, stop: int) -> None:
        """The steps [start, end) of one block; the last of them is step number `stop`."""
        began = time.perf_counter()
        order, frozen = self._order(block), self._state.frozen
        with torch.no_grad():
            for part, sgd in zip(self._parts, self._sgd, strict=True):
                if not frozen[part].all():
                    self._train_part(part, sgd, order[start:end], stop)
        self._state.step = stop
        self._state.seconds["training"] += time.perf_counter() - began

    def _train_part(self, part: slice, sgd: PackedSGD, order: Tensor, stop: int) -> None:
        """The steps of `order` [steps, R, B] for some of the runs; the last of them is step number `stop`."""
        state, train = self._state, self._splits["train"]
        parameters, velocity = _views(state.parameters, part), _views(state.velocity, part)
        buffers, seeds = _views(state.buffers, part), [run.seed for run in self.runs[part]]
        order = order[:, part]
        runs, batch = order.shape[1:]
        inputs_shape, targets_shape = (runs, batch, *train.inputs.shape[1:]), (runs, batch, -1)
        for step, index in enumerate(order.flatten(1).unbind(), stop - len(order) + 1):
            inputs = train.inputs.index_select(0, index).view(inputs_shape)
            targets = train.rows.index_select(0, index).view(targets_shape)
            # At fixed steps only: an interruption must not change at which step divergence is seen.
            check = step % CHECK_EVERY == 0
            draws = [stream_number(seed, "forward pass", step) for seed in seeds] if self._choice.draws else None
            losses, gradients = self._gradients(parameters, buffers, inputs, targets, check, draws)
            sgd.step(parameters, velocity, gradients)
            if check and losses is not None:
                failing = torch.zeros_like(state.frozen)
                failing[part] = ~torch.isfinite(losses)
                self._freeze(failing, step)

    def _trial(self, inputs: Tensor, targets: Tensor) -> Trial:
        """A step, every run on the same examples."""
        parameters, buffers, runs = self._state.parameters, self._state.buffers, len(self.runs)
        return Trial(parameters, buffers, inputs.expand(runs, *inputs.shape), targets.expand(runs, *targets.shape))

    def _order(self, block: int) -> Tensor:
        """Indices [steps, R, B] of one block, kept until the next block is asked for."""
        if getattr(self, "_block", None) != block:
            first = self.runs[0]
            seeds = [run.seed for run in self.runs]
            order = index_block(first.sampling, seeds, block, len(self.dataset.x_train), first.batch_size)
            self._block, self._block_order = block, order.to(self.device)
        return self._block_order

    def _freeze(self, failing: Tensor, step: int) -> None:
        state = self._state
        new = failing & ~state.frozen
        if new.any():
            state.diverged_at[new] = step
            clear_runs((state.parameters, state.velocity, state.buffers), new)
            self._freeze_rates(state.frozen)

    def _freeze_rates(self, frozen: Tensor) -> None:
        for part, sgd in zip(self._parts, self._sgd, strict=True):
            sgd.freeze(frozen[part])

    def _evaluate(self) -> None:
        began = time.perf_counter()
        state = self._state
        buffers = self._exact_buffers() if self.runs[0].batch_statistics == "exact" else state.buffers
        for name, split in self._evaluated.items():
            losses, accuracies = evaluate(
                self._kernel, self._loss, state.parameters, buffers, split, self._footprint.largest
            )
            for quantity, values in ((f"{name}_loss", losses), (f"{name}_accuracy", accuracies)):
                values[state.frozen] = torch.nan
                state.curves.setdefault(quantity, []).append(values.cpu())
        state.evaluated_steps.append(state.step)
        train_losses = state.curves["train_loss"]
        above = (train_losses[-1] > EXPLOSION * train_losses[0]).to(state.exploded.device)
        state.exploded = torch.where(above, state.exploded + 1, 0)
        finite = torch.isfinite(train_losses[-1]).to(above.device) & finite_runs(state.parameters)
        failing = ~finite | (state.exploded >= 2)
        self._freeze(failing, state.step)
        state.seconds["evaluation"] += time.perf_counter() - began

    def _exact_buffers(self) -> Tensors:
        """The buffers with every batch normalization's statistics over the whole training set, run after run."""
        state = self._state
        buffers = {name: buffer.clone() for name, buffer in state.buffers.items()}
        chunk = chunk_of(self._footprint.largest)
        for run in torch.nonzero(~state.frozen).flatten().tolist():
            own = {name: tensor[run] for name, tensor in (*state.parameters.items(), *buffers.items())}
            self._module.load_state_dict(own, strict=False)
            exact_statistics(self._module, self._splits["train"].inputs, chunk)
            for name, buffer in self._module.named_buffers():
                if name in buffers:
                    buffers[name][run] = buffer
        return buffers

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

    def _result(self, position: int, seconds: float) -> RunResult:
        state, run = self._state, self.runs[position]
        curves = {name: [float(values[position]) for values in entries] for name, entries in state.curves.items()}
        diverged_at = int(state.diverged_at[position])
        means, drifts, final = {}, {}, {}
        for name, curve in curves.items():
            means[name], drifts[name] = late_mean_and_drift(curve, state.evaluated_steps, run.late_fraction)
            final[name] = curve[-1]
        diverged = diverged_at != NOT_DIVERGED
        if diverged:
            means, drifts, final = ({name: float("nan") for name in curves} for _ in range(3))
        examples, replacement = len(self.dataset.x_train), run.sampling == "with_replacement"
        noise = noise_scale(run.learning_rate, run.batch_size, examples, run.momentum, replacement=replacement)
        test = [value for value in curves.get("test_accuracy", []) if not np.isnan(value)]
        return RunResult(
            run=run,
            status="diverged" if diverged else "completed",
            diverged_at_step=diverged_at if diverged else None,
            collapsed=not diverged and self._is_collapsed(means),
            chance_accuracy=self._evaluated["train"].chance_accuracy(),
            chance_loss=self._chance_loss(),
            late_means=means,
            drifts=drifts,
            final=final,
            best_test_accuracy=max(test, default=float("nan")),
            curves={"step": [float(step) for step in state.evaluated_steps], **curves},
            layers=layer_rows(self.tables[position], self._starts[position], noise),
            seconds=seconds,
            device=self.device,
            threads=torch.get_num_threads(),
            kernel=self.kernel,
        )

    def _is_collapsed(self, means: dict[str, float]) -> bool:
        if np.isnan(means["train_accuracy"]):
            return means["train_loss"] >= (1 - COLLAPSE_MARGIN) * self._chance_loss()
        return means["train_accuracy"] <= self._evaluated["train"].chance_accuracy() + COLLAPSE_MARGIN

    def _chance_loss(self) -> float:
        """Training loss of the best constant output."""
        rows = self._evaluated["train"].rows.double()
        mean = rows.mean(0)
        if self.runs[0].loss == "cross_entropy":
            return float(-(mean * mean.clamp_min(1e-300).log()).sum())
        return float(0.5 * (rows - mean).square().sum(1).mean())


def _start(table: Table, factory: Factory, run: Run, dataset: Dataset) -> dict[str, Tensor]:
    """The run's initial tensors; for tables that keep the module's start, the module is built under the run's seed."""
    if all(row.init_std is not None for row in table):
        return initial_parameters(table, nn.Module(), run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return initial_parameters(table, factory(run.width, dataset.input_shape, dataset.num_classes), run.seed)


def part_size(parameters: Tensors, batch_size: int, kept: int) -> int:
    """Runs that train together, so that parts are equal and each stays in the cache; at least one.

    Arguments:
        parameters: [R, …] each. batch_size: B. kept: numbers that one example leaves behind for the backward pass.
    """
    tensors = list(parameters.values())
    runs = tensors[0].shape[0]
    numbers = sum(tensor[0].numel() for tensor in tensors) + batch_size * kept
    return _equal_parts(runs, max(1, PART_BYTES // (numbers * tensors[0].element_size())))


def _equal_parts(runs: int, most: int) -> int:
    """Runs of each of the fewest parts that hold at most so many runs."""
    parts = -(-runs // most)
    return -(-runs // parts)


def _views(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    return {name: tensor[part] for name, tensor in tensors.items()}


def _zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
