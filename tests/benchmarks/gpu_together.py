"""Networks of equal widths that are trained together, as one batched program.

All metrics of a local budget keep equally many channels of each layer, and the cells of one seed
read the same images in the same order. So their networks differ in their weights alone, and one
operation can compute a layer of all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from gpu_forms import Steps
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from prune_core.budgets import local
from prune_core.images import LabelledImages
from prune_core.networks import architecture_of
from prune_core.surgery import prune
from prune_core.training import BATCH_NORMS, Recipe


class Together:
    """Networks of one architecture, as one.

    Batch normalisation keeps no running statistics: they are estimated anew after the training.
    Dropout sets the same positions to zero in all networks; those of a single training differ.

    Parameters
    ----------
    nets : modules of equal architecture; `give_back` changes them.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self.nets = nets
        shells = [copy.deepcopy(net).train() for net in nets]
        for module in (module for shell in shells for module in shell.modules()):
            if isinstance(module, BATCH_NORMS):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        self.parameters, self.buffers = stack_module_state(shells)
        self.shell = shells[0]

    def loss(self, scaled: Tensor, labels: Tensor) -> Tensor:
        """The sum of the networks' losses: the gradient of each is that of its own loss."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            logits = functional_call(self.shell, (parameters, buffers), (scaled,))
            return nn.functional.cross_entropy(logits.float(), labels)

        return vmap(one, randomness="same")(self.parameters, self.buffers).sum()

    def steps(
        self,
        images: LabelledImages,
        recipe: Recipe,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> Steps:
        """Training steps of all networks."""
        # A parameter has one more dimension here than in its network.
        parameters = self.parameters.values()
        decayed = [p for p in parameters if p.ndim > 2]
        others = [p for p in parameters if p.ndim <= 2]
        return Steps(self.loss, decayed, others, images, recipe, scale)

    def give_back(self) -> None:
        """Copies the trained parameters into the networks."""
        with torch.no_grad():
            for index, net in enumerate(self.nets):
                for name, parameter in net.named_parameters():
                    parameter.copy_(self.parameters[name][index])


def siblings(net: nn.Module, ratio: float, count: int) -> list[nn.Module]:
    """So many networks, pruned from one to equal widths by different, random scores."""
    found = []
    for index in range(count):
        chance = torch.Generator().manual_seed(index)
        widths = architecture_of(net).widths
        scores = [torch.rand(width, generator=chance) for width in widths]
        found.append(prune(net, local(scores, architecture_of(net), ratio)))
    return found
