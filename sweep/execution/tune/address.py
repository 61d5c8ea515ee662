"""Checks that something listens at RAY_ADDRESS: Ray's own client would wait for it for good."""

from __future__ import annotations

import re
import socket

from sweep.errors import ClusterError

ANSWER_SECONDS = 5.0
_ADDRESS = re.compile(r"(?:ray://)?(?:\[(?P<six>[^]]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5})")


def check_address(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """Refuses an address at which nothing listens.

    Other forms than HOST:PORT and ray://HOST:PORT, such as `auto`, are left to Ray.

    Raises
    ------
    ClusterError
        Naming the address and what to change.
    """
    if not (found := _ADDRESS.fullmatch(address)):
        return
    try:
        socket.create_connection(
            (found["six"] or found["host"], int(found["port"])), seconds
        ).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ClusterError(
            f"RAY_ADDRESS is {address}, but nothing listens there ({reason}); start the cluster, "
            "set the address of its head, or unset RAY_ADDRESS to run on this machine"
        ) from error
