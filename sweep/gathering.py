"""Few files from many cells: the rows of those that ended are merged while a sweep runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from results import Store, StoreError
from results.files import MANY


class Gathering:
    """Merges the files of cells that ended, a thousand at a time.

    So a sweep of any size leaves files that are read in a moment, and each is merged once.

    Parameters
    ----------
    ended : keys of cells that have a file of their own and are not run again.
    say : told what went wrong; the rows are safe where they are, so the sweep goes on.
    """

    def __init__(self, store: Store, ended: Iterable[str], say: Callable[[str], None]) -> None:
        self.store, self.say = store, say
        self._ended = set(ended)
        self._gather_many()

    def ended(self, key: str) -> None:
        """A cell has its row, for good."""
        self._ended.add(key)
        self._gather_many()

    def _gather_many(self) -> None:
        if len(self._ended) < MANY:
            return
        try:
            self.store.gather(self._ended)
        except (StoreError, OSError) as error:
            self.say(f"the files of single cells stay as they are: {error}")
        self._ended.clear()
