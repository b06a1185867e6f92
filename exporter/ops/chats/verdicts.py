"""What auto-release would do with each assigned chat, as `observe` decides it, without writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from exporter.catalogue import Need, Query
from exporter.catalogue.statement import parameter_names, statement_text
from exporter.database import Connection, Outcome, QueryRequest
from exporter.errors import DatabaseUnavailable
from exporter.ops.chats.lists import MOST_CHATS, TIMEOUT_S
from exporter.release.facts import Control, Evidence, Ledger, Scan, Surroundings, Trip
from exporter.release.guards import GUARDS
from exporter.release.plans import ReleasePlan
from exporter.release.policy import CyclePlan, Situation, judge, plan_cycle, would_close
from exporter.release.statements import RELATIONS, STATEMENTS

SILENT = "stuck:silent"
"""Reason of a chat that auto-release suspects; the gauge is `chatqueue_release_suspect_chats`."""

MOST_LEDGERS = 200
"""Suspects whose past releases are read; one statement each."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What auto-release would do with one chat.

    Attributes:
        decision: `release`, `requeue` (without the platform's function, which would close the
            chat), `held back`, `nothing` or `not known`.
        why: In words; empty where there is nothing to say.
        guard: The condition that holds it back, if one does.
    """

    decision: str
    why: str = ""
    guard: str = ""

    @property
    def words(self) -> str:
        """All of it in one line."""
        by = f" by {self.guard}" if self.guard else ""
        why = f": {self.why}" if self.why else ""
        return f"{self.decision}{by}{why}"


NOTHING = Verdict("nothing")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What auto-release sees.

    Attributes:
        by_chat: Of each assigned chat.
        seen_s: Seconds since its operator's latest sign of life.
        suspects: Chats that look stuck to it.
        problem: Why it is not known; empty where it is.
    """

    by_chat: Mapping[UUID, Verdict] = field(default_factory=dict)
    seen_s: Mapping[UUID, float] = field(default_factory=dict)
    suspects: frozenset[UUID] = frozenset()
    problem: str = ""

    def find(self, chat: UUID, state: str | None) -> Verdict:
        """Return the verdict on a chat; only an assigned one can be released."""
        found = self.by_chat.get(chat)
        if found is None and self.problem and state == "assigned":
            return Verdict("not known", self.problem)
        return found or NOTHING


def read_verdicts(connection: Connection, plan: ReleasePlan) -> Verdicts:
    """Return what auto-release would do now; a failure becomes a problem.

    Args:
        connection: Its own; it need not be able to write.
        plan: With the limits in force.
    """
    try:
        poll = connection.poll(_SCAN, tuple({n for r in _SCAN for n in r.query.needs}), {})
        outcomes = {outcome.query.name: outcome for outcome in poll.outcomes}
        for name in ("evidence", "surroundings", "server"):
            if outcomes[name].error is not None:
                return _unknown(plan, outcomes[name].error)
        scan = Scan(
            tuple(Evidence(**row) for row in outcomes["evidence"].rows),
            Surroundings(**outcomes["surroundings"].rows[0]),
        )
        has_schema = bool(outcomes["server"].rows[0]["has_schema"])
        return _judge_all(connection, plan, scan, has_schema, outcomes["control"])
    except DatabaseUnavailable as error:
        return _unknown(plan, error)


def _unknown(plan: ReleasePlan, error: object) -> Verdicts:
    """What cannot be judged; where auto-release is off, it does nothing all the same."""
    return Verdicts(problem="" if plan.limits.mode == "off" else str(error))


