"""Writes rows of the simulated clock to PostgreSQL: by COPY, all tables in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from exporter.demo.platform import application
from exporter.demo.platform.application import PlatformConnection
from exporter.demo.world.rows import Rows

# Which float columns are times: all of them.
_TABLES = ("operators", "chats", "chat_assignments", "operator_activity", "messages")


def copy_rows(connection: PlatformConnection, rows: Rows, persona: UUID, now: float) -> None:
    """Restore rows into the platform's tables, with the users and the persona they refer to.

    As a restored backup does it: no trigger fires, so that counts and stamps stay as given. Every
    constraint but the foreign keys holds all the while, and those hold by the rows themselves.

    Args:
        connection: Autocommit or not, it is one transaction.
        rows: What to write; times in simulated seconds.
        persona: The fictional user of every chat.
        now: The simulated time that is the database's `now()`.
    """
    with connection.transaction():
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None  # noqa: S101
        epoch = row[0] - timedelta(seconds=now)
        application.add_persona(connection, persona)
        for user in {chat.real_user_id: None for chat in rows.chats}:
            application.sign_up_user(connection, user)
        for operator in rows.operators:
            application.add_account(connection, operator.id)
        connection.execute("SET LOCAL session_replication_role = replica")
        for chat in rows.chats:
            chat.fictional_user_id = persona
        for table in _TABLES:
            items = getattr(rows, table)
            if items:
                columns = [column.name for column in dataclasses.fields(items[0])]
                values = [_values(item, columns, epoch) for item in items]
                _copy(connection, table, columns, values)


def _values(item: Any, columns: Sequence[str], epoch: datetime) -> list[Any]:
    return [
        epoch + timedelta(seconds=value) if isinstance(value, float) else value
        for value in (getattr(item, column) for column in columns)
    ]


def _copy(
    connection: PlatformConnection, table: str, columns: Sequence[str], rows: Sequence[Any]
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier("public", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
