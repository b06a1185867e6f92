"""Rows hidden by row-level security are an error of the watch, never a calm zero."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from exporter.config.resources import find_resource
from exporter.database import Outcome, Poll
from exporter.errors import QueryFailed, Reason
from exporter.polling.plan import Plan
from exporter.polling.worker import Worker
from tests import builders
from tests.postgres.test_queries_support import (
    Figures,
    families_of,
    plain,
    plan_of,
    poll,
    whole_plan_of,
)
from tests.servers import Platform

# But for the platform's view, which runs as its owner.
READS_CHATS = {
    query.name
    for query in plan_of().queries
    if any(need.name == "public.chats" for need in query.needs) and query.name != "state_summary"
}
# The platform shows every assignment and every heartbeat to any role with a grant.
HIDDEN = {
    "public.chat_assignments": False,
    "public.chat_state_summary": False,
    "public.chats": True,
    "public.messages": True,
    "public.operator_activity": False,
    "public.operators": True,
    "public.platform_config": True,
}
REMEDY = "expected a policy FOR SELECT USING (true) for that role, or BYPASSRLS"


@pytest.fixture
def busy(platform: Platform) -> Platform:
    """A platform on which hardly any figure is zero, with an inactive chat."""
    builders.make_waiting_chat(platform, age_s=7200)
    builders.make_assigned_chat(platform, age_s=7200, heartbeat_s=7200)
    builders.make_replied_chat(platform, age_s=60)
    builders.add_chat(platform, "completed", active=False)
    return platform


def errors_of(result: Poll) -> dict[str, Reason]:
    """Reason by query, of those that failed."""
    return {o.query.name: o.error.reason for o in result.outcomes if o.error is not None}


def outcome_of(result: Poll, query: str) -> Outcome:
    (outcome,) = (outcome for outcome in result.outcomes if outcome.query.name == query)
    return outcome


def hidden_of(result: Poll) -> set[str]:
    return {relation for relation, hidden in result.hidden if hidden}


def message_of(result: Poll, query: str) -> str:
    error = outcome_of(result, query).error
    assert isinstance(error, QueryFailed)
    return str(error)


def test_a_role_without_policies_is_told_so_and_shown_no_zero(busy: Platform) -> None:
    role = builders.make_role(busy, "reader")

    result = poll(busy.dsn_as(role))

    assert dict(result.hidden) == HIDDEN
    # The view runs as its owner, who sees every row.
    assert errors_of(result) == {
        **dict.fromkeys(READS_CHATS, Reason.ROW_SECURITY),
        "operator_load": Reason.ROW_SECURITY,
    }
    assert all(o.rows == () and o.columns == () for o in result.outcomes if o.error)
    chats = plain(families_of(replace(result, outcomes=(outcome_of(result, "state_summary"),))))
    assert sum(chats["chats"].values()) == 3


def test_the_message_names_the_relation_the_role_and_what_stands_between(busy: Platform) -> None:
    role = builders.make_role(busy, "reader")

    result = poll(busy.dsn_as(role))

    assert message_of(result, "state_clock") == (
        f"row-level security hides rows of public.chats from role {role}, {REMEDY}"
    )
    assert message_of(result, "operator_load") == (
        f"row-level security hides rows of public.operators from role {role}, {REMEDY}"
    )
    assert message_of(result, "stuck_chats") == (
        "row-level security hides rows of public.chats, which "
        f"public.detect_stuck_chats(integer) reads, from role {role}, {REMEDY}"
    )


def page_of(plan: Plan) -> Figures:
    """What a worker shows after its first poll."""
    worker = Worker(plan, lambda: None)
    worker.start()
    try:
        assert worker.first_poll_done.wait(20)
    finally:
        assert worker.stop(10)
    return plain(worker.snapshot.families(time.monotonic()))


def test_the_page_shows_the_hidden_relations_and_no_figure_of_theirs(busy: Platform) -> None:
    role = builders.make_role(busy, "reader")

    figures = page_of(replace(plan_of(), dsn=busy.dsn_as(role)))

    assert figures["database_up"] == {"": 1}
    assert figures["database_row_security_hidden"] == HIDDEN
    ours = {
        name for name in figures if not name.startswith(("database_", "exporter_", "threshold_"))
    }
    assert ours == {
        "chats",
        "chats_with_operator",
        "chats_with_last_operator",
        "oldest_chat_created_timestamp_seconds",
        "newest_chat_created_timestamp_seconds",
    }
    assert {query for query, ok in figures["exporter_query_success"].items() if ok} == {
        "state_summary"
    }
    errors = figures["exporter_query_errors_total"]
    assert {name for name, count in errors.items() if count} == {
        f"{query},row_security" for query in (*READS_CHATS, "operator_load")
    }


def test_only_what_reads_a_hidden_relation_fails(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    assert errors_of(poll(busy.dsn_as(role))) == {}

    busy.execute(f"DROP POLICY {role} ON messages")

    result = poll(busy.dsn_as(role))
    assert hidden_of(result) == {"public.messages"}
    assert errors_of(result) == dict.fromkeys(("state_clock", "customer_wait"), Reason.ROW_SECURITY)


@pytest.mark.parametrize("options", [{"policies": True}, {"bypass_rls": True}])
def test_a_role_that_sees_everything_has_the_superusers_figures(
    busy: Platform, options: dict[str, bool]
) -> None:
    role = builders.make_role(busy, "reader", **options)

    result = poll(busy.dsn_as(role))

    assert hidden_of(result) == set()
    names = ("chats", "platform_queue_chats", "platform_stuck_chats", "state_age_chats",
             "unanswered_chats", "operators", "operator_chats", "idle_overdue_chats")  # fmt: skip
    theirs, ours = plain(families_of(result)), plain(families_of(poll(busy.dsn)))
    assert {name: theirs[name] for name in names} == {name: ours[name] for name in names}


POLICY = "CREATE POLICY p ON chats "
GROUP = "CREATE ROLE {group} NOLOGIN; GRANT {group} TO {role}; "
OWNED = "ALTER TABLE chats OWNER TO {role}; "
# What is done, and whether the role then sees every chat.
CASES = {
    "nothing": ("", False),
    "a superuser": ("ALTER ROLE {role} SUPERUSER", True),
    "bypassing it": ("ALTER ROLE {role} BYPASSRLS", True),
    "security disabled": ("ALTER TABLE chats DISABLE ROW LEVEL SECURITY", True),
    "the owner": (OWNED, True),
    "the owner, forced": (OWNED + "ALTER TABLE chats FORCE ROW LEVEL SECURITY", False),
    "the owner, forced, with a policy": (
        OWNED + "ALTER TABLE chats FORCE ROW LEVEL SECURITY; " + POLICY + "USING (true)",
        True,
    ),
    "a superuser, forced": (
        "ALTER TABLE chats FORCE ROW LEVEL SECURITY; ALTER ROLE {role} SUPERUSER",
        True,
    ),
    "a member of the owner": (GROUP + "ALTER TABLE chats OWNER TO {group}", True),
    "a member of the owner who does not inherit": (
        "ALTER ROLE {role} NOINHERIT; " + GROUP + "ALTER TABLE chats OWNER TO {group}",
        False,
    ),
    "a policy for the role": (POLICY + "FOR SELECT TO {role} USING (true)", True),
    "a policy for all commands": (POLICY + "FOR ALL TO {role} USING (true)", True),
    "a policy for PUBLIC": (POLICY + "FOR SELECT TO PUBLIC USING (true)", True),
    "a policy for everyone by default": (POLICY + "USING (true)", True),
    "a policy for a group": (GROUP + POLICY + "FOR SELECT TO {group} USING (true)", True),
    "a policy for a group that is not inherited": (
        "ALTER ROLE {role} NOINHERIT; " + GROUP + POLICY + "TO {group} USING (true)",
        False,
    ),
    "a policy for a group of others": (
        "CREATE ROLE {group} NOLOGIN; " + POLICY + "TO {group} USING (true)",
        False,
    ),
    "a policy for the role among others": (
        "CREATE ROLE {group} NOLOGIN; " + POLICY + "TO {group}, {role} USING (true)",
        True,
    ),
    "a policy for updates only": (POLICY + "FOR UPDATE TO {role} USING (true)", False),
    "a policy for inserts only": (POLICY + "FOR INSERT TO {role} WITH CHECK (true)", False),
    "a policy with a condition": (POLICY + "TO {role} USING (is_active)", False),
    "a condition beside a policy without": (
        POLICY + "TO {role} USING (true); CREATE POLICY q ON chats USING (is_active)",
        True,
    ),
    "a restrictive condition": (
        POLICY + "USING (true); CREATE POLICY q ON chats AS RESTRICTIVE USING (is_active)",
        False,
    ),
    "a restrictive condition for others": (
        "CREATE ROLE {group} NOLOGIN; " + POLICY + "USING (true);"
        "CREATE POLICY q ON chats AS RESTRICTIVE TO {group} USING (is_active)",
        True,
    ),
    "a restrictive condition for deletes": (
        POLICY + "USING (true);"
        "CREATE POLICY q ON chats AS RESTRICTIVE FOR DELETE USING (is_active)",
        True,
    ),
    "a restriction that restricts nothing": (
        POLICY + "USING (true); CREATE POLICY q ON chats AS RESTRICTIVE USING (true)",
        True,
    ),
    "a restriction alone, which opens nothing": (POLICY + "AS RESTRICTIVE USING (true)", False),
}


@pytest.mark.parametrize(("statements", "sees_all"), CASES.values(), ids=CASES)
def test_hidden_is_said_exactly_where_the_server_hides_rows(
    busy: Platform, statements: str, sees_all: bool
) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    busy.execute(f"DROP POLICY {role} ON chats")
    if statements:
        busy.execute(statements.format(role=role, group=f"{busy.database}_group"))
    with busy.connect(role) as reader:
        ((seen,),) = reader.execute("SELECT count(*) FROM chats").fetchall()
    assert (seen == busy.value("SELECT count(*) FROM chats")) is sees_all

    result = poll(busy.dsn_as(role))

    assert hidden_of(result) == (set() if sees_all else {"public.chats"})
    assert errors_of(result) == (
        {} if sees_all else dict.fromkeys(READS_CHATS, Reason.ROW_SECURITY)
    )


def test_a_function_that_runs_as_its_owner_sees_what_the_owner_sees(busy: Platform) -> None:
    role = builders.make_role(busy, "reader")
    owner = builders.make_role(busy, "owner")
    busy.execute("ALTER FUNCTION detect_stuck_chats SECURITY DEFINER")

    result = poll(busy.dsn_as(role))

    assert outcome_of(result, "stuck_chats").error is None
    assert sum(row["stuck_chats"] for row in outcome_of(result, "stuck_chats").rows) == 2
    assert errors_of(result)["queue_status"] is Reason.ROW_SECURITY

    busy.execute(f"ALTER FUNCTION detect_stuck_chats OWNER TO {owner}")

    assert message_of(poll(busy.dsn_as(role)), "stuck_chats") == (
        "row-level security hides rows of public.chats, which "
        f"public.detect_stuck_chats(integer) reads, from role {owner}, {REMEDY}"
    )


def test_a_view_sees_what_its_owner_sees(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    owner = builders.make_role(busy, "owner")

    busy.execute(f"ALTER VIEW chat_state_summary OWNER TO {owner}")

    result = poll(busy.dsn_as(role))
    assert errors_of(result) == {"state_summary": Reason.ROW_SECURITY}
    assert hidden_of(result) == {"public.chat_state_summary", "public.chats"}
    assert message_of(result, "state_summary") == (
        "row-level security hides rows of public.chats, which "
        f"public.chat_state_summary reads, from role {owner}, {REMEDY}"
    )


@pytest.mark.parametrize("value", ["true", "on", "1", "yes", "On", "tr", "y"])
def test_a_view_that_runs_as_its_reader_sees_what_the_reader_sees(
    busy: Platform, value: str
) -> None:
    role = builders.make_role(busy, "reader")
    busy.execute(f"ALTER VIEW chat_state_summary SET (security_invoker = {value})")
    with busy.connect(role) as reader:
        assert reader.execute("SELECT * FROM chat_state_summary").fetchall() == []

    result = poll(busy.dsn_as(role))

    assert message_of(result, "state_summary") == (
        "row-level security hides rows of public.chats, which "
        f"public.chat_state_summary reads, from role {role}, {REMEDY}"
    )


@pytest.mark.parametrize("value", ["false", "off", "0", "no"])
def test_a_view_told_not_to_run_as_its_reader_does_not(busy: Platform, value: str) -> None:
    role = builders.make_role(busy, "reader")
    busy.execute(f"ALTER VIEW chat_state_summary SET (security_invoker = {value})")

    assert "state_summary" not in errors_of(poll(busy.dsn_as(role)))


# A relation that the watch needs is moved away, and a view of the same name stands in its place.
MOVED = "CREATE SCHEMA app; ALTER TABLE public.{table} SET SCHEMA app;"
INVOKER = "WITH (security_invoker = true)"


def stand_in(platform: Platform, role: str, table: str, views: str) -> None:
    """Move a table to the schema `app` and put views in its place; the role may read all."""
    platform.execute(MOVED.format(table=table) + views.format(table=table))
    platform.execute(f"GRANT USAGE ON SCHEMA app TO {role}")
    platform.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA app, public TO {role}")


@pytest.mark.parametrize("table", ["chats", "messages", "operators"])
@pytest.mark.parametrize(
    "views",
    [
        f"CREATE VIEW public.{{table}} {INVOKER} AS SELECT * FROM app.{{table}}",
        (
            f"CREATE VIEW app.middle {INVOKER} AS SELECT * FROM app.{{table}};"
            f"CREATE VIEW public.{{table}} {INVOKER} AS SELECT * FROM app.middle"
        ),
        # A view that runs as its owner does not lend the owner's eyes to one that does not.
        (
            f"CREATE VIEW app.middle {INVOKER} AS SELECT * FROM app.{{table}};"
            "CREATE VIEW public.{table} AS SELECT * FROM app.middle"
        ),
        (
            f"CREATE VIEW public.{{table}} {INVOKER} AS SELECT * FROM app.{{table}}"
            " WHERE id IN (SELECT id FROM app.{table})"
        ),
    ],
    ids=["invoker", "of views", "below an owner's", "in a subquery"],
)
def test_rows_that_are_hidden_below_views_are_hidden(
    busy: Platform, table: str, views: str
) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    stand_in(busy, role, table, views)
    assert errors_of(poll(busy.dsn_as(role))) == {}

    busy.execute(f"DROP POLICY {role} ON app.{table}")

    result = poll(busy.dsn_as(role))
    hidden = hidden_of(result)
    assert f"public.{table}" in hidden
    failed = {
        query.name
        for query in plan_of().queries
        if any(need.name == f"public.{table}" for need in query.needs)
    }
    errors = errors_of(result)
    assert failed <= {name for name in errors if errors[name] is Reason.ROW_SECURITY}
    for query in failed - {"state_summary", "queue_status", "stuck_chats"}:
        assert f"hides rows of app.{table}, which public.{table} reads, from role {role}" in (
            message_of(result, query)
        )


@pytest.mark.parametrize(
    ("views", "kind"),
    [
        ("CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE current_user = 'ann'", "v"),
        (
            (
                "CREATE VIEW public.{table} AS SELECT * FROM app.{table}"
                " WHERE current_setting('app.tenant', true) IS NULL"
            ),
            "v",
        ),
        (
            (
                "CREATE FUNCTION app.mine() RETURNS boolean STABLE RETURN true;"
                "CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE app.mine()"
            ),
            "v",
        ),
        (
            (
                "CREATE VIEW app.middle AS SELECT * FROM app.{table}"
                " WHERE pg_has_role('pg_monitor', 'usage');"
                "CREATE VIEW public.{table} AS SELECT * FROM app.middle"
            ),
            "v",
        ),
        (
            (
                "CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE EXISTS ("
                "SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid()"
                " AND application_name NOT LIKE 'chatqueue%')"
            ),
            "v",
        ),
        (
            (
                "CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE NOT EXISTS ("
                "SELECT FROM pg_settings WHERE name = 'TimeZone' AND setting = 'UTC')"
            ),
            "v",
        ),
        ("CREATE MATERIALIZED VIEW public.{table} AS SELECT * FROM app.{table}", "m"),
    ],
    ids=["user", "setting", "own function", "below", "activity", "settings", "materialized"],
)
def test_a_view_that_may_hide_rows_is_not_trusted(busy: Platform, views: str, kind: str) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    stand_in(busy, role, "messages", views)

    result = poll(busy.dsn_as(role))

    assert "public.messages" in hidden_of(result)
    what = {"v": "a view whose rows depend on the session", "m": "a materialized view"}[kind]
    assert (
        f" is {what}, so nothing proves that it shows every row, "
        "expected a table or a plain view of one"
    ) in message_of(result, "customer_wait")


def test_a_view_whose_functions_know_nothing_of_the_session_is_trusted(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    stand_in(
        busy,
        role,
        "messages",
        "CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE created_at <= now()"
        " AND to_char(created_at, 'YYYY') > '1999' AND created_at::date <= current_date"
        " AND concat(content, id) > '' AND pg_typeof(id)::text = 'uuid'",
    )

    assert errors_of(poll(busy.dsn_as(role))) == {}


def test_a_plain_view_is_trusted_whoever_asks(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    views = "CREATE VIEW public.{table} AS SELECT * FROM app.{table} WHERE created_at <= now()"
    stand_in(busy, role, "messages", views)
    busy.execute(f"DROP POLICY {role} ON app.messages")  # it reads as its owner

    assert errors_of(poll(busy.dsn_as(role))) == {}


def test_a_missing_grant_is_told_apart_from_hidden_rows(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    busy.execute(f"REVOKE SELECT ON messages FROM {role}")

    result = poll(busy.dsn_as(role))

    assert errors_of(result) == dict.fromkeys(("state_clock", "customer_wait"), Reason.PERMISSION)
    assert message_of(result, "state_clock") == (
        f"role {role} may not read public.messages, "
        "expected GRANT SELECT (id, chat_id, sender_type, handled_by_operator_id, created_at) "
        f"ON public.messages TO {role}"
    )


READER = "chatqueue_reader"


@pytest.fixture
def granted(busy: Platform) -> Iterator[Platform]:
    """The platform with deploy/postgresql/reader.sql applied as it is, twice."""
    script = find_resource("deploy") / "postgresql" / "reader.sql"
    for _ in range(2):
        busy.connection.execute(script.read_bytes())
    yield busy
    # The role is the server's, and other tests share the server.
    busy.execute(f"DROP OWNED BY {READER}")
    busy.execute(f"DROP ROLE {READER}")


@pytest.fixture
def reader(granted: Platform) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The reader's own session, told to allow writes."""
    with granted.connect(READER) as connection:
        connection.execute("SET default_transaction_read_only = off")
        yield connection


