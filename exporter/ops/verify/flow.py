"""The five steps of an assignment, played on temporary rows in a transaction that never commits.

docs/verify.md says what is locked and for how long. No other transaction sees the rows; a real row
could be touched only where the platform chooses a chat, and there the statement itself fails if the
choice is a real user's (sql/flow/ask.sql).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from exporter.database.session import Session
from exporter.database.statements import load_statements
from exporter.errors import ChatqueueError, QueryFailed, Reason
from exporter.ops.verify.checks import Check
from exporter.ops.verify.people import (
    NAME,
    Column,
    UnknownColumn,
    build_insert,
    describe_person,
    make_id,
)

STEPS = (
    "user writes",
    "operator asks",
    "operator replies",
    "operator asks again",
    "user replies",
)
RELATIONS = ("public.chats", "public.chat_assignments", "public.operator_activity")
_SQL = load_statements(__package__, "sql", "flow")
_WAITING = {
    "chat_state": "waiting_assignment",
    "is_active": True,
    "is_free": True,
    "has_assignment_time": False,
    "open_assignments": 0,
    "heartbeats": 0,
}
_ASSIGNED = {
    "chat_state": "assigned",
    "is_active": True,
    "has_operator": True,
    "has_assignment_time": True,
    "is_last_operator": True,
    "open_assignments": 1,
    "heartbeats": 1,
}
_ANSWERED = {
    "chat_state": "waiting_real_user_reply",
    "is_active": True,
    "is_free": True,
    "has_reply_time": True,
    "is_last_operator": True,
    "open_assignments": 0,
    "heartbeats": 0,
}
_TODO = "apply the migrations of the fix (014 to 016) again; chatqueue verify shows what differs"
_TODO_RIGHTS = "give the role that right, or play it as the tables' owner: see docs/verify.md"


class FlowRefused(ChatqueueError):
    """The flow cannot be played with this role on this server."""


class _Failed(Exception):
    """A step did not have its expected result."""


@dataclass(frozen=True, slots=True)
class _Cast:
    """Ids of the rows of one play.

    Attributes:
        chat: The chat whose five steps are played.
        previous: An older chat that the operator answered last: not his while another waits.
        other: A newer chat of another user, which the operator should get the second time.
    """

    operator: UUID = field(default_factory=make_id)
    persona: UUID = field(default_factory=make_id)
    chat: UUID = field(default_factory=make_id)
    previous: UUID = field(default_factory=make_id)
    other: UUID = field(default_factory=make_id)
    users: tuple[UUID, ...] = field(default_factory=lambda: (make_id(), make_id(), make_id()))

    @property
    def chats(self) -> list[UUID]:
        """All of its chats."""
        return [self.chat, self.previous, self.other]

    def name(self, chat: UUID | None) -> str:
        """A chat in words."""
        return {
            None: "no chat",
            self.chat: "the same chat",
            self.previous: "a chat that this operator answered last",
            self.other: "another chat",
        }[chat]


@dataclass(frozen=True, slots=True)
class Play:
    """The result of a play.

    Attributes:
        checks: One per step, up to the first that failed.
        sequences: Sequences of the tables involved; they have advanced, which does not roll back.
    """

    checks: tuple[Check, ...]
    sequences: tuple[str, ...]


class Flow:
    """Plays the flow on one session.

    Args:
        session: Of a role that may write; see docs/verify.md.
        on_step: Called with the name of each step before it; tests stop there.
    """

    def __init__(
        self, session: Session, *, on_step: Callable[[str], None] = lambda _: None
    ) -> None:
        self._session = session
        self._on_step = on_step
        self._cast = _Cast()
        self._columns: dict[str, list[Column]] = {}

    def play(self) -> Play:
        """Play all steps until one fails, and undo them.

        Raises:
            FlowRefused: It cannot be played here.
            DatabaseUnavailable: The connection broke; the server undoes what was played.
        """
        acts = (self._write, self._ask, self._reply, self._ask_again, self._return)
        checks: list[Check] = []
        self._session.begin()
        try:
            sequences = self._refuse_or_list_sequences()
            self._make_people()
            for step, act in zip(STEPS, acts, strict=True):
                self._on_step(step)
                checks.append(_judge(step, act))
                if not checks[-1].ok:
                    break
            self._on_step("undo")
        finally:
            self._session.rollback()
        return Play(tuple(checks), sequences)

    def _refuse_or_list_sequences(self) -> tuple[str, ...]:
        """Refuse where it cannot work; return the sequences that it will advance."""
        (server,) = self._rows("server")
        role = server["role"]
        if server["in_recovery"]:
            raise FlowRefused("the server is a standby: the flow has to write, ask the primary")
        if server["is_read_only"]:
            raise FlowRefused(
                f"role {role} is read-only, as the watching role should be: give release_dsn, or "
                "--dsn-from with the name of a variable that holds the owner's connection string"
            )
        if server["missing"]:
            raise FlowRefused(f"{', '.join(server['missing'])} does not exist")
        barred = [*(server["barred"] or ()), *(server["unusable"] or ())]
        if server["may_assign"] is False:
            barred.append("EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid)")
        if barred:
            raise FlowRefused(f"role {role} may not play the flow, it lacks {', '.join(barred)}")
        blind = self._session.find_blindness(RELATIONS)
        if blind is not None:
            raise FlowRefused(blind)
        return tuple(server["sequences"] or ())

    def _make_people(self) -> None:
        """Add three users, a persona and an operator, with the accounts that they refer to."""
        for column in self._rows("columns"):
            self._columns.setdefault(column["role"], []).append(column)
        cast = self._cast
        accounts: dict[str, list[Column]] = {}
        for column in self._columns.get("accounts", ()):
            accounts.setdefault(column["relation"], []).append(column)
        tables = [(columns, (*cast.users, cast.operator)) for columns in accounts.values()]
        tables += [
            (self._columns["real_users"], cast.users),
            (self._columns["fictional_users"], (cast.persona,)),
            (self._columns["operators"], (cast.operator,)),
        ]
        for columns, people in tables:
            relation = columns[0]["relation"]
            try:
                for person in people:
                    self._insert(columns, describe_person(person))
            except (QueryFailed, UnknownColumn) as error:
                raise FlowRefused(
                    f"temporary rows could not be added: INSERT INTO {relation}: {error}"
                ) from error

    # The steps, each raising _Failed or QueryFailed where it goes wrong.

    def _write(self) -> str:
        cast = self._cast
        self._open_chat(cast.chat, cast.users[0], 1)
        return self._expect(cast.chat, _WAITING)

    def _ask(self) -> str:
        self._expect_choice(self._cast.chat, "the only chat of the flow")
        return self._expect(self._cast.chat, _ASSIGNED)

    def _reply(self) -> str:
        cast = self._cast
        values = {"chat": cast.chat, "operator": cast.operator}
        self._say(cast.chat, "fictional", cast.operator)
        for name in ("reply_chat", "reply_assignment", "reply_heartbeat"):
            self._rows(name, values)
        return self._expect(cast.chat, _ANSWERED)

    def _ask_again(self) -> str:
        cast = self._cast
        self._open_chat(cast.previous, cast.users[1], 0, cast.operator)
        self._open_chat(cast.other, cast.users[2], 2)
        self._expect_choice(cast.other, "another chat")
        self._expect(cast.chat, _ANSWERED)
        return f"another chat, {self._expect(cast.other, _ASSIGNED)}"

    def _return(self) -> str:
        cast = self._cast
        self._say(cast.chat, "real", None)
        if not self._rows("return", {"chat": cast.chat}):
            raise _Failed("the chat does not wait for its user any more")
        return self._expect(cast.chat, _WAITING)

    # Shared by the steps.

    def _open_chat(
        self, chat: UUID, user: UUID, days: int, last_operator: UUID | None = None
    ) -> None:
        """Let a user open a chat, and then write; fewer `days` are longer ago.

        It is older than any real one, so that the platform, which takes the oldest first, takes
        this one and never locks another. The state is left to the column's default.
        """
        known = {
            "id": str(chat),
            "real_user_id": str(user),
            "fictional_user_id": str(self._cast.persona),
            "created_at": f"0001-01-{days + 1:02} 00:00+00",
        }
        if last_operator is not None:
            known["last_operator_id"] = str(last_operator)
        self._insert(self._columns["chats"], known)
        self._say(chat, "real", None)

    def _say(self, chat: UUID, sender: str, operator: UUID | None) -> None:
        known = {
            "chat_id": str(chat),
            "sender_type": sender,
            "content": NAME,
            "handled_by_operator_id": None if operator is None else str(operator),
        }
        self._insert(self._columns["messages"], known)

    def _insert(self, columns: Sequence[Column], known: Mapping[str, str | None]) -> None:
        """Add one row."""
        self._session.rows(*build_insert(columns, known))

    def _expect_choice(self, wanted: UUID, expected: str) -> None:
        """Let the operator ask, and compare the chat given with the wanted one."""
        values = {"operator": self._cast.operator, "chats": self._cast.chats}
        try:
            (row,) = self._rows("ask", values)
        except QueryFailed as error:
            if "not ours" not in str(error):
                raise
            raise _Failed(
                "the platform gave a real user's chat, which was given back at once; "
                "expected the one that has waited longest"
            ) from error
        if row["chat"] != wanted:
            raise _Failed(f"the operator got {self._cast.name(row['chat'])}, expected {expected}")

    def _expect(self, chat: UUID, expected: Mapping[str, Any]) -> str:
        """Compare the chat with what it should be; return its state."""
        values = {"chat": chat, "operator": self._cast.operator}
        (row,) = self._rows("look", values)
        wrong = [
            f"{name} is {row[name]}, expected {value}"
            for name, value in expected.items()
            if row[name] != value
        ]
        if wrong:
            raise _Failed("; ".join(wrong))
        return str(row["chat_state"])

    def _rows(self, name: str, values: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        return self._session.rows(_SQL[name], values)


def _judge(step: str, act: Callable[[], str]) -> Check:
    """Run one step; what goes wrong in it is its verdict."""
    try:
        return Check("flow", step, True, act())
    except (_Failed, QueryFailed, UnknownColumn) as error:
        lacks_right = isinstance(error, QueryFailed) and error.reason is Reason.PERMISSION
        return Check("flow", step, False, str(error), "", _TODO_RIGHTS if lacks_right else _TODO)
