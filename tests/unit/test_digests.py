"""The digests of a watch: when they are sent, what they say, and what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.watch import Digests, Watch
from exporter.digests.account import Account
from exporter.digests.announcements import EVENT
from exporter.digests.digest import build_digest, find_troubles
from exporter.digests.memory import Memory, read_memory, write_memory
from exporter.digests.schedule import MAX_LATE, digest_times, due_time, next_time
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import FIGURES, Reading, read_figures
from exporter.metrics.snapshot import Family, Sample
from exporter.notify.notices import Notice
from tests.webhooks import wait_until

BEGUN = datetime(2026, 11, 23, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def make_watch(**keys: object) -> Watch:
    """A watch of 24 hours, its digests as configured by default."""
    return Watch.model_validate({"started_at": BEGUN, **keys})


def minutes(watch: Watch) -> list[float]:
    """The scheduled times in minutes since the beginning."""
    return [(time - BEGUN) / MINUTE for time in digest_times(watch)]


def test_digests_come_each_quarter_of_the_first_hour_and_then_hourly() -> None:
    hourly = [60.0 * hour for hour in range(2, 25)]

    assert minutes(make_watch()) == [15.0, 30.0, 45.0, 60.0, *hourly]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"for": "1h"}, [15, 30, 45, 60]),
        ({"for": "2h30m"}, [15, 30, 45, 60, 120, 150]),
        ({"for": "3h", "digests": {"first_hour": "off"}}, [60, 120, 180]),
        ({"for": "3h", "digests": {"afterwards": "off"}}, [15, 30, 45, 60, 180]),
        ({"for": "90m", "digests": {"first_hour": "40m"}}, [40, 60, 90]),
        ({"digests": {"first_hour": "off", "afterwards": "off"}}, []),
        ({"started_at": None}, []),
    ],
)
def test_the_schedule_follows_the_configuration(
    keys: dict[str, object], expected: list[int]
) -> None:
    assert minutes(make_watch(**keys)) == expected


def test_of_missed_digests_only_the_latest_is_sent_and_none_that_is_old() -> None:
    watch = make_watch()

    assert due_time(watch, None, BEGUN, BEGUN + 46 * MINUTE) == BEGUN + 45 * MINUTE
    assert due_time(watch, BEGUN + 45 * MINUTE, BEGUN, BEGUN + 46 * MINUTE) is None
    assert due_time(watch, None, BEGUN + 46 * MINUTE, BEGUN + 47 * MINUTE) is None
    late = BEGUN + 5 * HOUR + MAX_LATE
    assert due_time(watch, None, BEGUN, late) == BEGUN + 5 * HOUR
    assert due_time(watch, None, BEGUN, late + timedelta(seconds=1)) is None
    assert next_time(watch, BEGUN + 24 * HOUR) is None


class Clock:
    """A time that is set by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Listener:
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.announced: list[Notice] = []

    def notify(self, notice: Notice) -> None:
        (self.announced if notice.event == EVENT else self.notices).append(notice)

    @property
    def times(self) -> list[datetime]:
        return [datetime.fromisoformat(notice.fields["moment"]) for notice in self.notices]


CALM = {"waiting": 2.0, "assignments": 10.0, "database_up": 1.0}


def make_scheduler(
    watch: Watch,
    clock: Clock,
    listener: Listener,
    read: Callable[[], Mapping[str, Reading]] = lambda: {"main": Reading(CALM)},
) -> DigestScheduler:
    return DigestScheduler(watch, read, listener, clock)


def take(scheduler: DigestScheduler, watch: Watch) -> None:
    """Put another configuration into force, as the thread does before it looks."""
    scheduler.apply(watch)
    scheduler._apply_pending_plan()


def test_the_last_digest_is_kept_for_the_live_page_until_another_watch_begins() -> None:
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(make_watch(), clock, listener)
    assert scheduler.sent == {}
    clock.now = BEGUN + 15 * MINUTE
    scheduler._run_once()
    assert scheduler.sent == {"main": listener.notices[-1]}
    take(scheduler, make_watch(started_at=BEGUN + HOUR))

    assert scheduler.sent == {}


steps = st.lists(
    st.tuples(st.integers(1, 7200), st.booleans()), min_size=1, max_size=60
)  # seconds until the next look, and whether the process dies before it


@given(steps, st.booleans())
def test_whatever_restarts_each_digest_is_sent_at_most_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, bool]], with_file: bool
) -> None:
    file = tmp_path_factory.mktemp("watch") / "state.json" if with_file else None
    watch = make_watch(digests=Digests(state_file=file))
    clock, listener = Clock(BEGUN - HOUR), Listener()
    scheduler = make_scheduler(watch, clock, listener)
    for wait_s, dies in plan:
        clock.now += timedelta(seconds=wait_s)
        if dies:
            scheduler = make_scheduler(watch, clock, listener)
        scheduler._run_once()

    sent = listener.times
    assert sent == sorted(set(sent))
    assert set(sent) <= set(digest_times(watch))


