"""Who registers a metric, a budget rule, a normalisation, an image source or a network.

Each entry of a registry has a field `provider`, which `provider` fills in while a plug-in or an
installed package is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Provider(Protocol):
    """Code beside this package that registers entries; its text is how lists and errors call it.

    Attributes
    ----------
    fingerprint : of its code, a part of keys; empty if only the versions of its entries count.
    """

    @property
    def fingerprint(self) -> str:
        """See the class."""

    def __str__(self) -> str: ...

    def explained(self, error: BaseException) -> ValueError:
        """The error of its code, with the line if that can be read."""


@dataclass(frozen=True)
class Package:
    """An installed package."""

    name: str
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"the package {self.name}"

    def explained(self, error: BaseException) -> ValueError:
        """See `Provider`."""
        return ValueError(f"{self} raised {type(error).__name__}: {error}")


_PROVIDER: ContextVar[Provider | None] = ContextVar("provider", default=None)


@contextmanager
def registering(by: Provider) -> Iterator[None]:
    """Makes `by` the provider of every entry that is made inside this context."""
    token = _PROVIDER.set(by)
    try:
        yield
    finally:
        _PROVIDER.reset(token)


def provider() -> Provider | None:
    """Who registers entries now; None for this package and for code that no one loads by name."""
    return _PROVIDER.get()


@contextmanager
def explaining(what: str, by: Provider | None, raises: type[ValueError]) -> Iterator[None]:
    """Turns an error of a function that a plug-in or a package registered into one that names it.

    Parameters
    ----------
    what : names the function, such as "budget 'mine'".

    Raises
    ------
    ValueError
        Of the class `raises`. Errors of this class, and of functions of others, stay as they are.
    """
    try:
        yield
    except raises:
        raise
    except (Exception, SystemExit) as error:
        if by is None:
            raise
        raise raises(f"{what}: {by.explained(error)}") from error


def check_new(
    name: str, registry: Mapping[str, object], what: str, raises: type[ValueError]
) -> None:
    """Refuses a name that a registry has.

    Raises
    ------
    ValueError
        Of the class `raises`, naming who registered it.
    """
    if name in registry:
        by = getattr(registry[name], "provider", None) or "prune-sweep or earlier in this program"
        raise raises(f"{what} '{name}' is already registered by {by}; give yours another name")


def plugin_identity(by: Provider | None) -> dict[str, str]:
    """The part of an entry's identity that says which version of a plug-in it comes from.

    Empty for all others, so that their keys do not change.
    """
    return {"plugin": by.fingerprint} if by and by.fingerprint else {}
