"""Requests and responses as values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

HeaderPairs = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(slots=True)
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
        headers: Name and value pairs. Length and date are the server's.
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


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
