"""The handwritten digits that come with scikit-learn: real images, no download."""

import numpy as np

from prune_core.images.arrays import Pixels, Undecoded
from prune_core.images.decode import resize
from prune_core.images.order import held_out
from prune_core.images.sources import Location, Origin, image_source

TEST_SHARE = 0.2


@image_source(
    "digits",
    "1,797 handwritten digits, 8x8 grey enlarged to 32x32, 10 classes; needs no download",
    "Alpaydin and Kaynak 1998, doi:10.24432/C50P49; the part that scikit-learn carries",
    flip_keeps_label=False,
)
def digits(location: Location) -> Origin:
    """The digits, wherever the location is."""
    return Origin("digits", ["digits"], read_digits, lambda: tuple(map(str, range(10))))


def read_digits() -> Undecoded:
    """Returns 1,797 digits, a fixed fifth of each class as test images.

    The 8x8 greys of 0..16 are scaled to 0..255, enlarged bilinearly and repeated for the three
    channels.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    greys = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    test = held_out(labels, TEST_SHARE)

    def decode(train_images: Pixels, test_images: Pixels) -> tuple[str, ...]:
        for images, chosen in ((train_images, ~test), (test_images, test)):
            for target, grey in zip(images, greys[chosen], strict=True):
                target[:] = np.asarray(resize(Image.fromarray(grey), target.shape[1:]))
        return ()

    return Undecoded(labels[~test], labels[test], decode)
