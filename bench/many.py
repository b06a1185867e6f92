"""One daemon and many databases: what each further one costs, and how fast a page of all is served.

`python -m bench.many` measures this part alone. One embedded server holds copies of one data set;
the daemon runs as a process with its default configuration. What asking alone costs the client is
measured with the daemon's own connection, so that the rest of the daemon's time is known, too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml
from psycopg import sql

from bench.dataset import SERVER_SETTINGS, Shape, build_dataset, find_directory
from bench.load import BadAnswer, Scraper, count_series
from bench.processes import Program, ProgramError, tree_cpu_s
from exporter.config import Config
from exporter.database import Connection
from exporter.demo.machine import find_free_port
from exporter.demo.postgres import LocalServer, embedded_bin_dir
from exporter.polling.plan import Plan, build_plans

SHAPE = Shape(200, waiting=40, assigned=30, operators=40)
COUNTS = (10, 30, 60, 100)
# Four polls of the queries that run every 15 s, and one of those that run every minute.
WINDOW_S = 60.0
POLLS_A_MINUTE = 4
_START_LIMIT_S = 120.0
_SCRAPE_EVERY_S = 0.1
_ASKED_POLLS = 40
_DATABASE_BYTES = 12_000_000


@dataclass(frozen=True, slots=True)
class ManyCost:
    """What one daemon with so many databases came to.

    Attributes:
        databases: How many.
        cpu: Of a core, for the daemon with one scrape every 15 s.
        asking_cpu: Of a core, what of it the queries alone cost the client.
        server_cpu: Of a core, for the server's processes meanwhile.
        threads: Of the daemon.
        rss_bytes: Of the daemon, after the scrapes.
        series: On the page.
        body_bytes: Of the page.
        gzip_bytes: Of the page, compressed.
        plain_s: p50 and p99 of a scrape of the page as it is.
        gzip_s: The same, compressed.
        full_page_s: From the start of the process until every database was polled.
        problem: Why there are no values; empty where there are.
    """

    databases: int
    cpu: float = 0.0
    asking_cpu: float = 0.0
    server_cpu: float = 0.0
    threads: int = 0
    rss_bytes: int = 0
    series: int = 0
    body_bytes: int = 0
    gzip_bytes: int = 0
    plain_s: tuple[float, float] = (0.0, 0.0)
    gzip_s: tuple[float, float] = (0.0, 0.0)
    full_page_s: float = 0.0
    problem: str = ""

    @property
    def own_cpu(self) -> float:
        """Of a core, what the daemon costs beyond its queries."""
        return self.cpu - self.asking_cpu


@dataclass(frozen=True, slots=True)
class FurtherDatabase:
    """What one more database costs, as the slope over the measured numbers.

    Attributes:
        rss_bytes: Memory of the daemon.
        poll_s: Processor time a poll, beyond what its queries cost the client.
        asking_s: Processor time a poll that its queries cost the client.
    """

    rss_bytes: float
    poll_s: float
    asking_s: float


def measure_many(
    counts: Sequence[int], window_s: float, work_dir: Path, note: Callable[[str], None]
) -> tuple[ManyCost, ...]:
    """Measure one daemon with each of these numbers of databases.

    Args:
        counts: Numbers of databases, ascending.
        window_s: How long the daemon is watched, and then scraped in each of the two forms.
        work_dir: For configurations and logs.
        note: Told what is going on.
    """
    costs: list[ManyCost] = []
    with _run_databases(max(counts)) as (server, dsns):
        asking_s = _measure_asking(_plan(dsns[0]))
        note(f"asking costs the client {asking_s * 1000:.2f} ms a minute and database")
        for count in counts:
            note(f"{count} databases: measuring")
            try:
                costs.append(_measure(server, dsns[:count], asking_s, window_s, work_dir))
            except (ProgramError, BadAnswer, OSError) as error:
                costs.append(ManyCost(count, problem=str(error)))
    return tuple(costs)


def further_database(costs: Sequence[ManyCost]) -> FurtherDatabase | None:
    """Return the slopes, None where fewer than two numbers were measured."""
    known = [cost for cost in costs if not cost.problem]
    if len(known) < 2:
        return None
    counts = [cost.databases for cost in known]

    def slope(values: Sequence[float]) -> float:
        return statistics.linear_regression(counts, values).slope

    per_poll_s = WINDOW_S / POLLS_A_MINUTE
    return FurtherDatabase(
        slope([cost.rss_bytes for cost in known]),
        slope([cost.own_cpu for cost in known]) * per_poll_s,
        slope([cost.asking_cpu for cost in known]) * per_poll_s,
    )


@contextlib.contextmanager
def _run_databases(count: int) -> Iterator[tuple[LocalServer, list[str]]]:
    """A server with that many copies of the data set, and their connection strings."""
    settings = {**SERVER_SETTINGS, "max_connections": str(count + 50), "shared_buffers": "512MB"}
    parent = find_directory(count * _DATABASE_BYTES)
    with (
        LocalServer(embedded_bin_dir(), settings=settings, parent=parent) as server,
        build_dataset(server, SHAPE),
        psycopg.connect(server.dsn(), autocommit=True) as admin,
    ):
        names = [f"platform{number:03}" for number in range(count)]
        template = sql.Identifier(f"platform_{SHAPE.chats}")
        for name in names:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            admin.execute(statement.format(sql.Identifier(name), template))
        yield server, [server.dsn(name) for name in names]


def _plan(dsn: str) -> Plan:
    """The daemon's plan for one database with the default configuration."""
    (plan,) = build_plans(Config.model_validate({"databases": {"main": {"dsn": dsn}}})).values()
    return plan


