"""The metrics of all runs of a pack on an evaluation set, in chunks that limit the memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from noisescale.named_inputs import Inputs
from noisescale.training.kernels import Kernel, Tensors
from noisescale.training.metrics import Metric
from noisescale.training.split import Split

# Target for the number of elements in the widest activation of a chunk: 512 KiB in float32. At widths 32 and 256,
# chunks of 512 to 2048 examples were fastest.
_CHUNK_ELEMENTS = 131_072
_MIN_CHUNK = 64
# Limit on the elements in the widest activation of a chunk on a CPU: 64 MiB in float32. A chunk holds at least one
# example.
_MAX_ELEMENTS_ON_CPU = 2**24
# The factor by which chunks are larger on a GPU, because small chunks leave a GPU idle.
_GPU_CHUNK_FACTOR = 256


def chunk_of(numbers: int, inputs: Inputs) -> int:
    """Return the number of examples in a chunk, i.e. in one forward pass.

    Args:
        numbers: Number of elements in the widest activation of one example.
        inputs: The inputs, shape [M, …]. Only their device is used.
    """
    fast = max(_MIN_CHUNK, _CHUNK_ELEMENTS * (_GPU_CHUNK_FACTOR if inputs.is_cuda else 1) // numbers)
    return fast if inputs.is_cuda else max(1, min(fast, _MAX_ELEMENTS_ON_CPU // numbers))


def evaluate(
    kernel: Kernel, metrics: Mapping[str, Metric], parameters: Tensors, buffers: Tensors, split: Split, numbers: int
) -> dict[str, Tensor]:
    """Evaluate every run on the same examples.

    Args:
        kernel: The kernel that computes the outputs.
        metrics: The metrics by name.
        parameters: Parameters by name, shape [R, …] each.
        buffers: Buffers by name, shape [R, …] each.
        split: The M examples.
        numbers: Number of elements in the widest activation of one example. It determines the size of a chunk.

    Returns:
        The values by metric name, shape [R] each, in float64. They are NaN if the metric needs class labels and the
        targets are real values.
    """
    runs = next(iter(parameters.values())).shape[0]
    examples = len(split.inputs)
    # A CPU evaluates one run at a time, because the activations of a chunk then stay in the cache. A GPU evaluates as
    # many runs at once as keep it busy.
    runs_at_once = max(1, chunk_of(numbers, split.inputs) // max(examples, 1)) if split.inputs.is_cuda else 1
    chunk = chunk_of(numbers * runs_at_once, split.inputs)
    usable = {name: metric for name, metric in metrics.items() if split.labels is not None or not metric.needs_classes}
    values = {name: torch.full((runs,), torch.nan, dtype=torch.float64, device=split.inputs.device) for name in metrics}
    set_metrics = {name: metric.of_set for name, metric in usable.items() if metric.of_set is not None}
    with torch.no_grad():
        for first_run in range(0, runs, runs_at_once):
            part = slice(first_run, first_run + runs_at_once)
            weights, moving = ({name: t[part] for name, t in tensors.items()} for tensors in (parameters, buffers))
            outputs_of_set: list[Tensor] = []
            sums: dict[str, list[Tensor]] = {name: [] for name, metric in usable.items() if metric.sums is not None}
            for start in range(0, examples, chunk):
                examined = split.take(slice(start, start + chunk))
                outputs = kernel.outputs(weights, moving, examined.inputs)
                for name, parts in sums.items():
                    parts.append(_sums(usable[name], outputs, examined))
                if set_metrics:
                    outputs_of_set.append(outputs)
            for name, parts in sums.items():
                values[name][part] = usable[name].of_sums(torch.stack(parts).sum(0)).double()
            for name, compute in set_metrics.items():
                values[name][part] = compute(torch.cat(outputs_of_set, 1), split.take(slice(None))).double()
    return values


def _sums(metric: Metric, outputs: Tensor, split: Split) -> Tensor:
    assert metric.sums is not None
    return metric.sums(outputs, split)
