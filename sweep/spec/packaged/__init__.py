"""The specs that come with the package: the YAML files beside this one."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_FOLDER = resources.files("sweep.spec.packaged")


def packaged() -> list[str]:
    """Their names."""
    return sorted(
        Path(entry.name).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")
    )


def text_of(name: str) -> str:
    """The YAML text of one of them."""
    return (_FOLDER / f"{name}.yaml").read_text("utf-8")
