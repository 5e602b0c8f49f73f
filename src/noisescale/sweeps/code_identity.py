"""The identity of the user's code in a study: what it is, its record in the folder, and how two differ.

Runs of different models or data must not be pooled. So the digest of every file of the user, the names and shapes of
the parameters, and the outputs on fixed inputs are recorded with the first runs, and compared before further ones.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput, one_line
from noisescale.families import Factory, build, in_mode
from noisescale.named_inputs import wide
from noisescale.seeding import seeded
from noisescale.store import read_record, write_atomically
from noisescale.sweeps.reached_code import classes_of
from noisescale.sweeps.session_code import session_digests
from noisescale.sweeps.user_modules import code_digests, file_of, is_path, modules_of
from noisescale.user_code import contained

CODE = "code.json"

# Largest relative difference between outputs of equal code. Versions of libraries and machines differ by rounding.
_TOLERANCE = 1e-5
_EXAMPLES, _MOST_OUTPUTS = 2, 64


@dataclass(frozen=True)
class CodeIdentity:
    """The identity of the code that a run imports.

    Args:
        files: Digest of each module of the user, by name.
        width: Width at which the module was built.
        shapes: Shape of each parameter at this width, by name.
        outputs: First outputs of the module of seed 0 on the first examples, in evaluation mode and in training mode.
    """

    files: Mapping[str, str]
    width: int
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[float, ...]

    @property
    def digest(self) -> str:
        """The digest of all of these, 16 hexadecimal digits."""
        text = json.dumps([self.files, self.width, self.shapes, self.outputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def difference(self, other: CodeIdentity) -> str | None:
        """Describe how another identity at the same width differs. None if it is the same code.

        Args:
            other: The identity of the code as it is now.
        """
        # A file without a name counts only where the module now uses it: a process may have passed it less often.
        files = {name: digest for name, digest in self.files.items() if name in other.files or not is_path(name)}
        names = [name for name in {**files, **other.files} if files.get(name) != other.files.get(name)]
        if names:
            return ", ".join(f"other code in {file_of(name)}" for name in names)
        if self.shapes != other.shapes:
            return f"other parameters at width {self.width}"
        scale = max((abs(output) for output in self.outputs if math.isfinite(output)), default=0.0)
        if len(self.outputs) != len(other.outputs) or not all(
            abs(a - b) <= _TOLERANCE * scale if math.isfinite(a) and math.isfinite(b) else repr(a) == repr(b)
            for a, b in zip(self.outputs, other.outputs, strict=True)
        ):
            return f"other outputs of the module of width {self.width} and seed 0 on the first examples"
        return None


def identify(references: Sequence[str], factory: Factory, width: int, data: Dataset) -> CodeIdentity:
    """Return the identity of the code as it is now.

    Args:
        references: Names of the model and of the data in the spec. Those of this package have no code of the user.
        factory: A function `(width, input_shape, num_classes) -> nn.Module`.
        width: A width.
        data: The data.

    Raises:
        BadInput: The module raises an error.
    """
    module = build(factory, width, data.input_shape, data.num_classes, 0)
    outputs = _outputs(in_mode(module, training=False), data)
    with suppress(BadInput):  # a module may need larger batches in training mode
        outputs += _outputs(in_mode(module, training=True), data)
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    names, classes = modules_of(*references), classes_of(module)
    functions = [_named(reference) for reference in references if ":" in reference]
    files = {**code_digests(names, classes), **session_digests([*functions, *classes])}
    return CodeIdentity(files, width, shapes, tuple(outputs))


def _outputs(module: nn.Module, data: Dataset) -> list[float]:
    try:
        with torch.no_grad(), seeded(0), contained():
            values: list[float] = (
                module(wide(data.x_train[:_EXAMPLES]).clone()).flatten()[:_MOST_OUTPUTS].double().tolist()
            )
    except Exception as error:  # a user's module may raise anything
        raise BadInput("model.family", "a module that can be evaluated", one_line(error)) from error
    return values


def _named(reference: str) -> object:
    module, _, name = reference.partition(":")
    return getattr(sys.modules.get(module), name, None)


def read_identities(folder: Path) -> list[CodeIdentity]:
    """Read the identities of the code of a folder's runs, oldest first.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: The record is damaged.
    """
    required = "the code's identity as a sweep wrote it; without the file the same `noisescale sweep` writes it again"
    return read_record(folder / CODE, required, lambda values: [_identity(value) for value in values]) or []


def write_identities(folder: Path, identities: Sequence[CodeIdentity]) -> None:
    """Write the record of a folder.

    Args:
        folder: The folder of the sweep.
        identities: The identities, oldest first.
    """
    text = json.dumps([asdict(identity) for identity in identities], indent=1)
    write_atomically(folder / CODE, lambda file: file.write(text.encode()))


def accepted_identity(
    known: Sequence[CodeIdentity], identify_at: Callable[[int], CodeIdentity], width: int, *, accept: bool
) -> CodeIdentity:
    """Return the identity under which further runs train.

    Args:
        known: The identities of a folder's runs, oldest first.
        identify_at: Returns the identity of the code as it is now, at a width.
        width: The width for a first identity.
        accept: Whether changed code is accepted.

    Raises:
        BadInput: The code differs from that of the folder's runs, and changed code is not accepted.
    """
    differences = []
    for identity in reversed(known):
        differences.append(identity.difference(identify_at(identity.width)))
        if differences[-1] is None:
            return identity
    if differences and not accept:
        required = "the code that trained the runs of this folder; use another --out, or --accept-changed-code"
        raise BadInput("the code of the model and the data", required, differences[0])
    return identify_at(width)


def _identity(values: Any) -> CodeIdentity:
    shapes = {str(name): tuple(map(int, shape)) for name, shape in values["shapes"].items()}
    files = {str(name): str(digest) for name, digest in values["files"].items()}
    return CodeIdentity(files, int(values["width"]), shapes, tuple(map(float, values["outputs"])))
