"""The ASGI application: from a request to its response, by authentication, limits and pools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import structlog
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

from exporter.server.auth import Authenticator
from exporter.server.message import (
    BUSY,
    Application,
    HeaderPairs,
    Refused,
    Request,
    Response,
    Uploads,
    refusal,
)
from exporter.server.pool import BoundedPool
from exporter.server.protocol import Limits
from exporter.server.web_config import WebConfig

_log = structlog.get_logger("chatqueue.server")

_UNAUTHORIZED = refusal(401, ("WWW-Authenticate", 'Basic realm="chatqueue"'))
_LAST = ("Connection", "close")
# A body is sent in pieces of this size, each when the client has taken most of those before.
_PIECE_BYTES = 64 * 1024
_HELD_UPLOAD_BYTES = 16 * 1024 * 1024


class App:
    """Answers requests on the event loop or, if it may take long, in pools.

    Args:
        application: Must not block, except where it is called in a pool.
        slow_paths: Paths that are answered in a pool, whatever the method.
        is_slow: Whether another request is; asked once of each.
        uploads: Takes the larger bodies; may be None.
        limits: What one client may take.

    Attributes:
        web_config: In force.
        upload_room_bytes: What incomplete uploads may still take together.
    """

    def __init__(
        self,
        application: Application,
        *,
        slow_paths: frozenset[str] = frozenset(),
        is_slow: Callable[[Request], bool] = lambda _: False,
        uploads: Uploads | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._application = application
        self._slow_paths = slow_paths
        self._is_slow = is_slow
        self._uploads = uploads
        self.limits = limits or Limits()
        self.upload_room_bytes = _HELD_UPLOAD_BYTES
        self._slow_pool = BoundedPool("server-slow", threads=2, capacity=16)
        # One thread each: bcrypt releases the GIL, and a flood of uploads or of guesses may take
        # one core, not all. Few uploads wait, so that the others are refused early.
        self._upload_pool = BoundedPool("server-upload", threads=1, capacity=8)
        self._auth_pool = BoundedPool("server-auth", threads=1, capacity=64)
        self.use(WebConfig())

    def use(self, web_config: WebConfig) -> None:
        """Put a web configuration in force; remembered credentials are forgotten."""
        self.web_config, users = web_config, web_config.users
        self._authenticator = Authenticator(users, self._auth_pool) if users else None

    def close(self) -> None:
        """Take no more work in the pools."""
        for pool in (self._slow_pool, self._upload_pool, self._auth_pool):
            pool.close()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request; ASGI's signature."""
        assert scope["type"] == "http"  # noqa: S101  there are neither websockets nor lifespans
        request = _read_head(scope)
        takes = self._uploads is not None and self._uploads.takes(request.path)
        uploads = self._uploads if takes else None
        try:
            if scope["http_version"] not in ("1.0", "1.1"):
                raise Refused(refusal(505, _LAST))
            if scope["http_version"] == "1.1" and "host" not in request.headers:
                raise Refused(refusal(400, _LAST))
            if uploads is not None:
                response = await self._answer_upload(uploads, request, receive)
            else:
                response = await self._answer(request, receive)
        except Refused as refused:
            response = refused.response
            if uploads is not None:
                response = uploads.refuse(request.path, response)
        await self._send(response, send)

    async def _answer(self, request: Request, receive: ASGIReceiveCallable) -> Response:
        if request.has_body:
            await self._read_body(request, receive, self.limits.max_body_bytes, is_upload=False)
        if self._authenticator is not None:
            authorization = request.headers.get("authorization", "")
            if not await self._authenticator.check(authorization, request.peer):
                return _UNAUTHORIZED
            request.is_user = True
        if request.path in self._slow_paths or self._is_slow(request):
            request.may_block = True
            return await self._slow_pool.run(lambda: self._call(self._application, request))
        return self._call(self._application, request)

    async def _answer_upload(
        self, uploads: Uploads, request: Request, receive: ASGIReceiveCallable
    ) -> Response:
        response = uploads.admit(request.path, request.headers)
        if response is not None:
            return response.with_headers(_LAST) if request.has_body else response
        if request.has_body:
            await self._read_body(request, receive, uploads.max_body_bytes, is_upload=True)
        return await self._upload_pool.run(lambda: self._call(uploads.answer, request))

    def _call(self, application: Application, request: Request) -> Response:
        try:
            return application(request)
        except Exception:
            _log.exception("request failed", method=request.method, path=request.path)
            return refusal(500)

    async def _read_body(
        self, request: Request, receive: ASGIReceiveCallable, limit_bytes: int, *, is_upload: bool
    ) -> None:
        """Complete the request by its body.

        Raises:
            Refused: It is too large or too slow, the client left, or uploads take all their room.
        """
        if int(request.headers.get("content-length", 0)) > limit_bytes:
            raise Refused(refusal(413, _LAST))
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.header_timeout_s):
                while (message := await receive())["type"] == "http.request":
                    piece = message["body"]
                    if len(body) + len(piece) > limit_bytes:
                        raise Refused(refusal(413, _LAST))
                    if is_upload and len(piece) > self.upload_room_bytes:
                        raise Refused(BUSY.with_headers(_LAST))
                    self.upload_room_bytes -= len(piece) * is_upload
                    body += piece
                    if not message["more_body"]:
                        request.body = bytes(body)
                        return
        except TimeoutError:
            pass
        finally:
            self.upload_room_bytes += len(body) * is_upload
        raise Refused(refusal(408, _LAST))

    async def _send(self, response: Response, send: ASGISendCallable) -> None:
        body = response.body
        headers = _encode(response.headers, self.web_config.headers, len(body))
        start: Any = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        for begin in range(0, len(body) - _PIECE_BYTES, _PIECE_BYTES):
            piece: Any = {"type": "http.response.body", "body": body[begin : begin + _PIECE_BYTES]}
            await send(piece | {"more_body": True})
        last = body[(len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES :]
        end: Any = {"type": "http.response.body", "body": last}
        await send(end)


@lru_cache(maxsize=64)
def _encode(
    headers: HeaderPairs, added: HeaderPairs, body_bytes: int
) -> tuple[tuple[bytes, bytes], ...]:
    """Return a response's headers as ASGI takes them; its own come before those that are added."""
    names = {name.lower() for name, _ in headers}
    pairs = (*headers, *(pair for pair in added if pair[0].lower() not in names))
    encoded = tuple((name.encode(), value.encode("latin-1")) for name, value in pairs)
    return (*encoded, (b"content-length", b"%d" % body_bytes))


def _read_head(scope: HTTPScope) -> Request:
    """Return a request without its body."""
    query = scope["query_string"].decode("latin-1")
    peer = scope["client"][0].removeprefix("::ffff:") if scope["client"] else ""
    headers = _decode(tuple(scope["headers"]))
    return Request(scope["method"], scope["path"], query, headers, b"", peer)


@lru_cache(maxsize=64)
def _decode(raw: tuple[tuple[bytes, bytes], ...]) -> Mapping[str, str]:
    """Return headers by name, values of repeated ones joined; scrapers send the same each time."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return MappingProxyType(headers)
