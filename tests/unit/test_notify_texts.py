"""What a notice looks like to people and programs, and when a request is tried again."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from exporter.config.notify import EVENTS, PLACEHOLDERS
from exporter.notify.bodies import MAX_TEXT_CHARS, build_body
from exporter.notify.notices import Notice
from exporter.notify.pace import Pace, read_retry_after
from exporter.release.attempt import ReleaseRequest, Result
from exporter.release.facts import Decision, Evidence
from exporter.release.notices import build_notice, build_trip_notice
from exporter.release.policy import Finding
from tests.webhooks import make_webhook

CHAT, OPERATOR, ASSIGNMENT, AUDIT = (UUID(int=number) for number in range(1, 5))
URL = "http://127.0.0.1:1/"
AT = datetime(2026, 1, 2, 3, 4, 5, 6000, UTC)
NOTICE = Notice(
    "escalated",
    "main: <b> & more",
    ("one", "two"),
    {"database": "main", "chat": str(CHAT), "operator": None, "reason": "3 past turns"},
    UUID(int=9),
    AT,
)


def body(notice: Notice, **options: Any) -> Any:
    """The body, read again."""
    return json.loads(build_body(notice, make_webhook(URL, **options)))


def result(decision: Decision, reason: str, **changes: Any) -> Result:
    """What came of an order on one chat."""
    evidence = Evidence(CHAT, OPERATOR, 1, ASSIGNMENT, OPERATOR, 0, 0, None, None, None, 0)
    silence = Finding("silence", True, Decision.CHANGED, "no sign of life for 31m, stuck after 15m")
    values = {"findings": (silence,), **changes}
    return Result(decision, reason, ReleaseRequest(evidence, "enforce"), **values)


def test_json_holds_every_field() -> None:
    assert body(NOTICE) == {
        "version": "1",
        "id": str(UUID(int=9)),
        "time": "2026-01-02T03:04:05.006+00:00",
        "event": "escalated",
        "title": "main: <b> & more",
        "text": "one\ntwo",
        "fields": {
            "database": "main",
            "chat": str(CHAT),
            "operator": None,
            "reason": "3 past turns",
        },
    }


def test_slack_holds_one_text_in_which_values_are_no_markup() -> None:
    assert body(NOTICE, template="slack") == {
        "text": "*main: &lt;b&gt; &amp; more* (03:04:05 UTC)\none\ntwo"
    }


def test_a_long_text_is_cut_where_slack_would_refuse_it() -> None:
    text = body(replace(NOTICE, lines=("x" * 5000,)), template="slack")["text"]

    assert (len(text), text[-1]) == (MAX_TEXT_CHARS, "…")


def test_a_text_of_ones_own_may_hold_every_placeholder() -> None:
    own = "<!here> {{}} " + "|".join(f"{{{name}}}" for name in PLACEHOLDERS)
    values = f"03:04:05 UTC|main|{CHAT}||3 past turns"

    assert body(NOTICE, template="slack", text=own)["text"] == (
        f"<!here> {{}} escalated|main: &lt;b&gt; &amp; more|one\ntwo|{values}"
    )
    assert body(NOTICE, text="{title}")["text"] == "main: <b> & more"


@pytest.mark.parametrize(
    ("event", "decision", "reason", "lines"),
    [
        (
            "released",
            Decision.RELEASED,
            "no sign of life for 31m, stuck after 15m; 0 past turns, the platform closes at 3",
            (
                "main: a stuck chat was handed back to the queue",
                f"Chat {CHAT}, operator {OPERATOR}",
                (
                    "Why: no sign of life for 31m, stuck after 15m; 0 past turns, the platform "
                    "closes at 3"
                ),
                "Nothing to do: the next free operator gets it.",
            ),
        ),
        (
            "would_release",
            Decision.WOULD_RELEASE,
            "no sign of life for 31m, stuck after 15m",
            (
                "main: a stuck chat would be handed back to the queue",
                f"Chat {CHAT}, operator {OPERATOR}",
                "Why: no sign of life for 31m, stuck after 15m",
                "Nothing was changed (observe). Compare with what really happens to it.",
            ),
        ),
        (
            "escalated",
            Decision.WOULD_CLOSE,
            "closing: 3 past turns, the platform closes at 3",
            (
                "main: a stuck chat needs a human",
                f"Chat {CHAT}, operator {OPERATOR}",
                (
                    "Why: no sign of life for 31m, stuck after 15m; closing: 3 past turns, the "
                    "platform closes at 3"
                ),
                (
                    f"To do: reassign or close it by hand. `chatqueue explain {CHAT}` shows more; "
                    "`chatqueue chats --reason stuck` lists all such chats."
                ),
            ),
        ),
        (
            "defect",
            Decision.DEFECT,
            "release: a trigger quoted what the user wrote",
            (
                "main: a release went wrong and was undone",
                f"Chat {CHAT}, operator {OPERATOR}",
                (
                    "Why: no sign of life for 31m, stuck after 15m; the release did not do what it "
                    "should"
                ),
                (
                    "To do: `chatqueue pause --for 1d --reason defect`, then look for `release "
                    "decided` in the log. The chat is as it was."
                ),
            ),
        ),
    ],
)
def test_a_release_is_told_in_four_lines(
    event: str, decision: Decision, reason: str, lines: tuple[str, ...]
) -> None:
    notice = build_notice(event, "main", result(decision, reason, audit_id=AUDIT))

    assert (notice.title, *notice.lines) == lines
    assert notice.event == event
    assert event in EVENTS
    assert dict(notice.fields) == {
        "database": "main",
        "chat": str(CHAT),
        "operator": str(OPERATOR),
        "assignment": str(ASSIGNMENT),
        "mode": "enforce",
        "outcome": "",
        "reason": lines[2].removeprefix("Why: "),
        "audit": str(AUDIT),
        "evidence": {"silence": "no sign of life for 31m, stuck after 15m"},
    }


def test_what_was_never_judged_has_no_evidence_in_its_text() -> None:
    notice = build_notice("defect", "main", result(Decision.DEFECT, "x", findings=()))

    assert notice.lines[1] == "Why: the release did not do what it should"


def test_a_trip_says_how_many_and_what_to_look_for() -> None:
    notice = build_trip_notice("main", 8, 20, 600.0)

    assert (notice.event, notice.title) == ("tripped", "main: auto-release has stopped itself")
    assert notice.lines[0].startswith("Why: 8 of 20 assigned chats look stuck at once.")
    assert (notice.fields["suspects"], notice.fields["assigned"]) == (8, 20)
    assert notice.lines[1].endswith("go on by themselves once all has been well for a while.")
    held = build_trip_notice("main", 8, 20, math.inf)
    assert held.lines[1].endswith("Releases go on only after `chatqueue resume`.")


def test_waits_double_up_to_the_longest_and_are_spread() -> None:
    pace = Pace(first_s=1, most_s=60, give_up_s=1e9)
    for failures, longest in ((1, 1), (2, 2), (4, 8), (7, 60), (10_000, 60)):
        waits = [pace.wait_s(failures, None, 0) or 0 for _ in range(50)]

        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_notice_has_one_last_try_at_the_end_of_its_time() -> None:
    pace = Pace(first_s=1, most_s=60, give_up_s=900)

    assert pace.wait_s(9, 3600.0, 0) == 900
    assert pace.wait_s(9, None, 899) == 1
    assert pace.wait_s(9, None, 900) is None
    assert pace.wait_s(1, 5.0, 0) == 5


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 5000, 999_999_999.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("Fri, 99 Jan 2026 03:00:00 GMT", None),
        ("-5", None),
        ("soon", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, NOW) == seconds


def test_titles_and_lines_hold_nothing_but_ids_figures_and_our_words() -> None:
    secretive = result(Decision.DEFECT, 'release: Key (content)=("my card number") exists')
    notice = build_notice("defect", "main", secretive)

    assert not re.search("card", str((notice.title, notice.lines, notice.fields)))
