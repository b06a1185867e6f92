"""One client's connection: an asyncio protocol around httptools, with a deadline for every phase.

Why no WSGI server: a scrape hands out bytes that are ready, so the server is the whole cost. A
thread-a-request server (cheroot) was measured at 2,600 requests a second and 2.8 ms at the median
with 8 keep-alive clients, and 200 clients that never finish their request took all its threads,
so that no scrape got through. asyncio with httptools' parser came to 47,000 requests a second and
0.13 ms on the same machine with a constant body and nothing else done. With everything below it
is 16,000 requests a second and 0.44 ms there, while the bare parser reached 50,000 to 58,000.

How one client is bounded:

- Bytes are read into one small buffer shared by all connections, so that one read brings at most
  a few hundred pipelined requests. They are answered in order, a few a turn of the loop, and
  nothing more is read until all of them are answered.
- A response is handed to the transport in pieces as the client takes them. The body's bytes are
  shared with every other client that gets the same ones.
- Deadlines are one attribute that the server's periodic sweep compares: no timer a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Coroutine
from enum import Enum, auto
from http import HTTPStatus
from math import inf
from typing import Any, Protocol, cast

from exporter.server.dispatch import Gate
from exporter.server.limits import Limits
from exporter.server.message import CONTINUE, Request, Response, refusal
from exporter.server.parser import Exchange, RequestParser
from exporter.server.uploads import UploadGate

_WRITE_PIECE_BYTES = 64 * 1024
_ANSWERS_A_TURN = 32
_LINGER_BYTES = 1024 * 1024


class Phase(Enum):
    """What a connection is about; the deadline's meaning follows from it."""

    OPENING = auto()  # accepted, TLS handshake not done
    READING = auto()  # nothing or a part of a request came
    IDLE = auto()  # between two requests
    ANSWERING = auto()  # a pool works on the response; the pool bounds that
    WRITING = auto()  # the client has not taken the response yet
    LINGERING = auto()  # refused; remaining input is dropped
    CLOSING = auto()  # the last bytes are on their way
    GONE = auto()


