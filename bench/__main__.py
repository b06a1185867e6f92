"""`python -m bench`: measure everything, print it, write it down, leave nothing behind."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.curves import write_curves
from bench.dataset import Dataset, Shape, build_dataset, run_server
from bench.exporters import Exporter, find_exporters
from bench.goals import Figures, judge
from bench.growth import RUSH_S, measure_growth, measure_rush
from bench.load import find_wrk
from bench.machine import describe_machine
from bench.many import COUNTS, WINDOW_S, measure_many
from bench.polls import PollCost, measure_polls
from bench.report import print_report, render_markdown
from bench.scrapes import Effort, ScrapeSize, measure_scrapes
from bench.startup import measure_help, measure_startup
from exporter.demo.postgres import LocalServer

CACHE = Path(".bench")
SCRAPE_CHATS = 10_000
SCRAPE_SERIES = (160, 510, 3_500)
# At a million chats each scrape of an exporter that asks then takes seconds.
LARGE_EFFORT = Effort(rounds=3, scrapes=200, limit_s=4.0, load_s=0)

console = Console()


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure.

    Attributes:
        sizes: Numbers of chats for the database time, ascending.
        series: Page sizes for the scrapes.
        runs: Polls to take the median of.
        effort: How long to scrape.
        starts: Starts of the demo.
        databases: Numbers of databases in one daemon.
        window_s: How long each of these daemons is watched.
        quick: Whether this is only a smoke run.
        output: Report to write.
    """

    sizes: tuple[int, ...]
    series: tuple[int, ...]
    runs: int
    effort: Effort
    starts: int
    databases: tuple[int, ...]
    window_s: float
    quick: bool
    output: Path


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return the exit code: 0 measured, 130 interrupted."""
    options = _parse(arguments)
    # SIGTERM ends as Ctrl-C does, so that every context is left; a shell's background job would
    # ignore both.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    # Where the report goes changes no figure, and may be a path of this machine.
    measured = ["--quick"] if options.quick else []
    measured += ["--sizes", ",".join(map(str, options.sizes))]
    command = shlex.join(["python", "-m", "bench", *measured])
    try:
        with tempfile.TemporaryDirectory(prefix="chatqueue-bench-") as name:
            figures = _measure(options, Path(name), command)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing is left behind.", style="yellow")
        return 130
    print_report(figures, Console(width=max(console.width, 160)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    curves = write_curves(options.output.parent, figures.growth, figures.rush)
    options.output.write_text(render_markdown(figures, curves), encoding="utf-8")
    missed = sum(goal.reached is False for goal in judge(figures))
    console.print(f"{missed} goals missed. Written to {options.output}.")
    return 0


def _parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of chats")
    parser.add_argument("--series", default=",".join(map(str, SCRAPE_SERIES)), help="page sizes")
    parser.add_argument("--quick", action="store_true", help="a smoke run of under two minutes")
    parser.add_argument("--output", type=Path, help="default bench/RESULTS.md")
    given = parser.parse_args(arguments)
    try:
        sizes = tuple(sorted(int(size) for size in given.sizes.split(",")))
        series = tuple(int(count) for count in given.series.split(","))
        for chats in sizes:
            Shape(chats)
    except ValueError as error:
        parser.error(str(error))
    if given.quick:
        output = given.output or CACHE / "quick.md"
        effort = Effort(rounds=1, scrapes=100, limit_s=1.0, load_s=1)
        return Options(
            (sizes[0],), (series[0], series[-1]), 10, effort, 1, (2, 4), 4.0, True, output
        )
    output = given.output or Path("bench/RESULTS.md")
    return Options(sizes, series, 30, Effort(), 3, COUNTS, WINDOW_S, False, output)


def _measure(options: Options, work_dir: Path, command: str) -> Figures:
    machine = describe_machine()
    CACHE.mkdir(exist_ok=True)
    if find_wrk() is None:
        _note("wrk is not installed: no throughput, no CPU a scrape")
    exporters = find_exporters(CACHE.absolute(), _note)
    for exporter in exporters:
        if exporter.problem:
            _note(f"{exporter.name}: {exporter.problem}")
    _note("starting the demo")
    help_ratio = measure_help(10)
    startup = measure_startup(options.starts, work_dir)
    many = measure_many(options.databases, options.window_s, work_dir, _note)
    with run_server(options.sizes[-1]) as server:
        version = f"{server.version_num // 10_000}.{server.version_num % 10_000}"
        scrapes = list(_measure_pages(options, server, exporters, work_dir))
        polls: list[PollCost] = []
        for chats in options.sizes:
            with _filled(server, Shape(chats)) as dataset:
                _note(f"{chats:,} chats: polling")
                polls.append(measure_polls(dataset, options.runs, work_dir, CACHE / "plans"))
                if chats == options.sizes[-1] and not options.quick:
                    scrapes.append(
                        measure_scrapes(
                            *(exporters, dataset.dsn, options.series[0], chats),
                            *(LARGE_EFFORT, work_dir, _note),
                        )
                    )
        growth, rush = (), None
        if not options.quick:
            growth = tuple(measure_growth(server, _filled, options.runs, work_dir))
            rush = measure_rush(server, _filled, RUSH_S, work_dir)
    return Figures(
        *(machine, version, tuple(polls), tuple(scrapes), startup, help_ratio),
        *(many, growth, rush, command),
    )


def _measure_pages(
    options: Options, server: LocalServer, exporters: Sequence[Exporter], work_dir: Path
) -> Iterator[ScrapeSize]:
    """Scrapes at every size of page, on a small data set with many operators."""
    shape = Shape(SCRAPE_CHATS, operators=max(options.series) * 2)
    with _filled(server, shape) as dataset:
        for series in options.series:
            yield measure_scrapes(
                exporters, dataset.dsn, series, SCRAPE_CHATS, options.effort, work_dir, _note
            )


@contextlib.contextmanager
def _filled(server: LocalServer, shape: Shape) -> Iterator[Dataset]:
    """A data set, announced."""
    _note(f"{shape.chats:,} chats: filling")
    with build_dataset(server, shape) as dataset:
        megabytes = dataset.size_bytes / 1e6
        _note(
            f"{shape.chats:,} chats: {dataset.messages:,} messages, {dataset.assignments:,} "
            f"assignments, {megabytes:,.0f} MB in {dataset.built_s:.0f} s"
        )
        yield dataset


def _note(text: str) -> None:
    """Say what is going on."""
    console.print(text, style="dim", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
