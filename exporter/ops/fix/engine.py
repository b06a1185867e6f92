"""The transaction of a repair: lock, read, judge, record, change, read again, commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from exporter.database.session import CommitUnknown, Session
from exporter.database.statements import load_statements
from exporter.errors import ChatqueueError, QueryFailed, Reason
from exporter.ops.fix.repairs import Facts, Repair
from exporter.release import admin
from exporter.release.statements import STATEMENTS

RELATIONS = (
    "public.chats",
    "public.chat_assignments",
    "public.operator_activity",
    "public.messages",
)
_HINT = "chatqueue grants --with-repairs gives what a repair needs"
_SQL = load_statements(__package__, "sql")


class FixRefused(ChatqueueError):
    """The repair would do harm or have no effect; the database is unchanged."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The result of a repair, done or rehearsed.

    Attributes:
        before: The chat as it was found.
        after: As it is now, or would be.
        audit_id: Of the row in chatqueue.fix_audit; None for a rehearsal.
    """

    before: Facts
    after: Facts
    audit_id: UUID | None = None


class Fixer:
    """Repairs single chats on one session.

    Args:
        session: Its own connection.
        grace_s: How long a chat may contradict itself before it counts as faulty.
        on_step: Called with `lock`, `judge`, `change` and `commit` before each; tests stop there.
    """

    def __init__(
        self,
        session: Session,
        grace_s: float,
        *,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._session = session
        self._grace_s = grace_s
        self._on_step = on_step

    def read_facts(self, chat: UUID, *, asks_user: bool = False) -> Facts:
        """Return the chat as it is, read-only and without a lock.

        Args:
            chat: Which.
            asks_user: Whether its user's profile is read too.

        Raises:
            FixRefused: There is no such chat, or this role does not see everything.
            DatabaseError: It cannot be read.
        """
        with self._session.reading():
            return self._facts(chat, asks_user)

    def rehearse(self, repair: Repair, chat: UUID) -> Fixed:
        """Return what the repair would do, read-only and without a lock.

        Raises:
            FixRefused: It would do harm, or nothing.
            DatabaseError: It cannot be read.
        """
        before = self.read_facts(chat, asks_user=repair.asks_user)
        self._refuse(repair, before)
        return Fixed(before, repair.change(before))

    def apply(self, repair: Repair, chat: UUID, actor: str) -> Fixed:
        """Repair the chat, if the repair is still right under the lock.

        Raises:
            SchemaMissing: There is no table for the audit.
            FixRefused: Nothing was changed.
            CommitUnknown: It was done or it was not; asked again, it is refused if it was.
            DatabaseError: Nothing was changed.
        """
        admin.require_schema(self._session, repair.version)
        self._session.begin()
        try:
            self._refuse_read_only()
            self._on_step("lock")
            self._lock(chat)
            self._on_step("judge")
            before = self._facts(chat, repair.asks_user)
            self._refuse(repair, before)
            self._on_step("change")
            # First the audit: the server lets a role of chatqueue grants change the chat to what
            # stands there, and to nothing else.
            audit_id = self._record(repair, chat, before, actor)
            after = self._change(repair, chat, before)
            self._on_step("commit")
            self._session.commit()
        except CommitUnknown as error:
            raise CommitUnknown(
                f"the commit went unanswered ({error}): ask again, it is refused if it was done"
            ) from error
        finally:
            self._session.rollback()
        return Fixed(before, after, audit_id)

    def _refuse_read_only(self) -> None:
        """Refuse where nothing can be written."""
        (server,) = self._session.rows(STATEMENTS["server"])
        if server["in_recovery"]:
            raise FixRefused("the server is a standby")
        if server["is_read_only"]:
            raise FixRefused("this role is read-only: give release_dsn, or --dsn-from")

    def _lock(self, chat: UUID) -> None:
        """Lock the chat; refuse where another transaction has it locked."""
        try:
            self._rows("lock_chat", {"chat": chat})
        except QueryFailed as error:
            if error.reason is not Reason.LOCKED:
                raise
            raise FixRefused("another transaction is writing to the chat; try again") from error

    def _facts(self, chat: UUID, asks_user: bool) -> Facts:
        """The chat as a new statement reads it."""
        relations = (*RELATIONS, "public.real_users") if asks_user else RELATIONS
        blind = self._session.find_blindness(relations)
        if blind is not None:
            raise FixRefused(f"{blind}; {_HINT}")
        rows = self._rows("facts", {"chat": chat})
        if not rows:
            raise FixRefused(f"no such chat: {chat}")
        row = dict(rows[0])
        if asks_user:
            row.update(*self._rows("user", {"chat": chat}))
        return Facts(has_assignment_time=row.pop("assignment_time") is not None, **row)

    def _refuse(self, repair: Repair, facts: Facts) -> None:
        reason = repair.refuse(facts, self._grace_s)
        if reason is not None:
            raise FixRefused(reason)

    def _record(self, repair: Repair, chat: UUID, before: Facts, actor: str) -> UUID:
        """Record what is about to be done; return the id of its row."""
        audit_id = uuid4()
        values = {
            "id": audit_id,
            "fix": repair.name,
            "chat": chat,
            "actor": actor,
            "reason": repair.reason,
            "before": json.dumps(dict(before.state)),
            "after": json.dumps(dict(repair.change(before).state)),
        }
        self._rows("insert_audit", values)
        return audit_id

    def _change(self, repair: Repair, chat: UUID, before: Facts) -> Facts:
        """Change the chat, and check that nothing but the repair happened."""
        values = {"chat": chat, "latest_operator_id": before.latest_operator_id}
        touched = [len(self._rows(name, values)) for name in repair.statements]
        after = self._facts(chat, repair.asks_user)
        if touched[-1] != 1 or after.state != repair.change(before).state:
            raise FixRefused(f"the repair left {dict(after.state)}, undone")
        return after

    def _rows(self, name: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        try:
            return self._session.rows(_SQL[name], values)
        except QueryFailed as error:
            if error.reason is not Reason.PERMISSION:
                raise
            raise QueryFailed(error.reason, f"{error}; {_HINT}") from error
