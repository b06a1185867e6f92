"""Log lines over HTTP: who may send, which bodies count, and what hostile ones meet."""

# ruff: noqa: E501  # messages stand whole, as a sender reads them
from __future__ import annotations

import base64
import contextlib
import gzip
import hmac
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import bcrypt
import psutil
import pytest
import requests
from pydantic import ValidationError

from exporter.config import Logs
from exporter.daemon import Daemon
from exporter.logs.counts import Counts
from exporter.logs.patterns import build_judge
from exporter.logs.receiver import Receiver
from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.message import Response
from exporter.server.protocol import Limits
from exporter.server.routes import build_application
from tests.unit.test_server_helpers import connect, port_of, read_response, status_of

TOKEN = "t0ken-of-the-hosted-sender"
SECRET = "s3cret-of-the-signing-sender"
RECEIVERS = {
    "hosted": {"token": TOKEN},
    "signed": {"secret": SECRET},
    "signed256": {
        "secret": SECRET,
        "algorithm": "sha256",
        "signature_header": "X-Hub-Signature-256",
    },
}
ENTRY = {"level": "error", "message": "chat assignment failed"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}


class Ingest:
    """A server with a receiver, its counts and ways to send."""

    def __init__(self, server: HttpServer, receiver: Receiver, counts: Counts) -> None:
        self.server = server
        self.receiver = receiver
        self.counts = counts

    def post(
        self, body: Any, name: str = "hosted", headers: dict[str, str] | None = None, **more: str
    ) -> requests.Response:
        """Send with the right token unless told otherwise."""
        data = body if isinstance(body, str | bytes) or hasattr(body, "__iter__") else b""
        all_headers = {**(BEARER if headers is None else headers), **more}
        url = f"http://127.0.0.1:{port_of(self.server)}/ingest/logs{name and '/'}{name}"
        return requests.post(url, data=data, headers=all_headers, timeout=10)

    def value(self, family: str, **labels: str) -> float:
        """The sum of a family's samples with those labels."""
        return sum(
            sample.value
            for each in self.counts.families()
            if each.name == f"chatqueue_log_{family}"
            for sample in each.samples
            if labels.items() <= dict(sample.labels).items()
        )


def build_ingest(
    receivers: dict[str, Any], web_config_file: Path | None = None, **limits: Any
) -> tuple[HttpServer, Receiver, Counts]:
    config = Logs.model_validate({"receivers": receivers})
    judge, counts = build_judge({}), Counts()
    counts.apply((), config.receivers, judge.kinds)
    receiver = Receiver(counts)
    receiver.apply(config.receivers, judge)
    daemon = cast(Daemon, type("D", (), {"receiver": receiver})())
    application = build_application(daemon, enable_lifecycle=False)
    app = App(application, uploads=receiver, limits=Limits(**limits))
    return HttpServer(app, ["127.0.0.1:0"], web_config_file), receiver, counts


@contextlib.contextmanager
def ingesting(
    receivers: dict[str, Any] = RECEIVERS, web_config_file: Path | None = None, **limits: Any
) -> Iterator[Ingest]:
    server, receiver, counts = build_ingest(receivers, web_config_file, **limits)
    server.start()
    try:
        yield Ingest(server, receiver, counts)
    finally:
        server.stop(grace_s=0.2)


@pytest.fixture(scope="module")
def shared() -> Iterator[Ingest]:
    with ingesting() as ingest:
        yield ingest


@pytest.fixture
def ingest(shared: Ingest) -> Ingest:
    shared.counts.apply((), (), ())
    shared.counts.apply((), RECEIVERS, build_judge({}).kinds)
    return shared


BODIES = {
    "object": (json.dumps(ENTRY), 1),
    "array": (json.dumps([ENTRY, ENTRY]), 2),
    "blanks": (" [ " + json.dumps(ENTRY) + " , " + json.dumps(ENTRY) + " ]\n", 2),
    "empty array": ("[]", 0),
    "lines": (json.dumps(ENTRY) + "\n" + json.dumps(ENTRY) + "\n", 2),
    "pretty": (json.dumps(ENTRY, indent=2), 1),
    "texts": (json.dumps(["chat assignment failed"] * 3), 3),
    "byte-order mark": (b"\xef\xbb\xbf" + json.dumps(ENTRY).encode(), 1),
    "invalid UTF-8": (
        json.dumps(ENTRY).replace("chat", "\udcff").encode(errors="surrogateescape"),
        1,
    ),
    "lone surrogate": (json.dumps({**ENTRY, "x": "\ud800"}), 1),
}


