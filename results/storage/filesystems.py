"""Opens the file system that a URI names, with retries and timeouts that suit a sweep.

The defaults of pyarrow's clients suit a single reader. One client gives up on a busy store after
about two seconds, another waits forever, and every S3 object is written in three requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pyarrow import fs

ATTEMPTS = 10
"""Attempts before a request to S3 counts as failed. The waits between them are 25 ms, 50 ms, ...;
all attempts take about 25 s. The environment variable AWS_MAX_ATTEMPTS takes precedence."""
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0
GOOGLE_SECONDS = 60
_S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path", "anonymous")


def connect(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, which all its folders share, and the path in it.

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
        # Otherwise even a small object is a multipart upload, which takes three requests.
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
        raise ValueError(
            f"the environment variable AWS_MAX_ATTEMPTS is {text!r}; it must be a whole number of "
            "at least 1"
        )
    # The client counts retries, not attempts.
    return int(text) - 1


def patiently(read: Callable[[], bytes], there: Callable[[], bool]) -> bytes:
    """Returns what `read` returns, and retries one error that the S3 client does not retry.

    A store that is busy, or no longer has the file, answers with an error text. The S3 client
    writes this text into the buffer for the file's content. If the text is longer than the file,
    the client fails with "Failed to flush response stream" and does not retry.

    Parameters
    ----------
    there : tells whether the file still exists.

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
    """The URI of the file or folder `name` in the folder of a URI."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def without_last(uri: str) -> str:
    """The URI of the parent folder."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))


def without_secrets(uri: str) -> str:
    """A URI that is safe to print: without the user name and password before the host."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
