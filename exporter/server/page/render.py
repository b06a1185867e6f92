"""The page as bytes: rendered at most once per poll, and only while somebody looks."""

from __future__ import annotations

import functools
import gzip
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.server.message import HeaderPairs, Response
from exporter.server.page.view import PageDaemon, View, build_view
from exporter.server.runbooks import render_inline

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_AGE_S = 15.0
# Of one core, for rendering, however often it is polled.
_MAX_SHARE = 0.1
# A request that was to render and was refused by a full pool leaves it to another after so long.
_CLAIM_S = 5.0
_FOLDER = Path(__file__).parent
_GZIP_LEVEL = 5
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HTML = ("Content-Type", "text/html; charset=utf-8")
_SAFE: HeaderPairs = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
_ICONS = {"ok": "#1a7340", "unknown": "#4d5866", "warning": "#f0a500", "critical": "#c5352b"}
_TITLES = {"ok": "OK", "unknown": "Unknown", "warning": "Warning", "critical": "CRITICAL"}


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The page as of one publication.

    Attributes:
        key: The snapshots that it was made of.
        valid_until: Monotonic time from which it is rendered again without a new poll.
        not_before: Monotonic time before which it is not rendered again.
        bodies: By path and query: plain, and gzipped.
    """

    key: tuple[int, ...]
    valid_until: float
    not_before: float
    bodies: Mapping[str, tuple[Response, Response]]


class LivePage:
    """The page of one daemon: `/`, `/?wall` and `/live`, the part that changes.

    Args:
        daemon: Whose state is shown.
        links: Prefix of every path in a link.
        monotonic: Clock.
        build: Makes the words.
    """

    def __init__(
        self,
        daemon: PageDaemon,
        links: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        build: Callable[[PageDaemon], View] = build_view,
    ) -> None:
        self._daemon = daemon
        self._links = links
        self._monotonic = monotonic
        self._build = build
        self._lock = threading.Lock()
        self._rendered: _Rendered | None = None
        self._claimed_until = 0.0

    def claim(self) -> bool:
        """Return whether the request at hand is to render, which must not happen on the loop.

        While one request renders, the others get the page as it was.
        """
        now = self._monotonic()
        if self._rendered is None:
            return True
        if now < self._claimed_until or not self._is_due(self._rendered):
            return False
        self._claimed_until = now + _CLAIM_S
        return True

    def respond(self, path: str, *, compressed: bool, may_render: bool) -> Response:
        """Return a page.

        Args:
            path: `/`, `/?wall` or `/live`.
            compressed: Whether the client takes gzip.
            may_render: Whether this call may take long; the first one does in any case.
        """
        rendered = self._rendered
        if rendered is None or may_render:
            rendered = self._refresh()
        return rendered.bodies[path][compressed]

    def _is_due(self, rendered: _Rendered) -> bool:
        now = self._monotonic()
        is_new = self._key() != rendered.key and now >= rendered.not_before
        return is_new or now >= rendered.valid_until

    def _key(self) -> tuple[int, ...]:
        return tuple(id(worker.snapshot) for worker in self._daemon.workers)

    def _refresh(self) -> _Rendered:
        """Render, unless another request just did."""
        with self._lock:
            try:
                if self._rendered is None or self._is_due(self._rendered):
                    self._rendered = self._render()
            finally:
                self._claimed_until = 0.0
            return self._rendered

    def _render(self) -> _Rendered:
        # The key first: what is published meanwhile makes the page due again.
        began, key = self._monotonic(), self._key()
        view = self._build(self._daemon)
        templates, links = _load_templates(), self._links
        values = {
            "view": view,
            "links": links,
            "title": f"{_TITLES[view.tone]} · {view.verdict} · chat queue",
        }
        fragment = templates.get_template("live.html").render(values)
        page = templates.get_template("page.html")
        bodies = {"/live": fragment}
        for query, is_wall in (("/", False), ("/?wall", True)):
            bodies[query] = page.render(
                **values,
                fragment=fragment,
                is_wall=is_wall,
                version=__version__,
                refresh_s=round(view.interval_s),
                shows_chats=self._daemon.config.web.chats,
                style_mark=_read_asset("style.css")[1],
                script_mark=_read_asset("page.js")[1],
            )
        responses = {path: _respond_both(text) for path, text in bodies.items()}
        now = self._monotonic()
        return _Rendered(key, now + MAX_AGE_S, now + (now - began) / _MAX_SHARE, responses)


def _respond_both(text: str) -> tuple[Response, Response]:
    body = text.encode()
    headers = (_HTML, ("Cache-Control", "no-store"), ("Vary", "Accept-Encoding"), *_SAFE)
    packed = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    zipped = (*headers, ("Content-Encoding", "gzip"))
    return Response(200, headers, body), Response(200, zipped, packed)


def respond_page(template: str, **values: object) -> Response:
    """Return a page of one's own in the style of the live page, not to be kept anywhere."""
    page = _load_templates().get_template(template)
    body = page.render(**values, style_mark=_read_asset("style.css")[1]).encode()
    return Response(200, (_HTML, ("Cache-Control", "no-store"), *_SAFE), body)


def find_asset(path: str) -> Response | None:
    """Return the stylesheet, the script or an icon; None of any other path."""
    name = path.removeprefix("/page/")
    if name == path:
        return None
    if name in ("style.css", "page.js"):
        kind = "text/css" if name == "style.css" else "text/javascript"
        # The page links to it by its content.
        return _respond_asset(_read_asset(name)[0], f"{kind}; charset=utf-8")
    colour = _ICONS.get(name.removesuffix(".svg")) if name.endswith(".svg") else None
    if colour is None:
        return None
    icon = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        f'<circle cx="8" cy="8" r="7" fill="{colour}"/></svg>'
    )
    return _respond_asset(icon.encode(), "image/svg+xml")


def _respond_asset(body: bytes, content_type: str) -> Response:
    headers = (("Content-Type", content_type), ("Cache-Control", "max-age=86400"), *_SAFE)
    return Response(200, headers, body)


@functools.cache
def _read_asset(name: str) -> tuple[bytes, str]:
    """A file and a mark of its content."""
    body = (_FOLDER / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:8]


@functools.cache
def _load_templates() -> Environment:
    """The templates; loaded when somebody looks for the first time."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    templates = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["inline"] = render_inline
    return templates
