"""Merges the files of finished cells while a sweep runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from results import Store, StoreError
from results.storage.parquet_files import MANY


class FileMerger:
    """Merges the files of finished cells, a thousand at a time.

    A sweep of any size then leaves few files, which are read quickly, and merges each file once.

    Parameters
    ----------
    ended : keys of cells that have a file of their own and are not run again.
    say : told what went wrong; the rows are safe where they are, so the sweep goes on.
    """

    def __init__(self, store: Store, ended: Iterable[str], say: Callable[[str], None]) -> None:
        self.store, self.say = store, say
        self._ended = set(ended)
        self._merge_many()

    def ended(self, key: str) -> None:
        """A cell has its row, for good."""
        self._ended.add(key)
        self._merge_many()

    def _merge_many(self) -> None:
        if len(self._ended) < MANY:
            return
        try:
            self.store.merge(self._ended)
        except (StoreError, OSError) as error:
            self.say(f"the files of single cells stay as they are: {error}")
        self._ended.clear()
