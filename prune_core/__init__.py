"""Train, score, prune and fine-tune networks: plain PyTorch, usable in a notebook.

>>> import prune_core as pc
>>> net = pc.load("exported")  # doctest: +SKIP
>>> logits = net(images)  # uint8 [N, 3, H, W] to fp32 [N, classes]  # doctest: +SKIP
"""

from prune_core.adoption import adopt
from prune_core.budgets import BUDGETS, Floor, global_, layerwise, local, ranking
from prune_core.classifier import Classifier, load
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
from prune_core.plugins import load_plugins
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
    "Choice",
    "Classifier",
    "Evaluation",
    "Floor",
    "Images",
    "LayerView",
    "Preprocessing",
    "Recipe",
    "SimpleNet",
    "SimpleNetArchitecture",
    "adopt",
    "architecture_of",
    "collect",
    "combined",
    "evaluate",
    "global_",
    "image_source",
    "layerwise",
    "load",
    "load_images",
    "local",
    "metric",
    "multiply_accumulates",
    "network",
    "normalise",
    "parameters",
    "prune",
    "ranking",
    "recalibrate",
    "train",
    "views",
]

# Last, because plugins import the names above.
load_plugins()
