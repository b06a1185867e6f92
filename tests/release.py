"""Stuck chats, engines without the limits that are not under test, and what must always hold."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from exporter.config import Config
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.notify.notices import Notice
from exporter.release import admin
from exporter.release.attempt import ReleaseRequest, Result
from exporter.release.facts import Evidence, Limits
from exporter.release.plans import build_limits
from exporter.release.releaser import Releaser
from exporter.release.transaction import Engine
from tests import builders
from tests.servers import Platform

STUCK_S = 1800.0
TABLES = (
    *("chats", "chat_assignments", "operator_activity", "messages", "operators"),
    *("platform_config", "real_users", "fictional_users", "admins"),
)
OWN_TABLES = ("release_control", "release_audit", "release_exemption", "schema_version")


def make_limits(**changes: Any) -> Limits:
    """The defaults, enforced, on a server that has just been started for the tests."""
    config = Config.model_validate({"databases": {"main": {"dsn": "host=db"}}})
    limits = replace(build_limits(config), mode="enforce", after_restart_s=0.0)
    return replace(limits, **changes)


class Ear:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def notify(self, notice: Notice) -> None:
        """Remember."""
        self.notices.append(notice)

    @property
    def names(self) -> list[str]:
        """Only which events."""
        return [notice.event for notice in self.notices]


def figures_of(releaser: Releaser) -> dict[str, float]:
    """Every sample by name and label value; decisions that were never made left out."""
    found = {}
    for family in releaser.families:
        for sample in family.samples:
            name = family.name.removeprefix("chatqueue_release_")
            key = ".".join((name, *(value for _, value in sample.labels)))
            if sample.value or not name.startswith("decisions"):
                found[key] = sample.value
    return found


def install(platform: Platform) -> None:
    """Install our schema."""
    with Session(platform.dsn) as session:
        admin.install(session)


def make_stuck_chat(
    platform: Platform,
    operator: UUID | None = None,
    *,
    silent_s: float = STUCK_S,
    heartbeat: bool = True,
    past_turns: int = 0,
) -> UUID:
    """Make a chat whose operator vanished `silent_s` ago, and an operator who is free."""
    builders.add_operator(platform)
    return builders.make_assigned_chat(
        platform,
        operator,
        age_s=silent_s,
        heartbeat_s=silent_s if heartbeat else None,
        past_turns=past_turns,
    )


def reassign_long_ago(
    connection: application.PlatformConnection,
    chat: UUID,
    operator: UUID,
    silent_s: float = STUCK_S,
) -> None:
    """Let an admin have given a chat to a named operator, who vanished `silent_s` ago.

    The row of the operator before has the chat's own time, as the platform's assignment makes it.
    """
    values = {"chat": chat, "operator": operator, "silent": timedelta(seconds=silent_s)}
    connection.execute(
        "UPDATE chat_assignments a SET assigned_at = c.assignment_time FROM chats c WHERE c.id ="
        " a.chat_id AND c.id = %(chat)s AND a.operator_id = c.assigned_operator_id"
        " AND a.released_at IS NULL",
        values,
    )
    application.reassign_as_admin(connection, chat, operator, "shift ends")
    connection.execute(
        "UPDATE chat_assignments SET assigned_at = now() - %(silent)s WHERE id = (SELECT id"
        " FROM chat_assignments WHERE chat_id = %(chat)s AND operator_id = %(operator)s"
        " ORDER BY assigned_at DESC LIMIT 1)",
        values,
    )
    connection.execute(
        "UPDATE chats SET assignment_time = now() - %(silent)s WHERE id = %(chat)s", values
    )


def make_engine(
    platform: Platform,
    *,
    dsn: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    limits: Limits | None = None,
    **changes: Any,
) -> Engine:
    """An engine on a session of its own; changes are those of the limits."""
    return Engine(
        Session(dsn or platform.dsn),
        limits or make_limits(**changes),
        daemon="test",
        on_step=on_step,
    )


def observe(engine: Engine, chat: UUID) -> Evidence:
    """What a scan says of a chat now."""
    look, _ = engine.scan()
    found = look.find(chat)
    assert found is not None
    return found


def release(platform: Platform, chat: UUID, *, mode: str = "enforce", **options: Any) -> Result:
    """Observe a chat and order its release at once, on a fresh engine."""
    order_options = {
        key: options.pop(key)
        for key in ("overrides", "closes", "tripped", "actor")
        if key in options
    }
    engine = make_engine(platform, **options)
    try:
        return engine.release(ReleaseRequest(observe(engine, chat), mode, **order_options))
    finally:
        engine.session.close()


def drop_public_policies(platform: Platform) -> None:
    """Let the platform's policies name nobody, as on one without those for PUBLIC."""
    for policy, table in platform.fetch(
        "SELECT policyname, tablename FROM pg_policies WHERE schemaname = 'public'"
        " AND roles = '{public}'"
    ):
        platform.execute(f'DROP POLICY "{policy}" ON public.{table}')


@contextlib.contextmanager
def as_standby(platform: Platform) -> Iterator[None]:
    """Let the server of a test's own be a standby for a while."""
    server, signal_file = platform.server, platform.server.data_dir / "standby.signal"
    server.stop()
    signal_file.touch()
    server.start()
    try:
        yield
    finally:
        platform.close()
        server.stop()
        signal_file.unlink()
        server.start()


def state_of(platform: Platform, chat: UUID) -> tuple[Any, ...]:
    """State, activity and operator of a chat."""
    (row,) = platform.fetch(
        "SELECT chat_state, is_active, assigned_operator_id FROM chats WHERE id = %s", [chat]
    )
    return row


def drop_open_policies(platform: Platform) -> None:
    """Take away what lets everybody do everything; the policies of admins and users stay."""
    for policy, table in platform.fetch(
        "SELECT policyname, tablename FROM pg_policies WHERE schemaname = 'public'"
        " AND roles = '{public}' AND qual = 'true'"
    ):
        platform.execute(f'DROP POLICY "{policy}" ON public.{table}')


def checksum(platform: Platform) -> Mapping[str, str]:
    """A mark of every row of every table, ours included where they are."""
    names = ["auth.users", *(f"public.{table}" for table in TABLES)]
    if platform.value("SELECT to_regclass('chatqueue.release_audit') IS NOT NULL"):
        names += [f"chatqueue.{table}" for table in OWN_TABLES]
    marks = {}
    for name in names:
        rows = platform.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")
        marks[name] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return marks


def assert_audit_and_releases_agree(platform: Platform, closed: int = 0) -> None:
    """I3: every audit row has its release, every release its audit row; I1: we closed nothing.

    `closed` is how many chats the platform closed by itself.
    """
    audited = platform.fetch(
        "SELECT 'auto_release:' || id, assignment_id FROM chatqueue.release_audit"
        " WHERE outcome <> 'escalated' ORDER BY 1"
    )
    released = platform.fetch(
        "SELECT release_reason, id FROM chat_assignments"
        " WHERE release_reason LIKE 'auto_release:%' ORDER BY 1"
    )
    assert audited == released
    assert platform.value("SELECT count(*) FROM chats WHERE NOT is_active") == closed
