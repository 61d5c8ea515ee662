"""From an address to a client of the job server there, or an error that says what is wrong."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cluster.errors import SubmissionError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ANSWER_SECONDS = 10
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_NEEDED = ("aiohttp", "requests")
_TOKEN = (
    "a cluster with token authentication needs RAY_AUTH_MODE=token, and its token in "
    "RAY_AUTH_TOKEN or in the file that RAY_AUTH_TOKEN_PATH names"
)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server of a cluster.

    Parameters
    ----------
    address : of the cluster's dashboard, such as `http://head:8265`.

    Raises
    ------
    SubmissionError
        If Ray's part for clusters is not installed, no Ray answers, or it does not let us in.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise SubmissionError(
            f"{' and '.join(missing)} must be installed to reach a cluster: "
            "pip install 'prune-sweep[cluster]'"
        )
    from ray.job_submission import JobSubmissionClient

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    address = _checked(address)
    _find_ray(address)
    # Ray lets these variables win over the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    with reported(f"{address} cannot be used"):
        return JobSubmissionClient(address)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns what Ray raises for a request into an error for a person."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        reason = error.message.splitlines()[0].rstrip(".")
        raise SubmissionError(f"{what}: {reason}; {_TOKEN}") from error
    except (RuntimeError, OSError) as error:
        raise SubmissionError(f"{what}: {error}") from error


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SubmissionError(
            f"--address is {address}; it must be the address of the cluster's dashboard, such as "
            "http://head:8265"
        )
    return address.rstrip("/")


def _find_ray(address: str) -> None:
    """Ray's own client waits for ever, and takes whatever answers for Ray."""
    import requests

    try:
        answer = requests.get(f"{address}/api/version", timeout=ANSWER_SECONDS)
    except requests.exceptions.SSLError as error:
        raise SubmissionError(f"{address} does not speak https as asked for: {error}") from error
    except requests.RequestException as error:
        raise SubmissionError(
            f"nothing answers at {address}; is the cluster up, is this its dashboard's address "
            f"(port 8265), and may this machine reach it? ({type(error).__name__})"
        ) from error
    # A Ray that asks for a token does so here, too.
    if answer.status_code in (401, 403):
        return
    try:
        found = answer.status_code == 200 and "ray_version" in answer.json()
    except ValueError:
        found = False
    if not found:
        raise SubmissionError(
            f"{address} answers, but is no Ray dashboard (HTTP status {answer.status_code})"
        )