def _measure_asking(plan: Plan) -> float:
    """Processor seconds that a minute of one database's queries costs the client."""
    intervals_s = {request.query.interval_s for request in plan.first_requests}
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    spent_s = 0.0
    try:
        for interval_s in intervals_s:
            due = [r for r in plan.first_requests if r.query.interval_s == interval_s]
            connection.poll(due, plan.needs, plan.parameters)
            started_s = time.process_time()
            for _ in range(_ASKED_POLLS):
                connection.poll(due, plan.needs, plan.parameters)
            one_s = (time.process_time() - started_s) / _ASKED_POLLS
            spent_s += one_s * WINDOW_S / interval_s
    finally:
        connection.close()
    return spent_s


def _measure(
    server: LocalServer, dsns: Sequence[str], asking_s: float, window_s: float, work_dir: Path
) -> ManyCost:
    """One daemon with these databases."""
    config = work_dir / f"many-{len(dsns)}.yaml"
    databases = {f"platform{number:03}": {"dsn": dsn} for number, dsn in enumerate(dsns)}
    config.write_text(yaml.safe_dump({"databases": databases}))
    port = find_free_port()
    address = ("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warning")
    command = (sys.executable, "-m", "exporter", "run", "--config.file", str(config), *address)
    started = time.perf_counter()
    with Program(command, config.with_suffix(".log")) as program:
        _wait_for_all(program, port, len(dsns))
        full_page_s = time.perf_counter() - started
        _scrape(port, 15.0, every_s=5.0, gzip=True)
        cpu_s, server_s, at = program.cpu_s(), tree_cpu_s(server.pid), time.perf_counter()
        _scrape(port, window_s, every_s=15.0, gzip=True)
        took_s = time.perf_counter() - at
        cpu, server_cpu = program.cpu_s() - cpu_s, tree_cpu_s(server.pid) - server_s
        gzip_s, compressed = _scrape(port, window_s / 2, every_s=_SCRAPE_EVERY_S, gzip=True)
        plain_s, body = _scrape(port, window_s / 2, every_s=_SCRAPE_EVERY_S, gzip=False)
        return ManyCost(
            len(dsns),
            cpu / took_s,
            asking_s * len(dsns) / WINDOW_S,
            server_cpu / took_s,
            program.threads(),
            program.memory().rss,
            count_series(body.decode()),
            len(body),
            len(compressed),
            plain_s,
            gzip_s,
            full_page_s,
        )


def _wait_for_all(program: Program, port: int, count: int) -> None:
    """Wait until every database answers."""
    deadline = time.monotonic() + _START_LIMIT_S
    up = 0
    while time.monotonic() < deadline:
        program.check_running()
        with contextlib.suppress(OSError, BadAnswer), Scraper(port, gzip=False) as scraper:
            lines = scraper.scrape()[1].splitlines()
            up = sum(x.startswith(b"chatqueue_database_up{") and x.endswith(b" 1.0") for x in lines)
            if up == count:
                return
        time.sleep(0.1)
    raise ProgramError(f"{up} of {count} databases answer after {_START_LIMIT_S:.0f} s")


def _scrape(
    port: int, seconds: float, *, every_s: float, gzip: bool
) -> tuple[tuple[float, float], bytes]:
    """Scrape in a steady rhythm; return p50, p99 and the last body as sent."""
    times: list[float] = []
    body = b""
    with Scraper(port, gzip=gzip) as scraper:
        began = time.perf_counter()
        while (started := time.perf_counter()) < began + seconds:
            _, body = scraper.scrape()
            times.append(time.perf_counter() - started)
            time.sleep(max(0.0, every_s - times[-1]))
    times.sort()
    return (times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]), body


def main(arguments: Sequence[str]) -> int:
    """Measure this part alone and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__)
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="numbers of databases")
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds")
    given = parser.parse_args(arguments)
    counts = sorted(int(count) for count in given.counts.split(","))
    with tempfile.TemporaryDirectory(prefix="chatqueue-many-") as name:
        costs = measure_many(counts, given.window, Path(name), print)
    for cost in costs:
        print(cost)
    print(further_database(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