def test_a_scheduler_that_runs_when_it_said_misses_no_digest() -> None:
    watch = make_watch(**{"for": "4h"})
    clock, listener = Clock(BEGUN - 90 * MINUTE), Listener()
    scheduler = make_scheduler(watch, clock, listener)
    while (wait_s := scheduler._run_once()) is not None:
        clock.now += timedelta(seconds=wait_s)

    assert listener.times == list(digest_times(watch))
    assert clock.now == BEGUN + 4 * HOUR


def test_a_digest_waits_until_every_database_was_polled() -> None:
    readings: dict[str, Reading] = {}
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(make_watch(), clock, listener, lambda: readings)
    clock.now += 15 * MINUTE
    assert scheduler._run_once() == 1.0
    assert not listener.notices

    readings.update(main=Reading(CALM), other=Reading({}))
    scheduler._run_once()

    assert [notice.fields["database"] for notice in listener.notices] == ["main", "other"]


def test_a_restart_keeps_the_beginning_the_last_digest_and_the_counts(tmp_path: Path) -> None:
    watch = make_watch(digests={"state_file": tmp_path / "state.json"})
    values = dict(CALM)
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(watch, clock, listener, lambda: {"main": Reading(dict(values))})
    scheduler._run_once()
    values |= {"assignments": 14.0, "waiting": 5.0}
    clock.now += 15 * MINUTE
    scheduler._run_once()

    scheduler = make_scheduler(watch, clock, listener, lambda: {"main": Reading(dict(values))})
    assert scheduler._run_once() == 60.0
    values |= {"assignments": 3.0, "waiting": 1.0}  # the counter began anew
    clock.now += 15 * MINUTE
    scheduler._run_once()

    first, second = listener.notices
    assert first.fields["now"]["assignments"] == 4
    assert second.fields["now"]["assignments"] == 7
    assert second.fields["last"] == {"waiting": 5, "assignments": 4, "database_up": 1}
    assert second.fields["start"] == {"waiting": 2, "assignments": 0, "database_up": 1}
    assert "Chats: waiting 1 (-4, -1)" in second.lines
    assert "Releases: assignments 7 (+3)" in second.lines


def test_another_beginning_is_another_watch(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(make_watch(digests={"state_file": file}), clock, listener)
    clock.now += 15 * MINUTE
    scheduler._run_once()

    later = make_watch(started_at=BEGUN + 10 * MINUTE, digests={"state_file": file})
    take(scheduler, later)
    assert scheduler._run_once() == 60.0
    clock.now += 10 * MINUTE
    scheduler._run_once()
    take(scheduler, make_watch(started_at=None))
    assert scheduler._run_once() is None

    assert listener.times == [BEGUN + 15 * MINUTE, BEGUN + 25 * MINUTE]
    assert read_memory(file, BEGUN) is None


def test_a_reload_that_keeps_the_beginning_forgets_nothing() -> None:
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(make_watch(), clock, listener)
    clock.now += 15 * MINUTE
    scheduler._run_once()

    take(scheduler, make_watch(digests={"first_hour": "5m"}))
    scheduler._run_once()
    clock.now += 5 * MINUTE
    scheduler._run_once()

    assert listener.times == [BEGUN + 15 * MINUTE, BEGUN + 20 * MINUTE]


GARBAGE = {
    "empty": (b"", "does not hold"),
    "cut off": (b'{"version": 1, "started_at": "2026-11', "does not hold"),
    "binary": (b"\x00\xff\xfe", "does not hold"),
    "another shape": (b"[1, 2]", "does not hold"),
    "no databases": (b'{"version": 1, "started_at": "2026-11-23T08:00:00Z"}', "does not hold"),
    "no zone": (
        b'{"version": 1, "started_at": "2026-11-23T08:00:00", "last": null, "databases": {}}',
        "does not hold",
    ),
    "no number": (
        (
            b'{"version": 1, "started_at": "2026-11-23T08:00:00Z", "last": null, "databases":'
            b' {"main": {"start": {"waiting": NaN}, "digest": {}, "now": {}, "raw": {}}}}'
        ),
        "does not hold",
    ),
    "deep": (b"[" * 100_000, "does not hold"),
    "of the future": (b'{"version": 2}', "is of version 2, expected 1"),
    "too large": (b" " * (1024 * 1024 + 1), "is too large"),
}


@pytest.mark.parametrize(("content", "words"), GARBAGE.values(), ids=GARBAGE)
def test_a_broken_file_is_logged_replaced_and_harms_nothing(
    content: bytes, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(content)
    clock, listener = Clock(BEGUN + 14 * MINUTE), Listener()
    with structlog.testing.capture_logs() as logged:
        scheduler = make_scheduler(make_watch(digests={"state_file": file}), clock, listener)
    clock.now += MINUTE
    scheduler._run_once()

    assert [line["event"] for line in logged] == ["watch state not used"]
    assert words in logged[0]["error"]
    assert listener.times == [BEGUN + 15 * MINUTE]
    assert json.loads(file.read_text())["last"] == "2026-11-23T08:15:00+00:00"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_that_is_not_there_silences_no_digest_and_is_logged_once(tmp_path: Path) -> None:
    watch = make_watch(digests={"state_file": tmp_path / "nowhere" / "state.json"})
    clock, listener = Clock(BEGUN), Listener()
    with structlog.testing.capture_logs() as logged:
        scheduler = make_scheduler(watch, clock, listener)
        for _ in range(2):
            clock.now += 15 * MINUTE
            scheduler._run_once()
        (tmp_path / "nowhere").mkdir()
        clock.now += MINUTE
        scheduler._run_once()

    assert len(listener.times) == 2
    errors = [line for line in logged if line["log_level"] == "error"]
    assert [line["event"] for line in errors] == ["watch state not written"]
    assert read_memory(tmp_path / "nowhere" / "state.json", BEGUN) is not None


def test_a_state_file_that_is_a_folder_is_no_memory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_memory(tmp_path, BEGUN)


names = st.sampled_from([figure.key for figure in FIGURES.values()])
figures = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False))


