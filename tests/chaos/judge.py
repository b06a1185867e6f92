"""What the history says of the releases: every breach of an invariant, in a sentence.

Nothing a daemon says of itself counts, but for one thing: which of the run's configurations it
judged by is read from the audit row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from exporter.release.facts import Limits

OBSERVER = "chaos_observer"
DAEMONS = "chaos_daemon_"
HISTORY = Path(__file__).with_name("history.sql")
# Confirming takes two or three seconds; a busy machine and dozens of such chats take longer.
DUE_S = 60.0
# Between the judgement and the history's entry people go on: some chats more or fewer.
_MARGIN_CHATS = 5
_MARGIN_S = 1.0
# Clocks of two statements of one transaction.
_CLOCK_S = 0.1

Connection = psycopg.Connection[Any]
Check = Callable[[Connection, Mapping[str, Limits]], Iterator[str]]


def install_history(connection: Connection) -> None:
    """Put the triggers on the platform and on our schema; needs `track_commit_timestamp`."""
    connection.execute(HISTORY.read_bytes())


def mark(
    connection: Connection, kind: str, chat: object = None, value: float | None = None
) -> None:
    """Note what the course does from outside."""
    connection.execute(
        "INSERT INTO chaos.mark (kind, chat_id, value) VALUES (%s, %s, %s)", [kind, chat, value]
    )


def find_breaches(connection: Connection, limits: Mapping[str, Limits]) -> dict[str, list[str]]:
    """Return what is wrong, by invariant; empty where nothing is.

    Args:
        connection: To the database with the history.
        limits: Every configuration of the run by its hash; they may differ in the breaker and in
            `on_would_close` alone.
    """
    found = {name: list(check(connection, limits)) for name, check in CHECKS.items()}
    return {name: breaches for name, breaches in found.items() if breaches}


def _ask(
    connection: Connection, query: str, limits: Mapping[str, Limits], **values: Any
) -> list[tuple[Any, ...]]:
    """Rows of a query that may name the limits common to all configurations."""
    one = next(iter(limits.values()))
    named = {
        "stuck_s": one.stuck_after_s,
        "confirm_s": one.confirm_for_s,
        "cooldown_s": one.cooldown_s,
        "window_s": one.chat_window_s,
        "most": one.chat_releases,
        "silence_s": one.sensor_silence_s,
    }
    return connection.execute(query.encode(), {**named, **values}).fetchall()


def _closed(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for chat, who in _ask(
        connection,
        """
        SELECT c.chat_id, c.who FROM chaos.change AS c
        WHERE (c.state = 'completed' OR (c.was_active AND NOT c.is_active))
          AND (c.who LIKE %(daemons)s OR c.xid IN (SELECT xid FROM chaos.release)
               OR c.xid IN (SELECT xid FROM chaos.closing WHERE reason LIKE 'auto_release:%%'))
        """,
        limits,
        daemons=f"{DAEMONS}%",
    ):
        yield f"chat {chat} was closed by {who}"


def _alive(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    """By commits: from the locks on, nobody's sign of life can be committed before the release."""
    for chat, what, age in _ask(
        connection,
        """
        SELECT r.chat_id, s.what, r.at - s.sign
        FROM chaos.release AS r
        JOIN chaos.sign AS s ON s.chat_id = r.chat_id AND s.operator_id = r.operator_id
        WHERE r.outcome <> 'escalated'
          AND s.seq >= (SELECT min(b.seq) FROM chaos.sign AS b
                        WHERE b.assignment_id = r.assignment_id)
          AND pg_xact_commit_timestamp(s.xid::xid) < pg_xact_commit_timestamp(r.xid::xid)
          AND s.sign > r.at - make_interval(secs => %(stuck_s)s)
        """,
        limits,
    ):
        yield f"chat {chat} was released {age} after a sign of life ({what})"


