"""Checks of a problem: weights are finite, batches are pairs, data repeat, and a copy computes with its parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.named_inputs import Inputs, NamedInputs, described

if TYPE_CHECKING:
    from noisescale.measure.problem import Batch, Data, Problem

_FORMS = "(inputs, targets) as tensors, or an iterable of such batches"

# Relative rounding error of a sum over the data, if the order of the data changes.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}


def lower_precision(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """Return float32 if a part is in float32: the whole is no more precise. Otherwise the first precision.

    Args:
        dtypes: Precisions of the parts, at least one.
    """
    dtypes = list(dtypes)
    return torch.float32 if torch.float32 in dtypes else dtypes[0]


def check_model(trained: dict[str, Tensor]) -> None:
    """Check the parameters that take a gradient.

    Args:
        trained: The parameters by name.

    Raises:
        BadInput: There is no such parameter, or a parameter is not finite, or is neither float32 nor float64.
    """
    if not trained:
        raise BadInput("model", "at least one parameter that takes a gradient", "none")
    not_finite = [name for name, tensor in trained.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise BadInput("model", "finite weights", f"NaN or infinity in {not_finite[0]}")
    dtypes = {tensor.dtype for tensor in trained.values()}
    if not dtypes <= {torch.float32, torch.float64}:
        raise BadInput("model", "parameters in float32 or float64", ", ".join(sorted(map(str, dtypes))))


def check_data(data: Data, dtypes: Collection[torch.dtype]) -> Data:
    """Return the data, or refuse data of an unknown form.

    Args:
        data: The data.
        dtypes: Precisions of the parameters.

    Raises:
        BadInput: The data are neither two tensors nor an iterable of batches, or they are empty.
    """
    if isinstance(data, tuple):
        if len(data) != 2 or not (isinstance(data[0], Tensor | Mapping) and isinstance(data[1], Tensor)):
            raise BadInput("data", _FORMS, "another tuple")
        return check_batch(data, dtypes)
    elif isinstance(data, Iterator):
        raise BadInput("data", "an iterable that can be used several times, e.g. a list of batches", "an iterator")
    elif not isinstance(data, Iterable):
        raise BadInput("data", _FORMS, type(data).__name__)
    elif not any(True for _ in data):
        raise BadInput("data", "at least one batch", "none")
    return data


def check_batch(batch: Any, dtypes: Collection[torch.dtype]) -> Batch:
    """Return the inputs and targets of a batch, or refuse a batch that does not fit the model.

    Args:
        batch: The batch.
        dtypes: Precisions of the parameters.

    Raises:
        BadInput: The batch is not a pair of tensors of equal length, is empty, or has another precision than the model.
    """
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)
    if not is_pair or any(_tensors(part) is None for part in batch):
        raise BadInput("data", _FORMS, f"a batch that is a {type(batch).__name__}")
    inputs = NamedInputs(batch[0]) if isinstance(batch[0], Mapping) else batch[0]
    targets = batch[1]
    if len(inputs) != len(targets) or not len(inputs):
        got = f"{len(inputs)} inputs and {len(targets)} targets"
        raise BadInput("data", "as many targets as inputs, at least one", got)
    for tensor in _tensors(inputs) or ():
        if tensor.is_floating_point() and tensor.dtype not in dtypes:
            precisions = " or ".join(sorted(map(str, dtypes)))
            raise BadInput("data", f"inputs in the model's precision, {precisions}", str(tensor.dtype))
    return inputs, targets


def _tensors(part: Any) -> list[Tensor] | None:
    """Return the tensors of inputs or targets, or None if they are no batch of tensors with one length."""
    tensors = [part[name] for name in part] if isinstance(part, Mapping) else [part]
    if not tensors or not all(isinstance(tensor, Tensor) and tensor.dim() for tensor in tensors):
        return None
    return tensors if len({len(tensor) for tensor in tensors}) == 1 else None


def check_repeatable(problem: Problem) -> None:
    """Check that two passes over the data give the same examples, and two forward passes the same outputs.

    Args:
        problem: The problem.

    Raises:
        BadInput: Examples or outputs change from pass to pass or are not finite, or the outputs of an example depend on
            its batch in mode "eval".
    """
    if not problem.examples:
        raise BadInput("data", "at least one example", "none")
    first_pass, second_pass = _fingerprint(problem), _fingerprint(problem)
    if not math.isfinite(first_pass):
        raise BadInput("data", "finite inputs and targets", "NaN or infinity")
    if not math.isclose(first_pass, second_pass, rel_tol=1e-9, abs_tol=1e-9):
        batches = " in the same batches, for mode 'train'" if problem.mode == "train" else ""
        required = f"the same examples in every pass{batches} (no random augmentation)"
        raise BadInput("data", required, "different examples in the second pass")
    inputs = next(iter(problem.batches()))[0]
    with torch.no_grad():
        outputs, repeated = (_outputs(problem, inputs) for _ in range(2))
        if outputs.dtype not in _ROUNDING:
            raise BadInput("model", "outputs in float32 or float64", str(outputs.dtype))
        if not torch.equal(outputs, repeated) and not torch.allclose(outputs, repeated, rtol=1e-4, equal_nan=True):
            required = "outputs that are the same in every pass; in training mode switch dropout off (p = 0)"
            raise BadInput("model", required, "outputs that differ between two passes")
        if not torch.isfinite(outputs).all():
            raise BadInput("model", "finite outputs on the data", "NaN or infinity")
        if problem.mode == "eval" and len(inputs) > 1:
            rounding = _ROUNDING[lower_precision([problem.point.dtype, outputs.dtype])]
            single, tolerance = _outputs(problem, inputs[:1]), 1e3 * rounding / 10
            if not torch.allclose(single, outputs[:1], rtol=tolerance, atol=tolerance * float(outputs.abs().max())):
                required = "outputs of an example that do not depend on its batch, in mode 'eval' (running statistics)"
                raise BadInput("model", required, "outputs that depend on the batch")


def check_copied(problem: Problem, original: nn.Module) -> None:
    """Check that neither the copied model nor the loss computes with parameters of the original.

    Args:
        problem: The problem, which holds the copy.
        original: The model that was copied.

    Raises:
        BadInput: Outputs of the copy, or the loss, have a gradient at a parameter of the original.
    """
    names = {id(parameter): name for name, parameter in original.named_parameters()}
    inputs, targets = next(iter(problem.batches()))
    with torch.enable_grad():
        # The parameters of the copy are replaced by tensors without gradients, so they are not among the leaves.
        outputs = _outputs(problem, inputs)
    for leaf in _leaves(outputs):
        if id(leaf) in names:
            required = "a module that computes with its own layers (self) also when it is copied by copy.deepcopy"
            name = names[id(leaf)]
            got = f"a copy that computes with {name} of the original, as a lambda or another closure over a layer does"
            raise BadInput("model", required, got)
    try:
        with torch.enable_grad():
            loss = problem.loss_of_outputs(outputs.detach(), targets)
    except Exception:  # the loss is checked later, with a message
        return
    for leaf in _leaves(loss) if isinstance(loss, Tensor) else ():
        if id(leaf) in names:
            required = "a loss of outputs and targets alone, without a penalty on the weights"
            raise BadInput("loss", required, f"a loss that computes with {names[id(leaf)]} of the model")


def _leaves(outputs: Tensor) -> Iterator[Tensor]:
    """Yield the tensors at which a backward pass from the outputs would accumulate gradients."""
    seen, waiting = set(), [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        waiting += [following for following, _ in node.next_functions]


def _outputs(problem: Problem, inputs: Inputs) -> Tensor:
    try:
        return problem.outputs(problem.point, inputs)
    except BadInput:
        raise
    except Exception as error:  # the user's model may raise anything
        line = (str(error).strip().splitlines() or [""])[0]
        required = f"a model of inputs of shape {described(inputs)}"
        raise BadInput("model", required, f"{type(error).__name__}: {line}") from None


def _fingerprint(problem: Problem) -> float:
    """Return a number that depends on all examples and, in mode "train", on their batches, but not on their order."""
    total = 0.0
    for batch in problem.batches():
        parts = [tensor for part in batch for tensor in _tensors(part) or ()]
        parts = [torch.view_as_real(part.resolve_conj()) if part.is_complex() else part for part in parts]
        parts = [part.detach().cpu().double() for part in parts]
        rows = [part.flatten(1) if part.dim() > 1 else part[:, None] for part in parts]
        marks = torch.zeros(len(rows[0]), dtype=torch.float64)
        for row in rows:
            generator = torch.Generator().manual_seed(row.shape[1])
            marks += torch.cos(row @ torch.randn(row.shape[1], generator=generator, dtype=torch.float64))
            marks = torch.cos(3 * marks)
        sum_of_batch = float(marks.sum())
        total += math.cos(sum_of_batch) if problem.mode == "train" else sum_of_batch
    return total
