"""The best metric of each setting, chosen by some seeds and judged by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from results.analysis.compensation import compensation_name
from results.analysis.intervals import LEVEL, holm, t_interval, t_test
from results.analysis.networks import NETWORK_WORDS
from results.analysis.protocols import finetune_name, schedule_name, target_name
from results.analysis.ranking import by_block, ratio_means
from results.analysis.study import SETTING, STUDY, figures, of_grid
from results.storage.schema import NO_COMPENSATION, ONE_SHOT

_EPOCHS = ("baseline_images", "finetune_images")
_PLACE = (*STUDY, *SETTING)
_NAMES = NETWORK_WORDS | {"finetune": finetune_name}


@dataclass(frozen=True)
class Lead:
    """The best metric of a setting, and its lead over the others.

    Attributes
    ----------
    place : the setting in words: data set, budget, normalisation, compensation and schedule.
    metric, second : the metrics with the highest validation accuracies over all seeds.
    metrics : number of metrics that were compared.
    left_out : number of further metrics, which lack a ratio for some seed and do not compete.
    left_out_ahead : how many of them have a higher validation accuracy than the best metric, where
        both have cells: the best of those that compete may not be the best of all.
    ratios : number of ratios that accuracies are averaged over: those that every seed has.
    points, low, high : accuracy of the best metric minus that of the second, and the ends of its
        95 % interval, in percentage points, as `leads` estimates them; NaN for one seed. The ends
        are also NaN if all seeds have the same difference.
    seeds : number of seeds, and so of folds.
    chosen, second_chosen : number of folds that choose the same best metric and the same second
        metric as all seeds together.
    behind : number of other metrics that are significantly worse, by Holm's corrected test.
    macs, macs_second : multiply-accumulates that the two metrics leave, as fractions, mean over
        ratios and seeds.
    """

    place: str
    metric: str
    second: str
    metrics: int
    left_out: int
    left_out_ahead: int
    ratios: int
    points: float
    low: float
    high: float
    seeds: int
    chosen: int
    second_chosen: int
    behind: int
    macs: float
    macs_second: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is, and no metric that is left out is better."""
        return self.low > 0 and not self.left_out_ahead


def leads(frame: pd.DataFrame) -> list[Lead]:
    """The best metric of each setting with two metrics or more.

    A setting is a study, budget, normalisation, compensation and schedule (`STUDY` and `SETTING` of
    `results.analysis.study`). Widths that are those of another metric are a control and no setting.

    A metric that was chosen for its accuracy looks better than it is on the networks that chose
    it, even on other images. So one seed is left out at a time: the best and the second metric
    are those with the highest validation accuracies after fine-tuning, averaged over the ratios
    and the other seeds; the difference of their test accuracies on the seed that was left out is
    one value. The lead is the mean of these values. With two seeds, each fold is chosen by one
    seed. With one seed there is no fold, and so no estimate. The folds share seeds, so the t
    interval of the mean is approximate. If all seeds start from the weights of one file, it says
    how much fine-tuning and seeded metrics vary, not how much networks vary.

    Parameters
    ----------
    frame : the frame that `results.load` returned.

    Returns
    -------
    list of `Lead`. Accuracies are averaged over the ratios at which every seed of a setting has
    cells. Only metrics that have all of them for every seed compete. A seed for which no metric has
    them is left out.

    Raises
    ------
    ValueError
        As `results.paired_difference`.
    """
    cells = {split: _cells(frame, split) for split in ("validation", "test")}
    validated, tested = (ratio_means(one, list(_PLACE)) for one in cells.values())
    # What differs only between data sets needs no naming beside the name of the data set.
    counts = validated.groupby("dataset")[[*STUDY[1:], *SETTING]].nunique(dropna=False).max()
    several = list(counts.index[counts > 1])
    found = []
    for place, rows in validated.groupby(list(_PLACE), dropna=False):
        named = pd.Series(place, index=list(_PLACE))
        keys = pd.DataFrame([named]).astype(tested[list(_PLACE)].dtypes)
        validation = _complete(rows)
        test = _complete(keys.merge(tested, on=list(_PLACE)))
        metrics = validation.columns.intersection(test.columns)
        seeds = validation.index.intersection(test.index)
        if len(metrics) > 1 and len(seeds):
            values = (one.loc[seeds, metrics] for one in (validation, test))
            here = keys.merge(cells["validation"], on=list(_PLACE))
            found.append(_lead(_words(named, several), rows, here, *values))
    return found


