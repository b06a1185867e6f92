"""`chatqueue chats` lists exactly the chats that the gauges count, and reads no big table whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from exporter.cli import cli
from exporter.config import Config
from exporter.database import Connection, Poll, QueryRequest
from exporter.database.session import Session
from exporter.demo.postgres import LocalServer
from exporter.ops.chats.listing import (
    EVERYTHING,
    PROGRAM,
    Chat,
    Filters,
    Listing,
    merge,
    read_listing,
)
from exporter.ops.chats.lists import MOST_CHATS, ChatList, choose_lists, load_lists
from exporter.ops.chats.verdicts import Verdict, Verdicts
from exporter.polling.plan import build_plans
from exporter.release import admin
from exporter.release.facts import Trip
from exporter.release.plans import build_release_plans
from exporter.release.policy import plan_cycle
from exporter.release.transaction import Engine
from tests import builders
from tests.postgres.test_queries_plans import BIG, fill, rows_read, walk
from tests.postgres.test_queries_support import families_of, plain, stop_clock, whole_plan_of
from tests.release import install, make_stuck_chat
from tests.servers import Platform, clone_platform
from tests.watch import write_config

SETTINGS = """
thresholds: {oldest_age: {waiting_real_user_reply: {warning: 1h, critical: 2h}}}
checks: {grace: 10s}
"""
LISTED = tuple(
    query
    for query in whole_plan_of(SETTINGS).queries
    if (query.path.parent / "chats" / query.path.name).is_file()
)
LISTS = load_lists(LISTED)


def make_mess(platform: Platform) -> None:
    """Chats in every state the columns can hold, possible or not, by a fixed pseudo-random rule."""
    platform.execute(
        "ALTER TABLE chats DROP CONSTRAINT chats_chat_state_check,"
        " DROP CONSTRAINT chk_assigned_state_has_operator,"
        " DROP CONSTRAINT chk_waiting_reply_has_timestamp"
    )
    builders.add_people(platform, users=600, operators=12)
    platform.execute("SELECT setseed(0.25)")
    platform.execute(
        """
        CREATE FUNCTION public.some_time() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
            SELECT CASE
                WHEN d < 0.02 THEN NULL
                WHEN d < 0.04 THEN now() + interval '1 hour'
                WHEN d < 0.05 THEN 'infinity'
                WHEN d < 0.06 THEN '-infinity'
                ELSE now() - random() ^ 3 * interval '4 hours'
            END FROM (SELECT random() AS d OFFSET 0) AS s
        $$
        """
    )
    platform.execute(
        "UPDATE operators SET is_active = id < (SELECT max(id::text)::uuid FROM operators)"
    )
    platform.execute("UPDATE operators SET last_activity = public.some_time()")
    for table in ("chats", "messages", "real_users"):
        platform.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    platform.execute(
        "UPDATE real_users SET is_active = random() > 0.05, updated_at = public.some_time()"
    )
    platform.execute(
        """
        INSERT INTO chats (
            real_user_id, fictional_user_id, chat_state, is_active, created_at, updated_at,
            last_message_at, operator_replied_at, assignment_time, assigned_operator_id)
        SELECT u.id, (SELECT id FROM fictional_users LIMIT 1),
               (ARRAY['waiting_assignment', 'assigned', 'waiting_real_user_reply', 'completed',
                      NULL, 'on_the_moon', 'waiting_assignment', 'assigned'])[
                   1 + floor(random() * 8)::int],
               random() > 0.1, public.some_time(), now() - random() * interval '4 hours',
               public.some_time(),
               public.some_time(), public.some_time(),
               CASE WHEN random() < 0.5 THEN (
                   SELECT id FROM operators WHERE u.id IS NOT NULL ORDER BY random() LIMIT 1
               ) END
        FROM real_users AS u
        """
    )
    platform.execute(
        """
        INSERT INTO messages (chat_id, sender_type, content, created_at)
        SELECT c.id, CASE WHEN random() < 0.6 THEN 'real' ELSE 'fictional' END, 'text', t.at
        FROM chats AS c
        CROSS JOIN LATERAL generate_series(1, (hashtext(c.id::text) & 3)) AS k
        CROSS JOIN LATERAL (SELECT public.some_time() AS at WHERE k > 0 AND c.id IS NOT NULL) AS t
        WHERE t.at IS NOT NULL
        """
    )
    platform.execute(
        """
        INSERT INTO chat_assignments
            (chat_id, operator_id, assigned_at, released_at, release_reason)
        SELECT c.id, coalesce(CASE WHEN random() < 0.7 THEN c.assigned_operator_id END, o.id),
               public.some_time(), CASE WHEN random() < 0.5 THEN public.some_time() END,
               (ARRAY['idle_timeout', 'operator_sent_message', 'manual_reassignment_by_admin: x',
                      'idle_timeout - max reassignments reached'])[1 + floor(random() * 4)::int]
        FROM chats AS c
        CROSS JOIN generate_series(1, 2) AS k
        CROSS JOIN LATERAL (
            SELECT id FROM operators WHERE k > 0 AND c.id IS NOT NULL ORDER BY random() LIMIT 1
        ) AS o
        WHERE random() < 0.7
        """
    )
    platform.execute(
        """
        INSERT INTO operator_activity (chat_id, operator_id, last_activity, updated_at)
        SELECT c.id, c.assigned_operator_id, public.some_time(), public.some_time()
        FROM chats AS c WHERE c.assigned_operator_id IS NOT NULL AND random() < 0.6
        """
    )


def poll_both(dsn: str) -> Poll:
    """The gauges' queries and the lists, in one snapshot."""
    plan = whole_plan_of(SETTINGS)
    requests = [QueryRequest(query) for query in (*LISTED, *(each.query for each in LISTS))]
    needs = tuple(dict.fromkeys(need for request in requests for need in request.query.needs))
    connection = Connection(dsn)
    try:
        poll = connection.poll(requests, needs, {**plan.parameters, "chats_limit": MOST_CHATS})
    finally:
        connection.close()
    assert [str(outcome.error) for outcome in poll.outcomes if outcome.error] == []
    return poll


