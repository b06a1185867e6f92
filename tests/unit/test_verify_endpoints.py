"""Endpoints of the application: what is asked, what is good, and how everything else reads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.config.verify import Endpoint
from exporter.ops.verify.endpoints import check_endpoint

SECRET = "t0ken/4711"
BODIES = {
    "/login": (200, b"<h1>Sign in</h1>"),
    "/health": (200, b'{"status": "ok", "checks": [{"up": true, "n": 3}]}'),
    "/made": (201, b""),
    "/moved": (302, b""),
    "/broken": (500, SECRET.encode()),
    "/slow": (200, b""),
    "/large": (200, b"x" * 2_000_000),
}


class _Application(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/slow":
            time.sleep(1)
        if path == "/guarded":
            status, body = (
                200 if self.headers["Authorization"] == f"Bearer {SECRET}" else 401,
                b"",
            )
        else:
            status, body = BODIES.get(path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:1/{SECRET}")
        with contextlib.suppress(BrokenPipeError):  # one that did not wait has hung up
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Application) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def ask(url: str, path: str, **keys: Any) -> tuple[bool, str, str]:
    endpoint = Endpoint.model_validate({"url": f"{url}{path}?key={SECRET}", **keys})
    check = check_endpoint("it", endpoint)
    assert (check.group, check.name, bool(check.todo)) == ("endpoint", "it", not check.ok)
    assert SECRET not in repr(check)
    return check.ok, check.found.partition(" in ")[0], check.expected


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/login", {}),
        ("/login", {"text": "Sign in"}),
        ("/health", {"json_path": "status", "json_value": "ok"}),
        ("/health", {"json_path": "checks.0.up", "json_value": "true"}),
        ("/health", {"json_path": "checks.0.n", "json_value": "3"}),
        ("/made", {"status": 201}),
        ("/moved", {"status": 302}),
        ("/guarded", {"headers": {"Authorization": f"Bearer {SECRET}"}}),
        ("/slow", {"within": "10s"}),
    ],
)
def test_a_good_answer_passes(url: str, path: str, keys: dict[str, Any]) -> None:
    is_good, found, _ = ask(url, path, **keys)
    assert is_good
    assert found.startswith("answered ")


@pytest.mark.parametrize(
    ("path", "keys", "found", "expected"),
    [
        ("/gone", {}, "answered 404 Not Found", "200 within 5 s"),
        ("/broken", {}, "answered 500 Internal Server Error", "200 within 5 s"),
        ("/guarded", {}, "answered 401 Unauthorized", "200 within 5 s"),
        ("/moved", {}, "answered 302 Found, and redirects are not followed", "200 within 5 s"),
        (
            "/login",
            {"text": "sign in"},
            "answered 200 OK without the text",
            "200 with 'sign in' within 5 s",
        ),
        (
            "/login",
            {"json_path": "status", "json_value": "ok"},
            "answered 200 OK with a body that is no JSON",
            "200 with status = ok within 5 s",
        ),
        (
            "/health",
            {"json_path": "status", "json_value": "up"},
            "answered 200 OK with status = ok",
            "200 with status = up within 5 s",
        ),
        (
            "/health",
            {"json_path": "checks.1.up", "json_value": "true"},
            "answered 200 OK with no checks.1.up",
            "200 with checks.1.up = true within 5 s",
        ),
        (
            "/large",
            {"text": "y"},
            "answered 200 OK with more than 1024 KiB",
            "200 with 'y' within 5 s",
        ),
        ("/slow", {"within": "200ms"}, "no answer within 0.2 s", "200 within 0.2 s"),
    ],
)
def test_anything_else_is_named(
    url: str, path: str, keys: dict[str, Any], found: str, expected: str
) -> None:
    assert ask(url, path, **keys) == (False, found, expected)


def test_an_application_that_is_not_there_is_named(url: str) -> None:
    assert ask("http://127.0.0.1:1", "/")[:2] == (False, "Connection refused")


def test_half_a_value_is_refused() -> None:
    with pytest.raises(ValidationError, match="has no json_value"):
        Endpoint.model_validate({"url": "http://h/", "json_path": "status"})
