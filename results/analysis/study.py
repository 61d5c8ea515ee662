"""Selects cells that can be compared: those of one study, at one point of the grid.

Cells of one metric are averaged only if they differ in nothing but the seed. Cells that differ in
a column below get separate rows, and every table has these columns. Cells that differ only in
their `identity`, such as in a learning rate, are refused by `results.analysis.identities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.analysis.identities import (
    BASELINE_PART,
    BUDGET,
    COMPENSATION,
    FINETUNE,
    GROUPS,
    REST,
    VERSION,
    Difference,
    difference,
    identity_parts,
)
from results.storage import schema
from results.storage.schema import (
    CONTROLS,
    NO_COMPENSATION,
    ONE_SHOT,
    SCRATCH,
    SPLITS,
    STAGES,
    UNPRUNED,
)

Numbers = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_] | slice

UNPRUNED_STUDY = (
    "dataset",
    "variant",
    "width",
    "network_options",
    "image_height",
    "image_width",
    "weights",
    "train_images",
    "test_images",
    "epochs",
    "baseline_images",
)
"""Columns that identify the unpruned network of a seed: images, network, length of training."""

GROUPING = ("groups", "combine")
"""Columns that say which channels are removed together, and how such a group is scored."""

SCORED_STUDY = (*UNPRUNED_STUDY, *GROUPING)
"""Columns that identify the channel groups whose scores can be compared."""

FINETUNING = ("finetune", "finetune_epochs", "finetune_images")
"""Columns of the training after pruning: the recipe's name, and its length."""

TRAINED_STUDY = (*UNPRUNED_STUDY, *FINETUNING)
"""The unpruned network, and the training after pruning."""

FLOOR = ("min_channels", "min_channels_fraction", "round_to")
"""Columns that say how few channels a group may be left, and of what they are a multiple."""

STUDY = (*TRAINED_STUDY, *GROUPING, *FLOOR)
"""Columns that identify a study: images, network, length of training, channel groups, floor."""

RULE = ("scope", "budget", "ratio_of", "normalisation")
"""Columns that say how scores and a ratio become widths, and what the ratio counts."""

PROCEDURE = ("compensation", "schedule")
"""Columns that say what else is done to a network: how weights make up for removed channels, and
whether it is pruned at once or in steps."""

SETTING = (*RULE, *PROCEDURE)
"""Columns of a point of the grid without its ratio."""

POINT = (*SETTING, "ratio")
"""Columns of a point of the grid, beside the metric and the seed."""

BASELINE = ("seed", "baseline_key", "baseline_checksum")
"""Columns that identify a baseline: all cells that prune the same weights have the same values."""

_CARRIED = ("collapsed", "parameter_ratio")
_COUNTS = ("macs", "macs_full")
_HIDDEN = ("key", "status", "dataset_fingerprint", "metric_options", "identity", "precision")
_SPOKEN = ("dataset", "metric", "scope", "budget", "normalisation")
USUAL = {"compensation": NO_COMPENSATION, "finetune": schema.FINETUNE, "schedule": ONE_SHOT}
"""What a row means that says nothing of a column, and what messages need not say."""

TUNED, NOT_TUNED = "after fine-tuning", "recalibrated, not fine-tuned"
"""What the last accuracies of pruned networks are called."""


