"""What may be released, from plain values: every condition, the confirmation, the breaker."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Config
from exporter.release.facts import (
    Control,
    Decision,
    Evidence,
    Ledger,
    Limits,
    Scan,
    Surroundings,
    Trip,
)
from exporter.release.families import Gauges, build_release_families
from exporter.release.guards import GUARDS, LIMIT_NAMES, describe_signs
from exporter.release.memory import ATTEMPTS_PER_CYCLE, Memory, Record
from exporter.release.plans import build_limits
from exporter.release.policy import (
    Situation,
    choose,
    count_tokens,
    effective_mode,
    find_all,
    find_suspects,
    is_outage,
    judge,
    next_trip,
    plan_cycle,
    read_max_reassignments,
)
from exporter.release.state import build_state

NOW_S = 1_800_000_000.0
LIMITS = replace(
    build_limits(Config.model_validate({"databases": {"main": {"dsn": "host=db"}}})),
    mode="enforce",
)


def evidence(silent_s: float = 1800.0, **changes: Any) -> Evidence:
    """A chat whose operator is silent for that long."""
    operator: UUID = uuid4()
    since_s = NOW_S - silent_s
    made = Evidence(
        chat_id=uuid4(),
        operator_id=operator,
        open_assignments=1,
        assignment_id=uuid4(),
        assignment_operator_id=operator,
        assignment_time_s=since_s,
        assigned_at_s=since_s,
        beat_s=since_s,
        browser_beat_s=since_s,
        message_s=None,
        past_turns=0,
    )
    return replace(made, **changes)


def surroundings(**changes: Any) -> Surroundings:
    """A database where all is well."""
    made = Surroundings(
        now_s=NOW_S,
        server_started_s=NOW_S - 86_400,
        latest_beat_s=NOW_S - 5,
        free_operators=1,
        idle_releases=0,
        limit_type="number",
        limit_text="3",
    )
    return replace(made, **changes)


def control(**changes: Any) -> Control:
    """A control row that allows everything."""
    made = Control("enforce", NOW_S, None, None, None, Trip(), None, None)
    return replace(made, **changes)


def ledger(**changes: Any) -> Ledger:
    """An audit that never saw the chat."""
    return replace(Ledger(None, 0, None, 0), **changes)


def situation(chat: Evidence | None = None, **changes: Any) -> Situation:
    """A lone stuck chat that may be released."""
    chat = chat or evidence()
    made = Situation("enforce", chat, Scan((chat,), surroundings()), control(), ledger())
    return replace(made, **changes)


def around(**changes: Any) -> Situation:
    """The same in other surroundings."""
    made = situation()
    return replace(made, scan=replace(made.scan, surroundings=surroundings(**changes)))


def now(**changes: Any) -> Situation:
    """The same with another state of the chat than the one observed."""
    made = situation()
    chat = replace(made.observed, **changes)
    return replace(made, scan=replace(made.scan, chats=(chat,)))


def crowd(stuck: int, living: int, **changes: Any) -> Scan:
    """Many chats."""
    chats = [evidence() for _ in range(stuck)] + [evidence(5) for _ in range(living)]
    return Scan(tuple(chats), surroundings(**changes))


def amid(scan: Scan) -> Situation:
    """One stuck chat of many."""
    return situation(scan.chats[0], scan=scan)


def judged(made: Situation, limits: Limits = LIMITS, *overrides: str) -> str | None:
    """Name of the first refusal."""
    finding = judge(made, limits, GUARDS, frozenset(overrides))
    return finding.guard if finding else None


def test_a_lone_stuck_chat_may_be_released() -> None:
    assert judged(situation()) is None
    assert all(finding.passed for finding in find_all(situation(), LIMITS, GUARDS))


REFUSALS = {
    "mode": situation(control=control(mode_cap="observe")),
    "pause": situation(control=control(paused_until_s=NOW_S + 1)),
    "trip": situation(tripped=True),
    "breaker": amid(crowd(3, 9)),
    "sensor": amid(crowd(1, 1, latest_beat_s=NOW_S - 180)),
    "restart": around(server_started_s=NOW_S - 899),
    "idle_detector": around(idle_releases=1),
    "episode": now(open_assignments=2),
    "same_assignment": now(assignment_id=uuid4()),
    "same_evidence": now(beat_s=NOW_S - 1700),
    "silence": situation(evidence(899)),
    "exemption": situation(ledger=ledger(exemption="chat until tomorrow")),
    "once": situation(ledger=ledger(assignment_releases=1)),
    "per_chat": situation(ledger=ledger(releases_in_window=2)),
    "cooldown": situation(ledger=ledger(last_release_s=NOW_S - 3599)),
    "rate": situation(control=control(tokens=0.5, tokens_at_s=NOW_S)),
    "free_operator": around(free_operators=0),
    "setting": around(limit_type="string"),
    "closing": situation(evidence(past_turns=3)),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_every_condition_refuses_by_itself_and_only_limits_are_overridden(guard: str) -> None:
    made = REFUSALS[guard]

    assert judged(made) == guard
    if guard in LIMIT_NAMES:
        assert judged(made, LIMITS, guard) is None
    else:
        assert judged(made, LIMITS, *GUARDS) == guard


def test_what_a_person_may_not_override_is_the_proof_and_the_pause() -> None:
    assert set(GUARDS) - set(LIMIT_NAMES) == {
        *("mode", "pause", "episode", "same_assignment", "same_evidence", "silence"),
        *("exemption", "once", "setting", "closing"),
    }


def test_without_a_control_row_only_observing_is_allowed() -> None:
    made = situation(control=None, ledger=None)

    assert judged(made) == "mode"
    assert judged(replace(made, mode="observe")) is None


@pytest.mark.parametrize(
    "sign", ["assignment_time_s", "assigned_at_s", "beat_s", "browser_beat_s", "message_s"]
)
@pytest.mark.parametrize("age_s", [899, 0, -3600, -math.inf])
def test_the_latest_sign_of_life_counts_even_from_the_future(sign: str, age_s: float) -> None:
    assert judged(situation(evidence(**{sign: NOW_S - age_s}))) == "silence"


def test_silence_counts_from_the_latest_sign_on() -> None:
    assert judged(situation(evidence(900))) is None
    assert judged(situation(evidence(900, beat_s=None, browser_beat_s=None))) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"assignment_time_s": None},
        {"assigned_at_s": None},
        {"operator_id": None},
        {"assignment_operator_id": uuid4()},
        {"open_assignments": 0, "assignment_id": None},
        {"open_assignments": 2},
        {"open_assignments": 3, "superseded_assignments": 1},
        {"open_assignments": 1, "superseded_assignments": 1, "assignment_id": None},
    ],
)
def test_what_is_not_one_clear_episode_is_no_suspect(broken: dict[str, Any]) -> None:
    chat = evidence(**broken)

    assert find_suspects(Scan((chat,), surroundings()), LIMITS) == ()
    assert judged(situation(chat)) == "episode"


def test_open_rows_that_an_admin_superseded_leave_one_clear_episode() -> None:
    chat = evidence(open_assignments=3, superseded_assignments=2)

    assert find_suspects(Scan((chat,), surroundings()), LIMITS) == (chat,)
    assert judged(situation(chat)) is None


@pytest.mark.parametrize(("life", "is_suspect"), [("tab", False), ("input", True)])
def test_an_open_tab_is_a_sign_of_life_only_where_it_is_to_be(life: str, is_suspect: bool) -> None:
    chat = evidence(beat_s=NOW_S - 5)
    limits = replace(LIMITS, life=life)

    assert bool(find_suspects(Scan((chat,), surroundings()), limits)) is is_suspect
    assert judged(situation(chat), limits) == (None if is_suspect else "silence")
    beaten = replace(chat, beat_s=NOW_S - 1)
    beaten_now = replace(situation(chat), scan=Scan((beaten,), surroundings()))
    assert (judged(beaten_now, limits) is None) is is_suspect
    memory = Memory()
    confirmed = [
        memory.confirm([replace(chat, beat_s=NOW_S + at_s)], NOW_S + at_s, limits, 100)
        for at_s in (0, 60, 120)
    ]
    assert bool(confirmed[-1]) is is_suspect


@pytest.mark.parametrize("life", ["tab", "input"])
@pytest.mark.parametrize(
    "sign", ["assignment_time_s", "assigned_at_s", "browser_beat_s", "message_s"]
)
def test_what_a_person_does_is_a_sign_of_life_in_any_case(life: str, sign: str) -> None:
    chat = evidence(**{sign: NOW_S - 5})

    assert judged(situation(chat), replace(LIMITS, life=life)) == "silence"


def test_the_signs_of_life_are_named_with_who_gives_them() -> None:
    chat = evidence(1800, browser_beat_s=NOW_S + 90, beat_s=NOW_S - 5)

    tab = describe_signs(situation(chat), LIMITS).value
    silent = describe_signs(situation(replace(chat, beat_s=None)), replace(LIMITS, life="input"))

    assert tab == (
        "of a person: assignment 30m ago, input 1m30s ahead, message never; of an open tab: "
        "5s ago, which counts (life: tab)"
    )
    assert silent.value.endswith("of an open tab: never, which does not count (life: input)")


def test_a_thousand_held_suspects_are_tried_in_turn_and_a_new_one_goes_first() -> None:
    memory, held = Memory(), [evidence() for _ in range(1000)]
    tried: list[list[UUID]] = []
    for poll in range(100):
        tried.append([chat.chat_id for chat in memory.choose_attempts(held)])
        for chat in memory.choose_attempts(held):
            memory.of(chat).tried_at_s = NOW_S + poll

    assert {len(poll) for poll in tried} == {ATTEMPTS_PER_CYCLE}
    for start in (0, 50):
        assert len({chat for poll in tried[start : start + 50] for chat in poll}) == 1000
    new = evidence(900)
    assert new in memory.choose_attempts([*held, new])
    memory.keep({held[0].assignment_id})
    assert held[0] not in memory.choose_attempts(held)


def test_a_chat_that_is_gone_has_changed() -> None:
    made = situation(scan=Scan((), surroundings()))

    refusal = judge(made, LIMITS, GUARDS)
    assert refusal is not None
    assert refusal.decision is Decision.CHANGED


@pytest.mark.parametrize(
    ("kind", "text", "most"),
    [
        (None, None, 3),
        ("number", "5", 5),
        ("number", "3.5", None),
        ("number", "1e3", None),
        ("string", "3", None),
        ("null", None, None),
        ("boolean", "true", None),
        ("array", "[3]", None),
    ],
)
def test_the_setting_is_read_as_the_platform_can(kind: Any, text: Any, most: Any) -> None:
    assert read_max_reassignments(surroundings(limit_type=kind, limit_text=text)) == most


@pytest.mark.parametrize(
    ("stuck", "living", "outage"),
    [(1, 0, False), (2, 0, False), (3, 0, True), (3, 12, False), (3, 11, True), (4, 12, True)],
)
def test_the_breaker_needs_both_number_and_share(stuck: int, living: int, outage: bool) -> None:
    scan = crowd(stuck, living)

    assert is_outage(len(find_suspects(scan, LIMITS)), len(scan.chats), LIMITS) is outage
    assert plan_cycle(scan, control(), LIMITS, Trip(), 40).is_outage is outage


def test_the_breaker_lets_go_only_after_an_unbroken_healthy_time() -> None:
    trip = next_trip(Trip(), True, 0, 600, 40)
    assert trip == Trip(0)
    for at_s in range(10, 600, 10):
        trip = next_trip(trip, False, at_s, 600, 40)
        assert trip.tripped_at_s == 0
    assert next_trip(trip, False, 610, 600, 40) == Trip()
    # A scan that failed in between, an outage, and a clock set back each start over.
    assert next_trip(trip, False, 700, 600, 40) == Trip(0, 700, 700)
    assert next_trip(trip, True, 600, 600, 40) == Trip(0)
    assert next_trip(trip, False, 300, 600, 40) == Trip(0, 300, 300)
    assert next_trip(trip, False, 610, math.inf, 40) == Trip(0, 10, 610)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 7200)), max_size=60),
    st.floats(1, 1000),
    st.floats(1, 50),
)
def test_the_rate_never_allows_more_than_burst_and_rate_times_time(
    tries: list[tuple[bool, float]], per_hour: float, burst: float
) -> None:
    limits = replace(LIMITS, rate_per_hour=per_hour, burst=burst)
    row, released, clock_s, passed_s = control(), 0, NOW_S, 0.0
    for set_back, seconds in tries:
        clock_s += -seconds if set_back else seconds
        passed_s += 0.0 if set_back else seconds
        tokens = count_tokens(row, clock_s, limits)
        if tokens >= 1:
            row = replace(row, tokens=tokens - 1, tokens_at_s=clock_s)
            released += 1

    assert released <= burst + per_hour * passed_s / 3600 + 1e-3


def confirm(polls: list[tuple[float, Evidence | None]], gap_s: float = 40.0) -> list[bool]:
    """Whether each poll confirmed the chat it saw."""
    memory = Memory()
    return [
        bool(memory.confirm([chat] if chat else [], at_s, LIMITS, gap_s)) for at_s, chat in polls
    ]


def test_a_chat_is_confirmed_by_enough_polls_over_enough_time() -> None:
    chat = evidence()

    assert confirm([(15.0 * n, chat) for n in range(9)]) == [False] * 8 + [True]
    assert confirm([(0, chat), (60, chat), (120, chat)], gap_s=60) == [False, False, True]
    assert confirm([(0, chat), (120, chat)], gap_s=120) == [False, False]


@pytest.mark.parametrize(
    "break_s",
    [
        lambda chat: [(105, None), (110, chat)],
        lambda chat: [(105, replace(chat, beat_s=1.0)), (110, chat)],
        lambda chat: [(105, replace(chat, assignment_id=uuid4())), (110, chat)],
        lambda chat: [(105, replace(chat, past_turns=1)), (110, chat)],
        lambda chat: [(200, chat)],
        lambda chat: [(90, chat)],
    ],
    ids=["gone", "sign", "assignment", "turn", "gap", "clock set back"],
)
def test_any_change_or_gap_starts_the_confirmation_over(break_s: Any) -> None:
    chat = evidence()
    before = [(20.0 * n, chat) for n in range(6)]

    assert not any(confirm([*before, *break_s(chat), (130, chat)]))


def test_a_failed_poll_starts_the_confirmation_over() -> None:
    chat, memory = evidence(), Memory()
    limits = replace(LIMITS, confirm_for_s=0.0, confirm_polls=2)
    memory.confirm([chat], 0, limits, 40)

    memory.reset_confirmations()

    assert memory.confirm([chat], 15, limits, 40) == ()


def test_what_is_remembered_of_an_assignment_is_forgotten_at_once() -> None:
    chat, other, memory = evidence(), evidence(), Memory()
    limits = replace(LIMITS, confirm_for_s=0.0, confirm_polls=2)
    for each in (chat, other):
        memory.of(each).tried_at_s = NOW_S
        memory.of(each).answer = (each, Decision.WOULD_CLOSE)
        memory.of(each).is_escalated = True
    memory.confirm([chat, other], 0, limits, 40)

    memory.keep({other.assignment_id})

    assert memory.confirm([chat, other], 15, limits, 40) == (other,)
    assert replace(memory.of(chat), sighting=None) == Record()
    assert memory.of(other).answer == (other, Decision.WOULD_CLOSE)
    memory.reset_answers()
    assert memory.of(other).answer is None
    assert memory.of(other).is_escalated


def test_a_cycle_is_planned_from_one_scan() -> None:
    scan = crowd(3, 1)
    limits = replace(LIMITS, breaker_hold_s=math.inf)

    plan = plan_cycle(scan, control(), limits, Trip(), 40)
    observed = plan_cycle(scan, control(mode_cap="observe"), limits, Trip(), 40)

    assert (plan.mode, len(plan.suspects), plan.would_close) == ("enforce", 3, 0)
    assert plan.is_outage
    assert plan.trip == Trip(NOW_S)
    # In observe there is no trip in the database that a person could end.
    assert (plan.hold_s, observed.hold_s) == (math.inf, 600)
    assert observed.mode == "observe"


def test_a_cycle_has_its_caps() -> None:
    first, second = evidence(), evidence()

    assert choose([first, second], LIMITS, {}, 0) is first
    assert choose([first, second], LIMITS, {str(first.operator_id): 1}, 1) is second
    assert choose([first], LIMITS, {str(first.operator_id): 1}, 1) is None
    assert choose([first], LIMITS, {}, 3) is None


@pytest.mark.parametrize(
    ("mode", "cap", "idle", "alongside", "effective"),
    [
        ("enforce", "enforce", 0, False, "enforce"),
        ("enforce", "enforce", 1, False, "observe"),
        ("enforce", "enforce", 1, True, "enforce"),
        ("enforce", "observe", 0, False, "observe"),
        ("enforce", "off", 1, False, "off"),
        ("observe", "enforce", 1, False, "observe"),
        ("off", "enforce", 0, False, "off"),
    ],
)
def test_the_mode_in_force_is_the_lowest_of_all(
    mode: str, cap: str, idle: int, alongside: bool, effective: str
) -> None:
    limits = replace(LIMITS, mode=mode, alongside_idle_detector=alongside)

    assert effective_mode(limits, cap, idle) == effective


def test_requeue_lets_a_chat_through_that_the_platform_would_close() -> None:
    made = situation(evidence(past_turns=3))

    assert judged(made, replace(LIMITS, on_would_close="requeue")) is None
    assert judged(replace(made, closes=True)) is None
    assert judged(replace(made, closes=True), LIMITS, *GUARDS) is None


def test_every_decision_has_a_sample_from_the_start() -> None:
    families = {
        family.name: family for family in build_release_families("off", {}, (0.0, 0.0), None)
    }

    decisions = families["chatqueue_release_decisions_total"]
    assert {s.labels for s in decisions.samples} == {(("decision", str(d)),) for d in Decision}
    assert {s.value for s in decisions.samples} == {0.0}
    assert set(families) == {
        "chatqueue_release_mode",
        "chatqueue_release_decisions_total",
        "chatqueue_release_last_timestamp_seconds",
        "chatqueue_release_last_cycle_timestamp_seconds",
    }
    without_schema = build_release_families(
        "observe", {}, (0.0, 0.0), Gauges(1, 0, False, None, None, {})
    )
    assert "chatqueue_release_tokens" not in {family.name for family in without_schema}


def test_people_are_shown_a_pause_while_it_lasts() -> None:
    paused = control(paused_until_s=NOW_S + 60, pause_reason="a drill", paused_by="anna")
    over = control(paused_until_s=NOW_S - 1, pause_reason="a drill", paused_by="anna")

    shown = build_state("enforce", "enforce", None, paused, ())
    assert (shown.paused_until_s, shown.paused_by, shown.pause_reason) == (
        NOW_S + 60,
        "anna",
        "a drill",
    )
    for other in (over, control(), None):
        assert build_state("enforce", "observe", None, other, ()).paused_until_s is None


@pytest.mark.parametrize(
    ("hold", "hold_s"), [("10m", 600.0), ("0s", 0.0), ("until-resumed", math.inf)]
)
@pytest.mark.parametrize("life", ["tab", "input"])
def test_the_limits_come_from_the_configuration(hold: str, hold_s: float, life: str) -> None:
    release = {"life": life, "breaker": {"hold": hold}}

    limits = build_limits(
        Config.model_validate({"databases": {"main": {"dsn": "host=db"}}, "release": release})
    )

    assert (limits.life, limits.breaker_hold_s) == (life, hold_s)


def test_the_hash_of_the_configuration_tells_limits_apart() -> None:
    assert LIMITS.config_hash == replace(LIMITS).config_hash
    assert LIMITS.config_hash != replace(LIMITS, cooldown_s=1.0).config_hash
