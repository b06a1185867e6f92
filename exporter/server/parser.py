"""From bytes to complete requests, within limits: httptools' parser and what it does not bound.

httptools (llhttp) is strict about what smuggling needs: ambiguous lengths, bare line feeds, data
after `Connection: close`. It bounds nothing, so sizes are counted here, on the parsed parts and
on the raw bytes as well, since an unfinished header line is kept inside the parser.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

import httptools

from exporter.server.limits import Limits
from exporter.server.message import BUSY, Request, Response, refusal
from exporter.server.uploads import UploadGate

# Tiny chunks cost more framing than content; no honest client needs more than this.
_MAX_CHUNK_OVERHEAD = 8
# A scraper sends the same bytes again and again. Where one read was exactly one request, and the
# next read is the same, so is the request: 1 µs to compare where parsing took 15 to 25 µs.
_MAX_REPEAT_BYTES = 2048


class Exchange(NamedTuple):
    """A request to answer, or a refusal to send in its place; answered in order of arrival.

    Attributes:
        request: None where the bytes were refused before they became a request.
        refusal: What to send then.
        keep_alive: Whether the connection may go on after the response.
        http_10: Whether the client speaks HTTP/1.0.
    """

    request: Request | None
    refusal: Response | None
    keep_alive: bool
    http_10: bool = False


class _RefusedError(Exception):
    """Stops the parser from inside a callback."""


class RequestParser:
    """Collects requests from the bytes of one connection.

    Attributes:
        in_message: Bytes of a request were seen, and its end was not.
        awaits_continue: The client holds its body back until it is told to go on.
        ended: No further bytes may be fed: a refusal, an upgrade or the client's last request.

    Args:
        peer: Goes into each request.
        limits: Sizes to hold to.
        gate: Lets larger bodies in on paths of its own.
    """

    def __init__(self, peer: str, limits: Limits, gate: UploadGate | None = None) -> None:
        self.in_message = False
        self.awaits_continue = False
        self.ended = False
        self._peer = peer
        self._limits = limits
        self._gate = gate
        self._upload_path: str | None = None
        self._held_bytes = 0
        self._parser = httptools.HttpRequestParser(self)
        self._done: list[Exchange] = []
        self._refusal: Response | None = None
        self._wire_bytes = 0
        self._repeat_bytes = b""
        self._repeat: Exchange

    def feed(self, data: memoryview) -> list[Exchange]:
        """Give the exchanges that these bytes complete, in order; never raises."""
        whole = bytes(data) if not self.in_message and len(data) <= _MAX_REPEAT_BYTES else b""
        if whole and whole == self._repeat_bytes:
            return [self._repeat]
        self._done = []
        try:
            self._parser.feed_data(data)
            if self.in_message:
                self._count_wire(len(data))
        except httptools.HttpParserUpgrade:
            # Upgrades are declined by an ordinary answer; what follows may be another protocol.
            self.ended = True
        except (httptools.HttpParserError, _RefusedError):
            if not self.ended:
                self._done.append(self.refuse(self._refusal or refusal(400)))
        if whole and len(self._done) == 1 and not self.in_message and not self.ended:
            self._repeat_bytes, self._repeat = whole, self._done[0]
        return self._done

    def refuse(self, response: Response) -> Exchange:
        """End the input; give the exchange that says why."""
        self.ended = True
        self.in_message = self.awaits_continue = False
        if self._gate is not None and self._upload_path is not None:
            self._gate.uploads.refused(self._upload_path, response.status)
        self._let_go()
        return Exchange(None, response, keep_alive=False)

    def close(self) -> None:
        """Break the reference cycle with httptools, so that no garbage collection is needed."""
        self._let_go()
        del self._parser

    def _count_wire(self, size: int) -> None:
        """Bound what is held of an unfinished request; over-counts by at most one read."""
        self._wire_bytes += size
        if not self._in_body:
            if self._wire_bytes > self._limits.max_header_bytes + size:
                self._stop(431)
        elif self._wire_bytes > (
            self._limits.max_header_bytes + _MAX_CHUNK_OVERHEAD * self._max_body_bytes
        ):
            self._stop(413)

    def _admit_upload(self) -> None:
        """Let a larger body in, where the path takes one and its owner agrees."""
        target = split_target(self._url)
        if self._gate is None or target is None or not self._gate.uploads.takes(target[0]):
            return
        response = self._gate.uploads.admit(target[0], self._headers)
        if response is not None:
            self._refusal = response
            raise _RefusedError
        self._upload_path = target[0]
        self._max_body_bytes = self._gate.uploads.max_body_bytes

    def _hold_upload(self, size: int) -> None:
        """Count what an upload holds until it is complete."""
        if self._gate is None or self._upload_path is None:
            return
        if not self._gate.hold(size):
            self._refusal = BUSY
            raise _RefusedError
        self._held_bytes += size

    def _let_go(self) -> None:
        """Give back what an upload held."""
        if self._gate is not None:
            self._gate.free(self._held_bytes)
        self._held_bytes = 0
        self._upload_path = None

    def _stop(self, status: int) -> None:
        self._refusal = refusal(status)
        raise _RefusedError

    # httptools' callbacks, in the order in which they are called.

    def on_message_begin(self) -> None:
        self.in_message = True
        self._in_body = False
        self._wire_bytes = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._url = b""
        self._headers: dict[str, str] = {}
        # One buffer: a body in chunks of a byte would hold forty times its size as a list.
        self._body = bytearray()
        self._max_body_bytes = self._limits.max_body_bytes

    def on_url(self, part: bytes) -> None:
        self._count_head(len(part))
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)  # with colon, space and line end
        if self._in_body:
            return  # A trailer: counted, of no use.
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        self._in_body = True
        version = self._parser.get_http_version()
        self._http_10 = version == "1.0"
        # An upgrade that is declined leaves the connection in doubt: answer, then close.
        self._keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if version not in ("1.1", "1.0"):
            self._stop(505)
        if not self._http_10 and "host" not in self._headers:
            self._stop(400)
        self._admit_upload()
        if int(self._headers.get("content-length", "0")) > self._max_body_bytes:
            self._stop(413)
        expectation = self._headers.get("expect")
        if expectation is not None and not self._http_10:
            if expectation.lower() != "100-continue":
                self._stop(417)
            self.awaits_continue = True

    def on_body(self, part: bytes) -> None:
        self._body_bytes += len(part)
        if self._body_bytes > self._max_body_bytes:
            self._stop(413)
        self._hold_upload(len(part))
        self.awaits_continue = False
        self._body += part

    def on_message_complete(self) -> None:
        self.in_message = self.awaits_continue = False
        self._let_go()
        method = self._parser.get_method().decode("latin-1")
        target = split_target(self._url)
        if target is None:
            self._stop(400)
            raise AssertionError("unreachable")
        path, query = target
        request = Request(method, path, query, self._headers, bytes(self._body), self._peer)
        self._done.append(Exchange(request, None, self._keep_alive, self._http_10))
        if not self._keep_alive:
            self.ended = True

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            self._stop(431)


def split_target(url: bytes) -> tuple[str, str] | None:
    """Give percent-decoded path and raw query; None for an absolute target that is none."""
    if not url.startswith((b"/", b"*")) and b"://" in url:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return None
        raw, query = parsed.path or b"/", parsed.query or b""
    else:
        raw, _, query = url.partition(b"#")[0].partition(b"?")
    path = raw.decode("latin-1") if b"%" not in raw else unquote(raw, errors="replace")
    return path, query.decode("latin-1")
