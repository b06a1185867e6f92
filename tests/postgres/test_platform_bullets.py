"""The application's writes, played by hand, and every figure against a recount in plain SQL.

One test for each way in which the platform's state moves: what is done is written as the
application does it, statement by statement, and what the watch says of the whole platform is
compared with what a person would count by hand, in SQL that knows nothing of the watch's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg
import pytest

from exporter.demo.platform import application
from tests import builders
from tests.counting import Watcher
from tests.postgres.test_queries_support import whole_plan_of
from tests.servers import Platform

TRANSITIONS = "chatqueue_state_transitions_total"

# What holds whatever happened: the figure, and the rows that a person would count for it.
STANDING = {
    ("chatqueue_chats", "waiting_assignment"): (
        "SELECT count(*) FROM chats WHERE is_active AND chat_state = 'waiting_assignment'"
    ),
    ("chatqueue_chats", "assigned"): (
        "SELECT count(*) FROM chats WHERE is_active AND chat_state = 'assigned'"
    ),
    ("chatqueue_chats", "waiting_real_user_reply"): (
        "SELECT count(*) FROM chats WHERE is_active AND chat_state = 'waiting_real_user_reply'"
    ),
    ("chatqueue_platform_queue_chats", "waiting"): (
        "SELECT total_waiting FROM get_assignment_queue_status()"
    ),
    ("chatqueue_empty_waiting_chats",): (
        "SELECT count(*) FROM chats c WHERE is_active AND chat_state = 'waiting_assignment'"
        " AND (SELECT count(*) FROM messages m WHERE m.chat_id = c.id) = 0"
    ),
    ("chatqueue_unanswered_chats",): (
        "SELECT count(*) FROM chats c WHERE is_active"
        " AND chat_state IN ('waiting_assignment', 'assigned') AND 'real' = (SELECT sender_type"
        " FROM messages m WHERE m.chat_id = c.id ORDER BY created_at DESC LIMIT 1)"
    ),
    ("chatqueue_operators", "disabled"): "SELECT count(*) FROM operators WHERE NOT is_active",
    ("chatqueue_operators", "on_chat"): (
        "SELECT count(DISTINCT assigned_operator_id) FROM chats"
        " WHERE is_active AND chat_state = 'assigned'"
    ),
    ("chatqueue_operator_window_assignments", "1h"): (
        "SELECT count(*) FROM chat_assignments WHERE release_reason IS NULL"
        " OR release_reason NOT LIKE 'manual_reassignment_by_admin:%'"
    ),
    ("chatqueue_platform_disagreement", "queue_waiting_chats"): "SELECT 0",
    ("chatqueue_platform_disagreement", "queue_assigned_chats"): "SELECT 0",
    ("chatqueue_platform_disagreement", "summary_waiting_chats"): "SELECT 0",
}
# Of what happened since the watch began, on a platform that was empty then.
HAPPENED = {
    ("chatqueue_messages_total", "customer"): (
        "SELECT count(*) FROM messages WHERE sender_type = 'real'"
    ),
    ("chatqueue_messages_total", "operator"): (
        "SELECT count(*) FROM messages WHERE sender_type = 'fictional'"
    ),
    ("chatqueue_assignments_total",): STANDING["chatqueue_operator_window_assignments", "1h"],
    ("chatqueue_releases_total", "replied"): (
        "SELECT count(*) FROM chat_assignments WHERE release_reason = 'operator_sent_message'"
    ),
    ("chatqueue_releases_total", "customer_replied"): (
        "SELECT count(*) FROM chat_assignments"
        " WHERE release_reason = 'real_user_replied_after_operator'"
    ),
    ("chatqueue_releases_total", "idle_timeout"): (
        "SELECT count(*) FROM chat_assignments"
        " WHERE release_reason IN ('idle_timeout', 'operator_idle_timeout')"
    ),
    ("chatqueue_idle_releases_total", "job"): (
        "SELECT count(*) FROM chat_assignments WHERE release_reason LIKE 'idle_timeout%'"
    ),
    ("chatqueue_idle_releases_total", "page"): (
        "SELECT count(*) FROM chat_assignments WHERE release_reason LIKE 'operator_idle_timeout%'"
    ),
    ("chatqueue_releases_total", "admin"): (
        "SELECT count(*) FROM chat_assignments"
        " WHERE release_reason LIKE 'manual_reassignment_by_admin:%'"
    ),
    ("chatqueue_releases_total", "manual"): (
        "SELECT count(*) FROM chat_assignments WHERE release_reason = 'manual_unassign'"
    ),
    ("chatqueue_releases_total", "closed"): (
        "SELECT count(*) FROM chat_assignments"
        " WHERE release_reason LIKE '% - max reassignments reached'"
    ),
}


@dataclass
class Stage:
    """An empty platform that is watched, its people, and what the test says has happened."""

    platform: Platform
    watcher: Watcher
    moved: dict[tuple[str, str], float] = field(default_factory=dict)
    invalid: dict[str, float] = field(default_factory=dict)

    @property
    def run(self) -> application.PlatformConnection:
        return self.platform.connection

    def start(self, content: str | None = "Hello") -> UUID:
        chat = uuid4()
        application.open_chat(self.run, chat, uuid4())
        if content:
            application.write_as_user(self.run, chat, content)
        return chat

    def take(self) -> tuple[UUID, UUID]:
        """A new chat, and the operator who took it."""
        chat, operator = self.start(), builders.add_operator(self.platform)
        assert application.assign(self.run, operator) == chat
        self.move("waiting_assignment", "assigned")
        return chat, operator

    def move(self, before: str, after: str, times: int = 1) -> None:
        self.moved[before, after] = self.moved.get((before, after), 0) + times


Act = Callable[[Stage], None]


@pytest.fixture
def stage(platform: Platform) -> Iterator[Stage]:
    names = [query.name for query in whole_plan_of().queries]
    # Nothing is forgiven: what lasts an instant counts, so every half-done write must be meant.
    with Watcher(platform, names, checks={"grace": "0s"}) as watcher:
        watcher.poll_well()
        yield Stage(platform, watcher)


def starts(stage: Stage) -> None:
    """A chat waits before anything was written in it."""
    stage.start(content=None)
    stage.start()


def user_writes(stage: Stage) -> None:
    chat, operator = stage.take()
    application.write_as_user(stage.run, chat, "While it is assigned it stays so")
    application.reply(stage.run, chat, operator, "Yes")
    stage.move("assigned", "waiting_real_user_reply")
    assert application.write_as_user(stage.run, chat, "And?")
    stage.move("waiting_real_user_reply", "waiting_assignment")


def user_writes_into_a_closed_chat(stage: Stage) -> None:
    chat, operator = stage.take()
    application.reply(stage.run, chat, operator, "Bye")
    stage.move("assigned", "waiting_real_user_reply")
    application.force_close(stage.run, chat)
    application.write_as_user(stage.run, chat, "Are you there?")
    stage.invalid["closed_but_written_to"] = 1


def operator_writes_half(stage: Stage) -> None:
    """The row is left open; the user's next message closes it only where the operator is set."""
    chat, operator = stage.take()
    for step in application.REPLY_STEPS[:2]:
        stage.platform.execute(step, {"chat": chat, "operator": operator, "content": "Yes"})
    application.write_as_user(stage.run, chat, "And?")
    stage.move("waiting_real_user_reply", "waiting_assignment")
    stage.invalid["orphaned_assignment"] = 1


