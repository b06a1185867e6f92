"""Each event counts exactly once, whatever the order of commits and whatever happens to polls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import strategies as st

from exporter.demo.postgres import LocalServer
from exporter.events import EventCounter
from tests.histories import History, TooSlow
from tests.servers import Platform, clone_platform

WHAT_USERS_AND_OPERATORS_DO = (
    "start",
    "write",
    "write",
    "lose",
    "assign",
    "assign",
    "assign",
    "reply",
    "reply",
    "reply",
    "die",
    "release",
    "unassign",
    "admin",
    "carry",
    "complete",
)
WHAT_ELSE_HAPPENS = ("poll", "poll", "cut", "broken", "mismatch", "reload", "end", "rollback", "pass")

actions = st.tuples(
    st.one_of(
        st.sampled_from(WHAT_USERS_AND_OPERATORS_DO),
        st.sampled_from(WHAT_USERS_AND_OPERATORS_DO),
        st.sampled_from(WHAT_ELSE_HAPPENS),
    ),
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


@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(history=st.lists(actions, min_size=10, max_size=60))
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
        event(f"failed polls: {min(run.failed_polls, 3)}")

    assert differences == {}