def split(poll: Poll) -> tuple[Poll, Poll]:
    """The gauges' part and the lists' part of one poll."""
    gauges = tuple(o for o in poll.outcomes if o.query.metrics)
    return replace(poll, outcomes=gauges), replace(
        poll, outcomes=tuple(o for o in poll.outcomes if not o.query.metrics)
    )


def count(chats: Iterable[Chat]) -> Counter[tuple[str, str | None]]:
    """How many chats for each reason and state."""
    return Counter((reason, chat.state) for chat in chats for reason in chat.reasons)


def test_a_list_has_exactly_the_chats_behind_each_gauge(platform: Platform) -> None:
    make_mess(stop_clock(platform))
    gauges_poll, lists_poll = split(poll_both(platform.dsn))
    gauges = plain(families_of(gauges_poll))

    chats = merge(lists_poll, Verdicts())
    counted = count(chats)

    for name, value in gauges["state_overdue_chats"].items():
        state, severity = name.split(",")
        assert counted[f"overdue:{severity}", state] == value, name
    reasons = Counter(reason for chat in chats for reason in chat.reasons)
    assert {n: reasons[f"invalid:{n}"] for n in gauges["invalid_chats"]} == gauges["invalid_chats"]
    assert reasons["unanswered"] == gauges["unanswered_chats"][""]
    assert reasons["empty"] == gauges["empty_waiting_chats"][""]
    assert reasons["stuck:idle_detector"] == gauges["idle_overdue_chats"][""]
    assert reasons["waiting"] == gauges["state_age_chats"]["waiting_assignment,+Inf"]
    stuck = {state: counted["platform:stuck", state] for state in gauges["platform_stuck_chats"]}
    assert stuck == gauges["platform_stuck_chats"]
    # The mess has some of each, or nothing would have been compared.
    declared = {reason for each in LISTS for reason in each.reasons}
    assert set(reasons) == declared


HOSTILE = "<b>\x1b[31m[red]\u202eevil\u2066\n\t'\"" + "n" * 4900


def read(platform: Platform, filters: Filters = EVERYTHING, **sections: object) -> Listing:
    """What the command reads of a database."""
    config = Config.model_validate({"databases": {"main": {"dsn": platform.dsn}}, **sections})
    return read_listing(build_plans(config)["main"], build_release_plans(config)["main"], filters)


