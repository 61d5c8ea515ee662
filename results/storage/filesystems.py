"""From a URI to the file system that it names, with patience that suits a sweep.

What pyarrow's clients do by default is made for one reader: they give up a store that is busy
after about two seconds, wait forever for another, and write every S3 object in three requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pyarrow import fs

ATTEMPTS = 10
"""Requests to S3 before one counts as failed, waiting 25 ms, 50 ms, ... in between: about 25 s.
The environment variable AWS_MAX_ATTEMPTS replaces it."""
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0
GOOGLE_SECONDS = 60
_S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path", "anonymous")


def connect(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, the same one for all its folders, and the path in it.

    Raises
    ------
    ValueError, OSError, pyarrow.ArrowException
        If the URI is wrong or its file system cannot be reached.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        bucket = parts.netloc.rpartition("@")[2]
        return _s3(parts.netloc, parts.query), unquote(f"{bucket}{parts.path}")
    if parts.scheme in ("gs", "gcs"):
        options = dict(parse_qsl(parts.query))
        options.setdefault("retry_limit_seconds", str(GOOGLE_SECONDS))
        uri = urlunsplit(parts._replace(query=urlencode(options)))
    return _any(uri)


@lru_cache(maxsize=64)
def _any(uri: str) -> tuple[fs.FileSystem, str]:
    found, path = fs.FileSystem.from_uri(uri)
    return found, path


@lru_cache(maxsize=16)
def _s3(netloc: str, query: str) -> fs.S3FileSystem:
    options = dict(parse_qsl(query))
    if unknown := sorted(set(options) - set(_S3_OPTIONS)):
        raise ValueError(
            f"S3 has no option {', '.join(unknown)}; allowed are {', '.join(_S3_OPTIONS)}"
        )
    user, _, bucket = netloc.rpartition("@")
    if user:
        key, _, secret = user.partition(":")
        options |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    endpoint = options.get("endpoint_override", "") or _endpoint_of_environment()
    if endpoint:
        scheme, _, options["endpoint_override"] = endpoint.rpartition("://")
        options["scheme"] = scheme or options.get("scheme", "https")
    settings: dict[str, object] = dict(options)
    settings["anonymous"] = options.get("anonymous", "false") == "true"
    if not (endpoint or options.get("region") or _environment_has_region()):
        settings["region"] = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        **settings,
        # Without it even a small object is a multipart upload of three requests.
        allow_delayed_open=True,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_attempts()),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
    )


def _endpoint_of_environment() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _environment_has_region() -> bool:
    return any(os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))


def _attempts() -> int:
    text = os.environ.get("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the environment variable AWS_MAX_ATTEMPTS is {text!r}, not a count")
    # The client counts what comes after the first.
    return int(text) - 1


def patiently(read: Callable[[], bytes], there: Callable[[], bool]) -> bytes:
    """What `read` returns, tried again where the S3 client should have done so but cannot.

    It takes the answer of a store that is busy, or has lost the file meanwhile, for the content,
    and gives up if there is no room for it, as with a file of fewer bytes than the answer.

    Raises
    ------
    FileNotFoundError
        If the file is no longer there.
    """
    for attempt in range(_attempts()):
        try:
            return read()
        except OSError as error:
            if "Failed to flush response stream" not in str(error):
                raise
            if attempt > 0 and not there():
                raise FileNotFoundError("it was deleted while it was read") from error
            problem = error
        time.sleep(0.025 * 2**attempt)
    raise problem


def with_path(uri: str, name: str) -> str:
    """The URI of something in the folder that a URI names."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def without_last(uri: str) -> str:
    """The URI of the folder that holds what a URI names."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))


def without_secrets(uri: str) -> str:
    """A URI as it may be printed: without a name and password in front of the host."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
