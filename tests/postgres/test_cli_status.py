"""`chatqueue status`: what it shows, and the exit codes a script goes by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exporter.cli import cli
from tests.builders import make_assigned_chat, make_replied_chat, make_role, make_waiting_chat
from tests.postgres.test_cli_helpers import run_command
from tests.servers import Platform
from tests.watch import write_config, write_query

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

CALM, CROSSED, UNKNOWN = 0, 1, 2
UNREACHABLE = "host=127.0.0.1 port=1"

Ask = Callable[..., Result]


@pytest.fixture
def status(tmp_path: Path) -> Ask:
    """Run the command in this process on these databases."""

    def status(databases: dict[str, str], *flags: str, **sections: object) -> Result:
        config = write_config(tmp_path, databases, **sections)
        arguments = ["status", "--config.file", str(config), *flags]
        result = CliRunner(env={"COLUMNS": "80"}).invoke(cli, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return status


def squeezed(result: Result) -> list[str]:
    """The output's lines with single blanks."""
    return [" ".join(line.split()) for line in result.output.splitlines()]


def test_a_calm_queue_is_0_and_readable_by_a_newcomer(platform: Platform, status: Ask) -> None:
    make_waiting_chat(platform, age_s=30)
    make_assigned_chat(platform, age_s=200)
    make_replied_chat(platform, age_s=4000)
    result = status({"main": platform.dsn})

    assert result.exit_code == CALM
    lines = squeezed(result)
    assert lines[:2] == ["main: ok", "state chats oldest overdue platform: stuck"]
    assert lines[2].startswith("waiting_assignment 1 3")
    assert lines[2].endswith("s 0 0")
    assert lines[3].startswith("assigned 1 3m2")
    assert lines[4].startswith("waiting_real_user_reply 1 1h6m 0 1")
    assert lines[5:7] == ["completed 0 0", "unknown 0 0s 0 0"]
    assert "chats that are owed an answer 2" in lines
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("age_s", "verdict"), [(150, "warning"), (400, "critical")], ids=["warning", "critical"]
)
def test_a_crossed_threshold_is_1_and_is_marked(
    platform: Platform, status: Ask, age_s: float, verdict: str
) -> None:
    make_waiting_chat(platform, age_s=age_s)
    result = status({"main": platform.dsn})

    assert result.exit_code == CROSSED
    assert squeezed(result)[0] == f"main: {verdict}"
    assert squeezed(result)[2].endswith(f" {verdict}")


def test_a_threshold_that_is_off_is_never_crossed(platform: Platform, status: Ask) -> None:
    make_waiting_chat(platform, age_s=400)
    off = {"warning": "off", "critical": "off"}
    thresholds = {"oldest_age": {"waiting_assignment": off}, "customer_wait": off}

    assert status({"main": platform.dsn}, thresholds=thresholds).exit_code == CALM


def test_an_unreachable_database_is_2_with_the_reason_on_one_line(
    platform: Platform, status: Ask
) -> None:
    result = status({"main": UNREACHABLE})

    assert result.exit_code == UNKNOWN
    verdict, problem = squeezed(result)[:2]
    assert verdict == "main: unknown"
    assert problem == (
        "unknown: the database is unavailable: connection failed: connection to server at"
        ' "127.0.0.1", port 1 failed: Connection refused Is the server running on that host and'
        " accepting TCP/IP connections?"
    )


def test_a_failing_query_is_2_and_the_rest_is_shown(
    platform: Platform, tmp_path: Path, status: Ask
) -> None:
    folder = write_query(tmp_path / "own", "odd", "SELECT '[red]x[/y]'::integer AS value")
    result = status({"main": platform.dsn}, queries={"dirs": [str(folder)]})

    assert result.exit_code == UNKNOWN
    assert squeezed(result)[0] == "main: unknown"
    assert "waiting_assignment 0 0s 0 0" in squeezed(result)
    assert 'unknown: odd: other: invalid input syntax for type integer: "[red]x[/y]"' in squeezed(
        result
    )


def test_hidden_rows_are_not_taken_for_calm(platform: Platform, status: Ask) -> None:
    make_waiting_chat(platform, age_s=400)
    result = status({"main": platform.dsn_as(make_role(platform, "blind"))})

    assert result.exit_code == UNKNOWN
    # The view runs as its owner, so it still counts; what the role itself reads is not known.
    assert "waiting_assignment 1 - - - unknown" in squeezed(result)


def test_a_crossed_threshold_outweighs_what_is_not_known(platform: Platform, status: Ask) -> None:
    make_waiting_chat(platform, age_s=400)
    databases = {"gone": UNREACHABLE, "main": platform.dsn}

    assert status(databases).exit_code == CROSSED


def test_a_disabled_query_is_no_doubt(platform: Platform, status: Ask) -> None:
    result = status({"main": platform.dsn}, overrides={"customer_wait": {"enabled": False}})

    assert result.exit_code == CALM
    assert "longest unanswered wait of a user -" in squeezed(result)


def test_json_holds_the_same_for_scripts(platform: Platform, status: Ask) -> None:
    make_waiting_chat(platform, age_s=400)
    result = status({"main": platform.dsn, "gone": UNREACHABLE}, "--json")
    gone, main = json.loads(result.output)  # the file's order, by name

    assert result.exit_code == CROSSED
    assert (main["database"], main["verdict"], main["problems"]) == ("main", "critical", [])
    waiting = next(s for s in main["states"] if s["state"] == "waiting_assignment")
    assert waiting.pop("oldest_age_seconds") == pytest.approx(400, abs=5)
    assert waiting == {
        "state": "waiting_assignment",
        "chats": 1,
        "platform_stuck_chats": 0,
        "overdue_chats": 1,
        "verdict": "critical",
    }
    figures = {figure["name"]: figure for figure in main["figures"]}
    assert figures["chats that are owed an answer"]["value"] == 1
    assert {figure["unit"] for figure in figures.values()} == {
        "seconds",
        "chats",
        "operators",
        "ratio",
    }
    assert (gone["database"], gone["verdict"], gone["states"]) == ("gone", "unknown", [])
    assert gone["problems"][0].startswith("the database is unavailable: connection failed: ")


def test_as_a_process_it_prints_plain_text_and_ends_with_the_code(
    platform: Platform, tmp_path: Path
) -> None:
    make_waiting_chat(platform, age_s=400)
    config = write_config(tmp_path, {"main": platform.dsn})
    code, output, errors = run_command("status", "--config.file", str(config))

    assert (code, errors) == (CROSSED, "")
    assert "\x1b" not in output
