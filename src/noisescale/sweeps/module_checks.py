"""Checks that the results of a user's module follow from the seed of a run, before anything is trained.

A factory must build the same module from the same seed. Outputs and gradients must depend on the parameters, the
buffers, the inputs and the random generators alone, not on earlier passes. So a run depends neither on the runs that
train beside it, nor on the worker that trains it, nor on trials before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput, one_line
from noisescale.families import check_replaced, copy_module, equal_tensors, in_mode
from noisescale.named_inputs import Inputs
from noisescale.seeding import seeded
from noisescale.sweeps.module_state import are_numbers, attributes, changed, move_counters
from noisescale.sweeps.shared_memory import check_memory
from noisescale.user_code import contained, preserved_process

# Builds a module from a seed.
Build = Callable[[int], nn.Module]

_KEY = "model.family"
# Passes in a row. A state that matters only later is found where it counts passes (see `_LATER`).
_PASSES = 8
# Numbers of further passes after which a module that counts its passes must still compute the same.
_LATER = (100, 10_001, 1_000_000)
# Passes in a row after that, as many as take no longer than the seconds where no state is seen to change.
_MANY, _SECONDS = 128, 0.5
# What happens every k passes happens at this number of passes, for many k: 2⁷·3²·5⁴·7·11·13.
_COMMON_MULTIPLE = 720_720_000
# Relative difference between the values of tensors in these checks and those in the module.
_APART = 1e-3
# Passes around that number, because a module may count before or after it computes.
_AROUND = 2


def check_factory(build: Build) -> list[str]:
    """Check that the seed alone decides which module a factory builds.

    Args:
        build: Builds a module from a seed.

    Returns:
        Notes for the user.

    Raises:
        BadInput: Equal seeds build unequal modules, modules share tensors, or have other parameters at every call.
    """
    modules = [build(0), build(0), build(1)]
    first, second, other = (_tensors(module) for module in modules)
    parameters = [name for name, _ in modules[0].named_parameters()]
    for tensors in (second, other):
        if first.keys() != tensors.keys() or any(first[name].shape != tensors[name].shape for name in first):
            raise BadInput(_KEY, "a factory whose modules have the same parameters at every call", "other ones")
        # A constant buffer may be shared. A shared parameter would give all seeds one start.
        shared = [
            name for name in parameters if first[name].numel() and first[name].data_ptr() == tensors[name].data_ptr()
        ]
        if shared:
            raise BadInput(_KEY, "a factory that builds a new module at every call", f"the same tensor {shared[0]}")
    differing = [name for name in first if not equal_tensors(first[name], second[name])]
    if differing:
        required = "a factory that builds the same module from the same seed of torch's, NumPy's and Python's generator"
        raise BadInput(_KEY, required, f"other values of {differing[0]}")
    if all(equal_tensors(first[name], other[name]) for name in parameters):
        return ["the factory gives every seed the same initial weights"]
    return []


def check_growth(build_at: Callable[[int], nn.Module], widths: Sequence[int]) -> None:
    """Check that a module grows with width.

    Args:
        build_at: Builds a module of a width.
        widths: The widths of the spec.

    Raises:
        BadInput: Modules of two widths have equal shapes.
    """
    shapes: dict[tuple[torch.Size, ...], int] = {}
    for width in widths:
        key = tuple(parameter.shape for parameter in build_at(width).parameters())
        if key in shapes:
            required = "one width, or a factory whose modules grow with width"
            raise BadInput("grid.width", required, f"modules of equal shapes at widths {shapes[key]} and {width}")
        shapes[key] = width


def check_passes(build: Build, inputs: Inputs, others: Inputs) -> list[str]:
    """Check that forward passes with equal seeds and equal values give equal outputs, whatever was computed before.

    Outputs may differ by rounding, because some operations add numbers in another order each time.

    Args:
        build: Builds a module from a seed.
        inputs: A batch, shape [B, …].
        others: Another batch.

    Returns:
        Notes for the user.

    Raises:
        BadInput: Outputs depend on earlier passes or on the seed of the factory, or are random in evaluation mode.
    """
    try:
        with contained():
            return _check_passes(build, inputs, others)
    except BadInput:
        raise
    except Exception as error:  # a user's module may raise anything
        raise BadInput(_KEY, "a module that can be trained and evaluated", one_line(error)) from error


def _check_passes(build: Build, inputs: Inputs, others: Inputs) -> list[str]:
    fresh, used = build(0), build(0)
    start = _start(fresh)
    of_training = _pass(fresh, start, inputs, True)
    expected = [*of_training, *_pass(fresh, start, inputs, False)]
    _check_evaluation(build(0), inputs)
    exact = True
    for seed in (0, 1):
        outputs = _both(build(seed), start, inputs)
        if not _same(expected, outputs):
            required = "a factory whose modules differ in nothing but parameters and buffers (register_buffer)"
            got = "other outputs or gradients from the same parameters and buffers"
            raise BadInput(_KEY, required, f"{got}, {'at the second call' if seed == 0 else 'with another seed'}")
        exact = exact and all(equal_tensors(*pair) for pair in zip(expected, outputs, strict=True))
    check_memory(build(0), start, lambda module: _pass(module, start, inputs, True))
    states = [attributes(used)]
    for _ in range(_PASSES):
        outputs = _pass(used, start, inputs, True)
        states.append(attributes(used))
        if not _same(of_training, outputs):
            raise _depends(states, "in training mode")
        exact = exact and all(equal_tensors(*pair) for pair in zip(of_training, outputs, strict=True))
    # Another run, with other weights and other examples, in a module that has served a run before.
    weights = {name: tensor.clone() for name, tensor in _tensors(build(1)).items()}
    for training in (True, False):
        if not _same(*(_pass(module, weights, others, training) for module in (used, build(0)))):
            raise _depends(states, "in training mode" if training else "in evaluation mode")
    if not _same(*(_both(module, weights, others) for module in (build(0), copy_module(build(0))))):
        required = "a module that computes with its own layers (self) also when it is copied by copy.deepcopy"
        got = "a copy that computes with layers of the original, as a lambda or another closure over a layer does"
        raise BadInput(_KEY, required, got)
    moving = changed(states[-2], states[-1])
    if moving:
        _check_later(used, states, lambda module, training: _pass(module, start, inputs, training))
    began, patient = time.perf_counter(), not are_numbers(moving, states[-1])
    for _ in range(_MANY):
        if not _same(of_training, _pass(used, start, inputs, True)):
            raise _depends([*states, attributes(used)], f"within {_MANY} passes")
        if not patient and time.perf_counter() - began > _SECONDS:
            break
    return [] if exact else ["equal passes of the model differ by rounding: its results are not repeatable to the bit"]


def _check_later(
    used: nn.Module, states: list[dict[str, object]], compute: Callable[[nn.Module, bool], list[Tensor]]
) -> None:
    """Check that a module which counts its passes computes the same after many more of them."""
    expected = {training: compute(copy_module(used), training) for training in (True, False)}
    before = attributes(used)
    compute(used, True)
    after = attributes(used)
    for passes in _LATER:
        later = copy_module(used)
        move_counters(later, before, after, lambda _, passes=passes: passes)  # type: ignore[misc]
        if not all(_same(expected[training], compute(later, training)) for training in (True, False)):
            raise _depends(states, f"after {passes} further passes")
    later = copy_module(used)
    move_counters(later, before, after, lambda done: _COMMON_MULTIPLE - _AROUND - round(done))
    if not all(_same(expected[True], compute(later, True)) for _ in range(2 * _AROUND)):
        raise _depends(states, "every so many passes")


def check_later_modules(build: Build, wider: Callable[[], object], inputs: Inputs) -> None:
    """Check that a module computes the same after another one is built.

    Args:
        build: Builds a module from a seed.
        wider: Builds a module of another width.
        inputs: A batch, shape [B, …].

    Raises:
        BadInput: It does not.
    """
    module = build(0)
    start = _start(module)
    with contained():
        expected = _both(module, start, inputs)
        if not _same(expected, _both(module, start, inputs)):
            required = "a module that computes the same whenever it goes into training or evaluation mode"
            raise BadInput(_KEY, required, "other outputs or weights the second time, as of weights that eval() merges")
        wider()
        if not _same(expected, _both(module, start, inputs)):
            required = "a module that computes the same after the factory has built a module of another width"
            raise BadInput(_KEY, required, "other outputs, as of a module that reads a global which the factory sets")


def _check_evaluation(module: nn.Module, inputs: Inputs) -> None:
    """Check that outputs in evaluation mode do not depend on the seed of the generators."""
    outputs = []
    for seed in (0, 0, 1):
        with preserved_process(), torch.no_grad(), seeded(seed):
            outputs.append(in_mode(module, training=False)(inputs.clone()))
    if _same(outputs[:1], outputs[1:2]) and not _same(outputs[1:2], outputs[2:]):
        required = "a module without random numbers in evaluation mode (dropout with training=self.training)"
        raise BadInput(_KEY, required, "outputs that depend on the random seed")


def _depends(states: list[dict[str, object]], when: str) -> BadInput:
    """Return the error for outputs that depend on earlier passes, with the attribute that keeps the state."""
    paths = changed(states[-2], states[-1]) if len(states) > 2 else []
    paths = paths or changed(states[0], states[-1])
    where = f"a state in {paths[0]}" if paths else "a state outside the module, or random numbers of another generator"
    required = "a module whose outputs do not depend on earlier passes, except through buffers (register_buffer)"
    return BadInput(_KEY, required, f"{where}, which changes the outputs or the gradients {when}")


def _both(module: nn.Module, values: dict[str, Tensor], inputs: Inputs) -> list[Tensor]:
    """Compute a pass in training mode and one in evaluation mode."""
    return [tensor for training in (True, False) for tensor in _pass(module, values, inputs, training)]


def _pass(module: nn.Module, values: dict[str, Tensor], inputs: Inputs, training: bool) -> list[Tensor]:
    """Compute one pass from given values of parameters and buffers, with the generators at a fixed seed.

    Returns:
        The outputs, the parameters and buffers after the pass, and in training mode the gradients of the sum of the
        outputs' squares.
    """
    module.zero_grad()
    parameters = dict(module.named_parameters())
    with preserved_process(), seeded(0):
        _check_names(module, values)
        for name, tensor in _named(module):
            # A copy into the tensor would need a buffer of the same shape whose entries lie apart in memory.
            tensor.data = values[name].clone()
        try:
            with torch.set_grad_enabled(training):
                outputs = in_mode(module, training)(inputs.clone())
                if not isinstance(outputs, Tensor):
                    required = f"outputs that are one tensor in {'training' if training else 'evaluation'} mode"
                    raise BadInput(_KEY, required, f"a {type(outputs).__name__}")
                if outputs.requires_grad:
                    outputs.square().sum().backward()  # type: ignore[no-untyped-call]
        except BadInput:
            raise
        except Exception as error:  # a user's module may raise anything
            raise BadInput(_KEY, "a module that can be trained and evaluated", one_line(error)) from error
        _check_names(module, values)
        for name, buffer in module.named_buffers():
            check_replaced(name, values[name], buffer)
            if buffer.layout != torch.strided and not equal_tensors(values[name], buffer):
                raise BadInput(_KEY, "a module whose sparse buffers stay as they are", f"{name}, which a pass changes")
    for name, parameter in module.named_parameters():
        if parameter is not parameters[name]:
            required = "a module that keeps its parameters (weight.copy_ changes the values)"
            raise BadInput(_KEY, required, f"another tensor in the place of {name} after a pass")
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return [outputs.detach().clone(), *(tensor.detach().clone() for _, tensor in _named(module)), *gradients]


def _check_names(module: nn.Module, values: dict[str, Tensor]) -> None:
    names = [name for name, _ in _named(module)]
    differing = [name for name in {**values, **dict.fromkeys(names)} if name not in values or name not in names]
    if differing:
        required = "a module that registers its parameters and buffers in its first pass in each mode, and keeps them"
        raise BadInput(_KEY, required, differing[0])


def _start(module: nn.Module) -> dict[str, Tensor]:
    """Return values of the parameters and buffers near those of the module, with no two tensors equal.

    A copy of one tensor to another would not be seen if both had the same values.
    """
    tensors = _tensors(module)
    return {
        name: tensor * (1 + _APART * (place + 1) / len(tensors)) if tensor.is_floating_point() else tensor.clone()
        for place, (name, tensor) in enumerate(tensors.items())
    }


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in _named(module)}


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _same(tensors: list[Tensor], others: list[Tensor]) -> bool:
    pairs = zip(tensors, others, strict=False)
    return len(tensors) == len(others) and all(equal_tensors(*pair, rounding=True) for pair in pairs)
