"""A person's own network, from a file, as the builder of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.networks.source import NetworkSource
from prune_core.options import checked_options


@dataclass(frozen=True)
class OwnNetwork:
    """A function of a file with its options; see `prune_core.networks.architecture.Builder`."""

    source: NetworkSource
    options: tuple[tuple[str, object], ...]

    @classmethod
    def read(
        cls,
        source: str,
        options: Mapping[str, object] | None = None,
        base: Path | None = None,
    ) -> OwnNetwork:
        """Reads a network file and checks the options of its function.

        Parameters
        ----------
        source, base : see `NetworkSource.read`.
        options : the keyword-only parameters of the function.

        Raises
        ------
        ArchitectureError
            For an unreadable file, or an option that the function does not have.
        """
        found = NetworkSource.read(source, base)
        where = f"network '{found.name}'"
        filled = checked_options(found.load(), options or {}, where, ArchitectureError)
        return cls(found, tuple(sorted(filled.items())))

    def build(self, classes: int) -> nn.Module:
        """See `Builder`."""
        return self.source.build(classes, dict(self.options))

    def identity(self) -> dict[str, Any]:
        """See `Builder`: the texts of the files count, not where they lie."""
        return self.description()

    def description(self) -> dict[str, Any]:
        """See `Builder`."""
        return {
            "source": self.source.name,
            "fingerprint": self.source.fingerprint,
            "options": dict(self.options),
        }
