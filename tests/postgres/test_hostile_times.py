"""A time that says nothing, in any column that the queries read, hides no wait and stops no query.

One row is given infinity, -infinity, the year 12000 or a time five hours ahead. Every built-in
query then answers as before for all other rows; the row itself is counted, and has no age; and a
check names the kind. Where the platform's own function fails, the reason says what to look for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest

from exporter.demo.postgres import LocalServer
from tests import builders
from tests.counting import Watcher
from tests.postgres.test_queries_support import stop_clock, whole_plan_of
from tests.servers import Platform, clone_platform

VALUES = {
    "infinity": ("'infinity'", "time_infinite"),
    "-infinity": ("'-infinity'", "time_infinite"),
    "the year 12000": ("'12000-01-01 00:00+00'", "time_in_future"),
    "five hours ahead": ("now() + interval '5 hours'", "time_in_future"),
}
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Row:
    """Which row gets the time: the chat's, or one that belongs to it."""

    table: str
    column: str
    state: str
    condition: str = "chat_id = %(chat)s"


def _rows() -> list[Row]:
    chat = "id = %(chat)s"
    replied = "waiting_real_user_reply"
    rows = [
        Row("chats", column, state, chat)
        for state in ("waiting_assignment", "assigned", replied)
        for column in ("created_at", "updated_at", "last_message_at")
    ]
    rows.append(Row("chats", "assignment_time", "assigned", chat))
    rows.append(Row("chats", "operator_replied_at", replied, chat))
    for state in ("waiting_assignment", "assigned", replied):
        for sender in ("real", "fictional"):
            whose = f"chat_id = %(chat)s AND sender_type = '{sender}'"
            rows.append(Row("messages", "created_at", state, whose))
        ended = "chat_id = %(chat)s AND released_at IS NOT NULL"
        rows.append(Row("chat_assignments", "assigned_at", state, ended))
        rows.append(Row("chat_assignments", "released_at", state, ended))
        rows.append(Row("chat_assignments", "created_at", state, ended))
    opened = "chat_id = %(chat)s AND released_at IS NULL"
    rows.append(Row("chat_assignments", "assigned_at", "assigned", opened))
    rows.append(Row("operator_activity", "last_activity", "assigned"))
    rows.append(Row("operator_activity", "updated_at", "assigned"))
    rows.append(Row("operators", "last_activity", "assigned", "name = 'Victor, assigned'"))
    rows.append(
        Row("real_users", "updated_at", "assigned",
            "id = (SELECT real_user_id FROM chats WHERE id = %(chat)s)")
    )  # fmt: skip
    return rows


ROWS = _rows()

# No check looks at these: nothing is reckoned from them.
UNCHECKED = {"chat_assignments.created_at", "real_users.updated_at"}
# A heartbeat's last_activity is a browser's clock, an operator's may be; a day ahead is not hours.
CLOCKS_OF_OTHERS = {"operator_activity.last_activity", "operators.last_activity"}

# What the bad row's own figures may be, by table and column; everything else is as it was. Means
# and spreads of ages lose the row's age.
AGES = {"chatqueue_state_mean_age_seconds", "chatqueue_state_age_chats"}
OWN: dict[str, set[str]] = {
    "chats.created_at": {
        "chatqueue_oldest_chat_created_timestamp_seconds",
        "chatqueue_newest_chat_created_timestamp_seconds",
        "chatqueue_platform_queue_oldest_age_seconds",
        "chatqueue_platform_queue_mean_age_seconds",
        "chatqueue_platform_disagreement",
    },
    "chats.updated_at": {"chatqueue_platform_stuck_chats"},
    "chats.last_message_at": set(),
    "chats.assignment_time": {"chatqueue_idle_overdue_chats"},
    "chats.operator_replied_at": set(),
    "messages.created_at": {
        "chatqueue_operators_required",
        "chatqueue_queue_drain_seconds",
        "chatqueue_platform_disagreement",
        "chatqueue_waits_total",
        "chatqueue_waits_breached_total",
    },
    "chat_assignments.assigned_at": {
        "chatqueue_operator_chats",
        "chatqueue_operator_window_assignments",
        "chatqueue_operator_share_max_ratio",
        "chatqueue_operator_gini_ratio",
        "chatqueue_operators_required",
        "chatqueue_queue_drain_seconds",
    },
    "chat_assignments.released_at": {
        "chatqueue_operators_required",
        "chatqueue_queue_drain_seconds",
        "chatqueue_platform_disagreement",
    },
    "chat_assignments.created_at": set(),
    "operator_activity.last_activity": {"chatqueue_idle_overdue_chats", "chatqueue_operators"},
    "operator_activity.updated_at": {"chatqueue_operators"},
    "operators.last_activity": set(),
    "real_users.updated_at": set(),
}
# The platform's own functions reckon with these.
PLATFORMS = {
    "chats.created_at": {"queue_status", "disagreement"},
    "chats.updated_at": {"stuck_chats"},
}


