"""Greedy widths: the layer whose removal raises the loss least shrinks first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prune_core.budgets.channels import check_scores, top
from prune_core.budgets.floor import BudgetError, Floor, check_ratio
from prune_core.budgets.registry import (
    BudgetRule,
    Importances,
    Loss,
    Scores,
    Widths,
    lengths,
    register,
)
from prune_core.cost import cost
from prune_core.networks import Architecture, device_of
from prune_core.networks.groups import Cost
from prune_core.precision import full_precision
from prune_core.surgery import prune

# Images in a batch at 32 x 32. Larger images come in smaller batches, down to the second number:
# fewer images make the statistics of a batch too noisy.
LOSS_BATCH, SMALLEST_LOSS_BATCH = 256, 32


def sensitivity(
    scores: Scores,
    loss: Loss,
    architecture: Architecture,
    ratio: float,
    floor: Floor | None = None,
    *,
    of: Cost = "parameters",
    step: float = 0.1,
) -> list[Tensor]:
    """Greedy widths: at each step the layer shrinks whose loss rises least for what is saved.

    A layer's candidate is the network in which it has lost a fraction `step` of its full width, in
    the order of its scores. The candidate with the smallest rise of the loss for each parameter (or
    multiply-accumulate) saved is taken; the rise may be negative, and of equal ones the first
    layer's is taken. The last step ends within the layer: of the two widths around the budget the
    nearer one is kept. No step depends on the ratio, so the channels kept at a smaller ratio are a
    subset of those kept at a larger one.

    Parameters
    ----------
    loss : of the network with the channels given for each layer, in nats.
    of : the cost that the ratio counts.
    step : in (0, 1].

    Returns
    -------
    For each layer the kept channels, int64 ascending.

    Raises
    ------
    BudgetError
        If the ratio cannot be reached, or a loss is not finite.
    """
    floor = floor or Floor()
    check_scores(scores, architecture)
    check_ratio(architecture, ratio, floor, of)
    sizes, floors = architecture.groups.sizes, floor.of(architecture.widths)
    widths = list(architecture.widths)
    count = cost(architecture, of)
    target = ratio * count
    if count <= target:
        return top(scores, widths)

    def measured(candidate: list[int]) -> float:
        found = loss(top(scores, candidate))
        if not math.isfinite(found):
            raise BudgetError(
                f"the loss of the network with widths {tuple(candidate)} is {found}; sensitivity "
                "needs a network that has not diverged"
            )
        return found

    now = measured(widths)
    while True:
        chosen: tuple[float, int, int, float] | None = None
        for layer, width in enumerate(widths):
            smaller = max(floors[layer], _next(width, architecture.widths[layer], step, floor))
            if smaller == width:
                continue
            found = measured([*widths[:layer], smaller, *widths[layer + 1 :]])
            rise = (found - now) / sizes.difference(widths, layer, smaller, of)
            if chosen is None or rise < chosen[0]:
                chosen = rise, layer, smaller, found
        if chosen is None:
            return top(
                scores, widths
            )  # at the floors, where rounding may miss the ratio by a digit
        _, layer, smaller, now = chosen
        while widths[layer] > smaller:
            narrower = max(floors[layer], floor.below(widths[layer]))
            before = count
            count -= sizes.difference(widths, layer, narrower, of)
            if count < target and target - count > before - target:
                return top(scores, widths)
            widths[layer] = narrower
            if count <= target:
                return top(scores, widths)


def _lost(full: int, step: float) -> int:
    """The channels that a layer loses in a step."""
    return max(1, math.floor(step * full + 0.5))


def _next(width: int, full: int, step: float, floor: Floor) -> int:
    """The width after a step, rounded down to an allowed one."""
    return floor.below(max(0, width - _lost(full, step)) + 1)


class Images(Protocol):
    """Labelled images, as `prune_core.images.LabelledImages`: budgets know no sources of images."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def __len__(self) -> int: ...

    def batch(self, which: slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some images, uint8 [N, 3, H, W], and their labels [N], on a device."""


def held_out_loss(
    net: nn.Module, images: Images, preprocessing: Callable[[Tensor], Tensor]
) -> Loss:
    """The loss of a network as a function of the channels that stay.

    Cross-entropy in nats, in fp32 and without dropout. Channels are removed physically. Batch
    normalisation uses the statistics of each batch, because the running ones belong to the full
    network. Nothing is random, and `net` is not changed.

    Parameters
    ----------
    images : training images, at least 2. All are in one batch; if that would take too much memory,
        in several of equal size.
    preprocessing : scales pixels as when the network was trained.

    Raises
    ------
    BudgetError
        If there are fewer than 2 images.
    """
    count, device = len(images), device_of(net)
    if count < 2:
        raise BudgetError(f"sensitivity needs at least 2 images for its loss; there are {count}")
    height, width = images.image_size
    most = LOSS_BATCH * 32 * 32 // (height * width)
    parts = math.ceil(count / min(max(most, SMALLEST_LOSS_BATCH), LOSS_BATCH))
    ends = [count * part // parts for part in range(parts + 1)]
    batches = [images.batch(slice(start, end), device) for start, end in pairwise(ends)]

    def loss(kept: list[Tensor]) -> float:
        smaller = prune(net, kept).eval()
        for module in smaller.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        total = torch.zeros((), dtype=torch.float64, device=device)
        with torch.inference_mode(), full_precision():
            for pixels, labels in batches:
                logits = smaller(preprocessing(pixels)).double()
                total += nn.functional.cross_entropy(logits, labels, reduction="sum")
        return float(total) / count

    return loss


@dataclass(frozen=True, kw_only=True)
class GreedyOptions:
    """The options of `sensitivity`.

    Attributes
    ----------
    of : the cost that the ratio counts.
    step : the fraction of its full width that a layer loses in a step, in (0, 1].
    images : the number of first training images that the loss is computed on, 2 or more.
    """

    of: Cost = "parameters"
    step: float = 0.1
    images: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise BudgetError(
                f"budget 'sensitivity', option 'step' is {self.step}; it must lie in (0, 1]"
            )
        if self.images < 2:
            raise BudgetError(
                f"budget 'sensitivity', option 'images' is {self.images}; it must be 2 or more"
            )


@dataclass(frozen=True, kw_only=True)
class Greedy(BudgetRule):
    """Channels by a function of scores within each layer and of the loss of smaller networks."""

    @property
    def reads_loss(self) -> bool:
        """See `BudgetRule`."""
        return True

    @property
    def function(self) -> Callable[..., object]:
        """See `BudgetRule`."""
        return GreedyOptions

    def filled(self, options: Mapping[str, object]) -> dict[str, Any]:
        """See `BudgetRule`."""
        found = super().filled(options)
        GreedyOptions(**found)  # refuses values out of range
        return found

    def loss_images(self, **options: Any) -> int:
        """See `BudgetRule`."""
        return GreedyOptions(**options).images

    def evaluations(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> int:
        """See `BudgetRule`: as many as if all layers ended at one keep fraction."""
        full, step = architecture.widths, GreedyOptions(**options).step
        ends = self.likely_widths(architecture, ratio, floor, **options)
        steps = sum(
            math.ceil((most - width) / max(_lost(most, step), floor.round_to))
            for most, width in zip(full, ends, strict=True)
        )
        able = sum(low < most for low, most in zip(floor.of(full), full, strict=True))
        return 1 + steps * able if steps else 0

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        return lengths(self.kept(architecture, ratio, floor, importances, **options))

    def kept(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> list[Tensor]:
        """See `BudgetRule`.

        Raises
        ------
        BudgetError
            If there are no scores or no loss: a network that is trained from scratch has neither.
        """
        scores, loss, how = importances.scores, importances.loss, GreedyOptions(**options)
        if scores is None or loss is None:
            raise BudgetError(
                "budget 'sensitivity' needs scores and the loss of a trained network; see "
                "held_out_loss"
            )
        return sensitivity(scores, loss, architecture, ratio, floor, of=how.of, step=how.step)


register(
    Greedy(
        "sensitivity",
        "local",
        "Greedy widths: at each step the layer shrinks whose loss rises least for what is saved.",
    )
)
