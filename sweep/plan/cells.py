"""What a sweep is made of, as values: data sets, baselines, statistics, importance and cells.

Each has an identity, which is everything that changes its numbers, and a key, which is the hash of
the identity.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from prune_core.budgets import BUDGET_VERSION, BUDGETS, Floor
from prune_core.evaluation import EVALUATION_VERSION
from prune_core.images import SPLIT_VERSION
from prune_core.metrics import Choice
from prune_core.network import Architecture
from prune_core.normalisation import NORMALISATION_VERSION
from prune_core.preprocessing import PREPROCESSING_VERSION
from prune_core.statistics import STATISTICS_VERSION, Request
from prune_core.surgery import SURGERY_VERSION
from prune_core.training import TRAINING_VERSION, Recipe
from results.storage.schema import SCRATCH
from sweep.plan.keys import canonical, key_of


@dataclass(frozen=True)
class Dataset:
    """A data set as the sweep uses it: where it is, what is in it, how it is cut and split."""

    name: str
    source: str
    data: str | None
    fingerprint: str
    classes: int
    train_images: int
    validation_images: int
    test_images: int
    cut: int | None
    test_cut: int | None
    holdout: float
    flip_keeps_label: bool

    def identity(self) -> dict[str, Any]:
        """What of it changes numbers: the pixels, the cut and the split, not where they lie."""
        return {
            "fingerprint": self.fingerprint,
            "cut": [self.cut, self.test_cut],
            "holdout": self.holdout,
            "split": SPLIT_VERSION,
        }


@dataclass(frozen=True)
class Baseline:
    """An unpruned network to train: shared by all cells of one dataset and seed."""

    dataset: Dataset
    variant: str
    width: float
    architecture: Architecture
    recipe: Recipe
    seed: int

    @cached_property
    def key(self) -> str:
        """See `sweep.plan.keys`."""
        return key_of(
            {
                "stage": "baseline",
                "version": {
                    "preprocessing": PREPROCESSING_VERSION,
                    "training": TRAINING_VERSION,
                },
                "dataset": self.dataset.identity(),
                "architecture": asdict(self.architecture),
                "recipe": _recipe_identity(self.recipe, self.dataset),
                "seed": self.seed,
            }
        )


@dataclass(frozen=True)
class Statistics:
    """Channel statistics of a baseline over its first training images; shared by its cells."""

    baseline: Baseline
    images: int
    requests: frozenset[Request]

    def key(self, request: Request) -> str:
        """The key of one request's answer: a sweep that asks for more collects only the more."""
        return key_of(
            {
                "stage": "statistics",
                "version": STATISTICS_VERSION,
                "baseline": self.baseline.key,
                "images": self.images,
                "request": repr(request),
            }
        )


@dataclass(frozen=True)
class Importance:
    """A metric's scores of a baseline's channels; shared by its cells."""

    baseline: Baseline
    choice: Choice
    images: int

    @cached_property
    def statistics(self) -> Statistics | None:
        """The channel statistics it needs, if any."""
        needs = self.choice.needs()
        return Statistics(self.baseline, self.images, needs) if needs else None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the scores."""
        found = self.statistics
        keys = sorted(found.key(request) for request in found.requests) if found else []
        return {
            "stage": "scores",
            "baseline": self.baseline.key,
            "metric": self.choice.identity(),
            "statistics": keys,
        }

    @cached_property
    def key(self) -> str:
        """See `sweep.plan.keys`."""
        return key_of(self.identity)


@dataclass(frozen=True)
class Budget:
    """How a ratio becomes widths.

    Attributes
    ----------
    rule : a name in `prune_core.budgets.BUDGETS`.
    normalisation : what makes the scores of layers comparable, of `reference` for widths_of.
    floor : limits of the widths.
    reference : for widths_of, the metric whose global ranking sets the widths.
    """

    rule: str
    normalisation: str
    floor: Floor
    reference: Importance | None = None

    @property
    def scope(self) -> str:
        """`local`, `global` or `widths_of`."""
        return BUDGETS[self.rule].scope

    @property
    def ratio_of(self) -> str:
        """What the ratio counts: `parameters` or `channels`."""
        return BUDGETS[self.rule].ratio_of

    @property
    def label(self) -> str:
        """The rule, with the reference's name."""
        return f"{self.rule}({self.reference.choice.label})" if self.reference else self.rule

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything of it that changes widths."""
        version = BUDGETS[self.rule].version
        return {
            # A rule of the first version has no version here, so that keys of earlier cells stay.
            "rule": self.rule if version == 1 else [self.rule, version],
            "normalisation": [self.normalisation, NORMALISATION_VERSION],
            "floor": asdict(self.floor),
            "reference": self.reference.identity if self.reference else None,
        }


@dataclass(frozen=True)
class Cell:
    """One point of the grid; without a metric it is the control that is trained from scratch."""

    baseline: Baseline
    importance: Importance | None
    budget: Budget
    ratio: float
    finetune: Recipe

    @property
    def metric(self) -> str:
        """The metric's label, or `scratch`."""
        return self.importance.choice.label if self.importance else SCRATCH

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """All that it reads: its own metric's and those of the budget's reference."""
        return tuple(found for found in (self.importance, self.budget.reference) if found)

    @property
    def family(self) -> Hashable:
        """Everything that changes its numbers except the seed."""
        baseline, budget, own = self.baseline, self.budget, self.importance
        dataset, reference = baseline.dataset, self.budget.reference
        return (
            (canonical(dataset.identity()), dataset.flip_keeps_label),
            (baseline.architecture, baseline.recipe),
            own and (own.choice, own.images),
            (budget.rule, budget.normalisation, budget.floor),
            reference and (reference.choice, reference.images),
            (self.ratio, self.finetune),
        )

    @cached_property
    def identity(self) -> str:
        """Everything that changes the cell's numbers, as canonical JSON."""
        return canonical(
            {
                "stage": "cell",
                "version": {
                    "budget": BUDGET_VERSION,
                    "evaluation": EVALUATION_VERSION,
                    "surgery": SURGERY_VERSION,
                    "training": TRAINING_VERSION,
                },
                "baseline": self.baseline.key,
                "scores": self.importance.identity if self.importance else SCRATCH,
                "budget": self.budget.identity,
                "ratio": self.ratio,
                "finetune": _recipe_identity(self.finetune, self.baseline.dataset),
            }
        )

    @cached_property
    def key(self) -> str:
        """See `sweep.plan.keys`."""
        return key_of({"cell": self.identity})

    @property
    def label(self) -> str:
        """What a person calls the cell."""
        words = [self.baseline.dataset.name, "seed", str(self.baseline.seed), self.metric]
        words.append(self.budget.scope if self.budget.rule == "uniform_parameters" else "")
        words.append(self.budget.label if self.budget.rule != "uniform_parameters" else "")
        words.append(self.budget.normalisation if self.budget.normalisation != "none" else "")
        return " ".join(word for word in [*words, f"{self.ratio:g}"] if word)


@lru_cache(maxsize=64)
def _recipe_identity(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    # Whether images are really mirrored depends on the data too, so the effect is what counts.
    return asdict(replace(recipe, flip=recipe.flip and dataset.flip_keeps_label))
