"""A proxy that breaks a connection between a client and a server on this machine."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Breaking:
    """Forwards connections to a port, and breaks the first one that matches `kind`.

    Parameters
    ----------
    port : of the server, on this machine.
    kind : a text in the first bytes of the connection to break.
    after : bytes of the server's answer that are forwarded before the break.
    """

    def __init__(self, port: int, kind: bytes, after: int) -> None:
        self.broken = 0
        self._port, self._kind, self._after = port, kind, after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Breaking:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("localhost", self._port)) as peer:
            first = client.recv(65_536)
            peer.sendall(first)
            back = threading.Thread(target=_copy, args=(client, peer), daemon=True)
            back.start()
            passed = 0
            while content := peer.recv(65_536):
                client.sendall(content)
                passed += len(content)
                if self._kind in first and not self.broken and passed > self._after:
                    self.broken += 1
                    return


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
