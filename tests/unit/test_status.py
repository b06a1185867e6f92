"""One poll, judged against the thresholds."""

# ruff: noqa: ISC004  # messages stand whole, as an operator reads them
from __future__ import annotations

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.catalogue import Query
from exporter.cli.status import _exit_code
from exporter.config import Config, load_config
from exporter.database import Outcome, Poll
from exporter.errors import QueryFailed, Reason
from exporter.metrics.thresholds import build_thresholds
from exporter.ops.status import (
    STATES,
    Status,
    Verdict,
    as_json,
    build_status,
    unknown_status,
    worst,
)
from exporter.polling.plan import load_queries

BEGAN_AT = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def catalogue(tmp_path: Path) -> dict[str, Query]:
    file = tmp_path / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: host=db}}")
    return {query.name: query for query in load_queries(load_config(file))}


class Look:
    """A poll of the built-in catalogue on a calm, empty database, to be changed."""

    def __init__(self, catalogue: Mapping[str, Query]) -> None:
        self.catalogue = dict(catalogue)
        self.rows: dict[str, list[dict[str, Any]]] = {
            **{
                name: [dict.fromkeys(query.columns, 0)]
                for name, query in catalogue.items()
                if name in ("queue_status", "customer_wait") or name.startswith("invalid_")
            },
            "idle_detector": [{"idle_timeout_seconds": 300, "idle_overdue_chats": 0}],
        }
        self.errors: dict[str, QueryFailed] = {}

    def age(self, query: str, state: str, oldest_s: float, overdue: int = 0) -> Look:
        columns = dict.fromkeys(self.catalogue[query].columns, 0)
        self.rows.setdefault(query, []).append(
            {
                **columns,
                "state": state,
                "oldest_age_seconds": oldest_s,
                "overdue_warning_chats": overdue,
            }
        )
        return self

    def status(self, thresholds: str = "{}") -> Status:
        outcomes = tuple(self.outcome(query) for query in self.catalogue.values())
        poll = Poll(outcomes, BEGAN_AT, 0.0, False, 180000, (), None)
        return build_status("main", poll, build_thresholds(config_of(thresholds)))

    def outcome(self, query: Query) -> Outcome:
        if query.name in self.errors:
            return Outcome(query, (), (), self.errors[query.name], 0.0)
        return Outcome(query, query.columns, tuple(self.rows.get(query.name, ())), None, 0.0)


def config_of(text: str) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.yaml"
        file.write_text(f"databases: {{main: {{dsn: host=db}}}}\nthresholds: {text}\n")
        return load_config(file)


@pytest.fixture
def look(catalogue: dict[str, Query]) -> Look:
    return Look(catalogue)


def verdicts_of(status: Status) -> dict[str, Verdict]:
    return {state: worst(values) for state, values in status.states.items()}


def values_of(status: Status) -> dict[str, tuple[float | None, Verdict]]:
    return {value.figure.key: (value.value, value.verdict) for value in status.values}


def column_of(status: Status, key: str) -> list[float | None]:
    """A value of every state."""
    shown = [value for values in status.states.values() for value in values]
    return [value.value for value in shown if value.figure.key == key]


def test_an_empty_database_is_calm(look: Look) -> None:
    status = look.status()

    assert (status.verdict, status.problems) == ("ok", ())
    assert list(status.states) == list(STATES)
    assert set(verdicts_of(status).values()) == {"ok"}
    assert set(column_of(status, "chats")) == {0}
    assert {verdict for _, verdict in values_of(status).values()} == {"ok"}


@pytest.mark.parametrize(
    ("oldest_s", "verdict"),
    [(0, "ok"), (120, "ok"), (120.001, "warning"), (300, "warning"), (300.001, "critical")],
)
def test_a_threshold_is_crossed_beyond_its_limit_not_at_it(
    look: Look, oldest_s: float, verdict: Verdict
) -> None:
    status = look.age("state_clock", "waiting_assignment", oldest_s).status()

    assert verdicts_of(status)["waiting_assignment"] == verdict
    assert status.verdict == verdict


def test_each_state_has_its_own_thresholds(look: Look) -> None:
    look.age("state_clock", "assigned", 700, overdue=3)
    look.age("reply_clock", "waiting_real_user_reply", 1e6)
    look.age("reply_clock", "unknown", 1e6)

    status = look.status()

    assert verdicts_of(status) == {**dict.fromkeys(STATES, "ok"), "assigned": "warning"}
    assert column_of(status, "oldest_age_seconds")[1] == 700
    assert column_of(status, "overdue_chats")[1] == 3


def test_a_threshold_that_is_off_is_never_crossed(look: Look) -> None:
    look.age("state_clock", "assigned", 1e9)
    off = "{oldest_age: {assigned: {warning: off, critical: off}}}"

    assert look.status(off).verdict == "ok"
    critical_only = "{oldest_age: {assigned: {warning: off, critical: 1h}}}"
    assert look.status(critical_only).verdict == "critical"