def _judge_all(
    connection: Connection, plan: ReleasePlan, scan: Scan, has_schema: bool, control: Outcome
) -> Verdicts:
    """Judge each assigned chat of a scan."""
    limits, now_s = plan.limits, scan.surroundings.now_s
    row = control.rows[0] if len(control.rows) == 1 else None
    cycle = plan_cycle(scan, Control.of(row) if row else None, limits, Trip(), plan.gap_s)
    seen_s = {chat.chat_id: chat.as_seen(limits.life).silence_s(now_s) for chat in scan.chats}
    suspects = frozenset(chat.chat_id for chat in cycle.suspects)
    if limits.mode == "off":
        verdicts = {chat.chat_id: Verdict("nothing", "auto-release is off") for chat in scan.chats}
        return Verdicts(verdicts, seen_s, suspects)
    problem = ""
    if has_schema and row is None:
        problem = f"the schema chatqueue cannot be read: {control.error or 'no control row'}"
    ledgers = {} if row is None else _read_ledgers(connection, cycle.suspects, plan)
    by_chat = {}
    for chat in scan.chats:
        if chat.chat_id not in suspects:
            by_chat[chat.chat_id] = _spare(chat)
        elif problem:
            by_chat[chat.chat_id] = Verdict("not known", problem)
        else:
            by_chat[chat.chat_id] = _judge(chat, cycle, plan, ledgers.get(chat.chat_id))
    return Verdicts(by_chat, seen_s, suspects)


def _spare(chat: Evidence) -> Verdict:
    """A chat that auto-release does not look at."""
    if chat.bar:
        return Verdict("held back", f"its assignment rows are for a person ({chat.bar})", "episode")
    return Verdict("nothing", "its operator shows signs of life")


def _judge(
    chat: Evidence, cycle: CyclePlan, plan: ReleasePlan, ledger: Ledger | str | None
) -> Verdict:
    """A suspect, held against every guard."""
    if cycle.mode == "off":
        return Verdict("nothing", "the control row caps auto-release to off")
    if isinstance(ledger, str) or (ledger is None and cycle.control is not None):
        return Verdict("not known", ledger or f"of more than {MOST_LEDGERS} suspects at once")
    situation = Situation(cycle.mode, chat, cycle.scan, cycle.control, ledger)
    refusal = judge(situation, plan.limits, GUARDS)
    if refusal is not None:
        return Verdict("held back", refusal.value, refusal.guard)
    return Verdict("requeue" if would_close(situation) else "release")


def _read_ledgers(
    connection: Connection, suspects: Sequence[Evidence], plan: ReleasePlan
) -> dict[UUID, Ledger | str]:
    """What our tables say of each suspect, or why they cannot be read."""
    asked = suspects[:MOST_LEDGERS]
    requests = [
        QueryRequest(
            _LEDGER,
            {
                "chat": chat.chat_id,
                "operator": chat.operator_id,
                "assignment": chat.assignment_id,
                "window_s": plan.limits.chat_window_s,
            },
        )
        for chat in asked
    ]
    if not requests:
        return {}
    poll = connection.poll(requests, _LEDGER.needs, {})
    return {
        chat.chat_id: str(outcome.error) if outcome.error else Ledger(**outcome.rows[0])
        for chat, outcome in zip(asked, poll.outcomes, strict=True)
    }


def _build_query(name: str, sql: str, *relations: str) -> Query:
    """A statement of the release, as something that a connection polls."""
    text = statement_text(f"chats, release {name}", sql)
    return Query(
        name=name,
        path=Path(f"{name}.sql"),
        sql=text,
        interval_s=TIMEOUT_S,
        timeout_s=TIMEOUT_S,
        max_age_s=None,
        needs=tuple(Need("relation", relation) for relation in relations),
        metrics=(),
        max_rows=MOST_CHATS,
        parameters=tuple(sorted(parameter_names(text))),
    )


_LEDGER = _build_query(
    "ledger", STATEMENTS["ledger"], "chatqueue.release_exemption", "chatqueue.release_audit"
)
_SCAN: tuple[QueryRequest, ...] = tuple(
    QueryRequest(query)
    for query in (
        _build_query("evidence", STATEMENTS["evidence"], *RELATIONS),
        _build_query("surroundings", STATEMENTS["surroundings"], *RELATIONS),
        _build_query("server", STATEMENTS["server"]),
        _build_query(
            "control",
            STATEMENTS["control"].replace("FOR UPDATE", ""),
            "chatqueue.release_control",
        ),
    )
)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain data."""
    return {"decision": verdict.decision, "guard": verdict.guard or None, "why": verdict.why}
