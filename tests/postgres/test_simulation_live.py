"""The simulated people on a real server: as in memory, through outages, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from exporter.demo.scenarios import SCENARIOS, DownRhythm, Scenario
from exporter.demo.simulation import Simulation
from tests.servers import Platform, crash

pytestmark = pytest.mark.newest

FIGURES = {
    "idle_overdue": """
        SELECT count(*) FROM chats c LEFT JOIN operator_activity a
            ON a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
        WHERE c.chat_state = 'assigned' AND c.is_active
          AND least(a.last_activity, c.assignment_time) < now() - interval '7 min'""",
    "waiting": """
        SELECT count(*) FROM chats WHERE chat_state = 'waiting_assignment' AND is_active""",
    "oldest_assigned_s": """
        SELECT coalesce(max(EXTRACT(EPOCH FROM now() - assignment_time)), 0)::float FROM chats
        WHERE chat_state = 'assigned' AND is_active""",
    "invalid": """
        SELECT count(*) FROM chats c WHERE is_active AND (
            chat_state IS NULL OR chat_state = 'completed'
            OR (chat_state <> 'assigned') = (assigned_operator_id IS NOT NULL)
            OR (chat_state = 'assigned') <> (1 = (
                SELECT count(*) FROM chat_assignments a
                WHERE a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
                  AND released_at IS NULL)))""",
    "lost": """
        SELECT count(*) FROM chats WHERE is_active AND chat_state = 'waiting_real_user_reply'
          AND last_message_at > operator_replied_at""",
    "same_operator": """
        SELECT count(*) FROM (
            SELECT operator_id, lag(operator_id) OVER (PARTITION BY chat_id ORDER BY assigned_at)
                AS previous, assigned_at FROM chat_assignments) AS turn
        WHERE operator_id = previous AND assigned_at > now() - interval '9 min'""",
}
HEALTHY: dict[str, Callable[[float], bool]] = {
    "idle_overdue": lambda value: value == 0,
    "waiting": lambda value: value < 20,
    "oldest_assigned_s": lambda value: value < 150,
    "invalid": lambda value: value == 0,
    "lost": lambda value: value == 0,
    "same_operator": lambda value: value < 20,
}
TROUBLE = {
    "rush": {"waiting"},
    "vanished-operators": {"idle_overdue", "oldest_assigned_s"},
    "dead-idle-detector": {"idle_overdue", "oldest_assigned_s"},
    "same-chat": {"same_operator"},
    "invalid-states": {"invalid"},
    "lost-replies": {"lost"},
}


@pytest.fixture
def simulate(platform: Platform) -> Callable[[str], Simulation]:
    return lambda scenario: Simulation(platform.dsn, scenario=scenario)


def figures_in_trouble(platform: Platform) -> set[str]:
    return {name for name, query in FIGURES.items() if not HEALTHY[name](platform.value(query))}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_shows_its_trouble_and_no_other(
    platform: Platform, simulate: Callable[[str], Simulation], scenario: str
) -> None:
    simulation = simulate(scenario)
    simulation.seed_history()

    simulation.step(simulation.world.now + 45)
    simulation.close()

    trouble = figures_in_trouble(platform)
    expected = TROUBLE.get(scenario, set())
    assert expected <= trouble
    if not expected:
        assert trouble == set()


def test_the_history_is_whole_and_in_the_past(platform: Platform) -> None:
    simulation = Simulation(platform.dsn)

    rows = simulation.seed_history()

    assert platform.value("SELECT count(*) FROM messages") == len(rows.messages) > 2000
    assert platform.value("SELECT max(created_at) <= now() FROM messages") is True
    assert platform.value("SELECT bool_and(updated_at >= created_at) FROM chats") is True


def test_the_server_answers_as_the_platform_in_memory(platform: Platform) -> None:
    events = []
    for live in (False, True):
        simulation = Simulation(platform.dsn, scenario="calm")
        if live:
            simulation.seed_history(0)
        else:
            simulation.world.platform = simulation.build_history(0)
        events.append(simulation.step(240))
        simulation.close()

    assert len(events[0]) > 200
    assert events[0] == events[1]


def test_people_go_on_after_a_crash_and_a_killed_connection(own_platform: Platform) -> None:
    simulation = Simulation(own_platform.dsn)
    simulation.seed_history(0.5)
    now = simulation.world.now
    simulation.step(now + 20)

    crash(own_platform.server)
    simulation.step(now + 40)
    own_platform.server.start()
    before = own_platform.value("SELECT count(*) FROM messages")
    simulation.step(now + 60)
    own_platform.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'chatqueue demo'"
    )
    simulation.step(now + 120)
    simulation.close()

    assert own_platform.value("SELECT count(*) FROM messages") > before + 5
    assert figures_in_trouble(own_platform) == set()


def test_a_run_lives_in_real_time_until_it_is_stopped(platform: Platform) -> None:
    simulation = Simulation(platform.dsn, speed=60)
    simulation.seed_history(0.5)
    before = platform.value("SELECT count(*) FROM messages")
    start = simulation.world.now
    stop = threading.Event()
    thread = threading.Thread(target=simulation.run, args=(stop,))

    thread.start()
    time.sleep(1.0)
    stop.set()
    thread.join(5)

    assert not thread.is_alive()
    assert 20 < simulation.world.now - start < 90
    assert platform.value("SELECT count(*) FROM messages") > before


def test_a_scenario_takes_the_database_down_and_up(
    own_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, calls, both = own_platform.server, [], threading.Event()

    def switch(up: bool) -> None:
        (server.start if up else server.stop)()
        calls.append(up)
        if calls == [False, True]:
            both.set()

    quick = replace(SCENARIOS["database-down"], database_down=DownRhythm(up_s=0.3, down_s=0.3))
    monkeypatch.setitem(cast(dict[str, Scenario], SCENARIOS), "database-down", quick)
    simulation = Simulation(
        own_platform.dsn, scenario="database-down", speed=20, database_switch=switch
    )
    simulation.seed_history(0.2)
    stop = threading.Event()
    thread = threading.Thread(target=simulation.run, args=(stop,))
    thread.start()
    assert both.wait(10)
    stop.set()
    thread.join(5)
    server.start()

    assert not thread.is_alive()