@given(st.dictionaries(st.text(max_size=9), st.builds(Account, figures, figures, figures, figures)))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, accounts: dict[str, Account]
) -> None:
    file = tmp_path_factory.mktemp("watch") / "state.json"
    memory = Memory(BEGUN, BEGUN + HOUR, accounts)

    write_memory(file, memory)

    assert read_memory(file, BEGUN) == memory


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_a_counter_is_added_up_over_its_resets(increments: list[int]) -> None:
    account = Account().update(Reading({"assignments": 7.0}))
    raw = 7.0
    for index, increment in enumerate(increments):
        # Every third look may follow a restart, which began at 0.
        raw = float(increment) if index % 3 == 2 and increment < raw else raw + increment
        account = account.update(Reading({"assignments": raw}))

    assert account.now["assignments"] == sum(increments)
    assert account.start["assignments"] == 0


def test_a_metric_that_is_away_for_a_while_keeps_its_count() -> None:
    account = Account().update(Reading({"assignments": 5.0, "waiting": 1.0}))
    account = account.update(Reading({"assignments": 9.0, "waiting": 2.0})).update(Reading({}))

    assert account.now == {"assignments": 4.0}
    assert account.update(Reading({"assignments": 11.0})).now == {"assignments": 6.0}


def family(name: str, *samples: tuple[dict[str, str], float]) -> Family:
    return Family(
        name,
        "gauge",
        "",
        "",
        tuple(Sample(tuple(labels.items()), value) for labels, value in samples),
    )


def test_values_are_sums_of_counts_and_the_largest_of_ages() -> None:
    reading = read_figures(
        [
            family(
                "chatqueue_chats",
                ({"state": "waiting_assignment"}, 3),
                ({"state": "assigned"}, 2),
            ),
            family("chatqueue_customer_oldest_wait_seconds", ({}, 61.5)),
            family(
                "chatqueue_invalid_chats",
                ({"check": "lost_reply"}, 2),
                ({"check": "orphaned_assignment"}, 0),
            ),
            family("chatqueue_invalid_chats", ({"check": "unknown_state"}, 3)),
            family(
                "chatqueue_releases_total",
                ({"outcome": "admin"}, 1),
                ({"outcome": "manual"}, 4),
                ({"outcome": "replied"}, 9),
            ),
            family("own_figure", ({}, 1)),
        ]
    )

    assert reading.values == {
        "waiting": 3,
        "assigned": 2,
        "customer_wait": 61.5,
        "invalid": 5,
        "released_replied": 9,
        "released_by_hand": 5,
    }
    assert reading.details == {"invalid": (("unknown_state", 3), ("lost_reply", 2))}


BEFORE = Reading(
    {figure.key: 10.0 for figure in FIGURES.values() if figure.is_counter}
    | {"waiting": 3, "assigned": 12, "replied": 200, "unknown_state": 0, "available": 4}
    | {"oldest_waiting": 30, "oldest_assigned": 300, "customer_wait": 45}
    | {"overdue_waiting": 0, "overdue_assigned": 0, "idle_overdue": 0}
    | {"invalid": 0, "database_up": 1}
)


