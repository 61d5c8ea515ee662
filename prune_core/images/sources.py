"""Which sources of images there are, and how a source's name is read."""

from dataclasses import dataclass
from pathlib import Path

from prune_core.images.errors import ImagesError


@dataclass(frozen=True)
class Source:
    """One kind of source.

    `pattern` is what the user writes; `flip_keeps_label` says whether a mirrored image still shows
    its class, so that training may flip it.
    """

    pattern: str
    summary: str
    citation: str
    flip_keeps_label: bool

    @property
    def kind(self) -> str:
        """The part before the colon."""
        return self.pattern.partition(":")[0]

    @property
    def takes_folder(self) -> bool:
        """Whether a folder follows after a colon."""
        return ":" in self.pattern


SOURCES: tuple[Source, ...] = (
    Source(
        "digits",
        "1,797 handwritten digits, 8x8 grey enlarged to 32x32, 10 classes; needs no download",
        "Alpaydin and Kaynak 1998, doi:10.24432/C50P49; the part that scikit-learn carries",
        flip_keeps_label=False,
    ),
    Source(
        "svhn",
        "73,257 training and 26,032 test house numbers from street photographs, 10 classes",
        "Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers",
        flip_keeps_label=False,
    ),
    Source(
        "cifar10",
        "50,000 training and 10,000 test photographs, 10 classes",
        "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        flip_keeps_label=True,
    ),
    Source(
        "cifar100",
        "50,000 training and 10,000 test photographs, 100 classes (fine labels)",
        "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        flip_keeps_label=True,
    ),
    Source(
        "parquet:FOLDER",
        "your own train*.parquet and test*.parquet, with columns image and label",
        "the layout of image data sets on the Hugging Face hub",
        flip_keeps_label=True,
    ),
    Source(
        "folder:PATH",
        "your own image files, in train/CLASS/ and test/CLASS/",
        "the layout of torchvision's ImageFolder",
        flip_keeps_label=True,
    ),
)
"""Every source that `load` knows."""


def parse_source(source: str) -> tuple[Source, str]:
    """Returns the kind of source, and the folder named after the colon ("" where none belongs).

    Raises
    ------
    ImagesError
        An unknown source, or a folder where none belongs or none where one does.
    """
    kind, colon, folder = source.partition(":")
    for entry in SOURCES:
        if entry.kind != kind or entry.takes_folder != bool(colon):
            continue
        if entry.takes_folder and not folder:
            break
        return entry, folder
    allowed = ", ".join(entry.pattern for entry in SOURCES)
    raise ImagesError(f"unknown source of images {source!r}; allowed are {allowed}")


def resolve_folder(source: str, folder: str, data: Path | None) -> Path:
    """Returns the folder of a `parquet:` or `folder:` source, absolute.

    A relative one is looked for in `data` if given, else in the current directory.

    Raises
    ------
    ImagesError
        It does not exist, or is a file.
    """
    base = Path.cwd() if data is None else data.expanduser()
    path = (base / Path(folder).expanduser()).resolve()
    if path.is_dir():
        return path
    if path.exists():
        raise ImagesError(f"{source}: {path} is a file; name the folder that holds it")
    relative_to = "the current directory" if data is None else f"the data folder {base}"
    raise ImagesError(
        f"{source}: there is no folder {path}; give an absolute path, or one relative to "
        f"{relative_to}"
    )
