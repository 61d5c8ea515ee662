"""Architectures as JSON values, for files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prune_core.networks.architecture import (
    IMAGE_SIZE,
    Architecture,
    Builder,
    ModuleArchitecture,
    Registered,
)
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.own import OwnNetwork
from prune_core.networks.registry import NETWORKS
from prune_core.networks.simplenet import SimpleNetArchitecture
from prune_core.networks.source import NetworkSource


def described(
    description: dict[str, Any], own: Builder | NetworkSource | None = None
) -> Architecture:
    """The architecture that `Architecture.description` described.

    Parameters
    ----------
    own : builds a person's own network, or its source; needed for such a network, because the
        description contains no code.

    Raises
    ------
    ArchitectureError
        If the network is unknown here, or is a person's own one and `own` is not the same.
    KeyError, TypeError
        If the description is damaged.
    """
    if "network" not in description:
        return SimpleNetArchitecture(
            tuple(description["widths"]),
            tuple(description["kernels"]),
            tuple(description["pooled"]),
            description["classes"],
            _size(description.get("image_size", IMAGE_SIZE)),
        )
    return ModuleArchitecture(
        tuple(description["widths"]),
        description["classes"],
        _size(description["image_size"]),
        _builder(description["network"], own),
        description["groups"],
    )


def _size(pixels: Sequence[int]) -> tuple[int, int]:
    height, width = pixels
    return height, width


def _builder(description: dict[str, Any], own: Builder | NetworkSource | None) -> Builder:
    if "name" in description:
        name, plugin = description["name"], description.get("plugin", "")
        known = NETWORKS.get(name)
        by = known.provider if known else None
        if plugin and (by is None or by.fingerprint != plugin):
            other = f"; {by} has the fingerprint {by.fingerprint}" if by else ""
            raise ArchitectureError(
                f"network '{name}' comes from a plug-in file with fingerprint {plugin}, which is "
                f"not loaded{other}; give the file with --plugin, or in Python to load_plugin; a "
                f"results folder keeps it in sources/{plugin}"
            )
        if known is None:
            raise ArchitectureError(
                f"network '{name}' is unknown here; install the package that registers it; known "
                f"are {', '.join(NETWORKS)}"
            )
        return Registered.of(name, description["width"], description["options"])
    if own is None:
        raise ArchitectureError(
            f"its network is built by {description['source']} (fingerprint "
            f"{description['fingerprint']}), and it contains no code: give the source, such as "
            f'source="{description["source"]}" in Python or --source {description["source"]}'
        )
    if isinstance(own, NetworkSource):
        own = OwnNetwork(own, tuple(sorted(description["options"].items())))
    if own.description() != description:
        given = own.description()
        raise ArchitectureError(
            f"its network is built by {description['source']} with fingerprint "
            f"{description['fingerprint']}; {given['source']} with fingerprint "
            f"{given['fingerprint']} is another one, or has changed since; a results folder keeps "
            f"the files of its networks in sources/{description['fingerprint']}"
        )
    return own
