"""The metrics of a whole pack on a whole evaluation set, in chunks that bound memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from noisescale.training.kernels import Kernel, Tensors
from noisescale.training.metrics import Metric, Split

# Numbers in the widest activation of one chunk (512 KiB in float32): between 512 and 2048 rows measured fastest at
# widths 32 and 256.
_CHUNK_ELEMENTS = 131_072
_SMALLEST_CHUNK = 64
# The most numbers in a chunk's widest activation at any speed, 64 MiB in float32; one example always passes.
_MOST_ELEMENTS = 2**24
# A GPU has no such cache and is idle on small chunks.
_GPU_TIMES = 256


def chunk_of(numbers: int, inputs: Tensor) -> int:
    """Return how many examples pass at once.

    Args:
        numbers: Numbers in the widest activation of one example.
        inputs: The inputs, [M, …], for their device.
    """
    fast = max(_SMALLEST_CHUNK, _CHUNK_ELEMENTS * (_GPU_TIMES if inputs.is_cuda else 1) // numbers)
    return fast if inputs.is_cuda else max(1, min(fast, _MOST_ELEMENTS // numbers))


def evaluate(
    kernel: Kernel, metrics: Mapping[str, Metric], parameters: Tensors, buffers: Tensors, split: Split, numbers: int
) -> dict[str, Tensor]:
    """Evaluate every run on the same examples.

    Args:
        kernel: Computes the outputs.
        metrics: The metrics, by name.
        parameters: [R, …] each.
        buffers: [R, …] each.
        split: M examples.
        numbers: Numbers in the widest activation of one example, which sizes the chunks.

    Returns:
        Values [R] in float64 by metric, NaN where a metric needs class labels and targets are real values.
    """
    runs = next(iter(parameters.values())).shape[0]
    examples = split.inputs.shape[0]
    # One run at a time on a core: the chunk's activations then stay in the cache, which measured faster than whole
    # packs. A GPU takes as many runs at once as fill it.
    together = max(1, chunk_of(numbers, split.inputs) // max(examples, 1)) if split.inputs.is_cuda else 1
    chunk = chunk_of(numbers * together, split.inputs)
    usable = {name: metric for name, metric in metrics.items() if split.labels is not None or not metric.needs_classes}
    values = {
        name: torch.full((runs,), 0.0 if name in usable else torch.nan, dtype=torch.float64, device=split.inputs.device)
        for name in metrics
    }
    whole = {name: metric.of_set for name, metric in usable.items() if metric.of_set is not None}
    with torch.no_grad():
        for first in range(0, runs, together):
            part = slice(first, first + together)
            weights, moving = ({name: t[part] for name, t in tensors.items()} for tensors in (parameters, buffers))
            outputs_of_set = []
            for start in range(0, examples, chunk):
                examined = split.take(slice(start, start + chunk))
                outputs = kernel.outputs(weights, moving, examined.inputs)
                for name, metric in usable.items():
                    if metric.of_examples is not None:
                        values[name][part] += metric.of_examples(outputs, examined).sum(1)
                if whole:
                    outputs_of_set.append(outputs)
            for name, of_set in whole.items():
                values[name][part] = of_set(torch.cat(outputs_of_set, 1), split).double()
    return {name: value if name in whole else value / examples for name, value in values.items()}
