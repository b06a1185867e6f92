"""The releaser poll by poll, inside the daemon, and by a person's hand on the command line."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli import cli
from exporter.daemon import Daemon
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.errors import DatabaseUnavailable, Reason
from exporter.notify.notices import Notice
from exporter.release import admin, memory
from exporter.release import releaser as releaser_module
from exporter.release.admin import SchemaMissing
from exporter.release.facts import Limits, Trip
from exporter.release.releaser import ReleasePlan, Releaser
from exporter.release.transaction import Engine
from tests import builders
from tests.release import (
    Ear,
    assert_audit_and_releases_agree,
    checksum,
    figures_of,
    install,
    make_limits,
    make_stuck_chat,
    state_of,
)
from tests.servers import Platform
from tests.watch import SLACK_S, run_watch, write_config

AT_ONCE = {"confirm_polls": 1, "confirm_for_s": 0.0}


class BadEar:
    """A notifier with a defect."""

    def notify(self, notice: Notice) -> None:
        """Break."""
        raise RuntimeError(notice.title)


def make_releaser(platform: Platform, notifier: Any = None, **changes: Any) -> Releaser:
    """A releaser without its thread; a test calls `poll`."""
    limits: Limits = make_limits(**changes)
    plan = ReleasePlan("main", platform.dsn, (), 5.0, 15.0, limits)
    return Releaser(plan, daemon="test", notifier=notifier)


def states_over_polls(releaser: Releaser, platform: Platform, chat: UUID) -> list[str]:
    """A chat's state after each of three polls."""
    states = []
    for _ in range(3):
        releaser.poll()
        states.append(state_of(platform, chat)[0])
    return states


