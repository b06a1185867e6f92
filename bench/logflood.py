"""`python -m bench.logflood`: a log drain's flood beside polls and scrapes.

Starts the daemon with a receiver and a database that it polls each second, sends so many lines a
second for so long, and tells what became of memory, polls, scrapes and lines. A refused request is
sent again, as a drain does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.dataset import Shape, build_dataset, run_server
from bench.load import read_page
from bench.processes import Program, ProgramError
from exporter.demo.machine import find_free_port

TOKEN = "x" * 32
BATCH = 500
SENDERS = 4
_BASELINE_S = 10.0
_SAMPLE_S = 0.05
_STARTUP_LIMIT_S = 30.0
_POLLED = "chatqueue_exporter_query_last_success_timestamp_seconds"


@dataclass(slots=True)
class Seen:
    """What the page said while it was watched.

    Attributes:
        scrapes_s: What each scrape took.
        polls: Distinct times of the latest success of the query polled each second.
        rss_bytes: Highest resident memory.
    """

    scrapes_s: list[float] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    rss_bytes: float = 0.0

    def describe(self) -> str:
        """Return the figures as one line."""
        gaps = [late - early for early, late in zip(self.polls, self.polls[1:], strict=False)]
        scrapes = sorted(self.scrapes_s)
        return (
            f"{len(self.polls)} polls, at most {max(gaps, default=0.0):.2f} s apart (1 s asked); "
            f"scrapes p50 {scrapes[len(scrapes) // 2] * 1e3:.1f} ms, "
            f"max {scrapes[-1] * 1e3:.1f} ms; memory at most {self.rss_bytes / 1e6:.1f} MB"
        )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 1 where a line was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.logflood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=10_000, help="lines a second")
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="chatqueue-bench-") as name,
        run_server(10_000) as server,
        build_dataset(server, Shape(10_000)) as dataset,
    ):
        config = Path(name) / "chatqueue.yaml"
        config.write_text(
            json.dumps(
                {
                    "databases": {"main": {"dsn": dataset.dsn}},
                    "queries": {"overrides": {"state_clock": {"interval": "1s", "timeout": "1s"}}},
                    "logs": {"receivers": {"drain": {"token": TOKEN}}},
                }
            )
        )
        port = find_free_port()
        address = f"127.0.0.1:{port}"
        command = (sys.executable, "-m", "exporter", "run", "--config.file", str(config))
        with Program((*command, "--web.listen-address", address), Path(name) / "log"):
            return _measure(port, given.seconds, given.rate)


def _measure(port: int, seconds: float, rate: int) -> int:
    deadline = time.monotonic() + _STARTUP_LIMIT_S
    while True:
        try:
            if _value(read_page(port), _POLLED, "state_clock"):
                break
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise ProgramError("the daemon does not poll")
        time.sleep(0.1)
    print(f"quiet: {_watch(port, _BASELINE_S).describe()}")
    done = threading.Event()
    sent, again = [0] * SENDERS, [0] * SENDERS
    threads = [
        threading.Thread(target=_send, args=(port, rate / SENDERS, done, sent, again, number))
        for number in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    seen = _watch(port, seconds)
    done.set()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - started
    print(f"flood: {seen.describe()}")
    wanted = sum(sent)
    time.sleep(6)  # the page follows within 5 s
    counted = int(_value(read_page(port), "chatqueue_log_lines_total", "drain"))
    print(
        f"{wanted / took_s:,.0f} lines/s for {took_s:.0f} s: {wanted:,} accepted, {counted:,} "
        f"counted; {sum(again)} requests told to come again"
    )
    return 0 if counted == wanted else 1


def _watch(port: int, seconds: float) -> Seen:
    """Scrape again and again."""
    seen = Seen()
    end = time.monotonic() + seconds
    while (started := time.monotonic()) < end:
        page = read_page(port)
        seen.scrapes_s.append(time.monotonic() - started)
        poll = _value(page, _POLLED, "state_clock")
        if not seen.polls or poll != seen.polls[-1]:
            seen.polls.append(poll)
        seen.rss_bytes = max(seen.rss_bytes, _value(page, "process_resident_memory_bytes", ""))
        time.sleep(_SAMPLE_S)
    return seen


def _send(
    port: int, rate: float, done: threading.Event, sent: list[int], again: list[int], number: int
) -> None:
    """Send batches at a rate until told to stop; repeat what is refused."""
    entry = {
        "level": "error",
        "message": "chat assignment failed: operator is not available",
        "context": {
            "request": "0f7b1c2d-3e4f-5a6b-7c8d-9e0f1a2b3c4d",
            "path": "/api/operator/take",
        },
    }
    body = "\n".join([json.dumps(entry)] * BATCH)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic()
    while not done.wait(max(0.0, due - time.monotonic())):
        client.request("POST", "/ingest/logs/drain", body, headers)
        answer = client.getresponse()
        answer.read()
        if answer.status == 200:
            sent[number] += BATCH
            due += BATCH / rate
        else:
            again[number] += 1
            due = time.monotonic() + float(answer.headers["Retry-After"])


def _value(page: str, name: str, label: str) -> float:
    """The first sample of a name whose labels hold a word."""
    found = re.search(rf"^{name}(?:{{[^}}]*{label}[^}}]*}})? (\S+)$", page, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
