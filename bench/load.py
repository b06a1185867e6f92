"""Clients: one sequential keep-alive scraper for latency, wrk for throughput. The same for all."""

from __future__ import annotations

import gzip
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

# What Prometheus 2.42 sends, and so what every exporter is asked here.
SCRAPE_HEADERS = (
    (
        "Accept",
        (
            "application/openmetrics-text;version=1.0.0,"
            "application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
    ),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", "Prometheus/2.42.0"),
    ("X-Prometheus-Scrape-Timeout-Seconds", "10"),
)

CLIENTS = 8
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_COUNT = re.compile(r"^\s*(\d+) requests in", re.MULTILINE)
_FAULT = re.compile(r"^\s*(Non-2xx.*|Socket errors.*)$", re.MULTILINE)


class BadAnswer(Exception):
    """An exporter did not answer a scrape with 200 and a whole body."""


class Scraper:
    """One keep-alive connection to an exporter's /metrics.

    It reads a response whole, and takes it apart no further than its end demands.
    """

    def __init__(self, port: int, timeout_s: float = 60.0, *, gzip: bool = True) -> None:
        lines = ["GET /metrics HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        headers = (pair for pair in SCRAPE_HEADERS if gzip or pair[0] != "Accept-Encoding")
        lines += [f"{name}: {value}" for name, value in headers]
        self._request = "\r\n".join((*lines, "", "")).encode()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def scrape(self) -> tuple[bytes, bytes]:
        """Return the head (lower case) and the body as sent, chunks joined.

        Raises:
            BadAnswer: The status is not 200, or the connection ended too early.
        """
        self._socket.sendall(self._request)
        data = self._more(b"")
        while (end := data.find(b"\r\n\r\n")) < 0:
            data = self._more(data)
        head, data = data[:end].lower(), data[end + 4 :]
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            raise BadAnswer(head.partition(b"\r\n")[0].decode(errors="replace"))
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].partition(b"\r\n")[0])
            while len(data) < length:
                data = self._more(data)
            return head, data
        return head, self._read_chunks(data)

    def _read_chunks(self, data: bytes) -> bytes:
        """A chunked body."""
        parts: list[bytes] = []
        while True:
            while (end := data.find(b"\r\n")) < 0:
                data = self._more(data)
            size = int(data[:end].partition(b";")[0], 16)
            start = end + 2
            while len(data) < start + size + 2:
                data = self._more(data)
            if size == 0:
                return b"".join(parts)
            parts.append(data[start : start + size])
            data = data[start + size + 2 :]

    def _more(self, data: bytes) -> bytes:
        """The data and what came next."""
        piece = self._socket.recv(262_144)
        if not piece:
            raise BadAnswer("the connection ended before the body did")
        return data + piece


@dataclass(frozen=True, slots=True)
class Latency:
    """Sequential scrapes on one connection, in seconds.

    Attributes:
        p50: Median.
        p99: The slowest of a hundred; the slowest of all where there were fewer.
        scrapes: How many.
        body_bytes: As sent, of the last one.
    """

    p50: float
    p99: float
    scrapes: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Scrapes over several connections at once.

    Attributes:
        per_s: Scrapes a second.
        scrapes: How many in all.
    """

    per_s: float
    scrapes: int


def read_page(port: int) -> str:
    """Return an exporter's page as text."""
    with Scraper(port) as scraper:
        head, body = scraper.scrape()
    encoded = b"content-encoding: gzip" in head
    return (gzip.decompress(body) if encoded else body).decode()


def count_series(page: str) -> int:
    """Return how many samples a page holds."""
    return sum(1 for line in page.splitlines() if line and not line.startswith("#"))


def measure_latency(port: int, *, scrapes: int, limit_s: float) -> Latency:
    """Scrape one after the other, `scrapes` times or until `limit_s` is over, at least thrice."""
    times: list[float] = []
    body = b""
    with Scraper(port) as scraper:
        scraper.scrape()
        deadline = time.perf_counter() + limit_s
        while len(times) < 3 or (len(times) < scrapes and time.perf_counter() < deadline):
            started = time.perf_counter()
            _, body = scraper.scrape()
            times.append(time.perf_counter() - started)
    times.sort()
    last = len(times) - 1
    return Latency(
        times[last // 2], times[min(last, len(times) * 99 // 100)], len(times), len(body)
    )


def find_wrk() -> str | None:
    """Return the path of wrk, or None."""
    return shutil.which("wrk")


def measure_throughput(wrk: str, port: int, seconds: int) -> Throughput:
    """Let `CLIENTS` keep-alive connections scrape as fast as they are served.

    Raises:
        BadAnswer: Some scrape was not answered with 200.
    """
    headers: Sequence[str] = [f"{name}: {value}" for name, value in SCRAPE_HEADERS]
    command = [wrk, "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "30s"]
    for header in headers:
        command += ["-H", header]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/metrics"],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    fault = _FAULT.search(done.stdout)
    rate, count = _RATE.search(done.stdout), _COUNT.search(done.stdout)
    if fault or done.returncode or not rate or not count:
        raise BadAnswer(fault[1] if fault else (done.stderr or done.stdout).strip())
    return Throughput(float(rate[1]), int(count[1]))
