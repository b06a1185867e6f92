"""The judge: silent about a lawful release, and each invariant, once broken by hand, is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from exporter.demo.platform import application
from exporter.demo.postgres import LocalServer
from tests import builders
from tests.chaos.judge import CHECKS, OBSERVER, find_breaches, install_history, mark
from tests.release import install, make_limits, reassign_long_ago, release
from tests.servers import Platform, clone_platform, run_server

LIMITS = make_limits(burst=3.0, chat_releases=2)
HASHES = {LIMITS.config_hash: LIMITS}
DAEMON = "chaos_daemon_0"
STUCK_S = 1800.0


@pytest.fixture(scope="module")
def history_server() -> Iterator[LocalServer]:
    """A server that remembers when what was committed."""
    with run_server("pg18", track_commit_timestamp="on") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            for role in (DAEMON, OBSERVER):
                admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER".encode())
        yield server


@pytest.fixture
def history(history_server: LocalServer) -> Iterator[Platform]:
    """A platform whose history is written, with others alive on it."""
    with clone_platform(history_server) as platform:
        install(platform)
        install_history(platform.connection)
        builders.add_operator(platform)
        for _ in range(8):
            builders.make_assigned_chat(platform, age_s=STUCK_S)
        yield platform


def make_stuck(platform: Platform) -> UUID:
    """A chat that was stuck long enough to be confirmed as well."""
    chat = builders.make_assigned_chat(platform, age_s=STUCK_S, heartbeat_s=STUCK_S)
    platform.execute("UPDATE chaos.sign SET at = at - interval '1 h' WHERE chat_id = %s", [chat])
    return chat


def force(
    on: Any, chat: UUID, *, audit: bool = True, call: bool = True, assignment: UUID | None = None
) -> None:
    """Release a chat without a look at anything, in one transaction."""
    name, config_hash = uuid4(), LIMITS.config_hash
    with on.transaction():
        if audit:
            on.execute(
                "INSERT INTO chatqueue.release_audit (id, assignment_id, chat_id, operator_id,"
                " outcome, actor, daemon, policy, config_hash, evidence)"
                " SELECT %s, coalesce(%s, a.id), a.chat_id, a.operator_id,"
                " 'released', 'x', 'x', '1', %s, '{}' FROM chat_assignments a"
                " WHERE a.chat_id = %s AND a.released_at IS NULL",
                [name, assignment, config_hash, chat],
            )
        if call:
            on.execute("SELECT release_and_reassign_chat(%s, %s)", [chat, f"auto_release:{name}"])


def assign_stuck(platform: Platform, chat: UUID) -> None:
    """Give a waiting chat to an operator who took it long ago."""
    operator = builders.add_operator(platform)
    application.assign(platform.connection, operator)
    platform.execute(
        "UPDATE chat_assignments SET assigned_at = now() - interval '1 h'"
        " WHERE chat_id = %s AND released_at IS NULL",
        [chat],
    )
    platform.execute("DELETE FROM operator_activity WHERE chat_id = %s", [chat])
    platform.execute(
        "UPDATE chaos.sign SET sign = now() - interval '1 h', at = at - interval '1 h'"
        " WHERE chat_id = %s AND at > now() - interval '30 min'",
        [chat],
    )


def breaches(platform: Platform) -> dict[str, list[str]]:
    """What the judge says."""
    return find_breaches(platform.connection, HASHES)


def test_lawful_releases_and_ordinary_life_are_no_breach(history: Platform) -> None:
    on = history.connection
    mark(on, "paused")
    mark(on, "resuming")
    for _ in range(2):
        chat = make_stuck(history)
        assert release(history, chat, limits=LIMITS).decision == "released"
        mark(on, "refill", value=3600.0)
    due = make_stuck(history)
    mark(on, "due", due)
    force(on, due)
    operator = builders.add_operator(history)
    taken = application.assign(on, operator)
    assert taken is not None
    application.reply(on, taken, operator, "x")
    application.force_close(on, taken)
    named = make_stuck(history)
    reassign_long_ago(on, named, builders.add_operator(history), STUCK_S)
    history.execute("UPDATE chaos.sign SET sign = at - interval '1 h', at = at - interval '1 h'")
    assert release(history, named, limits=LIMITS).decision == "released"

    assert breaches(history) == {}


def close(platform: Platform) -> None:
    """I1."""
    chat = make_stuck(platform)
    with platform.connect(DAEMON) as daemon:
        application.remove_fault(daemon, chat)


def close_by_release(platform: Platform) -> None:
    """I1: the platform's function closes it, in the release itself."""
    builders.set_config(platform, "max_reassignments", 0)
    force(platform.connection, make_stuck(platform))


def release_one_who_lives(platform: Platform) -> None:
    """I2."""
    chat = make_stuck(platform)
    application.beat(platform.connection, chat, _operator(platform, chat))
    platform.execute("UPDATE chaos.sign SET at = at - interval '1 h' WHERE chat_id = %s", [chat])
    force(platform.connection, chat)


def release_one_who_wrote(platform: Platform) -> None:
    """I2: by a message alone."""
    chat = make_stuck(platform)
    builders.add_message(platform, chat, "fictional", operator=_operator(platform, chat))
    platform.execute("UPDATE chaos.sign SET at = at - interval '1 h' WHERE chat_id = %s", [chat])
    force(platform.connection, chat)


