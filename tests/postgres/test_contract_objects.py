"""What became of each object of the assignment fix is seen, and laid at that object's door alone.

Every change is made and judged in one transaction that is rolled back: DDL is transactional.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from exporter.demo.postgres import LocalServer
from tests.postgres.test_queries_support import whole_plan_of
from tests.servers import clone_platform

CONTRACT = {
    "column": {"chats.chat_state", "chats.last_operator_id", "chats.operator_replied_at"},
    "index": {
        "idx_chats_waiting_assignment",
        "idx_chats_last_operator",
        "idx_chats_operator_replied",
    },
    "constraint": {"chk_assigned_state_has_operator", "chk_waiting_reply_has_timestamp"},
    "function": {
        "get_assignment_queue_status",
        "detect_stuck_chats",
        "release_and_reassign_chat",
        "assign_chat_to_operator",
        "validate_chat_state_transition",
    },
    "view": {"chat_state_summary"},
}
CONTRACT_NAMES = {name for names in CONTRACT.values() for name in names}
QUERY = next(q for q in whole_plan_of().queries if q.name == "contract_objects")

STATUS = "get_assignment_queue_status"
DETECT = "detect_stuck_chats"
RELEASE = "release_and_reassign_chat"
ASSIGN = "assign_chat_to_operator"
VALIDATE = "validate_chat_state_transition"
WAITING = "idx_chats_waiting_assignment"
LAST = "idx_chats_last_operator"
REPLIED = "idx_chats_operator_replied"
HAS_OPERATOR = "chk_assigned_state_has_operator"
HAS_TIME = "chk_waiting_reply_has_timestamp"
SUMMARY = "chat_state_summary"
SQL = "LANGUAGE sql AS"


def index(name: str, text: str, unique: str = "") -> str:
    return f"DROP INDEX {name}; CREATE {unique} INDEX {name} ON public.{text}"


def constraint(name: str, text: str) -> str:
    return (
        f"ALTER TABLE public.chats DROP CONSTRAINT {name};"
        f" ALTER TABLE public.chats ADD CONSTRAINT {name} {text}"
    )


def invalid(name: str) -> str:
    return f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.{name}'::regclass"


@dataclass(frozen=True)
class Change:
    """One thing done to the schema.

    Attributes:
        name: The object that is hit.
        ddl: What is done.
        found: What the contract says is there instead.
        dependents: Objects that cannot survive it, and are missed as well.
    """

    name: str
    ddl: str
    found: str = "missing"
    dependents: tuple[str, ...] = ()


STATE_TYPE = (
    f"DROP VIEW {SUMMARY}; ALTER TABLE chats ALTER chat_state TYPE varchar(40);"
    f" CREATE VIEW {SUMMARY} AS SELECT chat_state, count(*) AS count, 0 AS with_operator,"
    " 0 AS has_last_operator, now() AS oldest_chat, now() AS newest_chat"
    " FROM chats GROUP BY chat_state"
)
CHANGES = {
    "column dropped": Change(
        "chats.chat_state",
        "ALTER TABLE chats DROP COLUMN chat_state CASCADE",
        dependents=(WAITING, LAST, REPLIED, HAS_OPERATOR, HAS_TIME, SUMMARY),
    ),
    "column of another type": Change(
        "chats.chat_state",
        STATE_TYPE,
        "character varying(40) default 'waiting_assignment'",
    ),
    "column with another default": Change(
        "chats.chat_state",
        "ALTER TABLE chats ALTER chat_state SET DEFAULT 'assigned'",
        "text default 'assigned'",
    ),
    "column without its default": Change(
        "chats.chat_state", "ALTER TABLE chats ALTER chat_state DROP DEFAULT", "text"
    ),
    "last operator dropped": Change(
        "chats.last_operator_id",
        "ALTER TABLE chats DROP COLUMN last_operator_id CASCADE",
        dependents=(LAST, SUMMARY),
    ),
    "last operator of another type": Change(
        "chats.last_operator_id",
        f"DROP VIEW {SUMMARY} CASCADE; ALTER TABLE chats"
        " DROP CONSTRAINT chats_last_operator_id_fkey, ALTER last_operator_id TYPE text",
        "text",
        dependents=(SUMMARY,),
    ),
    "last operator with a default": Change(
        "chats.last_operator_id",
        "ALTER TABLE chats ALTER last_operator_id SET DEFAULT gen_random_uuid()",
        "uuid default gen_random_uuid",
    ),
    "reply time dropped": Change(
        "chats.operator_replied_at",
        "ALTER TABLE chats DROP COLUMN operator_replied_at CASCADE",
        dependents=(REPLIED, HAS_TIME),
    ),
    "reply time without zone": Change(
        "chats.operator_replied_at",
        "ALTER TABLE chats ALTER operator_replied_at TYPE timestamp",
        "timestamp without time zone",
    ),
    **{f"{name} dropped": Change(name, f"DROP INDEX {name}") for name in (WAITING, LAST, REPLIED)},
    f"{WAITING} invalid": Change(
        WAITING,
        invalid(WAITING),
        "btree (created_at) where chat_state = 'waiting_assignment' and is_active, invalid",
    ),
    f"{LAST} invalid": Change(
        LAST,
        invalid(LAST),
        "btree (last_operator_id, chat_state) where is_active, invalid",
    ),
    f"{REPLIED} invalid": Change(
        REPLIED,
        invalid(REPLIED),
        "btree (operator_replied_at) where chat_state = 'waiting_real_user_reply', invalid",
    ),
    "index on another column": Change(
        WAITING,
        index(WAITING, "chats (updated_at) WHERE chat_state = 'waiting_assignment' AND is_active"),
        "btree (updated_at) where chat_state = 'waiting_assignment' and is_active",
    ),
    "index with another condition": Change(
        WAITING,
        index(WAITING, "chats (created_at) WHERE chat_state = 'assigned' AND is_active"),
        "btree (created_at) where chat_state = 'assigned' and is_active",
    ),
    "index with a looser condition": Change(
        WAITING,
        index(WAITING, "chats (created_at) WHERE chat_state = 'waiting_assignment'"),
        "btree (created_at) where chat_state = 'waiting_assignment'",
    ),
    "index with an alternative for a condition": Change(
        WAITING,
        index(WAITING, "chats (created_at) WHERE chat_state = 'waiting_assignment' OR is_active"),
        "btree (created_at) where chat_state = 'waiting_assignment' OR is_active",
    ),
    "index without a condition": Change(
        REPLIED, index(REPLIED, "chats (operator_replied_at)"), "btree (operator_replied_at)"
    ),
    "index columns swapped": Change(
        LAST,
        index(LAST, "chats (chat_state, last_operator_id) WHERE is_active"),
        "btree (chat_state, last_operator_id) where is_active",
    ),
    "index of another kind": Change(
        REPLIED,
        index(
            REPLIED,
            "chats USING hash (operator_replied_at) WHERE chat_state = 'waiting_real_user_reply'",
        ),
        "hash (operator_replied_at) where chat_state = 'waiting_real_user_reply'",
    ),
    "index that forbids duplicates": Change(
        WAITING,
        index(
            WAITING,
            "chats (created_at) WHERE chat_state = 'waiting_assignment' AND is_active",
            "UNIQUE",
        ),
        "unique btree (created_at) where chat_state = 'waiting_assignment' and is_active",
    ),
    "index on another table": Change(REPLIED, index(REPLIED, "messages (created_at)")),
    **{
        f"{name} dropped": Change(name, f"ALTER TABLE chats DROP CONSTRAINT {name}")
        for name in (HAS_OPERATOR, HAS_TIME)
    },
    f"{HAS_OPERATOR} not valid": Change(
        HAS_OPERATOR,
        constraint(
            HAS_OPERATOR,
            "CHECK (chat_state <> 'assigned' OR assigned_operator_id IS NOT NULL) NOT VALID",
        ),
        "check (assigned_operator_id, chat_state) of assigned, not valid",
    ),
    f"{HAS_TIME} not valid": Change(
        HAS_TIME,
        constraint(
            HAS_TIME,
            "CHECK (chat_state <> 'waiting_real_user_reply' OR operator_replied_at IS NOT NULL)"
            " NOT VALID",
        ),
        "check (chat_state, operator_replied_at) of waiting_real_user_reply, not valid",
    ),
    "constraint on another column": Change(
        HAS_OPERATOR,
        constraint(
            HAS_OPERATOR, "CHECK (chat_state <> 'assigned' OR last_operator_id IS NOT NULL)"
        ),
        "check (chat_state, last_operator_id) of assigned",
    ),
    "constraint of another state": Change(
        HAS_TIME,
        constraint(HAS_TIME, "CHECK (chat_state <> 'assigned' OR operator_replied_at IS NOT NULL)"),
        "check (chat_state, operator_replied_at) of assigned",
    ),
    **{
        f"{name} dropped": Change(name, f"DROP FUNCTION {name} CASCADE")
        for name in (STATUS, DETECT, RELEASE, ASSIGN, VALIDATE)
    },
    "function that is a procedure": Change(
        VALIDATE,
        f"DROP FUNCTION {VALIDATE}; CREATE PROCEDURE {VALIDATE}() LANGUAGE sql AS ''",
    ),
    "function with another argument type": Change(
        DETECT,
        f"DROP FUNCTION {DETECT}; CREATE FUNCTION {DETECT}(p_hours numeric) RETURNS integer"
        f" {SQL} 'SELECT 1'",
        "(p_hours numeric) returns integer",
    ),
    "function with another argument name": Change(
        ASSIGN,
        f"DROP FUNCTION {ASSIGN}; CREATE FUNCTION {ASSIGN}(operator uuid) RETURNS uuid"
        f" SECURITY DEFINER {SQL} 'SELECT operator'",
        "(operator uuid) returns uuid, security definer",
    ),
    "function with another result": Change(
        RELEASE,
        f"DROP FUNCTION {RELEASE};"
        f" CREATE FUNCTION {RELEASE}(p_chat_id uuid, p_reason text) RETURNS text"
        f" {SQL} 'SELECT p_reason'",
        "(p_chat_id uuid, p_reason text) returns text",
    ),
    "function with another table for a result": Change(
        STATUS,
        f"DROP FUNCTION {STATUS};"
        f" CREATE FUNCTION {STATUS}() RETURNS TABLE (total_waiting bigint)"
        f" {SQL} 'SELECT 1::bigint'",
        "() returns TABLE(total_waiting bigint)",
    ),
    "function that runs as its caller": Change(
        ASSIGN, f"ALTER FUNCTION {ASSIGN} SECURITY INVOKER", "(p_operator_id uuid) returns uuid"
    ),
    "function that is no trigger": Change(
        VALIDATE,
        f"DROP FUNCTION {VALIDATE}; CREATE FUNCTION {VALIDATE}() RETURNS void {SQL} ''",
        "() returns void",
    ),
    "view dropped": Change(SUMMARY, f"DROP VIEW {SUMMARY}"),
    "view without a column": Change(
        SUMMARY,
        f"DROP VIEW {SUMMARY}; CREATE VIEW {SUMMARY} AS SELECT chat_state, count(*) AS count"
        " FROM chats GROUP BY chat_state",
        "(chat_state, count)",
    ),
    "view with a column renamed": Change(
        SUMMARY,
        f"ALTER VIEW {SUMMARY} RENAME COLUMN oldest_chat TO oldest",
        "(chat_state, count, with_operator, has_last_operator, oldest, newest_chat)",
    ),
    "view that is a table": Change(
        SUMMARY, f"DROP VIEW {SUMMARY}; CREATE TABLE {SUMMARY} (chat_state text)"
    ),
}
# What means the same, however it is written.
HARMLESS = {
    "index in other words": index(
        WAITING, "chats (created_at) WHERE is_active IS TRUE AND 'waiting_assignment' = chat_state"
    ).replace("'waiting_assignment' = chat_state", "(chat_state)::text IN ('waiting_assignment')"),
    "index that carries more": index(
        LAST, "chats (last_operator_id, chat_state) INCLUDE (id) WHERE (is_active = true)"
    ),
    "constraint in other words": constraint(
        HAS_OPERATOR,
        "CHECK ((chat_state = 'assigned' AND assigned_operator_id IS NOT NULL)"
        " OR chat_state != 'assigned')",
    ),
    "a second function of that name": f"CREATE FUNCTION {DETECT}(p_hours text) RETURNS integer"
    f" {SQL} 'SELECT 1'",
    "function rewritten": f"CREATE OR REPLACE FUNCTION {ASSIGN}(p_operator_id uuid) RETURNS uuid"
    f" SECURITY DEFINER {SQL} 'SELECT p_operator_id'",
    "namesakes in another schema that is searched first": "CREATE SCHEMA shadow;"
    " CREATE TABLE shadow.chats (chat_state integer);"
    " CREATE VIEW shadow.chat_state_summary AS SELECT 1 AS one;"
    " CREATE FUNCTION shadow.detect_stuck_chats(integer) RETURNS integer LANGUAGE sql"
    " AS 'SELECT 1'; CREATE DOMAIN shadow.text AS integer; CREATE DOMAIN shadow.uuid AS integer;"
    " CREATE OPERATOR shadow.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text,"
    " FUNCTION = pg_catalog.textne);"
    " CREATE FUNCTION shadow.lower(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql"
    " AS 'SELECT NULL';"
    " SET LOCAL search_path = shadow, pg_catalog, public",
    "nothing searched": "SET LOCAL search_path = ''",
}


@pytest.fixture(scope="module")
def connection(postgres_server: LocalServer) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """One database for all changes of a version."""
    with (
        clone_platform(postgres_server) as platform,
        psycopg.connect(platform.dsn, row_factory=dict_row) as connection,
    ):
        connection.execute("SET allow_system_table_mods = on")
        connection.commit()
        yield connection


@pytest.fixture
def changed(connection: psycopg.Connection[dict[str, Any]]) -> Iterator[psycopg.Connection[Any]]:
    """The same, undone afterwards."""
    yield connection
    connection.rollback()


def look(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every object as the contract sees it, by name."""
    return {row["name"]: row for row in connection.execute(QUERY.sql.encode()).fetchall()}


