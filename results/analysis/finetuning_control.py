"""What fine-tuning alone does to the unpruned network."""

from __future__ import annotations

import pandas as pd

from results.analysis.comparison import SUMMARY, images_of, summarise
from results.analysis.identities import (
    BASELINE_PART,
    FINETUNE,
    VERSION,
    difference,
    identity_parts,
)
from results.analysis.study import BASELINE, TRAINED_STUDY, completed, figures, was_finetuned
from results.storage.schema import CONTROLS, SCRATCH, UNPRUNED

_TRAINED = (*TRAINED_STUDY, "schedule")
_STAND_IN = "the unpruned network"
_SHOWN = tuple(name for name in SUMMARY if not name.startswith(("parameter", "macs", "collapsed")))


def finetuning_control(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Accuracy of the unpruned network after fine-tuning, minus that before.

    The network is fine-tuned by the recipe of the pruned ones. A recipe that lowers it also
    lowers the pruned networks, and so hides differences between metrics.

    Parameters
    ----------
    frame : the frame that `results.load` returned.
    split : test or validation.

    Returns
    -------
    DataFrame, one row for each data set, network, training (`TRAINED_STUDY` of
    `results.analysis.study`) and schedule that has this control, with the columns of
    `results.paired_difference` from `difference_points` on: `accuracy` is that after fine-tuning
    and `accuracy_reference` that before. `p_holm` is corrected over the rows of this frame. Where
    `weights` is not missing, all seeds start from the weights of one file: the interval then says
    how much fine-tuning varies, not how much networks vary.

    Raises
    ------
    ValueError
        If the control has two cells for one seed, or another recipe than the pruned cells of its
        study, or as `results.paired_difference`.
    """
    _check_recipes(frame)
    # `figures` leaves the control out, since it is no metric; under another name it is checked.
    control = frame[frame["metric"] == UNPRUNED].assign(metric=_STAND_IN)
    # Channel groups do not change the unpruned network. Sweeps with other groups that share it may
    # each have fine-tuned it, on machines of different kinds.
    after, before = (
        figures(control, stage, split, [images_of(split)])
        .groupby([*_TRAINED, *BASELINE], dropna=False, as_index=False)
        .mean(numeric_only=True)
        for stage in ("finetuned", "baseline")
    )
    table = summarise(after, before, _TRAINED, [], "the network before fine-tuning", split)
    return table[[*_TRAINED, *_SHOWN]]


def lowered(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `finetuning_control` in which fine-tuning lowers the unpruned network.

    The whole interval lies below zero, or there is no interval and the mean does.
    """
    low = table["difference_points"] < 0
    return table[low & ~(table["high_points"] >= 0)]


def studies_without_control(frame: pd.DataFrame) -> tuple[int, int]:
    """How many trainings of pruned networks lack the control of their fine-tuning, and of how many.

    Networks that are not fine-tuned need none.
    """
    names = list(TRAINED_STUDY)
    good = completed(frame[frame["status"] == "ok"])
    tuned = ~good["metric"].isin(CONTROLS) & was_finetuned(good)
    trained = good.loc[tuned, names].drop_duplicates()
    controlled = good.loc[good["metric"] == UNPRUNED, names].drop_duplicates()
    return len(trained) - len(trained.merge(controlled, on=names)), len(trained)


def _check_recipes(frame: pd.DataFrame) -> None:
    """Refuses a control with another recipe than the pruned cells of its study."""
    cells = completed(frame[(frame["status"] == "ok") & (frame["metric"] != SCRATCH)])
    if not (cells["metric"] == UNPRUNED).any():
        return
    parts = identity_parts(cells["identity"])
    is_control = cells["metric"] == UNPRUNED
    for part in (VERSION, BASELINE_PART, FINETUNE):
        told = cells.assign(part=parts[part])
        recipes = [
            told.loc[chosen, [*TRAINED_STUDY, "part"]].drop_duplicates()
            for chosen in (is_control, ~is_control)
        ]
        pairs = recipes[0].merge(recipes[1], on=list(TRAINED_STUDY))
        unlike = pairs[pairs["part_x"] != pairs["part_y"]]
        if len(unlike):
            first = unlike.iloc[0]
            raise ValueError(
                f"on {first['dataset']} the control {UNPRUNED!r} is not trained as the pruned "
                f"networks are: {difference(first['part_x'], first['part_y'])}"
            )
