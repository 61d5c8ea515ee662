"""Sums over images that do not depend on how many of them come at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GROUP = 128
"""Images whose numbers are added up before they are added to those of the images before."""


class Groups:
    """Takes tensors with a row an image, however many, and hands on those of `GROUP` images.

    A floating-point sum depends on the order of its terms, and so on what is summed at once.

    Parameters
    ----------
    add : called with as many tensors as `take`, of `GROUP` rows, and once of fewer at the end.
    """

    def __init__(self, add: Callable[..., None]) -> None:
        self._add = add
        self._waiting: list[tuple[Tensor, ...]] = []
        self._images = 0

    def take(self, *rows: Tensor) -> None:
        """Rows of the next images."""
        self._waiting.append(rows)
        self._images += len(rows[0])
        if self._images >= GROUP:
            self._hand_on(self._images // GROUP * GROUP)

    def rest(self) -> None:
        """No more images come."""
        if self._images:
            self._hand_on(self._images)

    def _hand_on(self, images: int) -> None:
        whole = [torch.cat(rows) for rows in zip(*self._waiting, strict=True)]
        for group in zip(*(rows[:images].split(GROUP) for rows in whole), strict=True):
            self._add(*group)
        self._images -= images
        self._waiting = [tuple(rows[images:] for rows in whole)] if self._images else []
