"""Everything that figures and reports read, from one results folder or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.analysis.agreement import rank_agreement
from results.storage.frames import load, load_history, load_scores, load_steps


@dataclass(frozen=True)
class SweepTables:
    """The tables of one or more results folders, a cell in each of them once.

    Attributes
    ----------
    folders : as they were named.
    frame : as `results.load` returns it.
    history : as `results.load_history` returns it.
    scores : as `results.load_scores` returns it.
    """

    folders: tuple[str, ...]
    frame: pd.DataFrame
    history: pd.DataFrame
    scores: pd.DataFrame

    @property
    def agreement(self) -> pd.DataFrame:
        """As `results.rank_agreement` returns it, of the scores that cells which are ok name."""
        used = self.frame.loc[self.frame["status"] == "ok", "scores_key"]
        return rank_agreement(self.scores[self.scores["scores_key"].isin(used)])

    @property
    def steps(self) -> pd.DataFrame:
        """As `results.load_steps` returns them; they are read when they are asked for."""
        return load_steps(self.folders)


def read_tables(folders: Sequence[str]) -> SweepTables:
    """Reads results folders.

    Raises
    ------
    results.StoreError, results.SchemaError
        As `results.load`.
    """
    return SweepTables(tuple(folders), load(folders), load_history(folders), load_scores(folders))
