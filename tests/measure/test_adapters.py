"""The monitor in Lightning and in the Hugging Face Trainer: the values are right, and training does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from noisescale import measure
from noisescale.errors import BadInput

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),  # These libraries warn about the machine.
]
STEPS, EVERY, BATCH = 80, 5, 16


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(STEPS * BATCH, 6, generator=generator)
    targets = (inputs[:, :3] + torch.randn(STEPS * BATCH, 3, generator=generator)).argmax(1)
    return list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))


def by_hand(monitored: bool = True) -> tuple[nn.Module, measure.MonitoredNoise | None]:
    model, loss = network(), nn.CrossEntropyLoss()
    monitor = measure.NoiseMonitor(model, loss, every=EVERY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for inputs, targets in batches():
        if monitored:
            monitor.update(inputs, targets)
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    return model, monitor.estimate()


def same(estimate: measure.MonitoredNoise | None, model: nn.Module) -> None:
    expected_model, expected = by_hand()
    plain, _ = by_hand(monitored=False)
    assert estimate is not None and expected is not None
    assert estimate.gradient_noise_scale.value == pytest.approx(expected.gradient_noise_scale.value, rel=1e-4)
    assert estimate.trace_covariance.interval == pytest.approx(expected.trace_covariance.interval, rel=1e-4)
    assert (estimate.step, estimate.measurements) == (expected.step, expected.measurements) == (STEPS, STEPS // EVERY)
    triples = zip(model.parameters(), expected_model.parameters(), plain.parameters(), strict=True)
    for monitored, hand, without in triples:
        torch.testing.assert_close(monitored, hand)
        assert torch.equal(hand, without)


def test_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning")
    from noisescale.measure.lightning import NoiseCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    inputs, targets = (torch.cat(part) for part in zip(*batches(), strict=True))
    module, callback = Module(), NoiseCallback(nn.CrossEntropyLoss(), every=EVERY)
    assert callback.estimate() is None
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(inputs, targets), batch_size=BATCH))
    same(callback.estimate(), module.net)
    logged = trainer.callback_metrics
    now = callback.estimate()
    assert now is not None
    assert float(logged["gradient_noise_scale"]) == pytest.approx(now.gradient_noise_scale.value, rel=1e-5)


@pytest.mark.parametrize(
    ("trained", "accumulated", "reason"), [(True, 2, "accumulate_grad_batches is 2"), (False, 1, "takes a gradient")]
)
def test_lightning_trains_on_where_nothing_can_be_measured(
    trained: bool, accumulated: int, reason: str, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning")
    from noisescale.measure.lightning import NoiseCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network().requires_grad_(trained)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor | None:
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            return loss if trained else None

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    inputs, targets = (torch.cat(part) for part in zip(*batches(), strict=True))
    callback = NoiseCallback(nn.CrossEntropyLoss(), every=EVERY)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        accumulate_grad_batches=accumulated,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=reason):
        trainer.fit(Module(), DataLoader(TensorDataset(inputs, targets), batch_size=BATCH))
    assert trainer.global_step >= STEPS // accumulated or not trained
    assert callback.estimate() is None


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.inputs, self.targets = (torch.cat(part) for part in zip(*batches(), strict=True))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"x": self.inputs[place], "labels": self.targets[place]}


class WithLoss(nn.Module):
    """A model that returns its loss, like the models of the library."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.net(x)
        return {"loss": nn.functional.cross_entropy(outputs, labels), "logits": outputs}


def test_hugging_face(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="needs accelerate")
    from noisescale.measure.huggingface import watch

    class InOrder(transformers.Trainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.train_dataset, batch_size=BATCH)

    def make(**changes: Any) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=STEPS, per_device_train_batch_size=BATCH, use_cpu=True,
            report_to=[], save_strategy="no", disable_tqdm=True, max_grad_norm=0.0, logging_steps=1000, **changes,
        )  # fmt: skip
        model = WithLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        return InOrder(model=model, args=arguments, train_dataset=Rows(), optimizers=(optimizer, constant))

    trainer = make()
    monitor = watch(trainer, every=EVERY)
    trainer.train()
    same(monitor.estimate(), trainer.model.net)
    logged = [row["gradient_noise_scale"] for row in trainer.state.log_history if "gradient_noise_scale" in row]
    assert len(logged) == STEPS // EVERY - 5
    with pytest.raises(BadInput, match="gradient_accumulation_steps"):
        watch(make(gradient_accumulation_steps=2))
