"""The part of a spec that says what a trial may use of a machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from sweep.spec.base import Number, Strict


def _gpu_share(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError("must be a whole number, or a fraction of one GPU below 1")
    return gpus


Cpus = Annotated[Number, Field(ge=0.01)]
Gpus = Annotated[Number, Field(ge=0), AfterValidator(_gpu_share)]


class StageResourcesSpec(Strict):
    """Resources of the trials of one stage; null takes the value of `resources` itself."""

    cpus: Cpus | None = None
    gpus: Gpus | None = None


class ResourcesSpec(Strict):
    """Resources of one trial.

    `gpus: null` means one GPU per trial if the cluster has GPUs, and none otherwise. `baseline`,
    `statistics` and `cell` override the values for the trials of that stage. `scale_to` is for
    clusters with autoscaling: the number of parallel trials to request nodes for.
    """

    cpus: Cpus = 1.0
    gpus: Gpus | None = None
    baseline: StageResourcesSpec = StageResourcesSpec()
    statistics: StageResourcesSpec = StageResourcesSpec()
    cell: StageResourcesSpec = StageResourcesSpec()
    scale_to: Annotated[int, Field(ge=1, le=100_000)] | None = None

    def of(self, stage: str) -> tuple[float, float | None]:
        """CPUs and GPUs of a trial of a stage: `baseline`, `statistics` or `cell`."""
        own: StageResourcesSpec = getattr(self, stage)
        return (
            self.cpus if own.cpus is None else own.cpus,
            self.gpus if own.gpus is None else own.gpus,
        )
