"""Networks trained from scratch, in the studies that they control."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.analysis.study import BASELINE, FINETUNING, POINT, PROCEDURE, RULE, STUDY
from results.storage.schema import SCRATCH


def beside_scratch(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells, with networks trained from scratch added to the studies that they control.

    Such a network is trained as a baseline is and is not fine-tuned. So it belongs to all studies
    that agree with it in everything but fine-tuning. If its widths are not those of
    a ranking, they do not depend on how scores are combined either. It has no compensation and is
    trained once, and stands beside cells of every compensation and schedule. Cells that were added
    once are not added again.
    """
    is_scratch = cells["metric"] == SCRATCH
    if not is_scratch.any():
        return cells
    others, local = cells[~is_scratch], is_scratch & (cells["scope"] == "local")
    parts = [
        others,
        _lent(cells[local], others, [*FINETUNING, "combine"]),
        _lent(cells[is_scratch & ~local], others, FINETUNING),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _lent(own: pd.DataFrame, others: pd.DataFrame, free: Sequence[str]) -> pd.DataFrame:
    """Networks trained from scratch, in each study of the others that differs only in `free`.

    There they are beside each compensation and schedule that networks of the same budget have.
    """
    lent = _spread(own, others, STUDY, free)
    lent = _spread(lent, others, [*STUDY, *RULE, *PROCEDURE], PROCEDURE)
    once = [*STUDY, *POINT, "metric", *BASELINE, *(["key"] if "key" in own else [])]
    return lent.drop_duplicates(once)[own.columns]


def _spread(
    own: pd.DataFrame, others: pd.DataFrame, names: Sequence[str], free: Sequence[str]
) -> pd.DataFrame:
    """Each row once for each value of `free` that others have which agree in the other `names`."""
    renamed = own.rename(columns={name: f"_{name}" for name in free})
    shared = [name for name in names if name not in free]
    found = renamed.merge(others[list(names)].drop_duplicates(), on=shared, how="left")
    return found.assign(**{name: found[name].fillna(found[f"_{name}"]) for name in free})
