"""A factory whose modules start from the weights of a file, for fine-tuning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.custom import Factory
from noisescale.families.weight_files import read_weights, select_weights
from noisescale.input_shapes import InputShape

_KEY, _PATTERNS_KEY = "model.checkpoint", "model.reinitialize"
# Largest number of names that a message lists.
_MOST_NAMES = 5


def file_digest(path: Path) -> str:
    """Return the digest of the content of a file, 32 hexadecimal digits.

    Args:
        path: The file.

    Raises:
        BadInput: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise BadInput(_KEY, "a readable file of weights", f"{path} ({error.strerror})") from None


@dataclass(frozen=True)
class PretrainedFactory:
    """A factory whose modules have the weights of a file, except those that are drawn anew.

    The weights that match a pattern of `reinitialize` keep the values that the factory draws from the seed.

    Args:
        factory: The factory of the module.
        width: The width of the file's model. Modules of other widths keep their values.
        path: The file.
        digest: The digest of its content, from `file_digest`.
        reinitialize: Patterns of names, as `fnmatch` reads them.
    """

    factory: Factory
    width: int
    path: Path
    digest: str
    reinitialize: tuple[str, ...] = ()

    def __call__(self, width: int, input_shape: InputShape, num_classes: int) -> nn.Module:
        """Build the module and load the weights.

        Args:
            width: Width of the model.
            input_shape: Shape of one example.
            num_classes: Number of outputs.

        Raises:
            BadInput: The file has changed, its names or shapes do not match, or a pattern matches nothing.
        """
        module = self.factory(width, input_shape, num_classes)
        if width == self.width:
            self._load(module)
        return module

    def _load(self, module: nn.Module) -> None:
        tensors = {
            name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)
        }
        anew = {name for name in tensors if self._is_anew(name)}
        names = [name for name in tensors if name not in anew]
        weights = select_weights(_read(self.path, self.digest), names, self.path) if names else {}
        for pattern in self.reinitialize:
            if not any(fnmatchcase(name, pattern) for name in (*tensors, *weights)):
                raise BadInput(_PATTERNS_KEY, f"patterns that match a weight: {_listed(list(tensors))}", repr(pattern))
        missing = [name for name in names if name not in weights]
        others = [name for name in weights if name not in tensors and not self._is_anew(name)]
        if missing:
            required = f"weights with the names of the model, or {_PATTERNS_KEY} for those that start anew"
            raise BadInput(_KEY, required, f"no {_listed(missing)}; the file has {_listed(list(weights))}")
        if others:
            required = f"weights of this model only, or {_PATTERNS_KEY} for those that are not used"
            raise BadInput(_KEY, required, f"also {_listed(others)}")
        differing = [name for name in names if weights[name].shape != tensors[name].shape]
        if differing:
            required, got = (
                ", ".join(f"{name} {tuple(values[name].shape)}" for name in differing[:_MOST_NAMES])
                for values in (tensors, weights)
            )
            raise BadInput(_KEY, f"weights with the shapes of the model: {required}", got)
        broken = [name for name in names if not bool(torch.isfinite(weights[name]).all())]
        if broken:
            raise BadInput(_KEY, "finite weights", f"NaN or infinity in {_listed(broken)}")
        with torch.no_grad():
            for name in names:
                tensors[name].copy_(weights[name])

    def _is_anew(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.reinitialize)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


@lru_cache(maxsize=2)
def _read(path: Path, digest: str) -> dict[str, Tensor]:
    if (got := file_digest(path)) != digest:
        raise BadInput(_KEY, f"the file with which the sweep was planned, digest {digest}", f"{path}, digest {got}")
    try:
        return read_weights(path)
    except BadInput as error:
        raise BadInput(_KEY, error.required, f"{error.name}: {error.got}") from None