def figures(
    frame: pd.DataFrame, at: str = "finetuned", split: str = "test", extra: Iterable[str] = ()
) -> pd.DataFrame:
    """The cells with the accuracy of a stage and split, after a check that they are comparable.

    Parameters
    ----------
    frame : the frame that `results.load` returned.
    at : baseline, pruned, compensated, recalibrated or finetuned. At `compensated`, cells without
        compensation are left out.
    split : test; use validation to choose something.
    extra : further columns to keep.

    Returns
    -------
    DataFrame, one row for each study, point, metric and seed: those columns and `BASELINE`,
    `accuracy` in [0, 1], `collapsed`, `parameter_ratio`, `macs_ratio` (multiply-accumulates over
    those of the unpruned network), `unevaluated` and the extra ones. The accuracy is NaN if no cell
    of the seed is ok, or if the cell is ok and was not evaluated at the stage; `unevaluated` tells
    the two apart. The control that fine-tunes the unpruned network is left out, and so are cells
    that failed by a recipe with which no cell of their study is ok.

    Raises
    ------
    ValueError
        If a column is missing, if a metric has two cells that are ok for one seed, or if cells
        that agree in all columns of a study were made from other images or by other recipes.
    """
    column = accuracy_column(at, split)
    names = [*STUDY, *POINT, "metric", "seed"]
    kept = [*names, *BASELINE, *_CARRIED, *extra, *_HIDDEN]
    need_columns(frame, [*kept, *_COUNTS, column])
    kept = list(dict.fromkeys([*kept, "macs_ratio", "accuracy", "unevaluated"]))
    cells = completed(frame)
    cells = cells.assign(
        macs_ratio=macs_ratio(cells),
        accuracy=cells[column].astype(float),
        unevaluated=(cells["status"] == "ok") & cells[column].isna(),
    )
    wanted = cells["metric"] != UNPRUNED
    if at == "compensated":
        wanted &= cells["compensation"] != NO_COMPENSATION
    cells = cells.loc[wanted, kept]
    cells = cells[~_of_given_up_recipes(cells)].copy()
    good = cells["status"] == "ok"
    cells["accuracy"] = cells["accuracy"].where(good)
    cells["baseline_checksum"] = _known_checksums(cells)
    # First what names the values that differ.
    check_alike(cells[good])
    _check_one_a_seed(cells[good], names)
    cells = cells.sort_values("accuracy", na_position="last", kind="stable")
    cells = cells.drop_duplicates(names).sort_index()
    return cells.drop(columns=list(_HIDDEN)).reset_index(drop=True)


def of_grid(cells: pd.DataFrame) -> pd.DataFrame:
    """The pruned networks of the grid: no controls, and no widths of another metric."""
    return cells[(cells["scope"] != "widths_of") & ~cells["metric"].isin(CONTROLS)]


