"""What goes on in the database at this moment, and which hours of the week are calm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from exporter.database.session import Session
from exporter.errors import DatabaseError
from exporter.preflight.lines import Line
from exporter.preflight.pending import SQL
from exporter.text import format_duration

Rows = Sequence[Mapping[str, Any]]
LONG_S = 60.0
LAG_S = 10.0
FEW_CONNECTIONS = 5
_TIMEOUT_S = 10.0
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_CALM_HOURS = 5
_HIDDEN = "GRANT pg_monitor TO the role, or look at pg_stat_activity as another"


def check_now(session: Session) -> tuple[Line, ...]:
    """Return one line for each question; one that cannot be asked is unknown."""
    return tuple(_ask(session, name, sql, judge) for name, sql, judge in QUESTIONS)


def _ask(session: Session, name: str, sql: str, judge: Callable[[str, Rows], Line]) -> Line:
    try:
        if blind := _find_blindness(session, sql):
            return Line("now", name, "unknown", blind, "ask with a role that sees every row")
        with session.reading(_TIMEOUT_S):
            return judge(name, session.rows(SQL[sql]))
    except DatabaseError as error:
        return Line("now", name, "unknown", str(error), "ask the database's owner")


def _find_blindness(session: Session, sql: str) -> str | None:
    """What hides rows that a question counts."""
    relations = {"work": ["public.chats"], "calm_hours": ["public.messages"]}.get(sql)
    if relations is None:
        return None
    with session.reading():
        return session.find_blindness(relations)


def judge_transactions(name: str, rows: Rows) -> Line:
    """Rows: `seconds` (NULL where hidden) and `state` of every other open transaction."""
    if any(row["seconds"] is None for row in rows):
        found = "other sessions' transactions are hidden from this role"
        return Line("now", name, "unknown", found, _HIDDEN)
    long = [row for row in rows if row["seconds"] >= LONG_S]
    if not long:
        return Line("now", name, "go", f"{len(rows)} open, none for longer than a minute")
    details = tuple(f"{_seconds(row['seconds'])}, {row['state']}" for row in long[:20])
    todo = "end them or wait: a migration's lock waits behind them, and everybody behind it"
    return Line("now", name, "no-go", f"{len(long)} open for over a minute", todo, details)


def judge_prepared(name: str, rows: Rows) -> Line:
    """Rows: `seconds` of every prepared transaction."""
    if not rows:
        return Line("now", name, "go", "none")
    oldest = _seconds(max(row["seconds"] for row in rows))
    todo = "commit or roll them back: they hold their locks whoever is connected"
    return Line("now", name, "no-go", f"{len(rows)}, the oldest for {oldest}", todo)


def judge_waits(name: str, rows: Rows) -> Line:
    """Rows: `relation` of every lock that is waited for."""
    if not rows:
        return Line("now", name, "go", "nobody waits for a lock")
    details = tuple(str(row["relation"] or "no table") for row in rows[:20])
    todo = "find out who holds them before anything else waits"
    return Line("now", name, "no-go", f"{len(rows)} sessions wait for a lock", todo, details)


def judge_replicas(name: str, rows: Rows) -> Line:
    """Rows: `name` and `lag_s` (NULL where hidden or idle), `is_hidden` of every replica."""
    if not rows:
        return Line("now", name, "go", "no replica")
    if any(row["is_hidden"] for row in rows):
        return Line("now", name, "unknown", "their lag is hidden from this role", _HIDDEN)
    worst = max(row["lag_s"] or 0.0 for row in rows)
    found = f"{len(rows)}, at most {_seconds(worst)} behind"
    if worst <= LAG_S:
        return Line("now", name, "go", found)
    return Line("now", name, "no-go", found, "wait until they have caught up")


def judge_connections(name: str, rows: Rows) -> Line:
    """Rows: one with `used` and `most`."""
    used, most = rows[0]["used"], rows[0]["most"]
    found = f"{used} of {most} are used"
    if most - used >= max(FEW_CONNECTIONS, most // 10):
        return Line("now", name, "go", found)
    return Line("now", name, "no-go", found, "end idle ones: a deployment needs some")


def judge_vacuum(name: str, rows: Rows) -> Line:
    """Rows: `relation` of every queue's table that is being vacuumed."""
    if not rows:
        return Line("now", name, "go", "no table of the queue is being vacuumed")
    details = tuple(str(row["relation"]) for row in rows)
    todo = "wait for its end: a migration's lock would cancel it, or wait for it"
    return Line("now", name, "no-go", f"{len(rows)} tables are being vacuumed", todo, details)


def judge_work(name: str, rows: Rows) -> Line:
    """Rows: one with `waiting` and `assigned`; both are told, neither forbids anything."""
    row = rows[0]
    found = f"{row['waiting']:,} chats have no operator, {row['assigned']:,} are assigned"
    return Line("now", name, "go", found)


def judge_sizes(name: str, rows: Rows) -> Line:
    """Rows: `relation` and `bytes`; how much is free is not to be seen by SQL."""
    details = tuple(f"{row['relation']}: {row['bytes'] / 1e6:,.0f} MB" for row in rows)
    total = sum(row["bytes"] for row in rows) / 1e6
    found = f"the queue's tables take {total:,.0f} MB; how much is free, SQL cannot say"
    todo = "see on the host or the dashboard: a table that is rewritten needs its size once more"
    return Line("now", name, "unknown", found, todo, details)


def judge_hours(name: str, rows: Rows) -> Line:
    """Rows: `day` (0 is Sunday), `hour` (UTC), `messages`, `is_now`; the calmest hour first."""
    if len(rows) < 7 * 24:
        found = "there are not two weeks of messages to tell by"
        return Line("now", name, "unknown", found, "ask those who know the shifts")
    calm = [f"{_DAYS[row['day']]} {row['hour']:02}:00 UTC" for row in rows[:_CALM_HOURS]]
    here = next(row for row in rows if row["is_now"])
    busier = sum(row["messages"] > here["messages"] for row in rows)
    found = f"{busier / len(rows):.0%} of all hours of the week are busier than this one"
    details = (f"the calmest: {', '.join(calm)}",)
    return Line("now", name, "go", found, details=details)


def _seconds(seconds: float) -> str:
    return format_duration(timedelta(seconds=float(seconds)), rounded=True)


QUESTIONS: tuple[tuple[str, str, Callable[[str, Rows], Line]], ...] = (
    ("transactions", "transactions", judge_transactions),
    ("prepared transactions", "prepared", judge_prepared),
    ("lock waits", "lock_waits", judge_waits),
    ("replicas", "replicas", judge_replicas),
    ("connections", "connections", judge_connections),
    ("vacuum", "vacuum", judge_vacuum),
    ("disk", "sizes", judge_sizes),
    ("people", "work", judge_work),
    ("hour", "calm_hours", judge_hours),
)
"""Name, statement and judgement of each question."""
