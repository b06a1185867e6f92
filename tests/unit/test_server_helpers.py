"""Clients and servers on loopback for the server's tests; holds no tests of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.message import Application, Request, Response
from exporter.server.protocol import Limits

PATIENT_S = 10.0  # never waited out unless something is broken


def echo(request: Request) -> Response:
    """Answer with what was asked, so that a test sees what the server understood."""
    text = f"{request.method} {request.path} {request.query} {len(request.body)}"
    return Response(200, (("Content-Type", "text/plain"),), text.encode())


@contextlib.contextmanager
def serving(
    application: Application = echo,
    *,
    slow_paths: frozenset[str] = frozenset(),
    web_config_file: Path | None = None,
    **limits: float,
) -> Iterator[HttpServer]:
    """Serve on a free loopback port until the block ends."""
    # The limits are ints and floats by name.
    app = App(application, slow_paths=slow_paths, limits=Limits(**limits))  # type: ignore[arg-type]
    server = HttpServer(app, ["127.0.0.1:0"], web_config_file)
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)


def port_of(server: HttpServer) -> int:
    return int(server.addresses[0].rpartition(":")[2])


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=PATIENT_S)


def read_response(client: socket.socket, *, has_body: bool = True) -> tuple[bytes, bytes]:
    """Give head and body of the next response; needs Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = _recv_up_to_head_end(client, received)
        if not piece:
            raise EOFError(received)
        received += piece
    head = received[:-4]
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    body = b""
    while has_body and len(body) < length:
        piece = client.recv(length - len(body))
        if not piece:
            raise EOFError(body)
        body += piece
    return head, body


def _recv_up_to_head_end(client: socket.socket, received: bytes) -> bytes:
    """Receive something, but nothing of the body; TLS sockets cannot peek."""
    if isinstance(client, ssl.SSLSocket):
        return client.recv(1)
    seen = client.recv(65536, socket.MSG_PEEK)
    end = (received + seen).find(b"\r\n\r\n")
    return client.recv(len(seen) if end < 0 else end + 4 - len(received))


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def exchange(server: HttpServer, data: bytes) -> bytes:
    """Send bytes and give everything up to the server's end of the connection."""
    with connect(server) as client:
        client.sendall(data)
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received
