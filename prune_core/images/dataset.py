"""Images in memory, and how they are cut and split."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from prune_core.images.arrays import listed
from prune_core.images.errors import ImagesError
from prune_core.images.order import held_out, shuffled

# Raised when the same images are split or ordered otherwise.
SPLIT_VERSION = 1


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images uint8 [N, 3, 32, 32] in RGB and their labels int64 [N]."""

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Returns the same on a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def first(self, n: int) -> "LabelledImages":
        """Returns the first n of them, or all if there are fewer; shares their memory."""
        return LabelledImages(self.images[:n], self.labels[:n])


@dataclass(frozen=True, eq=False)
class Split:
    """Training images without the held-out part, the held-out part, and the test images."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: int
    flip_keeps_label: bool


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: uint8 images [N, 3, 32, 32] in RGB, int64 labels [N] in 0..classes-1.

    Attributes
    ----------
    name
        Short, for people: "cifar10", or the folder's own name.
    source
        As given to `load`.
    flip_keeps_label
        Whether a mirrored image still shows its class. A guess for one's own files; where it is
        wrong, as for house numbers in Parquet, use
        `dataclasses.replace(images, flip_keeps_label=False)`.
    fingerprint
        16 hex digits of the sha256 of the decoded data, whatever the files were called. `cut`
        keeps it: it identifies the whole data set.
    notes
        What was done to the images that one should hear of once.
    """

    name: str
    source: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    classes: int
    flip_keeps_label: bool
    fingerprint: str
    notes: tuple[str, ...] = ()

    def cut(self, train: int | None = None, test: int | None = None) -> "Images":
        """Returns the same with the first so many training and test images only; None for all.

        Raises
        ------
        ImagesError
            Fewer than 1, more than there are, or so few that a class has no image left.
        """
        self._check_cut(train, self.train_labels, "training")
        self._check_cut(test, self.test_labels, "test")
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def _check_cut(self, n: int | None, labels: Tensor, kind: str) -> None:
        if n is None:
            return
        if not 1 <= n <= len(labels):
            raise ImagesError(
                f"{self.source}: the first {n:,} {kind} images were asked for; allowed is 1 to "
                f"{len(labels):,}"
            )
        # A file that is sorted by class, cut, would be another task.
        there, firsts = np.unique(labels.numpy(), return_index=True)
        missing = sorted(there[firsts >= n].tolist())
        if missing:
            raise ImagesError(
                f"{self.source}: the first {n:,} {kind} images hold none of "
                f"{'class' if len(missing) == 1 else 'classes'} {listed(missing)}; at least "
                f"{int(firsts.max()) + 1:,} are needed for all {len(there)}"
            )

    def split(self, holdout: float) -> Split:
        """Holds out a share of the training images, the same whenever and wherever it is called.

        The share is taken of each class: of n >= 2 images `holdout` x n, rounded, at least one and
        at most n - 1. What is left is put into one fixed random order, so that its first images
        are a fair sample even where a file is sorted by class. No generator is used, and no seed
        of a run changes it.

        Parameters
        ----------
        holdout
            0 < holdout < 1.

        Raises
        ------
        ImagesError
            Another `holdout`, or no class has two images.
        """
        if not 0 < holdout < 1:
            raise ImagesError(f"holdout is {holdout}; it must be above 0 and below 1, such as 0.1")
        chosen = torch.from_numpy(held_out(self.train_labels.numpy(), holdout))
        if not chosen.any():
            raise ImagesError(
                f"{self.source}: no class has two training images, so none can be held out"
            )
        left = torch.nonzero(~chosen).flatten()
        left = left[torch.from_numpy(shuffled(len(left)))]
        return Split(
            train=LabelledImages(self.train_images[left], self.train_labels[left]),
            validation=LabelledImages(self.train_images[chosen], self.train_labels[chosen]),
            test=LabelledImages(self.test_images, self.test_labels),
            classes=self.classes,
            flip_keeps_label=self.flip_keeps_label,
        )
