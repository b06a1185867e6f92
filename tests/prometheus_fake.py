"""A stand-in for Prometheus's HTTP interface on loopback, which answers as a test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

Reply = tuple[int, bytes, Mapping[str, str]]
Answer = Callable[[str, Mapping[str, str]], Reply]


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """Answer a document as JSON, or bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


def vector(*values: str | float, labels: Sequence[Mapping[str, str]] = ()) -> Reply:
    """Answer one sample a value, at one moment."""
    named = labels or [{}] * len(values)
    result = [
        {"metric": dict(own), "value": [0, str(value)]}
        for own, value in zip(named, values, strict=True)
    ]
    return reply({"status": "success", "data": {"resultType": "vector", "result": result}})


def matrix(*points: tuple[float, float]) -> Reply:
    """Answer one series over a time, or none."""
    values = [[at, str(value)] for at, value in points]
    result = [{"metric": {}, "values": values}] if values else []
    return reply({"status": "success", "data": {"resultType": "matrix", "result": result}})


class Fake:
    """What was asked, and what is answered.

    Attributes:
        asked: Path and parameters of every request.
        headers: Of every request.
        answer: Gives the reply to a path and its parameters.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@contextlib.contextmanager
def run_fake(answer: Answer) -> Iterator[Fake]:
    """Serve on a free port."""
    fake = Fake(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            parameters = dict(parse_qsl(body))
            fake.asked.append((self.path, parameters))
            fake.headers.append(dict(self.headers))
            self._send(*fake.answer(self.path, parameters))

        def do_GET(self) -> None:
            fake.asked.append((self.path, {}))
            self._send(*fake.answer(self.path, {}))

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
