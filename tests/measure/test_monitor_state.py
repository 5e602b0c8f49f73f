"""What a forward pass changes is, after a monitored step, as without the monitor: trainings are equal to the bit."""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections import OrderedDict, UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisescale.measure import NoiseMonitor
from noisescale.measure.preserved_state import preserved_state


class Teacher(nn.Module):
    """Follows the weights of a student by a moving average, and is part of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(6, 3), nn.Linear(6, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.teacher.weight.data.mul_(0.9).add_(self.student.weight.data, alpha=0.1)
        return self.student(x) + self.teacher(x).tanh()


class Decays(nn.Module):
    """Shrinks its weight in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.95)
        return x @ self.weight.T


class Renormalizes(Decays):
    """Replaces the memory of its weight in every pass."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(1.2 * self.weight.data, 2, 0, 1.0)
        return x @ self.weight.T


class Unfreezes(Teacher):
    """Trains a layer from its third pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.teacher.requires_grad_(self.passes > 2)
        return super().forward(x)


class Inner(Teacher):
    """Computes gradients within the pass, and keeps them in `grad`."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self.student(x).square().mean().backward()
        gradient = self.student.weight.grad
        assert gradient is not None
        return self.student(x) + 0.1 * x @ gradient.T


class Slots:
    __slots__ = ("calls", "later")

    def __init__(self) -> None:
        self.calls = 0


class SlotsAndMore(Slots):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []


class Entries(list[int]):
    calls = 0


def counting(holder: Any, at: Callable[[Any], Any]) -> Callable[[], nn.Module]:
    """Return the builder of a module that counts its passes in an object that a holder leads to."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.holder = nn.Linear(6, 3), copy.deepcopy(holder)

        def forward(self, x: Tensor) -> Tensor:
            counts = at(self.holder)
            counts.calls += 1
            counts.later = counts.calls / 2
            return self.layer(x) / counts.calls + counts.later

    return Counting


class Hooked(nn.Module):
    """A hook keeps what it has seen in a closure, and another is a method of an object."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, calls, means = nn.Linear(6, 3), 0, [0.0]
        tracker = SlotsAndMore()

        def hook(module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            means.append(float(outputs.detach().mean()))
            tracker.calls += 1
            return outputs / calls + sum(means) / len(means)

        self.layer.register_forward_hook(hook)
        self.layer.register_forward_hook(self.tracked(tracker))

    def tracked(self, tracker: SlotsAndMore) -> Any:
        class Tracker:
            def __init__(self) -> None:
                self.tracker = tracker

            def hook(self, module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
                self.tracker.seen.append(self.tracker.calls)
                return outputs + 0.1 * sum(self.tracker.seen)

        return Tracker().hook

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Ordered(nn.Module):
    """Rotates the keys of a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scales = nn.Linear(6, 3), OrderedDict(a=1.0, b=2.0, c=3.0)

    def forward(self, x: Tensor) -> Tensor:
        first = next(iter(self.scales))
        self.scales.move_to_end(first)
        return self.layer(x) * self.scales[first]


KINDS: dict[str, Callable[[], nn.Module]] = {
    **{kind.__name__: kind for kind in (Teacher, Decays, Renormalizes, Unfreezes, Inner, Hooked, Ordered)},
    "namespace": counting(SimpleNamespace(calls=0), lambda holder: holder),
    "slots": counting(Slots(), lambda holder: holder),
    "slots and a dictionary": counting([SlotsAndMore()], lambda holder: holder[0]),
    "nested": counting(
        [(SimpleNamespace(inner=UserDict(last=SlotsAndMore())),)], lambda holder: holder[0][0].inner["last"]
    ),
    "subclass of a list": counting({"entries": Entries([1])}, lambda holder: holder["entries"]),
}


def train(build: Callable[[], nn.Module], order: str) -> list[Tensor]:
    """Train a few steps, with the monitor after the forward pass ("between"), before it ("before") or not at all."""
    torch.manual_seed(0)
    x, y, model = torch.randn(96, 6), torch.randint(3, (96,)), build()
    monitor = NoiseMonitor(model, nn.CrossEntropyLoss(), every=1)
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], 0.1)
    losses = []
    for start in (0, 32, 64) * 2:
        batch = x[start : start + 32], y[start : start + 32]
        if order == "before":
            assert monitor.update(*batch)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        if order == "between":
            assert monitor.update(*batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(parameter.detach() for parameter in model.parameters())]


@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("order", ["before", "between"])
def test_training_is_the_same_to_the_bit(build: Callable[[], nn.Module], order: str) -> None:
    plain, watched = train(build, ""), train(build, order)
    assert all(torch.equal(*pair) for pair in zip(plain, watched, strict=True))


