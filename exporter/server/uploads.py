"""Requests with large bodies: which paths may have them.

Every other path is held to `Limits.max_body_bytes`. What is uploaded, and who may, is the business
of the `Uploads` handed in; it is asked as soon as the head of a request is there, so that a
stranger's body is not even read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from exporter.server.message import Response


class Uploads(Protocol):
    """Takes bodies on some paths, and checks its clients itself: no user of ours is asked for.

    Attributes:
        max_body_bytes: Of one request, as sent.
    """

    max_body_bytes: int

    def takes(self, path: str) -> bool:
        """Return whether requests to this path are its own."""
        ...

    def admit(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """Judge a request by its head, on the event loop; None lets its body in."""
        ...

    def refused(self, path: str, status: int) -> None:
        """Be told of a request that the server refused, with which status."""
        ...
