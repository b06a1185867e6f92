"""Scrapes of every exporter in turn, round after round, on the same data in the same minutes."""

from __future__ import annotations

import contextlib
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.exporters import Exporter, Launch, Running, run_exporter
from bench.load import BadAnswer, find_wrk, measure_latency, measure_throughput, read_page
from bench.processes import Memory, Program, ProgramError
from exporter.demo.machine import find_free_port

FLOOR = "constant body (asyncio)"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Turns of every exporter; figures are medians over them.
        scrapes: Sequential ones a turn.
        limit_s: At most this long for them.
        load_s: Seconds of wrk a turn; 0 leaves the throughput out.
    """

    rounds: int = 5
    scrapes: int = 500
    limit_s: float = 2.0
    load_s: int = 2


@dataclass(frozen=True, slots=True)
class ScrapeCost:
    """What scraping one exporter at one size came to; None where it could not be measured.

    Attributes:
        title: Name and version.
        asks: When it asks the database.
        problem: Why there are no figures; empty where there are.
        series: Samples on its page.
        body_bytes: Gzipped body.
        p50_s: Sequential scrape.
        p99_s: The same.
        per_s: Scrapes a second over 8 keep-alive connections.
        cpu_s: CPU of its process a scrape under that load, its database's left out.
        memory: After the load.
    """

    title: str
    asks: str
    problem: str = ""
    series: int = 0
    body_bytes: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    per_s: float | None = None
    cpu_s: float | None = None
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class ScrapeSize:
    """All exporters at one size; ours first.

    Attributes:
        series: Wanted on a page.
        chats: In the database.
        costs: One an exporter.
    """

    series: int
    chats: int
    costs: tuple[ScrapeCost, ...]


@dataclass(slots=True)
class _Takings:
    """What the rounds brought in."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    body_bytes: int = 0


def measure_scrapes(
    exporters: Sequence[Exporter],
    dsn: str,
    series: int,
    chats: int,
    effort: Effort,
    work_dir: Path,
    note: Callable[[str], None],
) -> ScrapeSize:
    """Run all exporters at once with about that many series, and measure them in turn.

    Args:
        exporters: Those with a problem are named with it.
        dsn: Database with at least as many operators.
        series: Wanted on each page.
        chats: In the database, for the record.
        effort: How long to measure.
        work_dir: For configurations and logs.
        note: Told what is going on.
    """
    problems = {exporter.name: exporter.problem for exporter in exporters}
    with contextlib.ExitStack() as stack:
        running: dict[str, Running] = {}
        for exporter in exporters:
            if problems[exporter.name]:
                continue
            note(f"{exporter.title}: starting with about {series} series")
            try:
                operators = _operators_for(exporter, dsn, series, work_dir)
                running[exporter.name] = stack.enter_context(
                    run_exporter(exporter, dsn, operators, work_dir)
                )
            except (ProgramError, BadAnswer, OSError) as error:
                problems[exporter.name] = str(error)
        floor = _floor(running, exporters)
        if floor is not None:
            body = gzip.compress(read_page(running[exporters[0].name].port).encode(), 5)
            running[FLOOR] = stack.enter_context(_run_floor(floor, body, work_dir))
        takings = {name: _Takings() for name in running}
        for number in range(effort.rounds):
            for name, one in running.items():
                note(f"about {series} series, round {number + 1} of {effort.rounds}: {name}")
                if not problems.get(name):
                    problems[name] = _take(one, effort, takings[name])
        costs = [
            _sum_up(exporter, problems[exporter.name], running, takings) for exporter in exporters
        ]
        if floor is not None:
            costs.append(_sum_up(floor, problems.get(FLOOR, ""), running, takings))
    return ScrapeSize(series, chats, tuple(costs))


def _operators_for(exporter: Exporter, dsn: str, series: int, work_dir: Path) -> int:
    """How many operators fill a page up to that many series."""
    with run_exporter(exporter, dsn, 1, work_dir) as least:
        return max(1, series - least.series + 1)


def _take(one: Running, effort: Effort, takings: _Takings) -> str:
    """One turn of one exporter; returns what went wrong."""
    wrk = find_wrk()
    try:
        latency = measure_latency(one.port, scrapes=effort.scrapes, limit_s=effort.limit_s)
        takings.p50.append(latency.p50)
        takings.p99.append(latency.p99)
        takings.body_bytes = latency.body_bytes
        if wrk and effort.load_s:
            before = one.program.cpu_s()
            load = measure_throughput(wrk, one.port, effort.load_s)
            takings.per_s.append(load.per_s)
            takings.cpu.append((one.program.cpu_s() - before) / max(1, load.scrapes))
    except (BadAnswer, OSError) as error:
        return f"failed under load: {error}"
    return ""


def _sum_up(
    exporter: Exporter, problem: str, running: dict[str, Running], takings: dict[str, _Takings]
) -> ScrapeCost:
    """The medians of one exporter."""
    one, taken = running.get(exporter.name), takings.get(exporter.name)
    if one is None or taken is None or not taken.p50:
        return ScrapeCost(exporter.title, exporter.asks, problem or "not measured")
    return ScrapeCost(
        exporter.title,
        exporter.asks,
        problem,
        one.series,
        taken.body_bytes,
        statistics.median(taken.p50),
        statistics.median(taken.p99),
        statistics.median(taken.per_s) if taken.per_s else None,
        statistics.median(taken.cpu) if taken.cpu else None,
        one.program.memory(),
    )


def _floor(running: dict[str, Running], exporters: Sequence[Exporter]) -> Exporter | None:
    """The constant server as one more exporter, where ours runs to lend it a page."""
    if exporters[0].name not in running:
        return None
    return Exporter(FLOOR, "", "never", "", lambda _: Launch(()))


@contextlib.contextmanager
def _run_floor(floor: Exporter, body: bytes, work_dir: Path) -> Iterator[Running]:
    """Run the constant server with a page of ours."""
    port = find_free_port()
    with tempfile.NamedTemporaryFile(dir=work_dir) as file:
        file.write(body)
        file.flush()
        command = (sys.executable, "-m", "bench.floor", str(port), file.name)
        with Program(command, work_dir / f"floor-{port}.log") as program:
            deadline = time.monotonic() + 10
            while True:
                program.check_running()
                try:
                    read_page(port)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield Running(floor, program, port, 0)
