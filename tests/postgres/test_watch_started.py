"""A watch that is started and stopped by command: every daemon sees it, without a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.database.session import Session
from exporter.release import admin
from tests.servers import Platform
from tests.watch import Watch, run_watch, write_config

BY = ("--by", "ann")
POLL = {"interval": "1s", "timeout": "1s"}


class Shell:
    """Commands with one configuration."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def watch(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of `chatqueue watch …`, or the error's words."""
        result = CliRunner().invoke(cli, ["watch", *arguments, "--config.file", str(self.config)])
        if result.exception and not isinstance(result.exception, SystemExit):
            return 1, str(result.exception)
        return result.exit_code, result.output


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    return Shell(write_config(tmp_path, {"main": platform.dsn}, poll=POLL))


def install(platform: Platform) -> None:
    with Session(platform.dsn) as session:
        admin.install(session)


def times(daemon: Watch) -> list[float | None]:
    names = ("started", "ends", "rollback_until")
    return [daemon.value(f"chatqueue_watch_{name}_timestamp_seconds") for name in names]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_without_the_schema_it_says_what_to_do(shell: Shell) -> None:
    code, text = shell.watch("start")
    assert code == 1
    assert "the schema chatqueue is missing, expected version 5" in text
    assert "chatqueue install --apply" in text


def test_two_daemons_see_a_watch_begin_and_end(
    platform: Platform, shell: Shell, tmp_path: Path
) -> None:
    install(platform)
    (tmp_path / "b").mkdir()
    other = write_config(tmp_path / "b", {"main": platform.dsn}, poll=POLL)
    with run_watch(shell.config) as one, run_watch(other) as two:
        assert times(one) == times(two) == [None] * 3

        code, text = shell.watch("start", "--for", "12h", "--rollback-within", "2h", *BY)
        assert code == 0, text
        assert "rollback possible until " in text
        for daemon in (one, two):
            daemon.wait_until(lambda seen=daemon: times(seen)[0] is not None)
        started, ends, until = times(one)
        assert started is not None
        assert abs(started - datetime.now(UTC).timestamp()) < 60
        assert (ends, until) == (started + 12 * 3600, started + 2 * 3600)
        assert times(two) == [started, ends, until]
        assert shell.watch("start") == (
            1,
            "a watch is running, end it with chatqueue watch stop",
        )

        code, text = shell.watch("stop", *BY)
        assert (code, "ended at" in text) == (0, True)
        for daemon in (one, two):
            daemon.wait_until(lambda seen=daemon: (times(seen)[1] or 0) < started + 3600)
        assert times(one)[0] == started
        assert "no watch is running" in shell.watch("stop")[1]
    assert platform.fetch("SELECT actor, stopped_by FROM chatqueue.watch") == [("ann", "ann")]


def test_a_watch_of_the_past_or_the_future_can_be_started(platform: Platform, shell: Shell) -> None:
    install(platform)
    assert shell.watch("start", "--at", in_hours(1))[0] == 0
    assert shell.watch("stop")[0] == 0
    with run_watch(shell.config) as daemon:
        daemon.wait_for_poll()
        assert times(daemon) == [None] * 3, "it was stopped before it began"
        assert shell.watch("start", "--at", in_hours(-3))[0] == 0
        daemon.wait_until(lambda: times(daemon)[0] is not None)
        assert abs((times(daemon)[0] or 0) - datetime.now(UTC).timestamp() + 3 * 3600) < 60
    assert shell.watch("start", "--at", "yesterday")[0] == 2


def test_the_command_comes_before_the_file_and_a_reload_keeps_it(
    platform: Platform, tmp_path: Path
) -> None:
    install(platform)
    old = {"started_at": "2026-01-01T00:00:00Z"}
    config = write_config(tmp_path, {"main": platform.dsn}, poll=POLL, watch=old)
    shell = Shell(config)
    with run_watch(config) as daemon:
        daemon.wait_for_poll()
        configured = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
        assert times(daemon)[0] == configured
        assert shell.watch("start")[0] == 0
        daemon.wait_until(lambda: times(daemon)[0] != configured)
        started = times(daemon)
        daemon.daemon.reload()
        assert times(daemon) == started


def test_a_role_that_reads_sees_it_without_a_further_grant(platform: Platform) -> None:
    install(platform)
    with Session(platform.dsn) as session:
        admin.start_watch(session, None, timedelta(hours=3), timedelta(hours=1), "ann")
    platform.execute("CREATE ROLE only_reads")
    try:
        platform.execute("SET ROLE only_reads")
        assert platform.value("SELECT count(*) FROM chatqueue.watch WHERE ends_at > now()") == 1
    finally:
        platform.execute("RESET ROLE")
        platform.execute("DROP ROLE only_reads")
