"""Loads the tables as pandas data frames."""

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
from results.storage.schema import CELLS, IMPORTANCES, NESTED, STEP

# pandas' default integers and booleans cannot be missing, but a failed cell has missing values.
_NULLABLE: dict[pa.DataType, pd.api.extensions.ExtensionDtype] = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(na_value=float("nan")),
}
_TREATMENT = ["compensation", "finetune", "schedule"]
_POINT = ["metric", "normalisation", "scope", "budget", *_TREATMENT, "ratio"]
_ORDER = ["dataset", "variant", "seed", *_POINT]
_CELL = ["key", "dataset", "seed", *_POINT, "ratio_of"]
CHANNELS = [*_CELL, "layer", "group", "channel", "score", "kept"]
_SHARED = ["baseline_key", "dataset", "seed"]
_OWN = ["metric", "scope", "budget", "normalisation", *_TREATMENT, "ratio", "ratio_of"]
_TOLD = ["key", *_SHARED, *_OWN]
HISTORY = [*_TOLD, "stage", "step", "epoch", "loss", "accuracy"]
# The cell has a column `ratio` too: the target of its last step.
_STEP_NAMES = {"ratio": "step_ratio"}
STEPS = [*_TOLD, *(_STEP_NAMES.get(name, name) for name in STEP)]


class ManyFilesWarning(UserWarning):
    """The cells are in so many files that reading takes seconds; `prune-sweep compact` helps."""


