"""The monitor does not change training, and its interval has the right coverage while the parameters drift."""

from __future__ import annotations

import copy
import random
import warnings
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from networks import make_case
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure import NoiseMonitor, gradient_noise

SIZE = 30


class Rows(nn.Module):
    """Outputs θ·x, so that the gradient of an example's output is x."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(SIZE))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.theta


def output(outputs: Tensor, _targets: Tensor) -> Tensor:
    return outputs.mean()


@pytest.mark.parametrize("network", ["mlp", "convnet, batch"])
def test_training_is_the_same_to_the_bit_with_and_without_the_monitor(network: str) -> None:
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        case = make_case(network)
        model = nn.Sequential(case.model, nn.Dropout(0.3)).train()
        monitor = NoiseMonitor(model, case.loss, every=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            case.loss(model(case.inputs), case.targets).backward()
            if watched:
                monitor.update(case.inputs, case.targets)
            optimizer.step()
        ends.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.parametrize("drift", [0.0, 1.5])
def test_intervals_cover_while_the_gradient_drifts(drift: float) -> None:
    """Yield batches of known mean and covariance. The norm of the mean falls by the share `drift` over the window."""
    generator, hits, bounded, draws = torch.Generator().manual_seed(3), np.zeros(3), 0, 120
    for _ in range(draws):
        monitor = NoiseMonitor(Rows(), output, every=1)
        for step in range(40):
            level = 0.3 * (1 + drift * (39 - step) / 39)
            batch = level + torch.randn(64, SIZE, generator=generator)
            monitor.update(batch, batch[:, 0])
        estimate = monitor.estimate()
        assert estimate is not None and estimate.measurements == 32 and estimate.step == 40
        truth = np.array([SIZE, 0.09 * SIZE, 1 / 0.09])
        estimates = estimate.trace_covariance, estimate.gradient_norm_squared, estimate.gradient_noise_scale
        hits += [end.low <= value <= end.high for end, value in zip(estimates, truth, strict=True)]
        bounded += np.isfinite(estimate.gradient_noise_scale.high)
    assert (hits / draws > 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)).all()
    assert bounded == draws


def test_it_measures_at_regular_steps_and_estimates_after_enough_measurements() -> None:
    monitor = NoiseMonitor(Rows(), output, every=5)
    measured = [monitor.update(torch.randn(8, SIZE), torch.zeros(8)) for _ in range(29)]
    assert [place for place, is_measured in enumerate(measured, 1) if is_measured] == [5, 10, 15, 20, 25]
    assert monitor.estimate() is None
    with pytest.warns(UserWarning, match="3 examples, which is fewer than the 4 parts"):
        assert not monitor.update(torch.randn(3, SIZE), torch.zeros(3))
    for _ in range(5):
        monitor.update(torch.randn(8, SIZE), torch.zeros(8))
    assert monitor.estimate() is not None


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(BadInput, match="every"):
        NoiseMonitor(Rows(), output, every=0)
    with pytest.raises(BadInput, match="parts"):
        NoiseMonitor(Rows(), output, parts=1)
    model = Rows()
    model.theta.requires_grad_(False)
    with pytest.raises(BadInput, match="model"):
        NoiseMonitor(model, output)


class Counts(nn.Module):
    """Keeps a state in a number, a list, and tensors that are replaced or changed in place, and registers a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.calls, self.seen, self.mean, self.sum = 0, [0.0], torch.zeros(8), torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.register_buffer("scale", torch.ones(8))
        hidden = self.first(x).relu()
        self.kept = hidden
        self.calls += 1
        self.seen.append(float(hidden.detach().mean()))
        self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        self.sum += hidden.detach().mean(0) / self.calls
        noise = np.random.default_rng(len(self.seen)).normal() + np.random.normal()  # noqa: NPY002
        return self.last((hidden - self.mean - 0.01 * self.sum) * self.scale) + 0.01 * noise * sum(self.seen)


