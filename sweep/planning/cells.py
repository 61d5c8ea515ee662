"""The parts of a sweep as values: data sets, baselines, statistics, importance and cells.

Each has an identity, which is everything that changes its numbers. Its key is the hash of the
identity.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from prune_core.budgets import BUDGET_VERSION, BudgetChoice, Floor
from prune_core.compensation import NO_COMPENSATION, Compensation
from prune_core.evaluation import EVALUATION_VERSION
from prune_core.images import NO_COPIES, SPLIT_VERSION, Copies
from prune_core.layer import Combine
from prune_core.metrics import Choice
from prune_core.networks import Architecture, Size
from prune_core.normalisation import NORMALISATION_VERSION, NORMALISATIONS
from prune_core.preprocessing import PREPROCESSING_VERSION, Preprocessing
from prune_core.registering import plugin_identity
from prune_core.schedule import ALL_AT_ONCE, Schedule
from prune_core.statistics import STATISTICS_VERSION, Request
from prune_core.surgery import SURGERY_VERSION
from prune_core.training import TRAINING_VERSION, Recipe
from results.formatting import several
from results.storage.schema import FINETUNE, SCRATCH, STAGES_BEFORE_TRAINING, UNPRUNED
from sweep.planning.keys import canonical, key_of


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
            "recipe": _recipe_identity(self.recipe, self.dataset),
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


@dataclass(frozen=True)
class Statistics:
    """Channel statistics of a baseline over its first training images; its cells share them."""

    baseline: Baseline
    images: int
    requests: frozenset[Request]

    def key(self, request: Request) -> str:
        """The key of one request's answer, so that a later sweep collects only new requests."""
        return key_of(
            {
                "stage": "statistics",
                "version": STATISTICS_VERSION,
                "baseline": self.baseline.key,
                "images": self.images,
                "request": repr(request),
                **groups_identity(self.baseline.architecture),
            }
        )


@dataclass(frozen=True)
class Importance:
    """A metric's scores of a baseline's channels; cells share them."""

    baseline: Baseline
    choice: Choice
    images: int
    combine: Combine = "mean"

    @cached_property
    def statistics(self) -> Statistics | None:
        """The channel statistics that the metric needs, if any."""
        needs = self.choice.needs()
        return Statistics(self.baseline, self.images, needs) if needs else None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the scores, beside the baseline."""
        found = self.statistics
        return {
            "metric": self.choice.identity(),
            "statistics": {
                "version": STATISTICS_VERSION,
                "images": found.images,
                "requests": sorted(repr(request) for request in found.requests),
            }
            if found
            else None,
            **groups_identity(self.baseline.architecture, self.combine),
        }

    @cached_property
    def key(self) -> str:
        """See `sweep.planning.keys`."""
        return key_of({"stage": "scores", "baseline": self.baseline.key, **self.identity})


@dataclass(frozen=True)
class Budget:
    """How a ratio is turned into widths.

    Attributes
    ----------
    choice : the rule with its options.
    normalisation : makes the scores of different layers comparable. For widths_of it is applied
        to the scores of `reference`.
    floor : lower limits of the widths.
    reference : for widths_of, the metric whose global ranking sets the widths.
    """

    choice: BudgetChoice
    normalisation: str
    floor: Floor
    reference: Importance | None = None

    @property
    def scope(self) -> str:
        """`local`, `global`, `widths_of` or, for the control without pruning, `unpruned`."""
        return self.choice.scope

    @property
    def ratio_of(self) -> str:
        """The quantity that the ratio refers to: `parameters`, `macs` or `channels`."""
        return self.choice.ratio_of

    @property
    def label(self) -> str:
        """The rule, with the name of the reference metric if there is one, and its options."""
        words = [self.reference.choice.label] if self.reference else []
        return self.choice.label_with(*words)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the widths."""
        return {
            "rule": self.choice.identity(),
            "normalisation": self._normalisation_identity,
            "floor": asdict(self.floor),
            "reference": self.reference.identity if self.reference else None,
        }

    @property
    def _normalisation_identity(self) -> list[Any]:
        found = NORMALISATIONS[self.normalisation]
        version = {"version": found.version} if found.version > 1 else {}
        own = version | plugin_identity(found.provider)
        return [self.normalisation, NORMALISATION_VERSION, *([own] if own else [])]


