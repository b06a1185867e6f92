"""The paths: the live page, the metrics, health, readiness, reload and runbooks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from exporter.errors import ChatqueueError
from exporter.metrics.exposition import Exposition, Page
from exporter.server.message import Application, Request, Response
from exporter.server.page.chats import PATH as CHATS
from exporter.server.page.chats import ChatsPage
from exporter.server.page.render import LivePage, find_asset
from exporter.server.page.view import PageDaemon
from exporter.server.runbooks import render_runbook, render_runbooks

RELOAD = "/-/reload"
RUNBOOKS = "/runbooks"
LIVE = "/live"
SLOW_PATHS = frozenset({RELOAD})

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Daemon(PageDaemon, Protocol):
    """What is used of `exporter.daemon.Daemon`."""

    @property
    def exposition(self) -> Exposition:
        """The page of metrics."""

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
    daemon: Daemon,
    *,
    enable_lifecycle: bool,
    place: Place = ROOT,
    live: LivePage | None = None,
    chats: ChatsPage | None = None,
) -> Application:
    """Return the function that answers requests.

    Args:
        daemon: Whose page and health are served.
        enable_lifecycle: Whether POST /-/reload is allowed.
        place: Path prefix and links; outside the prefix there is only a redirect from the root.
        live: The live page; by default one of its own.
        chats: The lists of chats; likewise.
    """
    live = live or LivePage(daemon, place.links)
    chats = chats or ChatsPage(daemon, place.links)

    pages: dict[str, Callable[[Daemon, Request], Response]] = {
        "/metrics": _metrics,
        "/-/healthy": _healthy,
        "/-/ready": _ready,
        "/": lambda _, request: _live(live, "/?wall" if _is_wall(request) else "/", request),
        LIVE: lambda _, request: _live(live, LIVE, request),
        CHATS: lambda _, request: chats.respond(request),
        RUNBOOKS: lambda _, __: _html(render_runbooks(place.links)),
    }

    def application(request: Request) -> Response:
        path = _path_below(place, request.path)
        if isinstance(path, Response):
            return path
        if path == RELOAD:
            return _reload(daemon, request) if enable_lifecycle else _lifecycle_disabled()
        page = pages.get(path) or _other_page(path, place.links)
        if page is None:
            return _text(404, f"not found, the metrics are at {place.links}/metrics\n")
        if request.method not in ("GET", "HEAD"):
            return _text(405, "method not allowed, expected GET\n", ("Allow", "GET, HEAD"))
        return page(daemon, request)

    return application


def _other_page(path: str, links: str) -> Callable[[Daemon, Request], Response] | None:
    """Return what serves `/runbooks/<Alert>` or a file of the live page; None if there is none."""
    asset = find_asset(path)
    if asset is not None:
        return lambda _, __: asset
    alert = path.removeprefix(f"{RUNBOOKS}/")
    shown = None if alert == path else render_runbook(alert, links)
    return None if shown is None else lambda _, __: _html(shown)


def _is_wall(request: Request) -> bool:
    return "wall" in parse_qs(request.query, keep_blank_values=True)


def _live(live: LivePage, path: str, request: Request) -> Response:
    """Return the live page, the same bytes for all."""
    compressed = _accepts_gzip(request.headers.get("accept-encoding", ""))
    return live.respond(path, compressed=compressed, may_render=request.may_block)


def build_slowness(
    live: LivePage, chats: ChatsPage, place: Place = ROOT
) -> Callable[[Request], bool]:
    """Return the function that says whether a request is to be answered in a pool."""
    paths = frozenset({f"{place.prefix}/", f"{place.prefix}{LIVE}"})

    def is_slow(request: Request) -> bool:
        if request.method not in ("GET", "HEAD"):
            return False
        if request.path == f"{place.prefix}{CHATS}":
            return chats.claim(request)
        return request.path in paths and live.claim()

    return is_slow


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


def _html(page: str, *headers: tuple[str, str]) -> Response:
    """Return an HTML page."""
    return Response(200, (("Content-Type", "text/html; charset=utf-8"), *headers), page.encode())
