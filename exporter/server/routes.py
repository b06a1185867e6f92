"""The paths: the metrics, health, readiness, reload, runbooks and a landing page."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from exporter import __version__
from exporter.errors import ChatqueueError
from exporter.metrics.exposition import Exposition, Page
from exporter.polling.worker import Worker
from exporter.server.message import Application, Request, Response
from exporter.server.runbooks import render_runbook, render_runbooks

RELOAD = "/-/reload"
RUNBOOKS = "/runbooks"
SLOW_PATHS = frozenset({RELOAD})

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Daemon(Protocol):
    """What is used of `exporter.daemon.Daemon`."""

    @property
    def exposition(self) -> Exposition:
        """The page of metrics."""

    @property
    def workers(self) -> Sequence[Worker]:
        """One per database."""

    def is_healthy(self) -> Sequence[str]:
        """Return what is stalled; nothing means healthy."""

    def is_ready(self) -> bool:
        """Return whether every database was polled once."""

    def reload(self) -> None:
        """Read the configuration again.

        Raises:
            ChatqueueError: It is refused; the old one stays in force.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Path prefix and links, as `--web.route-prefix` and `--web.external-url` set them.

    Attributes:
        prefix: Of every path that is served: empty, or `/chatqueue` without a slash at its end.
        links: The same as seen through a proxy, for links and redirects.
    """

    prefix: str = ""
    links: str = ""


ROOT = Place()


def build_place(external_url: str | None, route_prefix: str | None) -> Place:
    """Return the path prefixes of the two options.

    Args:
        external_url: Such as `https://example.org/chatqueue/`, or only its path.
        route_prefix: Prefix of requested paths; by default the path of the external URL.

    Raises:
        ValueError: It is not a URL or path; the message says what was expected.
    """
    path = external_url or ""
    if not path.startswith("/") and path:
        parts = urlsplit(path)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("expected a URL such as https://example.org/chatqueue/, or a path")
        path = parts.path
    prefix = _slashed(path if route_prefix is None else route_prefix)
    return Place(prefix, prefix if external_url is None else _slashed(path))


def _slashed(path: str) -> str:
    """Return a path that begins with a slash and does not end with one; empty for the root."""
    if not re.fullmatch(r"[A-Za-z0-9/._~%-]*", path):
        raise ValueError("expected a path of letters, digits and / . _ ~ % -")
    inner = "/".join(part for part in path.split("/") if part)
    return f"/{inner}" if inner else ""


def build_application(
    daemon: Daemon, *, enable_lifecycle: bool, place: Place = ROOT
) -> Application:
    """Return the function that answers requests.

    Args:
        daemon: Whose page and health are served.
        enable_lifecycle: Whether POST /-/reload is allowed.
        place: Path prefix and links; outside the prefix there is only a redirect from the root.
    """

    pages: dict[str, Callable[[Daemon, Request], Response]] = {
        "/metrics": _metrics,
        "/-/healthy": _healthy,
        "/-/ready": _ready,
        "/": lambda daemon, _: _landing(daemon, place.links),
        RUNBOOKS: lambda _, __: _html(render_runbooks(place.links)),
    }

    def application(request: Request) -> Response:
        path = _path_below(place, request.path)
        if isinstance(path, Response):
            return path
        if path == RELOAD:
            return _reload(daemon, request) if enable_lifecycle else _lifecycle_disabled()
        page = pages.get(path) or _runbook_page(path, place.links)
        if page is None:
            return _text(404, f"not found, the metrics are at {place.links}/metrics\n")
        if request.method not in ("GET", "HEAD"):
            return _text(405, "method not allowed, expected GET\n", ("Allow", "GET, HEAD"))
        return page(daemon, request)

    return application


def _runbook_page(path: str, links: str) -> Callable[[Daemon, Request], Response] | None:
    """Return what serves `/runbooks/<Alert>`, None if there is no such alert."""
    alert = path.removeprefix(f"{RUNBOOKS}/")
    shown = None if alert == path else render_runbook(alert, links)
    return None if shown is None else lambda _, __: _html(shown)


def _path_below(place: Place, path: str) -> str | Response:
    """Return the path without the prefix, or the response to a path that is not below it."""
    inner = path.removeprefix(place.prefix)
    if place.prefix and path == "/":
        return Response(302, (_TEXT, ("Location", f"{place.prefix}/")))
    if place.prefix and (inner == path or inner[:1] not in ("", "/")):
        return _text(404, f"not found, all paths are below {place.prefix}/\n")
    return inner or Response(302, (_TEXT, ("Location", f"{place.links}/")))


def _metrics(daemon: Daemon, request: Request) -> Response:
    """Return the metrics in the format and encoding that the client prefers."""
    page = daemon.exposition.page(request.headers.get("accept", ""))
    return _responses(page)[_accepts_gzip(request.headers.get("accept-encoding", ""))]


@lru_cache(maxsize=8)
def _responses(page: Page) -> tuple[Response, Response]:
    """Return a page plain and gzipped; built once per page, not per scrape."""
    headers = (("Content-Type", page.content_type), ("Vary", "Accept, Accept-Encoding"))
    return (
        Response(200, headers, page.body),
        Response(200, (*headers, ("Content-Encoding", "gzip")), page.compressed),
    )


@lru_cache(maxsize=64)
def _accepts_gzip(accept_encoding: str) -> bool:
    """Return whether gzip, or else `*`, is accepted and not refused with q=0."""
    accepted: dict[str, bool] = {}
    for part in accept_encoding.split(","):
        coding, _, parameters = part.strip().lower().partition(";")
        quality = parameters.replace(" ", "").removeprefix("q=")
        accepted[coding.strip()] = not quality or quality.strip("0.") != ""
    return accepted.get("gzip", accepted.get("*", False))


def _healthy(daemon: Daemon, _: Request) -> Response:
    """Whether every thread is alive and making progress."""
    stuck = daemon.is_healthy()
    if stuck:
        return _text(503, f"stalled: {', '.join(stuck)}\n")
    return _text(200, "chatqueue-exporter is healthy.\n")


def _ready(daemon: Daemon, _: Request) -> Response:
    """Whether every database was polled once."""
    if daemon.is_ready():
        return _text(200, "chatqueue-exporter is ready.\n")
    return _text(503, "the first poll has not finished\n")


def _reload(daemon: Daemon, request: Request) -> Response:
    """Read the configuration again."""
    if request.method not in ("POST", "PUT"):
        return _text(405, "method not allowed, expected POST or PUT\n", ("Allow", "POST, PUT"))
    try:
        daemon.reload()
    except ChatqueueError as error:
        return _text(500, f"failed to reload configuration:\n{error}\n")
    return _text(200, "")


def _lifecycle_disabled() -> Response:
    """Return what Prometheus answers."""
    return _text(403, "lifecycle API is not enabled, expected --web.enable-lifecycle\n")


def _text(status: int, body: str, *headers: tuple[str, str]) -> Response:
    """Return a plain-text response."""
    return Response(status, (_TEXT, *headers), body.encode())


def _landing(daemon: Daemon, links: str) -> Response:
    """Return the landing page: links, and whether each database answers."""
    rows = "".join(_landing_row(worker) for worker in daemon.workers)
    page = _PAGE.format(version=html.escape(__version__), rows=rows, links=html.escape(links))
    return _html(page, ("Cache-Control", "no-store"))


def _html(page: str, *headers: tuple[str, str]) -> Response:
    """Return an HTML page."""
    return Response(200, (("Content-Type", "text/html; charset=utf-8"), *headers), page.encode())


def _landing_row(worker: Worker) -> str:
    """Return a database's row, with the same verdict as the metrics."""
    snapshot, now = worker.snapshot, time.monotonic()
    name = f"<tr><td>{html.escape(snapshot.database)}</td>"
    if not worker.first_poll_done.is_set():
        return f"{name}<td>not polled yet</td><td></td></tr>"
    up = snapshot.up and now < snapshot.up_until
    working = sum(result.success and now < result.expires_at for result in snapshot.results)
    return (
        f"{name}<td class={'up' if up else 'down'}>{'answers' if up else 'does not answer'}</td>"
        f"<td>{working} of {len(snapshot.results)} queries work</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>chatqueue-exporter</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem;
       color: #1c2430; }}
h1 {{ margin: 0; font-size: 1.6rem; }} p {{ color: #55606f; }}
a {{ color: #0b62c4; }}
table {{ border-collapse: collapse; width: 100%; margin: 1.5rem 0; }}
td {{ padding: .5rem .75rem; border-bottom: 1px solid #dde3ea; }}
.up {{ color: #15713a; }} .down {{ color: #b3261e; font-weight: 600; }}
li {{ margin: .25rem 0; }}
</style></head><body>
<h1>chatqueue-exporter</h1>
<p>Version {version}. Watches operator-staffed chat queues on PostgreSQL.</p>
<table>{rows}</table>
<ul>
<li><a href="{links}/metrics">{links}/metrics</a>: the metrics, for Prometheus</li>
<li><a href="{links}/-/healthy">{links}/-/healthy</a>: the process is alive and polls</li>
<li><a href="{links}/-/ready">{links}/-/ready</a>: every database was polled once</li>
<li><a href="{links}/runbooks">{links}/runbooks</a>: what to do about each alert</li>
</ul>
</body></html>
"""
