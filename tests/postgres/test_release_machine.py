"""Random histories on a real server: the invariants hold after every step, whatever came before.

Time passes by shifting every time in the database into the past, ours included. What is true is
read by SQL of this file, not by that of the product.
"""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from exporter.demo.platform import application
from exporter.release.attempt import ReleaseRequest
from exporter.release.facts import Decision, Evidence
from exporter.release.statements import STATEMENTS
from exporter.release.transaction import STEPS
from tests import builders
from tests.postgres.test_releaser import make_releaser
from tests.release import (
    assert_audit_and_releases_agree,
    checksum,
    install,
    make_engine,
    make_limits,
)
from tests.servers import Platform

STUCK_S, COOLDOWN_S, SILENCE_S = 900.0, 3600.0, 180.0
PER_HOUR, BURST = 20.0, 3.0
LIMITS = {
    "burst": BURST,
    "alongside_idle_detector": True,
    "confirm_polls": 2,
    "confirm_for_s": 0.0,
}
# Every time there is; `updated_at` must not be stamped by the trigger while time passes.
TIMES = {
    "chats": (
        *("created_at", "updated_at", "last_message_at", "assignment_time"),
        "operator_replied_at",
    ),
    "chat_assignments": ("assigned_at", "released_at", "created_at"),
    "operator_activity": ("last_activity", "updated_at"),
    "messages": ("created_at",),
    "chatqueue.release_control": (
        *("paused_until", "tripped_at", "healthy_since", "healthy_at", "tokens_at"),
    ),
    "chatqueue.release_audit": ("decided_at",),
    "chatqueue.release_exemption": ("until",),
}
# The latest sign of life of each assigned chat's operator, as an age, and the open rows that no
# admin's reassignment superseded.
TRUTH = """
    SELECT c.id, a.id, extract(EPOCH FROM now() - greatest(
        c.assignment_time, a.assigned_at,
        (SELECT max(greatest(h.last_activity, CASE %(life)s WHEN 'tab' THEN h.updated_at END))
         FROM operator_activity h
         WHERE h.chat_id = c.id AND h.operator_id = c.assigned_operator_id),
        (SELECT max(m.created_at) FROM messages m
         WHERE m.chat_id = c.id AND m.handled_by_operator_id = c.assigned_operator_id)))
    FROM chats c LEFT JOIN chat_assignments a
        ON a.chat_id = c.id AND a.released_at IS NULL
        AND (a.operator_id = c.assigned_operator_id
             OR NOT EXISTS (
                SELECT FROM chat_assignments q
                WHERE q.chat_id = a.chat_id AND q.operator_id = a.operator_id AND q.id <> a.id
                AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                AND q.released_at > a.assigned_at))
    WHERE c.chat_state = 'assigned' AND c.is_active
"""
index = st.integers(0, 99)


