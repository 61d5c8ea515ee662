"""Turns the network of a spec into an architecture and the weights to start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from prune_core.layer import Combine
from prune_core.networks import (
    Architecture,
    Groups,
    ModuleArchitecture,
    Registered,
    Size,
    of,
)
from prune_core.networks.own import OwnNetwork
from prune_core.networks.weights import load_weights, read_weights, weights_fingerprint
from prune_core.preprocessing import Preprocessing
from prune_core.surgery import check_removal
from sweep.planning.baselines import Weights
from sweep.spec.networks import NetworkSpec

_LARGEST_PIXEL = 255


@dataclass(frozen=True)
class Network:
    """The network of a spec for one data set.

    Attributes
    ----------
    name : of the network; for a person's own one its file and function.
    options : of the network, without `width`.
    combine : how the scores of a group's producers become one; `mean` if every group has one.
    fixed : for convolutions whose channels cannot be removed, a sentence that says why.
    notes : what else the user should know.
    """

    name: str
    architecture: Architecture
    options: tuple[tuple[str, Any], ...]
    combine: Combine
    weights: Weights | None
    fixed: tuple[str, ...]
    notes: tuple[str, ...]


def network_of(spec: NetworkSpec, classes: int, image_size: Size) -> Network:
    """The network of a spec for a number of classes and a size of images.

    Raises
    ------
    ArchitectureError
        If the network cannot be built, traced or pruned, or the weights do not fit it.
    """
    if (own := own_network(spec)) is not None:
        name, options = own.source.name, own.options
        architecture = of(own, classes, image_size, spec.groups)
        _check_removal(architecture)
    else:
        assert spec.variant is not None
        name = spec.variant
        architecture = Architecture.named(
            name,
            classes,
            spec.multiplier,
            options=spec.options,
            image_size=image_size,
            groups=spec.groups,
        )
        options = ()
        if isinstance(architecture, ModuleArchitecture):
            assert isinstance(architecture.builder, Registered)
            options = architecture.builder.options  # with the defaults
    several = len(architecture.groups.producers) > len(architecture.groups.groups)
    return Network(
        name=name,
        architecture=architecture,
        options=options,
        combine=spec.combine if several else "mean",
        weights=_weights(spec, architecture),
        fixed=tuple(_fixed(name, architecture.groups)),
        notes=tuple(_notes(spec)),
    )


def own_network(spec: NetworkSpec) -> OwnNetwork | None:
    """A person's own network with the texts of its files, or None for a registered network.

    Raises
    ------
    ArchitectureError
        If its files cannot be read.
    """
    return None if spec.source is None else OwnNetwork.read(spec.source, spec.options)


# A sweep of several data sets, seeds or runs in one process checks a network once.
@lru_cache(maxsize=16)
def _check_removal(architecture: Architecture) -> None:
    check_removal(architecture)


def _weights(spec: NetworkSpec, architecture: Architecture) -> Weights | None:
    if spec.weights is None:
        return None
    path = Path(spec.weights).expanduser().absolute()
    # Refuse weights that do not fit now, not on a worker after an hour.
    with torch.random.fork_rng(devices=[]):
        net = architecture.build()
    tensors = read_weights(path)
    load_weights(net, tensors, f"weights {spec.weights}")
    scaling = None
    if spec.mean is not None and spec.deviation is not None:
        mean, deviation = (
            tuple(_LARGEST_PIXEL * float(value) for value in values)
            for values in (spec.mean, spec.deviation)
        )
        scaling = Preprocessing(mean, deviation)  # type: ignore[arg-type]
    return Weights(str(path), weights_fingerprint(tensors), scaling)


def _notes(spec: NetworkSpec) -> list[str]:
    if spec.weights is None:
        return []
    return [
        f"all seeds start from the weights {spec.weights}: intervals over seeds say how much "
        "fine-tuning varies, not how much networks vary"
    ]


def _fixed(name: str, groups: Groups) -> list[str]:
    whys: dict[str, list[str]] = {}
    for convolution, why in groups.fixed:
        whys.setdefault(why, []).append(convolution)
    return [
        f"{name}: {_some(convolutions)} keep all channels: {why}"
        for why, convolutions in whys.items()
    ]


def _some(names: list[str], shown: int = 3) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
