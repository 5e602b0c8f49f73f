"""Imports the model named by `"package.module:model"`, and loads the weights of a checkpoint."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.user_code import import_named


def load_model(reference: str, checkpoint: Path | None = None) -> nn.Module:
    """Import a model, or call a function that returns a model, and load the weights of a checkpoint.

    Modules in the current folder can be imported.

    Args:
        reference: Name "package.module:name" of a model, or of a function without arguments that returns a model.
        checkpoint: A file that `torch.save(model.state_dict(), …)` wrote. Only tensors are read, and no code in the
            file is run.

    Returns:
        The model.

    Raises:
        BadInput: The name does not exist or is not a model, or the checkpoint does not fit the model.
    """
    module_name, separator, attribute = reference.partition(":")
    if not separator or not module_name or not attribute:
        raise BadInput("MODEL", "a model named as 'package.module:model'", repr(reference))
    model = import_named(reference, "MODEL")
    if model is None:
        raise BadInput("MODEL", f"a name {attribute!r} in module {module_name!r}", "none")
    if not isinstance(model, nn.Module) and callable(model):
        try:
            model = model()
        except Exception as error:  # the user's function may raise anything
            required = f"{reference} to be a model, or a function that needs no arguments and returns one"
            raise BadInput("MODEL", required, f"{type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise BadInput("MODEL", "a torch.nn.Module", type(model).__name__)
    if checkpoint is not None:
        _load(model, checkpoint)
    return model


def _load(model: nn.Module, path: Path) -> None:
    required = "a file that torch.save(model.state_dict(), ...) wrote for this model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles, which are refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(str(path), "a readable checkpoint", error.strerror) from None
    except Exception as error:  # a damaged or foreign file can raise almost anything
        raise BadInput(str(path), required, (str(error).strip().splitlines() or ["another file"])[0]) from None
    if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
        raise BadInput(str(path), required, type(state).__name__)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(str(path), required, " ".join(lines[1:2]) or "other tensors") from None


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor)
