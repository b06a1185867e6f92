"""Announcements of a deployment: when the daemon makes them, what they say, and by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import cli, main
from exporter.config import load_config
from exporter.config.watch import Digests, Watch, WatchTimes
from exporter.digests.announcements import (
    BY_HAND,
    Verdict,
    announcement_times,
    build_announcement,
)
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import Reading
from exporter.ops.report.verdict import judge_so_far
from tests.unit.test_digests import BEGUN, CALM, HOUR, MINUTE, Clock, Listener, make_watch, take
from tests.webhooks import OK, Receiver

SO_FAR = Verdict(("Verdict so far: pass. No reason to roll back.",), {"verdict": "pass"})
QUIET = Digests.model_validate({"first_hour": "off", "afterwards": "off"})


def make(watch: Watch, clock: Clock, listener: Listener) -> DigestScheduler:
    return DigestScheduler(
        watch,
        lambda: {"main": Reading(CALM)},
        listener,
        clock,
        judge=lambda _, at: Verdict((f"judged at {at.isoformat()}",)),
    )


def kinds(listener: Listener) -> list[str]:
    return [notice.fields["kind"] for notice in listener.announced]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"started": 0, "deadline": 180, "over": 1440}),
        ({"rollback_within": "1h"}, {"started": 0, "over": 1440}),
        ({"rollback_within": "3d"}, {"started": 0, "over": 1440}),
        ({"rollback_within": "61m"}, {"started": 0, "deadline": 1, "over": 1440}),
        ({"started_at": None}, {}),
    ],
)
def test_the_beginning_the_deadline_and_the_end_are_announced(
    keys: dict[str, object], expected: dict[str, float]
) -> None:
    times = announcement_times(make_watch(**keys))
    assert {kind: (at - BEGUN) / MINUTE for kind, at in times} == expected


def test_the_daemon_announces_each_at_its_time_with_the_verdict_so_far() -> None:
    clock, listener = Clock(BEGUN - HOUR), Listener()
    scheduler = make(make_watch(digests=QUIET), clock, listener)
    waits = []
    for hours in (-1.0, 0.0, 1.0, 3.0, 3.1, 24.0, 25.0):
        clock.now = BEGUN + hours * HOUR
        waits.append(scheduler._run_once())

    assert kinds(listener) == ["started", "deadline", "over"]
    assert waits[0] == 3600
    assert waits[-1] is None
    started, deadline, over = listener.announced
    assert started.title == "main: The deployment has begun and is watched"
    assert started.lines == (
        "Rollback possible until 2026-11-23 12:00 UTC, watched until 2026-11-24 08:00 UTC.",
    )
    assert deadline.title == "main: One hour left to roll the deployment back"
    assert deadline.lines == (
        "Rollback possible until 2026-11-23 12:00 UTC.",
        f"judged at {(BEGUN + 3 * HOUR).isoformat()}",
    )
    assert over.lines == (f"judged at {(BEGUN + 24 * HOUR).isoformat()}",)


def test_a_watch_that_is_started_by_command_is_announced_although_it_is_seen_late() -> None:
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make(make_watch(started_at=None), clock, listener)
    scheduler._run_once()
    clock.now = BEGUN + timedelta(seconds=20)
    begun = BEGUN + timedelta(seconds=5)
    take(scheduler, Watch().at_times(WatchTimes(begun, begun + 24 * HOUR, begun + 4 * HOUR)))
    scheduler._run_once()
    assert kinds(listener) == ["started"]

    # It is stopped: that is its end, and the deadline is announced no more.
    clock.now = BEGUN + HOUR
    take(scheduler, Watch().at_times(WatchTimes(begun, BEGUN + HOUR, begun + 4 * HOUR)))
    for minutes in (60, 185, 300):
        clock.now = BEGUN + minutes * MINUTE
        scheduler._run_once()
    assert kinds(listener) == ["started", "over"]


def test_a_daemon_that_starts_in_the_middle_announces_nothing_that_has_passed() -> None:
    clock, listener = Clock(BEGUN + 3 * HOUR + 5 * MINUTE), Listener()
    make(make_watch(), clock, listener)._run_once()
    assert kinds(listener) == []


@given(st.lists(st.tuples(st.integers(1, 20_000), st.booleans()), min_size=1, max_size=40))
def test_with_a_state_file_nothing_is_announced_twice_whatever_restarts(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, bool]]
) -> None:
    file = tmp_path_factory.mktemp("watch") / "state.json"
    watch = make_watch(digests={"state_file": file})
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make(watch, clock, listener)
    for seconds, dies in plan:
        scheduler._run_once()
        clock.now += timedelta(seconds=seconds)
        if dies:
            scheduler = make(watch, clock, listener)
    scheduler._run_once()
    assert len(kinds(listener)) == len(set(kinds(listener)))
    assert kinds(listener)[0] == "started"


@pytest.mark.parametrize("kind", BY_HAND)
def test_an_announcement_by_hand_begins_with_its_own_words(kind: str) -> None:
    notice = build_announcement(
        kind,  # type: ignore[arg-type]
        ("a", "b"),
        make_watch(started_at=None),
        window="Tuesday 06:00 UTC",
        message="The on-call engineer leads it.",
    )
    assert notice.title.startswith("a, b: ")
    assert notice.title.endswith(": Tuesday 06:00 UTC")
    assert notice.lines[0] == "The on-call engineer leads it."
    assert (notice.fields["kind"], notice.fields["report"]) == (kind, {})


def test_the_report_goes_with_it_for_programs() -> None:
    notice = build_announcement("over", ("main",), make_watch(), SO_FAR)
    assert notice.lines == SO_FAR.lines
    assert notice.fields["report"] == {"verdict": "pass"}


def write(folder: Path, url: str, events: str = "[announcement]") -> Path:
    path = folder / "chatqueue.yaml"
    path.write_text(
        "databases: {main: {dsn: host=db}}\n"
        "watch: {started_at: 2026-11-23T08:00:00Z}\n"
        f"notify: {{webhooks: {{team: {{url: '{url}', events: {events}}}}}}}\n"
    )
    return path


def test_the_command_sends_it_or_shows_it(tmp_path: Path) -> None:
    with Receiver(OK) as team:
        config = ["--config.file", str(write(tmp_path, team.url))]
        shown = CliRunner().invoke(cli, ["announce", "started", "--dry-run", *config])
        assert (shown.exit_code, team.received) == (0, [])
        assert shown.output == (
            "main: The deployment has begun and is watched\n"
            "Rollback possible until 2026-11-23 12:00 UTC, watched until 2026-11-24 08:00 UTC.\n"
        )

        sent = CliRunner().invoke(cli, ["announce", "done", "--message", "All well.", *config])
        assert sent.exit_code == 0
        assert sent.output.startswith("team: delivered, answered 200")
        assert team.events == ["announcement"]
        assert "All well." in team.received[0].document["text"]


def test_a_webhook_that_does_not_take_announcements_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, "http://127.0.0.1:1/", "[tripped]")
    with pytest.raises(SystemExit) as ended:
        main(["announce", "planned", "--config.file", str(config)])
    assert ended.value.code == 1
    assert "none of team takes the event announcement" in capsys.readouterr().err


def test_what_the_report_cannot_say_is_said(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "http://127.0.0.1:1/"))
    verdict = judge_so_far(config, config.watch, datetime(2026, 11, 23, 9, tzinfo=BEGUN.tzinfo))
    assert verdict.lines == (
        "Verdict so far: unknown (no Prometheus is configured, expected prometheus.url).",
    )
