"""The pure parts of a rehearsal: backups, migrations, choices and the report."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from exporter.rehearsal.backup import BackupUnreadable, detect_format, find_errors, find_roles
from exporter.rehearsal.migrations import (
    Applied,
    Lock,
    MigrationFailed,
    Rewrite,
    find_migrations,
    has_own_transaction,
)
from exporter.rehearsal.programs import Installation, choose_server, choose_tools
from exporter.rehearsal.report import (
    Report,
    Step,
    expect_in_production,
    to_document,
    to_markdown,
    to_text,
)

APPLIED = Applied(
    "014.sql",
    2.0,
    (Lock("public.chats", "AccessExclusiveLock", 1.5, "reads and writes"),),
    (Rewrite("public.chats", False, 100),),
    True,
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"--\n-- PostgreSQL database dump\n", "sql"),
        (b"PGDMP\x01\x10", "archive"),
        (gzip.compress(b"SET x = 1;", mtime=0), "sql"),
        (gzip.compress(b"PGDMP", mtime=0), "archive"),
        (b"toc.dat".ljust(257, b"\0") + b"ustar", "archive"),
    ],
)
def test_the_format_of_a_backup_is_seen_in_its_first_bytes(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(content)

    assert detect_format(backup) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"Salted__x", "is encrypted by openssl: decrypt it first"),
        (b"age-encryption.org/v1", "is encrypted by age: decrypt it first"),
        (b"\x28\xb5\x2f\xfdx", "is zstd: unpack it first"),
        (gzip.compress(b"x" * 1000, mtime=0)[:14], "Compressed file ended"),
    ],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(content)

    with pytest.raises(BackupUnreadable, match=message):
        detect_format(backup)


def test_a_directory_is_a_backup_if_it_has_a_table_of_contents(tmp_path: Path) -> None:
    with pytest.raises(BackupUnreadable, match=r"without toc\.dat is no backup"):
        detect_format(tmp_path)
    (tmp_path / "toc.dat").touch()

    assert detect_format(tmp_path) == "archive"
    with pytest.raises(BackupUnreadable, match="No such file"):
        detect_format(tmp_path / "missing")


def test_the_roles_of_a_dump_are_found_in_its_statements_alone() -> None:
    lines = (
        "ALTER TABLE public.chats OWNER TO app_owner;",
        'GRANT SELECT ON TABLE public.chats TO "Read-Only";',
        "GRANT ALL ON FUNCTION public.f(a uuid) TO anon;",
        "REVOKE ALL ON FUNCTION public.f(a uuid) FROM PUBLIC;",
        "CREATE POLICY own ON public.chats FOR SELECT TO authenticated, service_role USING (true);",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO later;",
        "1\tGRANT me access TO nobody\t",
    )

    assert find_roles(lines) == (
        '"Read-Only"',
        "anon",
        "app_owner",
        "authenticated",
        "later",
        "service_role",
    )


def test_errors_of_a_restore_are_listed_once_without_the_harmless() -> None:
    lines = (
        'psql:<stdin>:1: ERROR:  role "anon" already exists',
        'ERROR:  unrecognized configuration parameter "transaction_timeout"',
        'pg_restore: error: could not execute query: ERROR:  type "vector" does not exist',
        'ERROR:  type "vector" does not exist',
        "LINE 1: SELECT",
    )

    assert find_errors(lines) == ('type "vector" does not exist',)


def test_migrations_are_the_files_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("016.sql", "014.sql", "README.md"):
        (tmp_path / name).touch()

    assert [file.name for file in find_migrations([tmp_path])] == ["014.sql", "016.sql"]
    assert find_migrations([tmp_path / "016.sql"]) == (tmp_path / "016.sql",)
    with pytest.raises(MigrationFailed, match="does not exist"):
        find_migrations([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MigrationFailed, match=r"holds no \.sql file"):
        find_migrations([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN;\nSELECT 1;\nCOMMIT;", True),
        ("start transaction;", True),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", True),
        ("-- CREATE INDEX CONCURRENTLY\nSELECT 1;", False),
        ("DO $$\nBEGIN\n    PERFORM 1;\nEND;\n$$;", False),
    ],
)
def test_a_file_with_its_own_transaction_is_recognised(sql: str, expected: bool) -> None:
    assert has_own_transaction(sql) == expected


def test_the_server_is_the_nearest_and_the_tools_are_the_latest() -> None:
    fifteen, eighteen = Installation(15, Path("/15")), Installation(18, Path("/18"))

    assert choose_server([eighteen, fifteen], 15) == fifteen
    assert choose_server([eighteen, fifteen], 17) == eighteen
    assert choose_server([eighteen, fifteen], 19) == eighteen
    assert choose_tools([fifteen, eighteen]) == eighteen


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"chats": (1000, 5000)}, "about 10s or longer"),
        ({"chats": (1000, 500)}, "about 2.0s or longer"),
        ({"chats": (0, 500)}, "unknown: the copy holds no rows"),
        ({"chats": (10, None)}, "about 2.0s, whatever the size of the tables"),
    ],
)
def test_production_expects_in_proportion_to_its_rows(
    rows: dict[str, tuple[int, int | None]], expected: str
) -> None:
    assert expect_in_production(APPLIED, rows) == expected


def test_the_report_says_what_was_done_and_what_to_expect() -> None:
    report = Report("main", 17, 18, "b.dump")
    report.steps += [
        Step("restore", True, 0.05, "10 rows in 2 tables"),
        Step("roll back", False, 12, "failed", ("index i changed by the rollback",)),
    ]
    report.migrations.append(APPLIED)
    report.rows["chats"] = (1000, 5000)

    assert (
        to_text(report)
        == """\
main: PostgreSQL 17, played on 18 from b.dump

✓ restore                                50ms  10 rows in 2 tables
✗ roll back                               12s  failed
    index i changed by the rollback

014.sql: 2.0s here
  in production about 10s or longer
  locks public.chats against reads and writes for 1.5s (AccessExclusiveLock)
  writes 100 rows of public.chats

Measured on this machine, on a copy that nobody used. Production may be several
times slower: its disks differ, others use it, and a lock has to wait for those
who hold it.

The rehearsal failed.
"""
    )
    assert "| chats | 1,000 | about 5,000 |" in to_markdown(report)
    document = json.loads(json.dumps(to_document(report)))
    assert document["ok"] is False
    assert document["rows"] == {"chats": {"copy": 1000, "production": 5000}}
    assert document["migrations"][0]["expect"] == "about 10s or longer"
