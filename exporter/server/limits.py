"""How much of the server one client may take, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server; every one of them ends in an answer or a closed connection.

    Attributes:
        max_connections: Open connections; one more evicts the one that was useless longest.
        header_timeout_s: From the first byte of a request (or the connect) to its last.
        idle_timeout_s: Between two requests on one connection; longer than a scrape interval.
        write_timeout_s: For the client to take one response.
        handshake_timeout_s: For the TLS handshake.
        linger_s: After a refusal the client's remaining bytes are read and dropped that long, so
            that the refusal reaches it instead of a connection reset.
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

    @property
    def sweep_interval_s(self) -> float:
        """How often deadlines are looked at: each second, or half the shortest of them."""
        shortest = min(
            self.header_timeout_s, self.idle_timeout_s, self.write_timeout_s, self.linger_s
        )
        return min(1.0, shortest / 2)
