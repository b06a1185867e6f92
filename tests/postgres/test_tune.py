"""The episodes that `chatqueue tune` reads, against a recount of the rows, and what that costs."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.database.session import Session
from exporter.demo.simulation import Simulation
from exporter.ops.tune import history
from exporter.ops.tune.episodes import Episode, Message, Writer
from exporter.ops.tune.history import LeftOut, read_episodes, read_extent
from tests import builders
from tests.servers import PgBouncer, Platform

SHORTEST_S = 120.0
USER, HOLDER, OTHER = Writer

newest = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)


def make_history(platform: Platform) -> None:
    """Of each kind one, for a threshold of 10 minutes: right, wrong, closing and open."""
    right, wrong, closing = (builders.make_waiting_chat(platform, age_s=9000) for _ in range(3))
    operators = [builders.add_operator(platform) for _ in range(3)]
    for chat, operator in zip((right, wrong, closing), operators, strict=True):
        is_wrong = chat == wrong
        builders.add_assignment(
            platform,
            chat,
            operator,
            assigned_s=7200,
            released_s=6000,
            reason="operator_sent_message" if is_wrong else "idle_timeout",
        )
        if is_wrong:
            builders.add_message(platform, chat, "fictional", age_s=6000, operator=operator)
    for turn in range(3):
        builders.add_assignment(
            platform, closing, operators[0], assigned_s=8500 - turn, released_s=8400 - turn
        )
    builders.make_assigned_chat(platform, age_s=3600, heartbeat_s=1800)
    builders.make_assigned_chat(platform, age_s=3600, heartbeat_s=5)


def read(
    platform: Platform, dsn: str | None = None, **options: Any
) -> tuple[list[Episode], LeftOut]:
    """Every episode of the last 14 days, and what was left out."""
    left_out = LeftOut()
    with Session(dsn or platform.dsn) as session:
        extent = read_extent(session, 14)
        options = {"shortest_s": SHORTEST_S, **options}
        return list(read_episodes(session, extent, left_out, **options)), left_out


def rounded(episode: Episode | None) -> Any:
    """An episode whose times can be compared with others that were computed otherwise."""
    if episode is None:
        return None
    times = (episode.assigned_s, episode.ended_s, episode.beat_s)
    return (
        *(None if at_s is None else round(at_s, 4) for at_s in times),
        episode.owed,
        [(round(message.at_s, 4), message.writer) for message in episode.messages],
        episode.past_turns,
    )


class Recount:
    """All rows of the tables, and the episodes that plain loops make of them."""

    def __init__(self, platform: Platform, now: datetime.datetime) -> None:
        self.now = now
        self.turns: dict[Any, list[Any]] = defaultdict(list)
        for row in platform.fetch(
            "SELECT id, chat_id, operator_id, assigned_at, released_at,"
            " coalesce(release_reason, ''), created_at FROM chat_assignments"
        ):
            self.turns[row[1]].append(row)
        self.messages: dict[Any, list[Any]] = defaultdict(list)
        for chat, *row in platform.fetch(
            "SELECT chat_id, created_at, sender_type, handled_by_operator_id FROM messages"
            " ORDER BY created_at, sender_type DESC"
        ):
            self.messages[chat].append(row)
        self.held = dict(
            platform.fetch(
                "SELECT id, assigned_operator_id FROM chats"
                " WHERE is_active AND chat_state = 'assigned'"
            )
        )
        self.beats = {
            (chat, operator): max(updated_at, last_activity)
            for chat, operator, updated_at, last_activity in platform.fetch(
                "SELECT chat_id, operator_id, updated_at, last_activity FROM operator_activity"
            )
        }
        self.left_out = LeftOut()

    def episodes(self) -> list[Episode]:
        """In the order of their beginning."""
        rows = [row for rows in self.turns.values() for row in rows]
        begun = [row for row in rows if row[3] is not None and row[3] < self.now]
        begun.sort(key=lambda row: (row[3], row[0].int))
        return [e for row in begun if (e := self._episode(row)) is not None]

    def _episode(self, row: Any) -> Episode | None:
        key, chat, operator, assigned_at, released_at, reason, created_at = row
        if chat is None or operator is None:
            self.left_out.names_nobody += 1
            return None
        others = [other for other in self.turns[chat] if other[0] != key]
        if released_at is not None and (
            released_at in (assigned_at, created_at)
            or (
                reason.startswith("manual_reassignment_by_admin")
                and any(
                    o[2] == operator
                    and o[3] is not None
                    and o[3] <= released_at
                    and (o[4] is None or o[4] > released_at)
                    for o in others
                )
            )
        ):
            self.left_out.admin_rows += 1
            return None
        ends = [] if released_at is None else [released_at]
        for _, _, who, at, until, why, _ in others:
            if at is not None and at > assigned_at:
                ends.append(at)
            if (
                why.startswith("manual_reassignment_by_admin")
                and who == operator
                and until is not None
                and until >= assigned_at
            ):
                ends.append(until)
        ended_at = min(ends, default=None)
        is_open = ended_at is None and self.held.get(chat) == operator
        until = self.now if ended_at is None else ended_at
        messages, owed = self._messages(chat, operator, assigned_at, until)
        answers = [message.at_s for message in messages if message.writer is HOLDER]
        ended_s = None if ended_at is None else ended_at.timestamp()
        if ended_at is None and not is_open:
            if not answers:
                self.left_out.end_unknown += 1
                return None
            ended_s = answers[0]
        elif ended_s is not None and not answers and reason == "operator_sent_message":
            messages.append(Message(ended_s, HOLDER))
        beat = self.beats.get((chat, operator)) if is_open else None
        return Episode(
            assigned_at.timestamp(),
            ended_s,
            owed,
            tuple(messages),
            None if beat is None else beat.timestamp(),
            sum(o[4] is not None and o[4] <= assigned_at for o in others),
        )

    def _messages(
        self, chat: Any, operator: Any, since: datetime.datetime, until: datetime.datetime
    ) -> tuple[list[Message], bool]:
        """Those within, runs of the user's cut to their first, and whether he waited before."""
        if (until - since).total_seconds() < SHORTEST_S:
            return [], False
        found: list[Message] = []
        owed = False
        for at, sender, who in self.messages[chat]:
            if at < since:
                owed = sender == "real"
            elif at <= until:
                writer = USER if sender == "real" else HOLDER if who in (None, operator) else OTHER
                if writer is not USER or not found or found[-1].writer is not USER:
                    found.append(Message(at.timestamp(), writer))
        return found, owed


