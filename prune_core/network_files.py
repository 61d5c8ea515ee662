"""Network files: JSON with architecture and input scaling, and a safetensors file. No pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prune_core.networks import Builder, architecture_of
from prune_core.networks.description import described
from prune_core.networks.source import NetworkSource
from prune_core.preprocessing import Preprocessing

DESCRIPTION = "network.json"
TENSORS = "network.safetensors"
_FIELDS = {"architecture", "preprocessing", "class_names", "sha256"}


class NetworkFileError(ValueError):
    """A folder holds no readable network; the message names it."""


@dataclass(frozen=True)
class StoredNetwork:
    """A network with its input scaling, in eval mode.

    Attributes
    ----------
    class_names : the names of the classes, if they were known when the network was saved.
    """

    net: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None


def save(
    net: nn.Module,
    preprocessing: Preprocessing,
    folder: Path,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a network into an existing folder.

    Raises
    ------
    ValueError
        If the number of names differs from the number of classes.
    """
    from safetensors.torch import save as serialised

    architecture = architecture_of(net)
    classes = architecture.classes
    if class_names is not None and len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for a network of {classes} classes")
    description: dict[str, Any] = {
        "architecture": architecture.description(),
        "preprocessing": asdict(preprocessing),
    }
    if class_names is not None:
        description["class_names"] = list(class_names)
    # A module may have two names, and safetensors refuses tensors that share memory.
    tensors = serialised(
        {name: tensor.contiguous().clone() for name, tensor in net.state_dict().items()}
    )
    description["sha256"] = _digest(description, tensors)
    (folder / TENSORS).write_bytes(tensors)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1))


def load(folder: str | Path, own: Builder | NetworkSource | None = None) -> StoredNetwork:
    """Loads a network that `save` wrote, onto the CPU.

    Parameters
    ----------
    own : builds the network if it is a person's own, or its source; see
        `prune_core.networks.description`.

    Raises
    ------
    NetworkFileError
        If a file is absent or damaged, or if the two files do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialised

    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        tensors = (folder / TENSORS).read_bytes()
        _check(description, tensors)
        scaling = description["preprocessing"]
        architecture = described(description["architecture"], own)
        preprocessing = Preprocessing(_colours(scaling["mean"]), _colours(scaling["deviation"]))
        with torch.random.fork_rng(devices=[]):
            net = architecture.build()
        net.load_state_dict(deserialised(tensors))
        names = description.get("class_names")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise NetworkFileError(f"{folder} holds no readable network: {error}") from error
    return StoredNetwork(net.eval(), preprocessing, None if names is None else tuple(names))


def _check(description: dict[str, Any], tensors: bytes) -> None:
    """Raises ValueError unless both files were written together."""
    if unknown := sorted(set(description) - _FIELDS):
        raise ValueError(f"{DESCRIPTION} has unknown fields: {', '.join(unknown)}")
    written = description.pop("sha256", None)
    # Files of the first version have neither a checksum nor class names.
    if (written or "class_names" in description) and written != _digest(description, tensors):
        raise ValueError(f"the checksum in {DESCRIPTION} does not match")


def _digest(description: dict[str, Any], tensors: bytes) -> str:
    words = json.dumps(description, sort_keys=True).encode()
    return hashlib.sha256(words + b"\0" + tensors).hexdigest()


def _colours(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
