"""`chatqueue healthcheck`: its exit code and its words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from exporter.cli import cli


class _Daemon(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_healthy = self.path == "/-/healthy"
        self.send_response(200 if is_healthy else 503)
        self.end_headers()
        self.wfile.write(b"Healthy.\n" if is_healthy else b"stalled: main\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Daemon) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def check(url: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["healthcheck", "--url", url])
    return result.exit_code, result.output


def test_a_healthy_daemon_is_0(url: str) -> None:
    assert check(f"{url}/-/healthy") == (0, "Healthy.\n")


def test_a_stalled_one_and_none_are_1(url: str) -> None:
    assert check(f"{url}/prefix/-/healthy") == (1, "answered 503: stalled: main\n")
    code, words = check("http://127.0.0.1:1/")
    assert (code, "refused" in words) == (1, True)


def test_what_is_no_url_is_refused() -> None:
    code, words = check("localhost:10847")
    assert (code, "expected http:// or https://" in words) == (2, True)
