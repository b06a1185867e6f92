"""Connection strings for PostgreSQL's own programs: their arguments are seen by every user."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import conninfo


def split_password(dsn: str) -> tuple[str, Mapping[str, str]]:
    """Return the connection string without its password, and the environment that holds it."""
    given = conninfo.conninfo_to_dict(dsn)
    password = given.pop("password", None)
    environment = {"PGPASSWORD": str(password)} if password else {}
    return conninfo.make_conninfo("", **given), environment


def change_database(dsn: str, database: str) -> str:
    """Return the connection string of another database on the same server, as the same role."""
    return conninfo.make_conninfo(dsn, dbname=database)
