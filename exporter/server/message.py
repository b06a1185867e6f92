"""Requests and responses as values, and who takes the larger request bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

HeaderPairs = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Request:
    """One complete request.

    Attributes:
        method: As sent, e.g. `GET`.
        path: Percent-decoded path without the query; `*` or an authority where the method has it.
        query: Raw query string without the question mark.
        headers: Lower-cased names; values of a repeated header joined by `, `.
        body: At most the server's `max_body_bytes`.
        peer: Address of the client without its port; empty on a unix socket.
        may_block: Whether it is answered in a pool and not on the event loop.
        is_user: Whether it came with the right credentials; False where none are asked for.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str
    may_block: bool = False
    is_user: bool = False

    @property
    def has_body(self) -> bool:
        """Whether the headers announce a body."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"


@dataclass(frozen=True, slots=True)
class Response:
    """One response; may be kept and sent many times.

    Attributes:
        status: With a body, so neither 1xx nor 204 nor 304.
        headers: Name and value pairs. The server adds length and date; a response with a character
            that HTTP does not allow in a header is not sent.
        body: Not sent for HEAD.
    """

    status: int
    headers: HeaderPairs = ()
    body: bytes = b""

    def with_headers(self, *headers: tuple[str, str]) -> Response:
        """Return the same response with more headers."""
        return Response(self.status, (*self.headers, *headers), self.body)


Application = Callable[[Request], Response]


def refusal(status: int, *headers: tuple[str, str]) -> Response:
    """Return the plain-text response that names its status, and nothing else."""
    plain = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Response(status, (*plain, *headers), f"{status} {HTTPStatus(status).phrase}\n".encode())


BUSY = refusal(503, ("Retry-After", "1"))


class Refused(Exception):
    """The server answers a request itself, without the application."""

    def __init__(self, response: Response) -> None:
        self.response = response


class Uploads(Protocol):
    """Takes large bodies on its own paths, and authenticates its clients itself.

    Every other path is held to `Limits.max_body_bytes`.

    Attributes:
        max_body_bytes: Of one request, as sent.
    """

    max_body_bytes: int

    def takes(self, path: str) -> bool:
        """Return whether requests to this path are its own."""
        ...

    def admit(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """Judge a request by its head, before its body is read; None admits it."""
        ...

    def refuse(self, path: str, response: Response) -> Response:
        """Count a request that the server refuses; return the response with its own headers."""
        ...

    def answer(self, request: Request) -> Response:
        """Answer a complete request, on a thread of a pool."""
        ...