def test_known_contents_are_listed_oldest_first_with_every_reason(platform: Platform) -> None:
    ann = builders.add_operator(platform, "Ann")
    fresh = builders.make_waiting_chat(platform, age_s=20)
    late = builders.make_waiting_chat(platform, age_s=400)
    held = builders.make_assigned_chat(platform, ann, age_s=800, heartbeat_s=30, waited_s=100)
    builders.make_replied_chat(platform, age_s=90_000)
    empty = builders.add_chat(platform, created_s=50)

    listing = read(platform)

    assert [(chat.chat_id, chat.state, chat.reasons) for chat in listing.chats] == [
        (held, "assigned", ("overdue:warning", "unanswered")),
        (
            late,
            "waiting_assignment",
            ("overdue:critical", "overdue:warning", "unanswered", "waiting"),
        ),
        (fresh, "waiting_assignment", ("unanswered", "waiting")),
        (empty, "waiting_assignment", ("empty",)),
    ]
    first = listing.chats[0]
    assert (first.operator_id, first.operator) == (ann, "Ann")
    assert first.age_s == pytest.approx(800, abs=30)
    assert first.unanswered_s == pytest.approx(900, abs=30)
    assert first.seen_s == pytest.approx(30, abs=30)
    assert listing.problems == ()
    # The same by plain SQL.
    waiting = platform.fetch(
        "SELECT id FROM chats AS c WHERE chat_state = 'waiting_assignment' AND is_active"
        " AND EXISTS (SELECT FROM messages AS m WHERE m.chat_id = c.id)"
    )
    assert {(c.chat_id,) for c in listing.chats if "waiting" in c.reasons} == set(waiting)


def test_filters_choose_by_reason_state_and_operator(platform: Platform) -> None:
    ann, bob = (builders.add_operator(platform, name) for name in ("Ann", "Bob"))
    late = builders.make_waiting_chat(platform, age_s=400)
    of_ann = builders.make_assigned_chat(platform, ann, age_s=2000, heartbeat_s=5)
    of_bob = builders.make_assigned_chat(platform, bob, age_s=700, heartbeat_s=5)
    lost = builders.make_replied_chat(platform, age_s=900)
    builders.add_message(platform, lost, age_s=600)

    def ids(**wanted: tuple[str, ...]) -> list[UUID]:
        return [chat.chat_id for chat in read(platform, Filters(**wanted)).chats]

    assert ids(reasons=("overdue",)) == [of_ann, of_bob, late]
    assert ids(reasons=("overdue:critical",)) == ids(reasons=("critical",)) == [of_ann, late]
    assert ids(reasons=("overdue",), states=("assigned",)) == [of_ann, of_bob]
    assert ids(operators=("Bob",)) == ids(operators=(str(bob),)) == [of_bob]
    assert ids(reasons=("lost_reply",)) == ids(reasons=("invalid",)) == [lost]
    assert lost not in ids()
    assert "invalid:lost_reply" in read(platform).not_asked
    assert read(platform, Filters(reasons=("invalid",))).not_asked == ()


@pytest.fixture
def suspects(platform: Platform) -> tuple[UUID, UUID, UUID]:
    """A chat to release, one that the platform would close, and one whose operator is there."""
    first = make_stuck_chat(platform)
    second = make_stuck_chat(platform, past_turns=3)
    third = builders.make_assigned_chat(platform, age_s=900, heartbeat_s=5)
    for _ in range(4):
        builders.make_assigned_chat(platform, age_s=60, heartbeat_s=5)
    return first, second, third


def observing(**changes: object) -> dict[str, object]:
    """The section `release` of a daemon that has been up for long enough."""
    return {"mode": "observe", "sensor": {"after_restart": "0s"}, **changes}


