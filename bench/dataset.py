"""The reference platform filled with a realistic history, by the server itself and repeatably.

Owns the shape of the data (docs: PLATFORM, trap 8). Every draw is a hash of a row's number, so that
two runs differ in nothing but the moment that counts as now.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from exporter.demo.platform import install_platform
from exporter.demo.postgres import LocalServer, embedded_bin_dir

# As a small production server is set up; durability is switched off by LocalServer.
SERVER_SETTINGS = {
    "shared_buffers": "1GB",
    "effective_cache_size": "3GB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    # Rows of a table truncated in the same transaction then need no log: loading takes half.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # As PostgreSQL ships it: what an exporter does about it is part of what is measured.
    "jit": "on",
}

_MEMORY = Path("/dev/shm")
_BYTES_A_CHAT = 2_500
_SPARE_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of what.

    Attributes:
        chats: All chats; 70 % are active and nearly all of those wait for their user.
        waiting: Chats that wait for an operator.
        assigned: Chats an operator has, each another one.
        operators: At least as many as assigned chats.
    """

    chats: int
    waiting: int = 400
    assigned: int = 350
    operators: int = 500

    def __post_init__(self) -> None:
        if self.chats * 0.7 < self.waiting + self.assigned or self.operators < self.assigned:
            raise ValueError(f"{self} does not add up: too few chats or operators")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A filled database.

    Attributes:
        shape: What was asked for.
        dsn: Superuser's connection string.
        messages: Rows of `messages`.
        assignments: Rows of `chat_assignments`.
        built_s: Seconds it took.
        size_bytes: On disk, indexes included.
    """

    shape: Shape
    dsn: str
    messages: int
    assignments: int
    built_s: float
    size_bytes: int


@contextlib.contextmanager
def run_server(most_chats: int) -> Iterator[LocalServer]:
    """Run the embedded PostgreSQL, in memory where there is room; gone on leaving.

    Args:
        most_chats: The largest data set it must hold; one at a time.
    """
    parent = find_directory(most_chats * _BYTES_A_CHAT)
    with LocalServer(embedded_bin_dir(), settings=SERVER_SETTINGS, parent=parent) as server:
        yield server


def find_directory(needed_bytes: int) -> Path | None:
    """Return where a server keeps its files in memory, None where there is no room for them."""
    with contextlib.suppress(OSError):
        is_free = shutil.disk_usage(_MEMORY).free > needed_bytes + _SPARE_BYTES
        if is_free and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return None


@contextlib.contextmanager
def build_dataset(server: LocalServer, shape: Shape) -> Iterator[Dataset]:
    """Create a database of that shape, vacuumed and analysed; drop it on leaving."""
    name = sql.Identifier(f"platform_{shape.chats}")
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
    dsn = server.dsn(f"platform_{shape.chats}")
    try:
        started = time.perf_counter()
        install_platform(dsn)
        with psycopg.connect(dsn) as connection:
            _fill(connection, shape)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SET maintenance_work_mem = '1GB'")
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
            row = connection.execute(
                "SELECT (SELECT count(*) FROM public.messages),"
                " (SELECT count(*) FROM public.chat_assignments),"
                " pg_database_size(current_database())"
            ).fetchone()
        assert row is not None
        yield Dataset(shape, dsn, row[0], row[1], time.perf_counter() - started, row[2])
    finally:
        if server.running:
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def _fill(connection: psycopg.Connection[tuple[object, ...]], shape: Shape) -> None:
    """Insert everything in one transaction, indexes last."""
    connection.execute(_PREPARE)
    indexes = connection.execute(_SECONDARY_INDEXES).fetchall()
    for name, _definition in indexes:
        connection.execute(sql.SQL("DROP INDEX public.{}").format(sql.Identifier(str(name))))
    values = {
        "chats": shape.chats,
        "waiting": shape.waiting,
        "assigned": shape.assigned,
        "operators": shape.operators,
    }
    for statement in _FILL:
        connection.execute(statement, values)
    for _name, definition in indexes:
        connection.execute(str(definition).encode())


_PREPARE: LiteralString = """
SET LOCAL session_replication_role = replica;
SET LOCAL work_mem = '256MB';
SET LOCAL maintenance_work_mem = '1GB';
SET LOCAL synchronous_commit = off;
TRUNCATE auth.users, public.real_users, public.fictional_users, public.operators, public.chats,
    public.chat_assignments, public.operator_activity, public.messages CASCADE;
