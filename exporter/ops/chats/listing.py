"""Which chats wait, are overdue, stuck, unanswered or invalid, and what auto-release would do."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from exporter.database import Connection, Poll, QueryRequest
from exporter.errors import ChatqueueError, DatabaseUnavailable
from exporter.ops.chats.lists import (
    MOST_CHATS,
    ChatList,
    choose_lists,
    is_meant,
    load_lists,
)
from exporter.ops.chats.verdicts import NOTHING, SILENT, Verdict, Verdicts, as_json, read_verdicts
from exporter.polling.plan import Plan
from exporter.release.plans import ReleasePlan

PROGRAM = "chatqueue-chats"
"""What the `application_name` of its connections begins with."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One listed chat.

    Attributes:
        chat_id: Which; of `invalid:time_…` it may be an operator's id, and then has no state.
        state: As the metrics name it; None where there is no such chat.
        reasons: Why it is listed: first those where something is wrong, `group:name`.
        age_s: True time in the state; None where no time says anything.
        unanswered_s: Since the first unanswered message of its user; None where none is owed.
        operator_id: Who has it.
        operator: The name; None where there is none, or names are not shown.
        seen_s: Since that operator's latest sign of life; None where unknown or not assigned.
        verdict: What auto-release would do.
    """

    chat_id: UUID
    state: str | None
    reasons: tuple[str, ...]
    age_s: float | None
    unanswered_s: float | None
    operator_id: UUID | None
    operator: str | None
    seen_s: float | None = None
    verdict: Verdict = NOTHING

    @property
    def is_trouble(self) -> bool:
        """Whether something is wrong, rather than only waiting."""
        return any(":" in reason for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which chats are wanted; an empty collection wants all."""

    states: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    def wants(self, chat: Chat) -> bool:
        """Return whether a chat is wanted."""
        names = {str(chat.operator_id), chat.operator}
        return (
            (not self.states or chat.state in self.states)
            and (not self.operators or not names.isdisjoint(self.operators))
            and any(not self.reasons or is_meant(r, self.reasons) for r in chat.reasons)
        )


EVERYTHING = Filters()


@dataclass(frozen=True, slots=True)
class Listing:
    """The chats of one database.

    Attributes:
        database: Name in the configuration.
        at: The database's time of the snapshot; None where it did not answer.
        chats: Oldest first.
        problems: Why the list may be incomplete, a text each.
        not_asked: Reasons that were not looked for, since it would read a big table whole.
    """

    database: str
    at: datetime | None
    chats: tuple[Chat, ...]
    problems: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()


def find_reasons(plan: Plan) -> tuple[str, ...]:
    """Return every reason that `Filters.reasons` may name whole, sorted."""
    names = {reason for each in load_lists(plan.queries) for reason in each.reasons}
    return tuple(sorted({*names, SILENT}))


def check_reasons(plan: Plan, reasons: Iterable[str]) -> None:
    """Check that each is a reason, a group or a name.

    Raises:
        ChatqueueError: Which one is none, and what there is.
    """
    known = find_reasons(plan)
    for reason in reasons:
        if not any(is_meant(each, (reason,)) for each in known):
            expected = sorted({*known, *(each.partition(":")[0] for each in known)})
            raise ChatqueueError(
                f"--reason {reason} is unknown, expected one of {', '.join(expected)}"
            )


def read_listing(
    plan: Plan,
    release_plan: ReleasePlan,
    filters: Filters = EVERYTHING,
    *,
    also: Collection[str] = (),
) -> Listing:
    """Ask one database once, on connections of its own that are closed afterwards.

    A failure leaves out what it concerns and is a problem of the listing.

    Args:
        plan: Of the database.
        release_plan: Likewise.
        filters: Which chats are wanted.
        also: Reasons to look for that are otherwise looked for only by name.
    """
    lists = load_lists(plan.queries)
    asked = choose_lists(lists, filters.reasons, also)
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s, program=PROGRAM)
    try:
        poll = connection.poll(
            [QueryRequest(each.query) for each in asked],
            tuple(dict.fromkeys(need for each in asked for need in each.query.needs)),
            {**plan.parameters, "chats_limit": MOST_CHATS},
        )
    except DatabaseUnavailable as error:
        problem = f"the database is unavailable: {error}"
        return Listing(plan.database, None, (), (problem,))
    finally:
        connection.close()
    verdicts = _ask_release(plan, release_plan)
    chats = [chat for chat in merge(poll, verdicts) if filters.wants(chat)]
    return Listing(
        plan.database,
        poll.began_at,
        tuple(sorted(chats, key=_sort_key)),
        tuple(_find_problems(poll)),
        () if filters.reasons else _find_not_asked(lists, asked),
    )