def macs_ratio(frame: pd.DataFrame) -> pd.Series[float]:
    """Multiply-accumulates that are left, over those of the unpruned network; NaN if not known.

    It is computed from the counts, since SQL over files of several schema versions leaves the
    column `mac_ratio` missing in rows of earlier ones.
    """
    return frame["macs"].astype(float) / frame["macs_full"].astype(float)


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with compensation, recipe, schedule and what the ratio counts in every row.

    SQL over files of several schema versions leaves these missing in rows of earlier ones, which
    have no compensation, the only recipe of their spec, and a single step.
    """
    said = {name: frame[name].fillna(usual) for name, usual in USUAL.items()}
    # Rows that do not say what their ratio counts are older than all other rules for channels.
    counted = frame["budget"].map({"uniform_channels": "channels"}).fillna("parameters")
    return frame.assign(**said, ratio_of=frame["ratio_of"].fillna(counted))


def was_finetuned(cells: pd.DataFrame) -> pd.Series[bool]:
    """Which cells have a recipe of fine-tuning that trains."""
    return cells["finetune_epochs"].fillna(1) > 0


def any_finetuning(frame: pd.DataFrame) -> bool:
    """Whether some pruned network was fine-tuned, or none is ok."""
    pruned = frame[(frame["status"] == "ok") & ~frame["metric"].isin(CONTROLS)]
    return pruned.empty or bool(was_finetuned(pruned).any())


def last_stage(frame: pd.DataFrame) -> str:
    """What the last accuracies of the pruned networks are, in words."""
    return TUNED if any_finetuning(frame) else NOT_TUNED


def any_compensation(frame: pd.DataFrame) -> bool:
    """Whether some row has a compensation."""
    return bool((frame["compensation"].fillna(NO_COMPENSATION) != NO_COMPENSATION).any())


def accuracy_column(at: str, split: str) -> str:
    """The column of a stage's top-1 accuracy.

    Raises
    ------
    ValueError
        If there is no such stage or split.
    """
    if at not in STAGES:
        raise ValueError(f"at={at!r} is unknown; allowed: {', '.join(STAGES)}")
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    return f"{at}_{split}_top1"


def need_columns(frame: pd.DataFrame, names: Iterable[str], source: str = "results.load") -> None:
    """Refuses a frame that lacks columns; `source` is the function that returns them.

    Raises
    ------
    ValueError
        With the names of these columns.
    """
    if absent := [name for name in dict.fromkeys(names) if name not in frame.columns]:
        raise ValueError(f"the frame has no column {', '.join(absent)}; {source} gives all of them")


def known_metrics(cells: pd.DataFrame, wanted: Iterable[str]) -> None:
    """Refuses names of metrics that have no cell, unless there is no cell of any metric.

    Raises
    ------
    ValueError
        With the name of the metric and the names that exist, or if a text is given for a list.
    """
    if isinstance(wanted, str):
        raise ValueError(f"metrics is {wanted!r}; give a list, such as [{wanted!r}]")
    present = sorted(cells["metric"].dropna().unique())
    for name in wanted:
        if present and name not in present:
            raise ValueError(f"there is no cell of metric {name!r}; there are {', '.join(present)}")


def check_one_study(cells: pd.DataFrame, columns: Iterable[str], apart: Sequence[str] = ()) -> None:
    """Refuses several studies of one data set, for what averages over a data set.

    Parameters
    ----------
    cells : rows with these columns.
    columns : those of a study, such as `STUDY`.
    apart : further columns by which the average is separate, such as `finetune`.

    Raises
    ------
    ValueError
        Naming the data set, the column and two of its values.
    """
    for (dataset, *_), rows in cells.groupby(["dataset", *apart]):
        for name in columns:
            values = rows[name].drop_duplicates()
            if len(values) > 1:
                one, other = ("nothing" if pd.isna(value) else value for value in values.iloc[:2])
                raise ValueError(
                    f"the cells of {dataset} are of several studies: {name} is {one} and {other}; "
                    "this averages over a data set, so select one"
                )


def same(table: pd.DataFrame, row: pd.Series[Any], names: Iterable[str]) -> pd.Series[bool]:
    """Which rows of a table agree with a row in these columns; missing values are equal."""
    found = pd.Series(True, index=table.index)
    for name in names:
        wanted = row[name]
        alike = table[name].isna() if pd.isna(wanted) else table[name] == wanted
        found &= alike.fillna(False).astype(bool)
    return found


def _check_one_a_seed(cells: pd.DataFrame, names: list[str]) -> None:
    twice = cells.duplicated(names, keep=False)
    if not twice.any():
        return
    found = cells[twice]
    first = found.iloc[0]
    alike = found[same(found, first, names)]
    kinds = ["key", "baseline_key", "dataset_fingerprint", "metric_options", "identity"]
    unlike = [name for name in kinds if len(alike[name].drop_duplicates()) > 1]
    reason = f"with different {', '.join(unlike)}" if unlike else "the same one twice"
    raise ValueError(
        f"there are two cells of {_words(first)}, seed {first['seed']}, {reason}; select "
        "rows so that one is left"
    )


def _of_given_up_recipes(cells: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are not ok and have a recipe that no row of their study has that is ok.

    A recipe that diverged is changed, and its rows stay in the folder. They are no cells that the
    study lacks.
    """
    good = (cells["status"] == "ok").to_numpy()
    found = np.zeros(len(cells), bool)
    if good.all():
        return found
    parts, groups = identity_parts(cells["identity"]), _Groups(cells)
    pruned = (cells["metric"] != SCRATCH).to_numpy()
    for part, study, rows in (
        (BASELINE_PART, UNPRUNED_STUDY, np.ones_like(pruned)),
        (FINETUNE, TRAINED_STUDY, pruned),
    ):
        numbers = groups.of(study)
        recipes, known = _pairs(numbers, parts[part]), good & rows
        given_up = np.isin(numbers, numbers[known]) & ~np.isin(recipes, recipes[known])
        found |= ~good & rows & given_up
    return found


def _known_checksums(cells: pd.DataFrame) -> pd.Series[str]:
    """The checksums of the baselines; empty in rows of versions that did not store them.

    A cell that failed before its baseline was there has none. It gets that of the other cells of
    its baseline, if they agree.
    """
    of_baseline = cells.groupby("baseline_key", dropna=False)["baseline_checksum"]
    single = of_baseline.transform("nunique") == 1
    found = cells["baseline_checksum"].fillna(of_baseline.transform("first").where(single))
    return found.fillna("").astype("str")


class UnlikeCells(ValueError):
    """Cells that must not be averaged, because they differ in more than the seed.

    Attributes
    ----------
    difference : the first value in which two of them differ.
    """

    def __init__(self, cells: str, difference: Difference) -> None:
        super().__init__(
            f"cells of {cells} cannot be pooled, because they differ in more than the seed: "
            f"{difference}"
        )
        self.difference = difference


