"""One polling connection to one database, and the transaction a poll runs in.

A poll is one READ ONLY REPEATABLE READ transaction, so its figures agree with each other and stand
on the database's clock. Every setting is `SET LOCAL` and nothing is prepared on the server, so a
transaction pooler (PgBouncer, Supabase) serves as well as a direct connection.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, LiteralString

import psycopg

from exporter.catalogue import Need, Query
from exporter.database.failures import UNREADABLE, explain, explain_hiding, query_failure
from exporter.database.opening import Opener
from exporter.database.rights import missing_grant
from exporter.database.settings import PIN_ALL
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseError, DatabaseUnavailable, QueryFailed, Reason

Row = Mapping[str, Any]
Parameters = Mapping[str, Any]

# What the client waits beyond statement_timeout, for a cancel that the server itself performs.
DEADLINE_GRACE_S = 1.0
LOCK_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 5.0

_PROBE = files(__package__).joinpath("probe.sql").read_text("utf-8").encode()
_CLOCK: LiteralString = (
    "SELECT extract(EPOCH FROM clock_timestamp())::double precision AS now_s,"
    " now() AS began_at,"
    " pg_is_in_recovery() AS in_recovery,"
    " current_setting('server_version_num')::integer AS version_num"
)
# jit and parallel workers would buy a watch a little time at the cost of the platform's queries.
# A daemon that is stopped in mid-poll must not hold back vacuum: idle_in_transaction ends it.
_BEGIN: LiteralString = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SET LOCAL statement_timeout = {probe_ms};"
    " SET LOCAL idle_in_transaction_session_timeout = 10000;"
    " SET LOCAL jit = off;"
    " SET LOCAL max_parallel_workers_per_gather = 0;"
    " SET LOCAL lock_timeout = {lock_ms}; "
) + PIN_ALL
# Who waits for a relation that is being rewritten waits for all of it; a request for such a lock
# that waits itself lets nobody past either.
_LOCKED: LiteralString = (
    "SELECT DISTINCT s.nspname || '.' || c.relname AS relation"
    " FROM pg_catalog.pg_locks AS l"
    " INNER JOIN pg_catalog.pg_class AS c ON c.oid = l.relation"
    " INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace"
    " WHERE l.mode = 'AccessExclusiveLock' AND l.database ="
    " (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())"
)
# The lock limit is the shorter one, or a locked table would pass for a slow query.
_LIMITS: LiteralString = (
    "SAVEPOINT query;"
    " SET LOCAL statement_timeout = {statement_ms};"
    " SET LOCAL lock_timeout = {lock_ms}"
)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """One query with the values of its own parameters, beside those that all queries share."""

    query: Query
    values: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one query gave in one poll.

    Attributes:
        query: The catalogue entry.
        columns: Names of the columns returned; empty on failure.
        rows: Column name to value; empty on failure.
        error: Why there are no figures, or None.
        duration_s: Time from asking to the last row, network included.
    """

    query: Query
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    error: DatabaseError | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Poll:
    """What one transaction saw.

    Attributes:
        outcomes: One a query, in the order asked.
        began_at: The database's `now()`, which all queries of the poll share.
        clock_skew_s: Database clock minus this host's.
        in_recovery: Whether the server is a standby.
        version_num: `server_version_num`, e.g. 150018.
        hidden: Relation and whether row-level security hides rows of it from this role.
        lost: Why the connection broke during the poll, or None; the outcomes before it stand.
        lost_at: The query that was being asked then; None where none was.
        reopened: Whether a kept connection had died since, and a new one was opened for this poll.
    """

    outcomes: tuple[Outcome, ...]
    began_at: datetime.datetime
    clock_skew_s: float
    in_recovery: bool
    version_num: int
    hidden: tuple[tuple[str, bool], ...]
    lost: DatabaseUnavailable | None
    lost_at: str | None = None
    reopened: bool = False


