"""Accuracies of the metrics, averaged over the seeds."""

from __future__ import annotations

import pandas as pd

from results.analysis.comparison import images_of
from results.analysis.intervals import over_seeds, sampling_error
from results.analysis.study import SETTING, STUDY, figures


def accuracy_table(frame: pd.DataFrame, at: str = "finetuned", split: str = "test") -> pd.DataFrame:
    """Top-1 accuracy of each metric at each point of the grid, over the seeds.

    Parameters
    ----------
    frame : what `load` returned; only cells that are ok count.
    at : baseline, pruned, compensated (cells without compensation are left out), recalibrated or
        finetuned.
    split : test, or validation for anything that is to be chosen.

    Returns
    -------
    DataFrame, one row for each study and setting (the columns `STUDY` and `SETTING` of
    `results.analysis.study`), metric and ratio: `mean`, `deviation` (sample standard
    deviation; NaN for one seed), `low` and `high`, the ends of the 95 % t interval of the mean (NaN
    for one seed and for equal values; see `t_interval`), all as fractions; `seeds`; `test_error`,
    at most the standard error that the finite number of test (or validation) images adds to the
    mean, which is in no interval over seeds, because all seeds share these images
    (`sampling_error`); `parameter_ratio` and `macs_ratio`, the fractions of the parameters and
    multiply-accumulates that are left, means over the seeds; and `collapsed`, the number of cells
    in which a channel group was cut down to its floor. Where `weights` is not missing, all seeds
    start from the weights of one file: the interval then says how much fine-tuning and seeded
    metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        If a metric has two cells for one seed and point, or cells are not comparable.
    """
    images = images_of(split)
    cells = figures(frame, at, split, [images]).dropna(subset="accuracy")
    cells = cells.assign(images=cells[images].astype(float))
    names = [*STUDY, *SETTING, "metric", "ratio"]
    table = over_seeds(
        cells,
        names,
        "accuracy",
        images=("images", "max"),
        parameter_ratio=("parameter_ratio", "mean"),
        macs_ratio=("macs_ratio", "mean"),
        collapsed=("collapsed", "sum"),
    )
    after = table.columns.get_loc("images")
    table.insert(after, "test_error", sampling_error(table["mean"], table["images"]))
    return table.drop(columns="images")
