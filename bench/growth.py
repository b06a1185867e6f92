"""How the 15 s poll grows: with the queue, with the length of chats, and with what happens."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from bench.dataset import Dataset, Shape
from bench.polls import FREQUENT_S, load_plan, poll_often
from exporter.catalogue import Query
from exporter.database import Connection, QueryRequest
from exporter.demo.postgres import LocalServer
from exporter.metrics.events import EventCounter
from exporter.polling.plan import Plan

GROWTH_CHATS = 150_000
OPEN_CHATS = (750, 7_500, 75_000)
MESSAGES = (3, 30, 300)
RUSH_S = 300.0
ASSIGNMENTS_A_MINUTE = 1_000
MESSAGES_A_MINUTE = 5_000

# Older messages of the open chats, alternating, each a minute before the next.
_LENGTHEN: LiteralString = """
INSERT INTO public.messages (chat_id, sender_type, content, created_at)
SELECT
    c.id,
    CASE n %% 2 WHEN 0 THEN 'real' ELSE 'fictional' END,
    'text',
    c.created_at - n * interval '1 minute'
FROM public.chats AS c
CROSS JOIN generate_series(1, %(more)s) AS n
WHERE c.is_active AND c.chat_state IN ('waiting_assignment', 'assigned')
"""
# A chat is taken, answered and given back to its user, as the application writes it.
_HAPPEN: LiteralString = """
WITH taken AS (
    SELECT c.id, c.last_operator_id, row_number() OVER () AS n
    FROM public.chats AS c
    WHERE c.is_active AND c.chat_state = 'waiting_real_user_reply'
    ORDER BY c.id
    LIMIT %(assignments)s
    OFFSET %(skip)s
),

assigned AS (
    INSERT INTO public.chat_assignments
        (chat_id, operator_id, assigned_at, released_at, release_reason)
    SELECT t.id, t.last_operator_id, now(), now() + interval '1 ms', 'operator_sent_message'
    FROM taken AS t
)

INSERT INTO public.messages (chat_id, sender_type, content, created_at)
SELECT
    t.id,
    CASE m %% 2 WHEN 0 THEN 'real' ELSE 'fictional' END,
    'text',
    now() - (%(each)s - m) * interval '1 ms'
