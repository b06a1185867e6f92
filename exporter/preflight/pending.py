"""What of the fix is there, and which migrations are still to be applied."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from exporter.database.session import Session
from exporter.database.statements import load_statements
from exporter.errors import ChatqueueError, DatabaseError, QueryFailed
from exporter.ops.verify.checks import check_contract
from exporter.preflight.lines import Line

SQL = load_statements(__package__, "sql")
_VERSION = re.compile(r"\d+")
_SUM = re.compile(r"([0-9a-f]{64})[ \t]+\*?(.+)")


def check_objects(session: Session, contract: str) -> Line:
    """Return how much of the fix is there.

    Args:
        session: Of the reading role.
        contract: The statement that compares the fix's objects with what there should be.
    """
    try:
        with session.reading():
            found_there = check_contract(session.rows(contract))
            # Older functions may have the same names and arguments.
            checks = [check for check in found_there if not check.name.startswith("function ")]
    except DatabaseError as error:
        return Line("pending", "the fix's objects", "unknown", str(error), "see chatqueue verify")
    there = [check for check in checks if check.ok]
    if not there:
        return Line("pending", "the fix's objects", "go", f"none of {len(checks)} is there yet")
    if len(there) == len(checks):
        found = f"all {len(checks)} are there: nothing is to be deployed"
        return Line("pending", "the fix's objects", "go", found)
    return Line(
        "pending",
        "the fix's objects",
        "no-go",
        f"{len(there)} of {len(checks)} are there: somebody has begun, or an object is altered",
        "find out why before the migrations run; chatqueue verify shows each",
        tuple(f"{check.name}: {check.found}" for check in checks if not check.ok),
    )


def check_migrations(
    session: Session, files: Sequence[Path], reviewed: Path | None
) -> tuple[tuple[Path, ...], tuple[Line, ...]]:
    """Return the files that are still to be applied, and what there is to say of them.

    Raises:
        ChatqueueError: A file cannot be read.
    """
    applied = _read_applied(session)
    if isinstance(applied, str):
        pending, first = tuple(files), Line("pending", "applied migrations", "unknown", applied)
    else:
        pending = tuple(file for file in files if _version(file) not in applied)
        first = _check_order(files, pending, applied)
    sums = None if reviewed is None else _read_sums(reviewed)
    return pending, (first, *(_check_text(file, sums) for file in pending))


def _read_applied(session: Session) -> frozenset[str] | str:
    """The versions in the hosted platform's table, or why they are unknown."""
    try:
        with session.reading():
            (row,) = session.rows(SQL["applied_there"])
            if not row["is_there"]:
                return "there is no table of applied migrations; all files count as pending"
            if not row["is_permitted"]:
                return "the role may not read supabase_migrations; all files count as pending"
            return frozenset(str(each["version"]) for each in session.rows(SQL["applied"]))
    except QueryFailed as error:
        return f"{error}; all files count as pending"


def _check_order(files: Sequence[Path], pending: Sequence[Path], applied: frozenset[str]) -> Line:
    latest = max((v for v in applied if v.isdecimal()), key=int, default="")
    early = [
        file.name
        for file in pending
        if latest and _version(file).isdecimal() and int(_version(file)) < int(latest)
    ]
    found = f"{len(files) - len(pending)} of {len(files)} files are applied"
    if early:
        todo = "they would run after a later one: check that their order does not matter"
        found += f", the latest is {latest}, and earlier ones are not"
        return Line("pending", "applied migrations", "no-go", found, todo, tuple(early))
    return Line("pending", "applied migrations", "go", found)


def _check_text(file: Path, sums: dict[str, str] | None) -> Line:
    """Whether a file's text is what was reviewed."""
    try:
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ChatqueueError(f"{file}: {error.strerror}") from error
    found = f"sha256 {checksum}"
    if sums is None:
        todo = "compare it with what was reviewed: --reviewed FILE, as sha256sum writes it"
        return Line("pending", file.name, "unknown", found, todo)
    expected = sums.get(file.name)
    if expected is None:
        return Line("pending", file.name, "no-go", f"{found}, not reviewed", "have it reviewed")
    if expected != checksum:
        todo = "it was changed since the review: have it reviewed again"
        return Line("pending", file.name, "no-go", f"{found}, reviewed was {expected}", todo)
    return Line("pending", file.name, "go", f"as reviewed, {found}")


def _read_sums(reviewed: Path) -> dict[str, str]:
    """File name to checksum, as `sha256sum` writes them."""
    try:
        lines = reviewed.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ChatqueueError(f"--reviewed {reviewed}: {error}") from error
    sums = {}
    for number, line in enumerate(lines, 1):
        match = _SUM.fullmatch(line.strip())
        if match:
            sums[Path(match[2]).name] = match[1]
        elif line.strip():
            raise ChatqueueError(
                f"--reviewed {reviewed}:{number}: is no checksum, expected a line of sha256sum"
            )
    return sums


def _version(file: Path) -> str:
    match = _VERSION.match(file.name)
    return match[0] if match else file.stem