class Machine(RuleBasedStateMachine):
    """A platform that lives, and two releasers with their hand in it."""

    platform: Platform
    life = "tab"
    releases = 0
    released_named = 0

    def __init__(self) -> None:
        super().__init__()
        self.run("TRUNCATE chats, operators, real_users, fictional_users CASCADE")
        self.run("SET session_replication_role = replica")
        self.run("TRUNCATE chatqueue.release_audit, chatqueue.release_exemption")
        self.run("SET session_replication_role = origin")
        self.run("DELETE FROM chatqueue.release_control")
        self.run("INSERT INTO chatqueue.release_control DEFAULT VALUES")
        self.operators = [builders.add_operator(self.platform) for _ in range(6)]
        rules = {**LIMITS, "life": self.life}
        self.releasers = [make_releaser(self.platform, **rules) for _ in range(2)]
        self.observer = make_releaser(self.platform, **{**rules, "mode": "observe"})
        self.engine = make_engine(self.platform, limits=make_limits(**rules))
        self.closed = 0
        self.stale: list[Evidence] = []
        self.passed_s = 0.0

    def teardown(self) -> None:
        """Close every connection."""
        for releaser in (*self.releasers, self.observer):
            releaser.stop(1)
        self.engine.session.close()

    def run(self, statement: str, values: Any = None) -> None:
        """Run one statement."""
        self.platform.execute(statement, values)

    def pick(self, number: int) -> tuple[UUID, UUID] | None:
        """One of the assigned chats and its operator."""
        rows = self.platform.fetch(
            "SELECT id, assigned_operator_id FROM chats WHERE chat_state = 'assigned' ORDER BY id"
        )
        return rows[number % len(rows)] if rows else None

    @rule(number=index)
    def assign(self, number: int) -> None:
        """A user comes, and an operator who is free takes the chat."""
        builders.make_waiting_chat(self.platform, age_s=5)
        free = [
            row[0]
            for row in self.platform.fetch(
                "SELECT id FROM operators o WHERE NOT EXISTS (SELECT FROM chats c WHERE"
                " c.assigned_operator_id = o.id AND c.chat_state = 'assigned') ORDER BY id"
            )
        ]
        if free:
            application.assign(self.platform.connection, free[number % len(free)])

    @rule(number=index, skew_s=st.sampled_from([0.0, 0.0, -7200.0, 7200.0]))
    def beat(self, number: int, skew_s: float) -> None:
        """A heartbeat, by a browser whose clock may be wrong."""
        if picked := self.pick(number):
            application.beat(self.platform.connection, *picked, skew_s=skew_s)

    @rule(number=index)
    def show_open_tab(self, number: int) -> None:
        """A heartbeat without any input since the one before."""
        if picked := self.pick(number):
            self.run(
                "UPDATE operator_activity SET last_activity = last_activity WHERE chat_id = %s",
                [picked[0]],
            )

    @rule(number=index)
    def beat_late(self, number: int) -> None:
        """A heartbeat by somebody who has the chat no longer; it makes his row again."""
        gone = self.platform.fetch(
            "SELECT DISTINCT chat_id, operator_id FROM chat_assignments ORDER BY 1, 2"
        )
        if gone:
            application.beat(self.platform.connection, *gone[number % len(gone)])

    @rule()
    def beat_all(self) -> None:
        """Everybody but one is there."""
        self.run(
            "UPDATE operator_activity SET last_activity = now() WHERE id <>"
            " (SELECT min(id::text)::uuid FROM operator_activity)"
        )

    @rule(number=index, which=st.integers(0, 1), polls=st.integers(1, 4))
    def vanish(self, number: int, which: int, polls: int) -> None:
        """One operator is gone for long enough while the others beat, and a releaser looks on."""
        self.assign(number)
        picked = self.pick(number)
        self.tick(1000.0)
        if picked:
            self.run(
                "UPDATE operator_activity SET last_activity = now() WHERE chat_id <> %s",
                [picked[0]],
            )
        self.remember(number)
        self.poll(which, polls)

    @rule(number=index, steps=st.integers(1, len(application.REPLY_STEPS)))
    def reply(self, number: int, steps: int) -> None:
        """An operator answers; the application may die between two of its writes."""
        if picked := self.pick(number):
            values = {"chat": picked[0], "operator": picked[1], "content": "x"}
            for step in application.REPLY_STEPS[:steps]:
                self.platform.connection.execute(step, values)

    @rule(number=index)
    def write_as_user(self, number: int) -> None:
        """A user writes to a chat that is assigned."""
        if picked := self.pick(number):
            application.write_as_user(self.platform.connection, picked[0], "?")

    @rule(number=index, how=st.sampled_from(["unassign", "reassign"]))
    def take_away(self, number: int, how: str) -> None:
        """Somebody else ends the assignment."""
        if picked := self.pick(number):
            if how == "unassign":
                application.unassign(self.platform.connection, picked[0])
            else:
                named = self.operators[number % len(self.operators)]
                application.reassign_as_admin(self.platform.connection, picked[0], named, "x")

    @rule(number=index)
    def name_another(self, number: int) -> None:
        """An admin gives a chat to somebody who never comes, and a releaser looks on."""
        self.assign(number)
        if picked := self.pick(number):
            named = self.operators[(number + 1) % len(self.operators)]
            application.reassign_as_admin(self.platform.connection, picked[0], named, "x")
            self.tick(1000.0)
            self.run(
                "UPDATE operator_activity SET last_activity = now() WHERE chat_id <> %s",
                [picked[0]],
            )
            self.remember(number)
            self.poll(number % 2, 3)

    @rule(number=index, how=st.sampled_from(["page", "job", "force close", "block"]))
    def end(self, number: int, how: str) -> None:
        """The platform's own ways out of a chat, which may close it, or fail."""
        on, picked = self.platform.connection, self.pick(number)
        if how == "job":
            application.run_idle_detector(on)
        elif picked and how == "page":
            with contextlib.suppress(psycopg.errors.DataError):
                application.time_out_operator(on, picked[0])
        elif picked:
            with contextlib.suppress(psycopg.errors.CheckViolation):
                if how == "force close":
                    application.force_close(on, picked[0])
                else:
                    user = self.platform.value(
                        "SELECT real_user_id FROM chats WHERE id = %s", [picked[0]]
                    )
                    application.block_user(on, user)
        self.closed = self.platform.value("SELECT count(*) FROM chats WHERE NOT is_active")

    @rule(seconds=st.sampled_from([15.0, 60.0, 200.0, 600.0, 1000.0, 4000.0]))
    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.passed_s += seconds
        self.run("SET session_replication_role = replica")
        for table, columns in TIMES.items():
            moved = ", ".join(f"{c} = {c} - make_interval(secs => {seconds})" for c in columns)
            self.run(f"UPDATE {table} SET {moved}")
        self.run("SET session_replication_role = origin")

    @rule(minutes=st.sampled_from([1, 30]))
    def pause(self, minutes: int) -> None:
        """A person pauses releases."""
        self.run(STATEMENTS["pause"], {"seconds": minutes * 60, "reason": "x", "by": "y"})

    @rule()
    def resume(self) -> None:
        """And ends the pause."""
        self.run(STATEMENTS["resume"])

    @rule(number=index)
    def exempt(self, number: int) -> None:
        """A chat is to be left alone for a while."""
        if picked := self.pick(number):
            self.run(
                STATEMENTS["exempt"],
                {"kind": "chat", "subject": picked[0], "seconds": 600, "by": "x", "reason": "y"},
            )

    @rule(value=st.sampled_from([99, 99, 3, 1, "3"]))
    def reconfigure(self, value: Any) -> None:
        """The platform's limit of turns changes, or becomes unreadable."""
        builders.set_config(self.platform, "max_reassignments", value)

    @rule(number=index)
    def remember(self, number: int) -> None:
        """Observe a chat, to order its release much later."""
        look, _ = self.engine.scan()
        if look.chats:
            self.stale.append(look.chats[number % len(look.chats)])

    @rule(which=st.integers(0, 1), times=st.integers(1, 3))
    def poll(self, which: int, times: int) -> None:
        """A releaser polls."""
        for _ in range(times):
            self.guarded(self.releasers[which].poll)

    @rule(step=st.sampled_from(STEPS), number=index)
    def order_and_kill(self, step: str, number: int) -> None:
        """A release of what was once observed, cut at some step."""
        if not self.stale:
            return

        def kill(name: str) -> None:
            if name == step:
                self.run(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
                    " application_name LIKE 'chatqueue-releaser%%' AND datname = %s",
                    [self.platform.database],
                )

        engine = make_engine(self.platform, limits=self.engine.limits, on_step=kill)
        order = ReleaseRequest(self.stale[number % len(self.stale)], "enforce")
        result = engine.release(order)
        engine.session.close()
        assert result.decision is not Decision.RELEASED

    @rule(number=index)
    def order_in_both_modes(self, number: int) -> None:
        """I8 and I9: what observe says is what enforce does, on what was once observed."""
        if not self.stale:
            return
        observed = self.stale[number % len(self.stale)]
        before = checksum(self.platform)
        said = self.engine.release(ReleaseRequest(observed, "observe")).decision
        assert checksum(self.platform) == before
        done: list[Decision] = []
        self.guarded(
            lambda: done.append(self.engine.release(ReleaseRequest(observed, "enforce")).decision)
        )
        same = {Decision.WOULD_RELEASE: Decision.RELEASED}.get(said, said)
        assert done == [same]
        if done == [Decision.RELEASED]:
            assert self.platform.value(
                "SELECT count(*) FROM chat_assignments WHERE id = %s AND release_reason LIKE"
                " 'auto_release:%%'",
                [observed.assignment_id],
            )

    @rule()
    def observe(self) -> None:
        """I8: a releaser that observes changes nothing."""
        before = checksum(self.platform)
        self.observer.poll()
        assert checksum(self.platform) == before

    def guarded(self, act: Any) -> None:
        """Let something release, and hold every release against the truth from just before."""
        truth = self.platform.fetch(TRUTH, {"life": self.life})
        released = self.audited()
        is_paused = self.platform.value(
            "SELECT coalesce(paused_until > now(), false) FROM chatqueue.release_control"
        )
        exempt = {
            row[0]
            for row in self.platform.fetch(
                "SELECT subject FROM chatqueue.release_exemption WHERE until > now()"
            )
        }
        beat_s = self.platform.value(
            "SELECT extract(EPOCH FROM now() - max(updated_at)) FROM operator_activity"
        )
        chats = {chat for chat, _, _ in truth}
        opens = [chat for chat, assignment, _ in truth if assignment]
        stuck = [
            (chat, assignment)
            for chat, assignment, silent_s in truth
            if assignment and silent_s >= STUCK_S and opens.count(chat) == 1
        ]
        outage = len(stuck) >= 3 and len(stuck) > 0.2 * len(chats)

        act()

        new = [row for row in self.audited() if row not in released]
        for chat, assignment in new:
            assert (chat, assignment) in stuck, "I2"
            assert not is_paused, "I5"
            assert chat not in exempt
            type(self).released_named += self.platform.value(
                "SELECT count(*) FROM chat_assignments WHERE chat_id = %s AND released_at IS NULL",
                [chat],
            )
        type(self).releases += len(new)
        if new:
            assert not outage, "I7"
            assert len(chats) < 2 or (beat_s is not None and beat_s < SILENCE_S + 1), "I7"

    def audited(self) -> list[Any]:
        """Every release so far."""
        return self.platform.fetch(
            "SELECT chat_id, assignment_id FROM chatqueue.release_audit"
            " WHERE outcome <> 'escalated' ORDER BY decided_at"
        )

    @invariant()
    def nothing_is_closed_and_the_audit_agrees(self) -> None:
        """I1 and I3."""
        assert_audit_and_releases_agree(self.platform, self.closed)

    @invariant()
    def no_chat_is_released_twice_within_its_cooldown(self) -> None:
        """I4."""
        assert (
            self.platform.value(
                "SELECT count(*) FROM chatqueue.release_audit a JOIN chatqueue.release_audit b"
                " ON a.id < b.id AND a.outcome <> 'escalated' AND b.outcome <> 'escalated'"
                " AND (a.assignment_id = b.assignment_id OR a.chat_id = b.chat_id"
                " AND abs(extract(EPOCH FROM a.decided_at - b.decided_at)) < %s)",
                [COOLDOWN_S - 1],
            )
            == 0
        )

    @invariant()
    def the_rate_holds(self) -> None:
        """I6; the test's own time counts too, so a little is added."""
        assert len(self.audited()) <= BURST + PER_HOUR * (self.passed_s + 60) / 3600


@pytest.mark.newest  # the engine and its locks on 15: test_release_engine.py
@pytest.mark.timeout(300)
@pytest.mark.parametrize("life", ["tab", "input"])
def test_the_invariants_hold_after_every_step_of_any_history(platform: Platform, life: str) -> None:
    install(platform)

    class On(Machine):
        """The machine on this test's database."""

    On.platform, On.life = platform, life
    run_state_machine_as_test(
        On,
        settings=hypothesis.settings(
            max_examples=10,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    assert On.releases > 0, "a machine that never releases proves nothing"
    assert On.released_named > 0, "nor does one that releases none whom an admin has named"
