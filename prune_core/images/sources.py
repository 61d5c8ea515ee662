"""The registry of image sources: what a spec can name under `datasets`.

To add a source, write a function that takes a `Location` and returns an `Origin`, and put
`@image_source(...)` above it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from prune_core.images.arrays import Arrays, Undecoded
from prune_core.images.errors import ImagesError
from prune_core.images.options import NO_OPTIONS, Options, split_options
from prune_core.images.size import DEFAULT_SIZE, Size, check_size
from prune_core.registering import Provider, check_new, provider

ClassNames = tuple[str, ...] | None


@dataclass(frozen=True)
class Location:
    """Where a source was asked for, and at which size.

    Attributes
    ----------
    source
        As a person wrote it.
    folder
        What follows the colon; "" for sources without one.
    data
        Where relative folders begin, and where the files of named sets lie; None if not given.
    downloads
        Where the files of named sets are fetched to if `data` is None.
    image_size
        The height and width in pixels that the images must get.
    options
        How the files are to be read. A source is given only options that it declares.
    """

    source: str
    folder: str
    data: Path | None
    downloads: Path
    image_size: Size = DEFAULT_SIZE
    options: Options = NO_OPTIONS

    def path(self) -> Path:
        """Returns the folder after the colon, absolute.

        A relative one is looked for in `data` if given, else in the current directory.

        Raises
        ------
        ImagesError
            It does not exist, or is a file.
        """
        base = Path.cwd() if self.data is None else self.data.expanduser()
        path = (base / Path(self.folder).expanduser()).resolve()
        if path.is_dir():
            return path
        if path.exists():
            raise ImagesError(f"{self.source}: {path} is a file; name the folder that holds it")
        relative_to = "the current directory" if self.data is None else f"the data folder {base}"
        raise ImagesError(
            f"{self.source}: there is no folder {path}; give an absolute path, or one relative to "
            f"{relative_to}"
        )


@dataclass(frozen=True)
class Origin:
    """Images that were found, but not decoded yet.

    Attributes
    ----------
    name
        Short, for people.
    identity
        JSON-able; the cache keeps one entry for each, and for each size. A changed file must change
        it.
    read
        Returns the images: all in memory as `Arrays` of the location's size, or `Undecoded`, which
        the cache decodes at this size.
    class_names
        What the classes are called, in the order of their labels; None where nothing says so.
    """

    name: str
    identity: list[Any]
    read: Callable[[], Arrays | Undecoded]
    class_names: Callable[[], ClassNames] = lambda: None


@dataclass(frozen=True)
class Source:
    """One kind of source.

    Attributes
    ----------
    pattern
        What the user writes: a name, or "kind:FOLDER".
    flip_keeps_label
        Whether a mirrored image still shows its class, so that training may flip it.
    find
        Finds the images of a location.
    image_size
        Height and width in pixels where none are asked for.
    options
        Names of the `Options` that it reads.
    provider
        The plug-in or package that it comes from; None for this package.
    """

    pattern: str
    summary: str
    citation: str
    flip_keeps_label: bool
    find: Callable[[Location], Origin]
    image_size: Size = DEFAULT_SIZE
    options: tuple[str, ...] = ()
    provider: Provider | None = field(default_factory=provider, kw_only=True)

    @property
    def kind(self) -> str:
        """The part before the colon."""
        return self.pattern.partition(":")[0]

    @property
    def takes_folder(self) -> bool:
        """Whether a folder follows after a colon."""
        return ":" in self.pattern


SOURCES: dict[str, Source] = {}
"""Every source that `load` knows, by its kind."""


def image_source(
    pattern: str,
    summary: str,
    citation: str,
    flip_keeps_label: bool,
    image_size: Size = DEFAULT_SIZE,
    options: tuple[str, ...] = (),
) -> Callable[[Callable[[Location], Origin]], Callable[[Location], Origin]]:
    """Registers a function from a `Location` to an `Origin` as a source; see `Source`."""

    def register(find: Callable[[Location], Origin]) -> Callable[[Location], Origin]:
        size = check_size(image_size)
        source = Source(pattern, summary, citation, flip_keeps_label, find, size, options)
        check_new(source.kind, SOURCES, "source of images", ImagesError)
        SOURCES[source.kind] = source
        return find

    return register


def parse_source(source: str) -> tuple[Source, str]:
    """Returns the kind of source, and the folder named after the colon ("" where none belongs).

    Raises
    ------
    ImagesError
        An unknown source, or a folder where none belongs or none where one does; or an option that
        this source does not read.
    """
    place, options = split_options(source)
    kind, colon, folder = place.partition(":")
    found = SOURCES.get(kind)
    if not (found and found.takes_folder == bool(colon) and (folder or not found.takes_folder)):
        allowed = ", ".join(entry.pattern for entry in SOURCES.values())
        raise ImagesError(
            f"unknown source of images {source!r}; {_hint(place)}allowed are {allowed}"
        )
    if unread := [name for name in options.given if name not in found.options]:
        raise ImagesError(
            f"{source}: {found.kind} does not read the option {unread[0]}; it reads "
            f"{', '.join(found.options) or 'none'}"
        )
    return found, folder


def _hint(place: str) -> str:
    """What to write in place of a bare path or a misspelt name."""
    kind, colon, folder = place.partition(":")
    path = Path(place).expanduser()
    if not colon and (path.is_dir() or "/" in place or "\\" in place or place.startswith(".")):
        parquet = path.is_dir() and any(path.glob("*.parquet"))
        return f"for the images of a folder write '{'parquet' if parquet else 'folder'}:{place}'; "
    if near := get_close_matches(kind.lower(), SOURCES, n=1):
        takes = SOURCES[near[0]].takes_folder
        named = f"{near[0]}:{folder or 'PATH'}" if takes else near[0]
        return f"did you mean '{named}'? "
    return ""