def read_twice(first: Reading, second: Reading) -> Account:
    return Account().update(BEFORE).update(first).mark_sent().update(second)


def test_a_calm_digest_reads_like_this() -> None:
    later = Reading(
        {**BEFORE.values, "waiting": 5, "assigned": 11, "assignments": 24, "released_replied": 21}
    )
    latest = Reading({**later.values, "waiting": 4, "assignments": 31, "customer_wait": 70})
    notice = build_digest("main", read_twice(later, latest), make_watch(), BEGUN + 30 * MINUTE)

    assert notice.event == "digest"
    assert notice.title == "main: 30m of 1d watched, calm"
    assert "\n".join(notice.lines) == (
        "Chats: waiting 4 (-1, +1), assigned 11 (±0, -1), waiting for the customer 200, "
        "operators available 4\n"
        "Waits: oldest in the queue 30s, oldest assigned 5m, longest unanswered wait of a user"
        " 1m10s "
        "(+25s, +25s)\n"
        "Stuck: none\n"
        "Invalid: none\n"
        "Errors: none\n"
        "Releases: assignments 21 (+7), replied 11\n"
        "Rollback possible for 3h30m more, until 2026-11-23 12:00 UTC.\n"
        "In brackets: since the last digest, since the watch began. Counts are since it began."
    )


def test_a_digest_says_first_what_to_look_at() -> None:
    bad = Reading(
        {**BEFORE.values, "invalid": 3, "repeats": 12, "query_errors": 11, "overdue_assigned": 1},
        {"invalid": (("lost_reply", 2), ("unknown_state", 1))},
    )
    notice = build_digest("main", read_twice(BEFORE, bad), make_watch(), BEGUN + 24 * HOUR)

    assert notice.title == "main: the watch is over, look at 1 assigned too long and 3 more"
    assert notice.lines[0] == (
        "Look at: 1 assigned too long, 3 chats in an invalid state (lost_reply 2, unknown_state "
        "1), 2 new avoidable repeats, 1 new failed queries"
    )
    assert notice.fields["reason"] == notice.lines[0].removeprefix("Look at: ")
    assert not any("Rollback" in line for line in notice.lines)


def test_what_grew_before_the_last_digest_is_not_new() -> None:
    bad = Reading({**BEFORE.values, "repeats": 12})

    assert find_troubles(read_twice(bad, bad)) == []


def test_a_database_that_is_gone_is_no_calm() -> None:
    gone = read_twice(BEFORE, Reading({"database_up": 0}))
    notice = build_digest("main", gone, make_watch(), BEGUN + HOUR)

    assert find_troubles(gone) == ["a database that does not answer"]
    assert find_troubles(Account()) == ["a database that does not answer"]
    assert notice.title == "main: 1h of 1d watched, look at a database that does not answer"
    assert any(line.startswith("Chats: waiting unknown, assigned unknown") for line in notice.lines)


def test_a_value_that_is_gone_is_no_zero() -> None:
    values = {key: value for key, value in BEFORE.values.items() if key != "invalid"}
    account = read_twice(BEFORE, Reading(values))

    assert find_troubles(account) == ["chats in an invalid state, which are unknown"]
    assert find_troubles(Account().update(Reading(values))) == []


def test_a_digest_without_a_watch_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no watch"):
        build_digest("main", Account(), make_watch(started_at=None), BEGUN)


@pytest.fixture
def running() -> Iterator[tuple[DigestScheduler, Clock, Listener]]:
    clock, listener = Clock(BEGUN), Listener()
    scheduler = make_scheduler(make_watch(started_at=None), clock, listener)
    scheduler.start()
    yield scheduler, clock, listener
    assert scheduler.stop(20)


def test_a_reload_wakes_the_thread(
    running: tuple[DigestScheduler, Clock, Listener],
) -> None:
    scheduler, clock, listener = running
    scheduler.apply(make_watch())
    wait_until(lambda: scheduler._memory is not None)
    clock.now += 15 * MINUTE
    scheduler.apply(make_watch())

    wait_until(lambda: listener.times == [BEGUN + 15 * MINUTE])


def test_a_look_that_fails_is_logged_and_ends_nothing() -> None:
    clock, listener = Clock(BEGUN), Listener()

    def fail() -> Mapping[str, Reading]:
        raise RuntimeError("a defect")

    scheduler = make_scheduler(make_watch(), clock, listener, fail)
    with structlog.testing.capture_logs() as logged:
        scheduler.start()
        assert scheduler.stop(20)

    assert {line["event"] for line in logged} == {"digest failed"}


def test_a_scheduler_that_never_began_has_nothing_to_end() -> None:
    assert make_scheduler(make_watch(), Clock(BEGUN), Listener()).stop(1)
