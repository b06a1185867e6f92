"""One releaser per database: scan, confirm, try, report; poll after poll, and whatever goes wrong.

It decides nothing by itself: `policy` judges, `transaction` holds the locks. What it remembers
between polls is only what must start over after a restart anyway.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from uuid import UUID

import structlog

from exporter.database.session import CommitUnknown, Session
from exporter.errors import DatabaseError
from exporter.metrics.snapshot import Family, Labels
from exporter.notify.notices import Notice, Notifier, NullNotifier
from exporter.release.attempt import ReleaseRequest, Result, describe
from exporter.release.facts import Control, Decision, Evidence, Scan, Trip
from exporter.release.families import Gauges, build_release_families, read_gauges
from exporter.release.memory import Memory, Record
from exporter.release.notices import build_notice, build_trip_notice
from exporter.release.plans import ReleasePlan
from exporter.release.policy import CyclePlan, choose, plan_cycle
from exporter.release.state import ReleaseEvent, ReleaseState, build_state
from exporter.release.transaction import Engine
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.release")

STUCK_AFTER_S = 120.0
# A poll tries a bounded number of chats, each statement has its own limit: one takes seconds.
CYCLE_LIMIT_S = 600.0
_FUTURE_S = 60.0
_EVENTS_KEPT = 8


class Releaser(PeriodicThread[ReleasePlan]):
    """Hands stuck chats of one database back until stopped.

    Args:
        plan: What to do.
        daemon: Who this is, for the audit.
        notifier: Told after each commit.
        on_change: Called from the releaser's thread when the figures have changed.

    Attributes:
        families: The latest metrics.
        state: The latest state, for people.
    """

    def __init__(
        self,
        plan: ReleasePlan,
        *,
        daemon: str,
        notifier: Notifier | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(plan.database, plan, kind="releaser")
        self._daemon = daemon
        self._notifier = notifier or NullNotifier()
        self._on_change = on_change
        self._engine = self._new_engine(plan)
        self._memory = Memory()
        self._trip = Trip()
        self._is_trip_shared = False
        self._unsettled: list[Result] = []
        self._ahead: set[UUID] = set()
        self._counts: Counter[Decision] = Counter()
        self._last_release_s = 0.0
        self._last_cycle_s = 0.0
        self._mode = plan.limits.mode
        self._trouble = ""
        self._events: deque[ReleaseEvent] = deque(maxlen=_EVENTS_KEPT)
        self.state = ReleaseState()
        self.families: tuple[Family, ...] = ()
        self._publish(None)

    @property
    def labels(self) -> Labels:
        """Labels of every series, `database` first."""
        return (("database", self.name), *self._plan.labels)

    def request_stop(self) -> None:
        """Undo what is not committed, too."""
        super().request_stop()
        self._engine.session.abort()

    @property
    def stuck_after_s(self) -> float:
        """More than any statement may take, whatever the database does."""
        return STUCK_AFTER_S + self._plan.interval_s

    def is_alive(self) -> bool:
        """A cycle must come to its end, too, even one that takes a step now and then."""
        began_at = self._began_at
        is_endless = began_at is not None and self._monotonic() - began_at >= CYCLE_LIMIT_S
        return super().is_alive() and not is_endless

    def _run_once(self) -> float:
        """Poll once an interval."""
        due = self._monotonic() + self._plan.interval_s
        self.poll()
        return max(0.0, due - self._monotonic())

    def _on_defect(self) -> float:
        """A defect of ours releases nothing."""
        self._memory.reset_confirmations()
        self._count(Decision.DEFECT)
        log.exception("releaser failed", database=self.name)
        return self._plan.interval_s

    def _close(self) -> None:
        self._engine.session.close()

    def poll(self) -> None:
        """Scan once and do what is due."""
        if self._plan.limits.mode == "off":
            self._mode = "off"
            self._last_cycle_s = time.time()
            self._publish(None)
            return
        try:
            self._settle()
            scan, control = self._engine.scan()
        except DatabaseError as error:
            self._on_unavailable(error)
            return
        if self._trouble:
            log.info("releaser works again", database=self.name)
            self._trouble = ""
        limits = self._plan.limits
        plan = plan_cycle(scan, control, limits, self._trip, self._plan.gap_s)
        self._change_mode(plan)
        self._update_breaker(plan)
        self._warn_of_fast_clocks(scan)
        self._attempt_releases(plan)
        self._last_cycle_s = time.time()
        self._publish(read_gauges(plan, limits, tripped=self._is_tripped), plan.control)

    def _on_new_plan(self, old: ReleasePlan) -> None:
        """What was confirmed under the old plan starts over."""
        plan = self._plan
        if (plan.dsn, plan.connect_timeout_s, plan.limits) != (
            old.dsn,
            old.connect_timeout_s,
            old.limits,
        ):
            self._engine.session.close()
            self._engine = self._new_engine(plan)
            self._memory.reset_confirmations()
            self._memory.reset_answers()

    def _new_engine(self, plan: ReleasePlan) -> Engine:
        session = Session(
            plan.dsn, connect_timeout_s=plan.connect_timeout_s, on_step=self._note_step
        )
        return Engine(session, plan.limits, daemon=self._daemon)

    def _settle(self) -> None:
        """Find out what became of commits that went unanswered, before anything else is done."""
        while self._unsettled:
            settled = self._engine.settle(self._unsettled[0])
            self._unsettled.pop(0)
            self._report(settled)

    def _on_unavailable(self, error: DatabaseError) -> None:
        """Note that nothing could be seen: whatever was confirmed starts over."""
        self._memory.reset_confirmations()
        if self._stopping.is_set():
            return
        if str(error.reason) != self._trouble:
            self._trouble = str(error.reason)
            log.error(
                "releaser cannot look, nothing is released",
                database=self.name,
                reason=self._trouble,
                error=str(error),
            )
            self._count(Decision.ERROR)
        self._publish(None)

    @property
    def _is_tripped(self) -> bool:
        return self._trip.tripped_at_s is not None

    def _change_mode(self, plan: CyclePlan) -> None:
        """Put the cycle's mode into force, and log a change."""
        if plan.mode != self._mode:
            log.warning(
                "release mode changed",
                database=self.name,
                mode=plan.mode,
                configured=self._plan.limits.mode,
                cap=plan.control.mode_cap if plan.control is not None else "enforce",
                idle_releases=plan.scan.surroundings.idle_releases,
            )
            self._mode = plan.mode

    def _update_breaker(self, plan: CyclePlan) -> None:
        """Keep the breaker's memory: where we enforce, the database's, which all replicas share.

        A trip that could not be noted there yet is kept, and noted with the next scan.
        """
        shared = plan.control.trip if plan.control is not None else Trip()
        is_new = not self._is_tripped and shared.tripped_at_s is None
        self._trip = plan.trip
        if self._mode != "enforce":
            self._is_trip_shared = False
        elif self._is_tripped or shared.tripped_at_s is not None:
            try:
                is_news = self._is_tripped and not self._is_trip_shared
                gap_s = self._plan.gap_s
                self._trip = self._engine.note_breaker(plan.is_outage or is_news, gap_s)
                self._is_trip_shared = self._is_tripped
            except DatabaseError as error:
                log.error("breaker not noted", database=self.name, error=str(error))
        if self._is_tripped and is_new:
            suspects, assigned = len(plan.suspects), len(plan.scan.chats)
            log.error(
                "release breaker tripped",
                database=self.name,
                suspects=suspects,
                assigned=assigned,
            )
            self._notify(build_trip_notice(self.name, suspects, assigned, plan.hold_s))

    def _warn_of_fast_clocks(self, scan: Scan) -> None:
        """Log browsers whose clock is ahead, once each while it lasts."""
        now_s = scan.surroundings.now_s
        ahead = {
            chat.chat_id for chat in scan.chats if (chat.browser_beat_s or 0) > now_s + _FUTURE_S
        }
        for chat_id in ahead - self._ahead:
            log.warning("heartbeat from the future", database=self.name, chat=str(chat_id))
        self._ahead = ahead

    def _attempt_releases(self, plan: CyclePlan) -> None:
        """Try what is confirmed, within the caps of one poll."""
        limits, now_s = self._plan.limits, plan.scan.surroundings.now_s
        confirmed = self._memory.confirm(plan.suspects, now_s, limits, self._plan.gap_s)
        self._memory.keep({chat.assignment_id for chat in plan.scan.chats})
        if self._mode == "off":
            return
        left = self._memory.choose_attempts([c for c in confirmed if not self._is_answered(c)])
        released: Counter[str] = Counter()
        while True:
            chosen = choose(left, limits, released, released.total())
            if chosen is None or self._stopping.is_set() or self._unsettled:
                return
            left.remove(chosen)
            self._memory.of(chosen).tried_at_s = now_s
            request = ReleaseRequest(chosen, self._mode, tripped=self._is_tripped)
            result = self._engine.release(request)
            if result.outcome:
                released[str(chosen.operator_id)] += 1
            self._report(result)

    def _is_answered(self, chat: Evidence) -> bool:
        """Whether it was reported on this very evidence that the chat would be released."""
        seen = chat.as_seen(self._plan.limits.life)
        answer = self._memory.of(chat).answer
        return self._mode == "observe" and answer == (seen, Decision.WOULD_RELEASE)

    def _report(self, result: Result) -> None:
        """Count a result once, log it with its evidence, escalate, notify."""
        observed, decision = result.request.observed, result.decision
        if decision is Decision.UNKNOWN:
            self._unsettled.append(result)
        if decision is Decision.RELEASED:
            self._last_release_s = time.time()
        record = self._memory.of(observed)
        before, record.answer = record.answer, (observed.as_seen(self._plan.limits.life), decision)
        self._escalate(result, record)
        if before is not None and before[1] is decision and decision is not Decision.RELEASED:
            return
        self._count(decision)
        level = "error" if decision in (Decision.DEFECT, Decision.UNKNOWN) else "info"
        getattr(log, level)("release decided", database=self.name, **describe(result))
        if decision in (Decision.RELEASED, Decision.WOULD_RELEASE, Decision.DEFECT):
            self._note(decision, result)
            self._notify(build_notice(str(decision), self.name, result))

    def _escalate(self, result: Result, record: Record) -> None:
        """Hand a chat that only a person may help to one, once."""
        is_wanted = result.decision is Decision.WOULD_CLOSE or result.guard == "per_chat"
        if not is_wanted or result.request.mode != "enforce" or record.is_escalated:
            return
        try:
            is_first = self._engine.escalate(result)
        except CommitUnknown:
            is_first = True  # better reported twice than never
        except DatabaseError as error:
            log.error("escalation not noted", database=self.name, error=str(error))
            return
        record.is_escalated = True
        if is_first:
            self._count(Decision.ESCALATED)
            self._note(Decision.ESCALATED, result)
            log.warning("chat needs a human", database=self.name, **describe(result))
            self._notify(build_notice("escalated", self.name, result))

    def _notify(self, notice: Notice) -> None:
        """Pass a notice on; nothing that goes wrong there matters here."""
        try:
            self._notifier.notify(notice)
        except Exception:
            log.exception("notifier failed", database=self.name)

    def _count(self, decision: Decision) -> None:
        self._counts[decision] += 1

    def _note(self, decision: Decision, result: Result) -> None:
        """Keep what people are shown of the latest decisions: no id, and no database's words."""
        self._events.append(ReleaseEvent(time.time(), str(decision), result.outcome))

    def _publish(self, gauges: Gauges | None, control: Control | None = None) -> None:
        """Make the families the latest, by one assignment, and have the page rendered."""
        times_s = (self._last_release_s, self._last_cycle_s)
        self.families = build_release_families(self._mode, self._counts, times_s, gauges)
        configured = self._plan.limits.mode
        self.state = build_state(self._mode, configured, gauges, control, self._events)
        self._on_change()