def load(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """The `cells` table: one row per cell, including failed ones.

    Parameters
    ----------
    source : a results folder, such as `runs/digits` or `s3://bucket/runs/digits`; a Parquet file
        from its `cells`; or a list of these. If several folders hold the same key, the row that
        finished later counts; if both finished together, the row of the source named later.
    columns : which to read; all but the nested ones if not given.
    filters : which rows to read: a list of conditions that must all hold, such as
        `[("dataset", "==", "cifar10"), ("ratio", "<=", 0.5)]`; or a list of such lists, of which
        one must hold; or a pyarrow expression.
    filesystem : a pyarrow file system, for one that has no URI; the sources are then paths in it.

    Returns
    -------
    DataFrame with the columns asked for, or with all columns of `results.CELLS` but the nested
    ones. A column always has the same type. Rows are ordered by dataset, seed, metric, scope and
    ratio. Values that an older version did not write are missing.

    Raises
    ------
    results.StoreError
        If there is no such folder, or a named file cannot be read.
    results.SchemaError
        If a file was written by a newer version.
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
    """Training, one row per epoch: fine-tuning of every cell, and of every baseline once.

    Parameters
    ----------
    source, filesystem : see `load`.
    columns : of this table; all if not given.
    filters : which cells to read, on the columns of `results.CELLS`; see `load`. Only the
        baselines of these cells are read.

    Returns
    -------
    DataFrame with `key`, `baseline_key`, `dataset`, `seed`, `metric`, `scope`, `budget`,
    `normalisation`, `compensation`, `finetune`, `schedule`, `ratio`, `ratio_of`, `stage` (baseline
    or finetune), `step` of an iterative schedule (missing for one_shot), `epoch` from 1, `loss` in
    nats and `accuracy`, both on the training images. In the rows of a baseline, the key and the
    columns of cells, from metric to ratio_of, are missing. If a baseline was trained more than
    once, its cells may hold different histories; the history of the cell that finished last counts.

    Raises
    ------
    As `load`.
    """
    names = _known(columns, HISTORY, HISTORY)
    needed = [*_TOLD, "history", "baseline_history", "finished_at"]
    cells = _cells(source, needed, filters, filesystem)
    newest = pc.sort_indices(cells, [("finished_at", "descending")])
    told = cells.take(newest).filter(pc.is_valid(cells.column("baseline_history").take(newest)))
    keys = told.column("baseline_key").to_pandas()
    baselines = told.filter(pa.array(~keys.duplicated(), pa.bool_()))
    epochs = pa.concat_tables(
        [
            _of_stage(_unnested(baselines, "baseline_history", _SHARED), "baseline"),
            _of_stage(_unnested(cells, "history", _TOLD), "finetune"),
        ],
        promote_options="default",
    )
    frame = epochs.to_pandas(types_mapper=_NULLABLE.get)
    order = ["dataset", "seed", "baseline_key", "stage", *_OWN, "key", "step", "epoch"]
    return frame.sort_values(order, ignore_index=True)[names]


def load_steps(
    source: Source,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
    filesystem: fs.FileSystem | None = None,
) -> pd.DataFrame:
    """Where each step of an iterative schedule ended, one row per step.

    Parameters
    ----------
    source, filesystem : see `load`.
    columns : of this table; all if not given.
    filters : which cells to read, on the columns of `results.CELLS`; see `load`.

    Returns
    -------
    DataFrame with `key`, `baseline_key`, `dataset`, `seed`, `metric`, `scope`, `budget`,
    `normalisation`, `compensation`, `finetune`, `schedule`, `ratio` and `ratio_of` of the cell;
    `step` from 1, its target `step_ratio`, `parameters` and `macs` of the network after it, the
    accuracies `pruned_validation_top1`, `pruned_test_top1`, `finetuned_validation_top1` and
    `finetuned_test_top1`, as fractions, and its `seconds`. Cells of one_shot have no rows.

    Raises
    ------
    As `load`.
    """
    names = _known(columns, STEPS, STEPS)
    steps = _unnested(_cells(source, [*_TOLD, "steps"], filters, filesystem), "steps", _TOLD)
    frame = steps.to_pandas(types_mapper=_NULLABLE.get)
    order = ["dataset", "seed", "baseline_key", *_OWN, "key", "step"]
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
    source, filesystem : see `load`. A file may also come from a folder's `scores`. For a file
        from its `cells`, the scores of the same folder are read.
    columns, filters : of `results.IMPORTANCES`; see `load`.

    Returns
    -------
    DataFrame, one row for each dataset, seed, metric, layer and channel, with `score`. `layer` is
    the number of a channel group from 0, in the order of `group_names` in the cells.

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
    """Every channel of every pruned cell: its score and whether it was kept.

    Parameters
    ----------
    source, filesystem : see `load_scores`.
    columns : of this table; all if not given.
    filters : which cells to read, on the columns of `results.CELLS`; see `load`.

    Returns
    -------
    DataFrame, one row for each cell, layer and channel: `key`, `dataset`, `seed`, `metric`,
    `normalisation`, `scope`, `budget`, `compensation`, `finetune`, `schedule`, `ratio`, `ratio_of`,
    `layer` (number of the channel group, from 0), `group` (its name; missing in rows of versions
    that did not store it), `channel`, `score`, `kept`. Cells that chose no channels, such as failed
    ones and networks trained from scratch, have no rows. Cells whose scores are not in the sources
    have none either.

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
    needed = [*_CELL, "scores_key", "group_names", "kept"]
    cells = _cells(source, needed, filters, filesystem)
    for cell in cells.to_pylist():
        if cell["kept"] is None or cell["scores_key"] not in scores:
            continue
        rows = scores[cell["scores_key"]]
        layers = rows["layer"].to_numpy()
        # Rows are ordered by layer and channel: channel c of a layer is c rows after its first row.
        first = np.searchsorted(layers, np.arange(len(cell["kept"])))
        kept = np.zeros(len(rows), dtype=bool)
        for layer, channels in enumerate(cell["kept"]):
            kept[first[layer] + np.asarray(channels, dtype=int)] = True
        groups = cell["group_names"] or [None] * len(cell["kept"])
        group = pd.array(np.asarray(groups, dtype=object)[layers], dtype=_NULLABLE[pa.string()])
        told = {name: cell[name] for name in _CELL} | {"group": group, "kept": kept}
        frames.append(rows.assign(**told)[names])
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
            f"the cells of {folder} are in {len(found.cells)} files, which is slow to read; merge "
            f"them with: prune-sweep compact {folder}",
            ManyFilesWarning,
            stacklevel=3,
        )
    return read_cells(lambda: sources_of(source, filesystem).cells, names, chosen)


def _unnested(cells: pa.Table, column: str, kept: list[str]) -> pa.Table:
    """One row per entry of a nested column, with the columns `kept` of its cell."""
    nested = cells.column(column).combine_chunks()
    told = cells.select(kept).take(pc.list_parent_indices(nested))
    entries = pc.list_flatten(nested)
    for field in entries.type:
        name = _STEP_NAMES.get(field.name, field.name)
        told = told.append_column(name, pc.struct_field(entries, field.name))
    return told


def _of_stage(epochs: pa.Table, stage: str) -> pa.Table:
    return epochs.append_column("stage", pa.array([stage] * len(epochs), pa.string()))


def _known(wanted: Sequence[str] | None, default: list[str], allowed: list[str]) -> list[str]:
    if isinstance(wanted, str):
        raise ValueError(f"columns is {wanted!r}; give a list, such as [{wanted!r}]")
    names = list(default if wanted is None else wanted)
    if unknown := sorted(set(names) - set(allowed)):
        raise ValueError(
            f"there is no column {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    return names
