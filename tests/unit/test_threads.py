"""The periodic thread: it runs, pauses, is woken, takes plans, survives defects, and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from exporter.threads import PeriodicThread, switch_threads
from tests.webhooks import DEADLINE_S, wait_until


class Counting(PeriodicThread[str]):
    """Notes the plan of each run."""

    def __init__(self, plan: str = "first", name: str = "one") -> None:
        super().__init__(name, plan, kind="test", monotonic=lambda: self.now)
        self.runs: list[str] = []
        self.pause_s: float | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.is_closed = False

    now = 0.0

    @property
    def stuck_after_s(self) -> float:
        return 10.0

    def _run_once(self) -> float | None:
        self.runs.append(self._plan)
        self.hold.wait()
        if self._plan == "broken":
            raise RuntimeError("never seen")
        return self.pause_s

    def _close(self) -> None:
        self.is_closed = True


@pytest.fixture
def thread() -> Iterator[Counting]:
    """Started, and ended after the test."""
    made = Counting()
    made.start()
    wait_until(lambda: made.runs)
    yield made
    made.hold.set()
    assert made.stop(DEADLINE_S)
    assert made.is_closed


def test_it_pauses_until_it_is_woken(thread: Counting) -> None:
    thread.start()  # a second time changes nothing
    assert thread.runs == ["first"]
    thread.wake()

    wait_until(lambda: thread.runs == ["first", "first"])


def test_it_runs_again_after_its_pause(thread: Counting) -> None:
    thread.pause_s = 0.001
    thread.wake()

    wait_until(lambda: len(thread.runs) > 5)


def test_a_plan_that_comes_during_a_run_is_taken_by_the_next(thread: Counting) -> None:
    thread.hold.clear()
    thread.wake()
    wait_until(lambda: len(thread.runs) == 2)
    thread.apply("second")
    thread.hold.set()

    wait_until(lambda: thread.runs == ["first", "first", "second"])


def test_a_defect_is_logged_and_ends_nothing(thread: Counting) -> None:
    with capture_logs() as logged:
        thread.apply("broken")
        wait_until(lambda: logged)
        thread.apply("second")
        wait_until(lambda: thread.runs[-1] == "second")

    assert [line["event"] for line in logged] == ["thread failed"]
    assert logged[0]["thread"] == "test-one"


def test_a_run_that_takes_no_step_for_too_long_is_not_alive(thread: Counting) -> None:
    wait_until(lambda: thread._began_at is None)
    thread.now = 100.0
    assert thread.is_alive()  # it pauses
    thread.hold.clear()
    thread.wake()
    wait_until(lambda: len(thread.runs) == 2)
    thread.now = 109.0
    assert thread.is_alive()
    thread.now = 110.0
    assert not thread.is_alive()

    thread._note_step()

    assert thread.is_alive()


def test_one_that_hangs_is_left_behind_in_time(thread: Counting) -> None:
    thread.hold.clear()
    thread.wake()
    wait_until(lambda: len(thread.runs) == 2)

    assert not thread.stop(0.01)


def test_one_that_was_never_started_ends_as_well() -> None:
    thread = Counting()

    assert not thread.is_alive()
    assert thread.stop(0)
    assert thread.is_closed


def test_a_switch_hands_on_creates_and_ends() -> None:
    kept, gone = Counting(name="kept"), Counting(name="gone")

    threads = switch_threads(
        {"gone": gone, "kept": kept},
        {"new": "second", "kept": "second"},
        lambda key, plan: Counting(plan, key),
    )

    assert list(threads) == ["new", "kept"]
    assert threads["kept"] is kept
    kept._apply_pending_plan()
    assert (kept._plan, threads["new"]._plan) == ("second", "second")
    assert gone._stopping.is_set()
    assert not kept._stopping.is_set()
