"""Counters through reloads, reconnections and failures of their query."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from exporter.metrics.events import EventCounter
from tests.builders import add_message, make_waiting_chat
from tests.counting import Watcher
from tests.servers import Platform
from tests.watch import run_watch, write_config

pytestmark = pytest.mark.newest

MESSAGES = "chatqueue_messages_total"
FASTER = {"messages": {"interval": "1s", "timeout": "1s"}}


def count(watcher: Watcher) -> float | None:
    return watcher.value(MESSAGES, "customer")


def test_a_reload_that_changes_something_else_keeps_the_counters(platform: Platform) -> None:
    with Watcher(platform, ["messages"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.change_query("messages", interval_s=60.0, timeout_s=1.0)
        watcher.change(labels=(("env", "production"),))
        assert count(watcher) == 1
        watcher.poll_well()

        assert count(watcher) == 2


def test_a_longer_or_shorter_overlap_neither_misses_nor_repeats(platform: Platform) -> None:
    with Watcher(platform, ["messages"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        for number, overlap_s in enumerate((30.0, 1.0, 600.0, 30.0), 1):
            add_message(platform, chat)
            parameters = dict(watcher.plan.parameters)
            watcher.change(parameters={**parameters, "event_overlap": overlap_s})
            for _ in range(2):
                watcher.poll_well()
            assert count(watcher) == number


def test_a_reconnection_keeps_the_counters_and_what_happened_meanwhile(platform: Platform) -> None:
    with Watcher(platform, ["messages"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.poll_well()
        watcher.change(dsn="host=127.0.0.1 port=1 dbname=nowhere")
        assert watcher.poll() == frozenset()
        add_message(platform, chat)
        watcher.change(dsn=platform.dsn)
        watcher.poll_well()

        assert count(watcher) == 2


def test_a_changed_mapping_starts_anew(platform: Platform) -> None:
    with Watcher(platform, ["messages"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.poll_well()
        assert count(watcher) == 1
        metrics = watcher.query("messages").metrics
        changed = tuple(replace(m, help="Other words.") for m in metrics)
        watcher.change_query("messages", metrics=changed)
        assert count(watcher) is None
        watcher.poll_well()
        assert count(watcher) == 0
        add_message(platform, chat)
        watcher.poll_well()

        assert count(watcher) == 1


def test_a_changed_key_starts_anew(platform: Platform) -> None:
    with Watcher(platform, ["assignments"]) as watcher:
        watcher.poll_well()
        before = watcher.worker._results.counters["assignments"]
        events = watcher.query("assignments").events
        assert events is not None
        watcher.change_query("assignments", events=replace(events, window="key"))

        assert watcher.worker._results.counters["assignments"] is not before


def test_a_query_that_fails_too_long_hides_its_family_and_loses_no_count(
    platform: Platform,
) -> None:
    with Watcher(platform, ["messages", "waits"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.poll_well()
        sql = watcher.query("messages").sql
        watcher.change_query("messages", sql="SELECT 1 / 0", parameters=())
        max_age_s = 3 * watcher.query("messages").interval_s
        for _ in range(2):
            add_message(platform, chat)
            watcher.now_s += max_age_s / 2
            assert watcher.poll() == {"waits"}
        assert count(watcher) is None
        assert watcher.value("chatqueue_waits_total") == 0
        assert watcher.errors()["messages"] == {"other": 2}

        parameters = ("event_overlap", "pending", "seen", "since")
        watcher.change_query("messages", sql=sql, parameters=parameters)
        watcher.poll_well()
        assert count(watcher) == 3


def test_a_row_that_does_not_fit_counts_nothing_of_its_poll(platform: Platform) -> None:
    with Watcher(platform, ["messages"]) as watcher:
        chat = make_waiting_chat(platform)
        watcher.poll_well()
        add_message(platform, chat)
        platform.execute("ALTER TABLE messages DROP CONSTRAINT messages_sender_type_check")
        watcher.change_query("messages", max_rows=1)
        add_message(platform, chat)
        assert watcher.poll() == frozenset()
        assert count(watcher) == 0

        watcher.change_query("messages", max_rows=1000)
        watcher.poll_well()
        assert count(watcher) == 2


def test_the_daemon_keeps_counting_through_a_reload(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn}, overrides=FASTER)
    chat = make_waiting_chat(platform)
    with run_watch(config) as watch:
        add_message(platform, chat)
        watch.wait_until(lambda: watch.value(MESSAGES, sender="customer") == 1)
        write_config(
            tmp_path, {"main": platform.dsn}, overrides=FASTER, thresholds={"data_age": "3m"}
        )
        watch.daemon.reload()
        add_message(platform, chat)
        watch.wait_until(lambda: watch.value(MESSAGES, sender="customer") == 2)

        assert watch.value("chatqueue_threshold_data_age_seconds") == 180


def test_the_watermark_never_passes_what_a_failed_poll_saw(platform: Platform) -> None:
    def since(counter: EventCounter) -> datetime:
        value = counter.parameters()["since"]
        assert isinstance(value, datetime)
        return value

    with Watcher(platform, ["messages"]) as watcher:
        watcher.poll_well()
        counter = watcher.worker._results.counters["messages"]
        first = since(counter)
        watcher.change_query("messages", sql="SELECT 1 / 0", parameters=())
        watcher.poll()

        assert since(counter) == first
