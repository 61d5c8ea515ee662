"""Checks that a Ray may be at RAY_ADDRESS: Ray's own client would wait for it for good."""

from __future__ import annotations

import os
import re
import socket

from sweep.errors import ClusterError

ANSWER_SECONDS = 4.0
# Ray speaks gRPC, that is HTTP/2, in which both sides begin with a frame of settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_HEAD, _TYPE, _SETTINGS = 9, 3, 4
_ADDRESS = re.compile(r"(?:ray://)?(?:\[(?P<six>[^]]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5})")


def check_address(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """Refuses an address at which nothing listens, or something that cannot be Ray.

    Other forms than HOST:PORT and ray://HOST:PORT, such as `auto`, are left to Ray.

    Parameters
    ----------
    seconds : how long to wait for a connection, and then for an answer.

    Raises
    ------
    ClusterError
        Naming the address and what to change.
    """
    if not (found := _ADDRESS.fullmatch(address)):
        return
    remedy = (
        "start the cluster, set the address of its head, or unset RAY_ADDRESS to run on this "
        "machine"
    )
    try:
        connection = socket.create_connection(
            (found["six"] or found["host"], int(found["port"])), seconds
        )
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ClusterError(
            f"RAY_ADDRESS is {address}, but nothing listens there ({reason}); {remedy}"
        ) from error
    with connection:
        # With TLS there is no answer before a handshake, which is left to Ray.
        if os.environ.get("RAY_USE_TLS", "0") == "0" and not _answers(connection):
            raise ClusterError(
                f"RAY_ADDRESS is {address}, but what listens there is not Ray, or it hangs; "
                f"{remedy}"
            )


def _answers(connection: socket.socket) -> bool:
    """Whether the other side greets as a gRPC server does."""
    answer = b""
    try:
        connection.sendall(_GREETING)
        while len(answer) < _HEAD and (more := connection.recv(_HEAD - len(answer))):
            answer += more
    except OSError:
        return False
    return len(answer) == _HEAD and answer[_TYPE] == _SETTINGS
