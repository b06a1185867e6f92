from __future__ import annotations

import re

import pytest
import requests
from structlog.testing import capture_logs

from exporter.server.message import Request, Response
from tests.unit.test_server_helpers import (
    connect,
    exchange,
    port_of,
    read_response,
    serving,
    status_of,
)

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n"


def test_connection_stays_open_between_requests():
    with serving() as server, connect(server) as client:
        client.sendall(GET)
        first = read_response(client)
        client.sendall(GET)
        second = read_response(client)

    assert first[1] == second[1] == b"GET /a b=1 0"
    assert re.fullmatch(
        rb"HTTP/1.1 200 OK\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"
        rb"content-type: text/plain\r\ncontent-length: 12",
        first[0],
    )


@pytest.mark.parametrize(
    ("request_bytes", "connection"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"connection: close"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"connection: close"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI",
            b"connection: close",
        ),
    ],
)
def test_last_response_says_so_and_the_connection_ends(request_bytes, connection):
    with serving() as server:
        received = exchange(server, request_bytes)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection in received.split(b"\r\n")
    assert received.endswith(b"\r\n\r\nGET /  0")


def test_pipelined_requests_are_answered_in_order():
    count = 1000
    with serving() as server, connect(server) as client:
        client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count)))
        bodies = [read_response(client)[1] for _ in range(count)]

    assert bodies == [b"GET /%d  0" % i for i in range(count)]


def test_pipelined_requests_wait_for_a_slow_one():
    requests_ = b"".join(
        b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/slow", b"/2", b"/slow", b"/4")
    )
    with serving(slow_paths=frozenset({"/slow"})) as server, connect(server) as client:
        client.sendall(requests_)
        bodies = [read_response(client)[1] for _ in range(4)]

    assert bodies == [b"GET /slow  0", b"GET /2  0", b"GET /slow  0", b"GET /4  0"]


def test_requests_before_a_malformed_one_are_answered():
    with serving() as server:
        received = exchange(server, GET + b"\x00\x01\r\n\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"400"]


def test_head_has_the_length_and_no_body():
    with serving() as server, connect(server) as client:
        client.sendall(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _ = read_response(client, has_body=False)
        client.sendall(GET)
        after, _ = read_response(client)

    assert b"content-length: 10" in head.split(b"\r\n")
    assert status_of(after) == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            (
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (b"GET /" + b"a" * 3000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 3000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 600, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3e9\r\n" + b"a" * 1001 + b"\r\n3e9\r\n" + b"a" * 1001,
            413,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n", 400),
    ],
)
def test_bad_requests_are_refused_with_their_status(request_bytes, status):
    with serving(max_header_bytes=2000, max_body_bytes=2000) as server:
        received = exchange(server, request_bytes)

    assert status_of(received) == status
    assert b"connection: close" in received.split(b"\r\n")
    assert b"Traceback" not in received


def test_client_that_floods_after_a_refusal_is_cut_off():
    with serving(linger_s=60) as server, connect(server) as client:
        client.sendall(b"\x00\r\n")
        head, _ = read_response(client)
        flood = b"x" * 100_000_000
        with pytest.raises(ConnectionError):
            client.sendall(flood)

    assert status_of(head) == 400


def test_body_and_repeated_headers_reach_the_application():
    seen: list[Request] = []

    def keep(request: Request) -> Response:
        seen.append(request)
        return Response(200)

    with serving(keep) as server:
        exchange(
            server,
            b"POST http://x/p%20q?a=b HTTP/1.1\r\nHost: x\r\nX-A: 1 \r\nx-a: 2\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n",
        )

    (request,) = seen
    assert (request.method, request.path, request.query) == ("POST", "/p q", "a=b")
    assert request.headers["x-a"] == "1, 2"
    assert "x-trailer" not in request.headers
    assert request.body == b"abcde"
    assert request.peer == "127.0.0.1"


def test_expect_100_continue_is_answered_before_the_body():
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with serving() as server, connect(server) as client:
        client.sendall(head)
        interim, _ = read_response(client)
        client.sendall(b"abc")
        _, body = read_response(client)

    assert interim == b"HTTP/1.1 100 Continue"
    assert body == b"POST /p  3"


def test_expect_100_continue_waits_for_earlier_responses():
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with serving(slow_paths=frozenset({"/a"})) as server, connect(server) as client:
        client.sendall(GET + head)
        answers = [read_response(client) for _ in range(2)]
        client.sendall(b"abc")
        answers.append(read_response(client))

    assert [status_of(answer[0]) for answer in answers] == [200, 100, 200]


@pytest.mark.parametrize("slow_paths", [frozenset(), frozenset({"/boom"})])
def test_application_exception_is_500_and_logged_once(slow_paths):
    def boom(request: Request) -> Response:
        raise RuntimeError("secret detail")

    with capture_logs() as logs, serving(boom, slow_paths=slow_paths) as server:
        answer = requests.get(f"http://127.0.0.1:{port_of(server)}/boom", timeout=10)

    assert answer.status_code == 500
    assert answer.text == "500 Internal Server Error\n"
    assert logs == [
        {
            "event": "request failed",
            "log_level": "error",
            "exc_info": True,
            "method": "GET",
            "path": "/boom",
        }
    ]


@pytest.mark.parametrize("header", [("A", "b\r\nC: d"), ("A b", "c")])
def test_a_response_that_would_break_the_head_is_not_sent(header):
    with serving(lambda _: Response(200, (header,))) as server:
        received = exchange(server, GET)

    assert received == b""
