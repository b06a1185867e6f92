"""uvicorn's HTTP/1.1 protocol with what it lacks: deadlines, a cap on connections, size limits.

A client that does not finish its request, does not take its response or sends an endless head is
cut off; where there are too many connections, the one that was useless longest makes room. The
deadlines are one attribute that the server's periodic sweep compares: no timer per request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.server.limits import Limits
from exporter.server.message import refusal
from exporter.server.tls import TlsServer

_LINGER_BYTES = 1024 * 1024


@dataclass(slots=True)
class ConnectionTable:
    """All connections of a server, the one that was useful last at the end.

    Attributes:
        limits: What one client may take.
        clock: Monotonic seconds.
        connections: Open ones, TLS handshakes not included.
    """

    limits: Limits
    clock: Callable[[], float]
    connections: OrderedDict[BoundedProtocol, None] = field(default_factory=OrderedDict)

    def add(self, connection: BoundedProtocol) -> None:
        """Take a new connection; beyond the cap another one ends."""
        if len(self.connections) >= self.limits.max_connections:
            self.evict()
        self.connections[connection] = None

    def evict(self) -> None:
        """End the connection that was useless longest; a busy one only at need."""
        idle = (each for each in self.connections if not each.is_answering)
        victim = next(idle, None) or next(iter(self.connections), None)
        if victim is not None:
            del self.connections[victim]
            victim.transport.abort()

    def check_deadlines(self) -> None:
        """End what has lasted too long."""
        now = self.clock()
        for connection in tuple(self.connections):
            if now >= connection.deadline:
                connection.on_deadline()


class BoundedProtocol(HttpToolsProtocol):
    """Serves one client until it closes, misbehaves, is too slow or is evicted.

    Attributes:
        tls: What the connection was opened with; None for plain HTTP.
        deadline: When `on_deadline` is due, on the table's clock.

    Args:
        table: Of the server.
        tls: In force when the connection was accepted.
        arguments: uvicorn's own.
    """

    def __init__(
        self, table: ConnectionTable, tls: TlsServer | None, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.tls = tls
        self.deadline = inf
        self._table = table
        self._in_message = False
        self._in_head = True
        self._unread_bytes = 0
        self._status = 400  # of what is no request
        self._refusal: int | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a complete request waits for the end of its response."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expire_in(self._table.limits.header_timeout_s)
        self._table.add(self)
        if self.tls is not None and not self.tls.admits(transport.get_extra_info("peercert")):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = inf
        self._table.connections.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if self._refusal is not None:  # dropped, so that the refusal is not lost to a reset
            if self._unread_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        if self._in_head and self._unread_bytes > self._table.limits.max_header_bytes:
            self._refuse(431)

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._expire_in(self._table.limits.header_timeout_s)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._table.limits.max_header_bytes:
            self._status = 431
            raise ValueError("the head is too large")  # comes back as send_400_response
        self._in_head, self._unread_bytes = False, 0
        super().on_headers_complete()
        self.headers = []  # of the trailers, which uvicorn would add to the request's own
        if self.parser.should_upgrade() or not self.cycle.keep_alive:
            self._end_with_this()  # an upgrade is to what we do not speak

    def on_message_complete(self) -> None:
        self._in_message, self._in_head, self._unread_bytes = False, True, 0
        self.deadline = inf
        super().on_message_complete()

    def shutdown(self) -> None:
        super().shutdown()
        if self.is_answering:
            self._end_with_this()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are longer
        self._refuse(self._status)

    def on_response_complete(self) -> None:
        self._table.connections.move_to_end(self)
        super().on_response_complete()
        if self._refusal is not None and not self.is_answering:
            self._refuse(self._refusal)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expire_in(self._table.limits.write_timeout_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.deadline = inf
        if self._in_message:
            self._expire_in(self._table.limits.header_timeout_s)

    def on_deadline(self) -> None:
        """End the connection, with an answer where a request has begun."""
        if self.flow.write_paused:
            self.transport.abort()
        elif self._refusal is not None or not self._in_message:
            self.transport.close()
        elif self.is_answering and (self.pipeline or self._in_head):
            # The request before it is being answered, and nothing more is read meanwhile.
            self._expire_in(self._table.limits.header_timeout_s)
        else:
            if self.is_answering:  # the application waits for the body: none will come
                self.cycle.disconnected = self.cycle.response_complete = True
                self.cycle.message_event.set()
            self.deadline = inf
            self.loop.call_soon(self._refuse, 408)  # once the application knows

    def _end_with_this(self) -> None:
        """Let the response under way be the last one, and say so, as older uvicorns do not."""
        self.cycle.keep_alive = False
        self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    def _refuse(self, status: int) -> None:
        """Answer what is no whole request, after those before it, and read no other."""
        self._refusal = status
        if self.is_answering or self.transport.is_closing():
            return
        response = refusal(status)
        head = "".join(f"{name.lower()}: {value}\r\n" for name, value in response.headers)
        self.transport.write(
            f"HTTP/1.1 {status} \r\n{head}content-length: {len(response.body)}\r\n"
            "connection: close\r\n\r\n".encode()
            + response.body
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._expire_in(self._table.limits.linger_s)
        else:
            self.transport.close()

    def _expire_in(self, seconds: float) -> None:
        self.deadline = self._table.clock() + seconds