def assert_read_as_recounted(platform: Platform) -> int:
    """Compare what is read, in pages of several sizes, with a recount; return how many."""
    for page_rows in (1000, 2):
        left_out = LeftOut()
        with Session(platform.dsn) as session:
            extent = read_extent(session, 14)
            read_ones = list(
                read_episodes(session, extent, left_out, shortest_s=SHORTEST_S, page_rows=page_rows)
            )
        recount = Recount(platform, extent.now_at)
        assert list(map(rounded, read_ones)) == list(map(rounded, recount.episodes()))
        assert left_out == recount.left_out
    return len(read_ones)


@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
@pytest.mark.parametrize(
    ("scenario", "seed"), [("dead-idle-detector", 1), ("vanished-operators", 2), ("rush", 3)]
)
def test_a_simulated_day_is_read_as_a_recount_of_its_rows_tells_it(
    platform: Platform, scenario: str, seed: int
) -> None:
    Simulation(platform.dsn, seed=seed, scenario=scenario).seed_history(2)

    assert assert_read_as_recounted(platform) > 500


# Few chats, operators and moments, so that everything collides with everything.
MOMENTS = st.integers(0, 7)
ROWS = st.tuples(
    st.integers(0, 2) | st.none(),
    st.integers(0, 1) | st.none(),
    MOMENTS | st.none(),
    MOMENTS | st.none(),
    st.sampled_from(
        (None, "operator_sent_message", "idle_timeout", "manual_reassignment_by_admin:x")
    ),
    MOMENTS | st.none(),
)
MESSAGES = st.tuples(
    st.integers(0, 2),
    st.sampled_from(("real", "fictional")),
    st.integers(0, 1) | st.none(),
    MOMENTS,
)


