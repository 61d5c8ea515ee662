"""The comparisons that a study was made for, named before the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from results.analysis.comparison import NOT_RUN, SUMMARY, images_of, summarise
from results.analysis.intervals import holm
from results.analysis.scratch import beside_scratch
from results.analysis.study import POINT, STUDY, figures
from results.storage.plan_file import DEFAULT_BUDGETS, Comparison

_WHAT = (*POINT, "metric", "reference")
LATE = "named when results could already be seen"
"""Begins the note of a comparison that is not one made in advance."""

_PAIR = ["metric", "reference"]
_NAMED = ("compensation", "finetune", "schedule")
_COUNTS = ("seeds", "unpaired", "collapsed", "collapsed_reference")


def planned_differences(
    frame: pd.DataFrame, comparisons: Sequence[Comparison], split: str = "test"
) -> pd.DataFrame:
    """The paired differences that were named before the run, after fine-tuning.

    A p value that is corrected over many comparisons of a grid finds little. So a study names the
    few that it is made for, and only these are corrected together.

    Parameters
    ----------
    frame : the frame that `results.load` returned.
    comparisons : as `results.storage.plan_file.read_plan` returns them. Equal ones count once;
        one of a metric with itself is left out.
    split : test; use validation to choose something.

    Returns
    -------
    DataFrame, one row for each comparison, data set and study, in the order of `comparisons`,
    with the columns of `results.paired_difference`. `p_holm` is corrected over these rows and
    nothing else. `note` says which comparisons were added to the spec when rows of the sweep could
    already be seen: their p values are exploratory. Where a metric or its reference was not run, or
    the data set has no cell, the row has no figures, and `note` says why. Where `weights` is not
    missing, all seeds start from the weights of one file: intervals then say how much fine-tuning
    and seeded metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        If a comparison names no budget and its scope has no default rule, or as
        `results.paired_difference`.
    """
    cells = beside_scratch(figures(frame, "finetuned", split, [images_of(split)]))
    studies = cells[list(STUDY)].drop_duplicates()
    wanted, metrics, references = [], [], []
    for number, one in enumerate(_distinct(comparisons)):
        here = cells[_at(cells, one)].assign(number=number, reference=one.reference)
        metrics.append(here[here["metric"] == one.metric])
        references.append(here[here["metric"] == one.reference])
        counted = here["ratio_of"].iloc[0] if len(here) else None
        wanted.append(_rows(number, one, studies).assign(ratio_of=counted))
    if not wanted:
        return pd.DataFrame(columns=[*STUDY, *_WHAT, *SUMMARY])
    arms = pd.concat(metrics), pd.concat(references).drop(columns=["metric", "reference"])
    table = summarise(*arms, ["number", *STUDY], ["reference"], "the reference", split)
    rows = pd.concat(wanted, ignore_index=True).astype({"ratio_of": cells["ratio_of"].dtype})
    # A comparison of every data set and one of a single data set may ask the same, as may one with
    # its two metrics exchanged. A test that counts twice would be corrected too much.
    asked = rows.assign(pair=["/".join(sorted(pair)) for pair in rows[_PAIR].to_numpy()])
    rows = rows[~asked.duplicated([*STUDY, *POINT, "pair"])]
    table = rows.merge(table.drop(columns="reference"), on=["number", *STUDY], how="left")
    return _noted(table)


def _distinct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    for one in comparisons:
        if one.budget is None and one.scope not in DEFAULT_BUDGETS:
            raise ValueError(
                f"the comparison of {one.metric} names no budget; only the scopes "
                f"{', '.join(DEFAULT_BUDGETS)} have a default rule, not {one.scope!r}"
            )
    pairs = [one for one in comparisons if one.metric != one.reference]
    return list(dict.fromkeys(replace(one, budget=one.rule) for one in pairs))


def _at(cells: pd.DataFrame, one: Comparison) -> pd.Series[bool]:
    """The cells at the point of a comparison, of any metric."""
    at = (cells["scope"] == one.scope) & (cells["budget"] == one.rule)
    at &= (cells["normalisation"] == one.normalisation) & (cells["ratio"] == one.ratio)
    for name in _NAMED:
        at &= cells[name] == getattr(one, name)
    return at if one.dataset is None else at & (cells["dataset"] == one.dataset)


def _rows(number: int, one: Comparison, studies: pd.DataFrame) -> pd.DataFrame:
    """The rows that a comparison must have: one for each study of its data sets."""
    named = studies[studies["finetune"] == one.finetune]
    if one.dataset is not None:
        named = named[named["dataset"] == one.dataset]
    if named.empty:
        named = studies.iloc[:0].reindex([0]).assign(dataset=one.dataset, finetune=one.finetune)
    return named.assign(
        number=number,
        scope=one.scope,
        budget=one.rule,
        normalisation=one.normalisation,
        compensation=one.compensation,
        schedule=one.schedule,
        ratio=one.ratio,
        metric=one.metric,
        reference=one.reference,
        in_advance=one.in_advance,
    )


def _noted(table: pd.DataFrame) -> pd.DataFrame:
    absent = table["note"].isna()
    without_reference = table["note"] == f"the reference{NOT_RUN}"
    note = table["note"].mask(absent, table["metric"] + NOT_RUN)
    note = note.mask(without_reference, table["reference"] + NOT_RUN)
    late = ~table["in_advance"].astype(bool)
    note = note.mask(late, (LATE + "; " + note).str.removesuffix("; "))
    counts = table[list(_COUNTS)].fillna(0).astype("int64")
    table = table.assign(note=note, p_holm=holm(table["p"]), **dict(counts.items()))
    return table[[*STUDY, *_WHAT, *SUMMARY]]
