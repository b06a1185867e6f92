"""One polling connection to one database, and the transaction a poll runs in.

A poll is one READ ONLY REPEATABLE READ transaction, so its metrics agree with each other and stand
on the database's clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import errors

from exporter.catalogue import Need, Query
from exporter.database.failures import UNREADABLE, query_failure
from exporter.database.link import Link
from exporter.database.outcomes import Outcome, Parameters, Poll, QueryRequest
from exporter.database.probe import Ask, Proof, find_locked, probe_needs, read_opening, read_watch
from exporter.database.settings import (
    DEADLINE_GRACE_S,
    FRUGAL,
    LOCK_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    build_begin,
    build_limits,
    build_plan_mode,
)
from exporter.database.shared import build_statement, group_by_facts, read_parts
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseError, DatabaseUnavailable, QueryFailed, Reason


class Connection(Link):
    """The connection that polls; not thread-safe but for `abort`."""

    def __init__(self, dsn: str, **settings: Any) -> None:
        super().__init__(dsn, **settings)
        # Queries that failed the last time, and so are not asked together with others.
        self._alone: set[str] = set()
        self._proof: Proof | None = None
        self._limits = _FIRST_LIMITS

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

    def close(self) -> None:
        """Close the connection, if there is one, and trust nothing that was found over it."""
        super().close()
        self._proof = None

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
                if self._is_stopped():  # while connecting, when there was no watchdog yet
                    raise DatabaseUnavailable("stopped")
                watchdog.arm(STATEMENT_TIMEOUT_S + DEADLINE_GRACE_S)
                try:
                    opening = build_begin("REPEATABLE READ READ ONLY", lock_s=LOCK_TIMEOUT_S)
                    # All queries share the savepoint: it stays when one is undone back to it.
                    connection.execute(f"{opening}; {FRUGAL}; {_GENERIC}; SAVEPOINT query".encode())
                    self._limits = _FIRST_LIMITS
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
        reached = self._proof.reached if self._proof is not None else ()
        server = read_opening(_asking(connection), needs, reached)
        answered_s = time.time()
        # A pooler makes up the process id that it tells its clients, and may change the backend
        # between two transactions: then nothing is left prepared there.
        is_direct = server["backend_pid"] == connection.info.backend_pid
        connection.prepare_threshold = _PREPARED_AFTER if is_direct else None
        proof, fingerprint, now_s = self._proof, server["fingerprint"], time.monotonic()
        if proof is None or not proof.holds(needs, fingerprint, now_s):
            proof = probe_needs(_asking(connection), needs, reached, fingerprint, now_s)
        self._proof = proof
        watch = read_watch(_asking(connection)) if server["has_watch"] else None
        faults = dict(proof.faults)
        outcomes: list[Outcome] = []
        lost_at: str | None = None
        together, lost = self._ask_groups(connection, watchdog, requests, needs, faults, parameters)
        for request in requests:
            outcome = together.get(request.query.name) or (
                _failed(request.query, lost)
                if lost is not None
                else self._ask(connection, watchdog, request, needs, faults, parameters)
            )
            if lost is None and isinstance(outcome.error, DatabaseUnavailable):
                # The first one says why it broke; for the others the connection was gone.
                lost_at = request.query.name
                lost = DatabaseUnavailable(str(outcome.error), outcome.error.reason)
            outcomes.append(outcome)
        if lost is None:
            lost = self._finish(connection, watchdog)
        return Poll(
            outcomes=tuple(outcomes),
            began_at=server["began_at"],
            clock_skew_s=float(server["now_s"]) - (asked_s + answered_s) / 2,
            in_recovery=bool(server["in_recovery"]),
            version_num=int(server["version_num"]),
            hidden=proof.hidden,
            lost=lost,
            lost_at=lost_at,
            watch=watch,
        )

    def _ask_groups(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        requests: Sequence[QueryRequest],
        needs: Sequence[Need],
        faults: dict[Need, QueryFailed],
        parameters: Parameters,
    ) -> tuple[dict[str, Outcome], DatabaseUnavailable | None]:
        """Queries that share facts, one statement per facts: their outcomes by name.

        What has no outcome is to be asked alone: nothing of a statement that fails stands, so that
        the failure is counted at the query that is to blame.
        """
        sound = (
            request.query
            for request in requests
            if request.query.name not in self._alone
            and not any(need in faults for need in request.query.needs)
        )
        outcomes: dict[str, Outcome] = {}
        for group in group_by_facts(sound):
            try:
                outcomes |= self._ask_together(connection, watchdog, group, parameters)
            except (psycopg.Error, *UNREADABLE) as error:
                self._proof = None
                if connection.closed or watchdog.fired:
                    # One of them may be to blame; alone, it shows which.
                    self._alone.update(query.name for query in group)
                    return outcomes, self._unavailable(error, watchdog)
                try:
                    self._undo(connection)
                    if isinstance(error, errors.LockNotAvailable):
                        faults.update(find_locked(_asking(connection), faults, needs))
                except psycopg.Error as second:
                    return outcomes, self._unavailable(second, watchdog)
        return outcomes, None

    def _ask_together(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        queries: Sequence[Query],
        parameters: Parameters,
    ) -> dict[str, Outcome]:
        """Queries of the same facts in one statement, within the longest of their limits."""
        self._on_step()
        timeout_s = max(query.timeout_s for query in queries)
        watchdog.arm(timeout_s + DEADLINE_GRACE_S)
        values = {name: parameters[name] for query in queries for name in query.parameters}
        started = time.perf_counter()
        is_generic = all(query.generic_plan for query in queries)
        self._limit(connection, timeout_s, is_generic=is_generic)
        cursor = connection.execute(build_statement(queries).encode(), values, binary=True)
        parts = read_parts(cursor.fetchall())
        took_s = time.perf_counter() - started
        share_s = max(took_s - sum(part.own_s for part in parts), 0.0) / len(parts)
        return {
            query.name: Outcome(query, part.columns, part.rows, None, part.own_s + share_s)
            for query, part in zip(queries, parts, strict=True)
            if part.is_readable
        }

    def _ask(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        request: QueryRequest,
        needs: Sequence[Need],
        faults: dict[Need, QueryFailed],
        parameters: Parameters,
        *,
        is_replanned: bool = False,
    ) -> Outcome:
        """One query within its limits, isolated by a savepoint.

        After a lock timeout, other queries that need the locked relation are not run. A prepared
        statement whose columns a migration has changed is planned again and asked once more.
        """
        query = request.query
        for need in query.needs:
            if need in faults:
                return _failed(query, faults[need])
        self._on_step()
        watchdog.arm(query.timeout_s + DEADLINE_GRACE_S)
        shared_and_own = {**parameters, **request.values}
        values = {name: shared_and_own[name] for name in query.parameters}
        started = time.perf_counter()
        try:
            self._limit(connection, query.timeout_s, is_generic=query.generic_plan)
            # Without parameters psycopg leaves a % in the text alone.
            cursor = connection.execute(query.sql.encode(), values or None)
            rows = tuple(cursor.fetchall()) if cursor.description else ()
            columns = tuple(column.name for column in cursor.description or ())
            duration_s = time.perf_counter() - started
        except (psycopg.Error, *UNREADABLE) as error:
            self._proof = None  # what is wrong may be what the probe looks at
            duration_s = time.perf_counter() - started
            if connection.closed or watchdog.fired:
                return _failed(query, self._unavailable(error, watchdog), duration_s)
            failure = query_failure(error, query.timeout_s, self._secrets)
            try:
                self._undo(connection)
                if isinstance(error, _NOT_PREPARED_ANY_MORE) and not is_replanned:
                    request_again = (request, needs, faults, parameters)
                    return self._ask(connection, watchdog, *request_again, is_replanned=True)
                if failure.reason is Reason.LOCKED:
                    faults.update(find_locked(_asking(connection), faults, needs))
            except psycopg.Error as second:
                return _failed(query, self._unavailable(second, watchdog), duration_s)
            if query.facts is not None:
                self._alone.add(query.name)
            return _failed(query, failure, duration_s)
        self._alone.discard(query.name)
        return Outcome(query, columns, rows, None, duration_s)

    def _limit(
        self, connection: psycopg.Connection[dict[str, Any]], timeout_s: float, *, is_generic: bool
    ) -> None:
        """Set the limits of what comes next and how it is planned, unless they are in force."""
        limits = build_limits(statement_s=timeout_s, lock_s=min(LOCK_TIMEOUT_S, timeout_s / 2))
        limits = f"{limits}; {build_plan_mode(is_generic=is_generic)}"
        if limits != self._limits:
            connection.execute(limits.encode())
            self._limits = limits

    def _undo(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        """Go back to where no query has failed; psycopg then forgets what it has prepared."""
        connection.execute("ROLLBACK TO SAVEPOINT query")
        self._limits = _FIRST_LIMITS

    def _finish(
        self, connection: psycopg.Connection[dict[str, Any]], watchdog: Watchdog
    ) -> DatabaseUnavailable | None:
        """End the transaction; what it read stands even if that fails."""
        watchdog.arm(STATEMENT_TIMEOUT_S)
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
        return DatabaseUnavailable(self._explain(error))


# Runs of a statement before it is prepared, so that what is asked once is not.
_PREPARED_AFTER = 2
_NOT_PREPARED_ANY_MORE = (
    errors.FeatureNotSupported,  # its columns have changed
    errors.InvalidSqlStatementName,  # somebody between has sent DISCARD ALL
    errors.DuplicatePreparedStatement,
)
# What is in force after BEGIN, and after a rollback to the savepoint.
_FIRST_LIMITS = build_limits(statement_s=STATEMENT_TIMEOUT_S, lock_s=LOCK_TIMEOUT_S)
_GENERIC = build_plan_mode(is_generic=True)
_FIRST_LIMITS += f"; {_GENERIC}"


class _DeadAtOnce(DatabaseUnavailable):
    """A kept connection turned out to be dead before anything was asked."""


def _asking(connection: psycopg.Connection[dict[str, Any]]) -> Ask:
    """How the probe asks; psycopg's errors come out."""
    return lambda sql, values: connection.execute(sql.encode(), values).fetchall()


def _failed(query: Query, error: DatabaseError, duration_s: float = 0.0) -> Outcome:
    """An outcome without rows."""
    return Outcome(query, (), (), error, duration_s)
