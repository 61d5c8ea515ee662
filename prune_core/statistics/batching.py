"""Sums over images that do not depend on the batch size of the forward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

IMAGES_OF_A_BATCH = 128
"""Images that are summed together before their sum is added to the total."""


class FixedBatches:
    """Collects tensors with one row per image and passes them on in batches of a fixed size.

    A floating-point sum depends on the order of its terms, so the size of the partial sums must
    not depend on the batch size of the forward pass.

    Parameters
    ----------
    add : called with one tensor for each argument of `take`. Each tensor has `size` rows, and
        fewer in the last call.
    size : images that are summed together.
    """

    def __init__(self, add: Callable[..., None], size: int = IMAGES_OF_A_BATCH) -> None:
        self._add, self._size = add, size
        self._waiting: list[tuple[Tensor, ...]] = []
        self._images = 0

    def take(self, *rows: Tensor) -> None:
        """Adds the rows of the next images."""
        self._waiting.append(rows)
        self._images += len(rows[0])
        if self._images >= self._size:
            self._hand_on(self._images // self._size * self._size)

    def rest(self) -> None:
        """Passes on the remaining rows; call after the last image."""
        if self._images:
            self._hand_on(self._images)

    def _hand_on(self, images: int) -> None:
        whole = [torch.cat(rows) for rows in zip(*self._waiting, strict=True)]
        parts = (rows[:images].split(self._size) for rows in whole)
        for batch in zip(*parts, strict=True):
            self._add(*batch)
        self._images -= images
        self._waiting = [tuple(rows[images:] for rows in whole)] if self._images else []
