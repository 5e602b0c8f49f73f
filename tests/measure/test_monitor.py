"""The monitor does not change training, and its interval has the right coverage while the parameters drift."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from networks import make_case
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure import NoiseMonitor

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
    assert not monitor.update(torch.randn(3, SIZE), torch.zeros(3))  # The batch has fewer examples than parts.
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
