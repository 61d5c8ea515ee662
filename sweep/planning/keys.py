"""Keys: the hash of everything that changes a result's numbers, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(identity: Mapping[str, Any]) -> str:
    """JSON with sorted fields and no spaces, so that equal identities give equal text.

    Raises
    ------
    ValueError
        For NaN and infinity, which JSON cannot express.
    """
    return _ENCODER.encode(identity)


def key_of(identity: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:16]
