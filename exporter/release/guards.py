"""The conditions of a release, one function each, in the order in which they refuse."""

from __future__ import annotations

import math
from types import MappingProxyType

from exporter.release.facts import Decision, Limits
from exporter.release.policy import (
    NO_SCHEMA,
    Finding,
    Guard,
    Situation,
    count_tokens,
    find_suspects,
    is_outage,
    is_silent,
    read_max_reassignments,
    would_close,
)

_GONE = "the chat is no longer active and assigned"


def _mode(situation: Situation, _: Limits) -> tuple[bool, str]:
    control = situation.control
    if control is None:
        return situation.mode == "observe", NO_SCHEMA
    allowed = control.mode_cap == "enforce" or situation.mode == control.mode_cap == "observe"
    return allowed, f"{situation.mode}, the control row allows {control.mode_cap}"


def _pause(situation: Situation, _: Limits) -> tuple[bool, str]:
    control = situation.control
    if control is None:
        return True, NO_SCHEMA
    until_s = control.paused_until_s
    if until_s is None or until_s <= control.now_s:
        return True, "not paused"
    left_s = until_s - control.now_s
    return False, f"paused for {_span(left_s)} more by {control.paused_by}: {control.pause_reason}"


def _trip(situation: Situation, limits: Limits) -> tuple[bool, str]:
    control = situation.control
    tripped = control is not None and control.trip.tripped_at_s is not None
    if tripped or situation.tripped:
        if math.isinf(limits.breaker_hold_s):
            return False, "tripped, until a person runs chatqueue resume"
        return False, f"tripped, and not yet well for {_span(limits.breaker_hold_s)}"
    return True, "not tripped"


def _breaker(situation: Situation, limits: Limits) -> tuple[bool, str]:
    suspects, assigned = len(find_suspects(situation.scan, limits)), len(situation.scan.chats)
    return not is_outage(suspects, assigned, limits), (
        f"{suspects} of {assigned} assigned chats look stuck, trips at {limits.breaker_at_least} "
        f"and above {limits.breaker_share:.0%}"
    )


def _sensor(situation: Situation, limits: Limits) -> tuple[bool, str]:
    around, assigned = situation.around, len(situation.scan.chats)
    beat_s = around.latest_beat_s
    silence_s = math.inf if beat_s is None else around.now_s - beat_s
    alive = assigned < 2 or silence_s < limits.sensor_silence_s
    found = "no heartbeat at all" if beat_s is None else f"last heartbeat {_span(silence_s)} ago"
    return alive, (
        f"{found}, {assigned} chats assigned, expected one within {_span(limits.sensor_silence_s)}"
    )


def _restart(situation: Situation, limits: Limits) -> tuple[bool, str]:
    up_s = situation.around.now_s - situation.around.server_started_s
    return up_s >= limits.after_restart_s, (
        f"the server is up for {_span(up_s)}, expected {_span(limits.after_restart_s)}"
    )


def _idle_detector(situation: Situation, limits: Limits) -> tuple[bool, str]:
    count = situation.around.idle_releases
    passed = limits.alongside_idle_detector or situation.mode == "observe" or not count
    return passed, f"{count} idle_timeout releases by the platform in the last 10 minutes"


def _episode(situation: Situation, _: Limits) -> tuple[bool, str]:
    now = situation.now
    if now is None:
        return False, _GONE
    text = f"{now.open_assignments} open assignment row{'s' * (now.open_assignments != 1)}"
    if now.superseded_assignments:
        text += f", {now.superseded_assignments} of them superseded by an admin's reassignment"
    if now.bar:
        return False, f"{text}, expected one that names the operator ({now.bar}): for a person"
    return True, f"{text}; {now.assignment_id} names the operator"


def _same_assignment(situation: Situation, _: Limits) -> tuple[bool, str]:
    now, observed = situation.now, situation.observed
    if now is None:
        return False, _GONE
    same = now.assignment_id == observed.assignment_id and now.operator_id == observed.operator_id
    return same, "the assignment that was observed" if same else "another assignment"


def _same_evidence(situation: Situation, limits: Limits) -> tuple[bool, str]:
    now, observed = situation.now, situation.observed
    if now is None:
        return False, _GONE
    same = now.past_turns == observed.past_turns and (
        now.as_seen(limits.life).signs == observed.as_seen(limits.life).signs
    )
    return same, "nothing changed since it was observed" if same else "the signs of life changed"


def _silence(situation: Situation, limits: Limits) -> tuple[bool, str]:
    now = situation.now
    if now is None:
        return False, _GONE
    silence_s = now.as_seen(limits.life).silence_s(situation.around.now_s)
    if silence_s < 0:
        return False, f"a sign of life {_span(-silence_s)} in the future: a clock is wrong"
    return is_silent(now, situation.around.now_s, limits), (
        f"no sign of life for {_span(silence_s)}, stuck after {_span(limits.stuck_after_s)}"
    )


def _exemption(situation: Situation, _: Limits) -> tuple[bool, str]:
    if situation.ledger is None:
        return True, NO_SCHEMA
    return situation.ledger.exemption is None, situation.ledger.exemption or "not exempt"


