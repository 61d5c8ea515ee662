"""A cache of decoded images that machines share, from which each fills its own.

It has the entries of `prune_core.images.cache`, below a URI. On a disk of the network an entry is
renamed into place; in an object store meta.json is written last, so its presence means that the
arrays are there.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from prune_core.images.errors import ImagesError

if TYPE_CHECKING:
    from pyarrow import fs

# In these an object appears when it is whole, and a rename would be a copy.
_OBJECT_STORES = ("s3", "gcs")


@dataclass(frozen=True)
class SharedCache:
    """Entries below a URI, such as s3://bucket/images or file:///mnt/shared/images."""

    uri: str

    def fetch(self, name: str, files: Sequence[str], into: Path) -> bool:
        """Copies the files of an entry into a folder of this machine; False if there is no entry.

        Parameters
        ----------
        files : the last of them means that the others are there.

        Raises
        ------
        ImagesError
            If the cache cannot be reached.
        """
        from pyarrow import fs

        with self._named_errors():
            there, path = self._entry(name)
            if there.get_file_info(f"{path}/{files[-1]}").type != fs.FileType.File:
                return False
            for file in files:
                fs.copy_files(
                    f"{path}/{file}",
                    str(into / file),
                    source_filesystem=there,
                    destination_filesystem=fs.LocalFileSystem(),
                )
        return True

    def store(self, name: str, files: Sequence[str], folder: Path) -> None:
        """Copies the files of an entry from a folder of this machine, in this order.

        Raises
        ------
        ImagesError
            If the cache cannot be reached or written to.
        """
        from pyarrow import fs

        with self._named_errors():
            there, path = self._entry(name)
            whole = there.type_name in _OBJECT_STORES
            beside = path if whole else f"{path}.{secrets.token_hex(4)}"
            if not whole:
                there.create_dir(beside, recursive=True)
            for file in files:
                fs.copy_files(
                    str(folder / file),
                    f"{beside}/{file}",
                    source_filesystem=fs.LocalFileSystem(),
                    destination_filesystem=there,
                )
            if not whole:
                _exchange(there, beside, path)

    def _entry(self, name: str) -> "tuple[fs.FileSystem, str]":
        from pyarrow import fs

        found, path = fs.FileSystem.from_uri(_with_endpoint(self.uri))
        return found, f"{path.rstrip('/')}/{name}"

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise ImagesError(
                f"{self} cannot be used ({error}); set the environment variable "
                "PRUNE_SWEEP_CACHE to a folder or URI that can be read and written"
            ) from error

    def __str__(self) -> str:
        parts = urlsplit(self.uri)
        # Without a name and password in front of the host.
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return f"the shared image cache {shown}"


def _exchange(there: "fs.FileSystem", beside: str, path: str) -> None:
    """Puts a folder in the place of another, or of none."""
    with suppress(OSError):
        there.delete_dir(path)
    try:
        there.move(beside, path)
    except OSError:
        # Another machine was first, with the same images.
        there.delete_dir(beside)


def _with_endpoint(uri: str) -> str:
    """The URI with the server that the environment names to all that speaks S3."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not endpoint or "endpoint_override=" in parts.query:
        return uri
    scheme, _, host = endpoint.rpartition("://")
    query = f"scheme={scheme or 'https'}&endpoint_override={host}"
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, query]))))
