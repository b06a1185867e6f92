"""`chatqueue demo`: alive in seconds, whatever the scenario, and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import requests

from exporter.demo.scenarios import SCENARIOS
from tests.postgres.test_cli_helpers import Command, find_address, run_command, start
from tests.servers import memory_directory, require_tool
from tests.watch import BUILT_IN, SLACK_S

FULL_S = 5.0 + SLACK_S
END_S = 5.0 + SLACK_S


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the server's account can reach, which pytest's own is not."""
    name = tempfile.mkdtemp(prefix="demo-test-", dir=memory_directory())
    Path(name).chmod(0o755)
    try:
        yield Path(name)
    finally:
        # The demo's own watcher may be removing the same files at this moment.
        for _ in range(3):
            shutil.rmtree(name, ignore_errors=True)


@contextmanager
def run_demo(folder: Path, *arguments: str, ready: bool = True) -> Iterator[Command]:
    """Run the demo with its temporary folders below one of ours."""
    with start("demo", *arguments, env={"TMPDIR": str(folder)}) as demo:
        if ready:
            demo.wait_for_log("serving", 60)
            demo.wait_until(lambda: "Ctrl-C ends the demo" in demo.stdout)
            demo.address = find_address(demo.stderr)
        yield demo


def working(page: str) -> int:
    """How many queries work, as the page says."""
    return len(re.findall(r"^chatqueue_exporter_query_success\{.*\} 1\.0$", page, re.MULTILINE))


