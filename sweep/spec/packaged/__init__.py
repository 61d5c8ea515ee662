"""The specs that come with the package: the YAML files in this folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_FOLDER = resources.files("sweep.spec.packaged")


def packaged() -> list[str]:
    """The names of the packaged specs, sorted."""
    return sorted(
        Path(entry.name).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")
    )


def text_of(name: str) -> str:
    """The YAML text of a packaged spec."""
    return (_FOLDER / f"{name}.yaml").read_text("utf-8")
