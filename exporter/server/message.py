"""Requests and responses as values, and the bytes of a response's head."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

HeaderPairs = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# The server's own: it alone knows the length on the wire and whether the connection goes on.
_SERVER_HEADERS = frozenset({"connection", "content-length", "date", "transfer-encoding"})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request.

    Attributes:
        method: As sent, e.g. `GET`.
        path: Percent-decoded path without the query; `*` or an authority where the method has it.
        query: Raw query string without the question mark.
        headers: Lower-cased names; a repeated header's values joined by `, `.
        body: At most the server's `max_body_bytes`.
        peer: Address of the client without its port.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; safe to keep and to hand out many times.

    Attributes:
        status: Final HTTP status, 200 to 599.
        headers: Name and value pairs. Length, date and connection headers are the server's.
        body: Left out on the wire for HEAD, 204 and 304.
    """

    status: int
    headers: HeaderPairs = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        """Refuse what would let a header value end the head early.

        Raises:
            ValueError: The status is no final one, or a header has a forbidden character.
        """
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} is not a final HTTP status")
        for name, value in self.headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"header {name!r} has a character HTTP does not allow")


Application = Callable[[Request], Response]


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Give a one-line plain-text response."""
    fixed = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(status, (*fixed, *headers), f"{text}\n".encode())


BUSY = plain(503, "503 Service Unavailable", ("Retry-After", "1"))


def refusal(status: int) -> Response:
    """Give the plain-text response that says no more than its status."""
    return plain(status, f"{status} {_phrase(status)}")


class HeadRenderer:
    """Renders response heads; the `Date` header is rendered once a second.

    Args:
        headers: Added to each response that does not carry a header of the same name.
    """

    def __init__(self, headers: HeaderPairs = (), now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = -1
        self._date = b""
        # A daemon hands out few kinds of head, again and again.
        self._fixed = lru_cache(maxsize=256)(lambda s, h: _render_fixed(s, h, headers))

    def render(self, response: Response, connection: bytes) -> bytes:
        """Give status line and headers, with the empty line that ends them.

        Args:
            response: Its body's length is announced (also to HEAD), except where HTTP forbids it.
            connection: The whole `Connection` header line, or nothing.
        """
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._date = b"Date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        fixed = self._fixed(response.status, response.headers)
        if response.status == HTTPStatus.NO_CONTENT:
            return b"".join((fixed, self._date, connection, b"\r\n"))
        length = b"Content-Length: %d\r\n" % len(response.body)
        return b"".join((fixed, self._date, length, connection, b"\r\n"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _render_fixed(status: int, headers: HeaderPairs, added: HeaderPairs) -> bytes:
    """Render what depends on neither the time nor the body."""
    names = {name.lower() for name, _ in headers}
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _SERVER_HEADERS]
    lines += [f"{name}: {value}" for name, value in added if name.lower() not in names]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