def test_a_chat_is_released_after_three_polls_that_saw_the_same(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    ear = Ear()
    releaser = make_releaser(platform, ear, confirm_for_s=0.0)

    states = states_over_polls(releaser, platform, chat)
    releaser.stop(1)

    assert states == ["assigned", "assigned", "waiting_assignment"]
    assert ear.names == ["released"]
    assert ear.notices[0].fields["chat"] == str(chat)
    assert "silence" in ear.notices[0].fields["evidence"]
    assert figures_of(releaser)["decisions_total.released"] == 1
    assert [(event.decision, event.outcome) for event in releaser.state.events] == [
        ("released", "released")
    ]
    assert figures_of(releaser)["tokens"] == 5  # as of the look, before the release
    assert_audit_and_releases_agree(platform)


def test_a_change_starts_the_confirmation_over(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    releaser = make_releaser(platform, confirm_for_s=0.0)

    for _ in range(2):
        releaser.poll()
    platform.execute("ALTER TABLE operator_activity DISABLE TRIGGER ALL")
    platform.execute("UPDATE operator_activity SET last_activity = last_activity + interval '1 s'")
    for _ in range(2):
        releaser.poll()

    releaser.stop(1)
    assert state_of(platform, chat)[0] == "assigned"
    assert not any(key.startswith("decisions") for key in figures_of(releaser))


def test_a_poll_that_failed_starts_the_confirmation_over(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    releaser = make_releaser(platform, confirm_for_s=0.0)

    states = []
    for number in range(6):
        if number == 2:
            platform.execute("ALTER TABLE messages RENAME TO hidden")
        releaser.poll()
        if number == 2:
            platform.execute("ALTER TABLE hidden RENAME TO messages")
        states.append(state_of(platform, chat)[0])

    releaser.stop(1)
    assert states == ["assigned"] * 5 + ["waiting_assignment"]
    assert figures_of(releaser)["decisions_total.error"] == 1


def test_a_connection_that_is_closed_between_polls_delays_nothing(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    releaser = make_releaser(platform, confirm_for_s=0.0)

    for _ in range(3):
        releaser.poll()
        platform.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
            " application_name LIKE 'chatqueue-releaser%%' AND datname = %s",
            [platform.database],
        )

    releaser.stop(1)
    assert state_of(platform, chat)[0] == "waiting_assignment"
    assert_audit_and_releases_agree(platform)


class DeafEngine(Engine):
    """Commits once without hearing of it."""

    def _step_commit(self, attempt: Any) -> None:
        connection = self.session._connection
        assert connection is not None
        connection.execute("COMMIT")
        connection.close()
        super()._step_commit(attempt)


def test_an_unanswered_commit_is_settled_before_anything_else(platform: Platform) -> None:
    install(platform)
    chats = [make_stuck_chat(platform, silent_s=s) for s in (5000, 4000)]
    builders.make_assigned_chat(platform)
    ear = Ear()
    releaser = make_releaser(platform, ear, **AT_ONCE)
    engine = releaser._engine
    releaser._engine = DeafEngine(Session(platform.dsn), engine.limits, daemon="test")

    releaser.poll()
    assert (ear.names, state_of(platform, chats[1])[0]) == ([], "assigned")
    releaser._engine = engine
    releaser.poll()

    releaser.stop(1)
    assert ear.names == ["released", "released"]
    assert figures_of(releaser)["decisions_total.unknown"] == 1
    assert_audit_and_releases_agree(platform)


def test_observe_says_it_once_and_changes_nothing(platform: Platform) -> None:
    install(platform)
    make_stuck_chat(platform)
    before = checksum(platform)
    ear = Ear()
    releaser = make_releaser(platform, ear, mode="observe", **AT_ONCE)

    for _ in range(4):
        releaser.poll()

    releaser.stop(1)
    assert checksum(platform) == before
    assert ear.names == ["would_release"]
    assert figures_of(releaser)["decisions_total.would_release"] == 1
    assert figures_of(releaser)["mode.observe"] == 1


def test_one_that_would_be_closed_is_escalated_once_by_all_releasers(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform, past_turns=3)
    ear = Ear()
    releasers = [make_releaser(platform, ear, **AT_ONCE) for _ in range(2)]

    for releaser in (*releasers, *releasers):
        releaser.poll()
        assert figures_of(releaser)["decisions_total.would_close"] == 1
        assert figures_of(releaser)["would_close_chats"] == 1

    for releaser in releasers:
        releaser.stop(1)
    assert ear.names == ["escalated"]
    assert state_of(platform, chat)[:2] == ("assigned", True)


def test_the_caps_of_a_poll_hold_and_the_longest_silent_goes_first(platform: Platform) -> None:
    install(platform)
    operator = builders.add_operator(platform)
    older, newer = (make_stuck_chat(platform, operator, silent_s=s) for s in (5000, 4000))
    builders.make_assigned_chat(platform)
    releaser = make_releaser(platform, **AT_ONCE)

    releaser.poll()

    releaser.stop(1)
    assert state_of(platform, older)[0] == "waiting_assignment"
    assert state_of(platform, newer)[0] == "assigned"


def test_chats_that_stay_held_do_not_bar_the_others(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(platform)
    monkeypatch.setattr(memory, "ATTEMPTS_PER_CYCLE", 2)
    for _ in range(4):
        make_stuck_chat(platform, past_turns=3, silent_s=5000)
    chat = make_stuck_chat(platform, silent_s=2000)
    builders.make_assigned_chat(platform)
    releaser = make_releaser(platform, breaker_at_least=99, **AT_ONCE)

    states = states_over_polls(releaser, platform, chat)
    releaser.stop(1)

    assert states == ["assigned", "assigned", "waiting_assignment"]


def make_never_releasable_chats(platform: Platform, count: int) -> None:
    """Make chats of which half would be closed and half belong to an exempt operator."""
    builders.add_people(platform, count, 1)
    platform.execute(
        """
        WITH made AS (
            INSERT INTO chats (
                real_user_id, fictional_user_id, chat_state, assigned_operator_id, assignment_time,
                last_operator_id
            )
            SELECT u.id, f.id, 'assigned', o.id, now() - interval '1 h', o.id
            FROM real_users AS u
            CROSS JOIN (SELECT id FROM fictional_users LIMIT 1) AS f
            CROSS JOIN (SELECT id FROM operators ORDER BY created_at DESC LIMIT 1) AS o
            WHERE NOT EXISTS (SELECT FROM chats AS c WHERE c.real_user_id = u.id)
            RETURNING id, assigned_operator_id, assignment_time
        ),
        numbered AS (SELECT *, row_number() OVER () AS n FROM made),
        closing AS (
            INSERT INTO chat_assignments (chat_id, operator_id, assigned_at, released_at)
            SELECT id, assigned_operator_id, assignment_time, assignment_time
            FROM numbered CROSS JOIN generate_series(1, 3)
            WHERE n % 2 = 0
        ),
        exempt AS (
            INSERT INTO chatqueue.release_exemption (kind, subject, until, created_by, reason)
            SELECT 'chat', id, now() + interval '1 d', 'ann', 'vip' FROM numbered WHERE n % 2 = 1
        )
        INSERT INTO chat_assignments (chat_id, operator_id, assigned_at)
        SELECT id, assigned_operator_id, assignment_time FROM made
        """
    )


@pytest.mark.newest
def test_a_thousand_that_can_never_be_released_bar_no_other(platform: Platform) -> None:
    install(platform)
    builders.make_assigned_chat(platform)
    builders.add_operator(platform)
    make_never_releasable_chats(platform, 1000)
    releaser = make_releaser(platform, breaker_at_least=9999, **AT_ONCE)
    releaser.poll()
    assert figures_of(releaser)["suspect_chats"] == 1000
    look, _ = releaser._engine.scan()
    for held in look.chats:  # as after 50 polls; see the unit test of the memory
        releaser._memory.of(held).tried_at_s = 0.0
    chat = make_stuck_chat(platform, silent_s=1000)  # silent for a shorter time than all of them
    builders.make_assigned_chat(platform)

    releaser.poll()

    releaser.stop(1)
    assert state_of(platform, chat)[0] == "waiting_assignment"
    assert figures_of(releaser)["decisions_total.released"] == 1
    counts = [figures_of(releaser)[f"decisions_total.{name}"] for name in ("exempt", "would_close")]
    assert sum(counts) == memory.ATTEMPTS_PER_CYCLE  # of one poll; what stays the same counts once
    assert min(counts) > 0


def test_a_cycle_releases_no_more_than_its_cap(platform: Platform) -> None:
    install(platform)
    for _ in range(5):
        make_stuck_chat(platform)
    for _ in range(3):
        builders.make_assigned_chat(platform)
    releaser = make_releaser(platform, breaker_at_least=99, **AT_ONCE)

    releaser.poll()

    releaser.stop(1)
    assert figures_of(releaser)["decisions_total.released"] == 3


def test_the_breaker_trips_tells_once_and_stays_for_every_replica(platform: Platform) -> None:
    install(platform)
    chats = [make_stuck_chat(platform) for _ in range(3)]
    builders.make_assigned_chat(platform)
    ear = Ear()
    releaser = make_releaser(platform, ear, **AT_ONCE)
    for _ in range(2):
        releaser.poll()
    releaser.stop(1)
    for chat in chats[1:]:
        application.unassign(platform.connection, chat)

    other = make_releaser(platform, Ear(), **AT_ONCE)
    other.poll()

    other.stop(1)
    assert ear.names == ["tripped"]
    assert figures_of(releaser)["breaker_tripped"] == 1
    assert figures_of(other)["decisions_total.breaker"] == 1
    assert state_of(platform, chats[0])[0] == "assigned"
    platform.execute(
        "UPDATE chatqueue.release_control SET healthy_since = now() - interval '11 min',"
        " healthy_at = now() - interval '1 s'"
    )
    third = make_releaser(platform, **AT_ONCE)
    third.poll()
    third.stop(1)
    assert state_of(platform, chats[0])[0] == "waiting_assignment"


def test_a_breaker_may_wait_for_a_person(platform: Platform) -> None:
    install(platform)
    chats = [make_stuck_chat(platform) for _ in range(3)]
    builders.make_assigned_chat(platform)
    ear = Ear()
    rules = {"breaker_hold_s": math.inf, **AT_ONCE}
    releaser = make_releaser(platform, ear, **rules)
    releaser.poll()
    for chat in chats[1:]:
        application.unassign(platform.connection, chat)
    for _ in range(2):
        releaser.poll()
        platform.execute(
            "UPDATE chatqueue.release_control SET healthy_since = now() - interval '1 year'"
        )
    assert state_of(platform, chats[0])[0] == "assigned"
    assert figures_of(releaser)["breaker_tripped"] == 1
    assert "only after `chatqueue resume`" in ear.notices[0].lines[1]
    with Session(platform.dsn) as session:
        admin.resume(session)
        releaser.poll()
        assert state_of(platform, chats[0])[0] == "assigned"  # that ended a pause alone

        admin.resume(session, breaker=True)

    releaser.poll()
    releaser.stop(1)
    assert state_of(platform, chats[0])[0] == "waiting_assignment"
    assert figures_of(releaser)["breaker_tripped"] == 0


def test_a_trip_that_could_not_be_noted_is_noted_with_the_next_look(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(platform)
    chats = [make_stuck_chat(platform) for _ in range(3)]
    builders.make_assigned_chat(platform)
    releaser = make_releaser(platform, **AT_ONCE)
    with monkeypatch.context() as patch:

        def fail(self: Engine, outage: bool, gap_s: float) -> Trip:
            raise DatabaseUnavailable("gone", Reason.CONNECTION)

        patch.setattr(Engine, "note_breaker", fail)
        releaser.poll()
    for chat in chats[1:]:
        application.unassign(platform.connection, chat)

    releaser.poll()

    releaser.stop(1)
    assert platform.value("SELECT tripped_at IS NOT NULL FROM chatqueue.release_control")
    assert state_of(platform, chats[0])[0] == "assigned"


def test_the_end_of_a_cycle_that_saw_the_database_is_shown(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "last_cycle_timestamp_seconds"
    releaser = make_releaser(platform, mode="observe")
    assert figures_of(releaser)[name] == 0
    releaser.poll()
    ended_s = figures_of(releaser)[name]
    assert ended_s == pytest.approx(time.time(), abs=60)

    def fail(self: Engine) -> None:
        raise DatabaseUnavailable("gone", Reason.CONNECTION)

    monkeypatch.setattr(Engine, "scan", fail)
    releaser.poll()

    releaser.stop(1)
    assert figures_of(releaser)[name] == ended_s


def test_a_releaser_whose_cycle_never_ends_is_not_healthy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    polling, end = threading.Event(), threading.Event()

    def hang(self: Releaser) -> None:
        polling.set()
        while not end.wait(0.01):
            self._note_step()

    monkeypatch.setattr(Releaser, "poll", hang)
    releaser = make_releaser(platform)
    releaser.start()
    assert polling.wait(10)
    assert releaser.is_alive()

    monkeypatch.setattr(releaser_module, "CYCLE_LIMIT_S", 0.0)

    assert not releaser.is_alive()
    end.set()
    releaser.stop(10)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("UPDATE chat_assignments SET released_at = now()", "no_open_assignment"),
        (
            (
                "INSERT INTO chat_assignments (chat_id, operator_id)"
                " SELECT id, assigned_operator_id FROM chats"
            ),
            "several_open_assignments",
        ),
        (
            (
                "UPDATE chat_assignments SET operator_id = (SELECT id FROM operators WHERE id <>"
                " chat_assignments.operator_id LIMIT 1)"
            ),
            "another_operator",
        ),
        ("UPDATE chats SET assignment_time = NULL", "no_assignment_time"),
    ],
)
@pytest.mark.newest
def test_chats_whose_rows_bar_a_release_are_counted_by_reason(
    platform: Platform, spoil: str, reason: str
) -> None:
    make_stuck_chat(platform)
    releaser = make_releaser(platform, mode="observe")
    platform.execute(spoil)

    releaser.poll()

    releaser.stop(1)
    barred = {k: v for k, v in figures_of(releaser).items() if k.startswith("barred") and v}
    assert barred == {f"barred_chats.{reason}": 1}


def test_another_releaser_at_work_turns_enforce_into_observe(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    idle = builders.make_assigned_chat(platform, age_s=900, heartbeat_s=400)
    application.run_idle_detector(platform.connection)
    application.unassign(platform.connection, idle)
    platform.execute(
        "UPDATE chats SET chat_state = 'assigned', assignment_time = assigned_at,"
        " assigned_operator_id = operator_id FROM chat_assignments a"
        " WHERE a.chat_id = chats.id AND chats.id = %s",
        [chat],
    )
    platform.execute(
        "UPDATE chat_assignments SET released_at = NULL, release_reason = NULL WHERE chat_id = %s",
        [chat],
    )
    releaser = make_releaser(platform, **AT_ONCE)

    releaser.poll()

    releaser.stop(1)
    assert figures_of(releaser)["mode.observe"] == 1
    assert figures_of(releaser)["decisions_total.would_release"] == 1
    assert state_of(platform, chat)[0] == "assigned"


def test_a_notifier_that_breaks_breaks_nothing(platform: Platform) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    releaser = make_releaser(platform, BadEar(), **AT_ONCE)

    releaser.poll()

    releaser.stop(1)
    assert state_of(platform, chat)[0] == "waiting_assignment"


def test_enforce_without_the_schema_is_refused_at_start(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn}, release={"mode": "enforce"})
    daemon = Daemon(config)

    with pytest.raises(
        SchemaMissing,
        match=r"database main: release\.mode is enforce, but the schema chatqueue is missing, "
        "expected version 1: run chatqueue install --apply",
    ):
        daemon.start()


def test_a_lone_stuck_chat_is_released_within_confirm_and_one_poll(
    platform: Platform, tmp_path: Path
) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    config = write_config(
        tmp_path,
        {"main": platform.dsn},
        release={
            "mode": "enforce",
            "confirm": {"polls": 3, "for": "2s"},
            "sensor": {"after_restart": "0s"},
        },
    )
    started = time.monotonic()
    with run_watch(config) as watch:
        watch.wait_until(
            lambda: watch.value("chatqueue_release_decisions_total", decision="released") == 1
        )
        took_s = time.monotonic() - started

        assert 2 <= took_s < 2 + 1 + SLACK_S  # confirm and one poll
        assert watch.value("chatqueue_release_mode", mode="enforce") == 1
        assert watch.value("chatqueue_release_decisions_total", decision="defect") == 0
        assert watch.value("chatqueue_release_last_timestamp_seconds") == pytest.approx(
            time.time(), abs=10
        )
        watch.wait_until(
            lambda: watch.value("chatqueue_release_tokens") == pytest.approx(4, abs=0.2)
        )
    assert state_of(platform, chat)[0] == "waiting_assignment"
    assert_audit_and_releases_agree(platform)


def test_off_has_no_releaser_and_shows_its_mode(platform: Platform, tmp_path: Path) -> None:
    with run_watch(write_config(tmp_path, {"main": platform.dsn})) as watch:
        assert watch.daemon.releasers == ()
        assert releaser_threads() == []
        assert watch.value("chatqueue_release_mode", mode="off") == 1
        assert watch.value("chatqueue_release_decisions_total", decision="released") is None
        assert watch.value("chatqueue_release_suspect_chats") is None


def test_a_reload_starts_the_releaser_and_ends_it(platform: Platform, tmp_path: Path) -> None:
    install(platform)

    def configure(mode: str) -> Path:
        return write_config(tmp_path, {"main": platform.dsn}, release={"mode": mode})

    with run_watch(configure("off")) as watch:
        configure("observe")
        watch.daemon.reload()
        watch.wait_until(lambda: watch.value("chatqueue_release_tokens") is not None)
        assert watch.value("chatqueue_release_mode", mode="observe") == 1
        assert watch.value("chatqueue_release_decisions_total", decision="defect") == 0
        (thread,) = releaser_threads()

        configure("off")
        watch.daemon.reload()
        thread.join(SLACK_S)

        assert not thread.is_alive()
        assert watch.daemon.is_healthy() == ()
        assert watch.value("chatqueue_release_mode", mode="off") == 1
        assert watch.value("chatqueue_release_tokens") is None


def releaser_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("releaser-")]


class Shell:
    """The command line on one platform."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output, or the error's words."""
        result = CliRunner().invoke(
            cli, [*arguments, "--config.file", str(self.config)], env={"COLUMNS": "200"}
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            return 1, str(result.exception)
        return result.exit_code, result.output


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    """A shell whose configuration enforces."""
    return Shell(
        write_config(
            tmp_path,
            {"main": platform.dsn},
            release={"mode": "enforce", "sensor": {"after_restart": "0s"}},
        )
    )


def test_a_person_installs_explains_releases_and_reads_the_audit(
    platform: Platform, shell: Shell
) -> None:
    chat = make_stuck_chat(platform)
    for command in (("audit",), ("resume",), ("pause", "--for", "1h", "--reason", "x")):
        assert (
            "auto-release is not in use: the schema chatqueue is missing"
            in (shell.run(*command)[1])
        )
    assert "CREATE SCHEMA IF NOT EXISTS chatqueue" in shell.run("install")[1]
    assert shell.run("install", "--apply") == (
        0,
        "main: schema chatqueue is at version 5, was at none\n",
    )
    assert shell.run("install", "--apply") == (
        0,
        "main: schema chatqueue is at version 5, as before\n",
    )

    code, text = shell.run("explain", str(chat))
    assert code == 0
    assert "no sign of life for 30m" in text
    before = checksum(platform)
    code, text = shell.run("release", str(chat))
    assert (code, text.splitlines()[-1].split(":")[0]) == (0, "would_release")
    assert checksum(platform) == before

    code, text = shell.run("release", str(chat), "--enforce", "--by", "ann")
    assert (code, text.splitlines()[-1].split(":")[0]) == (0, "released")
    assert state_of(platform, chat)[0] == "waiting_assignment"
    (row,) = json.loads(shell.run("audit", "--json")[1])
    assert (row["chat"], row["actor"], row["outcome"]) == (str(chat), "person ann", "released")
    assert str(chat) in shell.run("audit")[1]
    assert "is not active and assigned" in shell.run("release", str(chat))[1]


@pytest.mark.parametrize("command", ["release", "explain", "fix stuck", "fix requeue"])
def test_a_chat_that_is_not_there_is_no_such_chat(shell: Shell, command: str) -> None:
    chat = "00000000-0000-0000-0000-00000000dead"
    code, text = shell.run(*command.split(), chat)

    assert (code, f"no such chat: {chat}" in text) == (1, True)


def test_pause_resume_and_exempt_hold_until_they_end(platform: Platform, shell: Shell) -> None:
    install(platform)
    chat = make_stuck_chat(platform)

    assert shell.run("pause", "--for", "2h", "--reason", "deploy", "--by", "ann")[0] == 0
    code, text = shell.run("release", str(chat), "--enforce")
    assert (code, "pause: paused for" in text, "by ann: deploy" in text) == (1, True, True)
    assert shell.run("resume") == (0, "main: not paused\n")
    platform.execute("UPDATE chatqueue.release_control SET tripped_at = now()")
    assert shell.run("resume") == (0, "main: not paused\n")
    assert platform.value("SELECT tripped_at IS NOT NULL FROM chatqueue.release_control")
    rules = yaml.safe_load(shell.config.read_text())
    rules["release"]["breaker"] = {"hold": "until-resumed"}
    shell.config.write_text(yaml.safe_dump(rules))
    assert "until a person runs chatqueue resume" in shell.run("explain", str(chat))[1]
    assert shell.run("resume") == (0, "main: not paused, breaker not tripped\n")
    assert platform.value("SELECT tripped_at IS NULL FROM chatqueue.release_control")
    arguments = ("exempt", "chat", str(chat), "--for", "1h", "--by", "ann", "--reason", "vip")
    assert shell.run(*arguments)[0] == 0
    code, text = shell.run("release", str(chat), "--enforce")
    assert (code, "exemption: chat until" in text) == (1, True)
    assert state_of(platform, chat)[0] == "assigned"
    assert shell.run("pause", "--for", "0", "--reason", "x")[0] == 2


def test_close_is_the_only_way_past_would_close(platform: Platform, shell: Shell) -> None:
    install(platform)
    chat = make_stuck_chat(platform, past_turns=3)

    assert shell.run("release", str(chat), "--enforce", "--override", "closing")[0] == 2
    assert shell.run("release", str(chat), "--enforce")[0] == 1
    assert state_of(platform, chat)[:2] == ("assigned", True)
    assert shell.run("release", str(chat), "--enforce", "--close")[0] == 0
    assert state_of(platform, chat)[:2] == ("completed", False)
