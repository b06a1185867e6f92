"""From a request to its response: authentication, the application, and the slow paths' pool."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog

from exporter.server.auth import Authenticator
from exporter.server.message import (
    BUSY,
    Application,
    HeadRenderer,
    Request,
    Response,
    plain,
    refusal,
)
from exporter.server.pool import BoundedPool, PoolFull
from exporter.server.tls import TlsServer
from exporter.server.uploads import Uploads
from exporter.server.web_config import WebConfig

_log = structlog.get_logger("chatqueue.server")

_UNAUTHORIZED = plain(401, "401 Unauthorized", ("WWW-Authenticate", 'Basic realm="chatqueue"'))


class Gate:
    """One loaded web configuration at work; replaced as a whole by a reload.

    Attributes:
        tls: Context and allowed names for new connections, or None for plain HTTP.
        authenticator: None where no users are configured.
        heads: Renders response heads with the configured headers.
    """

    __slots__ = ("authenticator", "heads", "tls")

    def __init__(self, config: WebConfig, pool: BoundedPool) -> None:
        self.tls: TlsServer | None = config.tls
        self.authenticator = Authenticator(config.users, pool) if config.users else None
        self.heads = HeadRenderer(config.headers)


class Dispatcher:
    """Asks the application, on the event loop or, for the slow paths, in a pool.

    Args:
        application: Must not block, except for `slow_paths`.
        slow_paths: Paths that run in the pool, whatever their method.
        config: The web configuration to begin with.
        uploads: Its requests run in a pool of their own, or None.
    """

    def __init__(
        self,
        application: Application,
        slow_paths: frozenset[str],
        config: WebConfig,
        uploads: Uploads | None = None,
    ) -> None:
        self._application = application
        self._slow_paths = slow_paths
        self._uploads = uploads
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

    def answer(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """Give the response, or a coroutine that gives it later; neither raises."""
        if self._uploads is not None and self._uploads.takes(request.path):
            return self._answer_upload(self._uploads, request)
        authenticator = self.gate.authenticator
        if authenticator is not None:
            authorization = request.headers.get("authorization")
            if authorization is None:
                return _UNAUTHORIZED
            if not authenticator.remembers(authorization):
                return self._answer_after_check(authenticator, authorization, request)
        if request.path in self._slow_paths:
            return self._answer_slowly(request)
        return self._ask(request)

    def close(self) -> None:
        """Take no more work in the pools."""
        self._slow_pool.close()
        self._upload_pool.close()
        self._auth_pool.close()

    async def _answer_after_check(
        self, authenticator: Authenticator, authorization: str, request: Request
    ) -> Response:
        try:
            if not await authenticator.check(authorization, request.peer):
                return _UNAUTHORIZED
        except PoolFull:
            return BUSY
        if request.path in self._slow_paths:
            return await self._answer_slowly(request)
        return self._ask(request)

    async def _answer_slowly(self, request: Request) -> Response:
        try:
            return await self._slow_pool.run(lambda: self._ask(request))
        except PoolFull:
            return BUSY

    async def _answer_upload(self, uploads: Uploads, request: Request) -> Response:
        try:
            return await self._upload_pool.run(lambda: self._ask(request))
        except PoolFull:
            uploads.refused(request.path, BUSY.status)
            return BUSY

    def _ask(self, request: Request) -> Response:
        try:
            return self._application(request)
        except Exception:
            _log.exception("request failed", method=request.method, path=request.path)
            return refusal(500)
