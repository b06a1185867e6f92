"""Users, operators and the platform's own job as a discrete-event model on a simulated clock.

Decides who does what and when, all from one seeded generator, and has the platform do it. The
platform's answer (which chat, still the operator's or not) decides how people go on.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from uuid import UUID

from exporter.demo.scenarios import Rhythm
from exporter.demo.world.cast import Conversation, Event, Operator
from exporter.demo.world.faults import FAULTS, build_fault
from exporter.demo.world.live import LivePlatform, PlatformDown
from exporter.demo.world.memory import MemoryPlatform
from exporter.demo.world.rows import OperatorRow

_BEAT_S = 30
_IDLE_DETECTOR_S = 60
_IDLE_TIMEOUT_S = 300
_FAULT_LASTS_S = 150


class World:
    """All people, and the queue of what they will do.

    Args:
        seed: Of every decision; the same seed and platform give the same events.
        operators: Those who work.
        rhythm: How they live; may be replaced at any time.
        spare: An operator off duty, whose id stands in faulty rows.

    Attributes:
        now: Simulated time of the last event, in seconds from 0.
        platform: Where it all happens; may be replaced at any time.
    """

    platform: MemoryPlatform | LivePlatform

    def __init__(
        self, seed: int, operators: Sequence[OperatorRow], rhythm: Rhythm, spare: UUID
    ) -> None:
        self.now = 0.0
        self.rhythm = rhythm
        self.operators: dict[UUID, Operator] = {}
        self.conversations: dict[UUID, Conversation] = {}
        self._random = random.Random(seed)
        self._spare = spare
        self._on_break: UUID | None = None  # one at a time, as the shift plan has it
        self._events: list[tuple[float, int, Event, Callable[..., None]]] = []
        self._numbers = itertools.count()
        self._faults = itertools.cycle(FAULTS)
        for row in operators:
            self.operators[row.id] = Operator(row.id, self._random.uniform(0.8, 1.3))
            self._plan(self._random.uniform(0, _BEAT_S), self._beat, row.id)
            self._plan(self._random.uniform(0, 30), self._look, row.id, 0)
            self._plan(self._random.expovariate(1 / 1800), self._start_break, row.id)
        self._plan(1, self._arrive)
        self._plan(_IDLE_DETECTOR_S, self._run_idle_detector)
        self._plan_fault()

    @property
    def next_at(self) -> float:
        """Simulated time of the next event."""
        return self._events[0][0]

    def step(self) -> Event:
        """Let the next event happen and return it.

        Raises:
            PlatformDown: The platform is away; the event has not happened and comes again.
        """
        at, number, event, act = heapq.heappop(self._events)
        self.now = max(self.now, at)
        try:
            if event.subject is None:
                act()
            elif not self._is_void(event.subject, event.turn):
                act(event.subject)
        except PlatformDown:
            heapq.heappush(self._events, (at, number, event, act))
            raise
        return event

    def vanish(self, count: int) -> None:
        """Let operators leave without a word: those with a chat first, others with their next."""
        able = [who for who in self.operators.values() if not who.away]
        for operator in sorted(able, key=lambda who: who.chat is None)[:count]:
            if operator.chat is None:
                operator.leaves_next = True
            else:
                operator.turn += 1
                self._go_away(operator)

    def change_rhythm(self, rhythm: Rhythm) -> None:
        """Live by another rhythm from now on; what is planned already happens."""
        self.rhythm = rhythm
        self._plan_fault()

    def _plan(
        self,
        after_s: float,
        act: Callable[..., None],
        subject: UUID | None = None,
        turn: int | None = None,
    ) -> None:
        """Let something happen to the subject later; with a turn, only if that is not over."""
        event = Event(act.__name__.strip("_"), subject, turn)
        heapq.heappush(self._events, (self.now + after_s, next(self._numbers), event, act))

    def _is_void(self, subject: UUID, turn: int | None) -> bool:
        one = self.operators.get(subject) or self.conversations.get(subject)
        return turn is not None and (one is None or one.turn != turn)

    # Users

    def _arrive(self) -> None:
        chat, user = self._make_id(), self._make_id()
        self.platform.start_chat(chat, user)
        mean_s = 60 / self.rhythm.chats_per_minute
        self._plan(self._random.expovariate(1 / mean_s), self._arrive)
        self.conversations[chat] = conversation = Conversation()
        self._plan_nudge(chat, conversation)

    def _plan_nudge(self, chat: UUID, conversation: Conversation) -> None:
        patience_s = self.rhythm.nudge_s * (1 + conversation.nudges / 2)
        after_s = 15 + self._random.expovariate(1 / patience_s)
        self._plan(after_s, self._nudge, chat, conversation.turn)

    def _nudge(self, chat: UUID) -> None:
        conversation = self.conversations[chat]
        if conversation.nudges >= self.rhythm.gives_up_after:
            return
        self.platform.write(chat, unnoticed=conversation.unnoticed)
        conversation.nudges += 1
        self._plan_nudge(chat, conversation)

    def _return(self, chat: UUID) -> None:
        conversation = self.conversations[chat]
        unnoticed = self._random.random() < self.rhythm.loses_return
        self.platform.write(chat, unnoticed=unnoticed)
        conversation.unnoticed = unnoticed
        conversation.turn += 1
        conversation.answered, conversation.nudges = False, 0
        self._plan_nudge(chat, conversation)

    def _close(self, chat: UUID) -> None:
        """An admin closes what has ended: the platform itself ends no conversation."""
        self.platform.close_chat(chat)
        del self.conversations[chat]

    # Operators

    def _look(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        if operator.away:
            return
        chat = self.platform.take(operator_id, same_chat_first=self.rhythm.same_chat_first)
        if chat is None:
            after_s = self._random.uniform(*self.rhythm.look_s)
            self._plan(after_s, self._look, operator_id, operator.turn)
            return
        self._take(operator, chat)

    def _take(self, operator: Operator, chat: UUID) -> None:
        operator.turn += 1
        operator.chat = chat
        self.conversations.setdefault(chat, Conversation()).held = True
        self._plan_end_of_turn(operator)

    def _plan_end_of_turn(self, operator: Operator) -> None:
        """Decide how this turn will end and when."""
        rhythm = self.rhythm
        chance = self._random.random()
        after_s = self._random.triangular(*rhythm.handle_s) * operator.pace
        if operator.leaves_next or chance < rhythm.vanishes:
            operator.leaves_next = False
            self._go_away(operator)
            return
        act = self._reply
        if chance > 1 - rhythm.hands_back:
            act = self._hand_back
        elif chance > 1 - rhythm.hands_back - rhythm.admin_takes:
            act = self._admin_takes
        # Half of a reply's time is enough to see that another operator should write it.
        after_s *= 1.0 if act == self._reply else 0.5
        self._plan(after_s, act, operator.id, operator.turn)

    def _reply(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        if operator.chat is None:
            return
        chat = operator.chat
        replied = self.platform.reply(chat, operator_id)
        self._leave_chat(operator)
        if not replied:
            return
        conversation = self.conversations[chat]
        conversation.turn += 1
        conversation.answered, conversation.unnoticed = True, False
        if self._random.random() < self.rhythm.returns:
            after_s = 5 + self._random.expovariate(1 / self.rhythm.return_s)
            self._plan(after_s, self._return, chat, conversation.turn)
        else:
            after_s = self._random.uniform(*self.rhythm.linger_s)
            self._plan(after_s, self._close, chat, conversation.turn)

    def _hand_back(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        if operator.chat is not None:
            self.platform.hand_back(operator.chat, operator_id)
            self._leave_chat(operator)

    def _admin_takes(self, operator_id: UUID) -> None:
        """An admin gives the chat to an operator who has none; if all have one, it is answered."""
        operator = self.operators[operator_id]
        if operator.chat is None:
            return
        free = [
            who
            for who in self.operators.values()
            if who.chat is None and not who.away and who.id != self._on_break
        ]
        if not free:
            self._reply(operator_id)
            return
        other, chat = self._random.choice(free), operator.chat
        moved = self.platform.reassign(chat, operator_id, other.id)
        self._leave_chat(operator)
        if moved:
            self._take(other, chat)

    def _leave_chat(self, operator: Operator) -> None:
        """Give up the chat and request the next one soon."""
        if operator.chat in self.conversations:
            self.conversations[operator.chat].held = False
        operator.chat = None
        operator.turn += 1
        if not operator.away:
            self._plan(self._random.uniform(1, 5), self._look, operator.id, operator.turn)

    def _go_away(self, operator: Operator) -> None:
        operator.away, operator.left_at = True, self.now
        operator.tab_open = self._random.random() < self.rhythm.leaves_tab
        if operator.tab_open and self.rhythm.page_times_out:
            self._plan(_IDLE_TIMEOUT_S, self._time_out, operator.id, operator.turn)
        self._plan(self._random.uniform(*self.rhythm.vanished_s), self._come_back, operator.id)

    def _time_out(self, operator_id: UUID) -> None:
        """The page itself gives back the chat of an operator who is idle for too long."""
        operator = self.operators[operator_id]
        if operator.away and operator.chat is not None:
            self._finish_chat(operator, self.platform.time_out(operator.chat, operator_id))

    def _finish_chat(self, operator: Operator, requeued: bool | None) -> None:
        """Give up the chat, which was closed where `requeued` is False."""
        chat = operator.chat
        self._leave_chat(operator)
        if requeued is False and chat is not None:
            self.conversations.pop(chat, None)

    def _come_back(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        operator.away = False
        act = self._look if operator.chat is None else self._reply
        self._plan(self._random.uniform(1, 20), act, operator_id, operator.turn)

    def _beat(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        if not operator.away:
            self.platform.beat(operator_id, operator.chat)
        elif operator.tab_open and operator.chat is not None:
            self.platform.beat(operator_id, operator.chat, idle_s=self.now - operator.left_at)
        self._plan(_BEAT_S, self._beat, operator_id)

    def _start_break(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        if operator.away or operator.chat is not None or self._on_break:
            self._plan(30, self._start_break, operator_id)
            return
        self.platform.set_available(operator_id, False)
        self._on_break = operator_id
        operator.turn += 1
        self._plan(self._random.uniform(180, 480), self._end_break, operator_id)

    def _end_break(self, operator_id: UUID) -> None:
        operator = self.operators[operator_id]
        self.platform.set_available(operator_id, True)
        self._on_break = None
        self._plan(1, self._look, operator_id, operator.turn)
        mean_s = self.rhythm.break_every_s
        self._plan(self._random.expovariate(1 / mean_s), self._start_break, operator_id)

    # The platform

    def _run_idle_detector(self) -> None:
        if self.rhythm.idle_detector:
            for released in self.platform.run_idle_detector():
                operator = self.operators.get(released.operator)
                if operator and operator.chat == released.chat:
                    self._finish_chat(operator, released.requeued)
        self._plan(_IDLE_DETECTOR_S, self._run_idle_detector)

    def _plan_fault(self) -> None:
        if self.rhythm.breaks_chat_every_s < float("inf"):
            self._plan(
                self._random.expovariate(1 / self.rhythm.breaks_chat_every_s), self._add_fault
            )

    def _add_fault(self) -> None:
        chat, user = self._make_id(), self._make_id()
        rows = build_fault(next(self._faults), chat, user, self._spare, self._make_id, self.now)
        self.platform.add_rows(rows)
        self.conversations[chat] = Conversation()
        self._plan(_FAULT_LASTS_S, self._remove_fault, chat)
        self._plan_fault()

    def _remove_fault(self, chat: UUID) -> None:
        self.platform.remove_fault(chat)
        self.conversations.pop(chat, None)

    def _make_id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)
