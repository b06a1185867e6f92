"""psycopg's errors, put into our few reasons and into words without secrets."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import errors

from exporter.config.dsn import redact
from exporter.errors import QueryFailed, Reason

_REASONS: tuple[tuple[type[psycopg.Error], Reason], ...] = (
    (errors.QueryCanceled, Reason.TIMEOUT),
    (errors.LockNotAvailable, Reason.LOCKED),
    (errors.InsufficientPrivilege, Reason.PERMISSION),
    (errors.UndefinedTable, Reason.MISSING),
    (errors.UndefinedColumn, Reason.MISSING),
    (errors.UndefinedFunction, Reason.MISSING),
    (errors.UndefinedObject, Reason.MISSING),
    (errors.InvalidSchemaName, Reason.MISSING),
    (errors.DatatypeMismatch, Reason.MISMATCH),
    (errors.CharacterNotInRepertoire, Reason.MISMATCH),
)
_OUT_OF_RANGE = (errors.DatetimeFieldOverflow, errors.IntervalFieldOverflow)


# What reading a value may raise beside psycopg's own: bytes that are no text, a time out of range.
UNREADABLE = (ValueError, ArithmeticError)


def query_failure(error: Exception, timeout_s: float, secrets: Iterable[str]) -> QueryFailed:
    """Return one query's failure with its reason; the connection itself is well."""
    reason = next((r for kind, r in _REASONS if isinstance(error, kind)), Reason.OTHER)
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        # The server gave the value, and Python has none like it.
        return QueryFailed(
            Reason.MISMATCH, f"returns a value that cannot be read: {explain(error, secrets)}"
        )
    message = explain(error, secrets)
    if isinstance(error, _OUT_OF_RANGE):
        message = (
            f"{message}: a row that it reads has a time of infinity or -infinity, or one out of "
            'range; chatqueue_invalid_chats{check="time_infinite"} counts such rows'
        )
    if reason is Reason.PERMISSION:
        message = f"{message}; chatqueue grants prints what is enough, column by column"
    if reason is Reason.TIMEOUT:
        message = f"{message} (timeout {timeout_s:g}s)"
    return QueryFailed(reason, message)


def explain(error: Exception, secrets: Iterable[str]) -> str:
    """Return the server's or libpq's words on one line, without any password."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = " ".join((primary or str(error) or type(error).__name__).split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return redact(text)
