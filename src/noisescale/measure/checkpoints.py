"""Imports the model named by `"package.module:model"`, and loads the weights of a checkpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from noisescale.errors import BadInput, one_line
from noisescale.families import Factory, build, copy_module, read_weights, select_output, select_weights
from noisescale.input_shapes import InputShape
from noisescale.user_code import contained, import_named


def load_model(
    reference: str,
    checkpoint: Path | None = None,
    *,
    key: str | None = None,
    width: int | None = None,
    data: tuple[InputShape, int] | None = None,
    outputs: str | None = None,
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
        outputs: Key, attribute or index of the entry of the model's outputs that the loss takes. None for a model that
            returns a tensor.

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
    # A copy, because the model belongs to the user's module.
    return model if outputs is None else select_output(copy_module(model), outputs, "--outputs")


def _called(function: Any, reference: str, width: int | None, data: tuple[InputShape, int] | None) -> Any:
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
    weights = select_weights(
        read_weights(path, key), list(model.state_dict()), path, "; --key names the part of the file"
    )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(str(path), "weights of this model", " ".join(lines[1:2]) or "other tensors") from None
