"""Requests with large bodies: which paths may have them, and what they may hold together.

Every other path is held to `Limits.max_body_bytes`. What is uploaded, and who may, is the business
of the `Uploads` handed in; it is asked as soon as the head of a request is there, so that a
stranger's body is not even read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from exporter.server.message import Response

_HELD_BYTES = 16 * 1024 * 1024


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


class UploadGate:
    """What all connections share: whose bodies are large, and the bytes of those under way.

    To be used on the event loop alone.

    Args:
        uploads: Whom to ask.
        held_bytes: Together of all bodies that are not complete yet.
    """

    def __init__(self, uploads: Uploads, held_bytes: int = _HELD_BYTES) -> None:
        self.uploads = uploads
        self._left_bytes = held_bytes

    def hold(self, size: int) -> bool:
        """Take room for so many bytes; false where there is none."""
        if size > self._left_bytes:
            return False
        self._left_bytes -= size
        return True

    def free(self, size: int) -> None:
        """Give room back."""
        self._left_bytes += size
