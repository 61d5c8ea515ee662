"""A metric with its options, as a spec names it."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_core.layer import Combine, LayerView
from prune_core.metrics.registry import IMAGES, METRICS, Metric, MetricError
from prune_core.options import Option, checked, named_options
from prune_core.registering import plugin_identity
from prune_core.spelling import allowed
from prune_core.statistics import Request


@dataclass(frozen=True)
class Choice:
    """A metric with its options.

    Attributes
    ----------
    name : the name of a registered metric.
    options : all options with defaults filled in, sorted by name. So an option that is set to its
        default gives the same choice as an option that is left out.
    images : the number of first training images for its statistics; None leaves the number to
        the caller. Every metric that reads statistics has this option.
    """

    name: str
    options: tuple[tuple[str, Option], ...] = ()
    images: int | None = None

    @classmethod
    def of(cls, name: str, options: Mapping[str, object] | None = None) -> Choice:
        """Makes a choice after checking name and options against the registry.

        Raises
        ------
        MetricError
            Naming the metric, the option, its value and what is allowed.
        """
        if name not in METRICS:
            raise MetricError(f"metric '{name}' is unknown; {allowed(name, sorted(METRICS))}")
        metric, given = METRICS[name], dict(options or {})
        kinds = {option: known.annotation for option, known in metric.options.items()}
        defaults = metric.defaults
        if metric.reads_images:
            kinds[IMAGES], defaults[IMAGES] = int | None, metric.images
        for option in given:
            if option == IMAGES and option not in kinds:
                raise MetricError(
                    f"metric '{name}' reads no images, so it has no option '{IMAGES}'"
                )
            if option not in kinds:
                raise MetricError(
                    f"metric '{name}' has no option '{option}'; {allowed(option, kinds)}"
                )
        filled = {**defaults, **given}
        for option in kinds:
            if option not in filled:
                raise MetricError(f"metric '{name}' needs a value for its option '{option}'")
        for option, value in filled.items():
            where = f"metric '{name}', option '{option}'"
            filled[option] = checked(where, value, kinds[option], MetricError)
        images = typing.cast("int | None", filled.pop(IMAGES, None))
        if images is not None and images < 1:
            raise MetricError(
                f"metric '{name}', option '{IMAGES}' is {images}; it must be 1 or more"
            )
        choice = cls(name, tuple(sorted(filled.items())), images)
        try:
            choice.needs()
        except MetricError as error:
            raise MetricError(f"metric '{name}': {error}") from error
        return choice

    @classmethod
    def parse(cls, value: object) -> Choice:
        """Reads a choice from an entry of a spec.

        Parameters
        ----------
        value : `entropy_histogram`, `entropy_histogram(bins=64)`, `{entropy_histogram:
            {bins: 64}}` or `{name: entropy_histogram, bins: 64}`.

        Raises
        ------
        MetricError
            If the value has none of these forms; otherwise see `of`.
        """
        named = named_options(value, "a metric", "entropy_histogram(bins=64)", MetricError)
        return cls.of(*named)

    @property
    def metric(self) -> Metric:
        """The registered metric of this name."""
        return METRICS[self.name]

    @property
    def label(self) -> str:
        """The name, with the options that differ from their defaults: `entropy(bins=64)`."""
        known = self.metric.options
        changed = [f"{k}={v}" for k, v in self.options if v != known[k].default]
        if self.images != self.metric.images:
            changed.append(f"{IMAGES}={'none' if self.images is None else self.images}")
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    def identity(self) -> dict[str, object]:
        """The part of a cell's key; `images` enters the key as the actual number of images."""
        return {
            "name": self.name,
            "options": dict(self.options),
            "version": self.metric.version,
            **plugin_identity(self.metric.provider),
        }

    def needs(self) -> frozenset[Request]:
        """The statistics that the metric reads with these options."""
        return self.metric.requests(dict(self.options))

    def combine(self, how: Combine) -> Combine:
        """How the scores of a group's producers become one, if a spec says `how`.

        The producers of a group share the scores that a metric gives the whole group.
        """
        return "mean" if self.metric.of_group else how

    def __call__(self, layers: Sequence[LayerView]) -> list[Tensor]:
        """Scores of every layer's channels, [C] float64 each, higher = keep.

        Raises
        ------
        MetricError
            If a score is NaN or infinite, or the shape is wrong.
        """
        function, options = self.metric.function, dict(self.options)
        if self.metric.of_group:
            scores = self._of_groups(layers)
        else:
            scores = [function(layer, **options) for layer in layers]
        return [
            checked_scores(f"metric '{self.name}'", values, layer, layer.channels)
            for layer, values in zip(layers, scores, strict=True)
        ]

    def _of_groups(self, layers: Sequence[LayerView]) -> list[object]:
        """The scores of each group, for all its producers alike."""
        groups: dict[int, list[LayerView]] = {}
        for layer in layers:
            groups.setdefault(layer.group, []).append(layer)
        scores = {
            group: self.metric.function(views, **dict(self.options))
            for group, views in groups.items()
        }
        return [scores[layer.group] for layer in layers]


def checked_scores(what: str, scores: object, layer: LayerView, channels: int) -> Tensor:
    """What a function returned as the scores of a layer, [C] float64; it may be anything.

    Parameters
    ----------
    what : names the function in errors.

    Raises
    ------
    MetricError
        If it is no tensor, its shape is wrong, or a score is NaN or infinite.
    """
    if not isinstance(scores, Tensor):
        raise MetricError(
            f"{what} gave a {type(scores).__name__} for layer {layer.index}; it must return a "
            f"tensor [C] with a score for each of the {channels} channels"
        )
    if scores.shape != (channels,):
        raise MetricError(
            f"{what} gave shape {tuple(scores.shape)} for layer {layer.index}; expected "
            f"({channels},)"
        )
    found = scores.double()
    if not bool(torch.isfinite(found).all()):
        raise MetricError(
            f"{what} gave {found[~torch.isfinite(found)][0]} for a channel of layer {layer.index}"
        )
    return found
