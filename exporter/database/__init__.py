"""The only package that knows psycopg: connect, ask within limits, cancel, close."""

from exporter.database.connection import Connection, Poll
from exporter.database.dsn import check_dsn
from exporter.database.requests import Outcome, QueryRequest

__all__ = ["Connection", "Outcome", "Poll", "QueryRequest", "check_dsn"]
