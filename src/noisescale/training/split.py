"""One part of the data (training, validation or test examples) on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from noisescale.named_inputs import Inputs, wide


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data on the device.

    Args:
        inputs: Inputs, shape [M, …], or several tensors by name. Tokens may be stored in few bits.
        targets: Targets in the form that the objective takes: rows [M, K], or labels [M] or [M, T].
        labels: Class labels, shape [M] or [M, T], or labels of 0 and 1 for several classes at once, shape [M, K]. None
            if the targets are real values.
        ignore_index: Label of the targets that do not count; None if all count.
        multi_label: Whether an example may belong to several classes.
        num_classes: Number of outputs for a label; None if it is one more than the largest label.
    """

    inputs: Inputs
    targets: Tensor
    labels: Tensor | None
    ignore_index: int | None = None
    multi_label: bool = False
    num_classes: int | None = None

    def take(self, index: Tensor | slice) -> Split:
        """Return the examples that an index tensor [n] or a slice selects. Whole numbers become 64-bit numbers."""
        labels = None if self.labels is None else wide(self.labels[index])
        inputs, targets = wide(self.inputs[index]), wide(self.targets[index])
        return Split(inputs, targets, labels, self.ignore_index, self.multi_label, self.num_classes)

    def batch(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Return the inputs and the targets of examples, shape [n, …] each.

        Args:
            index: Numbers of the examples, shape [n].
        """
        return wide(self.inputs.index_select(0, index)), wide(self.targets.index_select(0, index))

    @property
    def counted(self) -> Tensor | None:
        """Whether each label counts, of the shape of the labels; None if all count."""
        return None if self.ignore_index is None or self.labels is None else self.labels != self.ignore_index