@pytest.mark.parametrize(("body", "count"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("encoding", ["plain", "gzip", "chunked"])
def test_every_shape_of_body_is_counted(
    ingest: Ingest, body: str | bytes, count: int, encoding: str
) -> None:
    data: Any = body.encode() if isinstance(body, str) else body
    headers = JSON
    if encoding == "gzip":
        data, headers = gzip.compress(data), {**JSON, "Content-Encoding": "gzip"}
    if encoding == "chunked":
        data = iter([data[:5], data[5:]]) if len(data) > 5 else iter([data])
    answer = ingest.post(data, **headers)

    assert (answer.status_code, answer.text) == (200, "")
    assert ingest.value("lines_total", source="hosted") == count
    assert ingest.value("events_total", kind="assignment_error", level="error") == count
    assert ingest.value("events_total") == count


def test_plain_text_is_a_line_each(ingest: Ingest) -> None:
    body = "ERROR: chat assignment failed\r\n\nINFO ok\n  at x\nlast without an end"
    answer = ingest.post(body, **{"Content-Type": "text/plain; charset=utf-8"})

    assert answer.status_code == 200
    assert ingest.value("lines_total") == 4
    assert ingest.value("events_total", kind="assignment_error") == 1
    assert ingest.value("last_line_timestamp_seconds", source="hosted") > 0


def sign(body: bytes, algorithm: str = "sha1", key: str = SECRET) -> bytes:
    return hmac.digest(key.encode(), body, algorithm)


BODY = json.dumps(ENTRY).encode()
SIGNATURES = {
    "sha1 hex": ("signed", "x-vercel-signature", sign(BODY).hex()),
    "upper case": ("signed", "X-Vercel-Signature", sign(BODY).hex().upper()),
    "sha256 hex": ("signed256", "x-hub-signature-256", sign(BODY, "sha256").hex()),
    "prefix": ("signed256", "x-hub-signature-256", f"sha256={sign(BODY, 'sha256').hex()}"),
    "base64": (
        "signed256",
        "x-hub-signature-256",
        base64.b64encode(sign(BODY, "sha256")).decode(),
    ),
}


@pytest.mark.parametrize(("name", "header", "value"), SIGNATURES.values(), ids=SIGNATURES)
def test_a_signed_body_is_counted(ingest: Ingest, name: str, header: str, value: str) -> None:
    assert ingest.post(BODY, name, {header: value}).status_code == 200
    assert ingest.value("lines_total", source=name) == 1


def test_the_signature_is_of_the_body_as_it_was_sent(ingest: Ingest) -> None:
    packed = gzip.compress(BODY)
    headers = {"x-vercel-signature": sign(packed).hex(), "Content-Encoding": "gzip"}

    assert ingest.post(packed, "signed", headers).status_code == 200


STRANGERS: dict[str, tuple[str, dict[str, str]]] = {
    "nothing": ("hosted", {}),
    "wrong token": ("hosted", {"Authorization": f"Bearer {TOKEN}x"}),
    "empty token": ("hosted", {"Authorization": "Bearer "}),
    "wrong scheme": ("hosted", {"Authorization": f"Basic {TOKEN}"}),
    "token twice": ("hosted", {"Authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"}),
    "token not ASCII": ("hosted", {"Authorization": "Bearer é"}),
    "signature instead": ("hosted", {"x-vercel-signature": sign(BODY).hex()}),
    "no signature": ("signed", {}),
    "empty signature": ("signed", {"x-vercel-signature": ""}),
    "token instead": ("signed", {"Authorization": f"Bearer {SECRET}"}),
    "another key": ("signed", {"x-vercel-signature": sign(BODY, key="x" * 20).hex()}),
    "another body": ("signed", {"x-vercel-signature": sign(BODY + b" ").hex()}),
    "another hash": ("signed", {"x-vercel-signature": sign(BODY, "sha256").hex()}),
    "another prefix": ("signed", {"x-vercel-signature": f"sha256={sign(BODY).hex()}"}),
    "cut": ("signed", {"x-vercel-signature": sign(BODY).hex()[:-1]}),
    "not ASCII": ("signed", {"x-vercel-signature": "é"}),
}


@pytest.mark.parametrize(("name", "headers"), STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_learns_nothing(ingest: Ingest, name: str, headers: dict[str, str]) -> None:
    sent = {key: value.encode().decode("latin-1") for key, value in headers.items()}
    answer = ingest.post(BODY, name, sent)
    unknown = ingest.post(BODY, "nobody", sent)

    assert (answer.status_code, answer.text) == (401, "401 Unauthorized\n")
    assert (unknown.status_code, unknown.text) == (answer.status_code, answer.text)
    told = ("WWW-Authenticate", "Content-Type", "Content-Length")
    assert [unknown.headers[key] for key in told] == [answer.headers[key] for key in told]
    assert ingest.value("lines_total") == 0
    assert ingest.value("dropped_total", source=name, reason="unauthorized") == 1
    assert ingest.value("dropped_total") == 1


REFUSED: dict[str, tuple[bytes, dict[str, str], int, str, str]] = {
    "empty": (b"", JSON, 400, "malformed", "the body is empty, expected JSON"),
    "no JSON": (b"x", JSON, 400, "malformed", "not JSON at character 0, expected an object or a text"),
    "cut": (b'[{"a":1}', JSON, 400, "malformed", "not JSON at character 8, expected the end of the array"),
    "more": (b"[{}] {}", JSON, 400, "malformed", "not JSON at character 3, expected the end of the array"),
    "comma": (b"[{},]", JSON, 400, "malformed", "not JSON at character 4, expected an object or a text"),
    "number": (b"[{}, 1]", JSON, 400, "malformed", "entry 2 is neither, expected an object or a text"),
    "null": (b"null", JSON, 400, "malformed", "entry 1 is neither, expected an object or a text"),
    "deep": (
        b"[" + b'{"a":' * 100_000,
        JSON,
        400,
        "malformed",
        "nested too deep at character 1, expected an object or a text",
    ),
    "giant number": (
        b'[{"a":' + b"9" * 100_000 + b"}]",
        JSON,
        400,
        "malformed",
        "not JSON at character 1, expected an object or a text",
    ),
    "type": (
        b"<log/>",
        {"Content-Type": "application/xml"},
        415,
        "unsupported",
        "unknown Content-Type, expected application/json or text/plain",
    ),
    "encoding": (
        b"x",
        {"Content-Encoding": "br"},
        415,
        "unsupported",
        "unknown Content-Encoding, expected gzip or none",
    ),
    "no gzip": (
        b"not gzip",
        {"Content-Encoding": "gzip"},
        400,
        "malformed",
        "the body is not gzip",
    ),
    "half a gzip": (
        gzip.compress(b"[]")[:-4],
        {"Content-Encoding": "gzip"},
        400,
        "malformed",
        "the body does not end with its gzip data, expected one gzip member",
    ),
    "gzip and more": (
        gzip.compress(b"[]") * 2,
        {"Content-Encoding": "gzip"},
        400,
        "malformed",
        "the body does not end with its gzip data, expected one gzip member",
    ),
    "bomb": (
        gzip.compress(b" " * 50_000_000),
        {"Content-Encoding": "gzip"},
        413,
        "too_large",
        "too much, expected at most 4096 KiB unpacked",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason", "message"), REFUSED.values(), ids=REFUSED
)
def test_a_body_that_cannot_be_taken_counts_nothing(
    ingest: Ingest, body: bytes, headers: dict[str, str], status: int, reason: str, message: str
) -> None:
    good = b"" if body == b"" or b"[" in body[:1] or headers != JSON else BODY + b"\n"
    if good:
        message = message.replace("character 0", f"character {len(good)}")
        message = message.replace("entry 1", "entry 2")
    answer = ingest.post(good + body, **headers)

    assert (answer.status_code, answer.text) == (status, f"{message}\n")
    assert ingest.value("lines_total") == 0
    assert ingest.value("dropped_total", source="hosted", reason=reason) == 1
    assert ingest.value("dropped_total") == 1


def test_too_large_a_body_is_refused_by_its_announced_length_and_while_it_comes(
    ingest: Ingest,
) -> None:
    size = Receiver.max_body_bytes
    whole = BODY.ljust(size)
    head = f"POST /ingest/logs/hosted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with connect(ingest.server) as client:
        client.sendall(f"{head}Content-Length: {size + 1}\r\n\r\n".encode())
        announced, _ = read_response(client)
    with connect(ingest.server) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while True:  # for ever, were it not refused
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")

    assert ingest.post(whole).status_code == 200
    assert status_of(announced) == 413
    assert ingest.value("dropped_total", source="hosted", reason="too_large") == 2


def test_a_stranger_is_refused_before_the_body_comes(ingest: Ingest) -> None:
    with connect(ingest.server) as client:
        client.sendall(
            b"POST /ingest/logs/hosted HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
        )
        head, _ = read_response(client)

    assert status_of(head) == 401


def test_other_paths_keep_their_small_bodies(ingest: Ingest) -> None:
    with connect(ingest.server) as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        head, _ = read_response(client)

    assert status_of(head) == 413


def test_a_body_that_never_ends_is_timed_out_and_counted() -> None:
    with ingesting(header_timeout_s=0.1) as ingest, connect(ingest.server) as client:
        client.sendall(
            f"POST /ingest/logs/hosted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Length: 100\r\n\r\n[".encode()
        )
        head, _ = read_response(client)

        assert status_of(head) == 408
        assert ingest.value("dropped_total", source="hosted", reason="incomplete") == 1


def test_all_unfinished_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with ingesting() as ingest, contextlib.ExitStack() as stack:
        ingest.server._app.upload_room_bytes = 100_000
        head = (
            f"POST /ingest/logs/hosted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Length: 90000\r\n\r\n"
        ).encode()
        first, second = (stack.enter_context(connect(ingest.server)) for _ in range(2))
        first.sendall(head + b" " * 89_999)
        wait_until_held(ingest, 100_000 - 89_999)
        second.sendall(head + b" " * 89_999)
        refused, _ = read_response(second)
        first.sendall(b"x")
        done, _ = read_response(first)

        assert (status_of(refused), b"retry-after: 1" in refused) == (503, True)
        assert status_of(done) == 400
        assert ingest.value("dropped_total", source="hosted", reason="busy") == 1
        wait_until_held(ingest, 100_000)


def wait_until_held(ingest: Ingest, left_bytes: int) -> None:
    wait_for(lambda: ingest.server._app.upload_room_bytes == left_bytes)


def test_a_client_that_goes_away_gives_its_room_back() -> None:
    with ingesting() as ingest:
        left = ingest.server._app.upload_room_bytes
        with connect(ingest.server) as client:
            client.sendall(
                f"POST /ingest/logs/hosted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                "Content-Length: 100\r\n\r\n[".encode()
            )
            wait_until_held(ingest, left - 1)
        wait_until_held(ingest, left)


def test_a_flood_is_told_to_come_again_and_every_refusal_is_counted() -> None:
    with ingesting() as ingest:
        hold, held = threading.Event(), threading.Event()
        answer = ingest.receiver.answer

        def answer_slowly(request: Any) -> Response:
            held.set()
            assert hold.wait(10)
            return answer(request)

        ingest.receiver.answer = answer_slowly  # type: ignore[method-assign]
        results: list[requests.Response] = []
        threads = [
            threading.Thread(target=lambda: results.append(ingest.post(BODY))) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        assert held.wait(10)
        wait_for(lambda: len(results) == 12)
        busy = [each.headers["Retry-After"] for each in results if each.status_code == 503]
        hold.set()
        for thread in threads:
            thread.join()

        assert busy == ["1"] * 12
        assert ingest.value("lines_total") == 8
        assert ingest.value("dropped_total", reason="busy") == 12


def test_a_flood_of_lines_is_counted_to_the_last_in_bounded_memory() -> None:
    with ingesting() as ingest:
        body = "\n".join([json.dumps(ENTRY)] * 500)
        room, before = ingest.server._app.upload_room_bytes, psutil.Process().memory_info().rss
        accepted, refused = [], []

        def send() -> None:
            for _ in range(2):
                while (status := ingest.post(body).status_code) != 200:
                    assert status == 503
                    refused.append(status)
                accepted.append(500)

        threads = [threading.Thread(target=send) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert ingest.value("lines_total") == sum(accepted) == 12_000
        assert ingest.value("dropped_total", reason="busy") == len(refused)
        assert ingest.server._app.upload_room_bytes == room
        assert psutil.Process().memory_info().rss - before < 64 * 1024 * 1024


def wait_for(condition: Any) -> None:
    ticks = threading.Event()
    for _ in range(1000):
        if condition():
            return
        ticks.wait(0.01)
    raise AssertionError("it did not come true")


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_only_post_is_taken(ingest: Ingest, method: str) -> None:
    url = f"http://127.0.0.1:{port_of(ingest.server)}/ingest/logs/hosted"
    answer = requests.request(method, url, headers=BEARER, timeout=10)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_the_name_may_be_left_out_where_there_is_one() -> None:
    with ingesting({"hosted": {"token": TOKEN}}) as ingest:
        assert ingest.post(BODY, "").status_code == 200
        assert ingest.value("lines_total", source="hosted") == 1


def test_the_name_may_not_be_left_out_where_there_are_several(ingest: Ingest) -> None:
    assert ingest.post(BODY, "").status_code == 401


def test_nothing_is_there_until_it_is_configured() -> None:
    with ingesting({}) as ingest:
        assert ingest.post(BODY).status_code == 404
        assert ingest.counts.families() == ()


def test_a_token_that_was_changed_is_refused_on_an_open_connection(ingest: Ingest) -> None:
    with requests.Session() as session:
        url = f"http://127.0.0.1:{port_of(ingest.server)}/ingest/logs/hosted"
        first = session.post(url, data=BODY, headers=BEARER, timeout=10)
        before = ingest.receiver._rules
        changed = Logs.model_validate({"receivers": {"hosted": {"token": "x" * 20}}})
        ingest.receiver.apply(changed.receivers, before.judge)
        second = session.post(url, data=BODY, headers=BEARER, timeout=10)
        ingest.receiver.apply(before.receivers, before.judge)

    assert (first.status_code, second.status_code) == (200, 401)


def test_a_receiver_that_went_while_its_body_came_is_a_stranger() -> None:
    _, receiver, counts = build_ingest({"hosted": {"token": TOKEN}})
    request = type("R", (), {"method": "POST", "path": "/ingest/logs/hosted", "headers": BEARER})
    receiver.apply({}, None)

    assert receiver.answer(cast(Any, request)).status == 401
    assert counts.families() != ()


def test_users_of_the_web_configuration_are_not_asked_of_a_sender(tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    web.write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    with ingesting(web_config_file=web) as ingest:
        scrape = requests.get(f"http://127.0.0.1:{port_of(ingest.server)}/metrics", timeout=10)

        assert ingest.post(BODY).status_code == 200
        assert ingest.post(BODY, headers={}).headers["WWW-Authenticate"] == 'Bearer realm="logs"'
        assert scrape.status_code == 401


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("POST", BEARER, 200), ("POST", {}, 401), ("GET", BEARER, 405), ("GET", {}, 401)],
)
def test_every_answer_carries_the_headers_that_prove_ownership(
    method: str, headers: dict[str, str], status: int
) -> None:
    proof = {"x-vercel-verify": "pr00f", "X-Owner": "chat ops"}
    receivers = {"hosted": {"token": TOKEN, "response_headers": proof}, "plain": {"token": TOKEN}}
    with ingesting(receivers) as ingest:
        base = f"http://127.0.0.1:{port_of(ingest.server)}/ingest/logs"
        own = requests.request(method, f"{base}/hosted", headers=headers, data=BODY, timeout=10)
        other = requests.request(method, f"{base}/plain", headers=headers, data=BODY, timeout=10)

    assert (own.status_code, other.status_code) == (status, status)
    assert proof.items() <= own.headers.items()
    assert not proof.keys() & other.headers.keys()


@pytest.mark.parametrize(
    ("sent", "status"),
    [("9\r\n\r\n[", 408), ("99999999\r\n\r\n[", 413), ("2\r\n\r\n[]", 503)],
)
def test_what_the_server_refuses_carries_the_senders_headers_too(sent: str, status: int) -> None:
    receivers = {"hosted": {"token": TOKEN, "response_headers": {"x-verify": "pr00f"}}}
    with ingesting(receivers, header_timeout_s=0.1) as ingest, connect(ingest.server) as client:
        if status == 503:
            ingest.server._app.upload_room_bytes = 0
        head = f"POST /ingest/logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        client.sendall(f"{head}Content-Length: {sent}".encode())
        answer, _ = read_response(client)

    assert status_of(answer) == status
    assert b"x-verify: pr00f" in answer.split(b"\r\n")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Content-Length": "7"}, "Content-Length is set by the server"),
        ({"x-verify": "a\r\nb: c"}, r"x-verify\n  String should match pattern"),
        ({"x verify": "a"}, r"x verify\.\[key\]\n  String should match pattern"),
    ],
)
def test_headers_that_would_break_the_answer_are_refused(
    headers: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        Logs.model_validate(
            {"receivers": {"hosted": {"token": TOKEN, "response_headers": headers}}}
        )