class Hub(Protocol):
    """What a connection needs of its server."""

    limits: Limits
    buffer: memoryview
    draining: bool
    upload_gate: UploadGate | None

    @property
    def gate(self) -> Gate: ...
    def clock(self) -> float: ...
    def answer(self, request: Request) -> Response | Coroutine[Any, Any, Response]: ...
    def start_task(self, work: Coroutine[Any, Any, None]) -> None: ...
    def served(self, connection: Connection) -> None: ...
    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """Serves one client until it closes, misbehaves, is too slow or is evicted.

    Attributes:
        phase: Read by the server to choose whom to evict.

    Args:
        hub: The server.
        sock: Accepted; closed by the transport that takes it over.
        gate: The configuration in force at the accept; the connection ends when its TLS changes.
    """

    def __init__(self, hub: Hub, sock: socket.socket, gate: Gate) -> None:
        self.phase = Phase.OPENING
        self._hub = hub
        self._sock: socket.socket | None = sock
        self._tls = gate.tls
        self._deadline = inf  # of the handshake, asyncio's own
        self._transport: asyncio.Transport | None = None
        self._parser: RequestParser
        self._queue: deque[Exchange] = deque()
        self._rest: memoryview | None = None
        self._keep_alive = True
        self._refused = False
        self._write_paused = False
        self._read_paused = False
        self._lingered_bytes = 0

    # Events from the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sock = None
        self._transport.set_write_buffer_limits(high=_WRITE_PIECE_BYTES)
        peername = transport.get_extra_info("peername")
        peer = str(peername[0]).removeprefix("::ffff:") if peername else ""
        self._parser = RequestParser(peer, self._hub.limits, self._hub.upload_gate)
        self._enter(Phase.READING, self._hub.limits.header_timeout_s)
        if self._tls is not None and not self._tls.admits(transport.get_extra_info("peercert")):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        self.phase = Phase.GONE
        self._deadline = inf
        self._queue.clear()
        self._rest = None
        self._parser.close()
        self._hub.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._parser.ended:
            self._lingered_bytes += nbytes
            if self._lingered_bytes > _LINGER_BYTES:
                self.abort()
            return
        self._queue.extend(self._parser.feed(self._hub.buffer[:nbytes]))
        if self._parser.in_message and self.phase is Phase.IDLE:
            self._enter(Phase.READING, self._hub.limits.header_timeout_s)
        self._advance()

    def eof_received(self) -> None:
        # Reading is paused while an answer is due, so nothing is owed to the client here; asyncio
        # closes the transport when this returns.
        self._enter(Phase.CLOSING, self._hub.limits.write_timeout_s)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.phase is Phase.WRITING:
            self._write_rest()
            self._advance()

    # Calls from the server.

    def check_deadline(self, now: float) -> None:
        """End the connection if its phase has lasted too long."""
        if now < self._deadline:
            return
        if self.phase is Phase.READING and self._parser.in_message:
            self._queue.append(self._parser.refuse(refusal(408)))
            self._advance()
        elif self.phase in (Phase.READING, Phase.IDLE, Phase.LINGERING):
            self.close()
        else:
            self.abort()

    def retire(self) -> None:
        """Close if nothing is under way; else the response under way is the last one."""
        if self.phase is Phase.OPENING:
            self.abort()
        elif self.phase is Phase.IDLE or (
            self.phase is Phase.READING and not self._parser.in_message and not self._queue
        ):
            self.close()

    def retire_if_stale(self) -> None:
        """Retire if new connections would be made with other TLS settings than this one."""
        if self._tls is not self._hub.gate.tls:
            self.retire()

    def close(self) -> None:
        """Close as soon as what was written is sent, and within the write timeout."""
        if self._transport is not None and self.phase is not Phase.GONE:
            self._enter(Phase.CLOSING, self._hub.limits.write_timeout_s)
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self.phase = Phase.GONE
        self._deadline = inf
        if self._transport is not None:
            self._transport.abort()
        elif self._sock is not None:
            # asyncio owns the socket by now; the end of its input ends the handshake.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    # From queue to wire.

    def _advance(self) -> None:
        """Answer what is queued, as far as the client takes it and for a fair share of time."""
        transport = cast(asyncio.Transport, self._transport)
        for _ in range(_ANSWERS_A_TURN):
            if not self._queue or transport.is_closing():
                break
            if self.phase is not Phase.IDLE and self.phase is not Phase.READING:
                break
            self._begin(self._queue.popleft())
        else:
            if self._queue:
                asyncio.get_running_loop().call_soon(self._advance)
        self._settle()

    def _settle(self) -> None:
        """Read on only where everything that was read is answered."""
        if self.phase is Phase.GONE or self.phase is Phase.CLOSING:
            return
        transport = cast(asyncio.Transport, self._transport)
        may_read = not self._queue and self.phase not in (Phase.ANSWERING, Phase.WRITING)
        if may_read and self._parser.awaits_continue:
            self._parser.awaits_continue = False
            transport.write(CONTINUE)
        if may_read is self._read_paused:
            self._read_paused = not may_read
            if may_read:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _begin(self, exchange: Exchange) -> None:
        if exchange.request is None:
            self._respond(exchange, cast(Response, exchange.refusal))
            return
        answer = self._hub.answer(exchange.request)
        if isinstance(answer, Response):
            self._respond(exchange, answer)
        else:
            self._enter(Phase.ANSWERING, inf)
            self._hub.start_task(self._respond_later(exchange, answer))

    async def _respond_later(
        self, exchange: Exchange, answer: Coroutine[Any, Any, Response]
    ) -> None:
        response = await answer
        if self.phase is Phase.ANSWERING:
            self._respond(exchange, response)
            self._advance()

    def _respond(self, exchange: Exchange, response: Response) -> None:
        hub, transport = self._hub, cast(asyncio.Transport, self._transport)
        self._refused = exchange.request is None
        self._keep_alive = exchange.keep_alive and not hub.draining and self._tls is hub.gate.tls
        if not self._keep_alive:
            connection = b"Connection: close\r\n"
        else:
            connection = b"Connection: keep-alive\r\n" if exchange.http_10 else b""
        head = hub.gate.heads.render(response, connection)
        body = response.body
        if response.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED) or (
            exchange.request is not None and exchange.request.method == "HEAD"
        ):
            body = b""
        self.phase = Phase.WRITING
        if len(body) <= _WRITE_PIECE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            self._rest = memoryview(body)
        self._write_rest()
        if self.phase is Phase.WRITING:
            self._enter(Phase.WRITING, hub.limits.write_timeout_s)

    def _write_rest(self) -> None:
        """Hand over the body's next pieces, until it is all gone or the client is too slow."""
        transport = cast(asyncio.Transport, self._transport)
        while self._rest is not None and not self._write_paused:
            piece, rest = self._rest[:_WRITE_PIECE_BYTES], self._rest[_WRITE_PIECE_BYTES:]
            self._rest = rest if len(rest) else None
            transport.write(piece)
        if self._rest is None and not self._write_paused and self.phase is Phase.WRITING:
            self._finish()

    def _finish(self) -> None:
        """Go on to the next request, or end the connection in the way the client can follow."""
        if self._keep_alive:
            self._hub.served(self)
            self._enter(Phase.IDLE, self._hub.limits.idle_timeout_s)
            return
        self._queue.clear()
        self._parser.ended = True
        transport = cast(asyncio.Transport, self._transport)
        if transport.can_write_eof():
            transport.write_eof()
        elif not self._refused:
            # TLS cannot half-close; a client that sent all it had needs no lingering either.
            self.close()
            return
        self._enter(Phase.LINGERING, self._hub.limits.linger_s)

    def _enter(self, phase: Phase, timeout_s: float) -> None:
        self.phase = phase
        self._deadline = self._hub.clock() + timeout_s