@dataclass(frozen=True)
class Cell:
    """One point of the grid, or a control, in which no metric ranks the channels.

    The controls are networks trained from scratch, and the unpruned network, fine-tuned.

    Attributes
    ----------
    finetune : the recipe of each step of the schedule.
    finetune_name : what the spec calls the recipe.
    rewound : the baseline at an earlier epoch, whose weights the kept channels start fine-tuning
        from; None for their own.
    evaluated : stages before fine-tuning whose accuracies are computed. It changes no number, so
        it is no part of the key.
    """

    baseline: Baseline
    importance: Importance | None
    budget: Budget
    ratio: float
    finetune: Recipe
    compensation: Compensation = NO_COMPENSATION
    schedule: Schedule = ALL_AT_ONCE
    finetune_name: str = FINETUNE
    rewound: Baseline | None = None
    evaluated: tuple[str, ...] = STAGES_BEFORE_TRAINING

    def __repr__(self) -> str:
        """The key and the label alone: the whole identity fills pages."""
        return f"<Cell {self.key}: {self.label}>"

    @property
    def metric(self) -> str:
        """The metric's label, or the control's name."""
        if self.importance:
            return self.importance.choice.label
        return UNPRUNED if self.unpruned else SCRATCH

    @property
    def combine(self) -> Combine:
        """How the scores of a group's producers become one."""
        return next((found.combine for found in self.importances), "mean")

    @property
    def unpruned(self) -> bool:
        """Whether it fine-tunes the unpruned network."""
        return self.budget.scope == UNPRUNED

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """The scores that the cell reads: its own metric's and the budget reference's."""
        return tuple(found for found in (self.importance, self.budget.reference) if found)

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """The trained networks that the cell reads."""
        return (self.baseline, self.rewound) if self.rewound else (self.baseline,)

    @property
    def moments(self) -> Statistics | None:
        """The second moments that the compensation reads, if any."""
        request = self.compensation.request
        if request is None:
            return None
        return Statistics(self.baseline, self.compensation_images, frozenset({request}))

    @property
    def compensation_images(self) -> int:
        """The number of training images that the compensation reads."""
        return min(self.compensation.images, self.baseline.dataset.train_images)

    @property
    def layers_solved(self) -> int:
        """About how many layers make up for removed channels: all that read them."""
        producers = self.baseline.architecture.groups.producers
        return len({one.module for producer in producers for one in producer.consumers})

    @cached_property
    def statistics(self) -> tuple[Statistics, ...]:
        """All channel statistics that the cell reads."""
        found = [needed.statistics for needed in self.importances]
        return tuple(one for one in [*found, self.moments] if one is not None)

    @property
    def compensation_identity(self) -> dict[str, Any]:
        """Everything that changes the compensation; empty without one, as in earlier keys."""
        if self.compensation == NO_COMPENSATION:
            return {}
        found = self.compensation.identity()
        # All images that there are may be fewer than were asked for.
        found["options"]["images"] = self.compensation_images
        return {"compensation": {**found, "statistics": STATISTICS_VERSION}}

    @property
    def schedule_identity(self) -> dict[str, Any]:
        """Everything that changes the schedule, and where fine-tuning starts from.

        Empty for a single step from the cell's own weights, as in earlier keys.
        """
        found: dict[str, Any] = {}
        if schedule := self.schedule.identity():
            found["schedule"] = schedule
        if self.rewound:
            found["rewound"] = self.rewound.identity
        return found

    @property
    def family(self) -> Hashable:
        """Everything that changes the cell's numbers except the seed: equal for all seeds."""
        baseline, budget, own = self.baseline, self.budget, self.importance
        dataset, reference = baseline.dataset, self.budget.reference
        return (
            (canonical(dataset.identity()), dataset.flip_keeps_label),
            (baseline.architecture, baseline.recipe),
            (baseline.options, baseline.weights and canonical(baseline.weights.identity())),
            own and (own.choice, own.images, own.combine),
            (budget.choice, budget.normalisation, budget.floor),
            reference and (reference.choice, reference.images),
            (self.ratio, self.finetune, canonical(self.compensation_identity)),
            (canonical(self.schedule.identity()), self.rewound and self.rewound.recipe),
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
                "baseline": self.baseline.identity,
                "scores": self.importance.identity if self.importance else self.metric,
                "budget": self.budget.identity,
                "ratio": self.ratio,
                "finetune": _recipe_identity(self.finetune, self.baseline.dataset),
                **groups_identity(self.baseline.architecture, self.combine),
                **self.compensation_identity,
                **self.schedule_identity,
            }
        )

    @cached_property
    def key(self) -> str:
        """See `sweep.planning.keys`."""
        return key_of({"cell": self.identity})

    @property
    def label(self) -> str:
        """A readable name of the cell."""
        words = [self.baseline.dataset.name, "seed", str(self.baseline.seed), self.metric]
        recipe = self.finetune_name if self.finetune_name not in (FINETUNE, SCRATCH) else ""
        if self.unpruned:
            return " ".join([*words, "network, fine-tuned", recipe]).strip()
        usual = self.budget.choice == BudgetChoice("uniform_parameters")
        words.append(self.budget.scope if usual else self.budget.label)
        words.append(self.budget.normalisation if self.budget.normalisation != "none" else "")
        words.append(self.compensation.label if self.compensation != NO_COMPENSATION else "")
        words.append(self.schedule.label if self.schedule != ALL_AT_ONCE else "")
        return " ".join(word for word in [*words, recipe, f"{self.ratio:g}"] if word)


def groups_identity(architecture: Architecture, combine: Combine | None = None) -> dict[str, Any]:
    """What says which channels form a group, and how their scores are combined.

    Empty for a chain of layers, so that the keys of cells of SimpleNet do not change.
    """
    found = architecture.groups_identity
    if found is None:
        return {}
    return {"groups": {**found, "combine": combine} if combine else found}


@lru_cache(maxsize=64)
def _recipe_identity(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    # Images are mirrored only if both recipe and data set allow it, and an epoch has no more
    # images than there are; the key depends on that.
    some = None if recipe.images_of(dataset.train_images) == dataset.train_images else recipe.images
    flip = recipe.flip and dataset.flip_keeps_label
    found = asdict(replace(recipe, flip=flip, images=some))
    # A recipe that is a part of no longer one, or leaves dropout to the network, is as in earlier
    # keys.
    later = {"epochs_before": 0, "epochs_after": 0, "dropout": None}
    return {k: v for k, v in found.items() if k not in later or v != later[k]}
