"""The only package that knows psycopg: connect, ask within limits, cancel, close."""

from exporter.database.connection import Connection
from exporter.database.dsn import check_dsn
from exporter.database.outcomes import Outcome, Poll, QueryRequest

__all__ = ["Connection", "Outcome", "Poll", "QueryRequest", "check_dsn"]
