"""One request to a webhook, against receivers that answer and such that do anything else."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from exporter.notify.answers import Answer
from exporter.notify.sending import build_post
from tests.webhooks import (
    OK,
    TOKEN,
    Behaviour,
    Receiver,
    answer,
    close,
    deaf_port,
    hang,
    make_webhook,
    say,
    trickle,
)

REDIRECT = answer(302, Location="http://127.0.0.1:1/elsewhere")
ANSWERS: dict[str, tuple[Behaviour, Answer]] = {
    "ok": (OK, Answer("", "answered 200")),
    "no content": (answer(204), Answer("", "answered 204")),
    "server error": (answer(500), Answer("status", "answered 500 Internal Server Error")),
    "not found": (
        answer(404, b"no_service"),
        Answer("status", "answered 404 Not Found: no_service", is_final=True),
    ),
    "not found, and it quotes the secret": (
        answer(404, TOKEN.encode()),
        Answer("status", "answered 404 Not Found", is_final=True),
    ),
    "a word of the secret": (
        answer(404, b"services"),
        Answer("status", "answered 404 Not Found", is_final=True),
    ),
    "a page of words": (
        answer(410, b"<html>" + b"gone " * 10_000),
        Answer("status", "answered 410 Gone", is_final=True),
    ),
    "too many requests": (
        answer(429, Retry_After="7"),
        Answer("status", "answered 429 Too Many Requests", asked_s=7.0),
    ),
    "request timeout": (answer(408), Answer("status", "answered 408 Request Timeout")),
    "redirect": (
        REDIRECT,
        Answer("status", "answered 302 Found, and redirects are not followed", is_final=True),
    ),
    "a status of its own": (answer(599), Answer("status", "answered 599")),
    "closes at once": (
        close,
        Answer("connection", "the connection was closed without an answer"),
    ),
    "garbage": (say(b"\0\xffwhat?\r\n\r\n"), Answer("connection", "no answer that HTTP knows")),
    "a body that breaks off": (
        say(b"HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\nno"),
        Answer("status", "answered 500 Internal Server Error"),
    ),
    "packed": (
        answer(500, b"\x1f\x8bno gzip", Content_Encoding="gzip"),
        Answer("status", "answered 500 Internal Server Error"),
    ),
    "headers that are none": (
        say(b"HTTP/1.1 200 X\r\n:\r\nno header\r\nContent-Length: 0\r\n\r\n"),
        Answer("", "answered 200"),
    ),
}
SLOW: dict[str, Behaviour] = {
    "hangs": hang,
    "trickles its headers": trickle(b"HTTP/1.1 200 OK\r\nX-Long: "),
    "trickles the body of an error": trickle(b"HTTP/1.1 500 X\r\nContent-Length: 99999\r\n\r\n"),
    "trickles a body without length": trickle(b"HTTP/1.0 500 X\r\n\r\n"),
}


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING):
        yield
    assert "sEcReT" not in str([record.getMessage() for record in caplog.get_records("call")])


@pytest.mark.parametrize(("behaviour", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_judged_in_our_own_words(behaviour: Behaviour, expected: Answer) -> None:
    with Receiver(behaviour) as receiver:
        found = build_post(make_webhook(receiver.url), b"{}").run()

        assert found == expected
        assert len(receiver.received) == 1


@pytest.mark.parametrize("behaviour", SLOW.values(), ids=SLOW)
def test_no_request_outlives_its_timeout_whatever_trickles_in(behaviour: Behaviour) -> None:
    with Receiver(behaviour) as receiver:
        found = build_post(make_webhook(receiver.url, timeout_s=0.3), b"{}").run()

        assert found == Answer("timeout", "no answer within 0.3 s")


def test_a_connection_that_does_not_come_to_stand_times_out() -> None:
    with deaf_port() as port:
        webhook = make_webhook(f"http://127.0.0.1:{port}/{TOKEN}", timeout_s=0.3)

        assert build_post(webhook, b"{}").run() == Answer("timeout", "no answer within 0.3 s")


def test_nobody_there_is_told_as_the_system_tells_it() -> None:
    with Receiver() as receiver:
        url = receiver.url

    assert build_post(make_webhook(url), b"{}").run() == Answer("connection", "Connection refused")


def test_a_host_without_address_is_a_failed_connection() -> None:
    found = build_post(make_webhook(f"https://no-such-host.invalid/{TOKEN}"), b"{}").run()

    assert found.failure == "connection"
    assert "sEcReT" not in found.words


def test_a_proxy_is_used_and_one_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("HTTPS_PROXY", receiver.url.partition("/services")[0])
        found = build_post(make_webhook(f"https://hooks.example/{TOKEN}"), b"{}").run()

    assert found == Answer("connection", "the proxy refused")


def test_a_request_carries_json_and_the_configured_headers_and_nothing_of_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Receiver() as receiver:
        webhook = make_webhook(receiver.url, headers={"X-Token": "abc"})
        build_post(webhook, b'{"a": 1}').run()
        (received,) = receiver.received

    assert received.document == {"a": 1}
    assert received.path == f"/services/{TOKEN}?key={TOKEN}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-token"] == "abc"
    assert received.headers["user-agent"].startswith("chatqueue-exporter/")
    assert "authorization" not in received.headers


def test_a_request_is_cut_off_from_another_thread() -> None:
    with Receiver(hang) as receiver:
        post = build_post(make_webhook(receiver.url), b"{}")
        found: list[Answer] = []
        thread = threading.Thread(target=lambda: found.append(post.run()))
        thread.start()
        receiver.wait_for(1)
        post.abort()
        thread.join(10)

    assert [each.failure for each in found] == ["timeout"]


def test_a_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Receiver(OK, hang, tls=context) as receiver:
        refused = build_post(make_webhook(receiver.url), b"{}").run()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        accepted = build_post(make_webhook(receiver.url), b"{}").run()
        hung = build_post(make_webhook(receiver.url, timeout_s=0.3), b"{}").run()

    assert refused.failure == "connection"
    assert refused.words.startswith("the certificate is not trusted: ")
    assert accepted == Answer("", "answered 200")
    assert hung.failure == "timeout"


def test_tls_where_there_is_none_is_named() -> None:
    with Receiver() as receiver:
        found = build_post(make_webhook(receiver.url.replace("http:", "https:")), b"{}").run()

    assert found.failure == "connection"
    assert found.words.startswith("TLS failed: ")
