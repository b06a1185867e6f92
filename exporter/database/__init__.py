"""The only package that knows psycopg: connect, ask within limits, cancel, close."""

from exporter.database.connection import Connection, Outcome, Poll, QueryRequest
from exporter.database.dsn import check_dsn

__all__ = ["Connection", "Outcome", "Poll", "QueryRequest", "check_dsn"]
