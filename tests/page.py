"""A daemon for tests of the live page: every value is given, nothing is polled."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from exporter.config import Config
from exporter.config.watch import Watch
from exporter.metrics.exposition import Page
from exporter.metrics.figures import FIGURES, Reading
from exporter.metrics.history import History
from exporter.metrics.keeper import HistoryKeeper, HistoryPlan
from exporter.metrics.snapshot import Family, QueryResult, Sample, Snapshot
from exporter.metrics.thresholds import build_thresholds
from exporter.release.state import ReleaseState
from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.page.chats import ChatsPage
from exporter.server.page.render import LivePage
from exporter.server.routes import ROOT, Place, build_application, build_slowness

CALM = {
    "waiting": 1.0, "oldest_waiting": 12.0, "customer_wait": 40.0, "unanswered": 3.0,
    "available": 5.0, "on_chat": 4.0, "stale": 0.0, "oldest_assigned": 30.0, "idle_overdue": 0.0,
    "invalid": 0.0, "waits": 100.0, "waits_breached": 2.0, "user_messages": 300.0,
    "operator_messages": 280.0, "database_up": 1.0,
}  # fmt: skip


def make_config(**sections: Any) -> Config:
    """A configuration with one database."""
    databases = {"main": {"dsn": "host=127.0.0.1 port=1"}}
    return Config.model_validate({"databases": databases, **sections})


def make_families(values: Mapping[str, float]) -> tuple[Family, ...]:
    """Families from which the table of figures reads just these values."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for key, value in values.items():
        figure = FIGURES[key]
        if key != "database_up":
            labels = tuple((name, text.split("|")[0]) for name, text in figure.labels.items())
            extra = ((figure.detail, "answered_but_waiting"),) if figure.detail else ()
            samples[figure.metric].append(Sample((*labels, *extra), value))
    return tuple(Family(name, "gauge", "Help.", "", tuple(s)) for name, s in samples.items())


class FakeDaemon:
    """What the routes and the page look at.

    Attributes:
        workers: One per database; `show` replaces its snapshot.
        history: Kept on the clocks `elapsed_s` and the real wall.
    """

    def __init__(self, *names: str, **sections: Any) -> None:
        self.config = make_config(**sections)
        self.is_config_current = True
        self.stalled: Sequence[str] = ()
        self.workers = [
            SimpleNamespace(name=name, snapshot=None, first_poll_done=threading.Event())
            for name in names or ("main",)
        ]
        self.releasers: list[Any] = [
            SimpleNamespace(name=worker.name, families=(), state=ReleaseState())
            for worker in self.workers
        ]
        self.digests = SimpleNamespace(sent={})
        self.elapsed_s = 10 * 86400.0
        databases = frozenset(worker.name for worker in self.workers)
        self.history = HistoryKeeper(
            HistoryPlan(databases), dict, elapsed=lambda: self.elapsed_s, wall=time.time
        )
        self.exposition = SimpleNamespace(page=lambda _: Page("text/plain", b"metrics", b""))
        self.is_ready = lambda: True
        for worker in self.workers:
            self.show(CALM, worker.name)

    @property
    def watch(self) -> Watch:
        return self.config.watch

    def is_healthy(self) -> Sequence[str]:
        return self.stalled

    def show(
        self,
        values: Mapping[str, float],
        name: str = "",
        *,
        up: bool = True,
        age_s: float = 1.0,
        labels: tuple[tuple[str, str], ...] = (),
        extra: tuple[Family, ...] = (),
    ) -> None:
        """Publish what a poll of a database found."""
        worker = next(w for w in self.workers if name in ("", w.name))
        now = time.monotonic()
        families = (*make_families(values), *extra)
        success_s = time.time() - age_s
        result = QueryResult(
            "all", families, True, success_s, now + 600, 1.0, 0.01, 1, defaultdict(int)
        )
        worker.snapshot = Snapshot(
            worker.name, labels, up, now + 600, 0.0, False, (), (result,),
            build_thresholds(self.config),
        )  # fmt: skip
        worker.first_poll_done.set()

    def record(self, minutes: Sequence[Mapping[str, float]], name: str = "main") -> None:
        """Put minutes into the history, the last of them now; an empty one is a gap."""
        keeper: Any = self.history
        history = keeper._histories[name] = History()
        totals: dict[str, float] = defaultdict(float)
        for index, values in enumerate(minutes):
            at_s = self.elapsed_s - 60 * (len(minutes) - 1 - index)
            for key, value in values.items():
                totals[key] = totals[key] + value if FIGURES[key].is_counter else value
            if values:
                history.add(at_s, Reading({key: totals[key] for key in values}))


@contextlib.contextmanager
def serve_page(
    daemon: Any, place: Place = ROOT, port: int = 0, chats: ChatsPage | None = None
) -> Iterator[HttpServer]:
    """Serve a daemon's pages on loopback until the block ends."""
    live, chats = LivePage(daemon, place.links), chats or ChatsPage(daemon, place.links)
    application = build_application(
        daemon, enable_lifecycle=False, place=place, live=live, chats=chats
    )
    server = HttpServer(
        App(application, is_slow=build_slowness(live, chats, place)), [f"127.0.0.1:{port}"], None
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)