def make_chat(platform: Platform, state: str) -> UUID:
    """A chat with a past turn, younger than all others of its state."""
    operator = builders.add_operator(platform, f"Victor, {state}")
    if state == "waiting_real_user_reply":
        return builders.make_replied_chat(platform, operator, age_s=30)
    chat = builders.make_assigned_chat(platform, operator, age_s=20, past_turns=1)
    if state == "waiting_assignment":
        for table in ("operator_activity", "chat_assignments"):
            open_only = "AND released_at IS NULL" if table == "chat_assignments" else ""
            platform.execute(f"DELETE FROM {table} WHERE chat_id = %s {open_only}", (chat,))
        platform.execute(
            "UPDATE chats SET chat_state = %s, assigned_operator_id = NULL, assignment_time = NULL"
            " WHERE id = %s",
            (state, chat),
        )
        builders.restore_stamp(platform, chat, 20)
    return chat


@pytest.fixture(scope="module")
def victims(postgres_server: LocalServer) -> Iterator[tuple[Platform, dict[str, UUID]]]:
    """A platform whose clock stands still, and a chat in each state beside an older one."""
    with clone_platform(postgres_server) as platform:
        stop_clock(platform)
        builders.make_waiting_chat(platform, age_s=700, created_s=DAY_S)
        builders.make_assigned_chat(platform, age_s=900, created_s=DAY_S, past_turns=1)
        builders.make_replied_chat(platform, age_s=900)
        states = ("waiting_assignment", "assigned", "waiting_real_user_reply")
        yield platform, {state: make_chat(platform, state) for state in states}


@contextlib.contextmanager
def stamped(platform: Platform, row: Row, literal: str, chat: UUID) -> Iterator[None]:
    """Give the row that time, and its own back."""
    rows = platform.fetch(
        f"SELECT id, {row.column} FROM {row.table} WHERE {row.condition}", {"chat": chat}
    )
    assert rows
    with builders.restoring(platform):
        platform.execute(
            f"UPDATE {row.table} SET {row.column} = {literal} WHERE {row.condition}",
            {"chat": chat},
        )
    try:
        yield
    finally:
        with builders.restoring(platform):
            for identity, value in rows:
                platform.execute(
                    f"UPDATE {row.table} SET {row.column} = %s WHERE id = %s", (value, identity)
                )


def samples(watcher: Watcher) -> dict[tuple[str, ...], float]:
    """Every sample, by metric and label values."""
    return {
        (family.name + sample.suffix, *(value for _, value in sample.labels)): sample.value
        for result in watcher.worker.snapshot.results
        for family in result.families
        for sample in family.samples
    }


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "row", ROWS, ids=[f"{row.table}.{row.column} of {row.state} {row.condition}" for row in ROWS]
)
def test_a_time_that_says_nothing_is_left_out_and_counted(
    victims: tuple[Platform, dict[str, UUID]],
    capsys: pytest.CaptureFixture[str],
    row: Row,
    value: str,
) -> None:
    platform, chats = victims
    literal, check = VALUES[value]
    name = f"{row.table}.{row.column}"
    queries = [query.name for query in whole_plan_of().queries]
    with Watcher(platform, queries) as watcher:
        watcher.poll_well()
        before = samples(watcher)
        with stamped(platform, row, literal, chats[row.state]):
            done = watcher.poll()
        after = samples(watcher)

        failed = watcher.names - done
        assert failed <= (PLATFORMS.get(name, set()) if check == "time_infinite" else set()), (
            watcher.errors()
        )
        said = " ".join(capsys.readouterr().out.split())
        assert said.count("a row that it reads has a time of infinity or -infinity") == len(failed)

        is_seen = name not in UNCHECKED and not (
            name in CLOCKS_OF_OTHERS and value == "five hours ahead"
        )
        assert watcher.counts("chatqueue_invalid_chats") == ({check: 1} if is_seen else {})

        changed = {
            key: (figure, after.get(key))
            for key, figure in before.items()
            if after.get(key) != figure and key[0] != "chatqueue_invalid_chats"
        }
        assert {key[0] for key in changed} <= OWN[name] | AGES, changed
        # It is there all the same.
        assert after["chatqueue_state_age_chats", row.state, "+Inf"] == 2


@pytest.mark.parametrize("sender", ["real", "fictional"])
@pytest.mark.parametrize("value", VALUES)
def test_no_wait_hides_behind_a_message_whose_time_says_nothing(
    platform: Platform, value: str, sender: str
) -> None:
    """The user of a new chat waits for ten minutes, whatever its messages' times say."""
    literal, _ = VALUES[value]
    chat = builders.make_waiting_chat(platform, age_s=600)
    if sender == "fictional":
        builders.add_message(platform, chat, "fictional", age_s=300)
    with builders.restoring(platform):
        platform.execute(
            f"UPDATE messages SET created_at = {literal} WHERE sender_type = '{sender}'"
        )
    with Watcher(platform, ["state_clock", "customer_wait"]) as watcher:
        watcher.poll_well()

        oldest_s = watcher.value("chatqueue_state_oldest_age_seconds", "waiting_assignment")
        assert oldest_s == pytest.approx(600, abs=10)
        wait_s = watcher.value("chatqueue_customer_oldest_wait_seconds")
        assert wait_s == pytest.approx(600, abs=10)
        assert watcher.value("chatqueue_unanswered_chats") == 1
        assert watcher.value("chatqueue_empty_waiting_chats") == 0
        overdue = "chatqueue_state_overdue_chats"
        assert watcher.value(overdue, "waiting_assignment", "critical") == 1