def user_writes_before_the_operator_is_cleared(stage: Stage) -> None:
    chat, operator = stage.take()
    application.reply(stage.run, chat, operator, "Yes")
    stage.move("assigned", "waiting_real_user_reply")
    # As a half-done reply leaves it: the operator is set, his row is open.
    stage.platform.execute(
        "UPDATE chats SET assigned_operator_id = %s, assignment_time = now() WHERE id = %s",
        (operator, chat),
    )
    stage.platform.execute("UPDATE chat_assignments SET released_at = NULL, release_reason = NULL")
    application.write_as_user(stage.run, chat, "And?")
    stage.move("waiting_real_user_reply", "waiting_assignment")


def late_heartbeat(stage: Stage) -> None:
    """A beat after the release makes the row again; rows of earlier holders are ordinary."""
    chat, operator = stage.take()
    application.reply(stage.run, chat, operator, "Yes")
    stage.move("assigned", "waiting_real_user_reply")
    application.beat(stage.run, chat, operator, skew_s=300)


def idle_detector_runs(stage: Stage) -> None:
    chat, operator = stage.take()
    stage.platform.execute("UPDATE chats SET assignment_time = now() - interval '6 minutes'")
    application.beat(stage.run, chat, operator, idle_s=360)
    assert application.run_idle_detector(stage.run)
    stage.move("assigned", "waiting_assignment")


