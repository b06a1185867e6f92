"""When queries are due, on a clock of the test's own."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
import schedule

import exporter.polling.schedule
from exporter.polling.schedule import COALESCE_S, MAX_SHARE, MAX_STRETCH, Schedule, spread


class Clock:
    """The wall clock that `schedule` and the schedule read; it moves only when told."""

    def __init__(self) -> None:
        self.time = datetime.datetime(2026, 3, 29, 0, 30)  # noqa: DTZ001 - schedule reads it so

    def advance(self, seconds: float) -> None:
        self.time += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class FakeDatetime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            assert tz is None
            return clock.time

    fake = SimpleNamespace(datetime=FakeDatetime, timedelta=datetime.timedelta)
    monkeypatch.setattr(schedule, "datetime", fake)
    monkeypatch.setattr(exporter.polling.schedule, "datetime", fake)
    return clock


def schedule_of(**intervals_s: float) -> Schedule:
    schedule = Schedule()
    schedule.configure(intervals_s.items())
    return schedule


def begun_schedule_of(**intervals_s: float) -> Schedule:
    """A schedule whose first poll has been taken."""
    schedule = schedule_of(**intervals_s)
    schedule.take_due()
    return schedule


def run(
    schedule: Schedule, clock: Clock, seconds: float, *, poll_s: float = 0.0
) -> list[tuple[float, frozenset[str]]]:
    """Do as a worker does for that long: what was polled and when, in seconds from now."""
    start = clock.time
    polls = []
    while (at_s := (clock.time - start).total_seconds()) < seconds:
        due = schedule.take_due()
        if due:
            polls.append((round(at_s, 3), due))
            clock.advance(poll_s)
        # At least what a thread takes to wake.
        clock.advance(max(schedule.idle_s(), 0.001))
    return polls


def test_everything_is_due_at_once(clock: Clock) -> None:
    schedule = schedule_of(fast=15, slow=3600)

    assert schedule.idle_s() == 0
    assert schedule.take_due() == {"fast", "slow"}
    assert schedule.take_due() == frozenset()
    assert schedule.idle_s() == 15


def test_a_rota_without_queries_is_idle(clock: Clock) -> None:
    schedule = schedule_of()

    assert schedule.take_due() == frozenset()
    assert schedule.idle_s() == 1


def test_each_query_keeps_its_interval(clock: Clock) -> None:
    polls = run(schedule_of(fast=15, slow=60), clock, 300)

    assert [round(at_s) for at_s, due in polls if "fast" in due] == [*range(0, 300, 15)]
    assert [round(at_s) for at_s, due in polls if "slow" in due] == [*range(0, 300, 60)]


@pytest.mark.parametrize("interval_s", [1, 1.5, 86_400])
def test_every_allowed_interval_is_kept(clock: Clock, interval_s: float) -> None:
    polls = run(schedule_of(q=interval_s), clock, interval_s * 9.5)

    assert len(polls) == 10


def test_rhythms_that_meet_stay_in_step_for_a_day_though_every_poll_takes_time(
    clock: Clock,
) -> None:
    polls = run(schedule_of(fast=15, slow=60), clock, 86_400, poll_s=0.2)

    # A slow poll never comes alone, so that its figures agree with the fast ones.
    assert {due for _, due in polls} == {frozenset({"fast"}), frozenset({"fast", "slow"})}
    assert 1400 <= sum("slow" in due for _, due in polls) <= 1440
    assert 5600 <= len(polls) <= 5760


def test_an_offset_sets_the_rhythm_once_and_for_all_queries(clock: Clock) -> None:
    schedule = Schedule(offset_s=3600 * 24 + 34)
    schedule.configure([("fast", 15), ("slow", 60)])

    polls = run(schedule, clock, 180)

    assert [(round(at_s), "slow" in due) for at_s, due in polls] == [
        *((0, True), (4, False), (19, False), (34, True), (49, False), (64, False), (79, False)),
        *((94, True), (109, False), (124, False), (139, False), (154, True), (169, False)),
    ]


@pytest.mark.parametrize("interval_s", [15, 60])
def test_databases_are_spread_over_an_interval_by_their_names(interval_s: int) -> None:
    offsets_s = [spread(f"platform-{number}") % interval_s for number in range(100)]
    shares = Counter(int(offset_s / interval_s * 5) for offset_s in offsets_s)

    assert spread("main") == pytest.approx(188.8688148)
    assert len(shares) == 5
    assert max(shares.values()) <= 30


def test_queries_due_within_a_moment_go_into_one_poll(clock: Clock) -> None:
    schedule = begun_schedule_of(a=60, b=60 + COALESCE_S, c=60 + COALESCE_S + 0.1)

    clock.advance(60)

    assert schedule.take_due() == {"a", "b"}
    clock.advance(COALESCE_S + 0.1)
    assert schedule.take_due() == {"c"}
    assert schedule.idle_s() == pytest.approx(60 - COALESCE_S - 0.1)


def test_coming_together_never_takes_a_short_interval_below_three_quarters(clock: Clock) -> None:
    polls = run(schedule_of(a=1, b=1.3, c=1.7), clock, 120)

    for name, interval_s in (("a", 1), ("b", 1.3), ("c", 1.7)):
        times = [at_s for at_s, due in polls if name in due]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= interval_s * 0.74
        assert max(gaps) <= interval_s * 1.01


def test_looking_early_makes_nothing_due(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)

    clock.advance(14.9)

    assert schedule.take_due() == frozenset()
    assert schedule.idle_s() == pytest.approx(0.1)


def test_missed_runs_are_not_made_up_for(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)

    clock.advance(15 * 40)

    assert schedule.take_due() == {"q"}
    assert schedule.take_due() == frozenset()
    assert schedule.idle_s() == 15


@pytest.mark.parametrize("hours", [1, 24, 24 * 365])
def test_a_clock_set_back_delays_a_poll_by_two_intervals_at_most(clock: Clock, hours: int) -> None:
    schedule = begun_schedule_of(fast=15, slow=60)
    clock.advance(7)

    clock.advance(-3600 * hours)

    polls = run(schedule, clock, 300)
    assert polls[0][0] <= 15 * 2
    assert next(at_s for at_s, due in polls if "slow" in due) <= 60 * 2
    assert len(polls) >= 19


def test_a_clock_set_back_by_less_than_an_interval_delays_by_no_more(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)
    clock.advance(7)

    clock.advance(-10)

    assert run(schedule, clock, 60)[0][0] <= 15 + COALESCE_S + 10


def test_a_clock_set_forward_polls_once_and_goes_on(clock: Clock) -> None:
    schedule = begun_schedule_of(fast=15, slow=60)
    clock.advance(7)

    clock.advance(3600)

    polls = run(schedule, clock, 60)
    assert polls[0] == (0, {"fast", "slow"})
    assert [round(at_s) for at_s, _ in polls] == [0, 15, 30, 45]


def test_everything_can_be_asked_for_at_once_without_losing_step(clock: Clock) -> None:
    schedule = begun_schedule_of(fast=15, slow=60)
    clock.advance(5)

    schedule.make_all_due()

    assert schedule.idle_s() == 0
    assert schedule.take_due() == {"fast", "slow"}
    assert schedule.idle_s() <= 15


def test_a_new_configuration_replaces_the_old_and_is_due_at_once(clock: Clock) -> None:
    schedule = begun_schedule_of(old=15, kept=60)
    schedule.weigh("kept", 60)

    schedule.configure([("kept", 30), ("new", 5)])

    assert schedule.take_due() == {"kept", "new"}
    assert schedule.interval_s("kept") == 30
    assert all("old" not in due for _, due in run(schedule, clock, 60))


def test_a_cheap_query_keeps_its_interval(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)

    assert schedule.weigh("q", 15 * MAX_SHARE) is False
    assert schedule.interval_s("q") == 15


def test_a_costly_query_is_run_less_often_and_comes_back(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15, other=15)

    assert schedule.weigh("q", 6) is True
    assert schedule.interval_s("q") == 6 / MAX_SHARE == 30
    assert schedule.interval_s("other") == 15
    times = [round(at_s) for at_s, due in run(schedule, clock, 100) if "q" in due]
    assert times[:2] == [30, 60]

    assert schedule.weigh("q", 0.01) is True
    assert schedule.interval_s("q") == 15


def test_a_query_is_stretched_to_a_limit(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)

    assert schedule.weigh("q", 1e9) is True
    assert schedule.interval_s("q") == 15 * MAX_STRETCH
    assert schedule.weigh("q", 1e9) is False


def test_a_cost_that_varies_a_little_does_not_move_the_interval(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)
    schedule.weigh("q", 6)
    clock.advance(20)

    assert [schedule.weigh("q", seconds) for seconds in (6.5, 5.5, 7.4, 4.6)] == [False] * 4
    assert schedule.interval_s("q") == 30
    # Nor is the query's next run put off.
    assert run(schedule, clock, 20)[0][0] == pytest.approx(10)


def test_a_cost_just_beyond_the_share_changes_nothing(clock: Clock) -> None:
    schedule = begun_schedule_of(q=15)

    assert schedule.weigh("q", 15 * MAX_SHARE * 1.2) is False
    assert schedule.interval_s("q") == 15
