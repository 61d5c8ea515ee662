"""The parts of a spec that say how networks are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from prune_core.training import Recipe
from results.storage.schema import FINETUNE, SCRATCH, UNPRUNED
from sweep.spec.base import Name, Number, Strict, as_list

Rewind = Literal["learning_rate", "weights"]


class RecipeSpec(Strict):
    """How a network is trained; see `prune_core.training.Recipe`."""

    epochs: Annotated[int, Field(ge=0, le=100_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 128
    learning_rate: Annotated[Number, Field(gt=0)] = 0.1
    warmup: Annotated[Number, Field(ge=0, le=1)] = 0.3
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Number, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    flip: bool = True
    recalibrate: bool = True
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    images: Annotated[int, Field(ge=2)] | None = None
    dropout: Annotated[Number, Field(ge=0, lt=1)] | None = None

    def recipe(self) -> Recipe:
        """The recipe as a value of prune_core."""
        return Recipe(**self.model_dump())


class FinetuneSpec(RecipeSpec):
    """How pruned networks are trained; `name` tells several such recipes apart.

    With `rewind`, pruned networks are trained by the last `epochs` of the baseline's own recipe
    (Renda et al. 2020, arXiv:2003.02389). `learning_rate` starts from the weights that pruning
    leaves, `weights` from those that the baseline had that many epochs before its end.
    """

    name: Name = FINETUNE
    rewind: Rewind | None = None

    @model_validator(mode="after")
    def _rewound_alone(self) -> FinetuneSpec:
        if self.rewind is None:
            return self
        if self.epochs == 0:
            raise ValueError("rewind needs at least 1 epoch")
        if extra := sorted(self.model_fields_set - {"name", "rewind", "epochs"}):
            raise ValueError(
                f"{extra[0]} cannot be given with rewind, which trains by the baseline's recipe"
            )
        return self

    def of(self, baseline: Recipe) -> Recipe:
        """The recipe, for networks that were pruned from a baseline of another recipe."""
        if self.rewind is not None:
            return baseline.last(self.epochs)
        return Recipe(**self.model_dump(exclude={"name", "rewind"}))


def _named_apart(recipes: list[FinetuneSpec]) -> list[FinetuneSpec]:
    names = [recipe.name for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"has {names.count(name)} recipes named {name}; name each differently")
        if name in (SCRATCH, UNPRUNED):
            raise ValueError(f"has a recipe named {name}, which names a control; name it otherwise")
    return recipes


FinetuneSpecs = Annotated[
    list[FinetuneSpec],
    BeforeValidator(as_list),
    Field(min_length=1),
    AfterValidator(_named_apart),
]
