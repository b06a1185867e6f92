"""One request to a webhook or an endpoint, and what came back.

What requests and urllib3 say of a failure holds the URL, which is a secret; so every word here is
our own, the operating system's or OpenSSL's.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from exporter import __version__
from exporter.config.notify import Webhook
from exporter.notify.answers import Answer
from exporter.notify.pace import read_retry_after

# It quotes the URL where it warns of an answer's headers.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

_HEADERS = {
    "User-Agent": f"chatqueue-exporter/{__version__}",
    "Accept-Encoding": "identity",  # so that no answer grows when it is unpacked
}
_RETRIED = (408, 429)
_READ_BYTES = 200
_HANG_UP_EVERY_S = 0.05


class Exchange:
    """One request, which ends within its timeout and can be cut off earlier.

    Args:
        method: `GET` or `POST`.
        url: A secret.
        headers: Beside the own ones; they may be secrets.
        timeout_s: For all of it, from connecting to the end of the answer.
        judge: Says what the answer is worth; may read the body.
        body: What to send.
    """

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        judge: Callable[[requests.Response], Answer],
        body: bytes | None = None,
    ) -> None:
        self._method = method
        self._url = url
        self._headers = headers
        self._timeout_s = timeout_s
        self._judge = judge
        self._body = body
        self._adapter = _Adapter()
        self._cut = threading.Event()
        self._over = threading.Event()

    def abort(self) -> None:
        """Cut the request off, from another thread."""
        self._cut.set()

    def run(self) -> Answer:
        """Send the request and judge the answer; never raises for the receiver's sake."""
        # Timeouts of a socket begin again with every byte; this one does not.
        watchdog = threading.Thread(target=self._watch, name="request-watchdog", daemon=True)
        watchdog.start()
        too_late = Answer("timeout", f"no answer within {self._timeout_s:g} s")
        try:
            answer = self._ask()
            # http.client takes headers that were cut off for complete ones.
            return too_late if self._cut.is_set() else answer
        except requests.RequestException as error:
            if self._cut.is_set() or isinstance(error, requests.Timeout):
                return too_late
            return Answer("connection", _explain(error))
        finally:
            self._over.set()
            self._cut.set()

    def _ask(self) -> Answer:
        with requests.Session() as session:
            session.mount("https://", self._adapter)
            session.mount("http://", self._adapter)
            with session.request(
                self._method,
                self._url,
                data=self._body,
                headers={**_HEADERS, **self._headers},
                timeout=self._timeout_s,
                stream=True,
                # A POST that is redirected would arrive as a GET, or at an unintended address.
                allow_redirects=False,
                auth=_as_it_is,
            ) as response:
                return self._judge(response)

    def _watch(self) -> None:
        self._cut.wait(self._timeout_s)
        self._cut.set()
        # More than once: a connection may come to stand only now.
        while not self._over.wait(_HANG_UP_EVERY_S):
            self._adapter.hang_up()


def build_post(webhook: Webhook, body: bytes) -> Exchange:
    """Return the request that brings a body to a webhook."""
    headers = {name: value.get_secret_value() for name, value in webhook.headers.items()}
    return Exchange(
        "POST",
        webhook.url.get_secret_value(),
        {"Content-Type": "application/json", **headers},
        webhook.timeout.total_seconds(),
        _judge,
        body,
    )


def describe_status(response: requests.Response) -> str:
    """Return the status in words; a redirect's destination may be a secret and is left out."""
    status = response.status_code
    try:
        words = f"answered {status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        words = f"answered {status}"
    return f"{words}, and redirects are not followed" if 300 <= status < 400 else words


class _Adapter(HTTPAdapter):
    """Remembers its connections, so that they can be ended from another thread."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: list[Any] = []
        self._sockets: list[socket.socket] = []

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool as requests does; its connections are remembered."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = self._remembering(pool.ConnectionCls)
        return pool

    def hang_up(self) -> None:
        """End every connection; a thread that reads from one sees its end."""
        during = [connection.sock for connection in self._connections]
        for each in (*during, *self._sockets):
            # Not SSLSocket's own shutdown, which takes the encryption off under the reader's feet.
            with contextlib.suppress(OSError):
                if each is not None:
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

    def _remembering(self, build: Callable[..., Any]) -> Callable[..., Any]:
        def build_and_remember(*args: Any, **options: Any) -> Any:
            connection = build(*args, **options)
            connect = connection.connect

            def connect_and_remember() -> None:
                connect()
                # The connection lets go of its socket before the body is read.
                self._sockets.append(connection.sock)

            connection.connect = connect_and_remember
            self._connections.append(connection)
            return connection

        return build_and_remember


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authenticate by nothing but the headers configured; requests would look into ~/.netrc."""
    return request


def _judge(response: requests.Response) -> Answer:
    """Take the status for the answer; of the body only a word of explanation."""
    status = response.status_code
    if 200 <= status < 300:
        return Answer("", f"answered {status}")
    words = describe_status(response)
    if 300 <= status < 400:
        return Answer("status", words, is_final=True)
    words += _explanation(response)
    is_final = status < 500 and status not in _RETRIED
    asked_s = read_retry_after(response.headers.get("Retry-After"))
    return Answer("status", words, is_final, asked_s)


def _explanation(response: requests.Response) -> str:
    """The body, where it is a plain word such as Slack's `channel_is_archived`, and no secret."""
    try:
        body: bytes = next(response.iter_content(_READ_BYTES), b"")
    except requests.RequestException:
        return ""
    word = body.strip().decode("ascii", "replace")
    is_word = re.fullmatch(r"[a-z][a-z_ ]{2,59}", word) and word not in str(response.url)
    return f": {word}" if is_word else ""


def _explain(error: requests.RequestException) -> str:
    """Why there was no answer, in words that cannot hold the URL."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason}"
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused"
    return "no answer that HTTP knows"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an error comes from, the outermost first."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
