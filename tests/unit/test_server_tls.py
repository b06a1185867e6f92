from __future__ import annotations

import contextlib
import ssl

import psutil
import pytest
import requests
import trustme

from exporter.server.message import Response
from tests.unit.test_server_helpers import connect, port_of, read_response, serving, status_of

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BASE = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def web_config(tmp_path, authority):
    issue(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    path = tmp_path / "web.yml"
    path.write_text(BASE)
    return path


def issue(authority: trustme.CA, folder) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")


def connect_tls(server, authority, client_cert=None) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client_cert is not None:
        client_cert.configure_cert(context)
    return context.wrap_socket(connect(server), server_hostname="127.0.0.1")


def test_scrape_over_tls_and_plain_http_is_closed(web_config, authority, capfd):
    with serving(web_config_file=web_config) as server:
        with connect_tls(server, authority) as client:
            client.sendall(GET + GET)
            heads = [read_response(client)[0] for _ in range(2)]
        with connect(server) as plain:
            plain.sendall(GET)
            with contextlib.suppress(ConnectionError):
                while plain.recv(100):
                    pass
        url = f"https://127.0.0.1:{port_of(server)}/"
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, timeout=5)
        answer = requests.get(url, verify=str(web_config.parent / "ca.pem"), timeout=5)

    assert [status_of(head) for head in heads] == [200, 200]
    assert answer.status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_big_bodies_closes_and_refusals_work_over_tls(web_config, authority):
    big = Response(200, body=b"x" * 3_000_000)
    with serving(lambda _: big, web_config_file=web_config, linger_s=0.2) as server:
        with connect_tls(server, authority) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            _, body = read_response(client)
            end = client.recv(1)
        with connect_tls(server, authority) as client:
            client.sendall(b"nonsense\r\n")
            head, _ = read_response(client)
            refused_end = client.recv(1)

    assert body == big.body
    assert end == refused_end == b""
    assert status_of(head) == 400


def test_unfinished_handshakes_are_timed_out_and_evicted(web_config, authority):
    with (
        serving(web_config_file=web_config, max_connections=3, handshake_timeout_s=0.3) as server,
        contextlib.ExitStack() as stack,
    ):
        idle = [stack.enter_context(connect(server)) for _ in range(8)]
        with connect_tls(server, authority) as client:
            client.sendall(GET)
            head, _ = read_response(client)
        ends = []
        for client in idle:
            with contextlib.suppress(ConnectionError):
                ends.append(client.recv(1))

    assert status_of(head) == 200
    assert set(ends) <= {b""}


def test_reload_serves_the_new_certificate_and_retires_old_connections(web_config, authority):
    with serving(web_config_file=web_config) as server:
        with connect_tls(server, authority) as old:
            old.sendall(GET)
            read_response(old)
            first = old.getpeercert()["serialNumber"]
            issue(authority, web_config.parent)
            server.reload_web_config()
            end = old.recv(1)
        with connect_tls(server, authority) as new:
            second = new.getpeercert()["serialNumber"]

    assert first != second
    assert end == b""


def test_1000_reloads_leak_neither_files_nor_connections(web_config, authority):
    process, statuses, files = psutil.Process(), [], []
    with serving(web_config_file=web_config) as server:
        for number in range(1000):
            server.reload_web_config()
            if number % 50 == 0:
                with connect_tls(server, authority) as client:
                    client.sendall(GET)
                    statuses.append(status_of(read_response(client)[0]))
                    files.append(process.num_fds())

    assert statuses == [200] * 20
    assert max(files) - min(files) <= 2


@pytest.mark.parametrize(
    ("kind", "identity", "served"),
    [
        ("RequireAndVerifyClientCert", "scraper.example", True),
        ("RequireAndVerifyClientCert", "stranger.example", False),
        ("RequireAndVerifyClientCert", None, False),
        ("VerifyClientCertIfGiven", None, True),
        ("VerifyClientCertIfGiven", "stranger.example", False),
    ],
)
def test_client_certificate_must_be_known(web_config, authority, kind, identity, served):
    web_config.write_text(
        BASE + f"  client_auth_type: {kind}\n  client_ca_file: ca.pem\n"
        "  client_allowed_sans: [scraper.example]\n"
    )
    client_cert = authority.issue_cert(identity) if identity else None
    with serving(web_config_file=web_config) as server:
        try:
            with connect_tls(server, authority, client_cert) as client:
                client.sendall(GET)
                answered = status_of(read_response(client)[0]) == 200
        except (ssl.SSLError, ConnectionError, EOFError):
            answered = False

    assert answered is served


def test_stop_does_not_wait_for_handshakes(web_config):
    with serving(web_config_file=web_config, handshake_timeout_s=60) as server:
        client = connect(server)
    with contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""
    client.close()