@pytest.fixture
def loose_platform(platform: Platform) -> Platform:
    """Three chats and two operators, and columns that may be NULL."""
    for column in ("chat_id", "operator_id", "assigned_at", "created_at"):
        platform.execute(f"ALTER TABLE chat_assignments ALTER COLUMN {column} DROP NOT NULL")
    for _ in range(2):
        builders.add_operator(platform)
    for _ in range(3):
        builders.add_chat(platform)
    return platform


@pytest.mark.timeout(300)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROWS, max_size=8),
    messages=st.lists(MESSAGES, max_size=10),
    held=st.tuples(*[st.integers(0, 1) | st.none()] * 3),
    beats=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), MOMENTS, MOMENTS), max_size=4),
)
# An admin took the chat at the very moment at which the same operator got it again.
@pytest.mark.newest
@pytest.mark.slow
@example(
    rows=[
        (0, 0, 1, 3, "manual_reassignment_by_admin:x", 1),
        (0, 0, 3, 6, None, 3),
    ],
    messages=[],
    held=(None, None, None),
    beats=[],
)
def test_any_history_is_read_as_a_recount_of_its_rows_tells_it(
    loose_platform: Platform,
    rows: list[Any],
    messages: list[Any],
    held: tuple[int | None, ...],
    beats: list[Any],
) -> None:
    platform = loose_platform
    chats = [row[0] for row in platform.fetch("SELECT id FROM chats ORDER BY id")]
    operators = [row[0] for row in platform.fetch("SELECT id FROM operators ORDER BY id")]
    start = platform.value("SELECT now()") - datetime.timedelta(seconds=600)

    def moment(number: int | None) -> datetime.datetime | None:
        return None if number is None else start + datetime.timedelta(seconds=60 * number)

    def pick(ids: list[UUID], number: int | None) -> UUID | None:
        return None if number is None else ids[number]

    with platform.connect() as connection, connection.transaction():
        for table in ("chat_assignments", "messages", "operator_activity"):
            connection.execute(f"DELETE FROM {table}".encode())
        for chat, operator, assigned, released, reason, created in rows:
            connection.execute(
                "INSERT INTO chat_assignments (chat_id, operator_id, assigned_at, released_at,"
                " release_reason, created_at) VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    pick(chats, chat),
                    pick(operators, operator),
                    moment(assigned),
                    moment(released),
                    reason,
                    moment(created),
                ),
            )
        for chat, sender, operator, at in messages:
            connection.execute(
                "INSERT INTO messages (chat_id, sender_type, content, handled_by_operator_id,"
                " created_at) VALUES (%s, %s, 'x', %s, %s)",
                (chats[chat], sender, pick(operators, operator), moment(at)),
            )
        for chat, operator in enumerate(held):
            connection.execute(
                "UPDATE chats SET assigned_operator_id = %s, chat_state = %s WHERE id = %s",
                (
                    pick(operators, operator),
                    "waiting_assignment" if operator is None else "assigned",
                    chats[chat],
                ),
            )
        for chat, operator, browser_at, at in beats:
            connection.execute(
                "INSERT INTO operator_activity (chat_id, operator_id, last_activity, updated_at)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (chats[chat], operators[operator], moment(browser_at), moment(at)),
            )

    assert_read_as_recounted(platform)
    with Session(platform.dsn) as session:
        assert read_extent(session, 14).without_time == sum(row[2] is None for row in rows)


