"""Images in memory or in memory maps, and how they are cut and split.

What a trial holds: labels and positions, 16 bytes for each training image; and the pages of the
images, which all processes of a machine share. No split copies an image. Training on a GPU moves
images of at most `RESIDENT_BYTES` there as a whole, and copies larger ones batch by batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from prune_core.images.arrays import NO_COPIES, Copies, listed, several
from prune_core.images.errors import ImagesError
from prune_core.images.order import held_out, shuffled
from prune_core.images.size import Size

# Raised when the same images are split or ordered otherwise.
SPLIT_VERSION = 1


# Images that take at most so many bytes are moved to a GPU as a whole, others batch by batch.
RESIDENT_BYTES = 1 << 30

_PART = 512  # images that are copied at a time

_FAR = 0.25  # relative difference between the share asked for and held out that a person is told


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images uint8 [N, 3, H, W] in RGB and their labels int64 [N].

    The images may be a selection of more images, such as the training images without those held
    out. A selection is an index: it copies no image, so the images may be a memory map that is
    larger than the memory.

    Attributes
    ----------
    stored
        uint8 [M, 3, H, W], the images and possibly others.
    labels
        int64 [N], on the same device.
    index
        int64 [N], the position of each image in `stored`, on the same device; None for all, M = N.
    """

    stored: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    index: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> Size:
        """Height and width in pixels."""
        return _size_of(self.stored)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.stored.device

    @property
    def nbytes(self) -> int:
        """Bytes of all N images."""
        height, width = self.image_size
        return len(self) * 3 * height * width

    @cached_property
    def images(self) -> Tensor:
        """All images in one tensor, uint8 [N, 3, H, W].

        The first use copies the images of a selection, and the copy is kept. Use `batch` or
        `batches` where they may be many.

        Raises
        ------
        ImagesError
            The copy would take more than `RESIDENT_BYTES`.
        """
        if self.index is None:
            return self.stored
        if self.nbytes > RESIDENT_BYTES:
            raise ImagesError(
                f"one tensor of {len(self):,} selected images would take {self.nbytes:,} bytes, "
                f"more than {RESIDENT_BYTES:,}; read them with batch() or batches()"
            )
        return self.batch(slice(None))[0]

    def batch(
        self, which: slice | Tensor, device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns some of the images, uint8 [n, 3, H, W], and their labels, int64 [n].

        Parameters
        ----------
        which
            A slice, or positions int64 [n]; each at least 0 and below N.
        device
            Where the two are moved to; None for where the images lie.
        """
        if not isinstance(which, slice):
            which = which.to(self.device)
        at = which if self.index is None else self.index[which]
        # index_select copies whole images at once, several times as fast as stored[at].
        pixels = self.stored[at] if isinstance(at, slice) else self.stored.index_select(0, at)
        device = device or self.device
        return _moved(pixels, device), _moved(self.labels[which], device)

    def batches(
        self, size: int, device: torch.device | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images and their labels in order, `size` at a time; the last may be fewer."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), device)

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Returns the same on a device: itself if it is there already, else a copy."""
        device = torch.device(device)
        if self.index is None:
            return LabelledImages(self.stored.to(device), self.labels.to(device))
        if device == self.device:
            return self
        images = torch.empty(
            (len(self), *self.stored.shape[1:]), dtype=self.stored.dtype, device=device
        )
        for part, (pixels, _) in zip(images.split(_PART), self.batches(_PART), strict=True):
            part.copy_(pixels)
        return LabelledImages(images, self.labels.to(device))

    def resident(self, device: torch.device) -> "LabelledImages":
        """Returns the same on a device if it takes at most `RESIDENT_BYTES` there, else itself.

        A loop over batches then calls `batch(..., device)` in both cases.
        """
        return self.to(device) if self.nbytes <= RESIDENT_BYTES else self

    def first(self, n: int) -> "LabelledImages":
        """Returns the first n of them, or all if there are fewer; shares their memory."""
        if self.index is None:
            return LabelledImages(self.stored[:n], self.labels[:n])
        return LabelledImages(self.stored, self.labels[:n], self.index[:n])


@dataclass(frozen=True, eq=False)
class Split:
    """Training images without the held-out part, the held-out part, and the test images.

    Attributes
    ----------
    notes
        What one should hear of the held-out part.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: int
    flip_keeps_label: bool
    notes: tuple[str, ...] = ()

    @property
    def image_size(self) -> Size:
        """Height and width in pixels."""
        return self.train.image_size


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: uint8 images [N, 3, H, W] in RGB, int64 labels [N] in 0..classes-1.

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
    validation_images, validation_labels
        The source's own held-out part, not among the training images; None if it has none.
    skipped, copies
        How many images could not be read and were left out, and how many have the pixels of a
        training image. `cut` keeps both: they describe the whole data set.
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
    validation_images: Tensor | None = field(default=None, repr=False)
    validation_labels: Tensor | None = field(default=None, repr=False)
    skipped: int = 0
    copies: Copies = NO_COPIES

    @property
    def image_size(self) -> Size:
        """Height and width in pixels."""
        return _size_of(self.train_images)

    def cut(self, train: int | None = None, test: int | None = None) -> "Images":
        """Returns the same with the first so many training and test images only; None for all.

        A source's own validation images all stay.

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

        A source's own validation images are the held-out part, where it has them; `holdout` is then
        not used. Otherwise the share is taken of each class: of n >= 2 images `holdout` x n,
        rounded, at least one and at most n - 1. What is left is put into one fixed random order, so
        that its first images are a fair sample even where a file is sorted by class. No generator
        is used, and no seed of a run changes it. No image is copied.

        Parameters
        ----------
        holdout
            0 < holdout < 1.

        Raises
        ------
        ImagesError
            Another `holdout`, or no class has two images.
        """
        if self.validation_images is not None and self.validation_labels is not None:
            order = torch.from_numpy(shuffled(len(self.train_labels)))
            return self._parts(
                LabelledImages(self.train_images, self.train_labels[order], order),
                LabelledImages(self.validation_images, self.validation_labels),
                f"its own {len(self.validation_labels):,} validation images are the held-out part; "
                "`holdout` is not used",
            )
        if not 0 < holdout < 1:
            raise ImagesError(f"holdout is {holdout}; it must be above 0 and below 1, such as 0.1")
        chosen = torch.from_numpy(held_out(self.train_labels.numpy(), holdout))
        if not chosen.any():
            raise ImagesError(
                f"{self.source}: no class has two training images, so none can be held out"
            )
        held = torch.nonzero(chosen).flatten()
        left = torch.nonzero(~chosen).flatten()
        left = left[torch.from_numpy(shuffled(len(left)))]
        share = len(held) / len(self.train_labels)
        notes = []
        if abs(share - holdout) > max(_FAR * holdout, 1 / len(self.train_labels)):
            _, counts = np.unique(self.train_labels.numpy(), return_counts=True)
            notes.append(
                f"{100 * share:.3g} % of the training images are held out, not the "
                f"{100 * holdout:.3g} % of `holdout`: a class gives a whole number of images, at "
                f"least 1, and the smallest class has {several(int(counts.min()), 'image')}"
            )
        return self._parts(
            LabelledImages(self.train_images, self.train_labels[left], left),
            LabelledImages(self.train_images, self.train_labels[held], held),
            *notes,
        )

    def _parts(self, train: LabelledImages, validation: LabelledImages, *notes: str) -> Split:
        return Split(
            train=train,
            validation=validation,
            test=LabelledImages(self.test_images, self.test_labels),
            classes=self.classes,
            flip_keeps_label=self.flip_keeps_label,
            notes=notes,
        )


def _size_of(images: Tensor) -> Size:
    _, _, height, width = images.shape
    return height, width


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        # From pinned memory, so that the GPU computes while the next batch is gathered.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
