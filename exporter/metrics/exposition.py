"""Snapshots to bytes: rendered once per change, per format and encoding, never per scrape.

A page is rendered again when a poller publishes, when a family outlives its `max_age`, and at the
latest after `MAX_PAGE_AGE_S`, so that the process's metrics stay current. The publishing thread
renders every format that was ever requested; a scrape only hands out bytes.
"""

from __future__ import annotations

import gzip
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.metrics.snapshot import Family, Labels, Snapshot, make_family

MAX_PAGE_AGE_S = 15.0
_GZIP_LEVEL = 5
_MAX_KNOWN_ACCEPTS = 64
_OPENMETRICS = "application/openmetrics-text"
_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One rendered body.

    Attributes:
        content_type: With version and charset, as content negotiation chose.
        body: The exposition text.
        compressed: The same, gzipped.
    """

    content_type: str
    body: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class _Pages:
    """All pages rendered from one state of the world."""

    by_type: dict[str, Page]
    valid_until: float


@dataclass(frozen=True, slots=True)
class Source:
    """What a page is made of.

    Attributes:
        snapshots: The latest of each database.
        own: Families of the exporter itself, without `database`.
        releases: Families of each database's releaser, with the labels all of them carry.
    """

    snapshots: tuple[Snapshot, ...]
    own: tuple[Family, ...]
    releases: tuple[tuple[Labels, tuple[Family, ...]], ...] = ()


class Exposition:
    """The rendered page, kept ready.

    Args:
        source: Returns the latest state; called for each rendering.
        monotonic: Clock of `Snapshot.families`.
    """

    def __init__(
        self, source: Callable[[], Source], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._monotonic = monotonic
        self._registry = CollectorRegistry()
        self._registry.register(_SnapshotCollector(source, monotonic))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._lock = threading.Lock()
        # Content type to the encoder and the Accept header that chose it.
        self._encoders: dict[str, Callable[[CollectorRegistry], bytes]] = {}
        self._types: dict[str, str] = {}
        self._pages = _Pages({}, 0.0)

    def page(self, accept: str) -> Page:
        """Return the page in the format an Accept header asks for.

        Args:
            accept: The header's value; empty for none.
        """
        content_type = self._types.get(accept) or self._choose(accept)
        pages = self._pages
        page = pages.by_type.get(content_type)
        if page is not None and self._monotonic() < pages.valid_until:
            return page
        with self._lock:
            pages = self._pages
            if content_type not in pages.by_type or self._monotonic() >= pages.valid_until:
                pages = self._render()
            return pages.by_type[content_type]

    def publish(self) -> None:
        """Render again, because something changed."""
        with self._lock:
            self._render()

    def _choose(self, accept: str) -> str:
        """Negotiate a content type and remember how to encode it."""
        encoder, content_type = choose_encoder(_known_form(accept))
        with self._lock:
            self._encoders.setdefault(content_type, encoder)
            if len(self._types) < _MAX_KNOWN_ACCEPTS:
                self._types[accept] = content_type
        return content_type

    def _render(self) -> _Pages:
        """Render every format asked for so far; the caller holds the lock."""
        now = self._monotonic()
        expiry = min(
            (snapshot.next_expiry(now) for snapshot in self._source().snapshots),
            default=float("inf"),
        )
        by_type = {}
        for content_type, encoder in self._encoders.items():
            body = encoder(self._registry)
            # mtime is fixed so that equal bodies give equal bytes.
            compressed = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            by_type[content_type] = Page(content_type, body, compressed)
        self._pages = _Pages(by_type, min(expiry, now + MAX_PAGE_AGE_S))
        return self._pages


def _known_form(accept: str) -> str:
    """The form that an Accept header likes best of the few there are, as a header of its own.

    prometheus_client repeats any version it is asked for, and fails where it is no number: each
    would be one more page to render for as long as the daemon runs.
    """
    best, best_quality = "", 0.0
    for part in accept.split(","):
        kind, *fields = (field.strip() for field in part.lower().split(";"))
        named = {key: value.strip('" ') for key, _, value in (f.partition("=") for f in fields)}
        version, escaping = named.get("version", ""), named.get("escaping", "underscores")
        if escaping not in _ESCAPINGS:
            escaping = "underscores"
        try:
            quality = float(named.get("q", "1"))
        except ValueError:
            quality = 0.0
        if kind == _OPENMETRICS and version in ("", "1.0.0"):
            form = f"{_OPENMETRICS};version=1.0.0;escaping={escaping}"
        elif kind == "text/plain" and version == "1.0.0":
            form = f"text/plain;version=1.0.0;escaping={escaping}"
        elif kind in ("text/plain", "text/*", "*/*") and version in ("", "0.0.4"):
            form = ""
        else:
            continue
        if quality > best_quality:
            best, best_quality = form, quality
    return best


def own_families(
    *, reload_success: bool, reload_success_time_s: float, watch: Sequence[float] = ()
) -> tuple[Family, ...]:
    """Return the families about the exporter itself, which carry no `database`.

    Args:
        reload_success: Whether the latest load of the configuration succeeded.
        reload_success_time_s: Unix time of the latest load that did.
        watch: Unix times of the watch's start and end; empty where there is none.
    """
    build = (("version", __version__), ("pythonversion", platform.python_version()))
    values: list[tuple[str, str, Labels, float]] = [
        (
            "exporter_build_info",
            "Version of the exporter and of the Python it runs on; always 1.",
            build,
            1,
        ),
        (
            "exporter_config_last_reload_successful",
            "Whether the latest load of the configuration succeeded.",
            (),
            reload_success,
        ),
        (
            "exporter_config_last_reload_success_timestamp_seconds",
            "Unix time of the latest successful load of the configuration.",
            (),
            reload_success_time_s,
        ),
    ]
    if watch:
        start = "Unix time when the watch after the deployment began."
        end = "Unix time when the watch after the deployment is over."
        values.append(("watch_started_timestamp_seconds", start, (), watch[0]))
        values.append(("watch_ends_timestamp_seconds", end, (), watch[1]))
    return tuple(
        make_family(f"chatqueue_{name}", help_text, [(labels, value)])
        for name, help_text, labels, value in values
    )


class _SnapshotCollector(Collector):
    """Hands prometheus_client our families, all databases joined under each name."""

    def __init__(self, source: Callable[[], Source], monotonic: Callable[[], float]) -> None:
        self._source = source
        self._monotonic = monotonic

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known only from the catalogue, which has checked them."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family of every snapshot, in a stable order."""
        source = self._source()
        now = self._monotonic()
        metrics: dict[str, Metric] = {}
        _add(metrics, (), source.own)
        for snapshot in source.snapshots:
            labels = (("database", snapshot.database), *snapshot.labels)
            _add(metrics, labels, snapshot.families(now))
        for labels, families in source.releases:
            _add(metrics, labels, families)
        yield from metrics.values()


def _add(metrics: dict[str, Metric], labels: Labels, families: Sequence[Family]) -> None:
    """Append the families' samples to the metric of their name."""
    for family in families:
        metric = metrics.get(family.name)
        if metric is None:
            metric = metrics[family.name] = _empty_metric(family)
        for sample in family.samples:
            metric.add_sample(
                family.name + sample.suffix, dict(labels + sample.labels), sample.value
            )


def _empty_metric(family: Family) -> Metric:
    """prometheus_client's container for a family."""
    if family.type == "counter":
        return CounterMetricFamily(family.name.removesuffix("_total"), family.help)
    return Metric(family.name, family.help, family.type, family.unit)
