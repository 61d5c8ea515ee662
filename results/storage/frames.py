"""The tables as pandas frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from results.storage.filters import Filters, filter_of
from results.storage.parquet_files import MANY
from results.storage.reading import Source, read_cells, read_importances, sources_of
from results.storage.schema import CELLS, IMPORTANCES, NESTED

# pandas' own integers and booleans have no missing value, and a failed cell has many.
_NULLABLE: dict[pa.DataType, pd.api.extensions.ExtensionDtype] = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(na_value=float("nan")),
}
_ORDER = ["dataset", "variant", "seed", "metric", "normalisation", "scope", "budget", "ratio"]
_CELL = ["key", "dataset", "seed", "metric", "normalisation", "scope", "budget", "ratio"]
CHANNELS = [*_CELL, "layer", "channel", "score", "kept"]
_SHARED = ["baseline_key", "dataset", "seed"]
_OWN = ["key", "metric", "scope", "budget", "normalisation", "ratio"]
HISTORY = ["key", "baseline_key", "dataset", "seed", "metric", "scope", "budget"]
HISTORY += ["normalisation", "ratio", "stage", "epoch", "loss", "accuracy"]


class ManyFilesWarning(UserWarning):
    """Cells lie in so many files that reading them takes seconds; compacting them helps."""


def load(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """The `cells` table: one row a cell, failed ones included.

    Parameters
    ----------
    source : a results folder, such as `runs/digits` or `s3://bucket/runs/digits`; a Parquet file
        from its `cells`; or a list of these. Where several hold the same key, the row that
        finished later counts, and of rows that finished together that of the source named later.
    columns : which to read, the nested ones too if named; all others if not given.
    filters : which rows to read: conditions that must all hold, such as
        `[("dataset", "==", "cifar10"), ("ratio", "<=", 0.5)]`, lists of them of which one must
        hold, or a pyarrow expression.
    filesystem : a pyarrow file system whose paths the sources are, for one that no URI names.

    Returns
    -------
    DataFrame with the columns of `results.CELLS` but the nested ones, always all of them
    and always of the same types, or with the columns asked for; ordered by dataset, seed, metric,
    scope and ratio. Columns that an older version did not write are missing values.

    Raises
    ------
    results.StoreError
        If there is no such folder, or a file that was named cannot be read.
    results.SchemaError
        If something was written by a newer version.
    ValueError
        If there is no such column.
    """
    names = _known(columns, [name for name in CELLS.names if name not in NESTED], CELLS.names)
    needed = list(dict.fromkeys([*names, *_ORDER, "key"]))
    frame = _cells(source, needed, filters, filesystem).to_pandas(types_mapper=_NULLABLE.get)
    return frame.sort_values([*_ORDER, "key"], ignore_index=True)[names]


def load_history(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """Training, an epoch a row: of every cell after pruning, and of every baseline once.

    Parameters
    ----------
    source, filesystem : see `load`.
    columns : of this table; all if not given.
    filters : which cells to read, on the columns of `results.CELLS`; see `load`. Baselines
        are those of these cells.

    Returns
    -------
    DataFrame with `key`, `baseline_key`, `dataset`, `seed`, `metric`, `scope`, `budget`,
    `normalisation`, `ratio`, `stage` (baseline or finetune), `epoch` from 1, `loss` in nats and
    `accuracy`, both of training. In rows of a baseline the columns of a cell are missing values:
    key, metric, scope, budget, normalisation and ratio. Where cells tell different histories of a
    baseline, which was then trained more than once, that of the cell that finished last counts.

    Raises
    ------
    As `load`.
    """
    names = _known(columns, HISTORY, HISTORY)
    needed = [*_SHARED, *_OWN, "history", "baseline_history", "finished_at"]
    cells = _cells(source, needed, filters, filesystem)
    newest = pc.sort_indices(cells, [("finished_at", "descending")])
    told = cells.take(newest).filter(pc.is_valid(cells.column("baseline_history").take(newest)))
    keys = told.column("baseline_key").to_pandas()
    baselines = told.filter(pa.array(~keys.duplicated(), pa.bool_()))
    epochs = pa.concat_tables(
        [
            _epochs(baselines, "baseline_history", "baseline", _SHARED),
            _epochs(cells, "history", "finetune", [*_SHARED, *_OWN]),
        ],
        promote_options="default",
    )
    frame = epochs.to_pandas(types_mapper=_NULLABLE.get)
    order = ["dataset", "seed", "baseline_key", "stage", "metric", "scope", "budget"]
    order += ["normalisation", "ratio", "key", "epoch"]
    return frame.sort_values(order, ignore_index=True)[names]


def load_scores(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """The scores of all channels, as the metrics gave them, before any normalisation.

    Parameters
    ----------
    source, filesystem : see `load`; a file may be one of the folder's `scores`, and one of its
        `cells` brings the scores of its folder along.
    columns, filters : of `results.IMPORTANCES`; see `load`.

    Returns
    -------
    DataFrame, one row for each dataset, seed, metric, layer and channel, with `score`.

    Raises
    ------
    As `load`.
    """
    names = _known(columns, IMPORTANCES.names, IMPORTANCES.names)
    chosen = filter_of(filters, IMPORTANCES)
    frame = read_importances(lambda: sources_of(source, filesystem).scores, chosen).to_pandas()
    order = ["dataset", "seed", "metric", "scores_key", "layer", "channel"]
    return frame.sort_values(order, ignore_index=True)[names]


def load_channels(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """Every channel of every cell that removed some: its score and whether it was kept.

    Parameters
    ----------
    source, filesystem : see `load_scores`.
    columns : of this table; all if not given.
    filters : which cells to read, on the columns of `results.CELLS`; see `load`.

    Returns
    -------
    DataFrame, one row for each cell, layer and channel: `key`, `dataset`, `seed`, `metric`,
    `normalisation`, `scope`, `budget`, `ratio`, `layer`, `channel`, `score`, `kept`. Cells that
    chose no channels, such as failed ones and networks trained from scratch, have no rows, nor
    have those whose scores are not in the sources.

    Raises
    ------
    As `load`.
    """
    names = _known(columns, CHANNELS, CHANNELS)
    frames = []
    scores = {
        key: rows[["layer", "channel", "score"]].reset_index(drop=True)
        for key, rows in load_scores(source, filesystem=filesystem).groupby("scores_key")
    }
    cells = _cells(source, [*_CELL, "scores_key", "kept"], filters, filesystem)
    for cell in cells.to_pylist():
        if cell["kept"] is None or cell["scores_key"] not in scores:
            continue
        rows = scores[cell["scores_key"]]
        layers = rows["layer"].to_numpy()
        # Channels of a layer lie side by side, so a layer's first row tells where each one is.
        first = np.searchsorted(layers, np.arange(len(cell["kept"])))
        kept = np.zeros(len(rows), dtype=bool)
        for layer, channels in enumerate(cell["kept"]):
            kept[first[layer] + np.asarray(channels, dtype=int)] = True
        frames.append(rows.assign(kept=kept, **{name: cell[name] for name in _CELL})[names])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def _cells(
    source: Source,
    names: list[str],
    filters: Filters | None,
    filesystem: fs.FileSystem | None,
) -> pa.Table:
    chosen = filter_of(filters, CELLS)
    found = sources_of(source, filesystem)
    if sum(file.key is not None for file in found.cells) >= MANY:
        folder = found.cells[0].folder.parent
        warnings.warn(
            f"{len(found.cells)} files hold the cells of {folder}, and reading takes a moment for "
            f"each; make one of them: prune-sweep compact {folder}",
            ManyFilesWarning,
            stacklevel=3,
        )
    return read_cells(lambda: sources_of(source, filesystem).cells, names, chosen)


def _epochs(cells: pa.Table, column: str, stage: str, kept: list[str]) -> pa.Table:
    """A row an epoch of a nested column, beside these columns of its cell."""
    nested = cells.column(column).combine_chunks()
    told = cells.select(kept).take(pc.list_parent_indices(nested))
    epochs = pc.list_flatten(nested)
    for name in ("epoch", "loss", "accuracy"):
        told = told.append_column(name, pc.struct_field(epochs, name))
    return told.append_column("stage", pa.array([stage] * len(told), pa.string()))


def _known(wanted: Sequence[str] | None, default: list[str], allowed: list[str]) -> list[str]:
    names = list(default if wanted is None else wanted)
    if unknown := sorted(set(names) - set(allowed)):
        raise ValueError(
            f"there is no column {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    return names
