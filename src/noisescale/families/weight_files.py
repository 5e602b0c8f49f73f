"""Weights by name in files that torch or a training tool wrote."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisescale.errors import BadInput, one_line

# Keys under which training tools store the weights in a checkpoint: Lightning, Hugging Face's trainers, timm, and
# scripts.
_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")


def read_weights(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a file, possibly under a key. Only tensors are read, and no code in the file is run.

    Args:
        path: The file.
        key: Key of the weights in the file. Default: the file itself, or a key that training tools use.

    Returns:
        The tensors by name.

    Raises:
        BadInput: The file cannot be read, or holds no weights by name.
    """
    stored = _read(path)
    if key is not None:
        if not isinstance(stored, Mapping) or key not in stored:
            keys = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
            raise BadInput("--key", f"a key of {path}", keys)
        stored = stored[key]
    elif isinstance(stored, Mapping) and not _are_weights(stored):
        known = [name for name in _KEYS if _are_weights(stored.get(name))]
        if len(known) != 1:
            keys = ", ".join(map(str, stored))
            raise BadInput(str(path), "weights by name; --key names where they are", f"the keys {keys}")
        stored = stored[known[0]]
    if not _are_weights(stored):
        raise BadInput(str(path), "weights by name", type(stored).__name__)
    return dict(stored)


def select_weights(weights: dict[str, Tensor], names: Sequence[str], path: Path, advice: str = "") -> dict[str, Tensor]:
    """Return the weights under the names of a model, if the file has them with a prefix before all names.

    A wrapper for several devices adds "module.", torch.compile "_orig_mod.", and a training module the name of the
    model in it. Such a module may hold further weights, e.g. of its loss.

    Args:
        weights: The weights of the file.
        names: The names of the model's weights.
        path: The file, for messages.
        advice: What helps if the file has several sets of these weights.

    Returns:
        The weights without the prefix; all weights of the file if no prefix fits.

    Raises:
        BadInput: Several prefixes fit.
    """
    if set(names) <= weights.keys():
        return weights
    candidates = [name.removesuffix(names[0]) for name in weights if name.endswith(names[0])]
    complete = {prefix for prefix in candidates if all(prefix + name in weights for name in names)}
    prefixes = sorted(prefix for prefix in complete if prefix.endswith("."))
    if len(prefixes) > 1:
        raise BadInput(str(path), f"one set of weights of this model{advice}", f"several, under {', '.join(prefixes)}")
    return {name: weights[prefixes[0] + name] for name in names} if prefixes else weights


def _read(path: Path) -> Any:
    required = "a file of weights, as torch.save(model.state_dict(), path) or a training tool wrote it"
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles, which are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(str(path), "a readable checkpoint", error.strerror or one_line(error)) from None
    except BadInput:
        raise
    except Exception as error:  # a damaged or foreign file can raise almost anything
        # For a file with other objects than tensors, torch's message advises to run what the file holds.
        foreign = type(error).__name__ == "UnpicklingError"
        got = "something else, such as a whole pickled module or a text" if foreign else one_line(error)
        raise BadInput(str(path), required, got) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise BadInput(str(path), "the package safetensors, to read this file", "none") from None
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _are_weights(values: Any) -> bool:
    is_mapping = isinstance(values, Mapping) and len(values) > 0
    return is_mapping and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items())