def test_the_fix_is_all_there(changed: psycopg.Connection[dict[str, Any]]) -> None:
    rows = look(changed)

    assert {row["kind"]: set() for row in rows.values()}.keys() == CONTRACT.keys()
    assert {(row["kind"], row["name"]) for row in rows.values()} == {
        (kind, name) for kind, names in CONTRACT.items() for name in names
    }
    assert {row["found"] for row in rows.values()} == {row["expected"] for row in rows.values()}
    assert all(row["ok"] for row in rows.values())


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_laid_at_the_door_of_its_object_alone(
    what: str, changed: psycopg.Connection[dict[str, Any]]
) -> None:
    change = CHANGES[what]
    changed.execute(change.ddl.encode())
    rows = look(changed)

    assert {name for name in rows if not rows[name]["ok"]} == {change.name, *change.dependents}
    assert rows[change.name]["found"] == change.found


def test_every_object_has_a_change_that_is_seen() -> None:
    assert {change.name for change in CHANGES.values()} == CONTRACT_NAMES


@pytest.mark.parametrize("what", HARMLESS)
def test_what_means_the_same_is_no_change(
    what: str, changed: psycopg.Connection[dict[str, Any]]
) -> None:
    changed.execute(HARMLESS[what].encode())

    assert {name: row["found"] for name, row in look(changed).items() if not row["ok"]} == {}