def running_below(folder: Path) -> list[str]:
    """Command lines that name a folder, of processes that run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in words:
                found.append(words)
    return found


def assert_nothing_left(folder: Path) -> None:
    """Fail where a process or a file of the demo is still there."""
    deadline = time.monotonic() + 5
    while (left := [*running_below(folder), *map(str, folder.iterdir())]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_scenario_is_full_at_once_and_leaves_nothing(scenario: str, folder: Path) -> None:
    address = ("--web.listen-address", "127.0.0.1:0")
    number = signal.SIGINT if scenario == "calm" else signal.SIGTERM
    with run_demo(folder, "--scenario", scenario, *address) as demo:
        took_s = demo.wait_until(lambda: working(demo.page()) == len(BUILT_IN), FULL_S)
        page = demo.page()
        ended_s = demo.end(number)

        assert took_s < FULL_S
        assert re.search(r'^chatqueue_chats\{.*state="assigned"\} [1-9]', page, re.MULTILINE)
        assert f'Scenario "{scenario}": {SCENARIOS[scenario].summary}' in demo.stdout
        assert demo.process.returncode == 0
        assert ended_s < END_S
        assert demo.stdout.endswith("The demo has ended; nothing is left behind.\n")
        assert_nothing_left(folder)


def released(page: str, decision: str) -> int:
    """How often the page says that was decided."""
    found = re.search(
        rf'^chatqueue_release_decisions_total\{{.*decision="{decision}"\}} (\d+)',
        page,
        re.MULTILINE,
    )
    return int(found[1]) if found else 0


@pytest.mark.slow
def test_the_chats_of_vanished_operators_are_handed_back_where_that_is_asked_for(
    folder: Path,
) -> None:
    arguments = ("--scenario", "vanished-operators", "--release", "enforce")
    with run_demo(folder, *arguments, "--web.listen-address", "127.0.0.1:0") as demo:
        typed = re.search(r"^  (.* audit --config.file .*)$", demo.stdout, re.MULTILINE)
        server = re.search(r"^  psql '(.*)'$", demo.stdout, re.MULTILINE)
        assert typed
        assert server
        demo.wait_until(lambda: released(demo.page(), "released") == 3, 100)
        page = demo.page()
        audit = subprocess.run(
            [*typed[1].split(), "--json"], capture_output=True, text=True, check=True
        )
        rows = json.loads(audit.stdout)
        with psycopg.connect(server[1]) as owner:
            reasons = owner.execute(
                "SELECT release_reason FROM chat_assignments WHERE id = ANY(%s)",
                [[row["assignment"] for row in rows]],
            ).fetchall()

        assert 'chatqueue_release_mode{database="demo",mode="enforce"} 1.0' in page
        assert 'decision="released"}   on the page' in demo.stdout
        assert len(rows) == 3
        assert {(f"auto_release:{row['id']}",) for row in rows} == set(reasons)
        assert released(page, "would_release") == 0


def test_releases_are_only_observed_where_that_is_asked_for(folder: Path) -> None:
    with run_demo(folder, "--release", "observe", "--web.listen-address", "127.0.0.1:0") as demo:
        demo.wait_until(lambda: 'mode="observe"} 1.0' in demo.page())

        assert "Auto-release is in mode observe" in demo.stdout
        assert 'decision="would_release"}   on the page' in demo.stdout


def test_beside_a_taken_port_it_takes_a_free_one_and_prints_what_can_be_typed(
    folder: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        with suppress(OSError):  # taken by somebody else already is as good
            stack.enter_context(socket.create_server(("127.0.0.1", 10847)))
        demo = stack.enter_context(run_demo(folder))
        typed = re.search(r"^  (.* status --config.file .*)$", demo.stdout, re.MULTILINE)
        assert typed
        done = subprocess.run(typed[1].split(), capture_output=True, text=True, check=False)

        assert demo.address != "127.0.0.1:10847"
        assert f"http://{demo.address}/metrics" in demo.stdout
        assert demo.get("/-/healthy").status_code == 200
        assert done.stderr == ""
        assert done.stdout.startswith("demo: ")
        assert done.returncode in (0, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_server_is_created_leaves_nothing(
    number: signal.Signals, folder: Path
) -> None:
    with run_demo(folder, "--web.listen-address", "127.0.0.1:0", ready=False) as demo:
        # In the midst of initdb, whose own children write these.
        demo.wait_until(lambda: list(folder.glob("chatqueue-*/data/base/1/*")))
        demo.end(number)

        assert demo.process.returncode == 0
        assert demo.stderr == ""
        assert_nothing_left(folder)


def test_a_closed_terminal_ends_it_and_a_second_signal_does_not_cut_the_clearing_short(
    folder: Path,
) -> None:
    with run_demo(folder, "--web.listen-address", "127.0.0.1:0") as demo:
        demo.process.send_signal(signal.SIGHUP)
        demo.wait_for_log("event=stopped")
        with suppress(ProcessLookupError):
            demo.process.send_signal(signal.SIGINT)
        demo.process.wait(20)

        assert demo.process.returncode == 0
        assert_nothing_left(folder)


def test_killed_outright_it_leaves_no_server(folder: Path) -> None:
    with run_demo(folder, "--web.listen-address", "127.0.0.1:0") as demo:
        assert psutil.Process(demo.process.pid).children()
        demo.process.kill()
        demo.process.wait()
        demo.wait_until(lambda: not running_below(folder), 15)

        # The watcher removes the server's folder; the configuration's own folder is a few bytes.
        demo.wait_until(lambda: not list(folder.glob("chatqueue-*/data")), 15)


def test_in_full_the_scenario_fires_in_a_real_prometheus_and_leaves_nothing(folder: Path) -> None:
    for program in ("prometheus", "prometheus-alertmanager"):
        require_tool(program, program)
    address = ("--web.listen-address", "127.0.0.1:0")
    with run_demo(folder, "--full", "--scenario", "lost-replies", *address) as demo:
        prometheus, alertmanager = re.findall(
            r"^  (http://[\d.:]+)/(?:#/)?alerts", demo.stdout, re.MULTILINE
        )

        def alerts() -> dict[str, str]:
            answer = requests.get(f"{prometheus}/api/v1/alerts", timeout=10).json()
            return {a["labels"]["alertname"]: a["state"] for a in answer["data"]["alerts"]}

        demo.wait_until(lambda: alerts().get("ChatQueueLostReply") == "pending", 60)
        demo.wait_until(
            lambda: "ChatQueueWatchdog" in requests.get(f"{alertmanager}/api/v2/alerts").text, 30
        )
        up = requests.get(f"{prometheus}/api/v1/query", params={"query": "up"}, timeout=10).json()
        demo.end(signal.SIGINT)

        assert [each["value"][1] for each in up["data"]["result"]] == ["1"]
        assert demo.process.returncode == 0
        assert_nothing_left(folder)


def test_in_full_it_names_what_is_missing(folder: Path) -> None:
    path = str(folder)
    code, out, err = run_command("demo", "--full", env={"PATH": path, "TMPDIR": path})

    if any(Path("/usr/sbin", name).exists() for name in ("prometheus", "alertmanager")):
        pytest.skip("they are installed where PATH does not matter")
    assert (code, out) == (1, "")
    assert err == (
        "chatqueue: demo --full needs prometheus (Debian's package prometheus) and alertmanager"
        " (Debian's package prometheus-alertmanager) on PATH\n"
    )
    assert list(folder.iterdir()) == []
