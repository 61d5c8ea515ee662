"""Ranks metrics over all baselines: Friedman's test and Nemenyi's critical difference.

Demsar 2006, Statistical comparisons of classifiers over multiple data sets, Journal of Machine
Learning Research 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from results.analysis import study
from results.analysis.intervals import LEVEL
from results.analysis.study import (
    STUDY,
    UNPRUNED_STUDY,
    check_one_study,
    figures,
    known_metrics,
)
from results.storage.schema import SCRATCH

SETTING = (*STUDY[len(UNPRUNED_STUDY) :], *study.SETTING)
"""Columns of a setting. Each setting has its own ranking, in which a baseline appears once."""

_SEED = (*UNPRUNED_STUDY, "seed")
_BLOCKS = ("baseline", "dataset")
_SIZES = ("parameter_ratio", "macs_ratio")
_COLUMNS = (
    *SETTING,
    "metric",
    "mean_rank",
    "accuracy",
    "parameter_ratio",
    "macs_ratio",
    "blocks",
    "dropped",
    "datasets",
    "friedman",
    "p",
    "critical_difference",
    "note",
)
# Rounding to these decimals keeps equal accuracies equal after averaging.
_DECIMALS = 12


def rank_metrics(
    frame: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    blocks: Literal["baseline", "dataset"] = "baseline",
    at: str = "finetuned",
    split: str = "test",
) -> pd.DataFrame:
    """Mean ranks of the metrics, and whether they differ significantly.

    A block is one seed of a data set and network. The ratios of one seed are not
    independent, so accuracies are averaged over them before they are ranked. Each scope, budget,
    normalisation, compensation, schedule, fine-tuning, choice of channel groups and floor has its
    own ranking.
    The result holds for the data sets and networks in the frame. With `blocks="dataset"` the seeds
    are averaged too, and the test asks about data sets in general, as in Demsar; this needs many
    data sets, and one network for each. Seeds that start from the weights of one file (`weights`)
    are blocks that differ in fine-tuning and seeded metrics only: their test says nothing about
    other networks.

    Parameters
    ----------
    frame : the frame that `load` returned. Networks trained from scratch are left out.
    metrics : the metrics to rank; all if not given.
    at : baseline, pruned, compensated (cells without compensation are left out), recalibrated or
        finetuned.
    split : test; use validation to choose something.

    Returns
    -------
    DataFrame, one row for each setting (the columns of `SETTING`) and metric, best first:
    `finetune_images` is missing where an epoch has all training images;
    `mean_rank` (1 is the highest accuracy; equal ones share the mean of their ranks), `accuracy`
    (mean over the blocks, a fraction), `parameter_ratio` and `macs_ratio` (the fractions of the
    parameters and multiply-accumulates that are left, means over the same cells: metrics of equal
    parameters may differ in the latter), `blocks` (the
    number of seeds, or data sets, that have every metric at every one of their ratios),
    `dropped` (the number of seeds that do not and are left out), `datasets` (the number of data
    sets among the blocks). The same in all rows of a setting: `friedman` (chi-square, corrected for
    ties) and its `p`, and `critical_difference`: mean ranks that differ by more are significantly
    different at the 0.05 level (Nemenyi). With fewer than 3 metrics or 2 blocks, or with ties only,
    these are NaN and `note` says why.

    Raises
    ------
    ValueError
        If a metric has no cell, or two for one seed and point, or cells are not comparable; if
        blocks are data sets, and one of these has several networks or trainings.
    """
    if blocks not in _BLOCKS:
        raise ValueError(f"blocks={blocks!r} is unknown; allowed: {', '.join(_BLOCKS)}")
    cells = figures(frame, at, split)
    cells = cells[cells["metric"] != SCRATCH]
    # An epoch of all images is one setting, whatever the number of images of a data set.
    whole = cells["finetune_images"] == cells["train_images"]
    cells = cells.assign(finetune_images=cells["finetune_images"].mask(whole))
    if metrics is not None:
        known_metrics(cells, metrics)
        cells = cells[cells["metric"].isin(list(metrics))]
    if blocks == "dataset":
        check_one_study(cells, UNPRUNED_STUDY)
    means = ratio_means(cells, list(SETTING))
    if means.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    parts = []
    for setting, rows in means.groupby(list(SETTING), dropna=False):
        named = dict(zip(SETTING, setting, strict=True))
        parts.append(_ranked(rows, blocks).assign(**named))
    return pd.concat(parts, ignore_index=True)[list(_COLUMNS)]


def ratio_means(cells: pd.DataFrame, setting: list[str]) -> pd.DataFrame:
    """Accuracies of each seed and metric in a setting, averaged over the ratios.

    A seed may have been trained twice, such as on two machines. Its metrics are comparable if they
    prune the same network at each ratio.

    Parameters
    ----------
    cells : as `results.analysis.study.figures` returns them.

    Returns
    -------
    DataFrame, one row for each setting, seed and metric: `ratios`, the number of ratios at which
    the seed was pruned in this setting, `accuracy`, and `parameter_ratio` and `macs_ratio`, the
    fractions of parameters and multiply-accumulates that are left; all three are NaN if the metric
    lacks a ratio, or if metrics prune different networks of this seed at some ratio.
    """
    seed = list(dict.fromkeys([*setting, *_SEED]))
    pruned = cells["baseline_checksum"].where(cells["accuracy"].notna())
    point = [cells[name] for name in [*seed, "ratio"]]
    networks = pruned.groupby(point, dropna=False).transform("nunique")
    cells = cells.assign(accuracy=cells["accuracy"].where(networks <= 1))
    ratios = cells.groupby(seed, dropna=False)["ratio"].nunique().rename("ratios")
    means = (
        cells.groupby([*seed, "metric"], dropna=False)
        .agg(
            accuracy=("accuracy", "mean"),
            known=("accuracy", "count"),
            parameter_ratio=("parameter_ratio", "mean"),
            macs_ratio=("macs_ratio", "mean"),
        )
        .reset_index()
        .merge(ratios.reset_index(), on=seed)
    )
    averaged = ["accuracy", *_SIZES]
    means[averaged] = means[averaged].where(means["known"] == means["ratios"])
    return means.drop(columns="known")


def by_block(means: pd.DataFrame, names: Sequence[str], column: str = "accuracy") -> pd.DataFrame:
    """Accuracies, or another column, with a row for each block and a column for each metric.

    Parameters
    ----------
    means : as `ratio_means` returns them, of one setting.
    names : columns that identify a block; the rows are numbered in their order.
    """
    block = means.groupby(list(names), dropna=False).ngroup()
    wide = means.assign(block=block).pivot_table(column, "block", "metric")
    # pivot_table drops blocks and metrics without any accuracy, but they must be counted.
    return wide.reindex(index=range(block.nunique()), columns=sorted(means["metric"].unique()))


def nemenyi_distance(metrics: int, blocks: int) -> float:
    """Smallest difference of mean ranks that is significant at the 0.05 level."""
    q = scipy.stats.studentized_range.ppf(LEVEL, metrics, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(metrics * (metrics + 1) / (6 * blocks)))


def _ranked(rows: pd.DataFrame, blocks: str) -> pd.DataFrame:
    wide = by_block(rows, _SEED)
    complete = wide.dropna()
    dropped = len(wide) - len(complete)
    datasets = rows.groupby(list(_SEED), dropna=False)["dataset"].first()
    datasets = datasets.reset_index(drop=True)[complete.index]
    sizes = {
        name: by_block(rows, _SEED, name).loc[complete.index].mean().to_numpy() for name in _SIZES
    }
    if blocks == "dataset":
        complete = complete.groupby(datasets).mean()
    complete = complete.round(_DECIMALS)
    ranks = complete.rank(axis="columns", ascending=False)
    table = pd.DataFrame(
        {
            "metric": complete.columns,
            "mean_rank": ranks.mean().to_numpy(),
            "accuracy": complete.mean().to_numpy(),
            **sizes,
        }
    )
    count, metrics = complete.shape
    friedman, p, distance, note = np.nan, np.nan, np.nan, ""
    if count == 0:
        note = f"no baseline has all {metrics} metrics at all ratios: select fewer metrics"
    elif metrics < 3:
        note = f"{metrics} metric{'s' if metrics > 1 else ''}: a ranking needs 3"
    elif count < 2:
        note = "one block: the test needs 2"
    elif (ranks == (metrics + 1) / 2).all(axis=None):
        note = "all metrics are equal in every block"
    else:
        friedman, p = scipy.stats.friedmanchisquare(*(complete[name] for name in complete.columns))
        distance = nemenyi_distance(metrics, count)
    return table.assign(
        blocks=count,
        dropped=dropped,
        datasets=datasets.nunique(),
        friedman=friedman,
        p=p,
        critical_difference=distance,
        note=note,
    ).sort_values(["mean_rank", "metric"], ignore_index=True)
