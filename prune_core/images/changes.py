"""What decoding did to images, in words: what was changed, and which could not be read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prune_core.images.arrays import several
from prune_core.images.errors import ImagesError
from prune_core.images.options import LARGEST_BITS, SMALLEST_BITS
from prune_core.images.size import DEFAULT_SIZE, Size

_LISTED = 20  # images that cannot be read, by name

_CHANGES = {
    "turned": "turned upright by the EXIF orientation",
    "resized": (
        "of another size: resized to {0} x {1} (bilinear, antialiased, aspect ratio not kept)"
    ),
    "grey": "in grey scale: the one channel repeated for red, green and blue",
    "palette": "with a palette: converted to RGB",
    "alpha": "with transparency: the alpha channel dropped, the colours under it kept",
    "sixteen_bit": "with 16 bits a pixel: the high 8 {2}bits kept",
    "sixteen_bit_colour": "with 16 bits a colour: reduced to 8",
    "colour_space": "in another colour space, such as CMYK: converted to RGB",
}


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read: its position among all of its part, its place and why."""

    position: int
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass
class Changes:
    """What decoding changed.

    Attributes
    ----------
    counts
        How many images needed which change.
    sixteen_bit_range
        The smallest and the largest value of 16-bit grey images; None if there are none.
    unreadable
        Images that could not be read; their pixels are 0.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sixteen_bit_range: tuple[int, int] | None = None
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, other: "Changes", offset: int = 0) -> None:
        """Adds the changes of images that begin at position `offset`."""
        self.counts += other.counts
        ranges = [one for one in (self.sixteen_bit_range, other.sixteen_bit_range) if one]
        if ranges:
            self.sixteen_bit_range = min(low for low, _ in ranges), max(high for _, high in ranges)
        self.unreadable += [
            replace(one, position=one.position + offset) for one in other.unreadable
        ]


def change_notes(
    changes: Changes, image_size: Size = DEFAULT_SIZE, bits: int = LARGEST_BITS
) -> tuple[str, ...]:
    """Returns one sentence for each kind of change, with the number of images.

    Parameters
    ----------
    bits
        How many bits the values of 16-bit grey images were taken to fill.
    """
    of = "" if bits == LARGEST_BITS else f"of {bits} "
    notes = [
        f"{several(changes.counts[change], 'image')} {text.format(*image_size, of)}"
        for change, text in _CHANGES.items()
        if changes.counts[change]
    ]
    if changes.sixteen_bit_range:
        low, high = changes.sixteen_bit_range
        note = f"the values of 16-bit images are {low:,} to {high:,}"
        if (filled := max(high.bit_length(), SMALLEST_BITS)) < bits:
            note += f": they fill {filled} of {bits} bits; `bits: {filled}` uses their whole range"
        notes.append(note)
    return tuple(notes)


def refused(unreadable: Sequence[Unreadable], total: int) -> ImagesError:
    """The error that names all of `total` images that cannot be read, or the first 20."""
    hint = "leave {} out with the option on_error: skip"
    if len(unreadable) == 1:
        return ImagesError(f"{unreadable[0]}; replace or remove it, or {hint.format('it')}")
    lines = "".join(f"\n  {one}" for one in unreadable[:_LISTED])
    more = f"\n{_more(unreadable)}" if _more(unreadable) else ""
    return ImagesError(
        f"{len(unreadable):,} of {several(total, 'image')} cannot be read; replace or remove them, "
        f"or {hint.format('them')}{lines}{more}"
    )


def left_out(unreadable: Sequence[Unreadable], total: int) -> str:
    """Says which of `total` images are left out."""
    verb = "is" if len(unreadable) == 1 else "are"
    named = "; ".join(map(str, unreadable[:_LISTED]))
    return (
        f"{len(unreadable):,} of {several(total, 'image')} cannot be read and {verb} left out "
        f"(on_error: skip): {named} {_more(unreadable)}".rstrip()
    )


def _more(unreadable: Sequence[Unreadable]) -> str:
    return f"and {len(unreadable) - _LISTED:,} more" if len(unreadable) > _LISTED else ""