def test_the_reader_script_is_enough_for_every_built_in_query(granted: Platform) -> None:
    plan = whole_plan_of()

    figures = page_of(replace(plan, dsn=granted.dsn_as(READER)))

    assert figures["exporter_query_success"] == {query.name: 1 for query in plan.queries}
    assert set(figures["database_row_security_hidden"].values()) == {0}


def test_the_reader_sees_what_the_superuser_sees(granted: Platform) -> None:
    result = poll(granted.dsn_as(READER))

    assert hidden_of(result) == set()
    ours, theirs = plain(families_of(poll(granted.dsn))), plain(families_of(result))
    assert ours.keys() == theirs.keys()
    assert {name: ours[name].keys() for name in ours} == {n: theirs[n].keys() for n in theirs}
    for name in ("chats", "platform_stuck_chats", "operators", "operator_chats"):
        assert ours[name] == theirs[name]
    assert theirs["unanswered_chats"] == {"": 2}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT content FROM messages",
        "SELECT * FROM messages",
        "SELECT m FROM messages m",
        "SELECT count(content) FROM messages",
        "SELECT email FROM operators",
        "SELECT * FROM operators",
        "SELECT name FROM real_users",
        "SELECT email FROM real_users",
        "SELECT real_profile_notes FROM chats",
        "SELECT name FROM fictional_users",
        "COPY messages TO STDOUT",
    ],
)
def test_the_reader_sees_no_message_and_no_address(
    reader: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement.encode())


