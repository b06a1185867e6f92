"""Reads the history of a platform page by page, each in a short read-only transaction.

No snapshot is held between two pages, so that neither a transaction pooler nor vacuum is affected
by how long the whole takes.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from exporter.database.session import Session
from exporter.database.settings import FRUGAL
from exporter.database.statements import load_statements
from exporter.errors import ChatqueueError
from exporter.ops.tune.episodes import Episode, Message, Writer
from exporter.release.policy import parse_max_reassignments

RELATIONS = (
    "public.chats",
    "public.chat_assignments",
    "public.operator_activity",
    "public.messages",
    "public.platform_config",
)
PAGE_ROWS = 1000
STATEMENT_TIMEOUT_S = 30.0

_SQL = load_statements(__package__, "sql")
_FIRST_ID = UUID(int=0)


class HistoryHidden(ChatqueueError):
    """This role does not see all rows that must be counted."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The part of the history that is read.

    Attributes:
        now_at: The database's clock when the reading began.
        since_at: Assignments that began after this are read.
        days: How much of that time there is history for, in days; above 0.
        without_time: Assignments without the time of their beginning, of any age.
        max_reassignments: Past turns at which the platform closes a chat; None where the platform
            itself cannot read its setting.
        limit_text: That setting as it stands, with its JSON type; empty where it is not set.
    """

    now_at: datetime.datetime
    since_at: datetime.datetime
    days: float
    without_time: int
    max_reassignments: int | None
    limit_text: str

    @property
    def now_s(self) -> float:
        """`now_at` in Unix seconds."""
        return self.now_at.timestamp()


@dataclass(slots=True)
class LeftOut:
    """Assignment rows of the time that are not counted as episodes.

    Attributes:
        admin_rows: Second rows of an admin's reassignment; they are no assignments.
        names_nobody: They name no chat or no operator.
        end_unknown: They have no end, yet the chat is no longer with that operator.
    """

    admin_rows: int = 0
    names_nobody: int = 0
    end_unknown: int = 0


def read_extent(session: Session, days: int) -> Extent:
    """Return the part of the history to read: the last `days`, or as many as there are.

    Raises:
        HistoryHidden: The role may not see all rows, or a relation is missing.
        DatabaseError: It cannot be read.
    """
    with _reading(session):
        blindness = session.find_blindness(RELATIONS)
        if blindness is not None:
            raise HistoryHidden(blindness)
        (row,) = session.rows(_SQL["extent"])
    now_at, first_at = row["now_at"], row["first_at"]
    since_at = now_at - datetime.timedelta(days=days)
    known_from = since_at if first_at is None else min(max(first_at, since_at), now_at)
    kind, text = row["limit_type"], row["limit_text"]
    return Extent(
        now_at=now_at,
        since_at=since_at,
        # Rates per day mean nothing on less than a minute of history.
        days=max((now_at - known_from) / datetime.timedelta(days=1), 1 / 1440),
        without_time=row["without_time"],
        max_reassignments=parse_max_reassignments(kind, text),
        limit_text=f"the JSON {kind} {text!r}" if kind else "",
    )


def read_episodes(
    session: Session,
    extent: Extent,
    left_out: LeftOut,
    *,
    shortest_s: float,
    on_progress: Callable[[float], None] = lambda _: None,
    page_rows: int = PAGE_ROWS,
) -> Iterator[Episode]:
    """Read every assignment of the extent, in the order of their beginning.

    Args:
        session: Any connection; between two pages no transaction is open.
        extent: Of `read_extent`.
        left_out: Counts the rows that are no episode.
        shortest_s: The shortest threshold; what is shorter comes without messages.
        on_progress: Called after each page with the part that is read, from 0 to 1.
        page_rows: Assignments per statement.

    Raises:
        DatabaseError: It cannot be read.
    """
    values: dict[str, Any] = {
        "now_at": extent.now_at,
        "after_at": extent.since_at,
        "after_id": _FIRST_ID,
        "rows": page_rows,
        "shortest_s": shortest_s,
    }
    whole = extent.now_at - extent.since_at
    while True:
        with _reading(session):
            rows = session.rows(_SQL["page"], values)
        for row in rows:
            episode = _build_episode(row, left_out)
            if episode is not None:
                yield episode
        if rows:
            values |= {"after_at": rows[-1]["assigned_at"], "after_id": rows[-1]["id"]}
            on_progress((values["after_at"] - extent.since_at) / whole)
        if len(rows) < page_rows:
            return


@contextlib.contextmanager
def _reading(session: Session) -> Iterator[None]:
    """A short transaction, which runs as gently as a poll's."""
    with session.reading(STATEMENT_TIMEOUT_S):
        session.rows(FRUGAL)
        yield


def _build_episode(row: Mapping[str, Any], left_out: LeftOut) -> Episode | None:
    """A row of page.sql as an episode; None where it is none."""
    if row["names_nobody"]:
        left_out.names_nobody += 1
        return None
    if row["is_second"]:
        left_out.admin_rows += 1
        return None
    messages = tuple(
        Message(at_s, Writer(writer))
        for at_s, writer in zip(row["times_s"] or (), row["writers"] or (), strict=True)
    )
    ended_s = row["ended_s"]
    answers_s = [message.at_s for message in messages if message.writer is Writer.HOLDER]
    if ended_s is None and not row["is_held"]:
        # An answer takes the chat from its operator, also where the row was left open then.
        if not answers_s:
            left_out.end_unknown += 1
            return None
        ended_s = answers_s[0]
    elif ended_s is not None and row["is_answered"] and not answers_s:
        # The row records that the operator wrote, even if the message is gone.
        messages = (*messages, Message(ended_s, Writer.HOLDER))
    return Episode(
        assigned_s=row["assigned_s"],
        ended_s=ended_s,
        owed=row["owed"],
        messages=messages,
        beat_s=row["beat_s"],
        past_turns=row["past_turns"],
    )
