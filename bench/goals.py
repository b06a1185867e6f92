"""The figures of the design: measured before, to be reached, and in this run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.growth import GrowthCost, RushCost
from bench.machine import Machine
from bench.many import ManyCost, further_database
from bench.polls import PollCost
from bench.scrapes import ScrapeSize
from bench.startup import Startup

# By series on a page: what was measured before and what is to be reached, ours against the best
# peer in the same minutes.
LATENCIES = {160: ("14 and 23", 8.0), 510: ("31 and 60", 15.0), 3_500: ("174 and 253", 60.0)}
RATES = {160: ("14", 5.0), 510: ("30", 10.0), 3_500: ("174", 40.0)}
POLL_GOAL, POLL_BEFORE = 90.0, "33 and 24"
SIZE_GOAL, SIZE_BEFORE = 1.1, "1.1 and 1.7"
MEMORY = {160: ("64", 50e6), 3_500: ("71", 55e6)}
HELP_GOAL, HELP_BEFORE = 3.0, "0.87 s"
STARTUP_GOAL_S = 4.0
# Of one daemon with a hundred databases; a further database at most the last two.
MANY_P50_GOAL_S = 0.020
MANY_P99_GOAL_S = 0.100
MANY_THREADS_GOAL = 130
MANY_CPU_GOAL = 0.15
FURTHER_MEMORY_GOAL_BYTES = 1e6
FURTHER_POLL_GOAL_S = 0.001
POLL_TIMEOUT_S = 5.0

_NEVER = "not measured"


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything one run measured.

    Attributes:
        machine: Where.
        postgresql: Server version.
        polls: One a data set, the smallest first.
        scrapes: One a size.
        startup: Of the demo.
        help_ratio: Time of `chatqueue --help` in times of an import of click.
        many: One a number of databases, the smallest first.
        growth: One a size, by what grows; none in a smoke run.
        rush: A time in which much happens; None in a smoke run.
        command: How to repeat the run.
    """

    machine: Machine
    postgresql: str
    polls: tuple[PollCost, ...]
    scrapes: tuple[ScrapeSize, ...]
    startup: Startup
    help_ratio: float
    many: tuple[ManyCost, ...]
    growth: tuple[GrowthCost, ...]
    rush: RushCost | None
    command: str


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of the design and what became of it.

    Attributes:
        what: The figure.
        before: As the design gives it.
        goal: To reach.
        measured: Or why it was not.
        verdict: Reached, or missed by how much.
        reached: None where nothing was measured.
    """

    what: str
    before: str
    goal: str
    measured: str
    verdict: str
    reached: bool | None


def judge(figures: Figures) -> tuple[Goal, ...]:
    """Return every figure of the design with its verdict, in the design's order."""
    return (
        *_judge_scrapes(figures.scrapes),
        *_judge_polls(figures.polls),
        *_judge_growth(figures.growth),
        *_judge_memory(figures.scrapes),
        *_judge_many(figures.many),
        _at_most(
            "chatqueue --help, in imports of click",
            HELP_BEFORE,
            figures.help_ratio,
            HELP_GOAL,
            _times,
        ),
        _at_most(
            "start of the demo to the first full page",
            "3.1 s",
            figures.startup.seconds,
            STARTUP_GOAL_S,
            "{:.2f} s".format,
            figures.startup.problem,
        ),
    )


def _judge_scrapes(sizes: tuple[ScrapeSize, ...]) -> Iterator[Goal]:
    """Ours against the best peer of the same size, on the small data set."""
    for size in sizes[: len(LATENCIES)]:
        ours, peers = size.costs[0], [c for c in size.costs[1:] if c.asks != "never"]
        where = f"about {size.series:,} series"
        latencies = [peer.p50_s for peer in peers if peer.p50_s]
        if ours.p50_s and latencies and size.series in LATENCIES:
            before, goal = LATENCIES[size.series]
            ratio = min(latencies) / ours.p50_s
            yield _at_least(f"scrape p50, best peer / ours, {where}", before, ratio, goal)
        rates = [peer.per_s for peer in peers if peer.per_s]
        if ours.per_s and rates and size.series in RATES:
            before, goal = RATES[size.series]
            ratio = ours.per_s / max(rates)
            yield _at_least(f"scrapes a second, ours / best peer, {where}", before, ratio, goal)