def _unaudited(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for audit, closing in _ask(
        connection,
        """
        SELECT r.id, c.assignment_id
        FROM (SELECT * FROM chaos.release WHERE outcome <> 'escalated') AS r
        FULL JOIN (SELECT * FROM chaos.closing WHERE reason LIKE 'auto_release:%%') AS c
          ON c.reason = 'auto_release:' || r.id AND c.xid = r.xid
        WHERE r.id IS NULL OR c.assignment_id IS NULL
        """,
        limits,
    ):
        yield f"audit row {audit} has release {closing}, expected one of each"
    for table, row in _ask(
        connection,
        """
        SELECT 'release_audit', coalesce(a.id, r.id)
        FROM chatqueue.release_audit AS a FULL JOIN chaos.release AS r ON r.id = a.id
        WHERE a.id IS NULL OR r.id IS NULL
        UNION ALL
        SELECT 'chat_assignments', coalesce(a.id, c.assignment_id)
        FROM (SELECT id FROM public.chat_assignments WHERE release_reason LIKE 'auto_release:%%')
            AS a
        FULL JOIN (SELECT assignment_id FROM chaos.closing WHERE reason LIKE 'auto_release:%%')
            AS c ON c.assignment_id = a.id
        WHERE a.id IS NULL OR c.assignment_id IS NULL
        """,
        limits,
    ):
        yield f"{table} {row} and the history disagree"


def _repeated(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for chat, apart in _ask(
        connection,
        """
        SELECT b.chat_id, b.at - a.at
        FROM chaos.release AS a
        JOIN chaos.release AS b
          ON b.seq > a.seq AND (b.assignment_id = a.assignment_id OR (
              b.chat_id = a.chat_id
              AND b.at - a.at < make_interval(secs => %(cooldown_s)s - %(clock_s)s)))
        WHERE a.outcome <> 'escalated' AND b.outcome <> 'escalated'
        """,
        limits,
        clock_s=_CLOCK_S,
    ):
        yield f"chat {chat} was released twice, {apart} apart"
    for chat, count in _ask(
        connection,
        """
        SELECT r.chat_id, count(*)
        FROM chaos.release AS r
        JOIN chaos.release AS b ON b.chat_id = r.chat_id AND b.outcome <> 'escalated'
          AND b.seq <= r.seq
          AND b.at > r.at - make_interval(secs => %(window_s)s - %(clock_s)s)
        WHERE r.outcome <> 'escalated'
        GROUP BY r.chat_id, r.seq
        HAVING count(*) > %(most)s
        """,
        limits,
        clock_s=_CLOCK_S,
    ):
        yield f"chat {chat} was released {count} times within the window"


def _paused(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for chat, late in _ask(
        connection,
        """
        WITH marks AS (
            SELECT
                kind,
                pg_xact_commit_timestamp(xid::xid) AS since,
                lead(pg_xact_commit_timestamp(xid::xid), 1, 'infinity') OVER (ORDER BY seq) AS until
            FROM chaos.mark WHERE kind IN ('paused', 'resuming')
        )
        SELECT r.chat_id, pg_xact_commit_timestamp(r.xid::xid) - m.since
        FROM marks AS m
        JOIN chaos.release AS r
          ON pg_xact_commit_timestamp(r.xid::xid) > m.since
          AND pg_xact_commit_timestamp(r.xid::xid) < m.until
        WHERE m.kind = 'paused' AND r.outcome <> 'escalated'
        """,
        limits,
    ):
        yield f"chat {chat} was released {late} after pause had returned"


def _too_many(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    """Fill and empty a bucket of our own, by what happened and by the clock."""
    one = next(iter(limits.values()))
    per_s = one.rate_per_hour / 3600
    level, last_s = one.burst, 0.0
    for now_s, refill_s, chat, _ in _ask(
        connection,
        """
        SELECT extract(EPOCH FROM at)::float8, 0::float8, chat_id, seq
        FROM chaos.release WHERE outcome <> 'escalated'
        UNION ALL
        SELECT extract(EPOCH FROM at)::float8, value, NULL, seq
        FROM chaos.mark WHERE kind = 'refill'
        ORDER BY seq
        """,
        limits,
    ):
        level = min(one.burst, level + (now_s - last_s + refill_s) * per_s)
        last_s = now_s
        if chat is not None:
            level -= 1
            if level < -_CLOCK_S:
                yield f"chat {chat} was released with {level:.2f} tokens left"


def _held(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for chat, is_tripped, assigned, silences, config_hash, is_heard in _ask(
        connection,
        """
        SELECT r.chat_id, r.is_tripped, r.assigned, r.silences, r.config_hash, EXISTS (
            SELECT FROM chaos.sign AS s
            WHERE s.beat > r.at - make_interval(secs => %(silence_s)s + %(margin_s)s)
              AND s.seq < r.seq AND pg_visible_in_snapshot(s.xid, r.snapshot))
        FROM chaos.release AS r WHERE r.outcome <> 'escalated'
        """,
        limits,
        margin_s=_MARGIN_S,
    ):
        if is_tripped:
            yield f"chat {chat} was released while the breaker stood"
        if not is_heard and assigned >= 2 + _MARGIN_CHATS:
            yield f"chat {chat} was released though nobody had beaten"
        rules = limits.get(config_hash)
        if rules is None:
            yield f"chat {chat} was released by an unknown configuration {config_hash}"
            continue
        suspects = sum(silence_s > rules.stuck_after_s + _MARGIN_S for silence_s in silences)
        suspects -= _MARGIN_CHATS
        if suspects >= rules.breaker_at_least and suspects > rules.breaker_share * (
            assigned + _MARGIN_CHATS
        ):
            yield f"chat {chat} was released with {suspects} of {assigned} chats silent"


def _observed(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for table in ("sign", "closing", "change", "control", "release"):
        for (count,) in _ask(
            connection,
            f"SELECT count(*) FROM chaos.{table} WHERE who = %(who)s HAVING count(*) > 0",
            limits,
            who=OBSERVER,
        ):
            yield f"the daemon that observes wrote {count} times ({table})"


def _another(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    for chat, closed, changed in _ask(
        connection,
        """
        SELECT r.chat_id, c.closed, h.changed
        FROM chaos.release AS r
        CROSS JOIN LATERAL (
            SELECT array_agg(k.assignment_id) AS closed
            FROM chaos.closing AS k WHERE k.xid = r.xid
        ) AS c
        CROSS JOIN LATERAL (
            SELECT array_agg((g.chat_id, g.state, g.old_operator, g.new_operator)::text) AS changed
            FROM chaos.change AS g WHERE g.xid = r.xid
        ) AS h
        WHERE r.outcome <> 'escalated' AND (
            c.closed IS DISTINCT FROM ARRAY[r.assignment_id]
            OR h.changed IS DISTINCT FROM
                ARRAY[(r.chat_id, 'waiting_assignment', r.operator_id, NULL)::text])
        """,
        limits,
    ):
        yield f"the release of chat {chat} closed {closed} and changed {changed}"
    for chat, what, age in _ask(
        connection,
        """
        SELECT r.chat_id, s.what, r.at - s.at
        FROM chaos.release AS r
        JOIN chaos.sign AS s ON s.chat_id = r.chat_id AND s.operator_id = r.operator_id
        WHERE r.outcome <> 'escalated'
          AND s.at > r.at - make_interval(secs => %(confirm_s)s)
          AND s.seq < r.seq
          AND pg_visible_in_snapshot(s.xid, r.snapshot)
        """,
        limits,
    ):
        yield f"chat {chat} was released {age} after a change ({what}), too soon to be confirmed"


def _overdue(connection: Connection, limits: Mapping[str, Limits]) -> Iterator[str]:
    # Whoever marked it had seen no release for a minute; one that was under way then is one, too.
    for (chat,) in _ask(
        connection,
        """
        SELECT m.chat_id FROM chaos.mark AS m
        WHERE m.kind = 'due' AND NOT EXISTS (
            SELECT FROM chaos.release AS r
            WHERE r.chat_id = m.chat_id AND r.outcome <> 'escalated'
              AND r.at > m.at - interval '1 minute'
              AND pg_xact_commit_timestamp(r.xid::xid) < m.at + make_interval(secs => %(due_s)s))
        """,
        limits,
        due_s=DUE_S,
    ):
        yield f"chat {chat} is stuck and was not released within {DUE_S:g} s"


CHECKS: Mapping[str, Check] = {
    "I1": _closed,
    "I2": _alive,
    "I3": _unaudited,
    "I4": _repeated,
    "I5": _paused,
    "I6": _too_many,
    "I7": _held,
    "I8": _observed,
    "I9": _another,
    "I10": _overdue,
}
