"""The ASGI application: from a request to its response, by authentication, limits and pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

from exporter.server.auth import Authenticator
from exporter.server.limits import Limits
from exporter.server.message import BUSY, Application, Request, Response, plain, refusal
from exporter.server.pool import BoundedPool, PoolFull
from exporter.server.uploads import Uploads
from exporter.server.web_config import WebConfig

_log = structlog.get_logger("chatqueue.server")

_UNAUTHORIZED = plain(401, "401 Unauthorized", ("WWW-Authenticate", 'Basic realm="chatqueue"'))
# A body goes out in pieces of this size, each as the client takes the one before.
_PIECE_BYTES = 64 * 1024
_HELD_UPLOAD_BYTES = 16 * 1024 * 1024


class _Refused(Exception):
    """The body is not read to its end; the response says why, or there is nobody to tell."""

    def __init__(self, response: Response | None) -> None:
        self.response = response


@dataclass(slots=True)
class Room:
    """Bytes that bodies may take together which are not complete yet."""

    left_bytes: int


class Gate:
    """One loaded web configuration in force; replaced as a whole by a reload.

    Attributes:
        tls: Context and allowed names for new connections, or None for plain HTTP.
        authenticator: None where no users are configured.
        headers: Added to each response that does not carry a header of the same name.
    """

    __slots__ = ("authenticator", "headers", "tls")

    def __init__(self, config: WebConfig, pool: BoundedPool) -> None:
        self.tls = config.tls
        self.authenticator = Authenticator(config.users, pool) if config.users else None
        self.headers = config.headers


class App:
    """Answers requests on the event loop or, for what may take long, in pools.

    Args:
        application: Must not block, except for `slow_paths` and uploads.
        slow_paths: Paths that run in a pool, whatever their method.
        config: The web configuration to begin with.
        limits: What one client may take.
        uploads: Takes larger bodies on its own paths, and checks its clients itself; or None.
    """

    def __init__(
        self,
        application: Application,
        slow_paths: frozenset[str],
        config: WebConfig,
        limits: Limits,
        uploads: Uploads | None = None,
    ) -> None:
        self._application = application
        self._slow_paths = slow_paths
        self._limits = limits
        self._uploads = uploads
        self.upload_room = Room(_HELD_UPLOAD_BYTES)
        self._slow_pool = BoundedPool("server-slow", threads=2, capacity=16)
        # One thread, and few that wait: a flood of uploads takes one core at the most, and gets a
        # clear no early enough to be sent again.
        self._upload_pool = BoundedPool("server-upload", threads=1, capacity=8)
        # One thread: bcrypt lets go of the GIL, and a flood of guesses may take one core, not all.
        self._auth_pool = BoundedPool("server-auth", threads=1, capacity=64)
        self.gate = Gate(config, self._auth_pool)

    def use(self, config: WebConfig) -> None:
        """Put a new web configuration in force; remembered credentials are forgotten."""
        self.gate = Gate(config, self._auth_pool)

    def close(self) -> None:
        """Take no more work in the pools."""
        self._slow_pool.close()
        self._upload_pool.close()
        self._auth_pool.close()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request; ASGI's own signature."""
        assert scope["type"] == "http"  # noqa: S101  there is neither a websocket nor a lifespan
        try:
            response = await self._answer(scope, receive)
        except _Refused as refused:
            if refused.response is None:
                return
            response = refused.response
        await self._send(response, send)

    async def _answer(self, scope: HTTPScope, receive: ASGIReceiveCallable) -> Response:
        headers = _join(scope["headers"])
        if scope["http_version"] not in ("1.0", "1.1"):
            return _last(refusal(505))
        if scope["http_version"] == "1.1" and "host" not in headers:
            return _last(refusal(400))
        client = scope["client"]
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            headers,
            b"",
            client[0].removeprefix("::ffff:") if client else "",
        )
        if self._uploads is not None and self._uploads.takes(request.path):
            return await self._answer_upload(self._uploads, request, receive)
        if _has_body(headers):
            limit = self._limits.max_body_bytes
            request.body = await _read(headers, receive, limit, Room(limit))
        authenticator = self.gate.authenticator
        if authenticator is not None and not await _is_known(authenticator, request):
            return _UNAUTHORIZED
        if request.path not in self._slow_paths:
            return self._ask(request)
        return await self._ask_in(self._slow_pool, request)

    async def _answer_upload(
        self, uploads: Uploads, request: Request, receive: ASGIReceiveCallable
    ) -> Response:
        refused = uploads.admit(request.path, request.headers)
        if refused is not None:
            return _last(refused) if _has_body(request.headers) else refused
        try:
            if _has_body(request.headers):
                request.body = await _read(
                    request.headers, receive, uploads.max_body_bytes, self.upload_room
                )
            response = await self._ask_in(self._upload_pool, request)
        except _Refused as refused_:
            response = refused_.response or refusal(408)
            uploads.refused(request.path, response.status)
            raise
        if response is BUSY:
            uploads.refused(request.path, response.status)
        return response

    async def _ask_in(self, pool: BoundedPool, request: Request) -> Response:
        try:
            return await pool.run(lambda: self._ask(request))
        except PoolFull:
            return BUSY

    def _ask(self, request: Request) -> Response:
        try:
            return self._application(request)
        except Exception:
            _log.exception("request failed", method=request.method, path=request.path)
            return refusal(500)

    async def _send(self, response: Response, send: ASGISendCallable) -> None:
        body = response.body
        names = {name.lower() for name, _ in response.headers}
        pairs = [*response.headers, *(h for h in self.gate.headers if h[0].lower() not in names)]
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        if response.status == HTTPStatus.NO_CONTENT:
            body = b""
        else:
            headers.append((b"content-length", b"%d" % len(body)))
        if response.status == HTTPStatus.NOT_MODIFIED:
            body = b""
        start: Any = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        view = memoryview(body)
        while len(view) > _PIECE_BYTES:
            piece: Any = {
                "type": "http.response.body",
                "body": bytes(view[:_PIECE_BYTES]),
                "more_body": True,
            }
            await send(piece)
            view = view[_PIECE_BYTES:]
        await send({"type": "http.response.body", "body": bytes(view), "more_body": False})


async def _read(
    headers: Mapping[str, str], receive: ASGIReceiveCallable, limit: int, room: Room
) -> bytes:
    """The whole body; what of it has come takes its room until it is complete.

    Raises:
        _Refused: It is larger than the limit, there is no room, or the client has gone.
    """
    if int(headers.get("content-length", 0)) > limit:
        raise _Refused(_last(refusal(413)))
    pieces, size, more = [], 0, True
    try:
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise _Refused(None)
            piece, more = message["body"], message["more_body"]
            if size + len(piece) > limit:
                raise _Refused(_last(refusal(413)))
            if len(piece) > room.left_bytes:
                raise _Refused(_last(BUSY))
            room.left_bytes -= len(piece)
            size += len(piece)
            pieces.append(piece)
    finally:
        room.left_bytes += size
    return b"".join(pieces)


async def _is_known(authenticator: Authenticator, request: Request) -> bool:
    """Whether the credentials are right.

    Raises:
        _Refused: Too many checks wait.
    """
    authorization = request.headers.get("authorization")
    if authorization is None:
        return False
    if authenticator.remembers(authorization):
        return True
    try:
        return await authenticator.check(authorization, request.peer)
    except PoolFull:
        raise _Refused(BUSY) from None


def _join(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-cased name; a repeated one's values joined."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _has_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _last(response: Response) -> Response:
    """The same response as the last one of its connection: a body is left unread."""
    return Response(response.status, (*response.headers, ("Connection", "close")), response.body)
