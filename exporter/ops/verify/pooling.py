"""Whether a pooler in transaction mode stands between us and the server."""

from __future__ import annotations

from exporter.database.session import Session
from exporter.ops.verify.checks import Pooling

ROUNDS = 3


def find_pooling(dsn: str, connect_timeout_s: float) -> Pooling:
    """Return how connections reach the server.

    A client of its own server process keeps it. Behind a transaction pooler a second client's
    transaction gets the process that the first has just given back, or the first gets another.

    Raises:
        DatabaseError: There is no connection.
    """
    with (
        Session(dsn, connect_timeout_s=connect_timeout_s) as first,
        Session(dsn, connect_timeout_s=connect_timeout_s) as second,
    ):
        own = _process(first)
        for _ in range(ROUNDS):
            second.begin(read_only=True)
            try:
                (row,) = second.rows("SELECT pg_catalog.pg_backend_pid() AS process")
                if row["process"] == own or _process(first) != own:
                    return "transaction"
            finally:
                second.rollback()
    return "session"


def _process(session: Session) -> int:
    """The server process of a transaction of its own."""
    session.begin(read_only=True)
    try:
        (row,) = session.rows("SELECT pg_catalog.pg_backend_pid() AS process")
        return int(row["process"])
    finally:
        session.rollback()
