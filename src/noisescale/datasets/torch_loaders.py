"""The items of a user's torch data set or loader, and what of a loader is not used.

Training draws its batches itself, so that a run depends on its seed alone. Of a loader it takes the data set, the
collate function, and the examples of a sampler of a subset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
    default_convert,
)

from noisescale.errors import BadInput, one_line

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True, eq=False)
class Items:
    """The items of a torch data set.

    Args:
        name: Name for messages, such as "data:function train".
        data: The data set.
        collate: The function that puts items together, if the user gave one.
        notes: What of a loader is not used.
    """

    name: str
    data: Dataset[Any]
    collate: Collate | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.data, IterableDataset):
            yield from islice(self.data, len(self) + 1)  # one more shows that the length is wrong
        else:
            for index in range(len(self)):
                yield self[index]

    def some(self, number: int) -> dict[int, Any]:
        """Return the first items by their index and, where items have an index, as many spread over the others."""
        if isinstance(self.data, IterableDataset):
            return dict(enumerate(islice(self.data, number)))
        length = len(self)
        spread = range(number, length, max(1, (length - number) // number))
        return {index: self[index] for index in (*range(min(number, length)), *spread)}

    def __getitem__(self, index: int) -> Any:
        try:
            return self.data[index]
        except IndexError as error:  # as an iteration it would end here without a word
            required = f"as many items as its length states, {len(self)}"
            raise BadInput(self.name, required, f"none of index {index}") from error


def is_torch_data(value: object) -> bool:
    """Return whether a value is a torch data set or a loader.

    Args:
        value: What a user's function returned.
    """
    return isinstance(value, Dataset | DataLoader)


def items_of(value: Any, name: str) -> Items:
    """Return the items of a torch data set or of a loader, with notes about the loader.

    Args:
        value: The data set or the loader.
        name: Its name, for messages.

    Raises:
        BadInput: It has no length.
    """
    collate, notes, data = None, [], value
    if isinstance(value, DataLoader):
        data, sampler = value.dataset, getattr(value.batch_sampler, "sampler", value.sampler)
        if value.collate_fn not in (default_collate, default_convert):
            collate = value.collate_fn
        if isinstance(sampler, SubsetRandomSampler):
            data = Subset(data, list(sampler.indices))
        notes = [f"{name}: {note}" for note in _loader_notes(value, sampler)]
    try:
        length = len(data)
    except Exception as error:  # a user's class may raise anything
        raise BadInput(name, "a data set with a length (`__len__`)", one_line(error)) from error
    if length < 1:
        raise BadInput(name, "a data set with at least one item", length)
    return Items(name, data, collate, tuple(notes))


def _loader_notes(loader: DataLoader[Any], sampler: object) -> list[str]:
    """Say what of a loader is not used, because training draws its batches itself."""
    if isinstance(loader.dataset, IterableDataset):
        notes = []
    elif isinstance(sampler, WeightedRandomSampler):
        notes = ["the weights of its sampler are not used; every example is drawn equally often"]
    elif isinstance(sampler, SubsetRandomSampler):
        notes = ["the examples of its sampler are used, in the order of training.sampling"]
    elif isinstance(sampler, RandomSampler):
        notes = ["its shuffle is not used; training.sampling states the order of examples"]
        if sampler.replacement or sampler.num_samples != len(sampler.data_source):
            notes.append("its replacement and number of samples are not used; all examples are, equally often")
    elif isinstance(sampler, SequentialSampler):
        notes = []
    else:
        notes = [f"its sampler {type(sampler).__name__} is not used; all examples are, equally often"]
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        notes.append(f"its batch sampler {type(loader.batch_sampler).__name__} is not used")
    if loader.drop_last:
        notes.append("its drop_last is not used; all examples are read")
    return notes
