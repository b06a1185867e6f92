"""One releaser a database: look, confirm, order, tell; poll after poll, and whatever goes wrong.

It decides nothing by itself: `policy` judges, `engine` holds the locks. What it remembers between
polls is only what must start over after a restart anyway.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import structlog

from exporter.database.session import CommitUnknown, Session
from exporter.errors import DatabaseError
from exporter.metrics.snapshot import Family, Labels
from exporter.notify.notices import Notice, Notifier, NullNotifier
from exporter.release.confirm import Confirmations
from exporter.release.facts import Control, Decision, Evidence, Look, Trip
from exporter.release.families import Gauges, build_release_families
from exporter.release.notices import build_notice, build_trip_notice
from exporter.release.orders import Order, Result, describe
from exporter.release.plans import ReleasePlan
from exporter.release.policy import (
    choose,
    count_tokens,
    effective_mode,
    find_suspects,
    is_outage,
    next_trip,
    read_max_reassignments,
)
from exporter.release.transaction import Engine
from exporter.release.turns import Turns
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.release")

STUCK_AFTER_S = 120.0
# A poll tries a bounded number of chats, each statement has its own limit: one takes seconds.
CYCLE_LIMIT_S = 600.0
# In observe there is nothing in the database that a person could resume.
OBSERVED_HOLD_S = 600.0
_FUTURE_S = 60.0


class Releaser(PeriodicThread[ReleasePlan]):
    """Hands stuck chats of one database back until stopped.

    Args:
        plan: What to do.
        daemon: Who this is, for the audit.
        notifier: Told after each commit.
        on_change: Called from the releaser's thread when the figures have changed.
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
        self._confirmations = Confirmations()
        self._trip = Trip()
        self._is_trip_shared = False
        self._unsettled: list[Result] = []
        self._answers: dict[UUID | None, tuple[Evidence, Decision]] = {}
        self._escalated: set[UUID | None] = set()
        self._turns = Turns()
        self._skewed: set[UUID] = set()
        self._counts: Counter[Decision] = Counter()
        self._last_release_s = 0.0
        self._last_cycle_s = 0.0
        self._mode = plan.limits.mode
        self._trouble = ""
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
        self._confirmations.reset()
        self._count(Decision.DEFECT)
        log.exception("releaser failed", database=self.name)
        return self._plan.interval_s

    def _close(self) -> None:
        self._engine.session.close()

    def poll(self) -> None:
        """Look once and do what is due."""
        if self._plan.limits.mode == "off":
            self._mode = "off"
            self._last_cycle_s = time.time()
            self._publish(None)
            return
        try:
            self._settle()
            look, control = self._engine.scan()
        except DatabaseError as error:
            self._on_unavailable(error)
            return
        if self._trouble:
            log.info("releaser works again", database=self.name)
            self._trouble = ""
        self._act(look, control)
        self._last_cycle_s = time.time()
        self._publish(self._gauges(look, control))

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
            self._confirmations.reset()
            self._answers.clear()

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
            self._tell(settled)

    def _on_unavailable(self, error: DatabaseError) -> None:
        """Note that nothing could be seen: whatever was confirmed starts over."""
        self._confirmations.reset()
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

    def _act(self, look: Look, control: Control | None) -> None:
        """Confirm, and order what is confirmed, within the caps of one poll."""
        limits, now_s = self._plan.limits, look.surroundings.now_s
        self._change_mode(look, control)
        self._mind_breaker(look, control)
        self._mind_clocks(look)
        suspects = find_suspects(look, limits)
        confirmed = self._confirmations.confirm(suspects, now_s, limits, self._plan.gap_s)
        known = {chat.assignment_id for chat in look.chats}
        self._answers = {key: value for key, value in self._answers.items() if key in known}
        self._escalated &= known
        self._turns.forget_others(known)
        if self._mode == "off":
            return
        left = self._turns.next([c for c in confirmed if not self._is_answered(c)])
        released: Counter[str] = Counter()
        while True:
            chosen = choose(left, limits, released, released.total())
            if chosen is None or self._stopping.is_set() or self._unsettled:
                return
            left.remove(chosen)
            self._turns.note(chosen, now_s)
            tripped = self._trip.tripped_at_s is not None
            result = self._engine.release(Order(chosen, self._mode, tripped=tripped))
            if result.outcome:
                released[str(chosen.operator_id)] += 1
            self._tell(result)

    def _is_answered(self, chat: Evidence) -> bool:
        """Whether it was said of this very evidence that it would be released."""
        seen = chat.as_seen(self._plan.limits.life)
        return self._answers.get(chat.assignment_id) == (seen, Decision.WOULD_RELEASE) and (
            self._mode == "observe"
        )

    def _change_mode(self, look: Look, control: Control | None) -> None:
        """Find the mode in force, and say when it changes."""
        idle = look.surroundings.idle_releases
        cap = control.mode_cap if control is not None else "enforce"
        mode = effective_mode(self._plan.limits, cap, idle)
        if mode != self._mode:
            log.warning(
                "release mode changed",
                database=self.name,
                mode=mode,
                configured=self._plan.limits.mode,
                cap=cap,
                idle_releases=idle,
            )
            self._mode = mode

    def _mind_breaker(self, look: Look, control: Control | None) -> None:
        """Keep the breaker's memory: where we enforce, the database's, which all replicas share.

        A trip that could not be noted there yet is kept, and noted with the next look.
        """
        outage, before = is_outage(look, self._plan.limits), self._trip
        hold_s, gap_s = self._plan.limits.breaker_hold_s, self._plan.gap_s
        if self._mode != "enforce":
            self._is_trip_shared, hold_s = False, min(hold_s, OBSERVED_HOLD_S)
        self._trip = next_trip(before, outage, look.surroundings.now_s, hold_s, gap_s)
        shared = control.trip if control is not None else Trip()
        is_tripped = self._trip.tripped_at_s is not None
        if self._mode == "enforce" and (is_tripped or shared.tripped_at_s is not None):
            try:
                is_news = is_tripped and not self._is_trip_shared
                self._trip = self._engine.note_breaker(outage or is_news, gap_s)
                self._is_trip_shared = self._trip.tripped_at_s is not None
            except DatabaseError as error:
                log.error("breaker not noted", database=self.name, error=str(error))
        is_new = before.tripped_at_s is None and shared.tripped_at_s is None
        if self._trip.tripped_at_s is not None and is_new:
            suspects, assigned = len(find_suspects(look, self._plan.limits)), len(look.chats)
            log.error(
                "release breaker tripped",
                database=self.name,
                suspects=suspects,
                assigned=assigned,
            )
            self._notify(build_trip_notice(self.name, suspects, assigned, hold_s))

    def _mind_clocks(self, look: Look) -> None:
        """Report browsers whose clock is ahead, once each while it lasts."""
        now_s = look.surroundings.now_s
        ahead = {
            chat.chat_id for chat in look.chats if (chat.browser_beat_s or 0) > now_s + _FUTURE_S
        }
        for chat_id in ahead - self._skewed:
            log.warning("heartbeat from the future", database=self.name, chat=str(chat_id))
        self._skewed = ahead

    def _tell(self, result: Result) -> None:
        """Count a result once, log it with its evidence, escalate, notify."""
        observed, decision = result.order.observed, result.decision
        if decision is Decision.UNKNOWN:
            self._unsettled.append(result)
        if decision is Decision.RELEASED:
            self._last_release_s = time.time()
        answer = (observed.as_seen(self._plan.limits.life), decision)
        previous = self._answers.get(observed.assignment_id)
        self._answers[observed.assignment_id] = answer
        self._maybe_escalate(result)
        if previous is not None and previous[1] is decision and decision is not Decision.RELEASED:
            return
        self._count(decision)
        level = "error" if decision in (Decision.DEFECT, Decision.UNKNOWN) else "info"
        getattr(log, level)("release decided", database=self.name, **describe(result))
        if decision in (Decision.RELEASED, Decision.WOULD_RELEASE, Decision.DEFECT):
            self._notify(build_notice(str(decision), self.name, result))

    def _maybe_escalate(self, result: Result) -> None:
        """Hand a chat that only a human may help to one, once."""
        wanted = result.decision is Decision.WOULD_CLOSE or result.guard == "per_chat"
        key = result.order.observed.assignment_id
        if not wanted or result.order.mode != "enforce" or key in self._escalated:
            return
        try:
            is_first = self._engine.escalate(result)
        except CommitUnknown:
            is_first = True  # better told twice than never
        except DatabaseError as error:
            log.error("escalation not noted", database=self.name, error=str(error))
            return
        self._escalated.add(key)
        if is_first:
            self._count(Decision.ESCALATED)
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

    def _gauges(self, look: Look, control: Control | None) -> Gauges:
        """The latest look in figures."""
        limits, now_s = self._plan.limits, look.surroundings.now_s
        suspects = find_suspects(look, limits)
        most = read_max_reassignments(look.surroundings)
        tripped = self._trip.tripped_at_s is not None
        paused = tokens = None
        if control is not None:
            paused = (control.paused_until_s or 0) > control.now_s
            tokens = count_tokens(control, now_s, limits)
            tripped = tripped or control.trip.tripped_at_s is not None
        closing = sum(most is not None and chat.past_turns >= most for chat in suspects)
        barred = Counter(chat.bar for chat in look.chats if chat.bar)
        return Gauges(len(suspects), closing, tripped, paused, tokens, barred)

    def _publish(self, gauges: Gauges | None) -> None:
        """Make the figures the latest, by one assignment, and say so."""
        times_s = (self._last_release_s, self._last_cycle_s)
        self.families = build_release_families(self._mode, self._counts, times_s, gauges)
        self._on_change()
