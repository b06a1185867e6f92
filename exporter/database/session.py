"""A connection that writes: one transaction at a time, each statement under its own deadline.

For `release` and `ops`. A commit whose answer never came is distinguished from one that failed:
only the first may have happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import psycopg

from exporter.database.failures import UNREADABLE, query_failure
from exporter.database.link import Link, Row
from exporter.database.probe import find_blindness
from exporter.database.settings import (
    DEADLINE_GRACE_S,
    IDLE_TIMEOUT_S,
    LOCK_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    build_begin,
)
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseUnavailable, QueryFailed, Reason

# SQLSTATE classes where nothing was wrong with the statement: the server had no room, was shut
# down, failed, or could not serialise. 57014 is a statement that ran too long, which is its own.
_SERVER_TROUBLE = ("40", "53", "57", "58")
_CANCELLED = "57014"


class CommitUnknown(DatabaseUnavailable):
    """The connection broke in COMMIT: the transaction stands or it does not."""


class ServerTrouble(QueryFailed):
    """The server could not run a statement that was sound: disk full, shutdown, deadlock."""


class Session(Link):
    """A connection that is opened for a transaction and kept for the next.

    Not thread-safe but for `abort`. `begin` and `commit` (or `rollback`) enclose what is done; as
    a context manager it closes itself.
    """

    def __init__(
        self,
        dsn: str,
        *,
        connect_timeout_s: float = 5.0,
        on_step: Callable[[], None] = lambda: None,
        program: str = "chatqueue-releaser",
    ) -> None:
        super().__init__(dsn, program=program, connect_timeout_s=connect_timeout_s, on_step=on_step)
        self._timeout_s = STATEMENT_TIMEOUT_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(
        self,
        *,
        read_only: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        """Begin a READ COMMITTED transaction with its limits.

        A kept connection may have been closed by the server or a pooler since; that is found out
        here, where nothing has been done yet, and a new one is opened.

        Raises:
            DatabaseUnavailable: There is no connection.
        """
        mode = "READ COMMITTED READ ONLY" if read_only else "READ COMMITTED"
        text = build_begin(mode, statement_s=statement_timeout_s, lock_s=lock_timeout_s)
        self._timeout_s = statement_timeout_s
        was_kept = self._connection is not None
        try:
            self._open(text)
        except DatabaseUnavailable:
            if not was_kept or self._is_stopped():
                raise
            self._open(text)

    @contextlib.contextmanager
    def reading(self, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> Iterator[None]:
        """Open a read-only transaction for the block; it is rolled back at its end."""
        self.begin(read_only=True, statement_timeout_s=statement_timeout_s)
        try:
            yield
        finally:
            self.rollback()

    def _open(self, text: str) -> None:
        """Run the BEGIN on the kept connection or a new one."""
        if self._is_stopped():
            raise DatabaseUnavailable("stopped")
        connection = self._connect()
        self._watchdog = Watchdog(connection).__enter__()
        if self._is_stopped():  # while connecting, when there was no watchdog yet
            self.close()
            raise DatabaseUnavailable("stopped")
        try:
            self.rows(text)
        except BaseException:
            self.close()
            raise

    def rows(self, statement: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement in the open transaction.

        Args:
            statement: With `%(name)s`; a literal % is doubled where values are given.
            values: By name.

        Raises:
            QueryFailed: It failed; the transaction can only be rolled back.
            DatabaseUnavailable: The connection broke.
        """
        connection, watchdog = self._connection, self._watchdog
        if connection is None or watchdog is None:
            raise DatabaseUnavailable("no transaction is open")
        self._on_step()
        watchdog.arm(self._timeout_s + DEADLINE_GRACE_S)
        try:
            cursor = connection.execute(statement.encode(), values)
            rows: list[Row] = list(cursor.fetchall()) if cursor.description else []
        except (psycopg.Error, *UNREADABLE) as error:
            if connection.closed or watchdog.fired:
                self.close()
                raise DatabaseUnavailable(self._explain(error)) from error
            state = (error.sqlstate if isinstance(error, psycopg.Error) else None) or ""
            if state.startswith(_SERVER_TROUBLE) and state != _CANCELLED:
                raise ServerTrouble(Reason.OTHER, self._explain(error)) from error
            raise query_failure(error, self._timeout_s, self._secrets) from error
        watchdog.arm(IDLE_TIMEOUT_S)
        return rows

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitUnknown: The answer never came, or was an error; the caller must check what
                happened.
        """
        connection, watchdog = self._connection, self._watchdog
        if connection is None or watchdog is None:
            raise DatabaseUnavailable("no transaction is open")
        watchdog.arm(STATEMENT_TIMEOUT_S + DEADLINE_GRACE_S)
        try:
            status = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            self.close()
            raise CommitUnknown(self._explain(error)) from error
        self._end()
        if status != "COMMIT":  # a transaction that had failed answers ROLLBACK
            raise QueryFailed(Reason.OTHER, f"COMMIT answered {status}")

    def rollback(self) -> None:
        """Undo the open transaction; by closing the connection where it must be."""
        connection, watchdog = self._connection, self._watchdog
        if connection is None or watchdog is None:
            return
        watchdog.arm(STATEMENT_TIMEOUT_S)
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()
            return
        self._end()

    def find_blindness(self, relations: Sequence[str]) -> str | None:
        """Return what keeps this role from seeing every row of the relations, or None."""
        return find_blindness(self.rows, relations)

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is undone by the server."""
        super().close()
        self._end()

    def _end(self) -> None:
        """Stop watching."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.__exit__()
            if watchdog.fired and self._connection is not None:
                self.close()
