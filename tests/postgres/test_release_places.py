"""The releaser wherever it may find itself: standbys, blind roles, poolers, older schemas."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.errors import QueryFailed
from exporter.release import admin, schema
from exporter.release.plans import ReleasePlan
from exporter.release.releaser import Releaser
from tests import builders
from tests.release import (
    Ear,
    as_standby,
    assert_audit_and_releases_agree,
    checksum,
    figures_of,
    install,
    make_limits,
    make_stuck_chat,
    state_of,
)
from tests.servers import PgBouncer, Platform
from tests.watch import run_watch, write_config

RELEASE = {
    "mode": "enforce",
    "confirm": {"polls": 1, "for": "0s"},
    "sensor": {"after_restart": "0s"},
}
DECISIONS = "chatqueue_release_decisions_total"


def make_releaser(platform: Platform, dsn: str = "", **changes: object) -> Releaser:
    """A releaser without its thread that acts on what it sees once; a test calls `poll`."""
    limits = make_limits(confirm_polls=1, confirm_for_s=0.0, **changes)
    plan = ReleasePlan("main", dsn or platform.dsn, (), 5.0, 15.0, limits)
    return Releaser(plan, daemon="test", notifier=Ear())


def decisions_of(releaser: Releaser) -> dict[str, float]:
    """Decisions that were made, by name."""
    return {
        name.partition(".")[2]: value
        for name, value in figures_of(releaser).items()
        if name.startswith("decisions_total")
    }


def test_on_a_standby_a_releaser_refuses_and_goes_on_once_promoted(
    own_platform: Platform,
) -> None:
    install(own_platform)
    chat = make_stuck_chat(own_platform)
    releaser = make_releaser(own_platform)
    with as_standby(own_platform):
        for _ in range(2):
            releaser.poll()
        assert decisions_of(releaser) == {"refused": 1}

    releaser.poll()

    releaser.stop(1)
    assert decisions_of(releaser) == {"refused": 1, "released": 1}
    assert state_of(own_platform, chat)[0] == "waiting_assignment"


def test_while_the_database_is_down_nothing_is_decided_and_then_all_goes_on(
    own_platform: Platform,
) -> None:
    install(own_platform)
    chat = make_stuck_chat(own_platform)
    releaser = make_releaser(own_platform)
    own_platform.close()
    own_platform.server.stop()
    try:
        for _ in range(2):
            releaser.poll()
    finally:
        own_platform.server.start()
    assert decisions_of(releaser) == {"error": 1}

    releaser.poll()

    releaser.stop(1)
    assert decisions_of(releaser) == {"error": 1, "released": 1}
    assert state_of(own_platform, chat)[0] == "waiting_assignment"


def test_a_role_that_sees_no_row_releases_nothing_and_says_why(
    platform: Platform,
) -> None:
    install(platform)
    make_stuck_chat(platform)
    role = builders.make_role(platform, "blind")
    for name in ("public", "chatqueue"):
        platform.execute(f"GRANT ALL ON SCHEMA {name} TO {role}")
        platform.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {role}")
    before = checksum(platform)
    releaser = make_releaser(platform, platform.dsn_as(role))

    releaser.poll()

    with pytest.raises(QueryFailed, match=r"hides rows of public\.\w+ from role "):
        releaser._engine.scan()
    releaser.stop(1)
    assert decisions_of(releaser) == {"error": 1}
    assert checksum(platform) == before


@pytest.mark.parametrize(
    ("past_turns", "on_would_close", "calls"),
    # A rehearsal is the whole transaction, so an ordinary chat costs it a call, which it undoes.
    [(3, "escalate", 0), (3, "requeue", 0), (0, "escalate", 2)],
)
def test_under_would_close_the_platforms_function_is_never_called(
    platform: Platform, past_turns: int, on_would_close: str, calls: int
) -> None:
    """A sequence counts the calls: no rollback takes back what it has counted."""
    install(platform)
    chat = make_stuck_chat(platform, past_turns=past_turns)
    platform.execute("CREATE SEQUENCE calls MINVALUE 0")
    platform.execute("SELECT nextval('calls')")
    platform.execute("ALTER FUNCTION release_and_reassign_chat RENAME TO release_in_truth")
    platform.execute(
        "CREATE FUNCTION release_and_reassign_chat(p_chat_id uuid, p_reason text DEFAULT '')"
        " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('calls');"
        " RETURN release_in_truth(p_chat_id, p_reason); END; $$"
    )

    for mode in ("observe", "enforce"):
        releaser = make_releaser(platform, mode=mode, on_would_close=on_would_close)
        for _ in range(3):
            releaser.poll()
        releaser.stop(1)

    assert platform.value("SELECT last_value FROM calls") == calls
    is_left = past_turns and on_would_close == "escalate"
    assert state_of(platform, chat)[:2] == (
        "assigned" if is_left else "waiting_assignment",
        True,
    )


def run(config: Path, command: str, *arguments: str) -> tuple[int, str]:
    """Run a command of the product; its exit code and output, or the error's words."""
    result = CliRunner().invoke(
        cli, [command, "--config.file", str(config), *arguments], env={"COLUMNS": "200"}
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_everything_works_through_a_transaction_pooler(
    platform: Platform, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    dsn = pgbouncer.dsn(platform.database)
    config = write_config(tmp_path, {"main": dsn}, release=RELEASE)
    told = ("--by", "ann", "--reason", "why")
    assert run(config, "install", "--apply")[1].endswith("is at version 5, was at none\n")
    assert run(config, "pause", "--for", "1h", *told)[0] == 0
    first, second = make_stuck_chat(platform), make_stuck_chat(platform, past_turns=3)
    for _ in range(8):
        builders.make_assigned_chat(platform)

    with run_watch(config) as watch:
        watch.wait_until(lambda: watch.value(DECISIONS, decision="paused") == 2)
        assert watch.value("chatqueue_release_paused") == 1
        assert state_of(platform, first)[0] == "assigned"
        code, said = run(config, "resume")
        assert code == 0
        assert said.endswith("main: not paused\n")  # the daemon beside it may log before that
        watch.wait_until(lambda: watch.value(DECISIONS, decision="released") == 1)
        watch.wait_until(lambda: watch.value(DECISIONS, decision="escalated") == 1)
        for decision in ("error", "defect", "unknown"):
            assert watch.value(DECISIONS, decision=decision) == 0

    assert state_of(platform, second)[:2] == ("assigned", True)
    assert run(config, "exempt", "chat", str(second), "--for", "1h", *told)[0] == 0
    assert run(config, "explain", str(second))[0] == 1
    assert "exemption: chat until" in run(config, "release", str(second), "--enforce")[1]
    outcomes = [row["outcome"] for row in json.loads(run(config, "audit", "--json")[1])]
    assert sorted(outcomes) == ["escalated", "released"]
    assert_audit_and_releases_agree(platform)


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a release that needs one version more; a test writes that version."""
    folder = tmp_path / "schema"
    shutil.copytree(Path(schema.__file__).parent, folder)
    monkeypatch.setattr(admin, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(
        admin, "build_script", functools.partial(schema.build_script, folder=folder)
    )
    return folder / f"{schema.VERSION + 1:03}_more.sql"


def test_an_older_schema_serves_what_it_can_and_is_brought_up_to_date(
    platform: Platform, tmp_path: Path, next_version: Path
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn}, release=RELEASE)
    platform.connection.execute(schema.build_script().encode())
    platform.execute("UPDATE chatqueue.release_control SET mode_cap = 'observe'")
    next_version.write_text("ALTER TABLE chatqueue.release_control ADD COLUMN note text;\n")

    before, after = schema.VERSION, schema.VERSION + 1

    # A new program on an old schema must still be able to stop a release.
    assert run(config, "resume") == (0, "main: not paused\n")
    assert run(config, "install", "--apply") == (
        0,
        f"main: schema chatqueue is at version {after}, was at {before}\n",
    )
    assert run(config, "install", "--apply") == (
        0,
        f"main: schema chatqueue is at version {after}, as before\n",
    )
    assert run(config, "resume") == (0, "main: not paused\n")
    assert platform.fetch("SELECT mode_cap, note FROM chatqueue.release_control") == [
        ("observe", None)
    ]


def test_an_upgrade_that_fails_leaves_the_older_schema_whole(
    platform: Platform, tmp_path: Path, next_version: Path
) -> None:
    install_current = schema.build_script()
    platform.connection.execute(install_current.encode())
    config = write_config(tmp_path, {"main": platform.dsn}, release=RELEASE)
    before = checksum(platform)
    next_version.write_text(
        "ALTER TABLE chatqueue.release_control ADD COLUMN note text;\nSELECT 1 / 0;\n"
    )

    code, text = run(config, "install", "--apply")

    assert (code, "division by zero" in text) == (1, True)
    assert checksum(platform) == before


def test_a_newer_schema_serves_an_older_release(
    platform: Platform, tmp_path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn}, release=RELEASE)
    next_version.write_text("ALTER TABLE chatqueue.release_control ADD COLUMN note text;\n")
    run(config, "install", "--apply")
    monkeypatch.undo()
    chat = make_stuck_chat(platform)

    assert run(config, "install", "--apply")[1].endswith(
        f"is at version {schema.VERSION + 1}, as before\n"
    )
    assert run(config, "release", str(chat), "--enforce")[0] == 0
