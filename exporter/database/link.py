"""How every connection is opened: our defaults, a pooler's needs, and errors without secrets."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import dict_row

from exporter import __version__
from exporter.database.failures import explain
from exporter.errors import DatabaseUnavailable


class Opener:
    """Opens connections of one connection string, whose own settings win over the defaults here.

    Args:
        dsn: libpq connection string, URI or keywords.
        program: What `application_name` begins with.
        connect_timeout_s: For each host of the connection string.

    Attributes:
        secrets: What must not stand in any message.
    """

    def __init__(self, dsn: str, *, program: str, connect_timeout_s: float) -> None:
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
        self.secrets = (str(password),) if password else ()

    def open(self) -> psycopg.Connection[dict[str, Any]]:
        """Return a new connection in autocommit, its rows as dicts.

        Raises:
            DatabaseUnavailable: No host of the connection string lets us in.
        """
        try:
            return psycopg.connect(
                self._conninfo,
                autocommit=True,
                prepare_threshold=None,  # a transaction pooler keeps no prepared statements
                row_factory=dict_row,
            )
        except psycopg.Error as error:
            raise DatabaseUnavailable(explain(error, self.secrets)) from error
        except UnicodeError as error:  # a host that is no name, e.g. with an empty label
            raise DatabaseUnavailable("the host is not a host name") from error
