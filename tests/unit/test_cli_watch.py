"""`chatqueue watch`: one look, and a picture that follows until Ctrl-C."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from exporter.cli.page import fetch_families, read_families
from exporter.cli.watch import View, collect, draw_sparkline, render
from exporter.cli.watch import watch as command
from exporter.config.watch import Watch
from exporter.digests.account import Account
from exporter.digests.memory import Memory, write_memory
from exporter.metrics.figures import read_figures
from tests.prometheus_fake import Fake, Reply, reply, run_fake
from tests.webhooks import wait_until

PAGE = """\
# TYPE chatqueue_chats gauge
chatqueue_chats{database="main",state="waiting_assignment"} 4
chatqueue_chats{database="main",state="assigned"} 12
# TYPE chatqueue_assignments_total counter
chatqueue_assignments_total{database="main"} 30
# TYPE chatqueue_invalid_chats gauge
chatqueue_invalid_chats{database="main",check="lost_reply"} 0
# TYPE chatqueue_customer_oldest_wait_seconds gauge
chatqueue_customer_oldest_wait_seconds{database="main"} 75.5
# TYPE chatqueue_database_up gauge
chatqueue_database_up{database="main"} 1
# TYPE chatqueue_log_events_total counter
chatqueue_log_events_total{level="error"} 2
"""


@pytest.fixture
def daemon() -> Iterator[Fake]:
    """A page that a test may change."""
    with run_fake(lambda *_: reply(PAGE.encode())) as fake:
        yield fake


def write_config(folder: Path, ago: timedelta = timedelta(hours=2), **watch: object) -> Path:
    begun = datetime.now(UTC) - ago
    keys = {"started_at": begun.isoformat(), **watch}
    file = folder / "chatqueue.yaml"
    file.write_text(yaml.safe_dump({"databases": {"main": {"dsn": "host=db"}}, "watch": keys}))
    return file


def look(file: Path, url: str) -> tuple[int, str]:
    """One look; its exit code and what it printed, a space for any."""
    arguments = ["--config.file", str(file), "--url", f"{url}/metrics", "--once"]
    result = CliRunner().invoke(command, arguments, env={"COLUMNS": "120"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


def test_one_look_shows_how_far_and_how_well(daemon: Fake, tmp_path: Path) -> None:
    code, output = look(write_config(tmp_path, timedelta(hours=2, seconds=30)), daemon.url)

    assert code == 0
    assert output.startswith("2h of 1d watched; rollback possible for 1h59m more ████░")
    assert "░ calm main now last digest beginning Chats waiting 4 ▁ assigned 12 ▁ " in output
    assert "Waits longest unanswered wait of a user 1m16s ▁" in output
    assert "Invalid none" in output
    assert output.endswith("Errors none Releases none")


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(hours=-3, seconds=-30), "begins at 20"),
        (timedelta(hours=5), "5h of 1d watched; too late to roll back"),
        (timedelta(days=2), "over since 20"),
    ],
)
def test_it_says_where_the_watch_stands(
    ago: timedelta, words: str, daemon: Fake, tmp_path: Path
) -> None:
    assert look(write_config(tmp_path, ago), daemon.url)[1].startswith(words)


def test_changes_since_the_beginning_come_from_the_daemons_memory(
    daemon: Fake, tmp_path: Path
) -> None:
    file = write_config(tmp_path, digests={"state_file": "state.json"})
    begun = datetime.fromisoformat(yaml.safe_load(file.read_text())["watch"]["started_at"])
    first = PAGE.replace("} 30", "} 20").replace('assignment"} 4', 'assignment"} 9')
    account = Account().update(read_figures(read_families(first)["main"]))
    write_memory(tmp_path / "state.json", Memory(begun, None, {"main": account}))
    remembered = look(file, daemon.url)
    (tmp_path / "state.json").write_text("garbage")
    forgotten = look(file, daemon.url)

    assert "waiting 4 -5 -5" in remembered[1]
    assert "assignments 10 +10 +10" in remembered[1]
    assert "does not hold the state of a watch; changes are since now" in forgotten[1]
    assert forgotten[0] == 0


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (PAGE.replace('reply"} 0', 'reply"} 3'), "look at main: 3 chats in an invalid state"),
        (PAGE.replace('_up{database="main"} 1', '_up{database="main"} 0'), "does not answer"),
    ],
)
def test_trouble_is_exit_code_1(page: str, words: str, daemon: Fake, tmp_path: Path) -> None:
    daemon.answer = lambda *_: reply(page.encode())
    code, output = look(write_config(tmp_path), daemon.url)

    assert code == 1
    assert words in output


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(b"no", 503), "answered 503, expected 200"),
        (reply(b"<html>\n{"), "is no page of metrics"),
        (reply(b"\xff\xfe"), "is no page of metrics"),
        (reply(b"# nothing\n"), "has no metrics of a database"),
    ],
)
def test_a_page_that_is_none_is_exit_code_2(
    answer: Reply, words: str, daemon: Fake, tmp_path: Path
) -> None:
    daemon.answer = lambda *_: answer
    code, output = look(write_config(tmp_path), daemon.url)

    assert code == 2
    assert words in output


def test_a_page_without_end_is_refused(
    daemon: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.cli.page._LIMIT_BYTES", 20)

    assert "more than a page of metrics" in look(write_config(tmp_path), daemon.url)[1]


def test_a_daemon_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    gone = look(write_config(tmp_path), "http://127.0.0.1:1")

    assert gone == (2, "chatqueue: http://127.0.0.1:1/metrics does not answer (ConnectionError)")


def test_without_a_watch_the_present_is_shown(daemon: Fake, tmp_path: Path) -> None:
    # A state file of an earlier watch says nothing about the present.
    file = write_config(tmp_path, started_at=None, digests={"state_file": "state.json"})
    (tmp_path / "state.json").write_text("garbage")
    code, output = look(file, daemon.url)

    assert code == 0
    assert output.startswith(
        "no deployment watch (chatqueue watch start) calm main now since opened Chats waiting 4 ▁ "
    )
    assert "Invalid none Errors none Releases none" in output


def test_without_a_watch_trouble_is_exit_code_1(daemon: Fake, tmp_path: Path) -> None:
    page = PAGE.replace('reply"} 0', 'reply"} 3')
    daemon.answer = lambda *_: reply(page.encode())

    assert look(write_config(tmp_path, started_at=None), daemon.url)[0] == 1


def test_without_a_watch_changes_are_since_it_was_opened(daemon: Fake) -> None:
    views: dict[str, View] = {}
    collect(views, fetch_families(f"{daemon.url}/metrics", 1))
    later = PAGE.replace("} 30", "} 37").replace('assignment"} 4', 'assignment"} 9')
    daemon.answer = lambda *_: reply(later.encode())
    collect(views, fetch_families(f"{daemon.url}/metrics", 1))
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render(views, Watch(), []))
    output = " ".join(console.export_text().split())

    assert "now since opened Chats waiting 9 +5 ▁█ assigned 12 ▁▁ " in output
    assert "Releases assignments 7 +7 ▁█" in output


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert draw_sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert draw_sparkline([5, 5, 5]) == "▁▁▁"
    assert draw_sparkline([]) == ""


def test_it_follows_through_an_outage_until_ctrl_c(daemon: Fake, tmp_path: Path) -> None:
    file = write_config(tmp_path)
    leader, follower = pty.openpty()
    arguments = ["--config.file", file, "--url", f"{daemon.url}/metrics", "--interval", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from exporter.cli import main; main()", "watch", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    try:
        wait_until(lambda: len(daemon.asked) >= 2)
        daemon.answer = lambda *_: reply(b"", 503)
        seen = len(daemon.asked)
        wait_until(lambda: len(daemon.asked) >= seen + 2)
        process.send_signal(signal.SIGINT)
        output = _read_all(leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)

    assert process.returncode == 0
    assert b"503" in output
    assert b"Traceback" not in output


def _read_all(descriptor: int) -> bytes:
    """What a terminal showed, to the end."""
    output = b""
    try:
        while part := os.read(descriptor, 65536):
            output += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    return output
