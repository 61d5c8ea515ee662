"""Connects to the job server of a cluster, with errors that say what to change."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import socket
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
    "for a cluster with token authentication, set RAY_AUTH_MODE=token, and put its token into "
    "RAY_AUTH_TOKEN or into the file that RAY_AUTH_TOKEN_PATH names"
)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server of a cluster.

    Parameters
    ----------
    address : the address of the cluster's dashboard, such as `http://head:8265`.

    Raises
    ------
    SubmissionError
        If the packages for clusters are not installed, no Ray answers, or it denies access.
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
    _avoid_proxy(address)
    way = f"{address}{_proxy_of(address)}"
    _find_ray(address, way)
    # In Ray, this variable takes precedence over the address argument.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    with reported(f"{way} cannot be used"):
        return JobSubmissionClient(address)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns an error of a Ray request into a `SubmissionError` that begins with `what`."""
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


def _avoid_proxy(address: str) -> None:
    """Connects directly to this machine: a proxy would look for the address on itself."""
    host = urlsplit(address).hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host in ("localhost", socket.gethostname().lower())
    if here:
        # The lower-case name takes precedence, but not every library reads it.
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        direct = f"{known},{host}" if known else host
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = direct


def _proxy_of(address: str) -> str:
    """Words on the proxy that requests to the address use, and on how to avoid it; may be empty."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(address, get_environ_proxies(address))
    if proxy is None:
        return ""
    # The address of a proxy may contain a password.
    name = urlsplit(proxy).netloc.rpartition("@")[2] or proxy
    host = urlsplit(address).hostname
    return f" through the proxy {name} (NO_PROXY={host} turns it off)"


def _find_ray(address: str, way: str) -> None:
    """Checks that a Ray dashboard answers: Ray's own client would wait forever and not check.

    Parameters
    ----------
    way : the address and its proxy, for messages.
    """
    import requests

    try:
        answer = requests.get(f"{address}/api/version", timeout=ANSWER_SECONDS)
    except requests.exceptions.SSLError as error:
        raise SubmissionError(f"{way} does not speak https; try http: {error}") from error
    except requests.RequestException as error:
        raise SubmissionError(
            f"nothing answers at {way}; check that the cluster is running, that this is the "
            "address of its dashboard (port 8265), and that this machine can reach it "
            f"({type(error).__name__})"
        ) from error
    # Ray answers like this if it requires a token.
    if answer.status_code in (401, 403):
        return
    try:
        found = answer.status_code == 200 and "ray_version" in answer.json()
    except ValueError:
        found = False
    if not found:
        raise SubmissionError(
            f"{way} answers, but it is not a Ray dashboard (HTTP status {answer.status_code})"
        )
