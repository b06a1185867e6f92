"""What every connection has in common: how it is opened, kept, cut off and closed.

Every setting is `SET LOCAL` and nothing is prepared on the server unless the connection is known to
be direct, so a transaction pooler (PgBouncer, Supabase) serves as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.abc import Buffer
from psycopg.rows import dict_row
from psycopg.types.array import ListDumper

from exporter import __version__
from exporter.database.failures import explain
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseUnavailable

Row = Mapping[str, Any]


class Link:
    """A connection that is opened when first needed and again after it was lost.

    Not thread-safe but for `abort`, which any thread may call.

    Args:
        dsn: libpq connection string, URI or keywords; its own settings win over the defaults here.
        program: What `application_name` begins with.
        connect_timeout_s: For each host of the connection string.
        on_step: Called before each step, to show that the thread is alive.
    """

    def __init__(
        self,
        dsn: str,
        *,
        program: str = "chatqueue-exporter",
        connect_timeout_s: float = 5.0,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        defaults = {
            "connect_timeout": str(max(2, round(connect_timeout_s))),
            "fallback_application_name": f"{program} {__version__}",
            # An SQL_ASCII database would otherwise answer in bytes.
            "client_encoding": "UTF8",
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
        }
        given = conninfo.conninfo_to_dict(dsn)
        self._conninfo = conninfo.make_conninfo(
            "", **{**defaults, **{key: value for key, value in given.items() if value is not None}}
        )
        password = given.get("password")
        self._secrets = (str(password),) if password else ()
        self._on_step = on_step
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._watchdog: Watchdog | None = None
        self._aborted = False

    def abort(self) -> None:
        """End what is running at once, leaving nothing on the server; allow nothing more."""
        self._aborted = True
        watchdog = self._watchdog
        if watchdog is not None:
            watchdog.abort()

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is undone by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _is_stopped(self) -> bool:
        """Whether `abort` was called; any thread may have."""
        return self._aborted

    def _explain(self, error: Exception) -> str:
        """The server's or libpq's words, without this connection's password."""
        return explain(error, self._secrets)

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        """The open connection or a new one, in autocommit, its rows as dicts.

        Raises:
            DatabaseUnavailable: No host of the connection string lets us in.
        """
        if self._connection is not None and self._connection.closed:
            self.close()
        if self._connection is None:
            try:
                self._connection = psycopg.connect(
                    self._conninfo,
                    autocommit=True,
                    prepare_threshold=None,  # until it is known that no pooler stands between
                    row_factory=dict_row,
                )
                self._connection.adapters.register_dumper(list, _TextListDumper)
            except psycopg.Error as error:
                raise DatabaseUnavailable(self._explain(error)) from error
            except UnicodeError as error:  # a host that is no name, e.g. with an empty label
                raise DatabaseUnavailable("the host is not a host name") from error
        return self._connection


class _TextListDumper(ListDumper):
    """Writes a list of texts at once: psycopg's 1.6 us each count where a poll names thousands."""

    def dump(self, obj: list[Any]) -> Buffer | None:
        """Return the array as PostgreSQL reads it, every element in quotes."""
        if set(map(type, obj)) != {str}:
            return super().dump(obj)
        text = '","'.join([each.replace("\\", "\\\\").replace('"', '\\"') for each in obj])
        if "\0" in text:  # which psycopg refuses
            return super().dump(obj)
        return f'{{"{text}"}}'.encode()
