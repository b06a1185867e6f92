"""Snapshots to bytes: rendered once per change, per format and encoding, never per scrape.

A page is made of parts: what is known of one database, of one releaser, of the exporter itself. A
part is rendered again when its source was replaced or one of its families outlives its `max_age`,
and within it only the families that changed. A thread joins the parts and compresses the page, so
that neither a poll nor a scrape waits for it; it takes at most `MAX_SHARE` of a core.
"""

from __future__ import annotations

import gzip
import math
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.metrics.encoding import Encoded, encode_family
from exporter.metrics.snapshot import Family, Labels, Snapshot, make_family
from exporter.threads import PeriodicThread

MAX_PAGE_AGE_S = 15.0
# Of one core, for rendering; what changes more often than that is rendered together.
MAX_SHARE = 0.05
# How long after its end a page is still handed out while the thread renders the next one.
GRACE_S = 2.0
# A format that was not asked for in that time is no longer kept ready.
FORGET_AFTER_S = 600.0
_Key = tuple[str, Labels]
_GZIP_LEVEL = 3
_MAX_ACCEPTS = 64
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


@dataclass(slots=True)
class _Part:
    """The rendered families of one source in one format.

    Attributes:
        source: What it was rendered from; another object is another state.
        valid_until: Monotonic time from which the source reads differently.
        families: By their name.
    """

    source: object
    valid_until: float
    families: dict[str, Encoded]


@dataclass(slots=True)
class _Format:
    """One content type.

    Attributes:
        encode: prometheus_client's function for it.
        asked_at: Monotonic time of the latest request.
        page: The latest page, None where the next request has to render it.
        changes: How many changes of the sources the page takes in.
        valid_until: Monotonic time from which it has to be rendered again without any change.
        parts: What the page was made of, by kind of source and the labels of all its samples.
    """

    encode: Callable[[Collector], bytes]
    asked_at: float
    page: Page | None = None
    changes: int = -1
    valid_until: float = 0.0
    parts: dict[_Key, _Part] = field(default_factory=dict)


class Exposition(PeriodicThread[None]):
    """The rendered page, kept ready.

    Until the thread is started, `page` renders what has changed itself.

    Args:
        source: Returns the latest state; called for each rendering.
        monotonic: Clock of `Snapshot.families`.
    """

    def __init__(
        self, source: Callable[[], Source], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__("page", None, monotonic=monotonic)
        self._source = source
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        self._lock = threading.Lock()
        self._types: dict[str, str] = {}
        self._formats: dict[str, _Format] = {}
        self._changes = 0
        self._not_before = 0.0

    def page(self, accept: str) -> Page:
        """Return the page in the format an Accept header asks for.

        Args:
            accept: The header's value; empty for none.
        """
        content_type = self._types.get(accept) or self._choose(accept)
        format_, now = self._formats[content_type], self._monotonic()
        format_.asked_at = now
        page = format_.page
        is_kept_ready = self._thread.is_alive()
        is_valid = now < format_.valid_until + (GRACE_S if is_kept_ready else 0.0)
        if page is not None and is_valid and (is_kept_ready or format_.changes == self._changes):
            return page
        with self._lock:
            return self._render(content_type, now)

    def publish(self) -> None:
        """Have the page rendered again, because something changed."""
        self._changes += 1
        self.wake()

    def refresh(self) -> None:
        """Render again before returning, for a change that its maker looks for at once."""
        self._changes += 1
        self._render_all(self._monotonic())

    def _run_once(self) -> float:
        """Render where something changed; return the seconds until that may be so again."""
        now = self._monotonic()
        if now < self._not_before:
            return self._not_before - now
        valid_until = self._render_all(now)
        took_s = self._monotonic() - now
        self._not_before = now + took_s / MAX_SHARE
        return valid_until - now

    def _render_all(self, now: float) -> float:
        """Render what is asked for; return the monotonic time until which it holds."""
        valid_until = now + MAX_PAGE_AGE_S
        with self._lock:
            for content_type, format_ in self._formats.items():
                if now - format_.asked_at > FORGET_AFTER_S:
                    format_.page, format_.parts = None, {}
                else:
                    self._render(content_type, now)
                    valid_until = min(valid_until, format_.valid_until)
        return valid_until

    def _choose(self, accept: str) -> str:
        """Negotiate a content type and remember how to encode it."""
        encoder, content_type = choose_encoder(_negotiate(accept))
        with self._lock:
            self._formats.setdefault(content_type, _Format(encoder, self._monotonic()))
            if len(self._types) < _MAX_ACCEPTS:
                self._types[accept] = content_type
        return content_type

    def _render(self, content_type: str, now: float) -> Page:
        """Render one format, unless it is up to date; the caller holds the lock."""
        format_, changes = self._formats[content_type], self._changes
        if format_.page is None or format_.changes != changes or now >= format_.valid_until:
            source = self._source()
            expiries = (snapshot.next_expiry(now) for snapshot in source.snapshots)
            body = _join(format_, source, now) + format_.encode(self._process)
            # mtime is fixed so that equal bodies give equal bytes.
            compressed = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            format_.page = Page(content_type, body, compressed)
            format_.changes = changes
            format_.valid_until = min([now + MAX_PAGE_AGE_S, *expiries])
        return format_.page


def _join(format_: _Format, source: Source, now: float) -> bytes:
    """The families of all parts, each name's samples together, in the order of the parts."""
    sources: list[tuple[str, Labels, Snapshot | tuple[Family, ...]]] = [("own", (), source.own)]
    sources += [("database", snapshot.all_labels, snapshot) for snapshot in source.snapshots]
    sources += [("release", labels, families) for labels, families in source.releases]
    # Labels are part of the key: a reload that changes them leaves no line as it was.
    parts = format_.parts = {
        (kind, labels): _render_part(format_, (kind, labels), part_source, now)
        for kind, labels, part_source in sources
    }
    joined: dict[str, list[bytes]] = {}
    for part in parts.values():
        for name, encoded in part.families.items():
            joined.setdefault(name, [encoded.heading]).append(encoded.lines)
    return b"".join(chunk for chunks in joined.values() for chunk in chunks)


def _render_part(
    format_: _Format, key: _Key, source: Snapshot | tuple[Family, ...], now: float
) -> _Part:
    """The part as it was where nothing changed, else with the families that did."""
    known = format_.parts.get(key)
    if known is not None and known.source is source and now < known.valid_until:
        return known
    if isinstance(source, Snapshot):
        families, valid_until = source.families(now), source.next_expiry(now)
    else:
        families, valid_until = source, math.inf
    before = known.families if known is not None else {}
    encoded = {
        family.name: encode_family(format_.encode, family, key[1], before.get(family.name))
        for family in families
    }
    return _Part(source, valid_until, encoded)


def _negotiate(accept: str) -> str:
    """The preferred one of the supported formats in an Accept header, as a header again.

    prometheus_client repeats any requested version, and fails where it is no number: each would be
    one more page to render for as long as the daemon runs.
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
        watch: Unix times of the watch's start, end and rollback deadline; empty for none.
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
        until = "Unix time until which the deployment can be rolled back."
        values.append(("watch_rollback_until_timestamp_seconds", until, (), watch[2]))
    return tuple(
        make_family(f"chatqueue_{name}", help_text, [(labels, value)])
        for name, help_text, labels, value in values
    )