@pytest.mark.parametrize(("wait_s", "verdict"), [(300, "ok"), (301, "warning"), (601, "critical")])
def test_a_users_wait_is_judged(look: Look, wait_s: float, verdict: Verdict) -> None:
    look.rows["customer_wait"] = [
        {"customer_oldest_wait_seconds": wait_s, "unanswered_chats": 4, "empty_waiting_chats": 0}
    ]

    status = look.status()

    assert values_of(status)["customer_wait"] == (wait_s, verdict)
    assert values_of(status)["unanswered"] == (4, "ok")
    assert status.verdict == verdict


def test_one_chat_the_idle_detector_left_is_a_warning(look: Look) -> None:
    look.rows["idle_detector"] = [{"idle_timeout_seconds": 300, "idle_overdue_chats": 1}]

    assert look.status().verdict == "warning"


def test_a_check_that_found_invalid_chats_is_named(look: Look) -> None:
    look.rows["invalid_states"][0]["lost_reply"] = 2

    values = values_of(look.status())

    assert values["invalid"] == values["invalid_lost_reply"] == (2, "warning")
    assert look.status().verdict == "warning"


def test_the_worst_verdict_is_the_whole_one(look: Look) -> None:
    look.age("state_clock", "assigned", 700).age("state_clock", "waiting_assignment", 301)

    assert look.status().verdict == "critical"


def failing(reason: Reason = Reason.TIMEOUT) -> QueryFailed:
    return QueryFailed(reason, "it took too long")


def test_what_failed_is_unknown_and_named(look: Look) -> None:
    look.errors["state_clock"] = failing()

    status = look.status()

    assert status.verdict == "unknown"
    assert status.problems == ("state_clock: timeout: it took too long",)
    assert verdicts_of(status) == {
        **dict.fromkeys(STATES, "ok"),
        "waiting_assignment": "unknown",
        "assigned": "unknown",
    }
    assert column_of(status, "oldest_age_seconds")[:2] == [None, None]


def test_a_failure_without_a_threshold_of_its_own_still_leaves_doubt(look: Look) -> None:
    look.errors["stuck_chats"] = failing(Reason.ROW_SECURITY)

    status = look.status()

    assert set(verdicts_of(status).values()) == {"ok"}
    assert status.verdict == "unknown"
    assert set(column_of(status, "platform_stuck_chats")) == {None}


def test_a_crossed_threshold_outweighs_what_is_not_known(look: Look) -> None:
    look.errors["customer_wait"] = failing()

    assert look.age("state_clock", "assigned", 700).status().verdict == "warning"


def test_rows_that_do_not_fit_are_a_problem_too(look: Look) -> None:
    look.rows["customer_wait"] = [
        {"customer_oldest_wait_seconds": "soon", "unanswered_chats": 1, "empty_waiting_chats": 0}
    ]

    assert look.status().problems == (
        "customer_wait: mismatch: customer_wait.sql column 'customer_oldest_wait_seconds' "
        "returned str 'soon', expected a number (convert times with extract(EPOCH FROM …))",
    )


def test_events_that_do_not_fit_are_a_problem_too(look: Look) -> None:
    columns = look.catalogue["waits"].columns
    look.rows["waits"] = [{**dict.fromkeys(columns, None), "at": BEGAN_AT}]

    status = look.status()

    assert status.verdict == "unknown"
    assert status.problems == (
        "waits: mismatch: waits.sql returned a key that is NULL or stands twice, "
        "expected 'key' to identify the event",
    )


@pytest.mark.parametrize(
    "name", ["customer_wait", "idle_detector", "state_clock", "operators", "waits"]
)
def test_a_query_the_operator_disabled_leaves_no_doubt(look: Look, name: str) -> None:
    del look.catalogue[name]

    status = look.status()

    assert (status.verdict, status.problems) == ("ok", ())


def test_a_database_that_cannot_be_asked_is_unknown() -> None:
    status = unknown_status("main", "the database is unavailable: refused")

    assert (status.verdict, status.problems) == (
        "unknown",
        ("the database is unavailable: refused",),
    )


def test_the_status_as_data_for_scripts(look: Look) -> None:
    look.rows["state_summary"] = [
        {**dict.fromkeys(look.catalogue["state_summary"].columns, None), "state": "assigned"}
        | {"chats": 5}
    ]
    look.rows["stuck_chats"] = [{"state": "assigned", "stuck_chats": 2}]
    look.age("state_clock", "assigned", 700.5, overdue=1)
    look.errors["customer_wait"] = failing()

    data = as_json(look.status())

    assert (data["database"], data["verdict"]) == ("main", "warning")
    assert data["problems"] == ["customer_wait: timeout: it took too long"]
    assert data["states"][1] == {
        "state": "assigned",
        "chats": 5,
        "platform_stuck_chats": 2,
        "oldest_age_seconds": 700.5,
        "overdue_chats": 1,
        "verdict": "warning",
    }
    assert data["figures"][0] == {
        "key": "customer_wait",
        "name": "longest unanswered wait of a user",
        "value": None,
        "unit": "seconds",
        "verdict": "unknown",
    }


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["ok"], 0),
        (["ok", "unknown"], 2),
        (["unknown", "warning"], 1),
        (["ok", "critical", "unknown"], 1),
    ],
)
def test_the_exit_code_of_several_databases(verdicts: Sequence[Verdict], code: int) -> None:
    calm = Status("main", {}, (), (), "ok")

    assert _exit_code([replace(calm, verdict=verdict) for verdict in verdicts]) == code