def check_alike(cells: pd.DataFrame) -> None:
    """Refuses cells that differ in something for which a study has no column.

    Parameters
    ----------
    cells : rows of the frame that `results.load` returned, all of them ok.

    Raises
    ------
    UnlikeCells
        Naming the first value in which two of them differ, and both values.
    """
    point = (*STUDY, *POINT, "metric")
    groups = _Groups(cells)
    _check_column(groups, STUDY, "dataset_fingerprint")
    _check_column(groups, point, "metric_options")
    parts = identity_parts(cells["identity"])
    _check_single(groups, STUDY, parts[VERSION])
    # Studies that differ only in what follows the baseline share it.
    _check_single(groups, UNPRUNED_STUDY, parts[BASELINE_PART])
    # A network trained from scratch has the baseline's recipe, not the fine-tuning recipe.
    pruned = (cells["metric"] != SCRATCH).to_numpy()
    _check_single(groups, TRAINED_STUDY, parts[FINETUNE], pruned)
    _check_single(groups, STUDY, parts[GROUPS], pruned)
    # It has channel groups; how scores are combined counts only where a ranking set its widths.
    _check_single(groups, (*STUDY, *POINT), parts[GROUPS], ~pruned)
    # A network trained from scratch has none, also where it stands beside those that have one.
    _check_single(groups, (*STUDY, "compensation"), parts[COMPENSATION], pruned)
    # All metrics of a point are compared with one another, so they must share the budget.
    _check_single(groups, (*STUDY, *POINT), parts[BUDGET])
    _check_single(groups, point, parts[REST])
    # bf16 and fp32 differ as much as two seeds do, and `auto` depends on the device.
    _check_column(groups, STUDY, "precision", cells["precision"].notna().to_numpy())


class _Groups:
    """Numbers the rows of a table by the values of columns, and reads each column once.

    A report checks the same cells many times, and tuples of columns begin with shorter ones.
    """

    def __init__(self, cells: pd.DataFrame) -> None:
        self.cells = cells
        self._known: dict[tuple[str, ...], Numbers] = {(): np.zeros(len(cells), np.int64)}

    def of(self, names: tuple[str, ...]) -> Numbers:
        """For each row a number [rows] that rows with the same values share."""
        if names not in self._known:
            *before, last = names
            found = _pairs(self.of(tuple(before)), self.cells[last].array)
            self._known[names] = np.unique(found, return_inverse=True)[1]
        return self._known[names]


def _pairs(numbers: Numbers, values: Any) -> Numbers:
    """A number for each pair of a number and a value; missing values are equal."""
    codes = pd.factorize(values, use_na_sentinel=False)[0]
    return numbers * (codes.max(initial=0) + 1) + codes


def _check_column(
    groups: _Groups, names: tuple[str, ...], column: str, rows: Rows = slice(None)
) -> None:
    """Refuses cells that agree in `names`, but not in a column of the frame."""

    def unlike(one: object, other: object) -> Difference:
        return Difference(f"{column} is {one} and {other}", f'frame[frame["{column}"] == {one!r}]')

    _check_single(groups, names, groups.cells[column].array, rows, unlike)


def _check_single(
    groups: _Groups,
    names: tuple[str, ...],
    values: Any,
    rows: Rows = slice(None),
    unlike: Callable[[Any, Any], Difference] = difference,
) -> None:
    """Refuses those of the rows that agree in `names`, but not in the value of each row."""
    numbers = groups.of(names)[rows]
    if len(np.unique(_pairs(numbers, values[rows]))) == len(np.unique(numbers)):
        return
    found = groups.cells.loc[rows, list(names)].assign(value=values[rows]).drop_duplicates()
    first = found[found.duplicated(list(names), keep=False)].iloc[0]
    one, other = found.loc[same(found, first, names), "value"].iloc[:2]
    raise UnlikeCells(_words(first), unlike(one, other))


def _words(row: pd.Series[Any]) -> str:
    words = [str(row[name]) for name in _SPOKEN if name in row.index and not pd.isna(row[name])]
    told = {name: row.get(name, usual) for name, usual in USUAL.items()}
    words += [str(value) for name, value in told.items() if value != USUAL[name]]
    return ", ".join([*words, *([f"ratio {row['ratio']:g}"] if "ratio" in row.index else [])])
