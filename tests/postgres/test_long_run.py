"""A day of the platform in a minute: counted exactly, by a state that does not grow."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from exporter.demo.simulation import Simulation
from tests.counting import EVENT_QUERIES, Watcher
from tests.histories import Recount, counted_by
from tests.servers import Platform

HOUR_S = 3600.0
# The service level's clock is real, and a compressed day breaches nothing.
QUERIES = tuple(query for query in EVENT_QUERIES if query != "waits")
# Recounted only by who made it happen: see tests/histories.py.
RETURNED = ("chatqueue_state_transitions_total", "waiting_real_user_reply", "waiting_assignment")


def held_bytes(watcher: Watcher) -> int:
    """What the counting remembers from poll to poll."""
    return len(pickle.dumps(list(watcher.worker._results.counters.values())))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
def test_a_simulated_day_is_counted_exactly_in_flat_memory(platform: Platform) -> None:
    simulation = Simulation(platform.dsn, seed=7, operators=4)
    simulation.seed_history(hours=0.5)
    quiet = replace(simulation.scenario.rhythm, chats_per_minute=0.4, break_every_s=24 * HOUR_S)
    simulation.world.change_rhythm(quiet)
    with Watcher(platform, QUERIES, events={"overlap": "1s"}) as watcher:
        watcher.poll_well()
        before = Recount.of(platform)
        started = simulation.world.now
        held: list[int] = []
        for quarter in range(1, 24 * 4 + 1):
            simulation.step(started + quarter * HOUR_S / 4)
            watcher.poll_well()
            held.append(held_bytes(watcher))
        simulation.close()
        recount = Recount.of(platform)
        recount.events = {query: recount.events[query] for query in QUERIES}
        expected = recount.since(dict.fromkeys(QUERIES, before))
        counted = counted_by(watcher)
        counted.pop(RETURNED)

        assert expected[("chatqueue_assignments_total",)] > 500
        assert counted == pytest.approx(expected)
        # The second half of the day is remembered no longer than the first.
        assert max(held[48:]) < 1.5 * max(held[:48])
