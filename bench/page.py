"""`python -m bench.page`: what browsers on the live page cost scrapes and polls.

One demo, and in turn rounds without and with the browsers. A browser is a keep-alive connection
that fetches what the page's script does, as often as it does.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import measure_latency, read_page
from bench.processes import Program
from bench.startup import is_full
from exporter.demo.machine import find_free_port

INTERVAL_S = 5.0
"""Of the demo's polls, and so of its pages."""

_SUCCESS = re.compile(
    r'^chatqueue_exporter_query_last_success_timestamp_seconds\{.*query="state_clock".*\} (\S+)$',
    re.MULTILINE,
)
_READY_S = 30.0


@dataclass(slots=True)
class Takings:
    """What the rounds of one kind brought in.

    Attributes:
        p50_s: Of sequential scrapes, one per round.
        polls_s: Unix times of the polls seen.
        cpu_share: Of one core, by the daemon, one per round.
    """

    p50_s: list[float] = field(default_factory=list)
    polls_s: list[list[float]] = field(default_factory=list)
    cpu_share: list[float] = field(default_factory=list)

    @property
    def latest_s(self) -> float:
        """The longest time between two polls."""
        gaps = (b - a for polls in self.polls_s for a, b in itertools.pairwise(polls))
        return max(gaps, default=0.0)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=11.0, help="per round")
    options = parser.parse_args(arguments)
    port = find_free_port()
    command = (sys.executable, "-m", "exporter", "demo", "--scenario", "rush")
    address = ("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warning")
    without, with_browsers = Takings(), Takings()
    with (
        tempfile.TemporaryDirectory(prefix="chatqueue-bench-") as folder,
        Program((*command, *address), Path(folder) / "log") as program,
    ):
        _wait(program, port)
        for _ in range(options.rounds):
            _measure(without, program, port, options.seconds)
            with _Browsers(port, options.browsers) as browsers:
                _measure(with_browsers, program, port, options.seconds)
            print(f"{browsers.pages} pages, {browsers.failures} failures", flush=True)
    return _report(without, with_browsers, options.browsers)


def _report(without: Takings, with_browsers: Takings, browsers: int) -> int:
    """Print both; return 1 where a goal is missed."""
    for words, takings in (("nobody looks", without), (f"{browsers} browsers", with_browsers)):
        p50_ms = statistics.median(takings.p50_s) * 1000
        cpu = statistics.median(takings.cpu_share)
        print(
            f"{words}: scrape p50 {p50_ms:.3f} ms, {cpu:.1%} of a core, "
            f"longest time between two polls {takings.latest_s:.2f} s"
        )
    ratio = statistics.median(with_browsers.p50_s) / statistics.median(without.p50_s)
    print(f"ratio of the scrapes {ratio:.2f}, to reach at most 1.5")
    is_late = with_browsers.latest_s > INTERVAL_S + 1
    print(f"polls {'late' if is_late else 'on time'}")
    return int(ratio > 1.5 or is_late)


def _wait(program: Program, port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        program.check_running()
        try:
            if is_full(read_page(port)):
                return
        except OSError:
            pass
        time.sleep(0.1)


def _measure(takings: Takings, program: Program, port: int, seconds: float) -> None:
    """Scrape for a while, at a scrape's pace for latency, and note the polls."""
    polls: dict[float, None] = {}
    times, began, cpu_s = [], time.monotonic(), program.cpu_s()
    while time.monotonic() - began < seconds:
        times.append(measure_latency(port, scrapes=20, limit_s=1.0).p50)
        polls.update(dict.fromkeys(float(text) for text in _SUCCESS.findall(read_page(port))))
        time.sleep(0.1)
    takings.p50_s.append(statistics.median(times))
    takings.polls_s.append(sorted(polls))
    takings.cpu_share.append((program.cpu_s() - cpu_s) / (time.monotonic() - began))


class _Browsers:
    """Threads that fetch the page's changing part, each at its own time.

    Attributes:
        pages: Fetched.
        failures: Fetched in vain.
    """

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(number,)) for number in range(count)
        ]
        self.pages = self.failures = 0

    def __enter__(self) -> _Browsers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _look(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        self._stop.wait(INTERVAL_S * number / self._count)
        while not self._stop.is_set():
            try:
                connection.request("GET", "/live", headers={"Accept-Encoding": "gzip"})
                response = connection.getresponse()
                response.read()
                self.failures += response.status != 200
                self.pages += 1
            except (OSError, http.client.HTTPException):
                self.failures += 1
                connection.close()
            self._stop.wait(INTERVAL_S)
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
