"""`chatqueue rollback` as a team types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.database.session import Session
from exporter.demo.postgres import LocalServer
from exporter.release import admin
from tests.postgres.test_rollback import migrate
from tests.servers import Platform, old_platform
from tests.watch import write_config

pytestmark = pytest.mark.newest


@pytest.fixture
def before(postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform of 40 chats without the fix."""
    with old_platform(postgres_server, 40) as platform:
        yield platform


def run(config: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output, or the error's words."""
    result = CliRunner().invoke(cli, ["rollback", *arguments, "--config.file", str(config)])
    if result.exception and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_plan_check_and_apply(before: Platform, tmp_path: Path) -> None:
    with Session(before.dsn) as session:
        admin.install(session)
    config = write_config(tmp_path, {"main": before.dsn}, release={"mode": "enforce"})
    plan = str(tmp_path / "plan.sql")

    code, text = run(config, "--plan", "--output", plan)
    assert code == 0
    assert "  function    assign_chat_to_operator               restored\n" in text
    assert "exists: an older plan is not overwritten" in run(config, "--plan", "--output", plan)[1]
    assert run(config, "--check", plan)[1].splitlines() == [
        "The plan fits: the deployment has not begun.",
        "  nothing of the fix is here, and the plan is what is",
    ]
    refused = f"{plan} was not applied: nothing of the fix is here, and the plan is what is"
    assert run(config, "--apply", plan, "--yes", before.database) == (1, refused)

    migrate(before)
    assert run(config, "--check", plan)[1].startswith(
        "The plan fits: the deployment is done and can be rolled back.\n"
    )
    assert run(config, "--apply", plan, "--yes", "other") == (
        1,
        f"'other' is not the database's name, expected {before.database}",
    )
    code, text = run(config, "--apply", plan)
    assert (code, text) == (
        1,
        f"not confirmed: add --yes {before.database}, or run it on a terminal",
    )
    code, text = run(config, "--apply", plan, "--yes", before.database, "--by", "Kim")
    assert code == 0
    assert "auto-release is paused until " in text
    assert f"\nrolled back database {before.database}\n" in text
    assert before.value("SELECT actor FROM chatqueue.rollback_audit") == "person Kim"
    assert before.value("SELECT paused_until > now() + '6 days' FROM chatqueue.release_control")


def test_the_script_is_printed_within_its_comments(before: Platform, tmp_path: Path) -> None:
    code, text = run(write_config(tmp_path, {"main": before.dsn}), "--plan", "--drop-columns")

    assert code == 0
    head = text[: text.index("\nBEGIN;")].splitlines()
    assert max(map(len, head)) <= 80
    assert "DROP COLUMN chat_state" in text


def test_options_that_do_not_belong_together_are_refused(
    platform: Platform, tmp_path: Path
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})

    assert "expected one of --plan, --check FILE and --apply FILE" in run(config)[1]
    assert "are for --plan" in run(config, "--check", "f", "--drop-columns")[1]
    assert "--yes is for --apply" in run(config, "--plan", "--yes", "x")[1]
    assert run(config, "--check", "f") == (1, "f: No such file or directory")
    assert run(config, "--check", str(config)) == (
        1,
        f"{config}: it is no script of chatqueue rollback --plan",
    )