@newest
def test_progress_goes_from_page_to_page(platform: Platform) -> None:
    make_history(platform)
    parts: list[float] = []
    read(platform, page_rows=3, on_progress=parts.append)

    assert len(parts) == 3
    assert parts == sorted(parts)
    assert parts[0] > 0
    assert parts[-1] < 1


def test_a_page_needs_no_session_of_its_own(platform: Platform, pgbouncer: PgBouncer) -> None:
    make_history(platform)

    assert len(read(platform, pgbouncer.dsn(platform.database), page_rows=1)[0]) == 8


@newest
def test_every_transaction_is_read_only_and_short(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_history(platform)
    seen: list[tuple[str, str, str]] = []
    rows = Session.rows

    def spy(self: Session, statement: str, values: Any = None) -> Any:
        found = rows(self, statement, values)
        if statement == history._SQL["page"]:
            (row,) = rows(
                self,
                "SELECT current_setting('transaction_read_only') AS reads,"
                " current_setting('statement_timeout') AS ends, now()::text AS began",
            )
            seen.append((row["reads"], row["ends"], row["began"]))
        return found

    monkeypatch.setattr(Session, "rows", spy)
    read(platform, page_rows=4)

    assert {one[:2] for one in seen} == {("on", "30s")}
    assert len({began for *_, began in seen}) == len(seen) == 3


# What it costs.


def plan_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node and all below it."""
    yield node
    for below in node.get("Plans", ()):
        yield from plan_nodes(below)


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_a_page_reads_only_what_it_counts_by_the_platforms_indexes(
    platform: Platform, at: float
) -> None:
    builders.add_people(platform, users=20_000, operators=1)
    with builders.restoring(platform):
        platform.execute(
            """
            WITH chat AS (
                INSERT INTO chats (real_user_id, fictional_user_id, created_at)
                SELECT u.id, f.id, now() - make_interval(mins => (row_number() OVER ())::int)
                FROM real_users AS u CROSS JOIN fictional_users AS f
                RETURNING id, created_at
            ),
            message AS (
                INSERT INTO messages (chat_id, sender_type, content, created_at)
                SELECT chat.id, 'real', 'text', chat.created_at + make_interval(secs => k)
                FROM chat CROSS JOIN generate_series(1, 3) AS k
            )
            INSERT INTO chat_assignments (chat_id, operator_id, assigned_at, released_at)
            SELECT chat.id, o.id, chat.created_at, chat.created_at + interval '5 minutes'
            FROM chat CROSS JOIN operators AS o
            """
        )
    platform.execute("ANALYZE")
    now_at = platform.value("SELECT now()")
    values = {
        "now_at": now_at,
        "after_at": now_at - datetime.timedelta(days=13 * (1 - at)),
        "after_id": history._FIRST_ID,
        "rows": 50,
        "shortest_s": SHORTEST_S,
    }
    with platform.connect() as connection, connection.transaction():
        connection.execute(history.FRUGAL)
        cursor = connection.execute(
            b"EXPLAIN (ANALYZE, FORMAT JSON) " + history._SQL["page"].encode(), values
        )
        ((answer,),) = cursor.fetchall()
    nodes = list(plan_nodes(answer[0]["Plan"]))
    looked_at: dict[str, float] = defaultdict(float)
    for node in nodes:
        if "Relation Name" in node:
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            looked_at[node["Relation Name"]] += rows * node["Actual Loops"]

    assert [n["Relation Name"] for n in nodes if n["Node Type"] == "Seq Scan"] in (
        [],
        ["operator_activity"],  # which is empty here, and never read
    )
    # The page, a look at the one after it to sort, and each chat's own rows.
    assert 50 <= looked_at["chat_assignments"] <= 200
    assert looked_at["messages"] <= 50 * 5
    assert looked_at["chats"] == looked_at["operator_activity"] == 0
