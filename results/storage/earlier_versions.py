"""Files of earlier schema versions: which columns they lack, and how these are filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from results.storage.schema import (
    CELLS,
    FINETUNE,
    IMPORTANCES,
    NO_COMPENSATION,
    ONE_SHOT,
    SCHEMA_VERSION,
    VERSION_KEY,
    SchemaError,
)


def _beginning(start: str) -> list[str]:
    return [name for name in CELLS.names if name.startswith(start)]


# Columns by the schema version that added them; files of earlier versions lack only these.
_SINCE = {
    2: frozenset([*_beginning("latency_"), "baseline_history"]),
    3: frozenset(["ratio_of", "widths_of"]),
    4: frozenset(
        [
            "baseline_checksum",
            "traceback",
            "baseline_images",
            "finetune_images",
            "seconds_statistics",
            "seconds_statistics_shared_by",
            "seconds_scoring",
        ]
    ),
    5: frozenset(
        [
            "network_options",
            "groups",
            "combine",
            "image_height",
            "image_width",
            "weights",
            "group_names",
        ]
    ),
    6: frozenset(
        [
            "compensation",
            "compensation_options",
            *_beginning("compensated_"),
            "seconds_moments",
            "seconds_compensate",
        ]
    ),
    7: frozenset(
        [
            "mac_ratio",
            "finetune",
            "finetune_recipe",
            "schedule",
            "schedule_options",
            "steps",
        ]
    ),
    8: frozenset(
        [
            "own_validation",
            "images_skipped",
            "train_duplicates",
            "validation_duplicates",
            "test_duplicates",
            "test_duplicates_other_label",
        ]
    ),
}


def check_version(metadata: dict[bytes, bytes], where: str) -> None:
    """Refuses a table that is newer than this version can read.

    Raises
    ------
    SchemaError
        Naming the file, its version and what to do.
    """
    written = metadata[VERSION_KEY].decode(errors="replace")
    if not written.isdecimal():
        raise pa.ArrowInvalid(f"schema version {written!r} is not a number")
    found = int(written)
    if found > SCHEMA_VERSION:
        raise SchemaError(
            f"{where} has schema version {found}, but this prune-sweep reads up to "
            f"{SCHEMA_VERSION}; install a newer prune-sweep"
        )


def columns_of(version: int) -> frozenset[str]:
    """The columns that a file of a schema version has; none if there is no such version."""
    if version < 1:
        return frozenset()
    later = frozenset().union(*(names for since, names in _SINCE.items() if since > version))
    return frozenset([*CELLS.names, *IMPORTANCES.names]) - later


def _ratio_of(budget: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(budget, "uniform_channels"), "channels", "parameters")


def _widths_of(budget: pa.ChunkedArray) -> pa.ChunkedArray:
    found = pc.extract_regex(budget, r"^widths_of\((?P<metric>.*)\)$")
    return pc.struct_field(found, "metric")


def _ratio(part: pa.ChunkedArray, whole: pa.ChunkedArray) -> pa.ChunkedArray:
    # Integers above 2^53 lose digits as floats; of a ratio these do not matter.
    return pc.divide(*(count.cast(pa.float64(), safe=False) for count in (part, whole)))


def _same(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column


def _always(value: str | int) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    """A function that gives every row with a value in its source the same one."""

    def of(column: pa.ChunkedArray) -> pa.ChunkedArray:
        constant = pa.scalar(value)  # imports pandas, so not when this module is imported
        return pc.if_else(pc.is_valid(column), constant, pa.scalar(None, constant.type))

    return of


@dataclass(frozen=True)
class Derived:
    """How to fill a column that files of earlier versions lack, from the columns `sources`."""

    sources: tuple[str, ...]
    of: Callable[..., pa.ChunkedArray]


DERIVED = {
    "ratio_of": Derived(("budget",), _ratio_of),
    "widths_of": Derived(("budget",), _widths_of),
    # Before version 4 every epoch read the whole training part.
    "baseline_images": Derived(("train_images",), _same),
    "finetune_images": Derived(("train_images",), _same),
    # Before version 5 every network was a SimpleNet, a chain, for images of 32 x 32 pixels.
    "network_options": Derived(("variant",), _always("{}")),
    "groups": Derived(("variant",), _always("all")),
    "combine": Derived(("variant",), _always("mean")),
    "image_height": Derived(("variant",), _always(32)),
    "image_width": Derived(("variant",), _always(32)),
    # Before version 6 there was no compensation.
    "compensation": Derived(("variant",), _always(NO_COMPENSATION)),
    "compensation_options": Derived(("variant",), _always("{}")),
    # Before version 7 a sweep had one recipe of fine-tuning, and every cell was pruned once.
    "mac_ratio": Derived(("macs", "macs_full"), _ratio),
    "finetune": Derived(("variant",), _always(FINETUNE)),
    "schedule": Derived(("variant",), _always(ONE_SHOT)),
    "schedule_options": Derived(("variant",), _always("{}")),
}
"""Columns that files of earlier versions lack and that are derived when these are read."""