def _once(situation: Situation, _: Limits) -> tuple[bool, str]:
    if situation.ledger is None:
        return True, NO_SCHEMA
    count = situation.ledger.assignment_releases
    return count == 0, f"this assignment was released {count} times"


def _cooldown(situation: Situation, limits: Limits) -> tuple[bool, str]:
    if situation.ledger is None:
        return True, NO_SCHEMA
    last_s = situation.ledger.last_release_s
    if last_s is None:
        return True, "never released"
    ago_s = situation.around.now_s - last_s
    return ago_s >= limits.cooldown_s, (
        f"released {_span(ago_s)} ago, left alone for {_span(limits.cooldown_s)}"
    )


def _per_chat(situation: Situation, limits: Limits) -> tuple[bool, str]:
    if situation.ledger is None:
        return True, NO_SCHEMA
    count = situation.ledger.releases_in_window
    return count < limits.chat_releases, (
        f"{count} releases in {_span(limits.chat_window_s)}, at most {limits.chat_releases}"
    )


def _rate(situation: Situation, limits: Limits) -> tuple[bool, str]:
    if situation.control is None:
        return True, NO_SCHEMA
    tokens = count_tokens(situation.control, situation.around.now_s, limits)
    return tokens >= 1, (
        f"{tokens:.2f} releases left, {limits.rate_per_hour:g} an hour, burst {limits.burst:g}"
    )


def _free_operator(situation: Situation, limits: Limits) -> tuple[bool, str]:
    count = situation.around.free_operators
    return count > 0 or not limits.require_free_operator, f"{count} other operators are free"


def _setting(situation: Situation, _: Limits) -> tuple[bool, str]:
    most = read_max_reassignments(situation.around)
    if most is None:
        around = situation.around
        return False, (
            f"max_reassignments is the JSON {around.limit_type} {around.limit_text!r}, "
            "expected a whole number: the platform's release fails on it"
        )
    return True, f"max_reassignments is {most}"


def _closing(situation: Situation, limits: Limits) -> tuple[bool, str]:
    now, closing = situation.now, would_close(situation)
    if now is None or closing is None:
        return False, "whether the platform would close the chat is unknown"
    text = f"{now.past_turns} past turns, the platform closes at "
    text += str(read_max_reassignments(situation.around))
    if closing and limits.on_would_close == "requeue":
        text += "; to be requeued without the platform's function"
    return not closing or situation.closes or limits.on_would_close == "requeue", text


def describe_signs(situation: Situation, limits: Limits) -> Finding:
    """Return when each sign of life was last seen: which a person gave, and which an open tab."""
    now, now_s = situation.now, situation.around.now_s
    if now is None:
        return Finding("signs", False, Decision.CHANGED, _GONE)
    person = ", ".join(f"{name} {_since(at_s, now_s)}" for name, at_s in now.person_signs)
    tab = _since(now.beat_s, now_s)
    counts = "counts" if limits.life == "tab" else "does not count"
    text = f"of a person: {person}; of an open tab: {tab}, which {counts} (life: {limits.life})"
    return Finding("signs", True, Decision.CHANGED, text)


def _since(at_s: float | None, now_s: float) -> str:
    """How long ago, in words."""
    if at_s is None:
        return "never"
    return f"{_span(now_s - at_s)} ago" if at_s <= now_s else f"{_span(at_s - now_s)} ahead"


def _span(seconds: float) -> str:
    """A time in words, to the second."""
    if not math.isfinite(seconds):
        return "for ever"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


GUARDS = MappingProxyType(
    {
        "mode": Guard(Decision.PAUSED, _mode),
        "pause": Guard(Decision.PAUSED, _pause),
        "trip": Guard(Decision.BREAKER, _trip, is_limit=True),
        "breaker": Guard(Decision.BREAKER, _breaker, is_limit=True),
        "sensor": Guard(Decision.SENSOR, _sensor, is_limit=True),
        "restart": Guard(Decision.SENSOR, _restart, is_limit=True),
        "idle_detector": Guard(Decision.IDLE_DETECTOR, _idle_detector, is_limit=True),
        "episode": Guard(Decision.CHANGED, _episode),
        "same_assignment": Guard(Decision.CHANGED, _same_assignment),
        "same_evidence": Guard(Decision.CHANGED, _same_evidence),
        "silence": Guard(Decision.CHANGED, _silence),
        "exemption": Guard(Decision.EXEMPT, _exemption),
        "once": Guard(Decision.COOLING_DOWN, _once),
        "per_chat": Guard(Decision.OVER_LIMIT, _per_chat, is_limit=True),
        "cooldown": Guard(Decision.COOLING_DOWN, _cooldown, is_limit=True),
        "rate": Guard(Decision.OVER_LIMIT, _rate, is_limit=True),
        "free_operator": Guard(Decision.NO_OPERATOR, _free_operator, is_limit=True),
        "setting": Guard(Decision.UNCLEAR, _setting),
        "closing": Guard(Decision.WOULD_CLOSE, _closing),
    }
)
LIMIT_NAMES = tuple(name for name, guard in GUARDS.items() if guard.is_limit)
"""What a person may override; whether the platform would close the chat is not among them."""
