"""The log watch in a daemon that never reaches its database: files, reload, counts, health."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter.config import Logs
from exporter.daemon import Daemon
from exporter.logs import watch
from exporter.logs.counts import Counts
from exporter.logs.watch import LogWatch
from exporter.server.message import Request
from tests.unit.test_log_follower import open_files

ERROR = json.dumps({"level": "error", "message": "chat assignment failed"}) + "\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(watch, "_PUBLISH_INTERVAL_S", 0.0)


class Running:
    """A daemon, its configuration file and its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "chatqueue.yaml"
        self.write({"files": {"app": "app.log"}})
        self.daemon = Daemon(self.file)

    def write(self, logs: dict[str, Any]) -> None:
        database = {"dsn": "host=127.0.0.1 port=1"}
        self.file.write_text(yaml.safe_dump({"databases": {"main": database}, "logs": logs}))

    def reload(self, logs: dict[str, Any]) -> None:
        self.write(logs)
        self.daemon.reload()

    def append(self, text: str, name: str = "app.log") -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def value(self, name: str, **labels: str) -> float | None:
        page = self.daemon.exposition.page("").body.decode()
        found = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == f"chatqueue_log_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    running.daemon.start()
    # What is written before the first look is passed over.
    wait_until(lambda: "app" in running.daemon.logs._followers)
    app = running.daemon.logs._followers["app"]
    wait_until(lambda: app.problem == "No such file or directory")
    yield running
    assert running.daemon.stop(30)


def test_lines_of_a_file_come_to_the_page(running: Running) -> None:
    assert running.value("events_total", source="app") == 0
    assert running.value("source_up", source="app") == 0
    running.append(ERROR * 3 + "INFO fine\n")

    wait_until(lambda: running.value("lines_total", source="app") == 4)
    assert running.value("events_total", kind="assignment_error", level="error") == 3
    assert running.value("events_total", kind="other", level="info") == 1
    assert running.value("source_up", source="app") == 1
    assert time.time() - (running.value("last_line_timestamp_seconds") or 0) < 60


def test_a_reload_keeps_the_place_in_a_file_that_stays(running: Running) -> None:
    running.append(ERROR)
    wait_until(lambda: running.value("lines_total", source="app") == 1)
    (running.folder / "old.log").write_text(ERROR * 5)
    running.reload(
        {
            "files": {"app": "app.log", "old": "old.log"},
            "from": "start",
            "patterns": {"assignment_error": "off", "mine": "assignment"},
        }
    )
    wait_until(lambda: running.value("lines_total", source="old") == 5)
    running.append(ERROR)

    wait_until(lambda: running.value("lines_total", source="app") == 2)
    assert running.value("events_total", source="app", kind="mine") == 1
    assert running.value("events_total", source="app", kind="assignment_error") is None


def test_a_source_with_another_path_is_read_there(running: Running) -> None:
    running.append(ERROR)
    wait_until(lambda: running.value("source_up", source="app") == 1)
    running.reload({"files": {"app": "moved.log"}})
    wait_until(lambda: running.value("source_up", source="app") == 0)
    running.append(ERROR * 2, "moved.log")

    wait_until(lambda: running.value("lines_total", source="app") == 3)


def test_sources_come_and_go_by_reload(running: Running) -> None:
    running.append(ERROR)
    wait_until(lambda: running.value("lines_total", source="app") == 1)
    running.reload({})
    assert running.value("lines_total") is None
    wait_until(lambda: open_files(running.folder / "app.log") == 0)
    assert running.daemon.is_healthy() == ()

    running.reload({"files": {"app": "app.log"}})
    wait_until(lambda: running.value("source_up", source="app") == 1)
    assert running.value("lines_total") == 0


def test_a_source_that_comes_back_before_it_was_let_go_is_up(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("")
    config = Logs.model_validate({"files": {"app": str(tmp_path / "app.log")}})
    logs = LogWatch(config, lambda: None)

    def is_up() -> bool:
        samples = {f.name: f.samples for f in logs.families()}["chatqueue_log_source_up"]
        return samples[0].value == 1

    logs.start()
    wait_until(is_up)
    logs.apply(Logs())
    logs.apply(config)
    wait_until(is_up)

    assert logs.stop(30)


def test_a_truncation_is_counted(running: Running) -> None:
    running.append(ERROR)
    wait_until(lambda: running.value("lines_total", source="app") == 1)
    os.truncate(running.folder / "app.log", 0)

    wait_until(lambda: running.value("dropped_total", reason="truncated") == 1)


def test_a_receiver_takes_its_path_while_it_is_configured(running: Running) -> None:
    receiver = running.daemon.receiver
    request = Request(
        "POST", "/ingest/logs/drain", "", {"authorization": f"Bearer {'x' * 16}"}, b"[]", ""
    )
    assert not receiver.takes(request.path)

    running.reload({"receivers": {"drain": {"token": "x" * 16}}})
    assert receiver.takes(request.path)
    assert receiver.answer(request).status == 200
    assert running.value("source_up", source="drain") == 1


def test_a_line_that_cannot_be_judged_does_not_end_the_watch(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.append("")
    wait_until(lambda: running.value("source_up", source="app") == 1)
    with monkeypatch.context() as patch:
        failed = threading.Event()

        def fail(_: str) -> None:
            failed.set()
            raise RuntimeError("never seen")

        patch.setattr(watch, "_read", fail)
        running.append(ERROR)
        assert failed.wait(60)
    running.append(ERROR)

    wait_until(lambda: (running.value("lines_total", source="app") or 0) >= 1)
    assert running.daemon.is_healthy() == ()


def test_a_watch_that_no_longer_turns_is_told(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.daemon.logs.request_stop()

    wait_until(lambda: "logs" in running.daemon.is_healthy())


def test_a_reload_interrupts_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.log").write_text(ERROR * 50_000)
    config = {"files": {"app": str(tmp_path / "app.log")}, "from": "start"}
    logs = LogWatch(Logs.model_validate(config), lambda: None)
    judge, turns = watch._read, 0

    def reload_once(line: bytes) -> Any:
        nonlocal turns
        turns += 1
        if turns == 1:
            logs.apply(Logs())
        return judge(line)

    monkeypatch.setattr(watch, "_read", reload_once)
    logs.start()
    wait_until(lambda: turns > 0)
    wait_until(lambda: open_files(tmp_path / "app.log") == 0)

    assert logs.stop(5)
    assert turns < 50_000


def test_a_watch_that_was_never_started_stops() -> None:
    logs = LogWatch(Logs(), lambda: None)

    assert not logs.is_alive()
    assert logs.stop(1)


def test_counts_of_a_source_that_is_gone_go_nowhere() -> None:
    counts = Counts()
    counts.add("gone", {("other", "info"): 1})
    counts.drop("gone", "busy")
    counts.set_up("gone", up=True)

    assert (counts.families(), counts.total()) == ((), 0)


def test_a_file_that_becomes_a_receiver_begins_anew() -> None:
    counts = Counts()
    counts.apply(["app"], [], ("other",))
    counts.add("app", {("other", "info"): 1})
    counts.apply([], ["app"], ("other",))

    assert counts.total() == 0
