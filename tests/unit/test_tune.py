"""What a release would have done to an episode, the counts, and the advice that follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ops.tune.advice import Verdict, advise, count_needed
from exporter.ops.tune.episodes import (
    Episode,
    Message,
    ReleaseKind,
    Writer,
    find_release,
    find_windows,
    judge_release,
)
from exporter.ops.tune.tally import Line, Tally, count_episodes, wilson_interval

NOW_S = 10_000.0
USER, HOLDER, OTHER = Writer


def episode(
    *messages: tuple[float, Writer], ended_s: float | None = 1000, **more: object
) -> Episode:
    """An episode from 0 on."""
    told = tuple(Message(at_s, writer) for at_s, writer in messages)
    return replace(Episode(0.0, ended_s, True, told), **more)  # type: ignore[arg-type]


def released_at(what: Episode, threshold_s: float) -> float | None:
    """When a release would have come."""
    return find_release(find_windows(what, NOW_S), threshold_s)


def test_a_chat_is_released_once_its_operator_was_silent_for_the_threshold() -> None:
    assert released_at(episode(), 300) == 300


@pytest.mark.parametrize("length_s", [200, 300])
def test_an_episode_that_ends_first_is_not_released(length_s: float) -> None:
    assert released_at(episode(ended_s=length_s), 300) is None


def test_an_answer_at_the_very_moment_is_a_sign_of_life() -> None:
    assert released_at(episode((300, HOLDER)), 300) is None


def test_silence_while_the_user_is_waited_for_is_no_stuckness() -> None:
    assert released_at(episode((100, HOLDER)), 300) is None


def test_after_an_answer_only_the_users_next_message_makes_a_release_possible() -> None:
    assert released_at(episode((100, HOLDER), (700, USER)), 300) == 700
    assert released_at(episode((100, HOLDER), (200, USER)), 300) == 400


def test_another_operators_answer_is_no_sign_of_life_but_answers() -> None:
    assert released_at(episode((250, OTHER)), 300) is None
    assert released_at(episode((250, OTHER), (260, USER)), 300) == 300


def test_a_heartbeat_of_an_open_episode_is_a_sign_of_life() -> None:
    assert released_at(episode(ended_s=None, beat_s=500.0), 300) == 800
    assert released_at(episode(ended_s=None, beat_s=NOW_S + 60), 300) is None


def test_nothing_is_released_after_now() -> None:
    assert released_at(episode(ended_s=NOW_S + 900), NOW_S + 100) is None


def test_a_clock_that_ran_backwards_releases_nothing() -> None:
    assert released_at(episode(ended_s=-5.0), 1) is None


def test_a_release_is_wrong_when_the_operator_wrote_later() -> None:
    judged = judge_release(episode((900, HOLDER)), 300, NOW_S)

    assert judged == (ReleaseKind.WRONG, 0)


def test_a_release_is_undecided_while_the_episode_is_open() -> None:
    judged = judge_release(episode(ended_s=None), 300, NOW_S)

    assert judged == (ReleaseKind.UNDECIDED, 0)


@pytest.mark.parametrize(
    ("messages", "owed", "saved_s"),
    [
        ((), True, 700),
        ((), False, 0),
        (((100, USER),), False, 700),
        (((400, USER),), False, 600),
        (((400, USER), (600, OTHER), (800, USER)), True, 300),
        (((100, OTHER), (200, USER)), True, 700),
        (((100, OTHER),), True, 0),
        (((400, OTHER),), False, 0),
    ],
)
def test_a_right_release_saves_the_wait_until_somebody_wrote_or_the_episode_ended(
    messages: Sequence[tuple[float, Writer]], owed: bool, saved_s: float
) -> None:
    judged = judge_release(episode(*messages, owed=owed), 300, NOW_S)

    assert judged == (ReleaseKind.RIGHT, saved_s)


# Whole seconds in a small range, so that a recount can look at every one of them.
SPAN_S = 40


@st.composite
def small_episodes(draw: st.DrawFn) -> Episode:
    """Episodes in which much happens at the same time."""
    assigned_s = draw(st.integers(0, SPAN_S))
    ended_s = draw(st.none() | st.integers(assigned_s - 2, SPAN_S + 5))
    last_s = SPAN_S if ended_s is None else min(ended_s, SPAN_S)
    times = st.integers(assigned_s, max(assigned_s, last_s))
    found = draw(st.lists(st.tuples(times, st.sampled_from(Writer)), max_size=8))
    found.sort(key=lambda one: (one[0], one[1] is not USER))
    return Episode(
        assigned_s=float(assigned_s),
        ended_s=None if ended_s is None else float(ended_s),
        owed=draw(st.booleans()),
        messages=tuple(Message(float(at_s), writer) for at_s, writer in found),
        beat_s=float(draw(st.integers(0, SPAN_S + 5))) if ended_s is None else None,
        past_turns=draw(st.integers(0, 5)),
    )


def recount(what: Episode, threshold_s: float, now_s: float) -> tuple[int | None, str, float]:
    """The same, second by second: when, what came of it, and how long the user still waited."""
    end_s = now_s if what.ended_s is None else min(what.ended_s, now_s)

    def silent_since(second: float) -> float:
        signs = [m.at_s for m in what.messages if m.writer is HOLDER and m.at_s <= second]
        return max([what.assigned_s, *signs, *([] if what.beat_s is None else [what.beat_s])])

    def last_writer(second: float) -> Writer | None:
        written = [m.writer for m in what.messages if m.at_s <= second]
        return written[-1] if written else None

    def is_assigned(second: float) -> bool:
        return last_writer(second) in (None, USER)

    def is_owed(second: float) -> bool:
        writer = last_writer(second)
        return what.owed if writer is None else writer is USER

    for second in range(int(what.assigned_s), SPAN_S + 10):
        if second >= end_s:
            break
        if is_assigned(second) and second - silent_since(second) >= threshold_s:
            later = [m for m in what.messages if m.at_s > second]
            if any(m.writer is HOLDER for m in later):
                return second, "wrong", 0
            if what.ended_s is None:
                return second, "undecided", 0
            answers = [m.at_s for m in later if m.writer is OTHER]
            until_s = int(min([end_s, *answers]))
            return second, "right", sum(is_owed(s) for s in range(second, until_s))
    return None, "", 0


@given(small_episodes(), st.integers(1, SPAN_S), st.integers(0, SPAN_S))
def test_a_release_is_the_first_second_a_recount_finds(
    what: Episode, threshold_s: int, now_s: int
) -> None:
    at_s = find_release(find_windows(what, float(now_s)), threshold_s)
    judged = None if at_s is None else judge_release(what, at_s, float(now_s))

    found = ("", 0.0) if judged is None else (str(judged[0]), judged[1])
    assert (at_s, *found) == recount(what, threshold_s, now_s)


@given(
    st.lists(small_episodes(), max_size=12),
    st.lists(st.integers(1, SPAN_S), min_size=1, max_size=5, unique=True),
    st.none() | st.integers(0, 5),
)
def test_a_tally_is_the_sum_of_its_episodes(
    episodes: list[Episode], thresholds_s: list[int], most: int | None
) -> None:
    tally = count_episodes(iter(episodes), thresholds_s, SPAN_S, most)

    assert tally.episodes == len(episodes)
    assert [line.threshold_s for line in tally.lines] == sorted(thresholds_s)
    for line in tally.lines:
        found = [(what, recount(what, line.threshold_s, SPAN_S)) for what in episodes]
        released = [(what, *rest) for what, (at_s, *rest) in found if at_s is not None]
        kinds = [kind for _, kind, _ in released]
        assert [line.right, line.wrong, line.undecided] == [
            kinds.count(kind) for kind in ("right", "wrong", "undecided")
        ]
        assert (line.releases, line.decided) == (
            len(kinds),
            len(kinds) - kinds.count("undecided"),
        )
        assert line.saved_s == sum(saved_s for *_, saved_s in released)
        closing = sum(what.past_turns >= (most or 0) for what, *_ in released)
        assert line.closing == (None if most is None else closing)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_interval_is_where_the_score_test_does_not_reject(hits: int, misses: int) -> None:
    trials = hits + misses
    low, high = wilson_interval(hits, trials)

    assert 0 <= low <= high <= 1
    if trials == 0:
        assert (low, high) == (0, 1)
        return
    assert low <= hits / trials <= high
    for end in (low, high):
        if 0 < end < 1:
            score = (hits / trials - end) / math.sqrt(end * (1 - end) / trials)
            assert abs(score) == pytest.approx(1.959964, rel=1e-5)


def test_the_interval_of_a_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148 and 0 of 20.
    for hits, trials, interval in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
    ):
        assert wilson_interval(hits, trials) == pytest.approx(interval, abs=5e-5)


@given(st.floats(0.001, 0.999))
def test_so_many_releases_without_a_wrong_one_are_enough_and_one_less_is_not(limit: float) -> None:
    count = count_needed(limit)

    assert wilson_interval(0, count)[1] <= limit + 1e-12
    assert count == 1 or wilson_interval(0, count - 1)[1] > limit - 1e-12


def tally(*counts: tuple[float, int, int], episodes: int = 1000, undecided: int = 0) -> Tally:
    """Lines of threshold, right and wrong."""
    lines = tuple(Line(at_s, right, wrong, undecided) for at_s, right, wrong in counts)
    return Tally(lines, episodes)


def test_the_shortest_threshold_that_is_surely_good_enough_is_recommended() -> None:
    advice = advise(tally((120, 500, 100), (300, 396, 4), (900, 300, 0)), 0.05)

    assert advice.verdict is Verdict.RECOMMENDED
    assert advice.line is not None
    assert advice.line.threshold_s == 300
    assert advice.why == "4 of 400 releases wrong, at most 2.5%; none shorter is within 5.0%"


def test_the_first_one_has_none_before_it() -> None:
    advice = advise(tally((120, 151, 0), (900, 10, 0)), 0.05)

    assert advice.why == "0 of 151 releases wrong, at most 2.5%; the shortest that was tried"


def test_few_releases_without_a_wrong_one_are_not_enough() -> None:
    advice = advise(tally((120, 5, 5), (300, 72, 0), (900, 3, 0)), 0.05)

    assert advice.verdict is Verdict.NOT_ENOUGH
    assert advice.line is not None
    assert advice.line.threshold_s == 300
    assert advice.why == (
        "0 of 72 releases wrong, at most 5.1%; to be within 5.0% takes 73 without a wrong one, "
        "or more"
    )
    assert advise(tally((300, 73, 0)), 0.05).verdict is Verdict.RECOMMENDED


def test_where_none_is_good_enough_the_best_is_named() -> None:
    advice = advise(tally((120, 100, 900), (300, 500, 1500), (900, 0, 0)), 0.05)

    assert advice.verdict is Verdict.NONE
    assert advice.line is not None
    assert advice.line.threshold_s == 300
    assert advice.why == (
        "1,500 of 2,000 releases wrong, at most 76.8%; the limit is 5.0%, "
        "and longer ones would have decided nothing"
    )
    assert advise(tally((300, 0, 7)), 0.05).why == (
        "7 of 7 releases wrong, at most 100.0%; the limit is 5.0%"
    )


@pytest.mark.parametrize(
    ("counted", "why"),
    [
        (tally((300, 0, 0), episodes=0), "there is no assignment in this time"),
        (tally((300, 0, 0)), "no operator with a chat was silent for that long"),
        (
            tally((300, 0, 0), undecided=2),
            "every chat that would have been released is still with its operator",
        ),
    ],
)
def test_nothing_to_release_is_said_as_it_is(counted: Tally, why: str) -> None:
    advice = advise(counted, 0.05)

    assert (advice.verdict, advice.line, advice.why) == (Verdict.UNUSED, None, why)
