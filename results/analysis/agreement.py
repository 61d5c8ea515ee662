"""How far metrics agree on the order of the channels of a group."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from results.analysis.study import need_columns


def rank_agreement(
    scores: pd.DataFrame, method: Literal["kendall", "spearman"] = "kendall"
) -> pd.DataFrame:
    """Rank correlation of two metrics over the channels of a group.

    Parameters
    ----------
    scores : the frame that `load_scores` returned.
    method : Kendall's tau-b, which allows for ties, or Spearman's rho.

    Returns
    -------
    DataFrame, one row for each dataset, seed, layer and pair of metrics, with `correlation` in
    [-1, 1]; NaN where a metric gives all channels of the layer the same score. `layer` is the
    number of a channel group, from 0.

    Raises
    ------
    ValueError
        If the method is unknown or a column is missing, if a metric has two scores for one channel,
        or if two metrics scored other channel groups of one network.
    """
    if method not in _CORRELATIONS:
        raise ValueError(f"method={method!r} is unknown; allowed: {', '.join(_CORRELATIONS)}")
    channel = ["dataset", "seed", "baseline_key", "metric", "layer", "channel"]
    need_columns(scores, [*channel, "score"], "results.load_scores")
    if scores.duplicated(channel).any():
        raise ValueError(
            "a metric has two scores for one channel, from different numbers of images, channel "
            "groups, ways to combine producers, or versions; select by scores_key first"
        )
    _check_groups(scores, channel[:4])
    correlate = _CORRELATIONS[method]
    rows = []
    for (dataset, seed, _, layer), group in scores.groupby([*channel[:3], "layer"]):
        wide = group.pivot_table(index="channel", columns="metric", values="score")
        # Ranks keep the order of scores, and unlike infinite scores they can be subtracted.
        found = correlate(scipy.stats.rankdata(wide.to_numpy(), axis=0, nan_policy="propagate"))
        for one, other in combinations(range(len(wide.columns)), 2):
            pair = wide.columns[one], wide.columns[other]
            rows.append((dataset, seed, layer, *pair, found[one, other]))
    names = ["dataset", "seed", "layer", "metric", "other_metric", "correlation"]
    return pd.DataFrame(rows, columns=names)


def _check_groups(scores: pd.DataFrame, scored: list[str]) -> None:
    """Refuses metrics whose channel groups of one baseline differ in number or in width.

    Parameters
    ----------
    scored : the columns that identify a baseline and a metric.
    """
    widths = scores.groupby([*scored, "layer"]).size().reset_index(name="width")
    for (dataset, seed, _), rows in widths.groupby(scored[:-1]):
        shapes = rows.groupby("metric")["width"].agg(tuple)
        unlike = shapes[shapes != shapes.iloc[0]]
        if len(unlike):
            one, other = shapes.index[0], unlike.index[0]
            raise ValueError(
                f"on {dataset}, seed {seed}, {one} and {other} scored different channel groups: "
                f"{len(shapes[one])} with {sum(shapes[one])} channels and {len(shapes[other])} "
                f"with {sum(shapes[other])}; select by scores_key first"
            )


def _kendall(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tau-b of all pairs of columns at once, [M, M], of ranks [C, M]; NaN for constant columns.

    Tau-b is the cosine between the signs of all differences: Kendall 1945, Biometrika 33.
    """
    count = ranks.shape[1]
    products = np.zeros((count, count))
    for channel in range(1, len(ranks)):
        signs = np.sign(ranks[channel:] - ranks[:-channel])
        products += signs.T @ signs
    return _cosines(products)


def _spearman(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rho of all pairs of columns, [M, M], of ranks [C, M]; NaN for constant columns."""
    centred = ranks - ranks.mean(axis=0)
    return _cosines(centred.T @ centred)


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.diagonal(products)
    lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
    # With rounding the cosine of equal columns may be slightly above 1.
    return np.clip(products / np.outer(lengths, lengths), -1.0, 1.0)


_CORRELATIONS = {"kendall": _kendall, "spearman": _spearman}