def page_gives_back(stage: Stage) -> None:
    chat, _ = stage.take()
    assert application.time_out_operator(stage.run, chat)
    stage.move("assigned", "waiting_assignment")


def operator_unassigns(stage: Stage) -> None:
    chat, _ = stage.take()
    application.unassign(stage.run, chat)
    stage.move("assigned", "waiting_assignment")


def admin_reassigns(stage: Stage) -> None:
    chat, _ = stage.take()
    named = builders.add_operator(stage.platform, available=False)
    application.reassign_as_admin(stage.run, chat, named, "shift ends")
    stage.move("assigned", "assigned")


def admin_assigns_what_waits_for_its_user(stage: Stage) -> None:
    chat, operator = stage.take()
    application.reply(stage.run, chat, operator, "Yes")
    stage.move("assigned", "waiting_real_user_reply")
    application.reassign_as_admin(stage.run, chat, operator, "ask again")
    stage.move("waiting_real_user_reply", "assigned")


def admin_gives_a_second_chat(stage: Stage) -> None:
    _, busy = stage.take()
    chat, _ = stage.take()
    application.reassign_as_admin(stage.run, chat, busy, "he knows the user")
    stage.move("assigned", "assigned")
    stage.invalid["operator_on_several_chats"] = 2


def admin_closes(stage: Stage) -> None:
    """A waiting chat keeps its state; on an assigned one it fails."""
    application.force_close(stage.run, stage.start())
    # The user wrote this very second: that he had written before, nothing says. (10 s later it is
    # the close that touched the chat last.)
    stage.platform.execute("UPDATE messages SET created_at = created_at - interval '20 seconds'")
    chat, _ = stage.take()
    with pytest.raises(psycopg.errors.CheckViolation):
        application.force_close(stage.run, chat)


def admin_blocks_in_vain(stage: Stage) -> None:
    chat, _ = stage.take()
    user = stage.platform.value("SELECT real_user_id FROM chats WHERE id = %s", (chat,))
    with contextlib.suppress(psycopg.errors.CheckViolation):
        application.block_user(stage.run, user)
    stage.invalid["active_chat_of_blocked_user"] = 1


def limit_closes(stage: Stage) -> None:
    builders.set_config(stage.platform, "max_reassignments", 1)
    chat, _ = stage.take()
    assert application.release(stage.run, chat, "idle_timeout")
    stage.move("assigned", "waiting_assignment")
    assert application.assign(stage.run, builders.add_operator(stage.platform)) == chat
    stage.move("waiting_assignment", "assigned")
    assert application.release(stage.run, chat, "idle_timeout") is False
    stage.move("assigned", "completed")


ACTS: tuple[Act, ...] = (
    starts,
    user_writes,
    user_writes_into_a_closed_chat,
    operator_writes_half,
    user_writes_before_the_operator_is_cleared,
    late_heartbeat,
    idle_detector_runs,
    page_gives_back,
    operator_unassigns,
    admin_reassigns,
    admin_assigns_what_waits_for_its_user,
    admin_gives_a_second_chat,
    admin_closes,
    admin_blocks_in_vain,
    limit_closes,
)


@pytest.mark.parametrize("act", ACTS, ids=[act.__name__ for act in ACTS])
def test_every_figure_equals_a_recount_after(stage: Stage, act: Act) -> None:
    act(stage)
    stage.watcher.poll_well()
    stage.watcher.poll_well()  # and nothing is counted twice

    recounted = {**STANDING, **HAPPENED}
    expected = {figure: stage.platform.value(sql) for figure, sql in recounted.items()}
    found = {figure: stage.watcher.value(figure[0], *figure[1:]) for figure in recounted}
    assert found == expected
    assert {k: v for k, v in stage.watcher.samples(TRANSITIONS).items() if v} == stage.moved
    assert stage.watcher.counts("chatqueue_invalid_chats") == stage.invalid
    assert set(stage.watcher.samples("chatqueue_same_operator_assignments_total").values()) == {0}
