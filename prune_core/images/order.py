"""A fixed pseudo-random order of positions, the same on every machine and in every release.

NumPy and PyTorch do not promise the streams of their generators over releases, and a hold-out
that moves with an upgrade would silently change every number measured on it. A hash of the
position has neither that problem nor any global state.
"""

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int) -> NDArray[np.int64]:
    """Returns a permutation of 0..count-1, int64 [count], a function of `count` alone."""
    return np.argsort(_hashes(count), kind="stable")


def held_out(labels: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Chooses a share of every class, a function of the labels and their order alone.

    Parameters
    ----------
    labels
        int64 [N], >= 0.
    share
        0 < share < 1, of each class.

    Returns
    -------
    bool [N], true where held out. A class of n >= 2 images gives `share` x n of them, rounded,
    at least 1 and at most n - 1; a class of one image gives none.
    """
    chosen = np.zeros(len(labels), dtype=np.bool_)
    hashes = _hashes(len(labels))
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        if len(positions) < 2:
            continue
        size = min(max(int(share * len(positions) + 0.5), 1), len(positions) - 1)
        chosen[positions[np.argsort(hashes[positions], kind="stable")[:size]]] = True
    return chosen


def _hashes(count: int) -> NDArray[np.uint64]:
    """SplitMix64 of 0..count-1 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195)."""
    state = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
