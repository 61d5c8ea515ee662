"""The cells of a sweep: a baseline, the scores of its channels, a budget and what follows.

The identity of a cell is everything that changes its numbers. Its key is the hash of the identity.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from prune_core.budgets import BUDGET_VERSION, BudgetChoice, Floor
from prune_core.compensation import NO_COMPENSATION, Compensation
from prune_core.evaluation import EVALUATION_VERSION
from prune_core.layer import Combine
from prune_core.normalisation import NORMALISATION_VERSION, NORMALISATIONS
from prune_core.registering import plugin_identity
from prune_core.schedule import ALL_AT_ONCE, Schedule
from prune_core.statistics import STATISTICS_VERSION
from prune_core.surgery import SURGERY_VERSION
from prune_core.training import TRAINING_VERSION, Recipe
from results.storage.schema import FINETUNE, SCRATCH, STAGES_BEFORE_TRAINING, UNPRUNED
from sweep.planning.baselines import Baseline, recipe_identity
from sweep.planning.keys import canonical, key_of
from sweep.planning.scores import Importance, Statistics, groups_identity


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
                "finetune": recipe_identity(self.finetune, self.baseline.dataset),
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
    def axes(self) -> dict[str, str | float | None]:
        """Its place in the grid: the columns of its row that the axes of a spec decide."""
        reference = self.budget.reference
        return {
            "dataset": self.baseline.dataset.name,
            "seed": self.baseline.seed,
            "metric": self.metric,
            "scope": self.budget.scope,
            "budget": self.budget.label,
            "normalisation": self.budget.normalisation,
            "widths_of": reference.choice.label if reference else None,
            "compensation": self.compensation.label,
            "schedule": self.schedule.label,
            "finetune": self.finetune_name,
            "ratio": self.ratio,
            "ratio_of": self.budget.ratio_of,
        }

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
