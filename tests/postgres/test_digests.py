"""A daemon on a real server tells how its watch goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.builders import make_waiting_chat
from tests.servers import Platform
from tests.watch import run_watch, write_config
from tests.webhooks import Receiver


def test_a_daemon_tells_once_and_a_restart_repeats_nothing(
    platform: Platform, tmp_path: Path
) -> None:
    make_waiting_chat(platform, age_s=100)
    begun = datetime.now(UTC) - timedelta(minutes=17)
    state = tmp_path / "state.json"
    digests = {"state_file": state.name}
    with Receiver() as receiver:
        notify = {"webhooks": {"ops": {"url": receiver.url, "events": ["digest"]}}}
        watch = {"started_at": begun.isoformat(), "digests": digests}
        state.write_text(
            json.dumps(
                {
                    "version": 1,
                    "started_at": begun.isoformat(),
                    "last": begun.isoformat(),
                    "databases": {},
                }
            )
        )
        config = write_config(tmp_path, {"main": platform.dsn}, watch=watch, notify=notify)
        with run_watch(config):
            # The digest at 15 minutes was due while the daemon was away, and is sent late.
            (first,) = receiver.wait_for(1)
        # A reload that makes the schedule denser finds another time; a restart finds none.
        with run_watch(config) as running:
            running.wait_for_poll()
            assert len(receiver.received) == 1
            digests["first_hour"] = "4m"
            write_config(tmp_path, {"main": platform.dsn}, watch=watch, notify=notify)
            running.daemon.reload()
            _, second = receiver.wait_for(2)

    assert first.document["title"] == "main: 15m of 1d watched, calm"
    assert first.document["fields"]["now"]["waiting"] == 1
    assert first.document["text"].splitlines()[0].startswith("Chats: waiting 1, assigned 0")
    assert second.document["title"] == "main: 16m of 1d watched, calm"
    assert json.loads(state.read_text())["last"] == second.document["fields"]["moment"]
