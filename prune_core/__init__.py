"""Train, score, prune and fine-tune networks: plain PyTorch, usable in a notebook.

>>> import prune_core as pc
>>> net = pc.load("exported")  # doctest: +SKIP
>>> logits = net(images)  # uint8 [N, 3, H, W] to fp32 [N, classes]  # doctest: +SKIP

Prune it without training, to 30 % of its parameters:

>>> images = pc.load_images("cifar10").split(holdout=0.1)  # doctest: +SKIP
>>> smaller = pc.one_shot(net, images.train, ratio=0.3)  # doctest: +SKIP
>>> smaller.save("smaller")  # doctest: +SKIP
"""

from prune_core.adoption import adopt
from prune_core.budgets import (
    BUDGETS,
    BudgetChoice,
    Floor,
    global_,
    held_out_loss,
    layerwise,
    local,
    ranking,
)
from prune_core.classifier import Classifier, load
from prune_core.compensation import Compensation, compensated
from prune_core.cost import multiply_accumulates, parameters
from prune_core.evaluation import Evaluation, evaluate
from prune_core.images import SOURCES, Images, image_source
from prune_core.images import load as load_images
from prune_core.layer import LayerView, combined, views
from prune_core.metrics import METRICS, Choice, metric
from prune_core.networks import (
    NETWORKS,
    Architecture,
    SimpleNet,
    SimpleNetArchitecture,
    architecture_of,
    network,
)
from prune_core.normalisation import NORMALISATIONS, normalise
from prune_core.one_shot import OneShot, one_shot
from prune_core.plugins import load_plugin, load_plugins
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import collect
from prune_core.surgery import prune
from prune_core.training import Recipe, recalibrate, train

__all__ = [
    "BUDGETS",
    "METRICS",
    "NETWORKS",
    "NORMALISATIONS",
    "SOURCES",
    "Architecture",
    "BudgetChoice",
    "Choice",
    "Classifier",
    "Compensation",
    "Evaluation",
    "Floor",
    "Images",
    "LayerView",
    "OneShot",
    "Preprocessing",
    "Recipe",
    "SimpleNet",
    "SimpleNetArchitecture",
    "adopt",
    "architecture_of",
    "collect",
    "combined",
    "compensated",
    "evaluate",
    "global_",
    "held_out_loss",
    "image_source",
    "layerwise",
    "load",
    "load_images",
    "load_plugin",
    "local",
    "metric",
    "multiply_accumulates",
    "network",
    "normalise",
    "one_shot",
    "parameters",
    "prune",
    "ranking",
    "recalibrate",
    "train",
    "views",
]

# Last, because plugins import the names above.
load_plugins()
