"""uvicorn's HTTP/1.1 protocol with what it lacks: deadlines, a cap on connections, size limits.

The deadline of a connection is one attribute that the server compares periodically: no timer per
request. Deadlines of request bodies are the application's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.server.message import refusal
from exporter.server.tls import TlsServer

_LINGER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the server; beyond each is a response or a closed connection.

    Attributes:
        max_connections: Open connections; one more evicts the one that was idle longest.
        header_timeout_s: For a request's head, from its first byte or the connect; and for its
            body.
        idle_timeout_s: Between two requests on one connection; longer than a scrape interval.
        write_timeout_s: For the client to take one response.
        handshake_timeout_s: For the TLS handshake.
        linger_s: How long a refused client's remaining bytes are read and dropped, so that it
            receives the refusal instead of a connection reset.
        max_header_bytes: Request line and headers.
        max_body_bytes: Request body.
    """

    max_connections: int = 512
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 180.0
    write_timeout_s: float = 30.0
    handshake_timeout_s: float = 10.0
    linger_s: float = 2.0
    max_header_bytes: int = 16 * 1024
    max_body_bytes: int = 64 * 1024


class Connections(OrderedDict["BoundedProtocol", None]):
    """Open connections of a server, the one that was useful last at the end."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits

    def evict(self) -> None:
        """Abort the connection that was idle longest; a busy one only if there is no other."""
        idle = (each for each in self if not each.is_answering)
        victim = next(idle, None) or next(iter(self), None)
        if victim is not None:
            del self[victim]
            victim.transport.abort()

    def check_deadlines(self) -> None:
        """End the connections that have exceeded theirs."""
        now = time.monotonic()
        for connection in tuple(self):
            if now >= connection.deadline:
                connection.on_deadline()


class BoundedProtocol(HttpToolsProtocol):
    """Serves one client until it closes, misbehaves, is too slow or is evicted.

    Attributes:
        tls: With which the connection was accepted; None for plain HTTP.
        deadline: When `on_deadline` is due, in monotonic seconds.

    Args:
        open_connections: Of the server.
        tls: In force when the connection was accepted.
        arguments: uvicorn's.
    """

    def __init__(
        self, open_connections: Connections, tls: TlsServer | None, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.tls = tls
        self.deadline = inf
        self._open = open_connections
        self._limits = open_connections.limits
        self._in_head = False
        self._in_body = False
        self._unread_bytes = 0
        self._status = 400  # for what is not a request
        self._refusal: int | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a request waits for the end of its response."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self._open) >= self._limits.max_connections:
            self._open.evict()
        self._open[self] = None
        self._expire_in(self._limits.header_timeout_s)
        if self.tls is not None and not self.tls.admits(transport.get_extra_info("peercert")):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if self._refusal is not None:  # dropped, so that the refusal is not lost to a reset
            if self._unread_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        if not self._in_body and self._unread_bytes > self._limits.max_header_bytes:
            self._refuse(431)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._expire_in(self._limits.header_timeout_s)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > self._limits.max_header_bytes:
            self._status = 431
            raise ValueError("the head is too large")  # comes back as send_400_response
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        self._expire_in(inf)
        self.headers = []  # of the trailers, which uvicorn would add to the request's own
        if self.parser.should_upgrade() or not self.cycle.keep_alive:
            self._end_with_this()  # no other protocol is spoken

    def on_message_complete(self) -> None:
        self._in_body, self._unread_bytes = False, 0
        super().on_message_complete()

    def shutdown(self) -> None:
        super().shutdown()
        if self.is_answering:
            self._end_with_this()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are longer
        if self._in_body and not self.pipeline:  # the application waits for the rest of it
            self.cycle.disconnected = self.cycle.response_complete = True
            self.cycle.message_event.set()
        self._refuse(self._status)

    def on_response_complete(self) -> None:
        self._open.move_to_end(self)
        if self.pipeline:
            super().on_response_complete()
        else:  # without uvicorn's timer: the deadline serves
            self.flow.resume_reading()
            self._expire_in(self._limits.idle_timeout_s)
        if self._refusal is not None and not self.is_answering:
            self._refuse(self._refusal)

    def pause_writing(self) -> None:
        self._expire_in(self._limits.write_timeout_s)
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expire_in(self._limits.header_timeout_s if self._in_head else inf)

    def on_deadline(self) -> None:
        """End the connection, with a response if a request has begun."""
        if self.flow.write_paused:
            self.transport.abort()
        elif self._refusal is not None or not self._in_head:
            self.transport.close()
        else:
            self._refuse(408)

    def _end_with_this(self) -> None:
        """Let the response under way be the last one and say so, as older uvicorns do not."""
        self.cycle.keep_alive = False
        self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    def _refuse(self, status: int) -> None:
        """Answer what is not a whole request after the requests before it, and read no more."""
        self._refusal = status
        self._expire_in(inf)
        if self.is_answering or self.transport.is_closing():
            return
        response = refusal(status, ("Connection", "close"))
        head = "".join(f"{name.lower()}: {value}\r\n" for name, value in response.headers)
        length = f"content-length: {len(response.body)}\r\n\r\n"
        self.transport.write(f"HTTP/1.1 {status} \r\n{head}{length}".encode() + response.body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._expire_in(self._limits.linger_s)
        else:
            self.transport.close()

    def _expire_in(self, seconds: float) -> None:
        """Set the deadline, unless the one for taking a response is running."""
        if not self.flow.write_paused:
            self.deadline = time.monotonic() + seconds
