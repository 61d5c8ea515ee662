"""How one method of pruning stands among all others that leave equally much of a network."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from results.analysis.comparison import images_of, summarise
from results.analysis.intervals import LEVEL, holm
from results.analysis.study import STUDY, figures, of_grid

ENTRY = ("metric", "budget", "normalisation", "compensation", "schedule")
"""Columns of a method: how channels are chosen, and what is done to the network."""

CONTEST = (*STUDY, "scope", "ratio_of", "ratio")
"""Columns of a contest: its networks are pruned to the same ratio of the same cost."""

VERDICTS = ("first", "tied first", "behind", "not tested")

_RIVAL = tuple(f"rival_{name}" for name in ENTRY)
_COUNTS = ("entries", "ahead", "behind", "untested")
_SIZES = ("parameter_ratio", "macs_ratio")
_FIGURES = (
    *("accuracy", "accuracy_rival", "difference_points", "low_points", "high_points"),
    *("detectable_points", "seeds", "p", "p_holm"),
    *_SIZES,
    *(f"{name}_rival" for name in _SIZES),
)
_NAMES = (*CONTEST, "stage", *ENTRY, *_COUNTS, "verdict", *_RIVAL, *_FIGURES)


def standing(
    frame: pd.DataFrame,
    method: Mapping[str, str],
    at: str = "finetuned",
    split: str = "test",
) -> pd.DataFrame:
    """Whether a method is first in each contest, against every other method at the same ratio.

    A method is a metric with a budget rule, normalisation, compensation and schedule (`ENTRY`). A
    contest (`CONTEST`) is between all methods of one study and scope that are pruned to the same
    ratio of the same cost, such as 0.3 of the parameters. Each other method is compared with the
    one that is asked about, paired by the baseline, and p values are corrected over the methods of
    the contest.

    Parameters
    ----------
    frame : the frame that `results.load` returned. Controls take no part.
    method : a value for each column of `ENTRY` that is needed to name one method, such as
        `{"metric": "surgeon", "compensation": "least_squares"}`.
    at : pruned, compensated (methods without compensation take no part), recalibrated or finetuned.
    split : test; use validation to choose a method.

    Returns
    -------
    DataFrame, one row for each contest that the method and another one take part in, with the
    columns of `CONTEST`, the `stage`, the method's columns of `ENTRY`, and:

    entries : number of methods, with this one.
    ahead, behind : numbers of other methods that are significantly worse and better by Holm's
        corrected test at 0.05.
    untested : number of other methods without a test: fewer than two pairs, or the same difference
        in every seed.
    verdict : one of `VERDICTS`: `behind` if another method is significantly better; else
        `not tested` if no other has a test, or one without a test has the higher accuracy; else
        `first` if all others are significantly worse, and `tied first` if not. With few seeds a
        tie says little: `detectable_points` says what they could have found.
    rival_metric, rival_budget, ... : the other method with the highest mean accuracy. It was found
        by these accuracies, so its interval flatters it.
    accuracy, accuracy_rival : mean accuracies over the pairs with it, as fractions.
    difference_points, low_points, high_points : accuracy of the method minus that of the rival, in
        percentage points, with the ends of the 95 % t interval.
    detectable_points, seeds, p, p_holm : of this difference; see `results.paired_difference`.
    parameter_ratio, macs_ratio : fractions of parameters and multiply-accumulates that are left;
        the same with `_rival`.

    Raises
    ------
    ValueError
        If `method` is no dict or an empty one, or names another column, no method of the frame, or
        several of one contest; or as `results.paired_difference`.
    """
    if not isinstance(method, Mapping) or not method:
        example = "{'metric': 'surgeon'}"
        raise ValueError(f"method is {method!r}; give a dict that names it, such as {example}")
    if unknown := set(method) - set(ENTRY):
        raise ValueError(f"{min(unknown)!r} is no part of a method; allowed: {', '.join(ENTRY)}")
    cells = of_grid(figures(frame, at, split, [images_of(split)]))
    if cells.empty:
        return pd.DataFrame(columns=list(_NAMES))
    mine = (cells[list(method)] == pd.Series(method)).all(axis="columns")
    own, others = cells[mine], cells[~mine]
    _check_one_method(own, method)
    columns = own[[*CONTEST, *ENTRY]].drop_duplicates()
    others = others.merge(columns[list(CONTEST)], on=list(CONTEST))
    table = summarise(others, own, CONTEST, ENTRY, "the method", split)
    table["p_holm"] = (
        table.groupby(list(CONTEST), dropna=False)["p"].transform(holm).astype("float64")
    )
    rows = [
        {**dict(zip(CONTEST, place, strict=True)), **_stand(rivals)}
        for place, rivals in table.groupby(list(CONTEST), dropna=False)
    ]
    if not rows:
        return pd.DataFrame(columns=list(_NAMES))
    found = pd.DataFrame(rows).astype({name: columns[name].dtype for name in CONTEST})
    found = found.merge(columns, on=list(CONTEST)).assign(stage=at)
    return found[list(_NAMES)]


def _check_one_method(own: pd.DataFrame, method: Mapping[str, str]) -> None:
    said = ", ".join(f"{name} {value}" for name, value in method.items())
    if own.empty:
        raise ValueError(f"no cell has {said}")
    several = own.groupby(list(CONTEST), dropna=False)[list(ENTRY)].nunique(dropna=False)
    for name in ENTRY:
        if (several[name] > 1).any():
            values = ", ".join(sorted(own[name].unique()))
            raise ValueError(f"{said} is several methods: name the {name} too, one of {values}")


def _stand(rivals: pd.DataFrame) -> dict[str, object]:
    """What a contest found; `rivals` are rows of `summarise`, each minus the method."""
    significant = rivals["p_holm"] < 1 - LEVEL
    behind = int((significant & (rivals["difference_points"] > 0)).sum())
    ahead = int((significant & (rivals["difference_points"] < 0)).sum())
    untested = rivals["p"].isna()
    if behind:
        verdict = "behind"
    elif untested.all() or (rivals.loc[untested, "difference_points"] > 0).any():
        verdict = "not tested"
    else:
        verdict = "first" if ahead == len(rivals) else "tied first"
    # A rival without a pair has no accuracy and comes last.
    best = rivals.sort_values("accuracy", ascending=False, kind="stable").iloc[0]
    return {
        "entries": len(rivals) + 1,
        "ahead": ahead,
        "behind": behind,
        "untested": int(untested.sum()),
        "verdict": verdict,
        **{f"rival_{name}": best[name] for name in ENTRY},
        "accuracy": best["accuracy_reference"],
        "accuracy_rival": best["accuracy"],
        "difference_points": -best["difference_points"],
        "low_points": -best["high_points"],
        "high_points": -best["low_points"],
        **{name: best[name] for name in ("detectable_points", "seeds", "p", "p_holm")},
        **{name: best[f"{name}_reference"] for name in _SIZES},
        **{f"{name}_rival": best[name] for name in _SIZES},
    }
