"""The packaged specs that the page of studies follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parents[2] / "sweep/spec/packaged"


def packaged(name: str) -> dict[str, Any]:
    """The fields of the packaged spec of this name."""
    found: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text())
    return found