FROM taken AS t
CROSS JOIN generate_series(1, %(each)s) AS m
"""


@dataclass(frozen=True, slots=True)
class GrowthCost:
    """One size of one input.

    Attributes:
        what: What grows.
        size: How much of it.
        poll_s: Median of a whole 15 s poll.
        dearest: The query that costs most of it, and its median in seconds.
        problem: Why queries failed; empty where none did.
    """

    what: str
    size: int
    poll_s: float
    dearest: tuple[str, float]
    problem: str


@dataclass(frozen=True, slots=True)
class RushCost:
    """A time in which much happens.

    Attributes:
        seconds: How long.
        polls_s: Each whole 15 s poll, in order.
        events_s: Of it the queries of events, in order.
        most_seen: Keys that all counters remembered at most.
        counted: Events that were counted.
    """

    seconds: float
    polls_s: tuple[float, ...]
    events_s: tuple[float, ...]
    most_seen: int
    counted: int


Filled = Callable[[LocalServer, Shape], contextlib.AbstractContextManager[Dataset]]


def measure_growth(
    server: LocalServer, filled: Filled, runs: int, work_dir: Path
) -> Iterator[GrowthCost]:
    """Yield the cost at every size: open chats first, then messages in each of them."""
    for count in OPEN_CHATS:
        assigned = round(count * 350 / 750)
        shape = Shape(GROWTH_CHATS, count - assigned, assigned, max(500, assigned))
        with filled(server, shape) as dataset:
            yield _measure("waiting and assigned chats", count, dataset, runs, work_dir)
    with filled(server, Shape(GROWTH_CHATS)) as dataset:
        so_far = MESSAGES[0]
        for count in MESSAGES:
            with psycopg.connect(dataset.dsn, autocommit=True) as session:
                session.execute("SET session_replication_role = replica")
                session.execute(_LENGTHEN, {"more": count - so_far})
                session.execute("VACUUM (ANALYZE) public.messages")
            so_far = count
            yield _measure("messages in each of 750", count, dataset, runs, work_dir)


def measure_rush(server: LocalServer, filled: Filled, seconds: float, work_dir: Path) -> RushCost:
    """Poll every 15 s while assignments and messages are written at the rates above."""
    with (
        filled(server, Shape(GROWTH_CHATS)) as dataset,
        psycopg.connect(dataset.dsn, autocommit=True) as writer,
    ):
        writer.execute("SET session_replication_role = replica")
        plan = load_plan(dataset.dsn, work_dir)
        connection = Connection(plan.dsn)
        try:
            return _rush(plan, connection, writer, seconds)
        finally:
            connection.close()


def _measure(what: str, size: int, dataset: Dataset, runs: int, work_dir: Path) -> GrowthCost:
    plan = load_plan(dataset.dsn, work_dir)
    connection, problems = Connection(plan.dsn), dict[str, str]()
    try:
        poll_s, medians = poll_often(connection, plan, _frequent(plan), runs, problems)
    finally:
        connection.close()
    dearest = max(medians.items(), key=lambda item: item[1])
    problem = "; ".join(f"{name}: {text}" for name, text in problems.items())
    return GrowthCost(what, size, poll_s, dearest, problem)


def _rush(
    plan: Plan,
    connection: Connection,
    writer: psycopg.Connection[tuple[object, ...]],
    seconds: float,
) -> RushCost:
    queries = _frequent(plan)
    overlap_s = plan.parameters["event_overlap"]
    counters = {q.name: EventCounter(q, overlap_s) for q in queries if q.events is not None}
    polls_s: list[float] = []
    events_s: list[float] = []
    most_seen, skip = 0, 0
    began_s = next_poll_s = time.monotonic()
    while time.monotonic() - began_s < seconds:
        second = {"assignments": round(ASSIGNMENTS_A_MINUTE / 60), "each": 5, "skip": skip}
        writer.execute(_HAPPEN, second)
        skip += second["assignments"]
        if time.monotonic() >= next_poll_s:
            next_poll_s += FREQUENT_S
            started_s = time.perf_counter()
            asked = [
                QueryRequest(q, counters[q.name].parameters() if q.events else {}) for q in queries
            ]
            poll = connection.poll(asked, plan.needs, plan.parameters)
            polls_s.append(time.perf_counter() - started_s)
            of_events = [each for each in poll.outcomes if each.query.name in counters]
            events_s.append(sum(each.duration_s for each in of_events))
            for each in of_events:
                counters[each.query.name].absorb(each.columns, each.rows, poll.began_at)
            seen = sum(len(c.parameters()["seen"]) for c in counters.values())
            most_seen = max(most_seen, seen)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began_s) % 1.0))
    counted = sum(
        sample.value
        for name in ("assignments", "messages")
        for family in counters[name].families()
        if family.name in ("chatqueue_assignments_total", "chatqueue_messages_total")
        for sample in family.samples
    )
    return RushCost(
        time.monotonic() - began_s, tuple(polls_s), tuple(events_s), most_seen, int(counted)
    )


def describe_rush(cost: RushCost) -> str:
    """Return the rush in one sentence."""
    half = len(cost.polls_s) // 2
    first, last = (statistics.median(p) for p in (cost.polls_s[1:half], cost.polls_s[half:]))
    return (
        f"{ASSIGNMENTS_A_MINUTE:,} assignments and {MESSAGES_A_MINUTE:,} messages a minute for "
        f"{cost.seconds:.0f} s: a 15 s poll took {first * 1000:.1f} ms in the first half and "
        f"{last * 1000:.1f} ms in the second, of it the queries of events "
        f"{statistics.median(cost.events_s[1:]) * 1000:.1f} ms; {cost.counted:,} events were "
        f"counted, and at most {cost.most_seen:,} keys remembered."
    )


def _frequent(plan: Plan) -> Sequence[Query]:
    return [query for query in plan.queries if query.interval_s <= FREQUENT_S]
