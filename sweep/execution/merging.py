"""Merges the files of finished cells while a sweep runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from results import Store, StoreError
from results.storage.parquet_files import MANY


class FileMerger:
    """Merges the files of finished cells, `MANY` at a time.

    A large sweep then has few files, which can be read quickly. Each file is merged only once.

    Parameters
    ----------
    ended : keys of cells that have a separate file and will not run again.
    say : receives the message if a merge fails. The rows stay in their files, so the sweep
        continues.
    """

    def __init__(self, store: Store, ended: Iterable[str], say: Callable[[str], None]) -> None:
        self.store, self.say = store, say
        self._ended = set(ended)
        self._merge_many()

    def ended(self, key: str) -> None:
        """Call when a cell's row is final."""
        self._ended.add(key)
        self._merge_many()

    def _merge_many(self) -> None:
        if len(self._ended) < MANY:
            return
        try:
            self.store.merge(self._ended)
        except (StoreError, OSError) as error:
            self.say(f"the files of finished cells were not merged; no row is lost: {error}")
        self._ended.clear()
