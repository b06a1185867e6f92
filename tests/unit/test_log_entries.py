"""What level and kind a line is of, whatever its form."""

# ruff: noqa: E501  # lines stand whole, as they are logged
from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.logs.entries import LEVELS, MAX_TEXT_CHARS, read_line, read_object
from exporter.logs.patterns import BUILT_IN, OTHER, build_judge

JUDGE = build_judge({})

LEVELS_OF_LINES = {
    "ERROR: no operator": "error",
    "2026-11-23T08:00:00Z WARN queue is long": "warning",
    "[error] no operator": "error",
    "<warning> slow": "warning",
    "level=info msg=started": "info",
    'ts=1 severity="critical" msg=gone': "error",
    "error: no operator": "error",
    "FATAL:  the database system is shutting down": "error",
    "LOG:  checkpoint starting": "info",
    "DEBUG x": "debug",
    "an error of taste, no level": "other",
    "TypeError in prose": "other",
    "x" * 200 + " ERROR": "other",
    "\tat assignChat (errors.js:1)": "other",
    '{"level": "error", "message": "x"}': "error",
    '{"level": "Warning", "message": "x"}': "warning",
    '{"severity": "NOTICE", "message": "x"}': "info",
    '{"level": 50, "msg": "x"}': "error",
    '{"level": 35, "msg": "x"}': "info",
    '{"level": 20.5, "msg": "x"}': "debug",
    '{"level": -1, "msg": "x"}': "other",
    '{"level": true, "msg": "x"}': "other",
    '{"level": null, "msg": "x"}': "other",
    '{"level": "loud", "msg": "x"}': "other",
    '{"message": "ERROR: x"}': "error",
    '{"level": "info", "message": "ERROR: x"}': "info",
    '{"level": "info", "message": "{\\"level\\": \\"error\\"}"}': "error",
    '{"level": "info", "message": {"level": "error"}}': "error",
    '{"level": "error", "message": 12345}': "error",
    '{"level": "error", "message": "{broken"}': "error",
    '{"level": "error"': "other",
    "[1, 2]": "other",
}


@pytest.mark.parametrize(("line", "level"), LEVELS_OF_LINES.items())
def test_a_line_has_the_level_it_names(line: str, level: str) -> None:
    assert read_line(line).level == level


KINDS = {
    "assignment_error": [
        "ERROR: chat assignment failed",
        "Failed to assign chat 3f0c to operator",
        "Could not assign: Operator is not available",
        '{"level":"error","message":"x","context":{"error":"assign_chat_to_operator raised"}}',
    ],
    "state_transition_error": [
        "Invalid state transition from assigned to completed",
        "State transition not allowed",
        'new row for relation "chats" violates check constraint "chk_assigned_state_has_operator"',
        '{"level":"error","message":"query failed","context":{"error":"chk_waiting_reply_has_timestamp"}}',
        "Chat is not currently assigned",
    ],
    "cron_failure": [
        "[cron] idle detector failed: timeout",
        '{"level":"error","message":"Cron job error","context":{"job":"idle-detector"}}',
        "Error while running scheduled task",
    ],
    "cron_unauthorized": [
        "Unauthorized cron request",
        "cron: invalid secret",
        '{"level":"warning","message":"","proxy":{"path":"/api/cron/idle","statusCode":401}}',
    ],
    OTHER: [
        "",
        "chat assigned to operator",
        "assignment of a chat done",
        "Cron job completed: released 3 chats",
        "    at assignChat (assignment-error.js:3)",
        '{"level":"error","message":"payment failed"}',
        '{"message":"","proxy":{"path":"/api/cron/idle","statusCode":200}}',
    ],
}


@pytest.mark.parametrize(
    ("kind", "line"), [(k, line) for k, lines in KINDS.items() for line in lines]
)
def test_a_line_is_of_the_kind_its_words_say(kind: str, line: str) -> None:
    assert JUDGE.judge(read_line(line))[0] == kind


def test_what_a_pattern_matches_is_an_error_unless_the_line_says_otherwise() -> None:
    assert JUDGE.judge(read_line("chat assignment failed")) == ("assignment_error", "error")
    assert JUDGE.judge(read_line("DEBUG chat assignment failed")) == ("assignment_error", "debug")
    assert JUDGE.judge(read_line("no level and no pattern")) == (OTHER, "other")


def test_own_patterns_come_first_replace_and_switch_off() -> None:
    judge = build_judge(
        {"payment": "(?i)payment", "cron_failure": "nightly broke", "assignment_error": None}
    )

    assert judge.kinds == (
        "payment",
        "cron_failure",
        "cron_unauthorized",
        "state_transition_error",
        OTHER,
    )
    assert judge.judge(read_line("Payment: cron: unauthorized"))[0] == "payment"
    assert judge.judge(read_line("nightly broke"))[0] == "cron_failure"
    assert judge.judge(read_line("cron job failed"))[0] == OTHER
    assert judge.judge(read_line("chat assignment failed"))[0] == OTHER


def test_every_built_in_pattern_passes_over_an_empty_line() -> None:
    assert set(JUDGE.kinds) == {*BUILT_IN, OTHER}
    assert JUDGE.judge(read_line(" ")) == (OTHER, "other")


def test_an_expression_that_takes_other_engines_for_ever_is_done_at_once() -> None:
    judge = build_judge({"slow": "^(a+)+$", "slower": "(a|aa|a?)*b$"})

    assert judge.judge(read_line("a" * 8000 + "!")) == (OTHER, "other")
    assert judge.judge(read_line("a" * 8000)) == ("slow", "error")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_of_some_kind_and_level(line: str) -> None:
    kind, level = JUDGE.judge(read_line(line))

    assert kind in JUDGE.kinds
    assert level in LEVELS


KEYS = st.sampled_from(["level", "message", "context", "proxy", "error", "status", "path"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = SCALARS | st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, SCALARS, max_size=3))


@settings(deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_any_object_is_of_some_kind_and_level(value: dict[str, object]) -> None:
    entry = read_object(value)
    kind, level = JUDGE.judge(entry)

    assert read_line(json.dumps(value)).level == entry.level
    assert (kind in JUDGE.kinds, level in LEVELS) == (True, True)
    assert len(entry.text) <= MAX_TEXT_CHARS


@pytest.mark.parametrize(
    "line",
    [
        '{"a":' * 100_000,
        '{"level":"error","n":' + "9" * 5000 + "}",
        '{"level":"error","message":"\\ud800 cron failed"}',
        '{"level":1e400,"message":"x"}',
        "{" + "\\" * 30_000,
    ],
    ids=["deep", "giant number", "lone surrogate", "infinite", "backslashes"],
)
def test_hostile_lines_are_counted_like_others(line: str) -> None:
    kind, level = JUDGE.judge(read_line(line))

    assert (kind in JUDGE.kinds, level in LEVELS) == (True, True)


def test_messages_within_messages_are_read_to_a_depth() -> None:
    line = json.dumps({"level": "error", "message": "cron failed"})
    for _ in range(4):
        line = json.dumps({"level": "info", "message": line})
    assert JUDGE.judge(read_line(line)) == ("cron_failure", "error")

    line = json.dumps({"level": "info", "message": line})
    assert read_line(line).level == "info"
