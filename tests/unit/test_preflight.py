"""The preflight's judgements: each line for go, no-go and unknown, from rows and texts alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exporter.catalogue.statement import split_statements
from exporter.errors import ChatqueueError
from exporter.preflight import now
from exporter.preflight.backup import read_statements
from exporter.preflight.danger import check_danger, check_rehearsal, read_rehearsal
from exporter.preflight.lines import Line, conclude, to_document, to_markdown, to_text
from exporter.preflight.pending import _check_order, _check_text, _read_sums

GO = Line("now", "go", "go", "found")
NO = Line("now", "no-go", "no-go", "found", "do")
UNKNOWN = Line("now", "unknown", "unknown", "found", "do")
Case = tuple[Any, Sequence[Mapping[str, Any]], str, str]
HOURS = [{"day": n // 24, "hour": n % 24, "messages": n, "is_now": n == 84} for n in range(7 * 24)]
# What is judged, the rows, the verdict and a part of what is said.
CASES: dict[str, Case] = {
    "no transaction": (now.judge_transactions, [], "go", "0 open"),
    "a short one": (now.judge_transactions, [{"seconds": 5, "state": "active"}], "go", "1 open"),
    "a long one": (
        now.judge_transactions,
        [{"seconds": 3700, "state": "idle in transaction"}],
        "no-go",
        "1 open for over a minute",
    ),
    "hidden ones": (
        now.judge_transactions,
        [{"seconds": None, "state": "hidden"}],
        "unknown",
        "hidden from this role",
    ),
    "none prepared": (now.judge_prepared, [], "go", "none"),
    "one prepared": (now.judge_prepared, [{"seconds": 90}], "no-go", "the oldest for 1m30s"),
    "no wait": (now.judge_waits, [], "go", "nobody waits"),
    "a wait": (now.judge_waits, [{"relation": "chats"}], "no-go", "1 sessions wait"),
    "no replica": (now.judge_replicas, [], "go", "no replica"),
    "an idle replica": (
        now.judge_replicas,
        [{"name": "r", "lag_s": None, "is_hidden": False}],
        "go",
        "at most 0s behind",
    ),
    "a late replica": (
        now.judge_replicas,
        [{"name": "r", "lag_s": 75.0, "is_hidden": False}],
        "no-go",
        "1m15s behind",
    ),
    "a hidden replica": (
        now.judge_replicas,
        [{"name": "r", "lag_s": None, "is_hidden": True}],
        "unknown",
        "hidden",
    ),
    "free connections": (now.judge_connections, [{"used": 40, "most": 97}], "go", "40 of 97"),
    "few connections": (now.judge_connections, [{"used": 93, "most": 97}], "no-go", "93 of 97"),
    "no vacuum": (now.judge_vacuum, [], "go", "no table"),
    "a vacuum": (now.judge_vacuum, [{"relation": "chats"}], "no-go", "1 tables"),
    "disk": (now.judge_sizes, [{"relation": "chats", "bytes": 5e8}], "unknown", "500 MB"),
    "people": (now.judge_work, [{"waiting": 4, "assigned": 2}], "go", "4 chats have no operator"),
    "a quiet hour": (now.judge_hours, HOURS, "go", "49% of all hours"),
    "no history": (now.judge_hours, [], "unknown", "two weeks"),
}


@pytest.mark.parametrize(("judge", "rows", "verdict", "words"), CASES.values(), ids=CASES)
def test_what_goes_on_now_is_judged(
    judge: Any, rows: Sequence[Mapping[str, Any]], verdict: str, words: str
) -> None:
    line = judge("it", rows)
    assert (line.group, line.name, line.verdict) == ("now", "it", verdict)
    assert words in line.found
    assert bool(line.todo) == (verdict != "go")


def test_every_question_has_its_cases() -> None:
    assert {case[0] for case in CASES.values()} == {judge for _, _, judge in now.QUESTIONS}


def test_the_whole_is_as_bad_as_its_worst_line() -> None:
    assert conclude([GO], is_strict=True) == "go"
    assert conclude([GO, UNKNOWN], is_strict=False) == "unknown"
    assert conclude([GO, UNKNOWN], is_strict=True) == "no-go"
    assert conclude([GO, NO, UNKNOWN], is_strict=False) == "no-go"
    assert conclude([], is_strict=False) == "unknown"


def test_every_form_says_the_same() -> None:
    lines = (GO, Line("now", "a|b", "no-go", "x < y", "mend it", ("why",)))
    assert "| ✗ no-go | now | a\\|b | x \\< y | mend it |" in to_markdown("main", lines, "no-go")
    text = to_text("main", lines, "no-go")
    assert "  ✗ a|b: x < y\n      why\n      → mend it\n" in text
    assert text.endswith("\nmain: no-go\n")
    assert to_document("main", lines, "no-go")["lines"][1]["details"] == ("why",)


DUMP = """--
-- PostgreSQL database dump
--
CREATE TABLE public.chats (
    id uuid
);
COPY public.chats (id) FROM stdin;
1
2
\\.
-- PostgreSQL database dump complete
"""


def test_a_dump_in_sql_is_read_to_its_end() -> None:
    whole = read_statements(DUMP.splitlines(keepends=True))
    assert (whole.is_dump, whole.is_whole, whole.rows) == (True, True, {"chats": 2})
    # As the hosted platform's command line and newer versions of pg_dump end it.
    for end in ("RESET ALL;\n", "-- PostgreSQL database dump complete\n--\n\n\\unrestrict aB3\n\n"):
        text = DUMP.replace("-- PostgreSQL database dump complete\n", end)
        assert read_statements(text.splitlines(keepends=True)).is_whole
    lines = DUMP.splitlines(keepends=True)
    assert not any(read_statements(lines[:count]).is_whole for count in range(len(lines)))


def test_rows_as_inserts_are_named_and_not_counted() -> None:
    text = "SET a = 1;\nINSERT INTO public.chats VALUES (1),\n\t(2);\nRESET ALL;\n"
    found = read_statements(text.splitlines(keepends=True))
    assert (found.rows, found.inserted, found.tables) == ({}, {"chats"}, {"chats"})


def test_statements_are_found_with_their_lines() -> None:
    sql = "-- a;\n\nSELECT ';' /* ; */;\n\n  DO $x$ BEGIN; END; $x$;\nSELECT 2"
    assert split_statements(sql) == (
        (3, "SELECT ';' /* ; */;"),
        (5, "DO $x$ BEGIN; END; $x$;"),
        (6, "SELECT 2"),
    )
    assert split_statements("-- nothing\n;") == ()
    atomic = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3;"
    assert len(split_statements(atomic)) == 1


def test_a_text_that_was_not_reviewed_or_was_changed_is_a_no_go(tmp_path: Path) -> None:
    file = tmp_path / "014_a.sql"
    file.write_text("SELECT 1")
    right = hashlib.sha256(b"SELECT 1").hexdigest()
    assert _check_text(file, None).verdict == "unknown"
    assert _check_text(file, {"014_a.sql": right}).verdict == "go"
    assert "changed since the review" in _check_text(file, {"014_a.sql": "0" * 64}).todo
    assert "not reviewed" in _check_text(file, {}).found

    sums = tmp_path / "sums"
    sums.write_text(f"{right}  migrations/014_a.sql\n\n")
    assert _read_sums(sums) == {"014_a.sql": right}
    sums.write_text("what is this\n")
    with pytest.raises(ChatqueueError, match="sums:1: is no checksum, expected"):
        _read_sums(sums)
    with pytest.raises(ChatqueueError, match="--reviewed"):
        _read_sums(tmp_path / "nowhere")


def test_a_file_before_the_latest_applied_one_is_a_no_go() -> None:
    files = [Path(f"{n}_x.sql") for n in ("013", "014", "015")]
    assert _check_order(files, files[1:], frozenset({"013"})).verdict == "go"
    early = _check_order(files, files[:2], frozenset({"015"}))
    assert (early.verdict, early.details) == ("no-go", ("013_x.sql", "014_x.sql"))


def rehearsal(held_s: float = 2.0, growth: float | None = 3.0) -> dict[str, Any]:
    lock = {
        "relation": "public.chats",
        "mode": "AccessExclusiveLock",
        "held_s": held_s,
        "blocks": "reads and writes",
        "line": 3,
        "statement": "ALTER TABLE public.chats",
    }
    weak = {**lock, "relation": "public.log", "held_s": 99.0}
    applied = {"name": "014_a.sql", "growth": growth, "locks": [lock, weak]}
    return {"ok": True, "steps": [{"name": "restore", "ok": True}], "migrations": [applied]}


def danger(tmp_path: Path, document: Mapping[str, Any] | None, limit_s: float = 5.0) -> Line:
    file = tmp_path / "014_a.sql"
    file.write_text("-- x\n\nALTER TABLE public.chats ADD CONSTRAINT c CHECK (id IS NOT NULL);\n")
    rows = {"chats": 100_000}
    (line,) = check_danger([file], rows, document, timedelta(seconds=limit_s))
    return line


def test_a_lock_for_longer_than_the_limit_is_a_no_go_with_its_statement(tmp_path: Path) -> None:
    line = danger(tmp_path, rehearsal())
    assert line.verdict == "no-go"
    assert line.found == "locks a table of the queue for about 6.0 s, at most 5s is allowed"
    assert line.details[0] == (
        "public.chats is locked against reads and writes for 2.0 s here, about 6.0 s in production "
        "(line 3, ALTER TABLE public.chats)"
    )
    assert danger(tmp_path, rehearsal(held_s=1.0)).verdict == "go"
    assert danger(tmp_path, rehearsal(), limit_s=7.0).verdict == "go"
    assert danger(tmp_path, rehearsal(growth=None)).verdict == "unknown"
    assert danger(tmp_path, None).verdict == "unknown"
    other = rehearsal()
    other["migrations"][0]["name"] = "013.sql"
    assert danger(tmp_path, other).verdict == "unknown"


def test_squawks_findings_stand_beside_the_tables_size(tmp_path: Path) -> None:
    details = danger(tmp_path, None).details
    assert any(
        each.startswith("line 3: constraint-missing-not-valid: ")
        and each.endswith(", chats has about 100,000 rows")
        for each in details
    )


def test_without_squawk_the_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.preflight.danger.sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert danger(tmp_path, None).details == (
        "squawk is not installed: pip install 'chatqueue-exporter[preflight]'",
    )


def test_a_rehearsal_that_failed_or_is_none_is_told(tmp_path: Path) -> None:
    failed = {**rehearsal(), "ok": False, "steps": [{"name": "roll back", "ok": False}]}
    assert check_rehearsal(failed).verdict == "no-go"
    assert "roll back" in check_rehearsal(failed).found
    assert check_rehearsal(None).verdict == "unknown"
    file = tmp_path / "rehearsal.json"
    file.write_text(json.dumps(rehearsal()))
    assert check_rehearsal(read_rehearsal(file)).verdict == "go"
    file.write_text("[]")
    with pytest.raises(ChatqueueError, match="is no rehearsal, expected"):
        read_rehearsal(file)
    with pytest.raises(ChatqueueError, match="No such file"):
        read_rehearsal(tmp_path / "nowhere")