def _judge_polls(polls: tuple[PollCost, ...]) -> Iterator[Goal]:
    if not polls:
        return
    largest = polls[-1]
    chats = f"{largest.dataset.shape.chats:,} chats"
    what = f"the platform's calls / whole 15 s poll, {chats}"
    yield _at_least(what, POLL_BEFORE, largest.calls_s / largest.frequent_poll_s, POLL_GOAL)
    for poll in polls[:-1]:
        what = f"15 s poll at {poll.dataset.shape.chats:,} / at {chats}"
        ratio = poll.frequent_poll_s / largest.frequent_poll_s
        yield _at_most(what, SIZE_BEFORE, ratio, SIZE_GOAL, _times)


def _judge_growth(costs: tuple[GrowthCost, ...]) -> Iterator[Goal]:
    """Linear or better: no step's cost grows faster than its input."""
    for before, after in itertools.pairwise(costs):
        if before.what == after.what:
            what = f"15 s poll, {before.size:,} to {after.size:,} {after.what}"
            ratio, goal = after.poll_s / before.poll_s, after.size / before.size
            yield _at_most(what, _NEVER, ratio, goal, _times)
    if costs:
        longest = max(cost.dearest[1] for cost in costs)
        what = "dearest query of all sizes"
        yield _at_most(what, _NEVER, longest, POLL_TIMEOUT_S, "{:.2f} s".format)


def _judge_memory(sizes: tuple[ScrapeSize, ...]) -> Iterator[Goal]:
    for size in sizes[: len(LATENCIES)]:
        memory = size.costs[0].memory
        if memory is not None and size.series in MEMORY:
            before, goal = MEMORY[size.series]
            what = f"resident memory, about {size.series:,} series"
            yield _at_most(what, f"{before} MB", float(memory.rss), goal, _mb)


def _judge_many(costs: tuple[ManyCost, ...]) -> Iterator[Goal]:
    """The goals of one daemon with many databases."""
    if not costs:
        return
    last = costs[-1]
    where = f"{last.databases} databases"
    if last.problem:
        yield Goal(where, "no answer", "measured", last_line(last.problem), _NEVER, None)
        return
    none = "no answer within 60 s"
    for form, (p50_s, p99_s) in (("plain", last.plain_s), ("gzip", last.gzip_s)):
        yield _at_most(f"{where}: scrape p50, {form}", none, p50_s, MANY_P50_GOAL_S, _ms)
        yield _at_most(f"{where}: scrape p99, {form}", none, p99_s, MANY_P99_GOAL_S, _ms)
    threads, cpu = float(last.threads), last.own_cpu
    yield _at_most(f"{where}: threads", "over 200", threads, MANY_THREADS_GOAL, "{:.0f}".format)
    what = f"{where}: core beyond the queries"
    yield _at_most(what, "the whole", cpu, MANY_CPU_GOAL, "{:.1%}".format)
    further = further_database(costs)
    if further is not None:
        what = "a further database"
        memory, poll_s = further.rss_bytes, further.poll_s
        yield _at_most(f"{what}: memory", _NEVER, memory, FURTHER_MEMORY_GOAL_BYTES, _mb)
        yield _at_most(f"{what}: processor a poll", _NEVER, poll_s, FURTHER_POLL_GOAL_S, _ms)


def _at_most(
    what: str,
    before: str,
    measured: float | None,
    goal: float,
    text: Callable[[float], str],
    problem: str = "",
) -> Goal:
    if measured is None:
        shown = last_line(problem) or "-"
        return Goal(what, before, f"at most {text(goal)}", shown, _NEVER, None)
    reached = measured <= goal
    verdict = "reached" if reached else f"missed by {measured / goal - 1:.0%}"
    return Goal(what, before, f"at most {text(goal)}", text(measured), verdict, reached)


def _at_least(what: str, before: str, measured: float, goal: float) -> Goal:
    reached = measured >= goal
    verdict = "reached" if reached else f"missed by {1 - measured / goal:.0%}"
    return Goal(what, before, f"at least {_times(goal)}", _times(measured), verdict, reached)


def last_line(text: str) -> str:
    """Of a program's last words the very last."""
    return text.strip().rpartition("\n")[2]


def _times(ratio: float) -> str:
    return f"{ratio:,.1f}x"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _mb(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size < 10e6 else f"{size / 1e6:.1f} MB"
