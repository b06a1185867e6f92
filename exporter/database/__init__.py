"""The only package that knows psycopg: connect, ask within limits, cancel, close."""

from exporter.database.connection import Ask, Connection, Outcome, Poll
from exporter.database.dsn import check_dsn

__all__ = ["Ask", "Connection", "Outcome", "Poll", "check_dsn"]
