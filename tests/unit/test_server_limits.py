from __future__ import annotations

import contextlib
import socket
import threading
import time

import psutil
import pytest
import requests

from exporter.server.message import Request, Response
from tests.unit.test_server_helpers import connect, port_of, read_response, serving, status_of

# A scrape that waits for the others takes their whole time, a minute.
PROMPT_S = 5.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def scrape(server) -> float:
    """Give the seconds one whole scrape takes, connect included."""
    started = time.perf_counter()
    with connect(server) as client:
        client.sendall(GET)
        assert status_of(read_response(client)[0]) == 200
    return time.perf_counter() - started


@pytest.mark.parametrize("beginning", [b"", b"GET / HT"])
def test_scrape_is_prompt_beside_600_clients_that_never_finish(beginning):
    with serving(header_timeout_s=60.0) as server, contextlib.ExitStack() as stack:
        for _ in range(600):
            client = stack.enter_context(connect(server))
            client.sendall(beginning)
        took_s = [scrape(server) for _ in range(20)]
        held = server.connections

    assert max(took_s) < PROMPT_S
    assert held <= 512


def test_newcomer_evicts_the_connection_that_was_useless_longest():
    with serving(max_connections=2) as server, connect(server) as first, connect(server) as second:
        second.sendall(GET)
        read_response(second)
        first.sendall(GET)
        read_response(first)
        with connect(server) as third:
            third.sendall(GET)
            head, _ = read_response(third)
            second_end = second.recv(1) if _alive(second) else b""
            first.sendall(GET)
            first_again, _ = read_response(first)

    assert status_of(head) == status_of(first_again) == 200
    assert second_end == b""


def _alive(client: socket.socket) -> bool:
    """Say whether the next thing to come is something else than a reset."""
    try:
        client.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        return False
    return True


def test_unfinished_request_is_timed_out():
    with serving(header_timeout_s=0.1) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost:")
        head, _ = read_response(client)
        end = client.recv(1)

    assert status_of(head) == 408
    assert end == b""


@pytest.mark.parametrize(
    ("sent", "limits"),
    [(b"", {"header_timeout_s": 0.1}), (GET, {"idle_timeout_s": 0.1})],
    ids=["nothing sent", "between requests"],
)
def test_idle_connection_is_closed_silently(sent, limits):
    with serving(**limits) as server, connect(server) as client:
        client.sendall(sent)
        if sent:
            read_response(client)
        end = client.recv(1)

    assert end == b""


def test_second_request_on_a_connection_has_the_header_timeout_too():
    with serving(header_timeout_s=0.2) as server, connect(server) as client:
        client.sendall(GET)
        read_response(client)
        client.sendall(b"GET /")
        head, _ = read_response(client)

    assert status_of(head) == 408


def _wait_for(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_client_that_never_reads_is_dropped_and_held_to_a_bounded_buffer():
    big = Response(200, body=b"x" * 20_000_000)
    rss = psutil.Process().memory_info().rss
    with serving(lambda _: big, write_timeout_s=0.3) as server, contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server)).sendall(GET * 10)
        _wait_for(lambda: server.connections == 10)
        grown = psutil.Process().memory_info().rss - rss
        _wait_for(lambda: server.connections == 0)

    assert grown < 60_000_000


def test_client_that_reads_slowly_gets_every_byte():
    big = Response(200, body=bytes(range(256)) * 20_000)
    with serving(lambda _: big) as server, connect(server) as client:
        client.sendall(GET + GET)
        bodies = [read_response(client)[1] for _ in range(2)]

    assert bodies == [big.body, big.body]


def test_client_that_leaves_mid_answer_harms_nobody():
    big = Response(200, body=b"x" * 5_000_000)
    with serving(lambda _: big) as server:
        with connect(server) as client:
            client.sendall(GET * 50)
            client.recv(10)
        _wait_for(lambda: server.connections == 0)
        took_s = scrape(server)

    assert took_s < PROMPT_S


def test_client_that_half_closes_is_answered():
    with serving() as server, connect(server) as client:
        client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        head, _ = read_response(client)
        end = client.recv(1)

    assert status_of(head) == 200
    assert end == b""


def test_slow_path_holds_up_no_scrape_and_is_refused_when_the_pool_is_full():
    running, release = threading.Semaphore(0), threading.Event()

    def application(request: Request) -> Response:
        if request.path == "/slow":
            running.release()
            assert release.wait(10)
        return Response(200)

    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        serving(application, slow_paths=frozenset({"/slow"})) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(server)) for _ in range(17)]
        for client in clients:
            client.sendall(slow)
        running.acquire(timeout=10)
        running.acquire(timeout=10)
        refused = [c for c in clients if _answers_within(c, 0.3)]
        took_s = scrape(server)
        release.set()
        statuses = sorted(status_of(read_response(client)[0]) for client in clients)

    assert len(refused) == 1
    assert statuses == [200] * 16 + [503]
    assert took_s < PROMPT_S


def _answers_within(client: socket.socket, timeout_s: float) -> bool:
    client.settimeout(timeout_s / 17)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        client.settimeout(10)


def test_5000_reconnects_leak_neither_files_nor_tasks():
    process = psutil.Process()
    with serving() as server:
        scrape(server)
        _wait_for(lambda: server.connections == 0)
        before = process.num_fds()
        for _ in range(5000):
            scrape(server)
        _wait_for(lambda: server.connections == 0)
        after, tasks = process.num_fds(), len(server._state.tasks)

    assert after == before
    assert tasks == 0


def test_requests_library_keeps_its_connection():
    with serving() as server, requests.Session() as session:
        texts = [
            session.get(f"http://127.0.0.1:{port_of(server)}/{i}", timeout=10).text
            for i in range(3)
        ]
        connections = server.connections

    assert texts == ["GET /0  0", "GET /1  0", "GET /2  0"]
    assert connections == 1
