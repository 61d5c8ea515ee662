"""The networks that a sweep trains before it prunes, and their images and weights.

Each has an identity, which is everything that changes its numbers. Its key is the hash of the
identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from prune_core.evaluation import EVALUATION_VERSION
from prune_core.images import NO_COPIES, SPLIT_VERSION, Copies
from prune_core.networks import Architecture, Size
from prune_core.preprocessing import PREPROCESSING_VERSION, Preprocessing
from prune_core.training import TRAINING_VERSION, Recipe
from results.formatting import several
from sweep.planning.keys import key_of


@dataclass(frozen=True)
class Dataset:
    """A data set as the sweep uses it: its location, content, size limits and split.

    Attributes
    ----------
    own_validation : whether the source's own validation images are the held-out part.
    skipped, copies : images left out and images that are copies, of the whole data set.
    plugin : the fingerprint of the plug-in that its source comes from; empty for other sources.
    """

    name: str
    source: str
    data: str | None
    image_size: Size
    fingerprint: str
    classes: int
    train_images: int
    validation_images: int
    test_images: int
    cut: int | None
    test_cut: int | None
    holdout: float
    flip_keeps_label: bool
    own_validation: bool = False
    skipped: int = 0
    copies: Copies = NO_COPIES
    plugin: str = ""

    def identity(self) -> dict[str, Any]:
        """Everything that changes numbers: the pixels, the cut and the split, not the location."""
        return {
            "fingerprint": self.fingerprint,
            "cut": [self.cut, self.test_cut],
            "holdout": self.holdout,
            "split": SPLIT_VERSION,
            **({"plugin": self.plugin} if self.plugin else {}),
        }


@dataclass(frozen=True)
class Weights:
    """A file of weights that a baseline starts from.

    Attributes
    ----------
    path : of the file on the machine that plans the sweep.
    fingerprint : of its tensors; see `prune_core.networks.weights`.
    preprocessing : of the images that the weights were trained on; None for that of the data set.
    """

    path: str
    fingerprint: str
    preprocessing: Preprocessing | None

    def identity(self) -> dict[str, Any]:
        """Everything that changes numbers: the tensors and the scaling, not the path."""
        scaling = asdict(self.preprocessing) if self.preprocessing else {}
        return {"fingerprint": self.fingerprint, **scaling}


@dataclass(frozen=True)
class Baseline:
    """An unpruned network to train; all cells of one dataset and seed share it.

    Attributes
    ----------
    variant : name of the network, or file and function of a person's own.
    options : of the network, without `width`.
    weights : where it starts from; None for new weights.
    """

    dataset: Dataset
    variant: str
    width: float
    architecture: Architecture
    recipe: Recipe
    seed: int
    options: tuple[tuple[str, Any], ...] = ()
    weights: Weights | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes its weights and accuracies."""
        return {
            "stage": "baseline",
            "version": {
                "evaluation": EVALUATION_VERSION,
                "preprocessing": PREPROCESSING_VERSION,
                "training": TRAINING_VERSION,
            },
            "dataset": self.dataset.identity(),
            "architecture": self.architecture.identity(),
            "recipe": recipe_identity(self.recipe, self.dataset),
            "seed": self.seed,
            # New weights are left out, so that the keys of existing cells do not change.
            **({"weights": self.weights.identity()} if self.weights else {}),
        }

    @cached_property
    def key(self) -> str:
        """See `sweep.planning.keys`."""
        return key_of(self.identity)

    @property
    def label(self) -> str:
        """A readable name of the baseline."""
        early = f" after {several(self.recipe.epochs, 'epoch')}" if self.recipe.epochs_after else ""
        return f"{self.dataset.name} seed {self.seed} baseline{early}"


@lru_cache(maxsize=64)
def recipe_identity(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Everything that changes what a recipe does to a network with a data set's images."""
    # Images are mirrored only if both recipe and data set allow it, and an epoch has no more
    # images than there are; the key depends on that.
    some = None if recipe.images_of(dataset.train_images) == dataset.train_images else recipe.images
    flip = recipe.flip and dataset.flip_keeps_label
    found = asdict(replace(recipe, flip=flip, images=some))
    # A recipe that is a part of no longer one, or leaves dropout to the network, is as in earlier
    # keys.
    later = {"epochs_before": 0, "epochs_after": 0, "dropout": None}
    return {k: v for k, v in found.items() if k not in later or v != later[k]}
