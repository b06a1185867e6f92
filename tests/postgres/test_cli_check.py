"""`chatqueue check-config --live` against real databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from tests.builders import make_role
from tests.postgres.test_cli_helpers import run_command
from tests.servers import Platform
from tests.watch import BUILT_IN, write_config, write_query

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run the command in this process on these databases; gives exit code and output."""

    def check(databases: dict[str, str], *flags: str, **sections: object) -> tuple[int, str]:
        config = write_config(tmp_path, databases, **sections)
        arguments = ["check-config", "--config.file", str(config), "--live", *flags]
        result = CliRunner(env={"COLUMNS": "80"}).invoke(cli, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return check


def test_every_query_of_a_healthy_database_is_listed(platform: Platform, check: Check) -> None:
    code, output = check({"main": platform.dsn})

    assert code == 0
    assert f"1 database, {len(BUILT_IN)} queries, configuration is valid" in output
    assert "main: PostgreSQL 18." in output
    lines = {line.split()[0]: line for line in output.splitlines() if " ms " in line}
    assert tuple(sorted(lines)) == BUILT_IN
    assert all(" ok, " in line and line.strip().endswith("series") for line in lines.values())
    assert "failed" not in output


def test_a_failing_query_is_named_in_full_and_the_others_still_run(
    platform: Platform, tmp_path: Path, check: Check
) -> None:
    # Square brackets are rich's own markup; a long line would break in a cell.
    sql = "SELECT '[red]no[/nonsense] number, and a long text to come behind it'::integer AS value"
    folder = write_query(tmp_path / "own", "odd", sql)
    code, output = check({"main": platform.dsn}, queries={"dirs": [str(folder)]})

    assert code == 1
    assert (
        'odd: other: invalid input syntax for type integer: "[red]no[/nonsense] number,'
        ' and a long text to come behind it"\n'
    ) in output
    assert output.count(" ok, ") == len(BUILT_IN)


def test_rows_that_do_not_fit_are_a_failure(
    platform: Platform, tmp_path: Path, check: Check
) -> None:
    folder = write_query(tmp_path / "own", "text", "SELECT 'x' AS value")
    code, output = check({"main": platform.dsn}, queries={"dirs": [str(folder)]})

    assert code == 1
    assert "text: mismatch: text.sql column 'value' returned str 'x', expected a number" in output


def test_a_role_from_which_rows_are_hidden_fails(platform: Platform, check: Check) -> None:
    role = make_role(platform, "blind")
    code, output = check({"main": platform.dsn_as(role)})

    assert code == 1
    assert (
        f"state_clock: row_security: row-level security hides rows of public.chats from role {role}"
    ) in output


def test_an_unreachable_database_fails_and_the_other_is_checked(
    platform: Platform, check: Check
) -> None:
    code, output = check({"gone": "host=127.0.0.1 port=1", "main": platform.dsn})

    assert code == 1
    assert (
        "gone: unavailable: connection failed: connection to server at"
        ' "127.0.0.1", port 1 failed: Connection refused'
    ) in output
    assert output.count(" ok, ") == len(BUILT_IN)


def test_as_a_process_it_prints_plain_text(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    code, output, errors = run_command("check-config", "--live", "--config.file", str(config))

    assert (code, errors) == (0, "")
    assert "\x1b" not in output
