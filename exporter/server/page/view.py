"""What the page says: every word of it, so that the templates only place them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

from exporter.config import Config
from exporter.config.watch import Watch
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import FIGURES, index_samples
from exporter.metrics.keeper import HistoryKeeper
from exporter.plots import Limit
from exporter.polling.worker import Worker
from exporter.release.releaser import Releaser
from exporter.server.page.advice import Advice, read_advice
from exporter.server.page.alarms import (
    Alarm,
    Scene,
    find_alarms,
    find_calm,
    is_pending,
)
from exporter.server.page.charts import SPECS, Chart, Spec, build_chart
from exporter.server.page.panels import ReleaseView, WatchView, build_release, build_watch
from exporter.server.page.tiles import Tile, Tone, build_tiles
from exporter.text import format_duration

MOST_DRAWN = 6
"""Of more databases only those in trouble are drawn; the others are rows of the overview."""

_ORDER: tuple[Tone, ...] = ("ok", "unknown", "warning", "critical")


class PageDaemon(Protocol):
    """What the page reads of `exporter.daemon.Daemon`."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    @property
    def watch(self) -> Watch:
        """The watch in force."""

    @property
    def is_config_current(self) -> bool:
        """Whether the latest load of the configuration succeeded."""

    @property
    def workers(self) -> Sequence[Worker]:
        """One per database."""

    @property
    def releasers(self) -> Sequence[Releaser]:
        """One per database."""

    @property
    def digests(self) -> DigestScheduler:
        """What sends the digests of the watch."""

    @property
    def history(self) -> HistoryKeeper:
        """The last 24 h."""

    def is_healthy(self) -> Sequence[str]:
        """Return what is stalled."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One alarm as the page shows it.

    Attributes:
        alarm: Which.
        advice: Its words.
        since: Since when, in words; empty where unknown.
    """

    alarm: Alarm
    advice: Advice
    since: str


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """One database.

    Attributes:
        name: In the configuration.
        anchor: Of its section.
        labels: Its extra labels, `name=value`.
        tone: The verdict.
        verdict: In words.
        since: Since when, in words.
        troubles: What holds.
        pending: What holds, but not long enough yet.
        tiles: Key values.
        charts: Of the last hours; empty where they are not drawn.
        release: Auto-release.
        digest: Title and lines of the watch's last digest; empty without one.
    """

    name: str
    anchor: str
    labels: tuple[str, ...]
    tone: Tone
    verdict: str
    since: str
    troubles: tuple[Trouble, ...]
    pending: tuple[Trouble, ...]
    tiles: tuple[Tile, ...]
    charts: tuple[Chart, ...]
    release: ReleaseView
    digest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The whole page.

    Attributes:
        at: Time of rendering, in words.
        at_s: The same in Unix time.
        tone: The worst verdict.
        verdict: In words.
        interval_s: Between two polls.
        faults: What is wrong with the exporter itself.
        databases: Each, in the configuration's order.
        watch: None where there is none.
        prometheus: Its URL without credentials; empty without one.
    """

    at: str
    at_s: float
    tone: Tone
    verdict: str
    interval_s: float
    faults: tuple[str, ...]
    databases: tuple[DatabaseView, ...]
    watch: WatchView | None
    prometheus: str


def build_view(
    daemon: PageDaemon,
    *,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> View:
    """Return what the page says now."""
    daemon.history.refresh()
    wall_s, now = wall(), monotonic()
    releasers = {releaser.name: releaser for releaser in daemon.releasers}
    databases = []
    for index, worker in enumerate(daemon.workers):
        databases.append(
            _build_database(daemon, worker, releasers.get(worker.name), index, wall_s, now)
        )
    faults = tuple(f"{name} is stalled" for name in daemon.is_healthy())
    if not daemon.is_config_current:
        faults += ("the changed configuration was refused; the old one is in force",)
    tones: list[Tone] = [database.tone for database in databases]
    if daemon.is_healthy():
        tones.append("critical")
    elif faults:
        tones.append("warning")
    tone: Tone = max(tones, key=_ORDER.index, default="ok")
    intervals = [q.interval_s for w in daemon.workers for q in w.snapshot.results]
    return View(
        at=f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%d %H:%M:%S} UTC",
        at_s=wall_s,
        tone=tone,
        verdict=_sum_up(databases, tone),
        interval_s=min(max(min(intervals, default=15.0), 1.0), 15.0),
        faults=faults,
        databases=tuple(databases),
        watch=build_watch(daemon.watch, daemon.digests, datetime.fromtimestamp(wall_s, UTC)),
        prometheus=_find_prometheus(daemon.config),
    )


def _sum_up(databases: Sequence[DatabaseView], tone: Tone) -> str:
    """The verdict over all databases in one sentence."""
    bad = [database for database in databases if database.tone == tone]
    if not databases and tone == "ok":
        return "No database is watched here"
    if len(databases) == 1:
        return databases[0].verdict
    if tone == "ok":
        return f"All is well in all {len(databases)} databases"
    if not bad:
        return "The exporter itself is at fault"
    return f"{len(bad)} of {len(databases)} databases: {bad[0].verdict}"


def _build_database(
    daemon: PageDaemon,
    worker: Worker,
    releaser: Releaser | None,
    index: int,
    wall_s: float,
    now: float,
) -> DatabaseView:
    snapshot = worker.snapshot
    families = (*snapshot.families(now), *(releaser.families if releaser else ()))
    is_fresh = {result.query: result.success and now < result.expires_at
                for result in snapshot.results}  # fmt: skip
    scene = Scene(
        samples=index_samples(families),
        recorded=daemon.history.recorded(worker.name),
        wall_s=wall_s,
        answered_s=max((result.last_success_s for result in snapshot.results), default=0.0),
        failing=tuple(name for name, fresh in is_fresh.items() if not fresh),
        hidden=tuple(relation for relation, hidden in snapshot.hidden if hidden),
    )
    is_polled = worker.first_poll_done.is_set()
    troubles = [_explain(alarm, wall_s) for alarm in find_alarms(scene)] if is_polled else []
    pending = [t for t in troubles if is_pending(t.alarm, t.advice.wait_s, wall_s)]
    firing = tuple(t for t in troubles if t not in pending)
    tone: Tone = firing[0].alarm.severity if firing else "ok" if is_polled else "unknown"
    calm_s = None if firing else find_calm(scene)
    sent = daemon.digests.sent.get(worker.name)
    is_drawn = len(daemon.workers) <= MOST_DRAWN or tone != "ok"
    return DatabaseView(
        name=worker.name,
        anchor=f"database-{index + 1}",
        labels=tuple(f"{name}={value}" for name, value in snapshot.labels),
        tone=tone,
        verdict=_judge(firing) if is_polled else "Not polled yet",
        since=firing[0].since if firing else _say_since(calm_s, wall_s),
        troubles=firing,
        pending=tuple(pending),
        tiles=build_tiles(scene),
        charts=tuple(_draw(spec, scene) for spec in SPECS) if is_drawn else (),
        release=build_release(releaser, wall_s),
        digest=(sent.title, *sent.lines) if sent else (),
    )


def _judge(firing: Sequence[Trouble]) -> str:
    """The verdict in one sentence."""
    if not firing:
        return "All is well"
    more = f" And {len(firing) - 1} more." if len(firing) > 1 else ""
    return f"{firing[0].advice.summary}{more}"


def _explain(alarm: Alarm, wall_s: float) -> Trouble:
    advice = read_advice().get((alarm.alert, alarm.severity), Advice(alarm.alert, "", 0.0))
    return Trouble(alarm, advice, _say_since(alarm.since_s, wall_s))


def _say_since(since_s: float | None, wall_s: float) -> str:
    if since_s is None:
        return ""
    clock = datetime.fromtimestamp(since_s, UTC)
    passed = format_duration(timedelta(seconds=max(0.0, wall_s - since_s)), rounded=True)
    return f"since {clock:%H:%M} UTC ({passed})"


def _draw(spec: Spec, scene: Scene) -> Chart:
    """A chart with its thresholds."""
    limits: list[Limit] = []
    if spec.limits:
        figure = FIGURES[spec.limits]
        name = figure.limit.removeprefix("chatqueue_threshold_")
        limits = [
            Limit(scene.limit(name, severity=severity, **figure.labels), severity)
            for severity in ("warning", "critical")
        ]
    elif spec.ratio:
        limits = [Limit(scene.limit("slo_objective_ratio"), "objective")]
    return build_chart(spec, scene.recorded, scene.value, limits)


def _find_prometheus(config: Config) -> str:
    """Its URL as people may see it: without a user and a password."""
    url = config.prometheus.url
    if url is None:
        return ""
    parts = urlsplit(url.get_secret_value())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
