"""Sharpness that a rescaling of the weights cannot change, beside the plain one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from noisescale.measure.hessian import Eigenvalues, eigenvalues_of
from noisescale.measure.problem import CHUNK, Data, LossFunction, Mode, Problem


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of the Hessian, plain and invariant.

    Arguments:
        plain: of H. invariant: of |w|H|w|, entry by entry: the curvature per relative change of each weight.
    """

    plain: Eigenvalues
    invariant: Eigenvalues


def sharpness(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    mode: Mode = "eval",
    chunk: int = CHUNK,
    seed: int = 0,
) -> Sharpness:
    """λ_max of H and of |w|H|w|.

    A ReLU unit's incoming weights times c and its outgoing ones over c leave the function as it is, and so does any
    factor before a normalization; both change H, and neither changes |w|H|w|: with w → Tw, T diagonal, H → T⁻¹HT⁻¹.

    Arguments:
        model, loss, data, mode, chunk: as `Problem` takes them. tolerance, max_products: as `hessian_eigenvalues`.
    Raises:
        BadInput: as `Problem`.
    Source:
        Dinh, Pascanu, Bengio, Bengio 2017, for the rescaling; Kwon, Kim, Park, Choi 2021, section 3, for the remedy.
    """
    problem = Problem(model, loss, data, mode=mode, chunk=chunk)
    relative = problem.with_scale(torch.abs(problem.point), "relative")
    plain, invariant = (
        eigenvalues_of(own, 1, "LA", tolerance=tolerance, most=max_products, seed=seed) for own in (problem, relative)
    )
    return Sharpness(plain, invariant)
