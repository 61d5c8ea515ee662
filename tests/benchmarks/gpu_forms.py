"""A training step in several forms: as CUDA graph, compiled, for one network or for many.

`prune_core.training` starts each operation from Python. For a small network on a GPU this takes
longer than the operations. These forms show how much faster the same steps can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from made_up import SCALING
from measuring import Load
from torch import Tensor, nn

from prune_core.augmentation import Crops
from prune_core.images import LabelledImages
from prune_core.precision import resolve
from prune_core.seeds import derive
from prune_core.training import Recipe, one_cycle

Loss = Callable[[Tensor, Tensor], Tensor]
"""From scaled images [N, 3, H, W] and labels [N] to a loss."""

WARM_UPS = 3  # steps before a graph is captured; torch asks for some


class Steps:
    """The steps of `prune_core.training.train`, on tensors that stay in their place.

    Parameters
    ----------
    decayed, others : parameters with and without weight decay.
    images : images on the device, without a selection.
    seed : seed of the order, the crops and the dropout, as in `train`.
    """

    def __init__(
        self,
        loss: Loss,
        decayed: Iterable[Tensor],
        others: Iterable[Tensor],
        images: LabelledImages,
        recipe: Recipe,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        device, batch = images.device, min(recipe.batch_size, len(images))
        self.loss, self.images, self.recipe, self.batch = loss, images, recipe, batch
        self.scale = scale or SCALING.on(device)
        self.bf16 = resolve(recipe.precision, device) == "bf16"
        self.at, rows, columns = (
            torch.zeros(batch, dtype=torch.int64, device=device) for _ in range(3)
        )
        mirrored = torch.zeros(batch, dtype=torch.bool, device=device)
        self.crops = Crops(recipe.crop_padding, rows, columns, mirrored)
        # As a tensor, so that a graph reads the rate of each step.
        self.rate = torch.tensor(recipe.learning_rate, device=device)
        self.optimiser = torch.optim.SGD(
            [
                {"params": list(decayed), "weight_decay": recipe.weight_decay},
                {"params": list(others), "weight_decay": 0.0},
            ],
            lr=self.rate,
            momentum=recipe.momentum,
            nesterov=True,
            fused=True,
        )
        self.run: Callable[[], None] = self.step

    def step(self) -> None:
        """One step on the batch that `at` and `crops` say."""
        pixels = self.images.stored.index_select(0, self.at)
        labels = self.images.labels.index_select(0, self.at)
        # A graph must not read the copies of the weights that an earlier step cached.
        kind = self.images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            loss = self.loss(self.scale(self.crops.of(pixels)), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def capture(self) -> Steps:
        """Replaces the step by a CUDA graph of it; trains `WARM_UPS` + 1 steps."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.run = graph.replay
        return self

    def train(self, seed: int = 0) -> None:
        """All epochs of the recipe; draws what `train` draws for this seed."""
        recipe, images = self.recipe, self.images
        generator = torch.Generator().manual_seed(derive(seed, "batches"))
        torch.manual_seed(derive(seed, "dropout"))
        steps = len(images) // self.batch
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(images), generator=generator).to(images.device)
            crops = Crops.draw(
                steps * self.batch, generator, recipe.crop_padding, recipe.flip, images.device
            )
            for step in range(steps):
                part = slice(step * self.batch, (step + 1) * self.batch)
                self.at.copy_(order[part])
                self.crops.rows.copy_(crops.rows[part])
                self.crops.columns.copy_(crops.columns[part])
                self.crops.mirrored.copy_(crops.mirrored[part])
                done = (epoch * steps + step + 0.5) / (recipe.epochs * steps)
                self.rate.fill_(one_cycle(recipe, done))
                self.run()

    def load(self, networks: int = 1) -> Load:
        """The steps to time; amounts are images, times the networks that are trained together."""
        return Load(self.train, self.recipe.epochs * len(self.images) * networks)


def loss_of(net: nn.Module) -> Loss:
    """The cross-entropy of a network."""

    def loss(scaled: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net(scaled).float(), labels)

    return loss


def alone(
    net: nn.Module, images: LabelledImages, recipe: Recipe, loss: Loss | None = None
) -> Steps:
    """Steps of one network; `loss` may be a compiled form of its loss."""
    decayed, others = divided(net)
    return Steps(loss or loss_of(net.train()), decayed, others, images, recipe)


def divided(net: nn.Module) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The parameters with weight decay and those without."""
    parameters = list(net.parameters())
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