def test_what_auto_release_would_do_is_what_observe_decides(
    platform: Platform, suspects: tuple[UUID, UUID, UUID]
) -> None:
    builders.add_operator(platform, seen_s=0)
    first, second, third = suspects
    before = platform.fetch("SELECT * FROM chats ORDER BY id")

    chats = {chat.chat_id: chat for chat in read(platform, release=observing()).chats}

    assert chats[first].verdict.decision == "release"
    assert "stuck:silent" in chats[first].reasons
    assert (chats[second].verdict.decision, chats[second].verdict.guard) == ("held back", "closing")
    assert chats[third].verdict.decision == "nothing"
    assert "stuck:silent" not in chats[third].reasons
    assert platform.fetch("SELECT * FROM chats ORDER BY id") == before
    # The gauge of the suspects, as the releaser computes it.
    config = Config.model_validate(
        {"databases": {"main": {"dsn": platform.dsn}}, "release": observing()}
    )
    plan = build_release_plans(config)["main"]
    with Session(platform.dsn) as session:
        scan, control = Engine(session, plan.limits, daemon="test").scan()
    cycle = plan_cycle(scan, control, plan.limits, Trip(), plan.gap_s)
    listed = {chat.chat_id for chat in chats.values() if "stuck:silent" in chat.reasons}
    assert listed == {chat.chat_id for chat in cycle.suspects} == {first, second}


def test_a_pause_and_an_exemption_hold_a_release_back(
    platform: Platform, suspects: tuple[UUID, UUID, UUID]
) -> None:
    install(platform)
    first = suspects[0]
    with Session(platform.dsn) as session:
        admin.exempt(session, "chat", first, timedelta(hours=1), "ann", "vip")

        chats = {chat.chat_id: chat for chat in read(platform, release=observing()).chats}
        assert chats[first].verdict.guard == "exemption"
        assert "by ann: vip" in chats[first].verdict.why

        admin.pause(session, timedelta(hours=1), "deploy", "bob")
        chats = {chat.chat_id: chat for chat in read(platform, release=observing()).chats}
        assert chats[first].verdict.guard == "pause"


def test_without_the_right_to_the_schema_it_is_not_known(
    platform: Platform, suspects: tuple[UUID, UUID, UUID]
) -> None:
    install(platform)
    dsn = platform.dsn_as(builders.make_role(platform, "reader", bypass_rls=True))
    config = Config.model_validate({"databases": {"main": {"dsn": dsn}}, "release": observing()})
    plans = build_plans(config)["main"], build_release_plans(config)["main"]
    chats = {chat.chat_id: chat for chat in read_listing(*plans).chats}

    assert chats[suspects[0]].verdict.decision == "not known"
    assert "chatqueue" in chats[suspects[0]].verdict.why


def test_where_auto_release_is_off_nothing_is_done(
    platform: Platform, suspects: tuple[UUID, UUID, UUID]
) -> None:
    chats = {chat.chat_id: chat for chat in read(platform).chats}

    assert chats[suspects[0]].verdict == Verdict("nothing", "auto-release is off")
    assert "stuck:silent" in chats[suspects[0]].reasons


def test_one_failing_list_leaves_the_others(platform: Platform) -> None:
    late = builders.make_waiting_chat(platform, age_s=400)
    platform.execute("DROP TABLE operator_activity CASCADE")

    listing = read(platform)

    assert [chat.chat_id for chat in listing.chats] == [late]
    assert [problem.partition(":")[0] for problem in listing.problems] == ["chats/idle_detector"]


@pytest.fixture(scope="module")
def filled(postgres_server: LocalServer) -> Iterator[Platform]:
    """Many chats that wait for their user, and a few others."""
    with clone_platform(postgres_server) as platform:
        fill(platform)
        yield platform


@pytest.mark.parametrize("each", choose_lists(LISTS, ()), ids=lambda each: each.query.name)
def test_what_is_asked_by_default_reads_no_big_table_whole(
    filled: Platform, each: ChatList
) -> None:
    values = {**whole_plan_of(SETTINGS).parameters, "chats_limit": MOST_CHATS}
    with filled.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
        text = f"EXPLAIN (FORMAT JSON, ANALYZE) {each.query.sql}"
        named = {name: values[name] for name in each.query.parameters}
        ((answer,),) = connection.execute(text.encode(), named).fetchall()
    nodes = list(walk(answer[0]["Plan"]))

    whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert whole & BIG == set()
    assert rows_read(nodes, "chats") <= 120
    assert rows_read(nodes, "messages") <= 40 * 8


Ask = Callable[..., Result]


@pytest.fixture
def ask(platform: Platform, tmp_path: Path) -> Ask:
    """Run the command in this process."""

    def ask(*flags: str, dsn: str = platform.dsn) -> Result:
        config = write_config(tmp_path, {"main": dsn})
        result = CliRunner().invoke(cli, ["chats", "--config.file", str(config), *flags])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return ask


