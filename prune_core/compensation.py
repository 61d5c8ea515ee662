"""Compensation: the layers that read removed channels make up for them, without training.

A layer that reads fewer channels computes something else than before. Its weights for the channels
that stay, and its bias, are solved for so that its outputs on some training images are as near as
they can be to those of the full network. No labels are read.

Sources: He et al. 2017, arXiv:1707.06168; Luo et al. 2017 (ThiNet), arXiv:1707.06342.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prune_core.evaluation import batch_size
from prune_core.images import LabelledImages
from prune_core.least_squares import RIDGE, solve
from prune_core.networks import channel_groups, device_of
from prune_core.networks.cutting import stays
from prune_core.networks.module import evaluating, reading, reading_layer
from prune_core.options import checked_options, named_options, option_defaults
from prune_core.precision import full_precision
from prune_core.preprocessing import Preprocessing
from prune_core.spelling import allowed
from prune_core.statistics import InputMoments, Patches, SecondMoments, collect, moments_of
from prune_core.statistics.inputs import covariance
from prune_core.surgery import prune

COMPENSATION_VERSION = 1


class CompensationError(ValueError):
    """A compensation or an option is unknown, or cannot be computed."""


@dataclass(frozen=True)
class Compensation:
    """How the layers that read removed channels make up for them.

    Attributes
    ----------
    name : `none` does nothing. `least_squares` solves for each layer apart, for the inputs that it
        has in the full network. `least_squares_sequential` goes from layer to layer: each is solved
        for the inputs that it has in the pruned network, whose earlier layers are solved already.
        It is better, and takes two passes over the images for each layer.
    images : the number of first training images.
    positions : patches of each image; see `prune_core.statistics.SecondMoments`.
    ridge : penalty on changed weights; see `prune_core.least_squares`.
    """

    name: str
    _: KW_ONLY
    images: int = 1024
    positions: int = 24
    ridge: float = RIDGE

    @classmethod
    def parse(cls, value: object) -> Compensation:
        """Reads an entry of a spec.

        Parameters
        ----------
        value : `none`, `least_squares`, `least_squares(images=512)`,
            `{least_squares: {images: 512}}` or `{name: least_squares, images: 512}`.

        Raises
        ------
        CompensationError
            Naming the value, the option and what is allowed.
        """
        name, given = named_options(
            value, "a compensation", "least_squares(images=512)", CompensationError
        )
        if name == NONE and given:
            raise CompensationError(f"compensation 'none' has no option '{next(iter(given))}'")
        if name == NONE:
            return NO_COMPENSATION
        if name not in COMPENSATIONS:
            raise CompensationError(
                f"compensation '{name}' is unknown; {allowed(name, COMPENSATIONS)}"
            )
        where = f"compensation '{name}'"
        options: dict[str, Any] = checked_options(cls, given, where, CompensationError)
        for option, amount in options.items():
            if amount <= 0:
                raise CompensationError(
                    f"{where}, option '{option}' is {amount}; it must be above 0"
                )
        return cls(name, **options)

    @property
    def label(self) -> str:
        """The name, with the options that differ from their defaults."""
        usual = option_defaults(type(self))
        changed = [f"{k}={value}" for k, value in self.options.items() if value != usual[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @property
    def options(self) -> dict[str, int | float]:
        """All options by name; `none` has none."""
        if self.name == NONE:
            return {}
        return {"images": self.images, "positions": self.positions, "ridge": self.ridge}

    @property
    def sequential(self) -> bool:
        """Whether it passes over the images for each layer."""
        return self.name == SEQUENTIAL

    def identity(self) -> dict[str, Any]:
        """Everything that changes its numbers."""
        return {"name": self.name, "options": self.options, "version": COMPENSATION_VERSION}

    @property
    def request(self) -> SecondMoments | None:
        """The statistic that it reads; None if it passes over the images itself."""
        return SecondMoments(self.positions) if self.name == LEAST_SQUARES else None


NONE, LEAST_SQUARES, SEQUENTIAL = "none", "least_squares", "least_squares_sequential"
NO_COMPENSATION = Compensation(NONE)
"""Removal alone."""

COMPENSATIONS = {
    NONE: "Removal alone.",
    LEAST_SQUARES: "Each layer that reads removed channels is solved for, from the full network.",
    SEQUENTIAL: "Layer after layer, from what each reads in the pruned network: better, slower.",
}
"""What each does, by its name."""


def compensated(
    net: nn.Module,
    kept: Sequence[Tensor],
    how: Compensation,
    images: LabelledImages,
    preprocessing: Preprocessing,
    moments: Mapping[str, InputMoments] | None = None,
) -> nn.Module:
    """A new, smaller network with the kept channels, which makes up for the others.

    Each layer that reads removed channels gets new weights, and a new bias if it has one. If it
    has none, the running mean of the batch normalisation behind it takes up the change of the
    mean; if there is none either, the mean is fitted with the rest. `net` is not changed. On the
    patches that it is solved for, no layer's squared error gets larger.

    Parameters
    ----------
    kept : for each channel group, the indices of the channels to keep, int64, ascending.
    images : training images; the first `how.images` are read, without their labels.
    moments : for `least_squares` what `moments_of` made of the answers of `collect` to
        `how.request`; collected if not given.

    Raises
    ------
    SurgeryError
        For lists of channels that `prune` refuses.
    CompensationError, StatisticsError
        If there are no images, or weights or feature maps are NaN or infinite.
    """
    pruned = prune(net, kept)
    if how.name == NONE:
        return pruned
    losers = _losers(net, kept)
    images = images.first(how.images)
    if len(images) == 0:
        raise CompensationError("there are no images to compute a compensation from")
    if how.request is None:
        _sequentially(net, pruned, losers, how, images, preprocessing)
    else:
        if moments is None:
            moments = moments_of(collect(net, images, preprocessing, [how.request]), how.request)
        for loser in losers:
            _from_moments(net, pruned, loser, moments[loser.name], how.ridge)
    return pruned


@dataclass(frozen=True)
class _Loser:
    """A layer that reads removed channels.

    Attributes
    ----------
    rows : of its filters those that stay, int64.
    columns : of the weights of a filter those that stay, int64.
    norm : the batch normalisation that alone reads its outputs.
    """

    name: str
    rows: Tensor
    columns: Tensor
    norm: str | None
    centred: bool


def _losers(net: nn.Module, kept: Sequence[Tensor]) -> list[_Loser]:
    groups = channel_groups(net)
    consumers = {one.module: one for producer in groups.producers for one in producer.consumers}
    found = []
    for name, sides in stays(net, groups, kept).items():
        if name not in consumers or "inputs" not in sides:
            continue
        layer, norm = reading_layer(net, name), consumers[name].norm
        if len(sides["inputs"]) == layer.weight.shape[1]:
            continue
        area = layer.weight[0, 0].numel()
        columns = (sides["inputs"][:, None] * area + torch.arange(area)).flatten()
        rows = sides.get("outputs", torch.arange(len(layer.weight)))
        centred = layer.bias is not None or norm is not None
        found.append(_Loser(name, rows, columns, norm, centred))
    return found


def _from_moments(
    net: nn.Module, pruned: nn.Module, loser: _Loser, moments: InputMoments, ridge: float
) -> None:
    """Solves for one layer from what it reads in the full network."""
    device = device_of(pruned)
    rows, columns = loser.rows.to(device), loser.columns.to(device)
    weight = reading_layer(net, loser.name).weight.detach().flatten(1)[rows].double()
    about, mean = moments.about(loser.centred).to(device), moments.mean.to(device)
    found = _solved(
        loser.name,
        about[columns][:, columns],
        weight @ about[:, columns],
        weight[:, columns],
        ridge,
    )
    _change(pruned, loser, found, weight @ mean - found @ mean[columns])


def _sequentially(
    net: nn.Module,
    pruned: nn.Module,
    losers: Sequence[_Loser],
    how: Compensation,
    images: LabelledImages,
    preprocessing: Preprocessing,
) -> None:
    """Solves for one layer after the other, from what each reads in the pruned network."""
    waiting = {loser.name: loser for loser in losers}
    device = device_of(net)
    scale = preprocessing.on(device)
    size = batch_size(device, images.image_size)
    with evaluating(net), evaluating(pruned), full_precision(), torch.inference_mode():
        pixels, _ = images.batch(slice(0, 1), device)
        for name in _in_order(net, list(waiting), scale(pixels)):
            loser = waiting[name]
            full, small = (
                Patches(reading_layer(of, name), how.positions, seed=0) for of in (net, pruned)
            )
            weight = reading_layer(net, name).weight.flatten(1)[loser.rows.to(device)].double()
            sums = _Sums()
            for pixels, _ in images.batches(size, device):
                scaled = scale(pixels)
                wanted = full.take(_read_by(net, name, scaled)).flatten(0, 1).double() @ weight.T
                given = small.take(_read_by(pruned, name, scaled)).flatten(0, 1).double()
                sums.add(given, wanted)
            moments, cross, mean, wanted_mean = sums.moments(loser.centred)
            prior = reading_layer(pruned, name).weight.flatten(1).double()
            found = _solved(name, moments, cross, prior, how.ridge)
            _change(pruned, loser, found, wanted_mean - found @ mean)


class _Sums:
    """Sums over patches of inputs and wanted outputs, float64."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """Adds inputs [N, K] and outputs [N, J]."""
        if not self.count:
            (_, k), (_, j) = inputs.shape, wanted.shape
            self.inputs, self.wanted = inputs.new_zeros(k), inputs.new_zeros(j)
            self.squares, self.products = inputs.new_zeros(k, k), inputs.new_zeros(j, k)
        self.count += len(inputs)
        self.inputs += inputs.sum(dim=0)
        self.wanted += wanted.sum(dim=0)
        self.squares.addmm_(inputs.T, inputs)
        self.products.addmm_(wanted.T, inputs)

    def moments(self, centred: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Second moments of inputs [K, K] and with outputs [J, K], means of both."""
        mean, wanted = self.inputs / self.count, self.wanted / self.count
        squares, products = self.squares / self.count, self.products / self.count
        if centred:
            squares = covariance(squares, mean)
            products = torch.addr(products, wanted, mean, alpha=-1)
        return squares, products, mean, wanted


