"""A disk that is really full, and a backend that really dies inside COMMIT."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from exporter.release.facts import Decision
from exporter.release.plans import ReleasePlan
from exporter.release.releaser import Releaser
from tests.conftest import SERVER_IDS
from tests.release import (
    Ear,
    assert_audit_and_releases_agree,
    checksum,
    figures_of,
    install,
    make_limits,
    make_stuck_chat,
    release,
    state_of,
)
from tests.servers import Disk, Platform, clone_platform, mount_disk, run_server
from tests.watch import run_watch, write_config

pytestmark = pytest.mark.newest

AT_ONCE = {"confirm": {"polls": 1, "for": "0s"}, "sensor": {"after_restart": "0s"}}
DEADLINE_S = 20.0


@pytest.fixture
def disk(platform: Platform) -> Iterator[Disk]:
    """A small disk with a tablespace of its own; whatever a test puts there goes back."""
    space = f"{platform.database}_space"
    with mount_disk(platform.server) as disk:
        platform.execute(f"CREATE TABLESPACE {space} LOCATION '{disk.directory}'")
        try:
            yield disk
        finally:
            disk.empty()
            for (table,) in platform.fetch(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_tablespace t"
                " ON t.oid = c.reltablespace WHERE t.spcname = %s AND c.relkind = 'r'",
                [space],
            ):
                platform.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            platform.execute(f"DROP TABLESPACE {space}")


@pytest.mark.parametrize(
    ("table", "step"), [("chatqueue.release_audit", "audit"), ("public.chats", "release")]
)
def test_a_disk_that_is_full_releases_nothing_and_loses_nothing(
    platform: Platform, disk: Disk, tmp_path: Path, table: str, step: str
) -> None:
    install(platform)
    chat = make_stuck_chat(platform)
    # Rows so long that a page holds one of them: every new version of one needs a new page.
    platform.execute("ALTER TABLE chats ADD COLUMN note text")
    platform.execute("ALTER TABLE chats ALTER COLUMN note SET STORAGE PLAIN")
    platform.execute("UPDATE chats SET note = repeat('x', 5000)")
    platform.execute(f"ALTER TABLE {table} SET TABLESPACE {platform.database}_space")
    platform.execute(f"VACUUM FULL {table}")
    disk.fill()
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is Decision.ERROR
    assert result.reason.startswith(f"{step}: could not extend file")
    assert "No space left on device" in result.reason
    assert checksum(platform) == before

    config = write_config(tmp_path, {"main": platform.dsn}, release={"mode": "enforce", **AT_ONCE})
    with run_watch(config) as watch:
        name = "chatqueue_release_decisions_total"
        watch.wait_until(lambda: watch.value(name, decision="error") == 1)
        watch.wait_for_poll()
        assert watch.value("chatqueue_database_up") == 1
        assert checksum(platform) == before

        disk.empty()

        watch.wait_until(lambda: watch.value(name, decision="released") == 1)
        assert watch.value(name, decision="error") == 1
        assert watch.value(name, decision="defect") == 0
    assert state_of(platform, chat)[0] == "waiting_assignment"
    assert_audit_and_releases_agree(platform)


@pytest.fixture(params=SERVER_IDS)
def lone_platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform on a server of the test's own that commits as a real one does, with our schema."""
    settings = {"synchronous_commit": "on"}
    with run_server(request.param, **settings) as server, clone_platform(server) as platform:
        install(platform)
        yield platform


def again(platform: Platform, query: str) -> list[tuple[object, ...]]:
    """Ask, and ask again while the server recovers."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return platform.fetch(query)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            platform.close()
            time.sleep(0.02)


@contextlib.contextmanager
def stop_before_commit(platform: Platform) -> Iterator[str]:
    """Let a COMMIT wait before anything of it is durable; yields the event it waits for."""
    platform.execute(
        "CREATE FUNCTION wait_for_us() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END; $$"
    )
    platform.execute(
        "CREATE CONSTRAINT TRIGGER wait_for_us AFTER UPDATE ON chats DEFERRABLE INITIALLY"
        " DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_us()"
    )
    with platform.connect() as holder, contextlib.suppress(psycopg.OperationalError):
        holder.execute("SELECT pg_advisory_lock(42)")
        yield "advisory"
    again(platform, "SELECT 1")
    platform.execute("DROP TRIGGER wait_for_us ON chats")


@contextlib.contextmanager
def stop_after_commit(platform: Platform) -> Iterator[str]:
    """Let a COMMIT wait once it is durable, for a standby that never answers."""
    platform.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    platform.execute("SELECT pg_reload_conf()")
    yield "SyncRep"
    again(platform, "SELECT 1")
    platform.execute("ALTER SYSTEM RESET synchronous_standby_names")
    platform.execute("SELECT pg_reload_conf()")


def kill_in_commit(platform: Platform, event: str, with_signal: bool) -> None:
    """Kill the releaser's backend while its COMMIT waits for something."""
    deadline = time.monotonic() + DEADLINE_S
    found: list[tuple[int]] = []
    while not found:
        assert time.monotonic() < deadline
        found = platform.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'chatqueue-releaser%%'"
            " AND query = 'COMMIT' AND wait_event = %s",
            [event],
        )
    if with_signal:
        os.kill(found[0][0], signal.SIGKILL)
        # The server then ends every session and recovers; until it has begun to, the dead
        # transaction still looks alive.
        with contextlib.suppress(psycopg.OperationalError):
            while time.monotonic() < deadline:
                platform.fetch("SELECT 1")
    else:
        platform.execute("SELECT pg_terminate_backend(%s, 5000)", [found[0][0]])


@pytest.mark.parametrize("with_signal", [False, True], ids=["terminated", "kill -9"])
@pytest.mark.parametrize("durable", [False, True], ids=["not committed", "committed"])
def test_a_backend_that_dies_inside_commit_is_settled_from_the_audit(
    lone_platform: Platform, durable: bool, with_signal: bool
) -> None:
    platform = lone_platform
    chat = make_stuck_chat(platform)
    ear = Ear()
    limits = make_limits(confirm_polls=1, confirm_for_s=0.0)
    releaser = Releaser(
        ReleasePlan("main", platform.dsn, (), 5.0, 15.0, limits), daemon="test", notifier=ear
    )
    stop = stop_after_commit if durable else stop_before_commit

    with stop(platform) as event:
        poll = threading.Thread(target=releaser.poll)
        poll.start()
        kill_in_commit(platform, event, with_signal)
        poll.join(DEADLINE_S)
        assert not poll.is_alive()
        assert figures_of(releaser)["decisions_total.unknown"] == 1
        assert ear.names == []
        assert again(platform, "SELECT count(*) FROM chatqueue.release_audit") == [(durable,)]

    deadline = time.monotonic() + DEADLINE_S
    while ear.names != ["released"]:
        assert time.monotonic() < deadline
        releaser.poll()

    releaser.stop(1)
    found = figures_of(releaser)
    assert found["decisions_total.released"] == 1
    assert found["decisions_total.unknown"] == 1
    assert ("decisions_total.error" in found) is not durable
    assert state_of(platform, chat)[0] == "waiting_assignment"
    assert platform.value("SELECT count(*) FROM chatqueue.release_audit") == 1
    assert_audit_and_releases_agree(platform)
