"""The metadata of safetensors files, read without torch."""

from __future__ import annotations

import json
from typing import Any

from results.storage.folder import Folder

_SUFFIX = ".safetensors"
_LENGTH = 8
_LONGEST = 100_000_000
"""Bytes of a header; the format allows no more."""


def file_name(key: str) -> str:
    """The name of the file with this key."""
    return f"{key}{_SUFFIX}"


def metadata_of(content: bytes) -> dict[str, str]:
    """The metadata in a file's content: 8 bytes of header length, then the JSON header."""
    return _metadata(content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")])


def read_metadata(folder: Folder, key: str) -> dict[str, str]:
    """The metadata of a file; only its header is read.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is damaged.
    OSError
        If it cannot be read.
    """
    with folder.open(file_name(key)) as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > _LONGEST:
            raise ValueError(f"{folder / file_name(key)} is damaged")
        return _metadata(file.read(length))


def _metadata(header: bytes) -> dict[str, str]:
    found: dict[str, Any] = json.loads(header)
    return found.get("__metadata__", {})
