"""What pending migrations may do to those who use the tables: by their text, and as measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from exporter.catalogue.statement import split_statements
from exporter.errors import ChatqueueError
from exporter.preflight.backup import TABLES
from exporter.preflight.lines import Line, Verdict
from exporter.text import format_duration

# Of squawk's rules those about statements that lock or rewrite a table while it is in use.
RULES = {
    "adding-field-with-default",
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "adding-required-field",
    "adding-serial-primary-key-field",
    "changing-column-type",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "require-concurrent-index-creation",
    "require-concurrent-index-deletion",
    "require-concurrent-reindex",
    "require-lock-timeout",
    "transaction-nesting",
}
_TABLE = re.compile(
    r"\b(?:TABLE(?:\s+IF\s+EXISTS)?(?:\s+ONLY)?|ON|UPDATE|FROM|INTO)\s+"
    r'"?(?:public"?\."?)?(?P<table>\w+)',
    re.IGNORECASE,
)
_LIMIT_S = 60


def check_danger(
    files: Sequence[Path],
    rows: Mapping[str, int],
    rehearsal: Mapping[str, Any] | None,
    max_lock: timedelta,
) -> Iterator[Line]:
    """Yield one line for each pending file.

    Args:
        files: To be applied.
        rows: Production's tables with their estimated rows.
        rehearsal: What `chatqueue rehearse --json` printed; None where nothing was measured.
        max_lock: How long a table of the queue may be locked against somebody.

    Raises:
        ChatqueueError: A file cannot be read.
    """
    findings = _ask_squawk(files)
    for file in files:
        details = findings if isinstance(findings, str) else findings.get(file.name, ())
        told = (details,) if isinstance(details, str) else _describe(file, details, rows)
        measured = _find_measured(file, rehearsal)
        if measured is None:
            todo = "measure it on a copy: chatqueue rehearse --json, then --rehearsal FILE"
            yield Line(
                "danger",
                f"locks of {file.name}",
                "unknown",
                "its locks were not measured",
                todo,
                told,
            )
        else:
            yield _judge(file, measured, max_lock, told)


def read_rehearsal(file: Path) -> Mapping[str, Any]:
    """Return a rehearsal as `chatqueue rehearse --json` printed it.

    Raises:
        ChatqueueError: It cannot be read, or is something else.
    """
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
        if not {"ok", "migrations", "steps"} <= document.keys():
            raise ValueError
    except OSError as error:
        raise ChatqueueError(f"--rehearsal {file}: {error.strerror}") from error
    except (ValueError, AttributeError):
        raise ChatqueueError(
            f"--rehearsal {file}: is no rehearsal, expected what chatqueue rehearse --json prints"
        ) from None
    found: Mapping[str, Any] = document
    return found


def check_rehearsal(rehearsal: Mapping[str, Any] | None) -> Line:
    """Return whether the deployment and the way back were rehearsed, and went well."""
    if rehearsal is None:
        todo = "chatqueue rehearse --json, then --rehearsal FILE"
        return Line("danger", "rehearsal", "unknown", "no rehearsal was given", todo)
    failed = [step["name"] for step in rehearsal["steps"] if not step["ok"]]
    if failed or not rehearsal["ok"]:
        todo = "mend it and rehearse again"
        return Line("danger", "rehearsal", "no-go", f"it failed at {', '.join(failed)}", todo)
    return Line("danger", "rehearsal", "go", f"all {len(rehearsal['steps'])} steps went well")


def _find_measured(file: Path, rehearsal: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    for applied in rehearsal["migrations"] if rehearsal is not None else ():
        if applied["name"] == file.name:
            found: Mapping[str, Any] = applied
            return found
    return None


def _judge(
    file: Path, measured: Mapping[str, Any], max_lock: timedelta, told: tuple[str, ...]
) -> Line:
    """Weigh the locks of the rehearsal, in proportion to production's rows."""
    growth = measured["growth"]
    if growth is None:
        todo = "rehearse with a backup that holds rows"
        found = "the rehearsal's copy held no rows"
        return Line("danger", f"locks of {file.name}", "unknown", found, todo, told)
    factor, limit = growth or 1.0, format_duration(max_lock)
    locks, worst_s = [], 0.0
    for lock in measured["locks"]:
        if lock["blocks"] == "nobody" or lock["relation"].partition(".")[2] not in TABLES:
            continue
        here_s = lock["held_s"]
        expected_s = here_s * factor
        worst_s = max(worst_s, expected_s)
        where = f"line {lock['line']}, {lock['statement']}" if lock["line"] else "its transaction"
        locks.append(
            f"{lock['relation']} is locked against {lock['blocks']} for {here_s:.1f} s here, about "
            f"{expected_s:.1f} s in production ({where})"
        )
    verdict: Verdict = "no-go" if worst_s > max_lock.total_seconds() else "go"
    found = (
        f"locks a table of the queue for about {worst_s:.1f} s, at most {limit} is allowed"
        if locks
        else "locks no table of the queue against anybody"
    )
    todo = "" if verdict == "go" else "split it, or deploy in the calmest hour with --max-lock"
    return Line("danger", f"locks of {file.name}", verdict, found, todo, (*locks, *told))


def _describe(
    file: Path, findings: Sequence[Mapping[str, Any]], rows: Mapping[str, int]
) -> tuple[str, ...]:
    """squawk's findings beside the size of the table that the statement names."""
    statements = split_statements(file.read_text(encoding="utf-8"))
    told = []
    for finding in findings:
        line = int(finding["line"]) + 1
        statement = next((text for at, text in reversed(statements) if at <= line), "")
        match = _TABLE.search(statement)
        table = match["table"] if match else ""
        size = f", {table} has about {rows[table]:,} rows" if table in rows else ""
        told.append(f"line {line}: {finding['rule_name']}: {finding['message'].rstrip('.')}{size}")
    return tuple(dict.fromkeys(told))


def _ask_squawk(files: Sequence[Path]) -> Mapping[str, list[Mapping[str, Any]]] | str:
    """Findings by file name, or why there are none."""
    beside = Path(sys.executable).with_name("squawk")
    program = str(beside) if beside.exists() else shutil.which("squawk")
    if program is None:
        return "squawk is not installed: pip install 'chatqueue-exporter[preflight]'"
    if not files:
        return {}
    try:
        done = subprocess.run(
            [program, "--reporter", "Json", "--no-error-on-unmatched-pattern", *map(str, files)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
        found: dict[str, list[Mapping[str, Any]]] = {}
        for finding in json.loads(done.stdout or "[]"):
            if finding["rule_name"] in RULES:
                found.setdefault(Path(finding["file"]).name, []).append(finding)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"squawk failed: {type(error).__name__}"
    return found