def audit_nothing(platform: Platform) -> None:
    """I3."""
    force(platform.connection, make_stuck(platform), call=False)


def audit_not(platform: Platform) -> None:
    """I3: and the other way round."""
    force(platform.connection, make_stuck(platform), audit=False)


def lose_the_audit(platform: Platform) -> None:
    """I3: the row is gone in the end."""
    force(platform.connection, make_stuck(platform))
    platform.execute("SET session_replication_role = replica")
    platform.execute("DELETE FROM chatqueue.release_audit")
    platform.execute("SET session_replication_role = origin")


def release_twice(platform: Platform) -> None:
    """I4."""
    chat = make_stuck(platform)
    force(platform.connection, chat)
    assign_stuck(platform, chat)
    force(platform.connection, chat)


def release_three_times(platform: Platform) -> None:
    """I4: each after its cooldown, but too many within the window."""
    chat = make_stuck(platform)
    for number in range(3):
        if number:
            assign_stuck(platform, chat)
        force(platform.connection, chat)
        mark(platform.connection, "refill", value=3600.0)
        platform.execute("UPDATE chaos.release SET at = at - interval '2 h'")
        platform.execute("UPDATE chaos.mark SET at = at - interval '2 h'")
        platform.execute(
            "UPDATE chaos.sign SET at = at - interval '2 h', sign = sign - interval '2 h'"
        )


def release_in_a_pause(platform: Platform) -> None:
    """I5."""
    mark(platform.connection, "paused")
    force(platform.connection, make_stuck(platform))
    mark(platform.connection, "resuming")


def commit_in_a_pause(platform: Platform) -> None:
    """I5: it began before."""
    chat = make_stuck(platform)
    with platform.connect() as other, other.transaction():
        force(other, chat)
        mark(platform.connection, "paused")


def release_too_many(platform: Platform) -> None:
    """I6."""
    for _ in range(4):
        force(platform.connection, make_stuck(platform))


def release_while_tripped(platform: Platform) -> None:
    """I7."""
    platform.execute("UPDATE chatqueue.release_control SET tripped_at = now()")
    force(platform.connection, make_stuck(platform))


def release_in_an_outage(platform: Platform) -> None:
    """I7: too many are stuck, whether the breaker knows or not."""
    chats = [make_stuck(platform) for _ in range(12)]
    force(platform.connection, chats[0])


def release_without_a_sensor(platform: Platform) -> None:
    """I7: nobody's heartbeat arrives."""
    platform.execute("UPDATE chaos.sign SET beat = beat - interval '1 h'")
    force(platform.connection, make_stuck(platform))


def release_by_unknown_rules(platform: Platform) -> None:
    """I7: nobody configured that."""
    force(platform.connection, make_stuck(platform))
    platform.execute("UPDATE chaos.release SET config_hash = 'x'")


def write_as_observer(platform: Platform) -> None:
    """I8."""
    chat = make_stuck(platform)
    with platform.connect(OBSERVER) as observer:
        application.beat(observer, chat, _operator(platform, chat))


def release_the_unconfirmed(platform: Platform) -> None:
    """I9: it had only just come to look like this."""
    chat = builders.make_assigned_chat(platform, age_s=STUCK_S, heartbeat_s=STUCK_S)
    force(platform.connection, chat)


def release_another(platform: Platform) -> None:
    """I9: what the audit names is not what was closed."""
    force(platform.connection, make_stuck(platform), assignment=uuid4())


def leave_one_stuck(platform: Platform) -> None:
    """I10."""
    mark(platform.connection, "due", make_stuck(platform))


BROKEN: tuple[tuple[str, Callable[[Platform], None]], ...] = (
    ("I1", close),
    ("I1", close_by_release),
    ("I2", release_one_who_lives),
    ("I2", release_one_who_wrote),
    ("I3", audit_nothing),
    ("I3", audit_not),
    ("I3", lose_the_audit),
    ("I4", release_twice),
    ("I4", release_three_times),
    ("I5", release_in_a_pause),
    ("I5", commit_in_a_pause),
    ("I6", release_too_many),
    ("I7", release_while_tripped),
    ("I7", release_in_an_outage),
    ("I7", release_without_a_sensor),
    ("I7", release_by_unknown_rules),
    ("I8", write_as_observer),
    ("I9", release_the_unconfirmed),
    ("I9", release_another),
    ("I10", leave_one_stuck),
)
# What is broken along with it, for it cannot be broken alone.
ALONG = {
    close_by_release: {"I3", "I9"},
    audit_nothing: {"I9"},
}


@pytest.mark.parametrize(
    ("name", "breaks"), BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_invariant_is_named(
    name: str, breaks: Callable[[Platform], None], history: Platform
) -> None:
    breaks(history)

    assert set(breaches(history)) == {name, *ALONG.get(breaks, set())}


def test_every_invariant_is_broken_by_one_of_these() -> None:
    assert {name for name, _ in BROKEN} == set(CHECKS)


def _operator(platform: Platform, chat: UUID) -> UUID:
    """Whose chat it is."""
    return platform.value("SELECT assigned_operator_id FROM chats WHERE id = %s", [chat])
