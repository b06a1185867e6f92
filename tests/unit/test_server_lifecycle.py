from __future__ import annotations

import errno
import re
import socket
import threading

import pytest
from structlog.testing import capture_logs

from exporter.errors import ChatqueueError
from exporter.server import listen
from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.listen import ListenError, open_listeners, split_address
from exporter.server.message import Response
from tests.unit.test_server_helpers import connect, echo, read_response, serving, status_of

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def test_listens_on_every_interface_and_several_addresses():
    server = HttpServer(App(echo), [":0", "127.0.0.1:0", "localhost:0"])
    server.start()
    for address in server.addresses:
        port = int(address.rpartition(":")[2])
        host = "::1" if address == f"[::1]:{port}" else "127.0.0.1"
        with socket.create_connection((host, port), timeout=5) as client:
            client.sendall(GET)
            assert status_of(read_response(client)[0]) == 200
    server.stop()

    assert server.addresses == ()


def test_every_interface_is_ipv4_alone_where_ipv6_is_off(monkeypatch):
    original = socket.create_server

    def without_ipv6(address, *, family=socket.AF_INET, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no")
        return original(address, family=family, **options)

    monkeypatch.setattr(listen.socket, "create_server", without_ipv6)
    (by_fallback,) = open_listeners([":0"])
    monkeypatch.setattr(listen.socket, "has_dualstack_ipv6", lambda: False)
    (by_knowledge,) = open_listeners([":0"])

    with by_fallback, by_knowledge:
        assert by_fallback.family == by_knowledge.family == socket.AF_INET


@pytest.mark.parametrize(
    ("address", "expected"),
    [(":1", ("", 1)), ("a:1", ("a", 1)), ("[::1]:9", ("::1", 9)), ("1.2.3.4:0", ("1.2.3.4", 0))],
)
def test_address_is_split(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address", ["", "10847", "a:", "a:b", "a:70000", "::1:9", "[]:1", "a:\u0661"]
)
def test_malformed_address_is_refused(address):
    with pytest.raises(ListenError) as caught:
        split_address(address)

    assert str(caught.value) == (
        f"listen address {address!r}: expected host:port, [IPv6]:port, :port or unix:/path"
    )


def test_address_in_use_is_named_and_nothing_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = HttpServer(App(echo), ["127.0.0.1:0", address])
        with pytest.raises(ChatqueueError) as caught:
            server.start()
        with pytest.raises(ListenError):
            open_listeners([f":{taken.getsockname()[1]}"])
    server.stop()

    assert str(caught.value) == f"cannot listen on {address}: Address already in use"


def test_unknown_host_and_foreign_address_are_named():
    with pytest.raises(ListenError, match=re.escape("cannot listen on host.invalid:1: ")):
        open_listeners(["host.invalid:1"])
    with pytest.raises(ListenError) as caught:
        open_listeners(["192.0.2.1:0"])

    assert str(caught.value) == "cannot listen on 192.0.2.1:0: Cannot assign requested address"


def test_partly_failed_name_closes_what_it_opened(monkeypatch):
    found = [(socket.AF_INET, 0, 0, "", (host, 0)) for host in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(listen.socket, "getaddrinfo", lambda *_, **__: found)

    with pytest.raises(ListenError):
        open_listeners(["two:0"])


@pytest.mark.parametrize("grace_s", [5.0, 0.05])
def test_stop_finishes_what_is_under_way_within_the_grace(grace_s):
    running, release = threading.Event(), threading.Event()

    def slow(_) -> Response:
        running.set()
        assert release.wait(10)
        return Response(200)

    server = HttpServer(App(slow, slow_paths=frozenset({"/a"})), ["127.0.0.1:0"])
    server.start()
    with connect(server) as busy, connect(server) as idle:
        busy.sendall(GET)
        assert running.wait(10)
        stopper = threading.Thread(target=server.stop, args=(grace_s,))
        stopper.start()
        idle_end = idle.recv(1)
        if grace_s < 1:
            stopper.join()
        release.set()
        try:
            answered = b"connection: close" in read_response(busy)[0]
        except (EOFError, ConnectionError):
            answered = False
        busy.shutdown(socket.SHUT_WR) if answered else None
    stopper.join()

    assert idle_end == b""
    assert answered is (grace_s > 1)


def test_stop_before_start_does_nothing():
    server = HttpServer(App(echo))
    server.stop(0)

    assert server.addresses == ()


def test_a_unix_socket_serves_and_replaces_the_one_of_a_killed_daemon(tmp_path):
    path = str(tmp_path / "web.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    server, second = (HttpServer(App(echo), [f"unix:{path}"]) for _ in range(2))
    server.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(GET)
        head, _ = read_response(client)
        addresses = server.addresses
        with pytest.raises(ListenError) as caught:
            second.start()
    server.stop()

    assert (status_of(head), addresses) == (200, (f"unix:{path}",))
    assert str(caught.value) == f"cannot listen on unix:{path}: Address already in use"


def test_running_out_of_files_evicts_and_accepts_again():
    class Exhausted:
        def accept(self):
            raise OSError(errno.EMFILE, "Too many open files")

    with capture_logs() as logs, serving() as server, connect(server) as client:
        client.sendall(GET)
        read_response(client)
        server._loop.call_soon_threadsafe(server._accept, Exhausted())
        evicted = client.recv(1)
        with connect(server) as newcomer:
            newcomer.sendall(GET)
            head, _ = read_response(newcomer)

    assert evicted == b""
    assert status_of(head) == 200
    assert [(log["event"], log["cause"]) for log in logs if log["log_level"] == "error"] == [
        ("cannot accept connections", "Too many open files")
    ]
