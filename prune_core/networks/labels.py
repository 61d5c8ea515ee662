"""Labels of channels: a union-find structure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Labelling:
    """Labels that form classes: two labels of one class name one channel."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def fresh(self, count: int) -> Labels:
        """New labels, each in a class of its own."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, label: int) -> int:
        """The label that stands for a label's class."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def roots(self, labels: Labels) -> Labels:
        """The `root` of each label."""
        return np.array([self.root(label) for label in labels.tolist()], dtype=np.int64)

    def unite(self, one: Labels, two: Labels) -> None:
        """Makes the classes of each pair of labels one."""
        for a, b in zip(one.tolist(), two.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._parents[high] = low
