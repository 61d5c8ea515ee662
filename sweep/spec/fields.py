"""The spec: a short YAML file that names a grid, checked field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from prune_core.budgets import BudgetChoice, Floor
from prune_core.compensation import NO_COMPENSATION
from prune_core.metrics import Choice
from prune_core.normalisation import NORMALISATIONS, check_normalisation
from prune_core.schedule import ALL_AT_ONCE
from prune_core.spelling import allowed
from results.storage.plan_file import Comparison
from sweep.spec.base import Name, Number, Strict, distinct
from sweep.spec.choices import (
    BudgetSpec,
    CompensationSpec,
    GlobalRule,
    LocalRule,
    MetricSpec,
    PluginSpecs,
    ScheduleSpec,
)
from sweep.spec.datasets import DatasetSpec
from sweep.spec.networks import NetworkSpec
from sweep.spec.recipes import FinetuneSpecs, RecipeSpec
from sweep.spec.resources import ResourcesSpec


def _apart(ratios: list[float]) -> list[float]:
    """Refuses ratios that differ by less than labels show."""
    for index, ratio in enumerate(ratios):
        for earlier in ratios[:index]:
            if f"{ratio:g}" == f"{earlier:g}":
                raise ValueError(f"has {earlier} and {ratio}, which are nearly equal; remove one")
    return ratios


EvaluatedStage = Literal["pruned", "compensated", "recalibrated"]
Ratio = Annotated[Number, Field(gt=0, le=1)]
Ratios = Annotated[
    list[Ratio], Field(min_length=1), AfterValidator(distinct), AfterValidator(_apart)
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class MinChannelsSpec(Strict):
    """Fewest channels a layer may keep: the larger of a number and a fraction of its width."""

    channels: Annotated[int, Field(ge=1)] = 1
    fraction: Annotated[Number, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if not isinstance(value, int | dict | MinChannelsSpec):
            raise ValueError("must be a whole number, or a mapping of channels and fraction")
        return {"channels": value} if isinstance(value, int) else value


class ControlsSpec(Strict):
    """Control cells in addition to the grid. They show what causes a result.

    `widths_of` names reference metrics. The global ranking of a reference sets the widths, and
    every other metric chooses the channels at these widths. This separates the choice of widths
    from the choice of channels. `scratch` trains networks of the local budgets' widths and of
    the references' widths from new weights, with the baseline's recipe. `ratios` restricts these
    two controls to some ratios. `unpruned` fine-tunes the unpruned network of each seed as the
    pruned ones are: a recipe that lowers its accuracy hides differences between metrics.
    """

    widths_of: Annotated[list[MetricSpec], AfterValidator(distinct)] = []
    scratch: bool = False
    ratios: Ratios | None = None
    unpruned: bool = True

    model_config = ConfigDict(arbitrary_types_allowed=True)


class ComparisonSpec(Strict):
    """One of the few comparisons that a study is made for, named before the run.

    The report tests these together, corrected for their number, and calls all others exploratory.
    `budget: null` means the default rule of the scope, `dataset: null` every data set, `finetune:
    null` the first recipe.
    """

    metric: MetricSpec
    ratio: Ratio
    reference: MetricSpec = Choice("output_l1")
    scope: Literal["local", "global"] = "local"
    budget: BudgetSpec | None = None
    normalisation: str = "none"
    dataset: str | None = None
    compensation: CompensationSpec = NO_COMPENSATION
    schedule: ScheduleSpec = ALL_AT_ONCE
    finetune: Name | None = None

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @model_validator(mode="after")
    def _two_metrics(self) -> ComparisonSpec:
        if self.metric == self.reference:
            raise ValueError(
                f"metric and reference are both {self.metric.label}; compare two metrics"
            )
        return self

    def comparison(self, first_recipe: str) -> Comparison:
        """The comparison as the results name it."""
        return Comparison(
            self.metric.label,
            self.ratio,
            self.reference.label,
            self.scope,
            self.budget.label if self.budget else None,
            self.normalisation,
            self.dataset,
            self.compensation.label,
            self.finetune or first_recipe,
            self.schedule.label,
        )


class Spec(Strict):
    """A sweep: every dataset x seed x metric x budget x ratio is one cell.

    `plugins` are Python files that register metrics, budget rules, normalisations, image sources
    and networks. They are loaded first. A relative path starts at the folder that is the context of
    the validation, that of the spec file, else at the current folder.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Name
    plugins: PluginSpecs = []
    datasets: Annotated[list[DatasetSpec], Field(min_length=1), AfterValidator(distinct)]
    network: NetworkSpec = NetworkSpec()
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)] = [0]
    recipe: RecipeSpec
    finetune: FinetuneSpecs
    metrics: Annotated[list[MetricSpec], Field(min_length=1), AfterValidator(distinct)]
    ratios: Ratios
    local_ratios: Ratios | None = None
    global_ratios: Ratios | None = None
    scopes: Annotated[
        list[Literal["local", "global"]], Field(min_length=1), AfterValidator(distinct)
    ] = ["local", "global"]
    local_budgets: Annotated[list[LocalRule], Field(min_length=1), AfterValidator(distinct)] = [
        BudgetChoice("uniform_parameters")
    ]
    global_budgets: Annotated[list[GlobalRule], Field(min_length=1), AfterValidator(distinct)] = [
        BudgetChoice("global")
    ]
    normalisations: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] = ["none"]
    compensations: Annotated[
        list[CompensationSpec], Field(min_length=1), AfterValidator(distinct)
    ] = [NO_COMPENSATION]
    schedules: Annotated[list[ScheduleSpec], Field(min_length=1), AfterValidator(distinct)] = [
        ALL_AT_ONCE
    ]
    min_channels: MinChannelsSpec = MinChannelsSpec()
    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    controls: ControlsSpec = ControlsSpec()
    comparisons: Annotated[list[ComparisonSpec], AfterValidator(distinct)] = []
    holdout: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    statistics_images: Annotated[int, Field(ge=1)] | None = None
    resources: ResourcesSpec = ResourcesSpec()
    evaluate: Annotated[list[EvaluatedStage], AfterValidator(distinct)] = [
        *get_args(EvaluatedStage)
    ]
    keep: Literal["best", "all", "none"] = "best"
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    timeout_s: Annotated[Number, Field(gt=0)] | None = None
    wait_for_nodes_s: Annotated[Number, Field(ge=0)] = 600.0
    loggers: Annotated[
        list[Literal["tensorboard", "mlflow", "wandb"]], AfterValidator(distinct)
    ] = []

    @model_validator(mode="before")
    @classmethod
    def _trained_already(cls, value: Any) -> Any:
        """A network that starts from trained weights needs no recipe for its baseline."""
        if isinstance(value, dict) and "recipe" not in value:
            network = value.get("network")
            if isinstance(network, dict) and network.get("weights") is not None:
                value = {**value, "recipe": {"epochs": 0}}
        return value

    def ratios_of(self, scope: str) -> list[float]:
        """The ratios of the budgets of a scope."""
        own = self.local_ratios if scope == "local" else self.global_ratios
        return self.ratios if own is None else own

    def floor(self) -> Floor:
        """The lower limits of the widths as a value of prune_core."""
        least = self.min_channels
        return Floor(least.channels, least.fraction, self.round_to)

    @model_validator(mode="after")
    def _scratch_is_trained(self) -> Spec:
        if self.controls.scratch and self.network.weights is not None:
            raise ValueError(
                "controls.scratch trains by the baseline's recipe, but this baseline starts from "
                "the weights of a file; leave out scratch"
            )
        if self.controls.scratch and self.recipe.epochs == 0:
            raise ValueError("controls.scratch trains by `recipe`, which has 0 epochs")
        return self

    @model_validator(mode="after")
    def _rewound_was_trained(self) -> Spec:
        for index, one in enumerate(self.finetune):
            if one.rewind is None:
                continue
            if self.network.weights is not None:
                raise ValueError(
                    f"finetune[{index}].rewind goes back in the training of the baseline, but this "
                    "baseline starts from the weights of a file"
                )
            if one.rewind == "weights" and NO_COMPENSATION not in self.compensations:
                raise ValueError(
                    f"finetune[{index}].rewind replaces the weights that a compensation solves "
                    "for; add none to compensations"
                )
            if one.epochs > self.recipe.epochs:
                raise ValueError(
                    f"finetune[{index}] rewinds {one.epochs} epochs, but `recipe` has "
                    f"{self.recipe.epochs}"
                )
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Spec:
        ranked = [*self.controls.widths_of, *(self.metrics if "global" in self.scopes else [])]
        for normalisation in self.normalisations:
            if normalisation not in NORMALISATIONS:
                raise ValueError(
                    f"normalisation '{normalisation}' is unknown; "
                    f"{allowed(normalisation, NORMALISATIONS)}"
                )
            for choice in ranked:
                check_normalisation(normalisation, choice)
        return self

    @property
    def planned_comparisons(self) -> list[Comparison]:
        """The comparisons as the results name them."""
        return [one.comparison(self.finetune[0].name) for one in self.comparisons]

    @model_validator(mode="after")
    def _comparisons_are_run(self) -> Spec:
        """Refuses a planned comparison whose cells are not in the grid."""
        rewound = [each.name for each in self.finetune if each.rewind == "weights"]
        for index, (one, named) in enumerate(
            zip(self.comparisons, self.planned_comparisons, strict=True)
        ):
            rules = self.local_budgets if one.scope == "local" else self.global_budgets
            normalisations = ["none"] if one.scope == "local" else self.normalisations
            asked: list[tuple[str, Any, list[Any]]] = [
                ("metric", one.metric.label, [choice.label for choice in self.metrics]),
                ("reference", one.reference.label, [choice.label for choice in self.metrics]),
                ("scope", one.scope, list(self.scopes)),
                ("ratio", one.ratio, self.ratios_of(one.scope)),
                ("budget", named.rule, [rule.label for rule in rules]),
                ("normalisation", one.normalisation, normalisations),
                (
                    "compensation",
                    one.compensation.label,
                    [each.label for each in self.compensations],
                ),
                ("schedule", one.schedule.label, [each.label for each in self.schedules]),
                ("finetune", named.finetune, [each.name for each in self.finetune]),
                ("dataset", one.dataset, [None, *(dataset.name for dataset in self.datasets)]),
            ]
            for field, value, known in asked:
                if field == "ratio" and one.budget is not None and one.budget.fixes_ratio:
                    continue  # planning checks it, because it depends on the network
                if value not in known:
                    listed = ", ".join(str(name) for name in known if name is not None)
                    raise ValueError(
                        f"comparisons[{index}].{field} is {value}, but the sweep has no such "
                        f"cells; it has {listed}. To run only a part of a spec, use --where"
                    )
            if one.compensation != NO_COMPENSATION and named.finetune in rewound:
                raise ValueError(
                    f"comparisons[{index}].compensation is {one.compensation.label}, but with "
                    f"{named.finetune}, which rewinds weights, all cells have the compensation none"
                )
        return self

    @model_validator(mode="after")
    def _named_apart(self) -> Spec:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"datasets are named {', '.join(names)}; give each a different `name`")
        return self
