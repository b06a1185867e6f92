"""The report on a deployment: which watch, which time, and what Prometheus knows of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from exporter.config import Config
from exporter.config.watch import Watch, WatchTimes
from exporter.errors import ChatqueueError
from exporter.ops.report.advice import advise
from exporter.ops.report.criteria import CRITERIA, Scope
from exporter.ops.report.document import Report
from exporter.ops.report.evaluation import judge
from exporter.ops.report.prometheus import Client, PrometheusError

_POINTS = 240
_TIMES = 3


def find_watch(config: Config) -> Watch:
    """Return the watch that the daemon has in force, as Prometheus saw it, else the configured."""
    if config.prometheus.url is None:
        return config.watch
    now_s = datetime.now(UTC).timestamp()
    times = []
    with suppress(PrometheusError), Client(config.prometheus) as client:
        for name in ("started", "ends", "rollback_until"):
            series = client.query(f"max(chatqueue_watch_{name}_timestamp_seconds)", now_s)
            times += [datetime.fromtimestamp(each.points[0][1], UTC) for each in series]
    return config.watch.at_times(WatchTimes(*times)) if len(times) == _TIMES else config.watch


def make_report(
    config: Config, databases: Sequence[str], watch: Watch, asked_at: datetime | None
) -> Report:
    """Judge every criterion by what Prometheus stored.

    Args:
        config: With `prometheus.url`.
        databases: Their names.
        watch: With a beginning.
        asked_at: The time to judge; None for now, or the watch's end.

    Raises:
        ChatqueueError: There is no watch, no Prometheus, or nothing to judge at that time.
    """
    started_at, ends_at = watch.started_at, watch.ends_at
    if started_at is None or ends_at is None:
        raise ChatqueueError(
            "there is no watch, expected chatqueue watch start, watch.started_at or --started-at"
        )
    at = _choose(asked_at, started_at, ends_at)
    if config.prometheus.url is None:
        raise ChatqueueError("no Prometheus is configured, expected prometheus.url")
    # Escaped for a regular expression, and again for the string that holds it.
    names = "|".join(re.escape(name) for name in databases).replace("\\", "\\\\")
    window_s = int((at - started_at).total_seconds())
    # Whole minutes between two points of a plot.
    step_s = max(60, round(window_s / _POINTS / 60) * 60)
    scope = Scope(f'database=~"{names}"', started_at.timestamp(), window_s, step_s)
    with Client(config.prometheus) as client:
        judged = judge(CRITERIA, client, scope)
    until = started_at + watch.rollback_within
    advice = advise(judged, at, until)
    return Report(tuple(databases), started_at, ends_at, at, until, judged, advice, step_s)


def _choose(at: datetime | None, started_at: datetime, ends_at: datetime) -> datetime:
    """The time to judge, within the watch and not in the future; whole seconds after it began."""
    now = datetime.now(UTC)
    time = min(now, ends_at) if at is None else at
    if at is not None and not started_at < at <= ends_at:
        raise ChatqueueError(
            f"--at {at.isoformat()} is not within the watch, expected a time after "
            f"{started_at.isoformat()}, at most {ends_at.isoformat()}"
        )
    if time > now:
        raise ChatqueueError(f"--at {time.isoformat()} is in the future")
    passed_s = int((time - started_at).total_seconds())
    if passed_s < 1:
        raise ChatqueueError(f"the watch begins at {started_at.isoformat()}: nothing to judge yet")
    return started_at + timedelta(seconds=passed_s)
