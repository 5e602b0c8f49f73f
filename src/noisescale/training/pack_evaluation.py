"""The evaluation of a pack: its metrics on each split of the data, with the batch statistics that the runs specify."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.named_inputs import Inputs, in_precision, mapped
from noisescale.parameterizations import stream
from noisescale.runs import Run
from noisescale.training.evaluation import chunk_of, evaluate
from noisescale.training.exact_statistics import exact_statistics
from noisescale.training.kernels import Kernel, Tensors
from noisescale.training.metrics import metrics_of
from noisescale.training.objectives import Objective
from noisescale.training.split import Split
from noisescale.training.state import PackState
from noisescale.user_code import preserved_process

# Number of training examples on which stability runs are evaluated. They only show whether a run collapses, and for
# this it is enough to distinguish an accuracy of 0.1 from 0.13. The examples are drawn at random, because a user's
# arrays may be sorted by class.
STABILITY_EXAMPLES = 1000


def move_splits(
    runs: Sequence[Run], dataset: Dataset, objective: Objective, device: str, dtype: torch.dtype
) -> dict[str, Split]:
    """Move the splits of the data that the runs need to the device.

    Args:
        runs: The runs of a pack. Stability runs need only the training set.
        dataset: The data.
        objective: What the runs minimize.
        device: Name of the device: "cpu", "cuda", …
        dtype: Precision of inputs and real-valued targets.

    Returns:
        The splits that are not empty, by name.
    """
    parts = {"train": (dataset.x_train, dataset.y_train)}
    if runs[0].purpose != "stability":
        parts["validation"] = (dataset.x_validation, dataset.y_validation)
        parts["test"] = (dataset.x_test, dataset.y_test)
    splits = {}
    for name, (inputs, targets) in parts.items():
        if len(inputs):
            encoded = objective.encoded(targets, dataset.num_classes, dtype).to(device)
            labels = targets.to(device) if not targets.is_floating_point() else None
            if multi_label := runs[0].loss == "binary_cross_entropy":
                labels = encoded.long()
            moved = mapped(in_precision(inputs, dtype), lambda tensor: tensor.to(device))
            splits[name] = Split(moved, encoded, labels, runs[0].ignore_index, multi_label, dataset.num_classes)
    return splits


class PackEvaluation:
    """Evaluates the runs of a pack.

    Args:
        run: Any run of the pack.
        splits: The splits of the data, on the device.
        module: The module of the pack. To compute exact statistics, the parameters of each run are loaded into it.
        kernel: The kernel that computes outputs.
        objective: What the runs minimize.
        numbers: Number of elements in the widest activation of one example.
    """

    def __init__(
        self, run: Run, splits: dict[str, Split], module: nn.Module, kernel: Kernel, objective: Objective, numbers: int
    ) -> None:
        self._exact = run.batch_statistics == "exact"
        self._train, self._module, self._kernel, self._numbers = splits["train"], module, kernel, numbers
        self._metrics = metrics_of(objective, run.metrics)
        self.splits = dict(splits)
        if run.purpose == "stability":
            self.splits = {"train": _random_part(self._train, run, STABILITY_EXAMPLES)}
        elif _are_tokens(self._train.inputs) and "test" in splits:
            # A text has far more windows than an evaluation needs.
            self.splits["train"] = _random_part(self._train, run, len(splits["test"].inputs))

    def of_state(self, state: PackState) -> tuple[dict[str, Tensor], Tensors]:
        """Evaluate the current parameters.

        Args:
            state: The state of the pack.

        Returns:
            The metrics by name, shape [R] each, NaN for frozen runs; and the buffers that were used.
        """
        buffers = self.exact_buffers(state, state.parameters) if self._exact else state.buffers
        return self._evaluate(state, state.parameters, buffers), buffers

    def of_averages(self, state: PackState) -> dict[str, Tensor]:
        """Evaluate the averages of the iterates. Their batch statistics are computed, because no iterate has them."""
        return self._evaluate(state, state.averages, self.exact_buffers(state, state.averages))

    def exact_buffers(self, state: PackState, parameters: Tensors) -> Tensors:
        """Return the buffers, with the statistics of batch normalization computed over the whole training set."""
        buffers = {name: buffer.clone() for name, buffer in state.buffers.items()}
        chunk = chunk_of(self._numbers, self._train.inputs)
        for run in torch.nonzero(~state.frozen).flatten().tolist() if buffers else ():
            with torch.no_grad():
                for name, tensor in (*self._module.named_parameters(), *self._module.named_buffers()):
                    if (values := parameters.get(name, buffers.get(name))) is not None:
                        tensor.copy_(values[run])
            with preserved_process():
                statistics = exact_statistics(self._module, self._train.inputs, chunk)
            for name, values in statistics.items():
                buffers[name][run] = values
        return buffers

    def _evaluate(self, state: PackState, parameters: Tensors, buffers: Tensors) -> dict[str, Tensor]:
        values = {}
        for name, split in self.splits.items():
            metrics = evaluate(self._kernel, self._metrics, parameters, buffers, split, self._numbers)
            for metric, value in metrics.items():
                value[state.frozen] = torch.nan
                values[f"{name}_{metric}"] = value.cpu()
        return values


def _are_tokens(inputs: Inputs) -> bool:
    return isinstance(inputs, Tensor) and not inputs.is_floating_point()


def _random_part(train: Split, run: Run, examples: int) -> Split:
    """Return a random part of the training set, on which runs are evaluated."""
    index = torch.randperm(len(train.inputs), generator=stream(run.data_seed, "stability examples"))
    if (counted := train.counted) is not None:  # examples without any label that counts measure nothing
        index = index[counted.reshape(len(counted), -1).any(1).cpu()[index]]
    return train.take(index[:examples].to(train.inputs.device))