def test_piped_output_is_one_line_per_chat_in_fixed_columns(platform: Platform, ask: Ask) -> None:
    late = builders.make_waiting_chat(platform, age_s=400)

    result = ask()

    head, line = result.stdout.splitlines()
    assert head.split("\t") == [
        *("database", "chat", "state", "age_seconds", "unanswered_seconds", "operator"),
        *("seen_seconds", "reasons", "auto_release"),
    ]
    cells = line.split("\t")
    assert cells[:3] == ["main", str(late), "waiting_assignment"]
    assert cells[5:] == ["-", "-", "overdue:critical,overdue:warning,unanswered,waiting", "nothing"]
    assert "invalid:lost_reply" in result.stderr
    assert result.exit_code == 1


def test_the_exit_code_says_whether_a_chat_is_in_trouble(platform: Platform, ask: Ask) -> None:
    builders.make_waiting_chat(platform, age_s=20)

    assert ask().exit_code == 0
    unreachable = ask(dsn="host=127.0.0.1 port=1")
    assert unreachable.exit_code == 2
    assert "main: unknown: the database is unavailable" in unreachable.stderr
    wrong = ask("--reason", "overdu")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("chatqueue: --reason overdu is unknown, expected one of ")


def test_json_has_the_documented_shape(platform: Platform, ask: Ask) -> None:
    ann = builders.add_operator(platform, "Ann")
    held = builders.make_assigned_chat(platform, ann, age_s=800, heartbeat_s=30)
    builders.make_waiting_chat(platform, age_s=400)

    (document,) = json.loads(ask("--json", "--limit", "1").stdout)

    assert document.keys() == {"database", "at", "total", "problems", "not_asked", "chats"}
    assert (document["database"], document["total"]) == ("main", 2)
    (chat,) = document["chats"]
    ages = [chat.pop(f"{name}_seconds") for name in ("age", "unanswered", "seen")]
    assert all(isinstance(age, float) for age in ages)
    assert chat == {
        "chat": str(held),
        "state": "assigned",
        "reasons": ["overdue:warning", "unanswered"],
        "operator": str(ann),
        "operator_name": "Ann",
        "auto_release": {"decision": "nothing", "guard": None, "why": "auto-release is off"},
    }


def test_a_hostile_name_is_text_in_a_terminal(
    platform: Platform, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = builders.add_operator(platform, HOSTILE)
    held = builders.make_assigned_chat(platform, ann, age_s=800, heartbeat_s=30)
    monkeypatch.setattr("exporter.cli.chats._is_terminal", lambda: True)

    result = ask()

    assert [line for line in result.stdout.splitlines() if line.startswith(str(held))] == [
        str(held)
    ]
    assert "  named <b>\\x1b[31m[red]\\u202eevil\\u2066\\n\\t'\"nnnn" in result.stdout
    assert not set(result.stdout) & set("\x1b\u202e\u2066\t")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert ask("--operator", HOSTILE).exit_code == 1


def test_names_that_are_personal_data_are_not_shown(platform: Platform) -> None:
    ann = builders.add_operator(platform, "Ann")
    builders.make_assigned_chat(platform, ann, age_s=800)

    (chat,) = read(platform, operators={"label": "id"}).chats

    assert (chat.operator_id, chat.operator) == (ann, None)


def test_its_connection_is_read_only_limited_and_says_whose_it_is(
    platform: Platform,
) -> None:
    plan = whole_plan_of()
    connection = Connection(platform.dsn, program=PROGRAM)
    probe = replace(
        LISTS[0].query,
        needs=(),
        parameters=(),
        sql="SELECT current_setting('application_name') AS name,"
        " current_setting('transaction_read_only') AS read_only,"
        " current_setting('statement_timeout') AS statement,"
        " current_setting('lock_timeout') AS lock",
    )
    try:
        (outcome,) = connection.poll([QueryRequest(probe)], (), plan.parameters).outcomes
    finally:
        connection.close()

    (row,) = outcome.rows
    assert row["name"].startswith("chatqueue-chats ")
    assert (row["read_only"], row["statement"]) == ("on", "10s")
    assert row["lock"] != "0"