def _solved(name: str, moments: Tensor, cross: Tensor, prior: Tensor, ridge: float) -> Tensor:
    if not (bool(moments.isfinite().all()) and bool(cross.isfinite().all())):
        raise CompensationError(f"what {name} reads is NaN or infinite; the network has diverged")
    try:
        return solve(moments, cross, prior, ridge)
    except torch.linalg.LinAlgError as error:
        raise CompensationError(
            f"the weights of {name} cannot be solved for with ridge {ridge}; raise it ({error})"
        ) from error


def _change(pruned: nn.Module, loser: _Loser, weight: Tensor, shift: Tensor) -> None:
    """Gives a layer new weights [J, K], and adds [J] to the mean of its outputs."""
    layer = reading_layer(pruned, loser.name)
    with torch.no_grad():
        layer.weight.copy_(weight.view(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.add_(shift)
        elif loser.norm is not None:
            norm = pruned.get_submodule(loser.norm)
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
            assert norm.running_mean is not None
            norm.running_mean.sub_(shift)


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


def _read_by(net: nn.Module, name: str, images: Tensor) -> Tensor:
    """What a layer reads; the network runs no further."""
    found: list[Tensor] = []

    def read(inputs: Tensor) -> None:
        found.append(inputs)
        raise _Enough

    with reading({net.get_submodule(name): read}), contextlib.suppress(_Enough):
        net(images)
    return found[0]


def _in_order(net: nn.Module, names: Sequence[str], images: Tensor) -> list[str]:
    """The layers in the order in which the network runs them."""
    found: list[str] = []
    hooks = {net.get_submodule(name): partial(_note, found, name) for name in names}
    with reading(hooks):
        net(images)
    return found


def _note(found: list[str], name: str, _: Tensor) -> None:
    found.append(name)