def _ask_release(plan: Plan, release_plan: ReleasePlan) -> Verdicts:
    """Ask as the releasing role, which sees our own tables; as the reader where it is off."""
    dsn = plan.dsn if release_plan.limits.mode == "off" else release_plan.dsn
    connection = Connection(dsn, connect_timeout_s=plan.connect_timeout_s, program=PROGRAM)
    try:
        return read_verdicts(connection, release_plan)
    finally:
        connection.close()


def merge(poll: Poll, verdicts: Verdicts) -> tuple[Chat, ...]:
    """Return each chat of a poll of lists once, with all its reasons; in no order."""
    chats: dict[UUID, Chat] = {}
    for outcome in poll.outcomes:
        for row in outcome.rows:
            chat = _read(row)
            before = chats.get(chat.chat_id, chat)
            chats[chat.chat_id] = replace(
                before,
                reasons=tuple(dict.fromkeys((*before.reasons, *chat.reasons))),
                age_s=chat.age_s if before.age_s is None else before.age_s,
                unanswered_s=(
                    chat.unanswered_s if before.unanswered_s is None else before.unanswered_s
                ),
            )
    return tuple(_add_verdict(chat, verdicts) for chat in chats.values())


def _read(row: Mapping[str, Any]) -> Chat:
    """A row of a list; an age that is no number is none."""
    ages = [row[name] for name in ("age_seconds", "unanswered_seconds")]
    age_s, unanswered_s = (a if a is not None and math.isfinite(a) else None for a in ages)
    return Chat(
        row["chat_id"],
        row["state"],
        tuple(row["reasons"]),
        age_s,
        unanswered_s,
        row["operator_id"],
        row["operator_name"],
    )


def _add_verdict(chat: Chat, verdicts: Verdicts) -> Chat:
    """The chat with what auto-release sees in it."""
    reasons = {*chat.reasons, *({SILENT} if chat.chat_id in verdicts.suspects else ())}
    return replace(
        chat,
        reasons=tuple(sorted(reasons, key=lambda reason: (":" not in reason, reason))),
        seen_s=verdicts.seen_s.get(chat.chat_id),
        verdict=verdicts.find(chat.chat_id, chat.state),
    )


def _sort_key(chat: Chat) -> tuple[float, str]:
    """Oldest first; without any age last."""
    age_s = chat.age_s if chat.age_s is not None else chat.unanswered_s
    return (math.inf if age_s is None else -age_s, str(chat.chat_id))


def _find_problems(poll: Poll) -> Iterable[str]:
    """What failed, and what was cut."""
    for outcome in poll.outcomes:
        if outcome.error is not None:
            yield f"{outcome.query.name}: {outcome.error.reason}: {outcome.error}"
        elif len(outcome.rows) >= MOST_CHATS:
            yield f"{outcome.query.name}: only the {MOST_CHATS:,} oldest were read"


def _find_not_asked(lists: Sequence[ChatList], asked: Collection[ChatList]) -> tuple[str, ...]:
    left = {reason for each in lists if each not in asked for reason in each.reasons}
    return tuple(sorted(left))


def build_document(listing: Listing, chats: Sequence[Chat]) -> dict[str, Any]:
    """Return a listing as plain data for scripts; docs/chats.md describes it.

    Args:
        listing: Of one database.
        chats: Those of it that are shown.
    """
    return {
        "database": listing.database,
        "at": None if listing.at is None else listing.at.isoformat(timespec="milliseconds"),
        "total": len(listing.chats),
        "problems": list(listing.problems),
        "not_asked": list(listing.not_asked),
        "chats": [
            {
                "chat": str(chat.chat_id),
                "state": chat.state,
                "reasons": list(chat.reasons),
                "age_seconds": chat.age_s,
                "unanswered_seconds": chat.unanswered_s,
                "operator": None if chat.operator_id is None else str(chat.operator_id),
                "operator_name": chat.operator,
                "seen_seconds": chat.seen_s,
                "auto_release": as_json(chat.verdict),
            }
            for chat in chats
        ],
    }
