"""How the files of a source are to be read, where the usual names and rules do not fit.

Options follow the source as in a URL, so that every command that takes a source takes them:
`folder:photos?train=Training&on_error=skip`. The spec has them as fields of a data set.
"""

from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from prune_core.images.errors import ImagesError

ON_ERROR = ("raise", "skip")
SMALLEST_BITS, LARGEST_BITS = 8, 16


@dataclass(frozen=True)
class Options:
    """Options of a source; None and the defaults leave the choice to the source.

    Attributes
    ----------
    train, validation, test
        A file, folder or pattern of files for this part, relative to the source's folder.
    image_column, label_column
        Names of columns of Parquet files.
    on_error
        "raise" refuses a data set with images that cannot be read; "skip" leaves them out.
    bits
        The bits that the values of 16-bit grey images fill, 8 to 16. The highest 8 of these bits
        are kept.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    on_error: str = "raise"
    bits: int = LARGEST_BITS

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not at their default, by name."""
        return {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if getattr(self, option.name) != option.default
        }

    def of(self, source: str) -> str:
        """Returns the source followed by these options."""
        return f"{source}?{urlencode(self.given, safe='/')}" if self.given else source


NO_OPTIONS = Options()
NAMES = tuple(option.name for option in fields(Options))


def split_options(source: str) -> tuple[str, Options]:
    """Returns a source without its options, and these.

    A question mark that no known option follows belongs to the name of a folder.

    Raises
    ------
    ImagesError
        An option with a value that is not allowed, or one that is given twice.
    """
    place, mark, text = source.rpartition("?")
    pairs = parse_qsl(text, keep_blank_values=True) if mark else []
    if not pairs or not any(name in NAMES for name, _ in pairs):
        return source, NO_OPTIONS
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in NAMES:
            raise ImagesError(f"{source}: unknown option {name!r}; allowed are {', '.join(NAMES)}")
        if name in given:
            raise ImagesError(f"{source}: option {name} is given twice; give it once")
        given[name] = _checked(source, name, value)
    return place, Options(**given)


def _checked(source: str, name: str, value: str) -> str | int:
    if name == "on_error":
        if value not in ON_ERROR:
            raise ImagesError(f"{source}: on_error is {value!r}; it must be raise or skip")
        return value
    if name == "bits":
        if not (value.isdecimal() and SMALLEST_BITS <= int(value) <= LARGEST_BITS):
            raise ImagesError(
                f"{source}: bits is {value!r}; it must be a whole number from {SMALLEST_BITS} to "
                f"{LARGEST_BITS}"
            )
        return int(value)
    if not value:
        raise ImagesError(f"{source}: option {name} is empty; give a name, or leave it out")
    return value
