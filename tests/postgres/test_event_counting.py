"""Each event counts exactly once, whatever the order of commits and whatever happens to polls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from exporter.demo.postgres import LocalServer
from exporter.metrics.events import EventCounter
from tests.histories import OVERLAP_S, History, TooSlow
from tests.servers import Platform, clone_platform

# What happens, and how often.
KINDS = (
    *("start", "assign", "reply", "write") * 4,
    *("poll", "lose", "die", "release", "unassign", "admin", "close") * 2,
    *("write_to_closed", "cut", "broken", "mismatch", "reload", "end", "rollback", "pass"),
)

actions = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 2),
    st.integers(0, 11),
    st.sampled_from(("plain", "plain", "held", "polled")),
)
# A chat or two to begin with, and one assigned: shorter histories reach more.
PRELUDE = (("start", 0, 0, "plain"), ("start", 0, 0, "plain"), ("assign", 0, 0, "plain"))


@pytest.fixture(scope="module")
def module_platform(postgres_server: LocalServer) -> Iterator[Platform]:
    with clone_platform(postgres_server) as platform:
        yield platform


@pytest.mark.newest
@pytest.mark.slow
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(history=st.lists(actions, min_size=40, max_size=60))
def test_counters_equal_a_recount_after_any_history(
    module_platform: Platform, history: list[tuple[str, int, int, str]]
) -> None:
    with History(module_platform) as run:
        try:
            for action in (*PRELUDE, *history):
                run.play(*action)
            differences = run.finish()
        except TooSlow:
            reject()

    assert differences == {}


# Concrete histories, each of which one of the two safeguards is there for.
LATE_COMMIT = (
    ("poll", 0, 0, "plain"),
    ("start", 1, 0, "held"),
    ("poll", 0, 0, "plain"),
    ("end", 1, 0, "plain"),
)
TWO_POLLS = (
    ("poll", 0, 0, "plain"),
    ("start", 1, 0, "plain"),
    ("poll", 0, 0, "plain"),
    ("poll", 0, 0, "plain"),
)
CUSTOMER = ("chatqueue_messages_total", "customer")


def play(
    platform: Platform, history: tuple[tuple[str, int, int, str], ...], overlap_s: float
) -> dict[tuple[str, ...], tuple[float, float]]:
    with History(platform, overlap_s) as run:
        for action in history:
            run.play(*action)
        return run.finish()


@pytest.mark.parametrize("history", [LATE_COMMIT, TWO_POLLS])
def test_the_concrete_histories_are_counted_right(
    module_platform: Platform, history: tuple[tuple[str, int, int, str], ...]
) -> None:
    assert play(module_platform, history, OVERLAP_S) == {}


def test_without_the_overlap_a_late_commit_is_missed(module_platform: Platform) -> None:
    assert play(module_platform, LATE_COMMIT, 0.0)[CUSTOMER] == (0, 1)


def test_without_the_seen_set_the_overlap_counts_twice(
    module_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    absorb = EventCounter.absorb

    def forget(self: EventCounter, *arguments: Any) -> Any:
        self._seen.clear()
        return absorb(self, *arguments)

    monkeypatch.setattr(EventCounter, "absorb", forget)
    monkeypatch.setattr(
        EventCounter,
        "parameters",
        lambda self: {"since": self._since, "seen": [], "pending": list(self._pending)},
    )

    assert play(module_platform, TWO_POLLS, OVERLAP_S)[CUSTOMER] == (3, 1)


def test_a_poll_that_fails_forgets_nothing(module_platform: Platform) -> None:
    failures = [(kind, 0, which, "plain") for kind in ("cut", "broken") for which in range(4)]
    with History(module_platform) as run:
        run.play("poll", 0, 0, "plain")
        for failure in failures:
            run.play("start", 0, 0, "plain")
            run.play(*failure)
            run.play("poll", 0, 0, "plain")
        differences = run.finish()

        # A connection that was cut between two polls is opened again, and no poll fails for it.
        assert run.failed_polls == len(failures) / 2
        assert run.watcher.value("chatqueue_messages_total", "customer") == len(failures)
    assert differences == {}
