"""A TCP proxy on loopback whose wire can be cut or made to swallow everything."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards connections to a port of this machine.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._swallowing = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        self._thread.join()
        for end in (*self._pairs, self._listener):
            end.close()

    def swallow(self, on: bool = True) -> None:
        """Be a black hole: accept and read as before, but let nothing through."""
        self._swallowing = on

    def _run(self) -> None:
        """Forward until closed."""
        while not self._closing:
            ready, _, _ = select.select([self._listener, *self._pairs], [], [], 0.02)
            for end in ready:
                if end is self._listener:
                    self._accept()
                elif end in self._pairs:
                    self._forward(end)

    def _accept(self) -> None:
        """A new client, joined to a new connection."""
        client, _ = self._listener.accept()
        target = socket.create_connection(("127.0.0.1", self._target_port))
        self._pairs[client], self._pairs[target] = target, client

    def _forward(self, end: socket.socket) -> None:
        """Pass on what came, or that it ended."""
        other = self._pairs[end]
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(65536)
        if data and not self._swallowing:
            with contextlib.suppress(OSError):
                self._pass_on(end, other, data)
        elif not data:
            self._cut(end)

    def _pass_on(self, end: socket.socket, other: socket.socket, data: bytes) -> None:
        """Hand what one end sent to the other."""
        other.sendall(data)

    def _cut(self, end: socket.socket) -> None:
        """Close a connection on both sides."""
        for closed in (end, self._pairs[end]):
            del self._pairs[closed]
            closed.close()
