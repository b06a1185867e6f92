from __future__ import annotations

import asyncio
import base64
import threading

import bcrypt
import pytest
import requests

from exporter.errors import ConfigError
from exporter.server import auth
from exporter.server.auth import Authenticator
from exporter.server.message import Refused
from exporter.server.pool import BoundedPool
from tests.unit.test_server_helpers import connect, port_of, read_response, serving, status_of


def hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.fixture
def checks(monkeypatch):
    """Give the list of hashes that bcrypt was asked about."""
    asked: list[bytes] = []
    original = bcrypt.checkpw

    def counting(password: bytes, stored: bytes) -> bool:
        asked.append(stored)
        return original(password, stored)

    monkeypatch.setattr(auth.bcrypt, "checkpw", counting)
    return asked


@pytest.fixture
def web_config(tmp_path):
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users:\n  alice: {hashed('right').decode()}\n")
    return path


def get(server, credentials: str | None, path: str = "/") -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n"
    if credentials is not None:
        head += f"Authorization: {basic(credentials)}\r\n"
    with connect(server) as client:
        client.sendall(head.encode() + b"\r\n")
        return read_response(client)[0]


def test_only_the_right_password_is_let_in(web_config):
    with serving(web_config_file=web_config, slow_paths=frozenset({"/slow"})) as server:
        heads = [get(server, c) for c in (None, "alice:wrong", "bob:right", "alice:right")]
        slow = [get(server, "alice:right", "/slow") for _ in range(2)]
        server.reload_web_config()
        slow.append(get(server, "alice:right", "/slow"))

    assert [status_of(head) for head in heads] == [401, 401, 401, 200]
    assert [status_of(head) for head in slow] == [200, 200, 200]
    assert b'www-authenticate: Basic realm="chatqueue"' in heads[0].split(b"\r\n")


def test_right_password_is_checked_once_and_unknown_user_like_a_known_one(web_config, checks):
    with serving(web_config_file=web_config) as server:
        for _ in range(5):
            get(server, "alice:right")
        get(server, "bob:x")

    assert len(checks) == 2
    assert checks[0][:7] == checks[1][:7] == b"$2b$04$"


def test_reload_forgets_users_and_a_faulty_file_changes_nothing(web_config):
    with serving(web_config_file=web_config) as server:
        before = get(server, "alice:right")
        web_config.write_text("basic_auth_users: 1\n")
        with pytest.raises(ConfigError):
            server.reload_web_config()
        still = get(server, "alice:right")
        web_config.write_text(f"basic_auth_users:\n  bob: {hashed('new').decode()}\n")
        server.reload_web_config()
        after = [get(server, "alice:right"), get(server, "bob:new")]
        web_config.write_text("")
        server.reload_web_config()
        opened = get(server, None)

    assert [status_of(h) for h in (before, still, *after, opened)] == [200, 200, 401, 200, 200]


def test_flood_of_guesses_is_refused_and_holds_up_no_known_user(web_config, monkeypatch):
    release = threading.Event()
    with serving(web_config_file=web_config) as server:
        assert status_of(get(server, "alice:right")) == 200
        monkeypatch.setattr(auth.bcrypt, "checkpw", lambda *_: release.wait(10) and False)
        guesses = [connect(server) for _ in range(30)]
        for number, client in enumerate(guesses):
            head = f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(f'alice:{number}')}\r\n\r\n"
            client.sendall(head.encode())
        known = requests.get(
            f"http://127.0.0.1:{port_of(server)}/", auth=("alice", "right"), timeout=5
        )
        # One address may have eight guesses waiting; the ninth shows that they all came.
        refused = [status_of(read_response(client)[0]) for client in guesses[8:]]
        release.set()
        checked = [status_of(read_response(client)[0]) for client in guesses[:8]]
        for client in guesses:
            client.close()

    assert known.status_code == 200
    assert refused == [503] * 22
    assert checked == [401] * 8


@pytest.mark.parametrize(
    "header",
    ["", "Bearer x", "Basic", "Basic !!!", "Basic eA==", "Basic " + "/zp4", "basic \u00e4"],
)
def test_malformed_header_is_no_user(header):
    async def check() -> bool:
        pool = BoundedPool("test", threads=1, capacity=1)
        try:
            return await Authenticator({"a": hashed("b")}, pool).check(header, "peer")
        finally:
            pool.close()

    assert asyncio.run(check()) is False


def test_long_passwords_are_cut_as_bcrypt_cuts_them():
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))

    assert auth._matches(b"x" * 80, stored)
    assert not auth._matches(b"x", b"no hash")


def test_same_credentials_at_once_are_checked_once_and_the_memory_is_bounded(checks, monkeypatch):
    monkeypatch.setattr(auth, "_REMEMBERED", 1)

    async def check() -> list[int]:
        pool = BoundedPool("test", threads=1, capacity=4)
        gate = Authenticator({"a": hashed("b"), "c": hashed("d")}, pool)
        counts = []
        for credentials in ("a:b", "c:d", "c:d", "a:b"):
            answers = await asyncio.gather(*(gate.check(basic(credentials), "p") for _ in range(5)))
            assert answers == [True] * 5
            counts.append(len(checks))
        pool.close()
        return counts

    assert asyncio.run(check()) == [1, 2, 2, 3]


def test_full_pool_refuses():
    async def overfill() -> None:
        pool = BoundedPool("test", threads=1, capacity=0)
        try:
            await pool.run(lambda: None)
        finally:
            pool.close()

    with pytest.raises(Refused):
        asyncio.run(overfill())
