"""Releases and their notices: told after the commit, and only then; a webhook changes nothing."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ConfigError
from tests import builders
from tests.postgres.test_cli_helpers import run_command, run_daemon
from tests.release import assert_audit_and_releases_agree, install, make_stuck_chat, state_of
from tests.servers import Platform
from tests.watch import Watch, run_watch, write_config
from tests.webhooks import OK, TOKEN, Behaviour, Receiver, answer, close, hang, say, trickle

pytestmark = pytest.mark.newest

ENFORCE = {
    "mode": "enforce",
    "stuck_after": "15m",
    "confirm": {"polls": 1, "for": "0s"},
    "sensor": {"after_restart": "0s"},
}


def configure(folder: Path, platform: Platform, **webhooks: Any) -> Path:
    """A configuration that enforces at once and tells these webhooks."""
    return write_config(
        folder, {"main": platform.dsn}, release=ENFORCE, notify={"webhooks": webhooks}
    )


def released(watch: Watch) -> float | None:
    """How many releases the page shows."""
    return watch.value("chatqueue_release_decisions_total", decision="released")


def test_a_release_is_told_once_it_is_committed(platform: Platform, tmp_path: Path) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    seen: list[Any] = []

    def look(client: socket.socket, closing: threading.Event) -> None:
        # On a connection of its own, at the moment the notice arrives.
        with platform.connect() as connection:
            audited = "SELECT outcome FROM chatqueue.release_audit WHERE chat_id = %s"
            state = "SELECT chat_state FROM chats WHERE id = %s"
            seen.extend(connection.execute(query, [chat]).fetchone() for query in (audited, state))
        OK(client, closing)

    with Receiver(look) as receiver:
        config = configure(tmp_path, platform, ops={"url": receiver.url})
        with run_watch(config) as watch:
            receiver.wait_for(1)
            watch.wait_until(
                lambda: watch.value("chatqueue_notifications_total", outcome="delivered") == 1
            )
        (received,) = receiver.received

    assert seen == [("released",), ("waiting_assignment",)]
    assert received.document["event"] == "released"
    assert received.document["title"] == "main: a stuck chat was handed back to the queue"
    assert f"Chat {chat}, operator " in received.document["text"]
    assert "Why: no sign of life for 30m" in received.document["text"]
    assert received.document["fields"]["chat"] == str(chat)


def test_a_release_that_is_rolled_back_tells_nobody(platform: Platform, tmp_path: Path) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    platform.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '55000'; END $$"
    )
    platform.execute(
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON chats DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with Receiver() as receiver:
        config = configure(tmp_path, platform, ops={"url": receiver.url})
        with run_watch(config) as watch:
            watch.wait_until(
                lambda: watch.value("chatqueue_release_decisions_total", decision="error")
            )
            assert (receiver.received, state_of(platform, chat)[0]) == ([], "assigned")
            platform.execute("DROP TRIGGER refuse ON chats")
            receiver.wait_for(1)

        assert receiver.events == ["released"]
    assert_audit_and_releases_agree(platform)


@pytest.mark.parametrize("dead", [hang, trickle(b"HTTP/1.1 200 OK\r\nX: "), answer(503), close])
def test_a_dead_webhook_changes_nothing_about_releases(
    dead: Behaviour, platform: Platform, tmp_path: Path
) -> None:
    install(platform)
    chats = [make_stuck_chat(platform) for _ in range(2)]
    for _ in range(9):
        builders.make_assigned_chat(platform)
    with Receiver(dead) as receiver:
        config = configure(tmp_path, platform, ops={"url": receiver.url})
        with run_watch(config) as watch:
            watch.wait_until(lambda: released(watch) == 2)
            receiver.wait_for(1)
            assert watch.daemon.is_healthy() == ()

    assert [state_of(platform, chat)[0] for chat in chats] == ["waiting_assignment"] * 2
    assert_audit_and_releases_agree(platform)


def test_a_reload_takes_webhooks_over_or_leaves_them_as_they_were(
    platform: Platform, tmp_path: Path
) -> None:
    install(platform)
    with Receiver() as old, Receiver() as new:
        config = configure(tmp_path, platform)
        with run_watch(config) as watch:
            assert watch.samples("chatqueue_notifications_total") == {}
            configure(tmp_path, platform, ops={"url": old.url})
            watch.daemon.reload()
            make_stuck_chat(platform)
            old.wait_for(1)
            good = config.read_text()
            config.write_text(good.replace("url:", "ulr:"))
            with pytest.raises(ConfigError):
                watch.daemon.reload()
            make_stuck_chat(platform)
            old.wait_for(2)
            configure(tmp_path, platform, ops={"url": new.url}, more={"url": new.url})
            watch.daemon.reload()
            make_stuck_chat(platform)
            new.wait_for(2)
            watch.wait_until(
                lambda: (
                    watch.value("chatqueue_notifications_total", webhook="ops", outcome="delivered")
                    == 3
                )
            )

        assert len(old.received) == 2


def test_a_daemon_ends_in_time_while_a_webhook_hangs_and_says_what_is_lost(
    platform: Platform, tmp_path: Path
) -> None:
    install(platform)
    make_stuck_chat(platform)
    with (
        Receiver(hang) as receiver,
        run_daemon(configure(tmp_path, platform, ops={"url": receiver.url})) as daemon,
    ):
        receiver.wait_for(1)
        daemon.end()
        took_s = re.search(r"event=stopped duration_s=([\d.]+)", daemon.stderr)
        assert took_s is not None
        assert float(took_s[1]) < 2
        assert 'event="notices not delivered" webhook=ops notices=1' in daemon.stderr
        assert 'events="1 released"' in daemon.stderr


def test_the_url_of_a_webhook_is_shown_nowhere(platform: Platform, tmp_path: Path) -> None:
    install(platform)
    make_stuck_chat(platform)
    garbled = say(b"HTTP/1.1 500 X\r\n:\r\nno header\r\n\r\n")
    quoting = answer(404, TOKEN.encode(), Location=f"http://h/{TOKEN}")
    with Receiver(garbled, quoting) as receiver:
        headers = {"X-Token": f"Bearer {TOKEN}"}
        config = configure(tmp_path, platform, ops={"url": receiver.url, "headers": headers})
        with run_daemon(config, "--log.level", "debug", "--web.enable-lifecycle") as daemon:
            daemon.wait_for_log("outcome=rejected")
            said = [daemon.page(), *(daemon.get(path).text for path in ("/", "/-/healthy", "/x"))]
            said.append(daemon.post("/-/reload").text)
            config.write_text(config.read_text().replace("http://", "httpx://"))
            said.append(daemon.post("/-/reload").text)
            daemon.end()
            said += [daemon.stdout, daemon.stderr]
        said += map(str, run_command("check-config", "--config.file", str(config)))
        config.write_text(config.read_text().replace("httpx://", "http://"))
        for command in (("notify", "--test"), ("check-config",), ("status",)):
            said += map(str, run_command(*command, "--config.file", str(config)))

    text = "\n".join(said)
    assert "the value is not a URL" in text
    assert "ops: not delivered, answered 404 Not Found" in text
    assert [line for line in text.splitlines() for part in TOKEN.split("/") if part in line] == []