@pytest.mark.parametrize("name", sorted(CONTRACT_NAMES))
def test_the_remedy_of_an_object_that_is_gone_brings_it_back(
    name: str, changed: psycopg.Connection[dict[str, Any]]
) -> None:
    row = look(changed)[name]
    if not row["remedy"].startswith(("ALTER", "DROP")):
        assert row["remedy"] == "apply the migrations of the fix (014 to 016) again"
        return
    drops = {
        "column": f"ALTER TABLE chats DROP COLUMN {name.removeprefix('chats.')} CASCADE",
        "index": f"DROP INDEX {name}",
        "constraint": f"ALTER TABLE chats DROP CONSTRAINT {name}",
    }
    drop = drops[row["kind"]]
    if name == "chats.chat_state":
        drop = "ALTER TABLE chats ALTER chat_state DROP DEFAULT"
    changed.execute(drop.encode())
    assert not look(changed)[name]["ok"]
    # CONCURRENTLY cannot run inside a transaction; nothing else about it differs.
    changed.execute(row["remedy"].replace(" CONCURRENTLY", "").encode())

    assert look(changed)[name]["ok"]


def test_without_the_table_all_of_it_is_missing(changed: psycopg.Connection[Any]) -> None:
    changed.execute("DROP TABLE chats CASCADE")
    rows = look(changed)

    assert {row["found"] for row in rows.values() if row["kind"] != "function"} == {"missing"}
