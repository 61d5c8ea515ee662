"""What a sweep is made of: data sets, baselines, statistics, scores and cells, as values.

Each has an identity, everything that changes its numbers, and a key, the identity's hash.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from prune_core.budgets import BUDGET_VERSION, Floor
from prune_core.evaluation import EVALUATION_VERSION
from prune_core.images import SPLIT_VERSION
from prune_core.metrics import Choice
from prune_core.network import Architecture
from prune_core.normalisation import NORMALISATION_VERSION
from prune_core.preprocessing import PREPROCESSING_VERSION
from prune_core.statistics import STATISTICS_VERSION, Request
from prune_core.surgery import SURGERY_VERSION
from prune_core.training import TRAINING_VERSION, Recipe
from sweep.keys import canonical, key_of

LOCAL_RULES = ("uniform_parameters", "uniform_channels")
SCRATCH = "scratch"


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
        """See `sweep.keys`."""
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
class Scoring:
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
        """See `sweep.keys`."""
        return key_of(self.identity)


@dataclass(frozen=True)
class Budget:
    """How a ratio becomes widths.

    Attributes
    ----------
    rule : uniform_parameters and uniform_channels shrink all layers alike; global makes one
        ranking of all channels; widths_of takes the widths that `reference` leaves globally.
    normalisation : what makes the scores of layers comparable, of `reference` for widths_of.
    floor : limits of the widths.
    """

    rule: str
    normalisation: str
    floor: Floor
    reference: Scoring | None = None

    @property
    def scope(self) -> str:
        """`local`, `global` or `widths_of`."""
        return "local" if self.rule in LOCAL_RULES else self.rule

    @property
    def label(self) -> str:
        """The rule, with the reference's name."""
        return f"{self.rule}({self.reference.choice.label})" if self.reference else self.rule

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything of it that changes widths."""
        return {
            "rule": self.rule,
            "normalisation": [self.normalisation, NORMALISATION_VERSION],
            "floor": asdict(self.floor),
            "reference": self.reference.identity if self.reference else None,
        }


@dataclass(frozen=True)
class Cell:
    """One point of the grid; without a score it is the control that is trained from scratch."""

    baseline: Baseline
    score: Scoring | None
    budget: Budget
    ratio: float
    finetune: Recipe

    @property
    def metric(self) -> str:
        """The metric's label, or `scratch`."""
        return self.score.choice.label if self.score else SCRATCH

    @cached_property
    def scores(self) -> tuple[Scoring, ...]:
        """All scores that it reads: its own and those of the budget's reference."""
        return tuple(score for score in (self.score, self.budget.reference) if score)

    @property
    def family(self) -> Hashable:
        """What it shares with the cells of other seeds alone: all that counts but the seed."""
        baseline, budget = self.baseline, self.budget
        dataset, reference = baseline.dataset, self.budget.reference
        return (
            (canonical(dataset.identity()), dataset.flip_keeps_label),
            (baseline.architecture, baseline.recipe),
            self.score and (self.score.choice, self.score.images),
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
                "scores": self.score.identity if self.score else SCRATCH,
                "budget": self.budget.identity,
                "ratio": self.ratio,
                "finetune": _recipe_identity(self.finetune, self.baseline.dataset),
            }
        )

    @cached_property
    def key(self) -> str:
        """See `sweep.keys`."""
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
