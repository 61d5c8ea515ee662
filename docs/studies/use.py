"""What a practitioner should use: the best methods, and global or local pruning."""

from __future__ import annotations

from collections.abc import Iterator

import drawing
import pandas as pd
import tournament

from results.analysis.intervals import LEVEL, holm, over_seeds, t_test
from results.analysis.study import macs_ratio, of_grid

BUDGETS_AT = 0.3
"""The ratio at which local and global pruning by the same metric are compared."""


def best(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The best metric and budget at each ratio by held-out images, with ours and without."""
    cells = of_grid(frame).assign(macs=macs_ratio)
    named = ["metric", "scope", "normalisation"]
    figures = ["finetuned_validation_top1", "finetuned_test_top1", "macs"]
    for (dataset, ratio), rows in cells.groupby(["dataset", "ratio"]):
        means = rows.groupby(named)[figures].mean().sort_values(figures[0], ascending=False)
        ours = tournament.of_ours(means.index.get_level_values("metric").to_series())
        others = means[~ours.to_numpy()]
        yield {
            "parameters left": f"{dataset}, {ratio:g}",
            "best of all": _method(means.iloc[0]),
            "best without `surgeon`": _method(others.iloc[0]),
            "`output_l1`, local": _accuracy(means.loc[("output_l1", "local", "none")]),
        }


def budgets(frame: pd.DataFrame) -> Iterator[str]:
    """What a global ranking adds to local pruning by the same metric."""
    cells = of_grid(frame[frame["ratio"] == BUDGETS_AT])
    cells = cells.assign(place=list(map(drawing.budget, cells["scope"], cells["normalisation"])))
    wide = cells.pivot_table("finetuned_test_top1", ["dataset", "metric", "seed"], "place")
    for place, scores in (("global", "of raw scores"), ("standardised", "by layer_zscore")):
        points = (100 * (wide[place] - wide["local"])).rename("points").reset_index()
        table = over_seeds(points, ["dataset", "metric"], "points", 100)
        p = t_test(table["mean"] / 100, table["deviation"] / 100, table["seeds"])
        for dataset, rows in table.assign(p=p).groupby("dataset"):
            sure = holm(rows["p"]) < 1 - LEVEL
            up, down = (rows[sure & (rows["mean"] * sign > 0)] for sign in (1, -1))
            yield (
                f"{dataset}, {BUDGETS_AT:g}: the global ranking {scores} is better than local "
                f"pruning for {_ends(up)} of {len(rows)} metrics, worse for {_ends(down)}, and "
                f"open for {len(rows) - len(up) - len(down)}."
            )


def _method(row: pd.Series) -> str:
    metric, scope, normalisation = row.name
    return f"`{metric}`, {drawing.budget(scope, normalisation)}: {_accuracy(row)}"


def _accuracy(row: pd.Series) -> str:
    return f"{100 * row['finetuned_test_top1']:.1f} ({row['macs']:.2f})"


def _ends(rows: pd.DataFrame) -> str:
    """How many metrics, and those with the least and the most points."""
    if rows.empty:
        return "0"
    ends = rows.sort_values("mean").iloc[[0, -1] if len(rows) > 1 else [0]]
    return f"{len(rows)} ({', '.join(f'`{x.metric}` {x.mean:+.1f}' for x in ends.itertuples())})"