def test_a_loss_that_counts_its_calls_is_restored() -> None:
    class Loss:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return nn.functional.cross_entropy(outputs, targets) / self.calls

        def method(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return self(outputs, targets)

    for loss in (Loss(), Loss().method):
        assert NoiseMonitor(nn.Linear(6, 3), loss, every=1).update(torch.randn(8, 6), torch.zeros(8, dtype=torch.long))
        assert getattr(loss, "__self__", loss).calls == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("changed", [Renormalizes, Decays, Teacher])
def test_memory_and_versions_of_tensors_stay(changed: Callable[[], nn.Module]) -> None:
    model = changed()
    tensors = list(model.parameters())
    before = [(tensor.data_ptr(), tensor._version, tensor.detach().clone()) for tensor in tensors]
    for _ in range(2):
        with preserved_state(model):
            model(torch.randn(4, 6))
        for tensor, (address, version, entries) in zip(tensors, before, strict=True):
            assert (tensor.data_ptr(), tensor._version) == (address, version) and torch.equal(tensor, entries)


@pytest.mark.parametrize(
    ("start", "end"), [(0.0, -0.0), (-0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf")), (2j, 1.0), (True, False)]
)
def test_every_bit_is_restored(start: complex, end: complex) -> None:
    model = nn.Module()
    for name, shape in (("matrix", (2, 3)), ("number", ())):
        model.register_buffer(name, torch.full(shape, start))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with preserved_state(model):
        for buffer in model.buffers():
            buffer.fill_(end)
    for name, buffer in model.named_buffers():
        assert buffer.numpy().tobytes() == before[name].numpy().tobytes() and buffer._version == 0


def test_a_tensor_that_has_not_changed_is_not_written_to() -> None:
    class Writes(TorchFunctionMode):
        count = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += function is Tensor.copy_
            return function(*args, **(kwargs or {}))

    model: Any = nn.BatchNorm1d(3)
    model.kept = torch.full((3,), float("nan"))
    with Writes() as writes, preserved_state(model):
        model.eval()(torch.randn(4, 3))
    assert writes.count == 0
    with Writes() as writes, preserved_state(model):
        model.train()(torch.randn(4, 3))
    assert writes.count == 3  # the mean, the variance and the number of batches


def test_objects_of_packages_are_left_alone() -> None:
    """They may be the trainer, whose threads go on."""
    model = nn.Linear(6, 3)
    model.optimizer = torch.optim.SGD(model.parameters(), 0.1)  # type: ignore[assignment]
    with preserved_state(model):
        model.optimizer.other = 3  # type: ignore[union-attr]
    assert model.optimizer.other == 3  # type: ignore[union-attr]


def test_a_lazy_layer_is_measured_after_its_first_pass() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    batch = torch.randn(8, 6), torch.zeros(8, dtype=torch.long)
    monitor = NoiseMonitor(model, nn.CrossEntropyLoss(), every=1)
    with pytest.warns(UserWarning, match="skips batches before the first pass of a model with lazy layers"):
        assert not monitor.update(*batch)
    model(batch[0])
    assert monitor.update(*batch)


class Prefetcher:
    """Loads batches in another thread."""

    def __init__(self) -> None:
        self.lock, self.batches = threading.Lock(), [1]


class Crowded:
    """Holds a long list and a large tensor."""

    def __init__(self) -> None:
        self.numbers, self.data = list(range(200_000)), torch.zeros(2_000_000)


class SlotsWithFallback:
    __slots__ = ("calls",)

    def __getattr__(self, name: str) -> int:
        return 0


def test_objects_of_threads_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    model.loader = Prefetcher()  # type: ignore[assignment]
    with preserved_state(model):
        model.loader.batches.append(2)  # type: ignore[union-attr,operator]
    assert model.loader.batches == [1, 2]  # type: ignore[union-attr]


def test_large_contents_of_objects_are_not_copied() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    model.trainer = Crowded()  # type: ignore[assignment]
    began = time.perf_counter()
    for _ in range(20):
        with preserved_state(model):
            pass
    assert time.perf_counter() - began < 2.0


def test_slots_that_are_not_set_stay_so() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    model.state = SlotsWithFallback()  # type: ignore[assignment]
    with preserved_state(model):
        model.state.calls = 3  # type: ignore[union-attr]
    with preserved_state(model):
        pass
    assert model.state.calls == 0  # type: ignore[union-attr]


def counting(outputs: torch.Tensor, targets: torch.Tensor, cache: dict[str, int] = {}) -> torch.Tensor:  # noqa: B006
    cache["calls"] = cache.get("calls", 0) + 1
    counting.calls += 1  # type: ignore[attr-defined]
    return nn.functional.cross_entropy(outputs, targets)


counting.calls = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_partial", [False, True])
def test_what_functions_hold_is_restored(is_partial: bool) -> None:
    calls: dict[str, int] = {"calls": 0}
    loss = functools.partial(counting, cache=calls) if is_partial else counting
    model = nn.Linear(6, 3)
    monitor = NoiseMonitor(model, loss, every=1)
    assert monitor.update(torch.randn(8, 6), torch.arange(8) % 3)
    assert counting.calls == 0 and calls == {"calls": 0}  # type: ignore[attr-defined]
    assert counting.__defaults__ == ({},)


def test_settings_of_the_process_are_restored() -> None:
    class Sets(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(x)
            torch.set_default_dtype(torch.float64)
            return outputs

    monitor = NoiseMonitor(Sets(6, 3), nn.CrossEntropyLoss(), every=1)
    assert monitor.update(torch.randn(8, 6), torch.arange(8) % 3)
    assert torch.get_default_dtype() == torch.float32
