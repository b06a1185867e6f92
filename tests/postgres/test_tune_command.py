"""`chatqueue tune`: its figures, its words, and how it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exporter.cli import cli, main
from exporter.cli.tune import _show_progress
from exporter.ops.tune import history
from tests import builders
from tests.postgres.test_cli_helpers import run_command
from tests.postgres.test_tune import make_history
from tests.release import checksum
from tests.servers import PgBouncer, Platform
from tests.watch import write_config

pytestmark = pytest.mark.newest

ROOT = Path(__file__).parents[2]
READER = (ROOT / "deploy" / "postgresql" / "reader.sql").read_bytes()


Tune = Callable[..., dict[str, Any]]


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    """Run the command with --json in this process; return what it printed."""

    def tune(dsn: str, *flags: str, **sections: Any) -> dict[str, Any]:
        config = write_config(tmp_path, {"main": dsn}, **sections)
        result = CliRunner().invoke(
            cli, ["tune", "--config.file", str(config), "--json", *flags], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.output)
        return found

    return tune


def line_of(report: dict[str, Any], threshold_s: float) -> dict[str, Any]:
    """The report's line of a threshold."""
    (line,) = [one for one in report["thresholds"] if one["threshold_seconds"] == threshold_s]
    return dict(line)


def test_a_small_history_gives_exactly_these_figures(platform: Platform, tune: Tune) -> None:
    make_history(platform)
    before = checksum(platform)
    report = tune(platform.dsn, "--threshold", "10m", "--threshold", "21m")

    assert checksum(platform) == before
    assert (report["database"], report["assignments"]) == ("main", 8)
    assert report["history_days"] == pytest.approx(8502 / 86400, rel=0.01)
    assert [line["threshold_seconds"] for line in report["thresholds"]] == [600, 900, 1260]
    line = line_of(report, 600)
    assert line.pop("releases_per_day") == pytest.approx(4 / (8502 / 86400), rel=0.01)
    assert line.pop("saved_seconds_per_day") == pytest.approx(1200 / (8502 / 86400), rel=0.01)
    assert line.pop("saved_seconds") == pytest.approx(1200, abs=1)
    assert line.pop("wrong_ratio_low") == pytest.approx(0.0615, abs=1e-4)
    assert line.pop("wrong_ratio_high") == pytest.approx(0.7923, abs=1e-4)
    assert line == {
        "threshold_seconds": 600,
        "releases": 4,
        "right": 2,
        "wrong": 1,
        "undecided": 1,
        "would_close": 1,
        "wrong_ratio": pytest.approx(1 / 3),
    }
    assert line_of(report, 1260)["releases"] == 1
    assert line_of(report, 1260)["wrong_ratio"] is None
    assert report["advice"]["verdict"] == "none_qualifies"


@pytest.mark.parametrize(
    ("value", "most", "closes"), [(4, 4, 0), (1, 1, 1), ("3", None, None), (None, 3, 1)]
)
def test_would_close_follows_the_platforms_setting(
    platform: Platform, tune: Tune, value: Any, most: int | None, closes: int | None
) -> None:
    make_history(platform)
    if value is None:
        platform.execute("DELETE FROM platform_config WHERE key = 'max_reassignments'")
    else:
        builders.set_config(platform, "max_reassignments", value)
    report = tune(platform.dsn)

    assert report["max_reassignments"] == most
    assert line_of(report, 600)["would_close"] == closes


def test_only_the_days_that_are_asked_for_count(platform: Platform, tune: Tune) -> None:
    for days in (0.5, 1.5, 20):
        chat = builders.make_waiting_chat(platform, age_s=days * 86400)
        operator = builders.add_operator(platform)
        age_s = days * 86400
        builders.add_assignment(
            platform, chat, operator, assigned_s=age_s, released_s=age_s - 1000, reason="x"
        )

    assert tune(platform.dsn, "--days", "1")["assignments"] == 1
    assert tune(platform.dsn)["assignments"] == 2
    assert tune(platform.dsn)["history_days"] == pytest.approx(14)
    assert tune(platform.dsn, "--days", "30")["history_days"] == pytest.approx(20, rel=0.01)


def test_an_empty_platform_has_nothing_to_tell(platform: Platform, tune: Tune) -> None:
    report = tune(platform.dsn)

    assert report["assignments"] == 0
    assert report["advice"] == {
        "verdict": "nothing_to_release",
        "threshold_seconds": None,
        "why": "there is no assignment in this time",
    }


