"""The figures as rich tables for the terminal and as Markdown for the repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.goals import Figures, judge, last_line
from bench.growth import GrowthCost, RushCost, describe_rush
from bench.many import ManyCost, further_database
from bench.polls import FREQUENT_S, PollCost, QueryCost
from bench.scrapes import ScrapeCost, ScrapeSize

_NONE = "-"
# Load average above which somebody else uses the machine.
_QUIET_LOAD = 0.3


@dataclass(frozen=True, slots=True)
class Grid:
    """A table in either form.

    Attributes:
        title: What it shows.
        columns: Headings; all but the first are figures.
        rows: Cells.
        note: What a reader must know of it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def print_report(figures: Figures, console: Console) -> None:
    """Print every table, the goals last."""
    for grid in _grids(figures):
        table = Table(title=grid.title, title_justify="left", caption=grid.note or None)
        table.caption_justify = "left"
        for number, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in grid.rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        console.print(table)
        console.print()
    table = Table(title="Goals", title_justify="left")
    for column in ("figure", "before", "goal", "measured", "verdict"):
        table.add_column(column)
    for goal in judge(figures):
        style = {True: "green", False: "red", None: "yellow"}[goal.reached]
        table.add_row(
            goal.what, goal.before, goal.goal, goal.measured, f"[{style}]{goal.verdict}[/]"
        )
    console.print(table)


def render_markdown(figures: Figures, curves: Sequence[str]) -> str:
    """Return the whole report as Markdown.

    Args:
        figures: What was measured.
        curves: Names of pictures beside it, shown after the tables.
    """
    goals = Grid(
        "Goals",
        ("figure", "before", "goal", "measured", "verdict"),
        tuple((g.what, g.before, g.goal, g.measured, g.verdict) for g in judge(figures)),
        "Before: as the design gives them, of other machines and versions.",
    )
    parts = [_HEAD, _machine_text(figures)]
    for grid in (goals, *_grids(figures)):
        parts.append(f"## {grid.title}")
        parts.append("\n".join(_markdown_rows(grid)))
        if grid.note:
            parts.append(grid.note)
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in curves]
    parts.append(_METHOD.format(command=figures.command))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _grids(figures: Figures) -> Iterator[Grid]:
    if figures.polls:
        yield _poll_grid(figures.polls)
        yield _detail_grid(figures.polls[-1])
    for size in figures.scrapes:
        yield _scrape_grid(size)
    if figures.many:
        yield _many_grid(figures.many)
    if figures.growth:
        yield _growth_grid(figures.growth, figures.rush)


def _poll_grid(polls: Sequence[PollCost]) -> Grid:
    """Sizes side by side."""
    rows: list[tuple[str, ...]] = []
    for number, query in enumerate(polls[0].queries):
        cells = (_query_time(poll.queries[number]) for poll in polls)
        rows.append((f"{query.name} ({query.interval_s:.0f} s)", *cells))
    rows.append(("**sum of the 15 s queries**", *(_ms(p.frequent_s) for p in polls)))
    rows.append(("BEGIN, probe and COMMIT alone", *(_ms(p.empty_poll_s) for p in polls)))
    rows.append(("**whole 15 s poll**", *(_ms(p.frequent_poll_s) for p in polls)))
    rows.append(("**sum of the 60 s queries**", *(_ms(p.rare_s) for p in polls)))
    for number, (name, _) in enumerate(polls[0].calls):
        rows.append((f"platform: {name}", *(_ms(p.calls[number][1]) for p in polls)))
    rows.append(("**sum of the platform's calls**", *(_ms(p.calls_s) for p in polls)))
    ratios = (f"{p.calls_s / p.frequent_poll_s:.1f}x" for p in polls)
    rows.append(("platform's calls / whole 15 s poll", *ratios))
    shape = polls[0].dataset.shape
    return Grid(
        "Database time, milliseconds",
        ("query (interval)", *(f"{p.dataset.shape.chats:,} chats" for p in polls)),
        tuple(rows),
        f"Medians, warm; {shape.waiting} chats wait and {shape.assigned} are assigned at every "
        "size. Queries are timed by the client of the daemon's own poll; the whole poll adds "
        "BEGIN, the probe of privileges and row-level security, and COMMIT. The platform's calls "
        "are the server's execution time without sending their rows.",
    )


