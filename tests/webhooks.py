"""A webhook's receiver on loopback that answers as a script says, and misbehaves as told."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from exporter.config.notify import Webhook

TOKEN = "T0Ken/B99/sEcReT"
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Received:
    """One request as it arrived.

    Attributes:
        path: With its query.
        headers: Names in lower case.
        document: The body, read as JSON.
        at_s: When, on the monotonic clock.
    """

    path: str
    headers: dict[str, str]
    document: Any
    at_s: float = field(default_factory=time.monotonic)


Behaviour = Callable[[socket.socket, threading.Event], None]


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer properly."""
    named = {"Content-Length": str(len(body)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in named.items())]
    return say("\r\n".join((*lines, "", "")).encode() + body)


def say(data: bytes) -> Behaviour:
    """Send bytes, whatever they are, and end the connection."""

    def behave(client: socket.socket, _: threading.Event) -> None:
        client.sendall(data)

    return behave


def close(client: socket.socket, _: threading.Event) -> None:
    """End the connection without a word."""


def hang(client: socket.socket, closing: threading.Event) -> None:
    """Never answer."""
    closing.wait(DEADLINE_S)


def trickle(head: bytes) -> Behaviour:
    """Send a beginning, and then one byte after the other for ever."""

    def behave(client: socket.socket, closing: threading.Event) -> None:
        client.sendall(head)
        while not closing.wait(0.02):
            client.sendall(b"x")

    return behave


OK = answer(200, b"ok")


class Receiver:
    """Serves on a free loopback port, as a context manager.

    Args:
        script: What to do with each request in turn; the last goes on for ever. What is no POST, as
            a proxy gets, is refused.
        tls: A server's context, to speak TLS.

    Attributes:
        received: Every request so far.
    """

    def __init__(self, *script: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script = list(script or (OK,))
        self.received: list[Received] = []
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    @property
    def address(self) -> str:
        """Where it listens."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def url(self) -> str:
        """A webhook's address, with a secret in it."""
        return f"{self.address}/services/{TOKEN}?key={TOKEN}"

    @property
    def events(self) -> list[str]:
        """The events of the requests so far, by the json template."""
        return [each.document["event"] for each in self.received]

    def wait_for(self, count: int) -> list[Received]:
        """Wait for that many requests in all."""
        wait_until(lambda: len(self.received) >= count)
        return self.received

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self._tls:
                with self._tls.wrap_socket(client, server_side=True) as wrapped:
                    self._answer(wrapped)
            elif client.recv(5, socket.MSG_PEEK) == b"POST ":
                self._answer(client)
            else:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    def _answer(self, client: socket.socket) -> None:
        with client.makefile("rb") as file:
            path = file.readline().split()[1].decode()
            headers = {}
            while line := file.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = file.read(int(headers["content-length"]))
            behave = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            self.received.append(Received(path, headers, json.loads(body)))
            behave(client, self._closing)


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A loopback port on which a connection neither stands nor fails."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # Linux keeps one more than the backlog; from then on it drops what knocks.
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def make_webhook(url: str, *, timeout_s: float = 10.0, **options: Any) -> Webhook:
    """A webhook; the timeout may be shorter than the configuration allows."""
    webhook = Webhook(url=url, **options)  # type: ignore[arg-type]  # as the file gives it
    return webhook.model_copy(update={"timeout": timedelta(seconds=timeout_s)})


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
