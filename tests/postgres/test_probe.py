"""What a query needs is looked at when it may have changed, and at least each minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.catalogue import Need, Query
from exporter.database import Connection, Poll, QueryRequest, connection, probe
from exporter.errors import Reason
from tests import builders
from tests.servers import PgBouncer, Platform

CHATS = Need("relation", "public.chats")
VIEW = Need("relation", "public.watched")
FUNCTION = Need("function", "public.detect_stuck_chats(integer)")


def make_query(statement: str, *needs: Need) -> Query:
    return Query("asked", Path("asked.sql"), statement, 15.0, 5.0, None, needs, (), 100, ())


COUNT = make_query("SELECT count(*) AS value FROM public.chats", CHATS)
COUNT_IDS = make_query("SELECT count(id) AS value FROM public.chats", CHATS)
COUNT_VIEW = make_query("SELECT count(*) AS value FROM public.watched", CHATS, VIEW)
CALL = make_query(
    "SELECT count(*) AS value FROM public.detect_stuck_chats(1)",
    FUNCTION,
    Need("relation", "public.chats", "public.detect_stuck_chats(integer)"),
)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each probe."""
    counted: list[int] = []
    original = probe.probe_needs

    def count(*arguments: object) -> object:
        counted.append(1)
        return original(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(connection, "probe_needs", count)
    return counted


@pytest.fixture
def watched(platform: Platform) -> Platform:
    """With a view, and more than one chat."""
    builders.add_chat(platform, "completed", active=False)
    platform.execute("CREATE VIEW public.watched AS SELECT * FROM public.chats")
    platform.execute("GRANT SELECT ON public.watched TO PUBLIC")
    return platform


@pytest.fixture
def polling(watched: Platform) -> Iterator[tuple[Connection, str]]:
    """A connection of a role that sees everything, and the role."""
    role = builders.make_role(watched, "reader", policies=True)
    polling = Connection(watched.dsn_as(role))
    yield polling, role
    polling.close()


def ask(polling: Connection, query: Query = COUNT) -> Poll:
    return polling.poll([QueryRequest(query)], query.needs, {})


def reasons_of(polls: Sequence[Poll]) -> list[Reason | None]:
    return [poll.outcomes[0].error and poll.outcomes[0].error.reason for poll in polls]


def test_polls_without_a_change_probe_once(
    polling: tuple[Connection, str], probes: list[int]
) -> None:
    polls = [ask(polling[0]) for _ in range(6)]

    assert reasons_of(polls) == [None] * 6
    assert len(probes) == 1


def test_a_pooler_probes_as_seldom(
    watched: Platform, pgbouncer: PgBouncer, probes: list[int]
) -> None:
    polling = Connection(pgbouncer.dsn(watched.database))
    polls = [ask(polling) for _ in range(4)]
    polling.close()

    assert reasons_of(polls) == [None] * 4
    assert len(probes) == 1


def test_what_vacuum_and_analyze_write_is_no_change(
    watched: Platform, polling: tuple[Connection, str], probes: list[int]
) -> None:
    ask(polling[0])
    watched.execute("VACUUM ANALYZE public.chats")
    ask(polling[0])

    assert len(probes) == 1


# Query, what is there before, what changes, and the reason given then.
CHANGES: dict[str, tuple[Query, str, str, Reason]] = {
    "a restrictive policy": (
        *(COUNT, ""),
        "CREATE POLICY narrow ON public.chats AS RESTRICTIVE TO {role} USING (is_active)",
        Reason.ROW_SECURITY,
    ),
    "a policy with another condition": (
        *(COUNT, ""),
        "ALTER POLICY {role} ON public.chats USING (is_active)",
        Reason.ROW_SECURITY,
    ),
    "a policy that is gone": (
        *(COUNT, ""),
        "DROP POLICY {role} ON public.chats",
        Reason.ROW_SECURITY,
    ),
    "row-level security that is switched on": (
        COUNT,
        "DROP POLICY {role} ON public.chats; ALTER TABLE public.chats DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.chats ENABLE ROW LEVEL SECURITY",
        Reason.ROW_SECURITY,
    ),
    "BYPASSRLS that is taken away": (
        COUNT,
        "DROP POLICY {role} ON public.chats; ALTER ROLE {role} BYPASSRLS",
        "ALTER ROLE {role} NOBYPASSRLS",
        Reason.ROW_SECURITY,
    ),
    "a membership that is taken away": (
        COUNT,
        (
            "CREATE ROLE {role}_group; GRANT {role}_group TO {role};"
            " ALTER POLICY {role} ON public.chats TO {role}_group"
        ),
        "REVOKE {role}_group FROM {role}",
        Reason.ROW_SECURITY,
    ),
    "a revoked right": (
        *(COUNT, ""),
        "REVOKE SELECT ON public.chats FROM {role}",
        Reason.PERMISSION,
    ),
    "a revoked right on a column": (
        *(
            COUNT_IDS,
            "REVOKE SELECT ON chats FROM {role}; GRANT SELECT (id) ON chats TO {role}",
        ),
        "REVOKE SELECT (id) ON public.chats FROM {role}",
        Reason.PERMISSION,
    ),
    "a view that looks at who asks": (
        *(COUNT_VIEW, ""),
        (
            "CREATE OR REPLACE VIEW public.watched AS"
            " SELECT * FROM public.chats WHERE current_user = 'postgres'"
        ),
        Reason.ROW_SECURITY,
    ),
    "a view of an owner who sees less": (
        *(COUNT_VIEW, "CREATE ROLE {role}_owner; GRANT SELECT ON public.chats TO {role}_owner"),
        "ALTER VIEW public.watched OWNER TO {role}_owner",
        Reason.ROW_SECURITY,
    ),
    "a policy below a view": (
        COUNT_VIEW,
        (
            "CREATE ROLE {role}_owner; GRANT SELECT ON public.chats TO {role}_owner;"
            " CREATE POLICY below ON public.chats FOR SELECT TO {role}_owner USING (true);"
            " ALTER VIEW public.watched OWNER TO {role}_owner"
        ),
        "DROP POLICY below ON public.chats",
        Reason.ROW_SECURITY,
    ),
    "a view that is gone": (*(COUNT_VIEW, ""), "DROP VIEW public.watched", Reason.MISSING),
    "a schema of another name": (
        *(COUNT, ""),
        "ALTER SCHEMA public RENAME TO elsewhere; CREATE SCHEMA public",
        Reason.MISSING,
    ),
    "a rule that takes a view's place": (
        *(COUNT_VIEW, ""),
        (
            'CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO public.watched DO INSTEAD'
            " SELECT * FROM public.chats WHERE current_user = 'postgres'"
        ),
        Reason.ROW_SECURITY,
    ),
    "a function that reads as an owner who sees less": (
        CALL,
        (
            "CREATE ROLE {role}_owner; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}_owner;"
            " ALTER FUNCTION public.detect_stuck_chats(integer) OWNER TO {role}_owner;"
            " ALTER FUNCTION public.detect_stuck_chats(integer) SECURITY INVOKER"
        ),
        "ALTER FUNCTION public.detect_stuck_chats(integer) SECURITY DEFINER",
        Reason.ROW_SECURITY,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_an_error_at_the_next_poll(
    watched: Platform, polling: tuple[Connection, str], change: str
) -> None:
    query, given, statement, reason = CHANGES[change]
    with watched.connect() as session:
        session.execute(given.replace("{role}", polling[1]).encode())
        before = [ask(polling[0], query) for _ in range(4)]
        session.execute(statement.replace("{role}", polling[1]).encode())

    after = [ask(polling[0], query) for _ in range(2)]

    assert reasons_of(before) == [None] * 4
    assert reasons_of(after) == [reason] * 2


def test_what_is_mended_works_at_the_next_poll(
    watched: Platform, polling: tuple[Connection, str], probes: list[int]
) -> None:
    with watched.connect() as session:
        session.execute(f"DROP POLICY {polling[1]} ON public.chats".encode())
        broken = [ask(polling[0]) for _ in range(2)]
        session.execute(f"ALTER ROLE {polling[1]} BYPASSRLS".encode())

    mended = [ask(polling[0]) for _ in range(3)]

    assert reasons_of(broken) == [Reason.ROW_SECURITY] * 2
    assert reasons_of(mended) == [None] * 3
    assert len(probes) == 3


def test_after_an_error_of_a_query_it_is_looked_again(
    polling: tuple[Connection, str], probes: list[int]
) -> None:
    ask(polling[0])
    ask(polling[0], make_query("SELECT 1 / 0 AS value", CHATS))
    ask(polling[0])

    assert len(probes) == 2


def test_a_new_connection_is_looked_at(
    watched: Platform, polling: tuple[Connection, str], probes: list[int]
) -> None:
    ask(polling[0])
    polling[0].close()
    ask(polling[0])

    assert len(probes) == 2


def test_other_needs_are_looked_at(polling: tuple[Connection, str], probes: list[int]) -> None:
    ask(polling[0])
    ask(polling[0], COUNT_VIEW)

    assert len(probes) == 2


def test_what_the_fingerprint_leaves_out_is_noticed_within_a_minute(
    watched: Platform, polling: tuple[Connection, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched.connect() as session:
        session.execute(
            "CREATE FUNCTION public.shown() RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'"
        )
        session.execute(
            "CREATE OR REPLACE VIEW public.watched AS SELECT * FROM public.chats"
            " WHERE public.shown()"
        )
        before = ask(polling[0], COUNT_VIEW)
        session.execute("ALTER FUNCTION public.shown() VOLATILE")
    unnoticed = ask(polling[0], COUNT_VIEW)
    monkeypatch.setattr(probe, "MAX_AGE_S", 0.0)

    noticed = ask(polling[0], COUNT_VIEW)

    assert reasons_of((before, unnoticed, noticed)) == [None, None, Reason.ROW_SECURITY]


def test_a_proof_is_trusted_for_less_than_a_minute() -> None:
    proof = probe.Proof((CHATS,), {}, (), (), "1", 100.0)

    assert proof.holds([CHATS], "1", 100.0 + 49)
    assert not proof.holds([CHATS], "1", 100.0 + 50)


def test_a_querys_own_limit_is_its_own(polling: tuple[Connection, str]) -> None:
    limit = "SELECT current_setting('statement_timeout') AS value"
    short = replace(make_query(limit, CHATS), name="short", timeout_s=2.0)
    broken = replace(make_query("SELECT 1 / 0 AS value", CHATS), name="broken", timeout_s=3.0)
    usual = replace(make_query(limit, CHATS), name="usual")
    requests = [QueryRequest(query) for query in (usual, short, broken, usual, short)]
    named = [
        replace(request, query=replace(request.query, name=f"{request.query.name}{number}"))
        for number, request in enumerate(requests)
    ]

    poll = polling[0].poll(named, (CHATS,), {})

    values = [outcome.rows[0]["value"] if outcome.rows else None for outcome in poll.outcomes]
    assert values == ["5s", "2s", None, "5s", "2s"]
