"""What has changed since a row was made, where a key names no cell of the spec any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import results
from results import Store
from results.storage.wrong_folder import has_results
from sweep.planning.grid import Plan

SHOWN = 3
"""Changed values that are told."""

_NETWORK = "baseline.architecture.network"
_FILES = {
    f"{_NETWORK}.fingerprint": "the text of {source} or of a file that it imports",
    "baseline.weights.fingerprint": "the tensors of {weights}",
}


def changes(planned: Plan, keys: Iterable[str], store: Store) -> Iterator[str]:
    """A sentence for each row that the keys name and that is no cell of the spec any more.

    It names the values in which the nearest cell of the spec differs from the row.

    Parameters
    ----------
    keys : of rows, or their beginnings.
    """
    rows = store.read(["key", "identity"]).to_pylist() if has_results(store.folder) else []
    for key in keys:
        named = [row for row in rows if key and row["key"].startswith(key)]
        if len(named) != 1 or any(cell.key.startswith(key) for cell in planned.cells):
            continue
        import pandas as pd  # a second, which a run without an unknown key saves

        texts = [named[0]["identity"], *(cell.identity for cell in planned.cells)]
        values = results.identities(pd.DataFrame({"identity": texts})).astype(object)
        values = values.where(values.notna(), None)
        differs = values.apply(lambda column: [value != column.iloc[0] for value in column])
        nearest = differs.iloc[1:].sum(axis=1).idxmin()
        cell, before, now = planned.cells[nearest - 1], values.iloc[0], values.loc[nearest]
        weights = cell.baseline.weights
        files = {
            "source": now.get(f"{_NETWORK}.source"),
            "weights": weights.path if weights else "the weights",
        }
        told = [
            f"{_words(name).format(**files)} ({before[name]}, now {now[name]})"
            for name in values.columns[differs.loc[nearest]]
        ]
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        yield (
            f"since row {named[0]['key']} was made, the cell '{cell.label}' has changed in "
            f"{', '.join(told[:SHOWN])}{more}"
        )


def _words(name: str) -> str:
    """What a value of an identity is, with names of `files` in braces."""
    of = name.removesuffix(".plugin")
    return _FILES.get(name, name) if of == name else f"the text of the plug-in of {of}"