def test_the_least_privileged_reader_sees_the_same(platform: Platform, tune: Tune) -> None:
    make_history(platform)
    platform.connection.execute(READER)
    as_reader = tune(platform.dsn_as("chatqueue_reader"))

    assert as_reader["thresholds"][0]["releases"] == 4
    as_owner = tune(platform.dsn)
    for line in as_reader["thresholds"] + as_owner["thresholds"]:
        del line["releases_per_day"], line["saved_seconds_per_day"]
    assert as_reader["thresholds"] == as_owner["thresholds"]


def test_a_transaction_pooler_serves_as_well(
    platform: Platform, pgbouncer: PgBouncer, tune: Tune
) -> None:
    make_history(platform)

    assert tune(pgbouncer.dsn(platform.database))["thresholds"][0]["releases"] == 4


# What goes wrong.


def refusal(capsys: pytest.CaptureFixture[str], dsn: str, folder: Path, *flags: str) -> str:
    """Run the command, which must fail; return what it said."""
    config = write_config(folder, {"main": dsn})
    with pytest.raises(SystemExit) as exit_info:
        main(["tune", "--config.file", str(config), *flags])
    captured = capsys.readouterr()
    assert (exit_info.value.code, captured.out) == (1, "")
    return captured.err


def test_hidden_rows_are_no_empty_history(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_history(platform)
    role = builders.make_role(platform, "blind")

    assert refusal(capsys, platform.dsn_as(role), tmp_path) == (
        "chatqueue: main: row-level security hides rows of public.chats from role "
        f"{role}, expected a policy FOR SELECT USING (true) for that role, or BYPASSRLS\n"
    )


def test_a_missing_relation_is_named(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.execute("DROP TABLE operator_activity CASCADE")

    assert refusal(capsys, platform.dsn, tmp_path) == (
        "chatqueue: main: public.operator_activity does not exist\n"
    )


def test_a_revoked_relation_or_column_is_named(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_history(platform)
    role = builders.make_role(platform, "narrow", policies=True)
    platform.execute(f"REVOKE SELECT ON messages FROM {role}")

    assert refusal(capsys, platform.dsn_as(role), tmp_path) == (
        f"chatqueue: main: role {role} may not use public.messages\n"
    )
    platform.execute(f"GRANT SELECT (id, chat_id, created_at) ON messages TO {role}")
    assert refusal(capsys, platform.dsn_as(role), tmp_path) == (
        "chatqueue: main: permission denied for table messages; "
        "chatqueue grants prints what is enough, column by column\n"
    )


def test_a_page_that_takes_too_long_is_given_up(
    platform: Platform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_history(platform)
    slow = {**history._SQL, "page": "SELECT pg_sleep(60), %(now_at)s"}
    monkeypatch.setattr(history, "_SQL", slow)
    monkeypatch.setattr(history, "STATEMENT_TIMEOUT_S", 0.2)

    assert refusal(capsys, platform.dsn, tmp_path) == (
        "chatqueue: main: canceling statement due to statement timeout (timeout 0.2s)\n"
    )


def test_a_database_that_is_away_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, "host=127.0.0.1 port=1", tmp_path).startswith(
        "chatqueue: main: connection failed: "
    )


# What it prints.


@pytest.fixture
def printed(tmp_path: Path) -> Callable[..., str]:
    """Run the command for people."""

    def printed(platform: Platform, *flags: str) -> str:
        config = write_config(tmp_path, {"main": platform.dsn})
        code, output, errors = run_command("tune", "--config.file", str(config), *flags)
        assert (code, errors) == (0, "")
        return output

    return printed


def test_people_get_a_table_bars_and_advice(
    platform: Platform, printed: Callable[..., str]
) -> None:
    make_history(platform)
    builders.set_config(platform, "max_reassignments", "3")
    builders.add_assignment(
        platform, builders.make_waiting_chat(platform), builders.add_operator(platform)
    )
    lines = printed(platform, "--threshold", "10m").splitlines()

    assert lines[0].startswith("main: 8 assignments in 2.4 hours, read at ")
    table = [" ".join(line.split()) for line in lines[2:5]]
    assert table[0] == "stuck_after a day wrong of share at most closes open saved/day"
    assert table[1].startswith("10m 4")
    assert " 1 3 33.3% 79.2% ? 1 3h" in table[1]
    assert table[2].startswith("15m * ")
    assert lines[6:9] == [
        "█ right  ▒ wrong  ░ still open",
        f"     10m  {'█' * 28}{'▒' * 14}{'░' * 14}",
        f"     15m  {'█' * 28}{'▒' * 14}{'░' * 14}",
    ]
    text = "\n".join(lines[9:])
    assert "max_reassignments is the JSON string '3', expected a whole number" in text
    assert "Left out are assignments: 1 whose end is unknown.\n" in text
    assert lines[-1] == (
        "no threshold qualifies: the best is 10m, 1 of 3 releases wrong, at most 79.2%; "
        "the limit is 5.0%. Stay in observe."
    )


def test_many_right_releases_are_recommended(
    platform: Platform, printed: Callable[..., str]
) -> None:
    operator = builders.add_operator(platform)
    for _ in range(8):
        chat = builders.make_waiting_chat(platform, age_s=8000)
        builders.add_assignment(
            platform, chat, operator, assigned_s=7200, released_s=5400, reason="manual_unassign"
        )

    output = printed(platform, "--max-wrong", "0.4", "--threshold", "15m")
    assert output.endswith(
        "recommended: 15m, 0 of 8 releases wrong, at most 32.4%; the shortest that was tried.\n"
    )
    assert "0s" not in output
    output = printed(platform, "--threshold", "1h")
    assert output.splitlines()[-1].startswith("not enough history: the best is 15m, 0 of 8 ")


def test_a_quiet_platform_has_no_bars(platform: Platform, printed: Callable[..., str]) -> None:
    output = printed(platform)

    assert "█" not in output
    assert output.endswith(
        "nothing would have been released: there is no assignment in this time. Stay in observe.\n"
    )


def test_a_picture_is_a_png_whatever_there_is_to_draw(
    platform: Platform, printed: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "tune.png"
    printed(platform, "--png", str(file))
    empty = file.read_bytes()
    make_history(platform)
    printed(platform, "--png", str(file), "--max-wrong", "0.9")

    assert empty[:8] == file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.read_bytes() != empty


def test_a_picture_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere" / "tune.png"
    assert refusal(capsys, "host=127.0.0.1 port=1", tmp_path, "--png", str(nowhere)) == (
        f"chatqueue: --png {nowhere}: there is no folder {nowhere.parent}\n"
    )
    monkeypatch.delitem(sys.modules, "exporter.cli.tune_plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert refusal(capsys, "host=127.0.0.1 port=1", tmp_path, "--png", "tune.png") == (
        "chatqueue: --png needs matplotlib, which is not installed, "
        "expected pip install 'chatqueue-exporter[plot]'\n"
    )


def test_a_picture_that_cannot_be_written_is_named(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    file = "/dev/full"
    with pytest.raises(SystemExit):
        main(["tune", "--config.file", str(config), "--png", file])

    assert capsys.readouterr().err == f"chatqueue: --png {file}: No space left on device\n"


def test_a_database_must_be_named_where_there_are_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, {"a": "host=127.0.0.1 port=1", "b": "host=127.0.0.1 port=1"})
    for flags, found in (((), "is not given"), (("--database", "c"), "c is not configured")):
        with pytest.raises(SystemExit):
            main(["tune", "--config.file", str(config), *flags])
        assert capsys.readouterr().err == (f"chatqueue: --database {found}, expected one of a, b\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--days", "0"), "0 is not in the range 1<=x<=366"),
        (("--threshold", "10"), "'10' is not a duration"),
        (("--threshold", "59s"), "expected 1m to 7d"),
        (("--threshold", "8d"), "expected 1m to 7d"),
        (("--max-wrong", "1"), "1.0 is not in the range 0<x<1"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(cli, ["tune", "--config.file", "x.yaml", *flags])

    assert result.exit_code == 2
    assert said in result.output


def test_the_bar_is_drawn_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal in ("0", "1"):
        monkeypatch.setenv("TTY_COMPATIBLE", is_terminal)
        with _show_progress() as show:
            show(0.5)
        assert ("Reading the history" in capsys.readouterr().err) is (is_terminal == "1")
