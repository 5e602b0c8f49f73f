"""The model that `"package.module:model"` names, with the weights of a checkpoint."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import import_named


def load_model(reference: str, checkpoint: Path | None = None) -> nn.Module:
    """Import a module, or call a factory without arguments; the current folder is importable.

    Args:
        reference: "package.module:name".
        checkpoint: A file that `torch.save(model.state_dict(), …)` wrote; only tensors are read from it, nothing in it
            is executed.

    Raises:
        BadInput: Nothing of that name, something that is no model, or weights that are none of this model's.
    """
    module_name, separator, attribute = reference.partition(":")
    if not separator or not module_name or not attribute:
        raise BadInput("MODEL", "a model named as 'package.module:model'", repr(reference))
    found = import_named(reference, "MODEL")
    if found is None:
        raise BadInput("MODEL", f"a name {attribute!r} in module {module_name!r}", "none")
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:  # so may a factory
            required = f"{reference} to be a model, or a function that needs no arguments and returns one"
            raise BadInput("MODEL", required, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise BadInput("MODEL", "a torch.nn.Module", type(found).__name__)
    if checkpoint is not None:
        _load(found, checkpoint)
    return found


def _load(model: nn.Module, path: Path) -> None:
    required = "a file that torch.save(model.state_dict(), ...) wrote for this model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it will refuse anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(str(path), "a readable checkpoint", error.strerror) from None
    except Exception as error:  # a damaged or foreign file can raise almost anything
        raise BadInput(str(path), required, (str(error).strip().splitlines() or ["something else"])[0]) from None
    if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
        raise BadInput(str(path), required, type(state).__name__)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(str(path), required, " ".join(lines[1:2]) or "other tensors") from None


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor)
