"""How long a person waits for the demo: from its process to the first page without a gap."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import BadAnswer, read_page
from bench.processes import Program, ProgramError
from exporter.demo.machine import find_free_port

_LIMIT_S = 60.0
_SUCCESS = re.compile(r"^chatqueue_exporter_query_success\{[^}]*\} (\S+)$", re.MULTILINE)
_UP = re.compile(r"^chatqueue_database_up\{[^}]*\} 1", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Startup:
    """Starts of the demo.

    Attributes:
        seconds: Median to the first full page; None where there was none.
        runs: How many starts.
        problem: Why there is no figure.
    """

    seconds: float | None
    runs: int = 0
    problem: str = ""


def measure_startup(runs: int, work_dir: Path) -> Startup:
    """Start `chatqueue demo` that often, on its own port, and stop it again."""
    times: list[float] = []
    for number in range(runs):
        try:
            times.append(_start_once(work_dir / f"demo-{number}.log"))
        except (ProgramError, BadAnswer) as error:
            return Startup(None, len(times), str(error).strip().rpartition("\n")[2])
    return Startup(statistics.median(times), len(times))


def measure_help(runs: int) -> float:
    """Return the median time of `chatqueue --help` in medians of an import of click."""
    ours, click = (
        [sys.executable, "-m", "exporter", "--help"],
        [sys.executable, "-c", "import click"],
    )
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(runs):  # in turn, for the machine's pace changes
        for number, command in enumerate((ours, click)):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[number].append(time.perf_counter() - started)
    return statistics.median(times[0]) / statistics.median(times[1])


def is_full(page: str) -> bool:
    """Return whether every query of a page has succeeded and its database answers."""
    successes = _SUCCESS.findall(page)
    return bool(successes) and all(float(s) == 1 for s in successes) and bool(_UP.search(page))


def _start_once(log: Path) -> float:
    port = find_free_port()
    address = ("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warning")
    started = time.perf_counter()
    with Program((sys.executable, "-m", "exporter", "demo", *address), log) as program:
        while time.perf_counter() - started < _LIMIT_S:
            program.check_running()
            try:
                if is_full(read_page(port)):
                    return time.perf_counter() - started
            except OSError:
                pass
            time.sleep(0.01)
        raise ProgramError(f"no full page after {_LIMIT_S:.0f} s")
