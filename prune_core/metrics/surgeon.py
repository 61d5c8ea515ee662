"""The surgeon's order: channels leave one by one, and those that stay make up for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prune_core.cost import multiply_accumulates, parameters
from prune_core.layer import LayerView, Reader
from prune_core.least_squares import RIDGE, deviations, factor, standardised
from prune_core.metrics.order import scores_of
from prune_core.metrics.registry import MetricError, metric
from prune_core.networks import Architecture
from prune_core.precision import best_device
from prune_core.statistics import InputMoments, Request, SecondMoments
from prune_core.statistics.inputs import by_layer

Per = Literal["channel", "parameter", "mac"]

# Channels whose removal is put off, so that a large inverse is changed once for all of them.
BLOCK = 32


def _needs(positions: int, ridge: float, **_: object) -> frozenset[Request]:
    if positions < 1:
        raise MetricError(f"option 'positions' is {positions}; it must be 1 or more")
    if ridge <= 0:
        raise MetricError(f"option 'ridge' is {ridge}; it must be above 0")
    return frozenset({SecondMoments(positions)})


@metric(
    source="Hassibi and Stork 1993; for structures as in ZipLM, Kurtic et al. 2023, "
    "arXiv:2302.04089; relative to each consumer's variance: ours",
    needs=_needs,
    nonnegative=True,
    images=1024,
    of_group=True,
)
def surgeon(
    layers: Sequence[LayerView],
    *,
    per: Per = "channel",
    positions: int = 24,
    ridge: float = RIDGE,
) -> Tensor:
    """Error in what the consumers compute when the channel leaves and all others make up for it.

    The channel that raises the error least leaves first; the consumers' weights for the rest are
    changed by least squares, and the next one leaves. The error is that of each consumer filter,
    relative to the variance of its output, and a channel's score is the mean over the filters, at
    least that of the channel before it. So a score depends on the channels that left before, and
    rescaling a channel, and the weights that read it against it, changes none.

    Parameters
    ----------
    per : divide the error of every channel of a layer by 1, by the parameters or by the
        multiply-accumulates that leave with one of its channels. It changes global rankings only.
    positions : patches of each image from which covariances are estimated.
    ridge : penalty on changed weights; see `prune_core.least_squares`.

    Returns
    -------
    Tensor [C], >= 0: a fraction of variance; with `per`, divided by a number.

    Raises
    ------
    MetricError
        If the ridge is too small for covariances that are singular.
    """
    moments = by_layer([layers[0].answer(SecondMoments(positions))])
    readers = {reader.name: reader for layer in layers for reader in layer.readers}
    try:
        problems = [
            elimination_of(
                reader,
                InputMoments(moments[name]["mean"], moments[name]["covariance"], 0),
                ridge,
            )
            for name, reader in readers.items()
        ]
        order, rises = eliminated(problems)
    except torch.linalg.LinAlgError as error:
        raise MetricError(
            f"metric 'surgeon': what {', '.join(readers)} read cannot be inverted with option "
            f"'ridge' {ridge}; raise it ({error})"
        ) from error
    return scores_of(order, rises) / _cost(layers[0].architecture, layers[0].group, per)


@dataclass
class Elimination:
    """What one consumer loses if channels leave.

    All is in units of the inputs' deviations. E is the number of its inputs that are channels of
    the group, C r, the r inputs of a channel beside one another.

    Attributes
    ----------
    inverse : [E, E]: the part of the inverse of all its inputs' second moments plus the ridge.
        The other inputs stay, and also make up for what leaves.
    weight : [J, E], each filter divided by the root of its output's variance; 0 for an output
        that is constant.
    channels : C.
    """

    inverse: Tensor
    weight: Tensor
    channels: int


def elimination_of(reader: Reader, moments: InputMoments, ridge: float) -> Elimination:
    """Prepares a consumer for `eliminated`, on the fastest device."""
    device = best_device()
    about = moments.about(reader.centred).to(device)
    scale = deviations(about)
    second = standardised(about, scale)
    weight = reader.weight.to(device) * scale
    # What never changes is made up for by a bias; about zero, nothing is constant but zeros.
    weight[:, second.diagonal() == 0] = 0
    inverse = torch.cholesky_inverse(factor(second, ridge))
    variance = ((weight @ second) * weight).sum(dim=1)
    # Below this, the variance of an output is rounding.
    known = variance > 1e-12 * weight.square().sum(dim=1)
    weight = torch.where(known[:, None], weight / variance.clamp(min=1e-300).sqrt()[:, None], 0.0)
    at = reader.columns.flatten().to(device)
    return Elimination(inverse[at][:, at], weight[:, at], len(reader.columns))


def eliminated(problems: Sequence[Elimination]) -> tuple[list[int], list[float]]:
    """The order in which channels leave, and what each adds to the mean relative error.

    Parameters
    ----------
    problems : for each consumer of a group. They are used up.

    Returns
    -------
    The channels, first to leave first, and for each the rise of the mean over all filters of
    squared error over variance, penalty included; never negative but for rounding.
    """
    running = [_Running(problem) for problem in problems]
    filters = sum(len(problem.weight) for problem in problems)
    left = list(range(problems[0].channels))
    order, rises = [], []
    while left:
        for _ in range(min(BLOCK, len(left))):
            total = torch.stack([one.rises() for one in running]).sum(dim=0)
            at = int(total.argmin())
            order.append(left[at])
            rises.append(float(total[at]) / filters)
            for one in running:
                one.remove(at)
        gone = set(order)
        left = [channel for channel in left if channel not in gone]
        for one in running if left else ():
            one.shrink()
    return order, rises


class _Running:
    """One consumer while channels leave.

    P is the inverse of the second moments of the inputs that are left, and M = W' W for the weights
    W. Removing the inputs b of a channel leaves P - P_b' (P_bb)^-1 P_b, and the weights
    W - W_b (P_bb)^-1 P_b (block inversion). With the Cholesky factor L of P_bb, F = P_b' L^-T and
    H = (M_b' - F L^-1 M_bb / 2) L^-T these are P - F F' and M - H F' - F H'. Only the blocks of
    each channel with itself are changed at once; all else waits for `BLOCK` channels, and then
    shrinks to those that are left.
    """

    def __init__(self, problem: Elimination) -> None:
        self.inputs = len(problem.inverse) // problem.channels
        self.inverse, self.products = problem.inverse, problem.weight.T @ problem.weight
        self._start(problem.channels)

    def _start(self, count: int) -> None:
        """Begins a block of removals from `count` channels."""
        self.left = torch.ones(count, dtype=torch.bool, device=self.inverse.device)
        self.own_inverse, self.own_products = (
            matrix.unflatten(0, (count, -1))
            .unflatten(2, (count, -1))
            .diagonal(dim1=0, dim2=2)
            .permute(2, 0, 1)
            .clone()
            for matrix in (self.inverse, self.products)
        )
        size = (len(self.inverse), min(BLOCK, count) * self.inputs)
        self.f, self.h = (self.inverse.new_zeros(size) for _ in range(2))
        self.waiting = 0

    def rises(self) -> Tensor:
        """What each channel's removal adds to the sum of squared errors; infinite if it left."""
        if self.inputs == 1:
            found = self.own_products[:, 0, 0] / self.own_inverse[:, 0, 0]
        else:
            solved = torch.linalg.solve(self.own_inverse, self.own_products)
            found = solved.diagonal(dim1=1, dim2=2).sum(dim=1)
        return torch.where(self.left, found, torch.inf)

    def remove(self, at: int) -> None:
        """Removes a channel."""
        here = slice(at * self.inputs, (at + 1) * self.inputs)
        f, h = self.f[:, : self.waiting], self.h[:, : self.waiting]
        column = self.inverse[here].T - f @ f[here].T
        products = self.products[here].T - h @ f[here].T - f @ h[here].T
        lower = torch.linalg.cholesky(self.own_inverse[at])

        def divided(matrix: Tensor) -> Tensor:
            """The product with the inverse of the transposed factor."""
            return torch.linalg.solve_triangular(lower, matrix.T, upper=False).T

        own_f = divided(column)
        half = torch.linalg.solve_triangular(lower, self.own_products[at] / 2, upper=False)
        own_h = divided(products - own_f @ half)
        end = self.waiting + self.inputs
        self.f[:, self.waiting : end], self.h[:, self.waiting : end] = own_f, own_h
        self.waiting = end
        blocks_f, blocks_h = (one.unflatten(0, (-1, self.inputs)) for one in (own_f, own_h))
        self.own_inverse -= blocks_f @ blocks_f.transpose(1, 2)
        crossed = blocks_h @ blocks_f.transpose(1, 2)
        self.own_products -= crossed + crossed.transpose(1, 2)
        # Of a channel that left nothing is asked any more.
        self.left[at] = False
        self.own_inverse[at] = torch.eye(self.inputs, dtype=column.dtype, device=column.device)

    def shrink(self) -> None:
        """Makes up for what waits, and drops the channels that left."""
        f, h = self.f[:, : self.waiting], self.h[:, : self.waiting]
        self.inverse.addmm_(f, f.T, alpha=-1)
        self.products.addmm_(h, f.T, alpha=-1).addmm_(f, h.T, alpha=-1)
        stay = self.left.repeat_interleave(self.inputs).nonzero().flatten()
        self.inverse, self.products = (
            matrix[stay][:, stay] for matrix in (self.inverse, self.products)
        )
        self._start(int(self.left.sum()))


def _cost(architecture: Architecture | None, group: int, per: Per) -> float:
    """What leaves the unpruned network with one channel of a group."""
    if per == "channel":
        return 1.0
    assert architecture is not None
    count = parameters if per == "parameter" else multiply_accumulates
    widths = list(architecture.widths)
    if widths[group] == 1:
        return 1.0  # it cannot leave
    widths[group] -= 1
    return count(architecture) - count(architecture.with_widths(widths))