CREATE FUNCTION pg_temp.draw(i bigint, salt bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(i, salt) & 2147483647) / 2147483648.0::double precision;
CREATE FUNCTION pg_temp.numbered(kind text, i bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN md5(kind || i::text)::uuid;
"""

_SECONDARY_INDEXES: LiteralString = """
SELECT c.relname, pg_get_indexdef(i.indexrelid)
FROM pg_index AS i
INNER JOIN pg_class AS c ON c.oid = i.indexrelid
INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE
    n.nspname = 'public'
    AND NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = i.indexrelid)
ORDER BY c.relname
"""

_FILL: tuple[LiteralString, ...] = (
    """
    INSERT INTO auth.users (id, email)
    SELECT pg_temp.numbered('operator', i), 'operator' || i || '@example.org'
    FROM generate_series(1, %(operators)s) AS i
    """,
    """
    INSERT INTO auth.users (id, email)
    SELECT pg_temp.numbered('user', i), 'user' || i || '@example.org'
    FROM generate_series(0, %(chats)s / 4) AS i
    """,
    """
    INSERT INTO public.operators (id, name, email, is_active, is_available, last_activity)
    SELECT
        pg_temp.numbered('operator', i),
        'Operator ' || to_char(i, 'FM00000'),
        'operator' || i || '@example.org',
        i <= %(assigned)s OR i %% 20 <> 0,
        i <= %(assigned)s OR i %% 4 <> 0,
        now() - interval '8 minutes' * pg_temp.draw(i, 10)
    FROM generate_series(1, %(operators)s) AS i
    """,
    """
    INSERT INTO public.real_users
        (id, name, display_name, email, location, gender, looking_for, age)
    SELECT
        pg_temp.numbered('user', i), 'User ' || i, 'A user', 'user' || i || '@example.org',
        'Nairobi', 'male', 'female', 18 + i %% 60
    FROM generate_series(0, %(chats)s / 4) AS i
    """,
    """
    INSERT INTO public.fictional_users (id, name, age, gender, location)
    SELECT pg_temp.numbered('persona', i), 'Persona ' || i, 18 + i, 'female', 'Mombasa'
    FROM generate_series(0, 49) AS i
    """,
    # The plan of every chat. Multiplying by a prime scatters the states over all ages, as they are
    # scattered on a live platform: a user comes back to a chat that was created weeks ago.
    """
    CREATE TEMPORARY TABLE plan ON COMMIT DROP AS
    SELECT
        s.i,
        s.place,
        pg_temp.numbered('chat', s.i) AS id,
        CASE
            WHEN s.place < %(waiting)s THEN 'waiting_assignment'
            WHEN s.place < %(waiting)s + %(assigned)s THEN 'assigned'
            WHEN s.place < 0.7 * %(chats)s THEN 'waiting_real_user_reply'
            ELSE 'completed'
        END AS state,
        s.created_at,
        CASE
            WHEN s.created_at < now() - interval '12 hours' AND pg_temp.draw(s.i, 1) < 0.3 THEN 2
            ELSE 1
        END AS turns,
        interval '10 hours' * pg_temp.draw(s.i, 2) AS pause,
        pg_temp.numbered('operator', 1 + floor(%(operators)s * pg_temp.draw(s.i, 3))::bigint)
            AS operator_id,
        pg_temp.numbered('operator', 1 + s.place - %(waiting)s) AS holder_id,
        now() - interval '9 minutes' * pg_temp.draw(s.i, 4) AS since
    FROM (
        SELECT
            i,
            (i * 7919) %% %(chats)s AS place,
            now() - interval '20 minutes'
            - interval '31 days' * ((%(chats)s - i + pg_temp.draw(i, 5)) / %(chats)s) AS created_at
        FROM generate_series(1, %(chats)s::bigint) AS i
    ) AS s
    """,
    # A turn: the user writes, an operator takes the chat and answers.
    """
    CREATE TEMPORARY TABLE turn ON COMMIT DROP AS
    SELECT
        p.i,
        t.n,
        p.id AS chat_id,
        p.operator_id,
        t.n = p.turns AS is_last,
        a.asked_at,
        a.asked_at + interval '2 minutes' * pg_temp.draw(p.i * 4 + t.n, 6) AS taken_at,
        a.asked_at + interval '2 minutes' + interval '5 minutes' * pg_temp.draw(p.i * 4 + t.n, 7)
            AS answered_at,
        pg_temp.draw(p.i * 4 + t.n, 8) < 0.4 AS asks_twice
    FROM plan AS p
    CROSS JOIN LATERAL generate_series(1, p.turns) AS t (n)
    CROSS JOIN LATERAL (SELECT p.created_at + p.pause * (t.n - 1) AS asked_at) AS a
    """,
    """
    INSERT INTO public.chats (
        id, real_user_id, fictional_user_id, is_active, created_at, updated_at, last_message_at,
        message_count, assigned_operator_id, assignment_time, chat_state, last_operator_id,
        operator_replied_at
    )
    SELECT
        p.id,
        -- A user's chats, four or five of them, are with different personas.
        pg_temp.numbered('user', p.i %% (%(chats)s / 4)),
        pg_temp.numbered('persona', (p.i + p.i / (%(chats)s / 4)) %% 50),
        p.state <> 'completed',
        p.created_at,
        CASE
            WHEN p.state IN ('waiting_assignment', 'assigned') THEN p.since ELSE t.answered_at
        END,
        CASE
            WHEN p.state IN ('waiting_assignment', 'assigned') THEN p.since ELSE t.answered_at
        END,
        2 * p.turns,
        CASE WHEN p.state = 'assigned' THEN p.holder_id END,
        CASE WHEN p.state = 'assigned' THEN p.since END,
        p.state,
        CASE WHEN p.state = 'assigned' THEN p.holder_id ELSE p.operator_id END,
        t.answered_at
    FROM plan AS p
    INNER JOIN turn AS t ON t.i = p.i AND t.is_last
    ORDER BY p.i
    """,
    """
    INSERT INTO public.chat_assignments (
        id, chat_id, operator_id, assigned_at, released_at, release_reason, created_at
    )
    SELECT
        pg_temp.numbered('assignment', h.number),
        h.chat_id,
        h.operator_id,
        h.taken_at,
        h.released_at,
        CASE WHEN h.released_at IS NOT NULL THEN 'operator_sent_message' END,
        h.taken_at
    FROM (
        SELECT
            t.i * 4 + t.n AS number, t.chat_id, t.operator_id, t.taken_at,
            t.answered_at AS released_at
        FROM turn AS t
        UNION ALL
        SELECT p.i * 4, p.id, p.holder_id, p.since, NULL
        FROM plan AS p
        WHERE p.state = 'assigned'
    ) AS h
    ORDER BY h.taken_at
    """,
    """
    INSERT INTO public.operator_activity (id, chat_id, operator_id, last_activity, updated_at)
    SELECT
        pg_temp.numbered('activity', p.i),
        p.id,
        p.holder_id,
        now() - interval '30 seconds' * pg_temp.draw(p.i, 9),
        now() - interval '30 seconds' * pg_temp.draw(p.i, 9)
    FROM plan AS p
    WHERE p.state = 'assigned'
    """,
    """
    INSERT INTO public.messages (
        id, chat_id, sender_type, content, handled_by_operator_id, created_at
    )
    SELECT
        pg_temp.numbered('message', m.number),
        m.chat_id,
        m.sender_type,
        left(repeat('What people say to each other. ', 6), 20 + (m.number %% 160)::integer),
        m.operator_id,
        m.at
    FROM (
        SELECT t.i * 16 + t.n AS number, t.chat_id, 'real' AS sender_type,
            NULL::uuid AS operator_id, t.asked_at AS at
        FROM turn AS t
        UNION ALL
        SELECT t.i * 16 + 4 + t.n, t.chat_id, 'real', NULL, t.taken_at
        FROM turn AS t
        WHERE t.asks_twice
        UNION ALL
        SELECT t.i * 16 + 8 + t.n, t.chat_id, 'fictional', t.operator_id, t.answered_at
        FROM turn AS t
        UNION ALL
        SELECT p.i * 16, p.id, 'real', NULL,
            p.since - CASE WHEN p.state = 'assigned' THEN interval '2 minutes' ELSE '0' END
        FROM plan AS p
        WHERE p.state IN ('waiting_assignment', 'assigned')
    ) AS m
    ORDER BY m.at
    """,
)