def _detail_grid(poll: PollCost) -> Grid:
    """What each query touched at the largest size."""
    return Grid(
        f"What each query touches at {poll.dataset.shape.chats:,} chats",
        ("query", "client ms", "EXPLAIN ANALYZE ms", "pages of 8 KiB", "large tables read whole"),
        tuple(
            (
                query.name,
                _query_time(query),
                _ms(query.server_s),
                f"{query.pages:,}",
                ", ".join(query.scans)
                or ("none" if query.interval_s <= FREQUENT_S else "none, by index"),
            )
            for query in poll.queries
        ),
        "EXPLAIN (ANALYZE, BUFFERS), one run each; it costs time itself. The plans are kept in "
        "`.bench/plans`.",
    )


def _query_time(query: QueryCost) -> str:
    """Milliseconds, or that it failed after them."""
    return f"FAILED after {_ms(query.client_s)}" if query.problem else _ms(query.client_s)


def _scrape_grid(size: ScrapeSize) -> Grid:
    """Exporters side by side; ratios against ours."""
    ours = size.costs[0]
    rows = tuple(_scrape_row(cost, ours) for cost in size.costs)
    return Grid(
        f"Scrapes, {_size_name(size)}",
        (
            "exporter",
            "asks the database",
            "series",
            "body bytes",
            "p50 ms",
            "p99 ms",
            "p50, it / ours",
            "scrapes/s",
            "rate, ours / it",
            "CPU ms",
            "RSS MB",
            "PSS MB",
            "USS MB",
        ),
        rows,
    )


def _scrape_row(cost: ScrapeCost, ours: ScrapeCost) -> tuple[str, ...]:
    if cost.p50_s is None:
        return (cost.title, last_line(cost.problem), *([_NONE] * 11))
    slower = f"{cost.p50_s / ours.p50_s:.1f}x" if ours.p50_s else _NONE
    fewer = f"{ours.per_s / cost.per_s:.1f}x" if ours.per_s and cost.per_s else _NONE
    memory = cost.memory
    return (
        cost.title,
        f"{cost.asks}; {cost.problem}" if cost.problem else cost.asks,
        str(cost.series or _NONE),
        f"{cost.body_bytes:,}",
        _ms(cost.p50_s),
        _ms(cost.p99_s or 0.0),
        slower,
        f"{cost.per_s:,.0f}" if cost.per_s is not None else _NONE,
        fewer,
        f"{cost.cpu_s * 1000:.3f}" if cost.cpu_s is not None else _NONE,
        _mb(memory.rss) if memory else _NONE,
        _mb(memory.pss) if memory and memory.pss is not None else _NONE,
        _mb(memory.uss) if memory and memory.uss is not None else _NONE,
    )


def _many_grid(costs: Sequence[ManyCost]) -> Grid:
    """Numbers of databases below each other."""
    further = further_database(costs)
    slope = (
        ""
        if further is None
        else f" A further database: {_mb(further.rss_bytes)} MB, and {_ms(further.poll_s)} ms of "
        f"processor time a poll beyond the {_ms(further.asking_s)} ms that its queries cost the "
        "client."
    )
    return Grid(
        "One daemon with many databases",
        (
            "databases",
            "first page s",
            "core",
            "of it queries",
            "server's core",
            "threads",
            "RSS MB",
            "series",
            "page MB",
            "gzip MB",
            "plain p50 ms",
            "p99 ms",
            "gzip p50 ms",
            "p99 ms",
        ),
        tuple(_many_row(cost) for cost in costs),
        "Databases of 200 chats on one server, default configuration. The daemon's processor time "
        "with a scrape every 15 s; then ten scrapes a second in each form while all poll. What the "
        "queries alone cost the client is measured with the daemon's own connection and nothing "
        f"else. First page: from the start until every database has been polled.{slope}",
    )