def _cells(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """The cells at the ratios that every seed of their setting has."""
    cells = of_grid(figures(frame, "finetuned", split))
    of_place = cells.groupby(list(_PLACE), dropna=False)["seed"].transform("nunique")
    at_ratio = cells.groupby([*_PLACE, "ratio"], dropna=False)["seed"].transform("nunique")
    return cells[at_ratio == of_place]


def _complete(means: pd.DataFrame) -> pd.DataFrame:
    """Accuracies [seeds, metrics] of the metrics that have all seeds."""
    return by_block(means, ["seed"]).dropna(how="all").dropna(axis="columns")


def _lead(
    place: str,
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    validation: pd.DataFrame,
    test: pd.DataFrame,
) -> Lead:
    """The lead in accuracies [seeds, metrics], the best metric first.

    Parameters
    ----------
    rows, cells : of the setting, as `ratio_means` and `_cells` return them.
    """
    best, second, *_ = _best_first(validation)
    each = cells.pivot_table("accuracy", ["seed", "ratio"], "metric")
    others = each.drop(columns=validation.columns).sub(each[best], axis="index")
    left_out_ahead = int((others.mean() > 0).sum())
    folds = {seed: _best_first(validation.drop(index=seed)) for seed in test.index}
    folds = {seed: names for seed, names in folds.items() if names}
    first = _of_rank(0, folds, test)
    ahead = first - _of_rank(1, folds, test)
    low, high = t_interval(ahead.mean(), ahead.std(), len(ahead))
    others = -test.drop(columns=best).loc[list(folds)].sub(first, axis="index")
    p = holm(pd.Series(t_test(others.mean(), others.std(), len(others)), index=others.columns))
    macs = rows.groupby("metric")["macs_ratio"].mean()
    return Lead(
        place=place,
        metric=str(best),
        second=str(second),
        metrics=len(test.columns),
        left_out=rows["metric"].nunique() - len(test.columns),
        left_out_ahead=left_out_ahead,
        ratios=int(rows["ratios"].max()),
        points=100 * float(ahead.mean()),
        low=100 * float(low),
        high=100 * float(high),
        seeds=len(test),
        chosen=sum(names[0] == best for names in folds.values()),
        second_chosen=sum(names[1] == second for names in folds.values()),
        behind=int(((p < 1 - LEVEL) & (others.mean() > 0)).sum()),
        macs=float(macs[best]),
        macs_second=float(macs[second]),
    )


def _of_rank(rank: int, folds: Mapping[int, list[str]], test: pd.DataFrame) -> pd.Series[float]:
    """For each seed left out, the test accuracy of the metric that the others rank there."""
    chosen = {seed: test.loc[seed, names[rank]] for seed, names in folds.items()}
    return pd.Series(chosen, dtype=float)


def _best_first(validation: pd.DataFrame) -> list[str]:
    """The metrics by their mean over the seeds, best first; none without a seed."""
    means = validation.mean().dropna()
    return [str(name) for name in means.sort_values(ascending=False, kind="stable").index]


def _words(named: pd.Series, several: Sequence[str]) -> str:
    """A setting in words, with the columns of the study that vary within a data set."""
    words = [str(named["scope"])]
    if named["budget"] != named["scope"]:
        words.append(str(named["budget"]))
    if named["normalisation"] != "none":
        words.append(str(named["normalisation"]))
    if "compensation" in several or named["compensation"] != NO_COMPENSATION:
        words.append(compensation_name(named["compensation"]))
    if "schedule" in several or named["schedule"] != ONE_SHOT:
        words.append(schedule_name(named["schedule"]))
    if "ratio_of" in several or named["ratio_of"] != "parameters":
        words.append(target_name(named["ratio_of"]))
    # An epoch usually has all training images, which need no naming again.
    whole = [name for name in _EPOCHS if named[name] == named["train_images"]]
    told = [name for name in several if name in STUDY and name not in whole]
    told = [name for name in told if not pd.isna(named[name])]
    words += [_NAMES.get(name, f"{name} {{}}".format)(named[name]) for name in told]
    return f"{named['dataset']} ({', '.join(filter(None, words))})"
