"""Ridge regression from second moments, in units of each input's own deviation.

A layer computes y = W u from inputs u [D] with second moments S [D, D]. The penalty on a change of
its weights is ridge * sum over inputs of S_ii (change of w_i)^2. In units of the inputs' deviations
it is the same for every input, so rescaling an input, and its weights against it, changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-3
"""The penalty that solutions have if nobody asks for another one."""


def deviations(moments: Tensor) -> Tensor:
    """The root of each input's second moment, [D]; 1 for an input that is constant."""
    found = moments.diagonal().clamp(min=0).sqrt()
    return torch.where(found > 0, found, 1.0)


def standardised(moments: Tensor, scale: Tensor) -> Tensor:
    """The second moments in units of deviations, [D, D]."""
    return moments / scale / scale[:, None]


def factor(moments: Tensor, ridge: float) -> Tensor:
    """The lower Cholesky factor of standardised moments plus the ridge, [D, D].

    An input that is constant has variance 0 in `moments` and gets 1: nothing depends on it.

    Raises
    ------
    torch.linalg.LinAlgError
        If the ridge is too small for moments that are singular.
    """
    matrix = moments.clone()
    diagonal = matrix.diagonal()
    diagonal += torch.where(diagonal > 0, ridge, 1.0)
    return torch.linalg.cholesky(matrix)


def solve(moments: Tensor, cross: Tensor, prior: Tensor, ridge: float) -> Tensor:
    """The weights [J, K] with the smallest squared error plus penalty.

    Parameters
    ----------
    moments : second moments of the inputs, [K, K], float64.
    cross : of the outputs that are wanted, with the inputs, [J, K].
    prior : the weights that the penalty draws the solution to, [J, K].
    ridge : the penalty, a fraction of each input's second moment, above 0.

    Raises
    ------
    torch.linalg.LinAlgError
        See `factor`.
    """
    scale = deviations(moments)
    found = standardised(moments, scale)
    constant = found.diagonal() == 0
    prior = prior * scale
    wanted = cross / scale + ridge * prior
    wanted[:, constant] = prior[:, constant]
    return torch.cholesky_solve(wanted.T, factor(found, ridge)).T / scale