WRITES = {
    "INSERT INTO {} DEFAULT VALUES",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "SELECT id FROM {} FOR UPDATE",
    "LOCK TABLE {} IN EXCLUSIVE MODE",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "DROP TABLE {}",
}


@pytest.mark.parametrize("statement", sorted(WRITES))
def test_the_reader_writes_to_no_table_even_where_his_session_allows_it(
    reader: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    for table in HIDDEN.keys() - {"public.chat_state_summary"}:
        with (
            reader.transaction(force_rollback=True),
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            reader.execute(statement.format(table).encode())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chats SET is_active = false",
        "UPDATE operators SET is_available = false",
        "UPDATE messages SET sender_type = 'real'",
        "UPDATE chat_assignments SET released_at = now()",
        "UPDATE operator_activity SET updated_at = now()",
        "UPDATE platform_config SET value = '1'",
        "CREATE TABLE public.mine (id integer)",
        "CREATE SCHEMA mine",
        "SELECT release_and_reassign_chat(id, 'x') FROM chats WHERE chat_state = 'assigned'",
    ],
)
def test_the_reader_changes_nothing_even_where_his_session_allows_it(
    reader: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement.encode())


def test_the_readers_transactions_are_read_only_by_themselves(granted: Platform) -> None:
    operator = builders.add_operator(granted)

    # PostgreSQL lets everyone execute a function, and this one writes with its owner's rights.
    with (
        granted.connect(READER) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("SELECT assign_chat_to_operator(%s)", (operator,))
    assert granted.value("SELECT count(*) FROM chats WHERE chat_state = 'waiting_assignment'") == 1