class Connection:
    """A connection that is opened when first needed and again after it was lost.

    Not thread-safe but for `abort`, which any thread may call.

    Args:
        dsn: libpq connection string, URI or keywords; its own settings win over the defaults here.
        connect_timeout_s: For each host of the connection string.
        on_step: Called before each step of a poll, to show that it is turning.
    """

    def __init__(
        self,
        dsn: str,
        *,
        connect_timeout_s: float = 5.0,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._opener = Opener(
            dsn, program="chatqueue-exporter", connect_timeout_s=connect_timeout_s
        )
        self._on_step = on_step
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._watchdog: Watchdog | None = None
        self._aborted = False

    def poll(
        self, requests: Sequence[QueryRequest], needs: Sequence[Need], parameters: Parameters
    ) -> Poll:
        """Run the queries in one read-only snapshot of the database.

        Args:
            requests: What is due.
            needs: Relations and functions to look at first; at least those of the queries.
            parameters: Values for the `%(name)s` that all queries share.

        Returns:
            An outcome for each query. One that fails leaves the others untouched.

        Raises:
            DatabaseUnavailable: There is no connection, or it broke before the first query.
        """
        try:
            return self._poll(requests, needs, parameters)
        except _DeadAtOnce:
            # Closed while idle, by a limit of the server or of something between: a new
            # connection is opened at once, and only if that fails is anything wrong.
            return replace(self._poll(requests, needs, parameters), reopened=True)

    def _poll(
        self, requests: Sequence[QueryRequest], needs: Sequence[Need], parameters: Parameters
    ) -> Poll:
        """One try of a poll."""
        self._on_step()
        was_kept = self._connection is not None
        connection = self._connect()
        with Watchdog(connection) as watchdog:
            self._watchdog = watchdog
            try:
                if self._aborted:  # while connecting, when there was no watchdog yet
                    raise DatabaseUnavailable("stopped")
                watchdog.arm(PROBE_TIMEOUT_S + DEADLINE_GRACE_S)
                begin = _BEGIN.format(probe_ms=_ms(PROBE_TIMEOUT_S), lock_ms=_ms(LOCK_TIMEOUT_S))
                try:
                    connection.execute(begin)
                except psycopg.Error as error:
                    unavailable = self._unavailable(error, watchdog)
                    if was_kept and not watchdog.fired:
                        raise _DeadAtOnce(str(unavailable)) from error
                    raise unavailable from error
                return self._transact(connection, watchdog, requests, needs, parameters)
            except (psycopg.Error, *UNREADABLE) as error:
                raise self._unavailable(error, watchdog) from error
            finally:
                self._watchdog = None
                if watchdog.fired or connection.closed:
                    self.close()

    def abort(self) -> None:
        """End a running poll at once, leaving nothing running on the server; allow no other."""
        self._aborted = True
        watchdog = self._watchdog
        if watchdog is not None:
            watchdog.abort()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        """The open connection, or a new one."""
        if self._connection is None:
            self._connection = self._opener.open()
        return self._connection

    def _transact(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        requests: Sequence[QueryRequest],
        needs: Sequence[Need],
        parameters: Parameters,
    ) -> Poll:
        """The transaction of one poll; psycopg's errors before the first query come out."""
        asked_s = time.time()
        server = connection.execute(_CLOCK).fetchone()
        answered_s = time.time()
        assert server is not None  # noqa: S101 - a SELECT of constants has one row
        faults, hidden = self._probe(connection, needs)
        outcomes: list[Outcome] = []
        lost: DatabaseUnavailable | None = None
        lost_at: str | None = None
        for request in requests:
            outcome = (
                _failed(request.query, lost)
                if lost is not None
                else self._ask(connection, watchdog, request, needs, faults, parameters)
            )
            if isinstance(outcome.error, DatabaseUnavailable):
                # The first one says why it broke; for the others the connection was gone.
                lost_at = lost_at or request.query.name
                lost = lost or DatabaseUnavailable(str(outcome.error), outcome.error.reason)
            outcomes.append(outcome)
        if lost is None:
            lost = self._finish(connection, watchdog)
        return Poll(
            outcomes=tuple(outcomes),
            began_at=server["began_at"],
            clock_skew_s=float(server["now_s"]) - (asked_s + answered_s) / 2,
            in_recovery=bool(server["in_recovery"]),
            version_num=int(server["version_num"]),
            hidden=hidden,
            lost=lost,
            lost_at=lost_at,
        )

    def _probe(
        self, connection: psycopg.Connection[dict[str, Any]], needs: Sequence[Need]
    ) -> tuple[dict[Need, QueryFailed], tuple[tuple[str, bool], ...]]:
        """Look at every need: what is wrong with it, and which relations hide rows.

        Source: exporter/database/probe.sql.
        """
        rows = connection.execute(
            _PROBE,
            {"objects": [n.name for n in needs], "throughs": [n.through for n in needs]},
        ).fetchall()
        found = {(row["object"], row["through"]): row for row in rows}
        faults: dict[Need, QueryFailed] = {}
        hidden: dict[str, bool] = {}
        for need in needs:
            row = found[need.name, need.through]
            fault = _need_fault(need, row)
            if fault is not None:
                faults[need] = fault
            if need.kind == "relation":
                hidden[need.name] = hidden.get(need.name, False) or row["is_hidden"]
        return faults, tuple(hidden.items())

    def _ask(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        request: QueryRequest,
        needs: Sequence[Need],
        faults: dict[Need, QueryFailed],
        parameters: Parameters,
    ) -> Outcome:
        """One query within its limits, isolated by a savepoint.

        Where it waited in vain for a lock, the others that need that relation need not wait.
        """
        query = request.query
        for need in query.needs:
            if need in faults:
                return _failed(query, faults[need])
        self._on_step()
        watchdog.arm(query.timeout_s + DEADLINE_GRACE_S)
        known = {**parameters, **request.values}
        values = {name: known[name] for name in query.parameters}
        started = time.perf_counter()
        try:
            connection.execute(
                _LIMITS.format(
                    statement_ms=_ms(query.timeout_s),
                    lock_ms=_ms(min(LOCK_TIMEOUT_S, query.timeout_s / 2)),
                )
            )
            # Without parameters psycopg leaves a % in the text alone.
            cursor = connection.execute(query.sql.encode(), values or None)
            rows = tuple(cursor.fetchall()) if cursor.description else ()
            columns = tuple(column.name for column in cursor.description or ())
            duration_s = time.perf_counter() - started
            connection.execute("RELEASE SAVEPOINT query")
        except (psycopg.Error, *UNREADABLE) as error:
            duration_s = time.perf_counter() - started
            if connection.closed or watchdog.fired:
                return _failed(query, self._unavailable(error, watchdog), duration_s)
            failure = query_failure(error, query.timeout_s, self._opener.secrets)
            try:
                connection.execute("ROLLBACK TO SAVEPOINT query")
                if failure.reason is Reason.LOCKED:
                    faults.update(_find_locked(connection, faults, needs))
            except psycopg.Error as second:
                return _failed(query, self._unavailable(second, watchdog), duration_s)
            return _failed(query, failure, duration_s)
        return Outcome(query, columns, rows, None, duration_s)

    def _finish(
        self, connection: psycopg.Connection[dict[str, Any]], watchdog: Watchdog
    ) -> DatabaseUnavailable | None:
        """End the transaction; what it read stands even if that fails."""
        watchdog.arm(PROBE_TIMEOUT_S)
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            return self._unavailable(error, watchdog)
        return None

    def _unavailable(self, error: Exception, watchdog: Watchdog) -> DatabaseUnavailable:
        """A psycopg error that ends the connection, as ours."""
        self.close()
        if watchdog.fired:
            return DatabaseUnavailable(
                "the server did not answer in time and the connection was cut", Reason.TIMEOUT
            )
        return DatabaseUnavailable(explain(error, self._opener.secrets))


class _DeadAtOnce(DatabaseUnavailable):
    """A kept connection turned out to be dead before anything was asked."""


def _find_locked(
    connection: psycopg.Connection[dict[str, Any]],
    faults: Mapping[Need, QueryFailed],
    needs: Sequence[Need],
) -> dict[Need, QueryFailed]:
    """What is wrong with needs whose relation nobody can read now."""
    locked = {row["relation"] for row in connection.execute(_LOCKED).fetchall()}
    return {
        need: QueryFailed(Reason.LOCKED, f"{need.name} is locked, perhaps by a migration")
        for need in needs
        if need.name in locked and need not in faults
    }


def _ms(seconds: float) -> int:
    """Whole milliseconds, at least one: 0 would mean no limit."""
    return max(1, round(seconds * 1000))


def _failed(query: Query, error: DatabaseError, duration_s: float = 0.0) -> Outcome:
    """An outcome without figures."""
    return Outcome(query, (), (), error, duration_s)


def _need_fault(need: Need, row: Row) -> QueryFailed | None:
    """What keeps a query from the truth, as seen by the probe."""
    behind = f", which {need.through} reads," if need.through else ""
    if not row["is_there"]:
        return QueryFailed(
            Reason.MISSING, f"needs {need.kind} {need.name}{behind} which does not exist"
        )
    if not row["is_permitted"]:
        verb = "read" if need.kind == "relation" else "execute"
        return QueryFailed(
            Reason.PERMISSION,
            f"role {row['reader']} may not {verb} {need.name}{behind or ','} "
            f"expected {missing_grant(need.kind, need.name, row['reader'])}",
        )
    if row["is_hidden"]:
        return QueryFailed(Reason.ROW_SECURITY, explain_hiding(row))
    return None
