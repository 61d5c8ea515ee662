"""SVHN, CIFAR-10 and CIFAR-100 as sources.

torchvision reads them. It is imported when it is needed, since that takes seconds.
"""

from collections.abc import Callable
from pathlib import Path

from prune_core.images.arrays import Arrays, Undecoded
from prune_core.images.decode import resized
from prune_core.images.sources import ClassNames, Location, Origin, image_source

_CIFAR = "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html"


@image_source(
    "svhn",
    "73,257 training and 26,032 test house numbers from street photographs, 10 classes",
    "Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers",
    flip_keeps_label=False,
)
def svhn(location: Location) -> Origin:
    """Street View House Numbers; the classes are the digits."""
    return _origin("svhn", location, lambda: tuple(map(str, range(10))))


@image_source("cifar10", "50,000 training and 10,000 test photographs, 10 classes", _CIFAR, True)
def cifar10(location: Location) -> Origin:
    """CIFAR-10; the classes are called as in its own files."""
    return _cifar("cifar10", location)


@image_source(
    "cifar100",
    "50,000 training and 10,000 test photographs, 100 classes (fine labels)",
    _CIFAR,
    flip_keeps_label=True,
)
def cifar100(location: Location) -> Origin:
    """CIFAR-100; the classes are called as in its own files."""
    return _cifar("cifar100", location)


def _cifar(name: str, location: Location) -> Origin:
    def names() -> ClassNames:
        from prune_core.images.torchvision_sets import read_class_names

        return read_class_names(name, _root(location))

    return _origin(name, location, names)


def _origin(name: str, location: Location, names: Callable[[], ClassNames]) -> Origin:
    def read() -> Arrays | Undecoded:
        from prune_core.images.torchvision_sets import read_torchvision

        return resized(read_torchvision(name, _root(location)), location.image_size)

    return Origin(name, [name], read, names)


def _root(location: Location) -> Path:
    if location.data is None:
        return location.downloads
    return location.data.expanduser().absolute()
