"""The history of the last 24 h: its size, its gaps, clocks that are set, and its file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import structlog

from exporter.daemon import Daemon
from exporter.metrics.figures import Reading
from exporter.metrics.history import (
    MINUTES,
    History,
    decode_histories,
    encode_histories,
)
from exporter.metrics.keeper import WRITE_EVERY_S, HistoryKeeper, HistoryPlan

WALL_S = 1_764_000_000.0


class Clocks:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.elapsed_s = 600.0
        self.wall_s = WALL_S

    def pass_by(self, seconds: float) -> None:
        self.elapsed_s += seconds
        self.wall_s += seconds


def waiting(value: float, **counters: float) -> Reading:
    return Reading({"waiting": value, **counters})


def known(values: object) -> list[float]:
    """The values that are there."""
    return [value for value in values if not math.isnan(value)]  # type: ignore[attr-defined]


def test_a_day_takes_less_than_half_a_megabyte_however_long_it_runs() -> None:
    history = History()
    before = history.size_bytes
    for minute in range(3 * MINUTES):
        history.add(minute * 60.0, waiting(minute))

    recorded = history.read((3 * MINUTES - 1) * 60.0, WALL_S)
    assert history.size_bytes == before < 500_000
    assert list(recorded.values["waiting"]) == [float(2 * MINUTES + m) for m in range(MINUTES)]


def test_a_minute_without_a_reading_is_a_gap_and_no_zero() -> None:
    history = History()
    history.add(0, waiting(3))
    history.add(4 * 60, waiting(5))

    recorded = history.read(6 * 60 + 59, WALL_S)
    tail = list(recorded.values["waiting"][-7:])
    assert (tail[0], tail[4]) == (3, 5)
    assert all(math.isnan(value) for value in (*tail[1:4], *tail[5:]))
    assert recorded.end_s == WALL_S - 59
    assert recorded.begins_s == WALL_S - 59 - 6 * 60


def test_a_value_that_is_unknown_is_missing_in_its_minute_only() -> None:
    history = History()
    history.add(0, waiting(3, customer_wait=9))
    history.add(60, Reading({"customer_wait": 10}))

    values = history.read(60, WALL_S).values
    assert known(values["waiting"]) == [3]
    assert known(values["customer_wait"]) == [9, 10]


def test_counters_are_kept_as_what_they_grew_by_and_may_begin_anew() -> None:
    history = History()
    for at_s, value in ((0, 1000), (60, 1004), (90, 1005), (120, 2), (180, 2)):
        history.add(at_s, Reading({"waits": value}))

    recorded = history.read(180, WALL_S)
    assert list(recorded.values["waits"][-4:]) == [0, 5, 2, 0]
    assert recorded.total("waits", 3) == 7
    assert recorded.total("waits_breached", 60) is None


def test_a_pause_of_more_than_a_day_leaves_nothing_old() -> None:
    history = History()
    history.add(0, waiting(1))
    history.add((MINUTES + 5) * 60, waiting(2))

    assert known(history.read((MINUTES + 5) * 60, WALL_S).values["waiting"]) == [2]
    assert known(history.read((3 * MINUTES) * 60, WALL_S).values["waiting"]) == []


@pytest.mark.parametrize("step_s", [-7200, 7200, -86400 * 400])
def test_a_clock_that_is_set_loses_nothing(step_s: float) -> None:
    history = History()
    for minute in range(30):
        history.add(minute * 60, waiting(minute))

    recorded = history.read(29 * 60, WALL_S + step_s)
    assert known(recorded.values["waiting"]) == list(range(30))
    assert recorded.time_of(MINUTES - 1) == WALL_S + step_s


def test_computed_minutes_are_marked_and_go_over_into_what_is_read() -> None:
    history = History()
    history.fill(10 * 60, [{"waiting": 1.0}, {"waiting": 2.0}])
    history.add(12 * 60, waiting(3))

    recorded = history.read(12 * 60, WALL_S)
    assert known(recorded.values["waiting"]) == [1, 2, 3]
    assert recorded.computed_until_s == WALL_S - 120


def stored(minutes: int = 3) -> bytes:
    history = History()
    history.fill(0, [{"waiting": 7.0}])
    for minute in range(1, minutes):
        history.add(minute * 60, waiting(minute))
    return encode_histories({"main": history}, (minutes - 1) * 60, WALL_S)


@pytest.mark.parametrize("elapsed_s", [0.0, 90.0, 1e7])
def test_a_restart_is_a_gap_as_long_as_it_was(elapsed_s: float) -> None:
    histories = decode_histories(stored(), elapsed_s, WALL_S + 300)

    recorded = histories["main"].read(elapsed_s, WALL_S + 300)
    assert list(recorded.values["waiting"][-8:-5]) == [7, 1, 2]
    assert known(recorded.values["waiting"][-5:]) == []
    assert recorded.computed_until_s == pytest.approx(WALL_S - 120, abs=60)


def test_a_clock_set_back_over_a_restart_loses_nothing() -> None:
    histories = decode_histories(stored(), 600, WALL_S - 9000)

    assert known(histories["main"].read(600, WALL_S - 9000).values["waiting"]) == [7, 1, 2]


def test_values_of_another_version_are_left_out() -> None:
    head, _, body = stored().partition(b"\n")
    other = head.replace(b'"waiting"', b'"was_once"') + b"\n" + body

    values = decode_histories(other, 0, WALL_S)["main"].read(0, WALL_S).values
    assert "was_once" not in values
    assert known(values["waiting"]) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"\x00" * 100,
        lambda content: b"[]\n",
        lambda content: content[:-20],
        lambda content: content[:400] + b"x" * 20 + content[420:],
        lambda content: content.replace(b'"version": 1', b'"version": 9'),
        lambda content: content.replace(b'"main"', b'"main": 0, "other"'),
        lambda content: content.replace(b'"at": ', b'"at": -Infinity, "b": '),
        lambda content: b"[" * 100_000,
    ],
)
def test_a_damaged_file_loses_nothing_but_itself(
    damage: object, tmp_path: Path, clocks: Clocks
) -> None:
    file = tmp_path / "history"
    file.write_bytes(damage(stored()))  # type: ignore[operator]
    with structlog.testing.capture_logs() as lines:
        keeper = make_keeper(clocks, file)
    keeper._run_once()
    keeper._close()

    assert [line["event"] for line in lines] == ["history not used"]
    assert known(make_keeper(clocks, file).recorded("main").values["waiting"]) == [4]


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def make_keeper(
    clocks: Clocks, file: Path | None = None, readings: dict[str, Reading] | None = None
) -> HistoryKeeper:
    found = {"main": waiting(4)} if readings is None else readings
    plan = HistoryPlan(frozenset({"main"}), file)
    return HistoryKeeper(
        plan, lambda: found, elapsed=lambda: clocks.elapsed_s, wall=lambda: clocks.wall_s
    )


def test_it_reads_once_a_minute_and_soon_again_before_the_first_poll(clocks: Clocks) -> None:
    clocks.pass_by(13)

    assert make_keeper(clocks)._run_once() == 46  # just before the minute ends
    clocks.pass_by(46)
    assert make_keeper(clocks)._run_once() == 60
    assert make_keeper(clocks, readings={})._run_once() == 1


def test_it_is_written_every_few_minutes_and_at_the_stop(clocks: Clocks, tmp_path: Path) -> None:
    file = tmp_path / "history"
    keeper = make_keeper(clocks, file)
    keeper._run_once()
    assert not file.exists()
    clocks.pass_by(WRITE_EVERY_S)
    keeper._run_once()
    assert file.exists()
    clocks.pass_by(60)
    keeper._close()

    assert len(known(make_keeper(clocks, file).recorded("main").values["waiting"])) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


def test_a_file_that_cannot_be_written_is_logged_once(clocks: Clocks, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        keeper = make_keeper(clocks, tmp_path / "absent" / "history")
        keeper._close()
        keeper._close()

    assert [line["event"] for line in lines] == ["history not written"]


def test_a_database_that_is_no_longer_watched_is_forgotten(clocks: Clocks) -> None:
    keeper = make_keeper(clocks)
    keeper._run_once()
    keeper.apply(HistoryPlan(frozenset()))
    keeper._apply_pending_plan()
    keeper._read = dict  # type: ignore[assignment]
    keeper._run_once()

    assert known(keeper.recorded("main").values["waiting"]) == []


def test_the_daemon_keeps_it_beside_the_state_of_the_watch(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    file.write_text(
        "databases: {main: {dsn: 'host=127.0.0.1 port=1'}}\n"
        "watch: {digests: {state_file: watch.json}}\n"
    )
    daemon = Daemon(file)
    daemon.start()
    assert daemon.workers[0].first_poll_done.wait(10)
    assert daemon.stop(5)

    assert (tmp_path / "watch.json.history").exists()
    again = Daemon(file).history.recorded("main")
    assert 0.0 in known(again.values["database_up"])


def test_a_loss_within_a_minute_stays_in_its_minute() -> None:
    history = History()
    for at_s, up in ((0, 1), (20, 0), (40, 1), (60, 1)):
        history.add(at_s, Reading({"database_up": up, "waiting": at_s}))

    recorded = history.read(60, WALL_S)
    assert list(recorded.values["database_up"][-2:]) == [0, 1]
    assert list(recorded.values["waiting"][-2:]) == [40, 60]
