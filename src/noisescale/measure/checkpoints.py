"""Imports the model named by `"package.module:model"`, and loads the weights of a checkpoint."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput, one_line
from noisescale.families import Factory, build
from noisescale.user_code import contained, import_named

# Keys under which training tools store the weights in a checkpoint: Lightning, Hugging Face's trainers, timm, and
# scripts.
_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")


def load_model(
    reference: str,
    checkpoint: Path | None = None,
    *,
    key: str | None = None,
    width: int | None = None,
    data: tuple[tuple[int, ...], int] | None = None,
) -> nn.Module:
    """Import a model, or call a function that returns a model, and load the weights of a checkpoint.

    Modules in the current folder can be imported.

    Args:
        reference: Name "package.module:name" of a model, of a function without arguments that returns a model, or of a
            factory `(width, input_shape, num_classes) -> nn.Module`, as a sweep takes it.
        checkpoint: A file of weights by name, possibly under a key. Only tensors are read, and no code in the file is
            run.
        key: Key of the weights in the file. Default: the file itself, or a key that training tools use.
        width: Width, for a factory.
        data: Shape of one example and number of outputs, for a factory.

    Returns:
        The model.

    Raises:
        BadInput: The name does not exist or is not a model, or the checkpoint does not fit the model.
    """
    found = import_named(reference, "MODEL")
    model = found if isinstance(found, nn.Module) else _called(found, reference, width, data)
    if not isinstance(model, nn.Module):
        raise BadInput("MODEL", "a torch.nn.Module", type(model).__name__)
    if checkpoint is not None:
        _load(model, checkpoint, key)
    return model


def _called(function: Any, reference: str, width: int | None, data: tuple[tuple[int, ...], int] | None) -> Any:
    if not callable(function):
        return function
    try:
        inspect.signature(function).bind()
        takes_width = width is not None
    except (TypeError, ValueError):
        takes_width = True
    if takes_width and (width is None or data is None):
        required = f"--width, because {reference} takes (width, input_shape, num_classes)"
        raise BadInput("MODEL", required, "none")
    try:
        with contained():
            if takes_width and width is not None and data is not None:
                factory: Factory = function
                return build(factory, width, *data, 0)
            return function()
    except Exception as error:  # the user's function may raise anything
        required = f"{reference} to be a model, or a function that returns one"
        raise BadInput("MODEL", required, one_line(error)) from error


def _load(model: nn.Module, path: Path, key: str | None) -> None:
    weights = _weights(_read(path), path, key)
    names = list(model.state_dict())
    prefixes = [] if set(names) <= weights.keys() else _prefixes(names, weights)
    if len(prefixes) > 1:
        required = "one set of weights of this model; --key names the part of the file"
        raise BadInput(str(path), required, f"several, under {', '.join(prefixes)}")
    if prefixes:
        weights = {name: weights[prefixes[0] + name] for name in names}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(str(path), "weights of this model", " ".join(lines[1:2]) or "other tensors") from None


def _prefixes(names: Sequence[str], weights: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes before the names of all weights of a model.

    A wrapper for several devices adds "module.", torch.compile "_orig_mod.", and a training module the name of the
    model in it. Such a module may hold further weights, e.g. of its loss.
    """
    candidates = [name.removesuffix(names[0]) for name in weights if name.endswith(names[0])] if names else []
    complete = {prefix for prefix in candidates if all(prefix + name in weights for name in names)}
    return sorted(prefix for prefix in complete if prefix.endswith("."))


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
        raise BadInput(str(path), required, one_line(error)) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise BadInput(str(path), "the package safetensors, to read this file", "none") from None
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _weights(stored: Any, path: Path, key: str | None) -> dict[str, Tensor]:
    if key is not None:
        if not isinstance(stored, Mapping) or key not in stored:
            keys = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
            raise BadInput("--key", f"a key of {path}", keys)
        stored = stored[key]
    elif isinstance(stored, Mapping) and not _are_weights(stored):
        found = [name for name in _KEYS if _are_weights(stored.get(name))]
        if len(found) != 1:
            keys = ", ".join(map(str, stored))
            raise BadInput(str(path), "weights by name; --key names where they are", f"the keys {keys}")
        stored = stored[found[0]]
    if not _are_weights(stored):
        raise BadInput(str(path), "weights by name", type(stored).__name__)
    return dict(stored)


def _are_weights(values: Any) -> bool:
    is_mapping = isinstance(values, Mapping) and len(values) > 0
    return is_mapping and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items())
