"""What people do to our own tables: install, pause, resume, exempt, read the audit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from exporter.config.watch import WatchTimes
from exporter.database.session import Session
from exporter.errors import ChatqueueError
from exporter.release.schema import VERSION, build_script
from exporter.release.statements import STATEMENTS

# A release that is under way ends within its own limits; a pause waits that long for it.
PATIENCE_S = 20.0
# The version of our schema that brought what a release needs: an upgrade of the program alone must
# not keep anybody from pausing.
RELEASE_VERSION = 1
# The one that brought the table of watches.
WATCH_VERSION = 5


class SchemaMissing(ChatqueueError):
    """Our schema is absent or too old for what was asked."""


class SchemaAbsent(SchemaMissing):
    """Our schema was never installed here."""


def find_version(session: Session) -> int:
    """Return the installed version of our schema; 0 where there is none.

    Raises:
        DatabaseError: It could not be determined.
    """
    with _transaction(session, read_only=True):
        (row,) = session.rows("SELECT to_regclass('chatqueue.schema_version') AS found")
        if row["found"] is None:
            return 0
        (row,) = session.rows(STATEMENTS["schema_version"])
        return int(row["version"] or 0)


def require_schema(session: Session, needed: int = RELEASE_VERSION) -> None:
    """Check that our schema is there and at the version needed, or a later one.

    Raises:
        SchemaMissing: With what to do about it.
        DatabaseError: It could not be determined.
    """
    version = find_version(session)
    if version < needed:
        found = f"is at version {version}" if version else "is missing"
        raise (SchemaMissing if version else SchemaAbsent)(
            f"the schema chatqueue {found}, expected version {needed}: "
            "run chatqueue install --apply as the owner of the database"
        )


def has_chat(session: Session, chat: UUID) -> bool:
    """Return whether there is such a chat, in whatever state.

    Raises:
        DatabaseError: It could not be determined.
    """
    with _transaction(session, read_only=True):
        return bool(session.rows("SELECT 1 FROM public.chats WHERE id = %(chat)s", {"chat": chat}))


def install(session: Session) -> tuple[int, int]:
    """Install our schema or bring it up to date; return the versions before and after.

    Raises:
        DatabaseError: Nothing was changed.
    """
    before = find_version(session)
    script = build_script(before)
    if script:
        with _transaction(session):
            session.rows(script)
    return before, max(before, VERSION)


def pause(session: Session, duration: timedelta, reason: str, by: str) -> str:
    """Let nothing be released for a time; return until when, by the database's clock.

    Waits for a release that is under way: once this has returned, no other is committed.

    Raises:
        SchemaMissing: There is no schema to keep the pause in.
        DatabaseError: It is not paused.
    """
    values = {"seconds": duration.total_seconds(), "reason": reason, "by": by}
    return str(_change(session, "pause", values)["until"])


def resume(session: Session, *, breaker: bool = False) -> None:
    """End a pause, and where it is said so a trip of the breaker.

    Raises:
        SchemaMissing: There is no schema.
        DatabaseError: The pause goes on.
    """
    _change(session, "resume", {})
    if breaker:
        _change(session, "resume_breaker", {})


def start_watch(
    session: Session,
    at: datetime | None,
    length: timedelta,
    rollback_within: timedelta,
    by: str,
) -> WatchTimes:
    """Begin the watch after a deployment.

    Args:
        session: Of a role that may write to the schema chatqueue.
        at: None for now, by the database's clock.
        length: How long it lasts.
        rollback_within: How long after the beginning a rollback is possible.
        by: Who starts it.

    Raises:
        ChatqueueError: Another one is running.
        SchemaMissing: There is no schema to keep it in.
        DatabaseError: It was not started.
    """
    require_schema(session, WATCH_VERSION)
    values = {
        "at": at,
        "for": length.total_seconds(),
        "rollback_within": rollback_within.total_seconds(),
        "by": by,
    }
    rows = _run(session, "start_watch", values)
    if not rows:
        raise ChatqueueError("a watch is running, end it with chatqueue watch stop")
    return WatchTimes(**rows[0])


def stop_watch(session: Session, by: str) -> tuple[datetime, datetime] | None:
    """End the watch that was started; return its beginning and its end, None where none runs.

    Raises:
        SchemaMissing: There is no schema.
        DatabaseError: It goes on.
    """
    require_schema(session, WATCH_VERSION)
    rows = _run(session, "stop_watch", {"by": by})
    return (rows[0]["started_at"], rows[0]["stopped_at"]) if rows else None


def exempt(
    session: Session, kind: str, subject: UUID, duration: timedelta, by: str, reason: str
) -> str:
    """Keep a chat, or all chats of an operator, from being released; return until when.

    Waits for a release that is under way: once this has returned, it holds.

    Raises:
        SchemaMissing: There is no schema.
        DatabaseError: It is not exempt.
    """
    values = {
        "kind": kind,
        "subject": subject,
        "seconds": duration.total_seconds(),
        "by": by,
        "reason": reason,
    }
    return str(_change(session, "exempt", values)["until"])


def read_audit(session: Session, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return the latest rows of the audit, the newest first.

    Raises:
        SchemaMissing: There is no schema.
        DatabaseError: It cannot be read.
    """
    require_schema(session)
    with _transaction(session, read_only=True):
        return session.rows(STATEMENTS["audit"], {"limit": limit})


def _change(session: Session, name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run one statement that changes one row."""
    require_schema(session)
    rows = _run(session, name, values)
    if len(rows) != 1:
        raise SchemaMissing(f"{name} touched {len(rows)} rows of chatqueue, expected 1")
    return rows[0]


def _run(session: Session, name: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Run one statement, behind the release under way and every other person, and commit it."""
    with _transaction(session):
        session.rows(STATEMENTS["control"])
        return session.rows(STATEMENTS[name], values)


@contextlib.contextmanager
def _transaction(session: Session, *, read_only: bool = False) -> Iterator[None]:
    """Commit what is done inside, or undo it."""
    session.begin(read_only=read_only, lock_timeout_s=PATIENCE_S, statement_timeout_s=PATIENCE_S)
    try:
        yield
        session.commit()
    finally:
        session.rollback()
