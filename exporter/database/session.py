"""A connection that writes: one transaction at a time, each statement under its own deadline.

For `release` alone. Every setting is `SET LOCAL` and nothing is prepared on the server, so that a
transaction pooler serves as well as a direct connection. A commit whose answer never came is told
apart from one that failed: only the first may have happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

import psycopg

from exporter.database.failures import UNREADABLE, explain, explain_hiding, query_failure
from exporter.database.opening import Opener
from exporter.database.settings import PIN_ALL
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseUnavailable, QueryFailed, Reason

Row = Mapping[str, Any]

STATEMENT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 1.0
IDLE_TIMEOUT_S = 10.0
DEADLINE_GRACE_S = 1.0

_PROBE = files(__package__).joinpath("probe.sql").read_text("utf-8").encode()
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED{read_only};"
    " SET LOCAL lock_timeout = {lock_ms};"
    " SET LOCAL statement_timeout = {statement_ms};"
    " SET LOCAL idle_in_transaction_session_timeout = {idle_ms}; "
) + PIN_ALL
# SQLSTATE classes where nothing was wrong with the statement: the server had no room, was told to
# stop, failed, or could not serialise. 57014 is a statement that ran too long, which is its own.
_SERVER_TROUBLE = ("40", "53", "57", "58")
_CANCELLED = "57014"


class CommitUnknown(DatabaseUnavailable):
    """The connection broke in COMMIT: the transaction stands or it does not."""


class ServerTrouble(QueryFailed):
    """The server could not run a statement that was sound: disk full, shutdown, deadlock."""


class Session:
    """A connection that is opened for a transaction and kept for the next.

    Not thread-safe but for `abort`. `begin` and `commit` (or `rollback`) enclose what is done; as
    a context manager it closes itself.

    Args:
        dsn: libpq connection string.
        connect_timeout_s: For each host of the connection string.
        on_step: Called before each statement, to show that it is turning.
        program: What `application_name` begins with.
    """

    def __init__(
        self,
        dsn: str,
        *,
        connect_timeout_s: float = 5.0,
        on_step: Callable[[], None] = lambda: None,
        program: str = "chatqueue-releaser",
    ) -> None:
        self._opener = Opener(dsn, program=program, connect_timeout_s=connect_timeout_s)
        self._on_step = on_step
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._watchdog: Watchdog | None = None
        self._aborted = False
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
        text = _BEGIN.format(
            read_only=" READ ONLY" if read_only else "",
            lock_ms=round(lock_timeout_s * 1000),
            statement_ms=round(statement_timeout_s * 1000),
            idle_ms=round(IDLE_TIMEOUT_S * 1000),
        )
        self._timeout_s = statement_timeout_s
        was_kept = self._connection is not None
        try:
            self._open(text)
        except DatabaseUnavailable:
            if not was_kept or self._is_stopped():
                raise
            self._open(text)

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
                raise DatabaseUnavailable(explain(error, self._opener.secrets)) from error
            state = (error.sqlstate if isinstance(error, psycopg.Error) else None) or ""
            if state.startswith(_SERVER_TROUBLE) and state != _CANCELLED:
                raise ServerTrouble(Reason.OTHER, explain(error, self._opener.secrets)) from error
            raise query_failure(error, self._timeout_s, self._opener.secrets) from error
        watchdog.arm(IDLE_TIMEOUT_S)
        return rows

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitUnknown: The answer never came, or was an error; whoever must know, looks.
        """
        connection, watchdog = self._connection, self._watchdog
        if connection is None or watchdog is None:
            raise DatabaseUnavailable("no transaction is open")
        watchdog.arm(STATEMENT_TIMEOUT_S + DEADLINE_GRACE_S)
        try:
            status = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            self.close()
            raise CommitUnknown(explain(error, self._opener.secrets)) from error
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
        """Return what keeps this role from seeing every row of the relations, or None.

        Source: exporter/database/probe.sql.
        """
        names = list(relations)
        rows = self.rows(_PROBE.decode(), {"objects": names, "throughs": [None] * len(names)})
        found = {row["object"]: row for row in rows}
        for row in map(found.__getitem__, names):
            if not row["is_there"]:
                return f"{row['object']} does not exist"
            if not row["is_permitted"]:
                return f"role {row['reader']} may not use {row['object']}"
            if row["is_hidden"]:
                return explain_hiding(row)
        return None

    def abort(self) -> None:
        """End the running statement at once; allow no other."""
        self._aborted = True
        watchdog = self._watchdog
        if watchdog is not None:
            watchdog.abort()

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is undone by the server."""
        connection, self._connection = self._connection, None
        self._end()
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _is_stopped(self) -> bool:
        """Whether `abort` was called; any thread may have."""
        return self._aborted

    def _end(self) -> None:
        """Stop watching."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.__exit__()
            if watchdog.fired and self._connection is not None:
                self.close()

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        """The open connection, or a new one."""
        if self._connection is not None and self._connection.closed:
            self.close()
        if self._connection is None:
            self._connection = self._opener.open()
        return self._connection
