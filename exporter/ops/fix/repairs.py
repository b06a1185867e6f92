"""What each repair requires, refuses and changes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from uuid import UUID

UNQUEUED = ("assigned", "waiting_real_user_reply", None)
"""States of a chat that can be missing from the queue; None is a state that was never set."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One chat as it is.

    Attributes:
        is_active: False or None for a chat that is over.
        chat_state: None where it was never set.
        assigned_operator_id: Who has it.
        has_assignment_time: Whether its assignment time is set.
        last_operator_id: Who had it last according to the chat.
        latest_operator_id: Who had it last according to its assignment rows; None without any.
        open_assignments: Rows without an end.
        heartbeats: Heartbeat rows of its holder, who has it or whose assignment is still open;
            those of earlier holders remain for ever and do not count.
        last_sender: `real` is the user, `fictional` an operator; None without a message.
        last_message_age_s: Since then.
        updated_age_s: Since anything was written to the chat itself.
        is_written_after_end: Whether the chat is over and its user wrote after that.
        is_user_active: False for a user who is blocked; None where that was not read.
    """

    is_active: bool | None
    chat_state: str | None
    assigned_operator_id: UUID | None
    has_assignment_time: bool
    last_operator_id: UUID | None
    latest_operator_id: UUID | None
    open_assignments: int
    heartbeats: int
    last_sender: str | None
    last_message_age_s: float | None
    updated_age_s: float | None
    is_written_after_end: bool | None = None
    is_user_active: bool | None = None

    @property
    def state(self) -> Mapping[str, str | int | bool | None]:
        """What a repair may change, as JSON takes it."""
        kept = ("is_active", "chat_state", "has_assignment_time", "open_assignments")
        fields = asdict(self)
        ids = {
            name: None if fields[name] is None else str(fields[name])
            for name in ("assigned_operator_id", "last_operator_id")
        }
        return MappingProxyType({**{name: fields[name] for name in kept}, **ids})


@dataclass(frozen=True, slots=True)
class Repair:
    """One kind of repair.

    Attributes:
        name: As in `chatqueue fix <name>` and in the audit.
        refuse: Why it would do harm or nothing, or None; given the chat and the grace in seconds.
        change: The chat afterwards.
        statements: Files of `sql/` that do it, the one that must touch exactly the chat last.
        reason: What it is good for, for the audit.
        version: Of our schema, which its audit needs.
        asks_user: Whether it is judged by the user's profile too.
    """

    name: str
    refuse: Callable[[Facts, float], str | None]
    change: Callable[[Facts], Facts]
    statements: tuple[str, ...]
    reason: str
    version: int = 2
    asks_user: bool = False


def refuse_last_operator(facts: Facts, _grace_s: float) -> str | None:
    """Return why the last operator is not to be set, or None."""
    if not facts.is_active:
        return "the chat is over: no operator will be given it"
    if facts.last_operator_id is not None:
        return f"the chat has a last operator, {facts.last_operator_id}"
    if facts.latest_operator_id is None:
        return "the chat was never assigned to an operator"
    if facts.assigned_operator_id not in (None, facts.latest_operator_id):
        return (
            f"operator {facts.assigned_operator_id} has the chat, but its latest assignment names "
            f"{facts.latest_operator_id}: find out which is right"
        )
    return None


def refuse_requeue(facts: Facts, grace_s: float) -> str | None:
    """Return why the chat is not to be put into the queue, or None.

    Missing from the queue is an active chat without an operator, whose user wrote last and whose
    state says neither that it waits nor that it is over. The application writes its steps in
    separate requests, so all that must have been so for the grace.
    """
    refusals = (
        (not facts.is_active, "the chat is over: see chatqueue fix reopen"),
        (facts.chat_state == "waiting_assignment", "the chat is in the queue"),
        (
            facts.chat_state not in UNQUEUED,
            f"the chat is {facts.chat_state}: a person must decide whether it continues",
        ),
        (
            facts.assigned_operator_id is not None,
            f"operator {facts.assigned_operator_id} has the chat: see chatqueue fix stuck",
        ),
        (facts.heartbeats > 0, "an operator's browser has the chat open"),
        (facts.last_sender is None, "the chat has no message"),
        (
            facts.last_sender != "real",
            "the last message is the operator's: the user does not wait for an answer",
        ),
        (
            min(facts.last_message_age_s or 0.0, facts.updated_age_s or 0.0) < grace_s,
            f"the chat was written to less than {grace_s:g} s ago and may yet come right by itself",
        ),
    )
    return next((reason for refuses, reason in refusals if refuses), None)


def refuse_reopen(facts: Facts, grace_s: float) -> str | None:
    """Return why the chat is not to be opened again, or None.

    A user and a persona have this one chat for ever: a user who writes after its end is led back to
    it each time and never answered.
    """
    refusals = (
        (bool(facts.is_active), "the chat is not over"),
        (facts.last_sender is None, "the chat has no message"),
        (
            facts.last_sender != "real" or not facts.is_written_after_end,
            "its user has not written since the chat ended",
        ),
        (facts.is_user_active is False, "its user is blocked"),
        (
            facts.assigned_operator_id is not None,
            f"the chat is over and operator {facts.assigned_operator_id} has it: find out why",
        ),
        (
            (facts.last_message_age_s or 0.0) < grace_s,
            f"the user wrote less than {grace_s:g} s ago and the chat may yet be opened by itself",
        ),
    )
    return next((reason for refuses, reason in refusals if refuses), None)


LAST_OPERATOR = Repair(
    "last-operator",
    refuse_last_operator,
    lambda facts: replace(facts, last_operator_id=facts.latest_operator_id),
    ("last_operator",),
    "the last operator was not set",
)
REQUEUE = Repair(
    "requeue",
    refuse_requeue,
    lambda facts: replace(
        facts, chat_state="waiting_assignment", has_assignment_time=False, open_assignments=0
    ),
    ("requeue_assignments", "requeue_chat"),
    "the user wrote last and the chat was not in the queue",
)
REOPEN = Repair(
    "reopen",
    refuse_reopen,
    lambda facts: replace(
        facts,
        is_active=True,
        chat_state="waiting_assignment",
        has_assignment_time=False,
        open_assignments=0,
    ),
    ("requeue_assignments", "reopen_chat"),
    "the user wrote after the chat's end",
    version=3,
    asks_user=True,
)