class Remembers(nn.Module):
    """A recurrent layer that goes on where the last batch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 3)
        self.memory: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        state = self.memory.get("state")
        out, new = self.layer(
            x.reshape(len(x), 2, 3), state if state is not None and state.shape[1] == len(x) else None
        )
        self.memory["state"] = new.detach()
        return self.last(out[:, -1])


class Containers(nn.Module):
    """Keeps a state in a queue, an array, a set, a generator, and containers inside containers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.queue: deque[float] = deque([0.0], maxlen=5)
        self.array, self.seen = np.zeros(8), set[int]()
        self.nested: dict[str, Any] = {"lists": [[0.0], (torch.zeros(8), {"calls": 0})]}
        self.generators = (np.random.default_rng(0), torch.Generator().manual_seed(0), random.Random(0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        mean = hidden.detach().mean(0)
        lists, (total, counts) = self.nested["lists"]
        counts["calls"] += 1
        self.queue.append(float(mean.sum()))
        self.array += mean.numpy()
        self.seen.add(counts["calls"])
        lists.append(float(mean[0]))
        total += mean
        numpy_generator, torch_generator, python_generator = self.generators
        noise = numpy_generator.normal() + python_generator.gauss() + float(torch.randn(1, generator=torch_generator))
        shift = 0.01 * (sum(self.queue) + self.array.sum() + len(self.seen) + sum(lists) + float(total.sum()) + noise)
        return self.last(hidden + shift)


@pytest.mark.parametrize("kind", [Counts, Remembers, Containers])
@pytest.mark.parametrize("between", [False, True])
def test_a_state_in_attributes_stays_as_without_the_monitor(kind: type[nn.Module], between: bool) -> None:
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        x, y, model = torch.randn(96, 6), torch.randint(3, (96,)), kind()
        monitor, optimizer = (
            NoiseMonitor(model, nn.CrossEntropyLoss(), every=1),
            torch.optim.SGD(model.parameters(), 0.1),
        )
        for start in (0, 32, 64) * 3:
            batch = x[start : start + 32], y[start : start + 32]
            if watched and not between:
                assert monitor.update(*batch)
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            if watched and between:
                assert monitor.update(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append([*model.parameters(), *model.buffers()])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_a_batch_that_cannot_be_measured_is_named_once_and_training_goes_on() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    monitor = NoiseMonitor(model, nn.CrossEntropyLoss(), every=1)
    with pytest.warns(UserWarning, match=r"skips a batch of 4 examples in 4 parts: ValueError: Expected more than 1"):
        assert not monitor.update(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not monitor.update(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    with pytest.warns(UserWarning, match=r"not batches of tensors \(list and Tensor\); `update_by`"):
        assert not monitor.update([torch.randn(8, 6)], torch.zeros(8))  # type: ignore[arg-type]
    assert monitor.update(torch.randn(8, 6), torch.zeros(8, dtype=torch.long))
    assert model.training


def test_a_model_and_a_loss_cannot_change_the_batch() -> None:
    class InPlace(Rows):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(0.5))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.add_(1.0)).square().mean()

    inputs, targets = torch.randn(8, SIZE), torch.zeros(8)
    before = inputs.clone()
    assert NoiseMonitor(InPlace(), loss, every=1).update(inputs, targets)
    assert torch.equal(inputs, before) and not targets.any()


def test_sparse_gradients_are_measured_as_dense_ones() -> None:
    traces = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3))
        monitor = NoiseMonitor(model, nn.CrossEntropyLoss(), every=1)
        for _ in range(8):
            assert monitor.update(torch.randint(5, (16, 2)), torch.randint(3, (16,)))
        noise = monitor.estimate()
        assert noise is not None
        traces.append(noise.trace_covariance.value)
    assert traces[1] == pytest.approx(traces[0], rel=1e-6)


class Language(nn.Module):
    """Predicts the next of 6 tokens at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last = nn.Embedding(6, 8), nn.Linear(8, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(torch.tanh(self.embed(tokens)))  # type: ignore[no-any-return]


def loss_of_tokens(outputs: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())


def test_a_loop_on_tokens() -> None:
    """Without a change of the weights, the monitor's values are those of all sequences, within its interval."""
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randint(6, (400, 9), generator=generator)
    inputs, targets = sequences[:, :-1], sequences[:, 1:]
    torch.manual_seed(0)
    model = Language()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = NoiseMonitor(model, loss_of_tokens, every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(64):
            batch = torch.randint(400, (32,), generator=generator)
            optimizer.zero_grad()
            loss_of_tokens(model(inputs[batch]), targets[batch]).backward()
            monitor.update(inputs[batch], targets[batch])
            optimizer.step()
    estimate, exact = monitor.estimate(), gradient_noise(model, loss_of_tokens, (inputs, targets))
    assert estimate is not None and estimate.measurements == 32
    for quantity in ("trace_covariance", "gradient_norm_squared"):
        interval = getattr(estimate, quantity)
        assert interval.low < getattr(exact, quantity).value < interval.high
    assert estimate.trace_covariance.standard_error < 0.2 * estimate.trace_covariance.value
