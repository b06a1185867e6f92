"""What the page says: every word of it, so that the templates only place them."""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol
from urllib.parse import urlsplit

import yaml

from exporter.config import Config
from exporter.config.resources import find_resource
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import FIGURES, index_samples
from exporter.metrics.keeper import HistoryKeeper
from exporter.plots import Limit
from exporter.polling.worker import Worker
from exporter.release.releaser import Releaser
from exporter.server.page.alarms import (
    Alarm,
    Scene,
    find_alarms,
    find_calm,
    find_service_level,
    is_pending,
)
from exporter.server.page.charts import SPECS, Chart, Spec, build_chart
from exporter.text import format_duration, format_time, format_value

Tone = Literal["ok", "unknown", "warning", "critical"]

MOST_DRAWN = 6
"""Of more databases only those in trouble are drawn; the others are rows of the overview."""

_ORDER: tuple[Tone, ...] = ("ok", "unknown", "warning", "critical")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DECISIONS = {
    "released": "handed a stuck chat back",
    "would_release": "would have handed a stuck chat back",
    "escalated": "left a stuck chat to a person",
    "defect": "undid a release that went wrong",
}


class PageDaemon(Protocol):
    """What the page reads of `exporter.daemon.Daemon`."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

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
class Advice:
    """The words of an alert, from the rules and its runbook.

    Attributes:
        summary: What is wrong.
        first: What to do first, in Markdown; empty where the runbook does not say.
        wait_s: How long it must hold before Prometheus pages.
    """

    summary: str
    first: str
    wait_s: float


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
class Tile:
    """One key value.

    Attributes:
        key: Its name in the page.
        words: Its name.
        value: In words.
        tone: As its thresholds have it.
        note: What that means, in words.
    """

    key: str
    words: str
    value: str
    tone: Tone
    note: str


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """Auto-release in words.

    Attributes:
        tone: `ok`, or `warning` where it does not do what is configured.
        mode: Its mode and what that means.
        lines: What the latest cycle found, and a pause.
        pause: Who paused it and why, as they wrote it; None where it is not paused.
        events: Time and words of the latest decisions, newest first.
    """

    tone: Tone
    mode: str
    lines: tuple[str, ...]
    pause: tuple[str, str, str] | None
    events: tuple[tuple[str, str], ...]


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
class WatchView:
    """The deployment watch.

    Attributes:
        progress: Share that has passed.
        words: How far it is.
        rollback: How long the deployment can be rolled back.
        rollback_tone: `ok` while it can.
        last: When the last digest was due; empty before the first.
    """

    progress: float
    words: str
    rollback: str
    rollback_tone: Tone
    last: str


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
    tone = max(tones, key=_ORDER.index)
    intervals = [q.interval_s for w in daemon.workers for q in w.snapshot.results]
    return View(
        at=f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%d %H:%M:%S} UTC",
        at_s=wall_s,
        tone=tone,
        verdict=_sum_up(databases, tone),
        interval_s=min(max(min(intervals, default=15.0), 1.0), 15.0),
        faults=faults,
        databases=tuple(databases),
        watch=_build_watch(daemon, datetime.fromtimestamp(wall_s, UTC)),
        prometheus=_find_prometheus(daemon.config),
    )


def _sum_up(databases: Sequence[DatabaseView], tone: Tone) -> str:
    """The verdict over all databases in one sentence."""
    bad = [database for database in databases if database.tone == tone]
    if len(databases) == 1:
        return databases[0].verdict
    words = {"ok": "All is well", "unknown": "unknown", "warning": "a warning"}
    if tone == "ok":
        return f"All is well in all {len(databases)} databases"
    return f"{len(bad)} of {len(databases)} databases: {words.get(tone, 'critical')}"


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
        tiles=_build_tiles(scene),
        charts=tuple(_draw(spec, scene) for spec in SPECS) if is_drawn else (),
        release=_build_release(releaser, wall_s),
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


def _build_tiles(scene: Scene) -> tuple[Tile, ...]:
    """The row of key values."""
    stale_share = scene.limit("stale_operators_ratio")
    return (
        _age_tile(scene, "oldest_waiting", "Oldest wait in the queue"),
        _age_tile(scene, "customer_wait", "Longest unanswered user"),
        _plain_tile(scene, "waiting", "Chats waiting"),
        _plain_tile(scene, "available", "Operators available", warns=scene.value("waiting")),
        _plain_tile(scene, "on_chat", "Operators busy"),
        _stale_tile(scene, stale_share),
        _any_tile(scene, "invalid", "Invalid chats"),
        _service_tile(scene),
        _freshness_tile(scene),
    )


def _age_tile(scene: Scene, key: str, words: str) -> Tile:
    """An age with two limits."""
    value, labels = scene.value(key), FIGURES[key].labels
    name = FIGURES[key].limit.removeprefix("chatqueue_threshold_")
    warning, critical = (
        scene.limit(name, severity=each, **labels) for each in ("warning", "critical")
    )
    shown = format_value(value, "seconds")
    for tone, limit in (("critical", critical), ("warning", warning)):
        if value > limit:
            note = f"{tone}: above {format_value(limit, 'seconds')}"
            return Tile(key, words, shown, "critical" if tone == "critical" else "warning", note)
    if math.isnan(value):
        return Tile(key, words, shown, "unknown", "unknown")
    if math.isinf(warning):
        return Tile(key, words, shown, "ok", "no limit")
    return Tile(key, words, shown, "ok", f"ok, limit {format_value(warning, 'seconds')}")


def _plain_tile(scene: Scene, key: str, words: str, warns: float = 0.0) -> Tile:
    """A count without a limit; none at all warns where `warns` chats wait."""
    value = scene.value(key)
    if math.isnan(value):
        return Tile(key, words, "-", "unknown", "unknown")
    if value == 0 and warns > 0:
        return Tile(key, words, "0", "warning", "while chats wait")
    return Tile(key, words, format_value(value, ""), "ok", "")


def _any_tile(scene: Scene, key: str, words: str) -> Tile:
    """A count of which any is too many."""
    value = scene.value(key)
    if math.isnan(value):
        return Tile(key, words, "-", "unknown", "unknown")
    note = "warning: expected none" if value > 0 else "ok, none"
    return Tile(key, words, format_value(value, ""), "warning" if value > 0 else "ok", note)


def _stale_tile(scene: Scene, share: float) -> Tile:
    value = scene.value("stale")
    if math.isnan(value):
        return Tile("stale", "Operators stale", "-", "unknown", "unknown")
    on_duty = value + scene.value("available") + scene.value("on_chat")
    if value > share * on_duty:
        note = f"warning: above {format_value(share, 'ratio')} of those on duty"
        return Tile("stale", "Operators stale", format_value(value, ""), "warning", note)
    return Tile("stale", "Operators stale", format_value(value, ""), "ok", "no sign of life")


def _service_tile(scene: Scene) -> Tile:
    level, objective = find_service_level(scene.recorded), scene.limit("slo_objective_ratio")
    words = "Service level, last hour"
    if level is None:
        return Tile("service", words, "-", "unknown", "no wait in the last hour")
    shown, goal = format_value(level, "ratio"), format_value(objective, "ratio")
    if level < objective:
        return Tile("service", words, shown, "warning", f"warning: objective {goal}")
    return Tile("service", words, shown, "ok", f"ok, objective {goal}")


def _freshness_tile(scene: Scene) -> Tile:
    if not scene.answered_s:
        return Tile("data_age", "Data age", "-", "unknown", "no data yet")
    age_s, limit = max(0.0, scene.wall_s - scene.answered_s), scene.limit("data_age_seconds")
    shown, most = format_value(age_s, "seconds"), format_value(limit, "seconds")
    if age_s > limit:
        return Tile("data_age", "Data age", shown, "critical", f"critical: above {most}")
    return Tile("data_age", "Data age", shown, "ok", f"ok, limit {most}")


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


def _build_release(releaser: Releaser | None, wall_s: float) -> ReleaseView:
    """Auto-release as of its latest cycle."""
    if releaser is None:
        return ReleaseView("ok", "off", (), None, ())
    state = releaser.state
    modes = {
        "off": "off: it neither looks nor changes anything",
        "observe": "observe: it says what it would do, and changes nothing",
        "enforce": "enforce: it hands stuck chats back to the queue",
    }
    lines, pause = [], None
    if state.mode != state.configured:
        lines.append(f"configured is {state.configured}")
    gauges = state.gauges
    if gauges is None and state.configured != "off":
        lines.append("it does not see the database")
    if gauges is not None:
        lines.append(f"{gauges.suspects} suspect chats")
        if gauges.would_close:
            lines.append(f"{gauges.would_close} of them need a person: a release would close them")
        if gauges.tripped:
            lines.append("the breaker has tripped: nothing is released")
        if gauges.tokens is not None:
            lines.append(f"{int(gauges.tokens)} releases allowed now")
    if state.paused_until_s is not None:
        until = datetime.fromtimestamp(state.paused_until_s, UTC)
        left_s = max(0.0, state.paused_until_s - wall_s)
        shown = format_duration(timedelta(seconds=left_s), rounded=True)
        pause = (state.paused_by, f"until {format_time(until)} ({shown} left)", state.pause_reason)
    is_held = pause or (gauges is not None and gauges.tripped)
    events = tuple(
        (f"{datetime.fromtimestamp(event.at_s, UTC):%H:%M} UTC", _DECISIONS[event.decision])
        for event in reversed(state.events)
    )
    tone: Tone = "warning" if is_held or state.mode != state.configured else "ok"
    return ReleaseView(tone, modes[state.mode], tuple(lines), pause, events)


def _build_watch(daemon: PageDaemon, now: datetime) -> WatchView | None:
    watch = daemon.config.watch
    begun, ends, until = watch.started_at, watch.ends_at, watch.rollback_until
    if begun is None or ends is None or until is None or now < begun:
        return None
    passed = min(now, ends) - begun
    length = format_duration(watch.for_, rounded=True)
    words = f"{format_duration(passed, rounded=True)} of {length}"
    left = format_duration(max(timedelta(0), until - now), rounded=True)
    rollback = f"possible for {left} more, until {format_time(until)}"
    sent = next(iter(daemon.digests.sent.values()), None)
    return WatchView(
        progress=passed / (ends - begun),
        words=f"{words}, over" if now >= ends else words,
        rollback=rollback if now < until else f"no longer possible, since {format_time(until)}",
        rollback_tone="ok" if now < until else "unknown",
        last=f"{sent.at.astimezone(UTC):%H:%M} UTC" if sent else "",
    )


def _find_prometheus(config: Config) -> str:
    """Its URL as people may see it: without a user and a password."""
    url = config.prometheus.url
    if url is None:
        return ""
    parts = urlsplit(url.get_secret_value())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@functools.cache
def read_advice() -> Mapping[tuple[str, str], Advice]:
    """Return the words of every shipped alert, by name and severity."""
    runbooks = find_resource("docs/runbooks.md").read_text(encoding="utf-8")
    firsts = {
        section.partition("\n")[0].strip(): _find_first(section)
        for section in re.split(r"^## ", runbooks, flags=re.MULTILINE)[1:]
    }
    advice = {}
    for file in sorted(find_resource("alerts").glob("*.rules.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                name, severity = rule["alert"], rule["labels"].get("severity", "")
                first, summary = firsts.get(name, ""), rule["annotations"]["summary"]
                advice[name, severity] = Advice(summary, first, _read_wait(rule.get("for", "0s")))
    return advice


def _find_first(section: str) -> str:
    found = re.search(r"^\*\*First:\*\* (.+?)(?:\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _read_wait(text: str) -> float:
    return float(text[:-1]) * _UNITS_S[text[-1]]