def _many_row(cost: ManyCost) -> tuple[str, ...]:
    if cost.problem:
        return (str(cost.databases), last_line(cost.problem), *([_NONE] * 12))
    return (
        str(cost.databases),
        f"{cost.full_page_s:.1f}",
        f"{cost.cpu:.1%}",
        f"{cost.asking_cpu:.1%}",
        f"{cost.server_cpu:.1%}",
        str(cost.threads),
        _mb(cost.rss_bytes),
        f"{cost.series:,}",
        f"{cost.body_bytes / 1e6:.2f}",
        f"{cost.gzip_bytes / 1e6:.2f}",
        *(_ms(seconds) for seconds in (*cost.plain_s, *cost.gzip_s)),
    )


def _growth_grid(costs: Sequence[GrowthCost], rush: RushCost | None) -> Grid:
    """Sizes below each other, each with its ratio to the smallest of its kind."""
    smallest = {cost.what: cost for cost in reversed(costs)}
    rows = tuple(
        (
            f"{cost.size:,} {cost.what}",
            f"{cost.size / smallest[cost.what].size:,.0f}x",
            _ms(cost.poll_s),
            f"{cost.poll_s / smallest[cost.what].poll_s:.1f}x",
            f"{cost.dearest[0]} {_ms(cost.dearest[1])}",
            cost.problem or "none",
        )
        for cost in costs
    )
    columns = ("input", "to the smallest", "15 s poll ms", "ratio", "dearest query, ms", "failed")
    return Grid("How the 15 s poll grows", columns, rows, describe_rush(rush) if rush else "")


def _size_name(size: ScrapeSize) -> str:
    return f"about {size.series:,} series, {size.chats:,} chats"


def _ms(seconds: float) -> str:
    """Milliseconds, three digits that matter."""
    ms = seconds * 1000
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" if ms >= 1 else f"{ms:.2f}"


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


def _markdown_rows(grid: Grid) -> Iterator[str]:
    yield f"| {' | '.join(grid.columns)} |"
    yield f"|{'|'.join([' --- ', *[' ---: '] * (len(grid.columns) - 1)])}|"
    for row in grid.rows:
        cells = " | ".join(" ".join(cell.split()).replace("|", "/") for cell in row)
        yield f"| {cells} |"


def _machine_text(figures: Figures) -> str:
    machine = figures.machine
    quiet = (
        ""
        if machine.load_before < _QUIET_LOAD
        else " The machine was not quiet: the ratios hold, the times are too long."
    )
    return (
        f"Measured {machine.date} on {machine.cores} cores ({machine.cpu}), "
        f"{machine.memory_gib:.0f} GiB memory, Linux {machine.kernel}, Python {machine.python}, "
        f"PostgreSQL {figures.postgresql}. Load average before the run: "
        f"{machine.load_before:.2f}.{quiet}"
    )


_HEAD = "# Figures\n\nWritten by `make bench`; do not edit."

_METHOD = """
## How it is measured

Repeat with `make bench`, or `{command}`.

- **Data.** The reference platform on the embedded PostgreSQL, filled on the server: 70 % of the
  chats are active and nearly all of those wait for their user; about 3 messages and 1.3
  assignments a chat, over 31 days. Every draw is a hash of a row's number.
- **Database time.** Transaction, settings and parameters are the daemon's own. The embedded
  PostgreSQL has no pg_stat_statements.
- **Scrapes.** All exporters run at the same time on the same database, each with its defaults, and
  take turns: sequential scrapes on one keep-alive connection with Prometheus's own headers, then
  wrk with 8 keep-alive connections. Figures are medians over the rounds. Ours answers all its
  built-in queries, the peers the four they were given; the number of operators shown makes up the
  size of a page. CPU is that of the exporter's process a scrape under wrk, its database's left out.
  The client and the database share the cores with the exporter.
- **Peers.** query-exporter from PyPI in an environment of its own, the two others from Debian.
  prometheus-postgres-exporter asks the database on each scrape, so its figures hold the queries.
- **Constant body.** A server that parses nothing and sends our page's bytes: the floor in Python.
- **Start.** From the process of `chatqueue demo` to a page on which every query has succeeded.
"""
