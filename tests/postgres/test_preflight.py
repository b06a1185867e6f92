"""`chatqueue preflight` on a platform from before the fix, with real backups of every kind."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.demo.platform import MIGRATIONS
from exporter.demo.postgres import LocalServer, embedded_bin_dir
from exporter.preflight import backup as backups
from tests.servers import Platform, old_platform
from tests.watch import write_config

CHATS = 2000


@pytest.fixture(scope="module")
def before(postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform without the fix."""
    with old_platform(postgres_server, CHATS) as platform:
        platform.execute("ANALYZE")
        yield platform


def dump(platform: Platform, file: Path, *arguments: str) -> Path:
    program = embedded_bin_dir() / "pg_dump"
    subprocess.run([program, *arguments, f"--file={file}", platform.dsn], check=True)
    return file


@pytest.fixture(scope="module")
def plain(before: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump(before, tmp_path_factory.mktemp("backups") / "plain.sql")


def ask(platform: Platform, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the lines by their name."""
    config = write_config(folder, {"main": platform.dsn})
    result = CliRunner().invoke(
        cli, ["preflight", "--config.file", str(config), "--json", *arguments]
    )
    assert result.exit_code in (0, 1), result.output + repr(result.exception)
    document = json.loads(result.stdout)
    return result.exit_code, {line["name"]: line for line in document["lines"]}


def verdicts(lines: dict[str, Any], group: str) -> dict[str, str]:
    return {name: line["verdict"] for name, line in lines.items() if line["group"] == group}


GOOD = {"whole": "go", "age": "go", "origin": "go", "contents": "go"}


@pytest.mark.parametrize("form", ["plain", "custom", "directory", "tar"])
def test_a_backup_of_every_format_is_read_to_its_end(
    before: Platform, tmp_path: Path, form: str
) -> None:
    file = dump(before, tmp_path / "backup", f"--format={form}")
    _, lines = ask(before, tmp_path, "--backup", str(file))

    assert verdicts(lines, "backup") == GOOD, lines
    assert f"chats {CHATS:,}" in lines["contents"]["found"]
    is_dated = form in ("custom", "directory", "tar")
    assert ("by its header" in lines["age"]["found"]) == is_dated


def test_a_packed_backup_is_read_too(before: Platform, plain: Path, tmp_path: Path) -> None:
    packed = tmp_path / "backup.sql.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert verdicts(ask(before, tmp_path, "--backup", str(packed))[1], "backup") == GOOD


def test_truncated_empty_foreign_stale_and_encrypted_backups_are_told_apart(
    before: Platform, plain: Path, tmp_path: Path
) -> None:
    content = plain.read_bytes()
    custom = dump(before, tmp_path / "custom", "--format=custom").read_bytes()
    found = {}
    for name, data in {
        "half": content[: len(content) // 2],
        "without its end": content[:-200],
        "half of an archive": custom[: len(custom) - len(custom) // 3],
        "half of a gzip": gzip.compress(content)[:-2000],
        "empty": b"",
        "age": b"age-encryption.org/v1\n-> X25519 abc",
        "gpg": b"-----BEGIN PGP MESSAGE-----\n",
        "openssl": b"Salted__abcdefgh",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(2000),
    }.items():
        file = tmp_path / "backup"
        file.write_bytes(data)
        code, lines = ask(before, tmp_path, "--backup", str(file))
        assert code == 1, name
        assert verdicts(lines, "backup") == {"whole": "no-go"}, name
        found[name] = lines["whole"]["found"]
    assert all("cut off" in found[n] for n in ("half", "without its end", "half of a gzip")), found
    assert found["half of an archive"], found
    assert found["empty"] == "is empty"
    assert "encrypted by age" in found["age"]
    assert "encrypted by PGP" in found["gpg"]
    assert "encrypted by openssl" in found["openssl"]
    assert "no backup of pg_dump" in found["a picture"]


def test_a_stale_one_and_one_of_another_database_are_named(
    before: Platform, plain: Path, postgres_server: LocalServer, tmp_path: Path
) -> None:
    old = tmp_path / "old.sql"
    old.write_bytes(plain.read_bytes())
    os.utime(old, (1_700_000_000, 1_700_000_000))
    _, lines = ask(before, tmp_path, "--backup", str(old))
    assert verdicts(lines, "backup") == {**GOOD, "age": "no-go"}

    with old_platform(postgres_server, 100) as other:
        small = dump(other, tmp_path / "small.sql")
        other.execute("CREATE DATABASE elsewhere")
        try:
            elsewhere = psycopg.conninfo.make_conninfo(other.dsn, dbname="elsewhere")
            program = embedded_bin_dir() / "pg_dump"
            foreign = tmp_path / "foreign.sql"
            subprocess.run([program, f"--file={foreign}", elsewhere], check=True)
        finally:
            other.execute("DROP DATABASE elsewhere")
    _, lines = ask(before, tmp_path, "--backup", str(small))
    assert lines["origin"]["verdict"] == "no-go"
    details = lines["origin"]["details"]
    assert any(each.startswith("chats: 100 rows, production about") for each in details)
    _, lines = ask(before, tmp_path, "--backup", str(foreign))
    assert "tables are not in it" in lines["origin"]["found"]


def test_a_schema_without_rows_is_no_backup(before: Platform, tmp_path: Path) -> None:
    file = dump(before, tmp_path / "schema.sql", "--schema-only")
    _, lines = ask(before, tmp_path, "--backup", str(file))
    assert lines["contents"]["found"] == "it holds only the schema"
    assert lines["contents"]["verdict"] == "no-go"


def test_rows_as_inserts_are_unknown(before: Platform, tmp_path: Path) -> None:
    file = dump(before, tmp_path / "inserts.sql", "--inserts")
    _, lines = ask(before, tmp_path, "--backup", str(file))
    expected = {**GOOD, "origin": "unknown", "contents": "unknown"}
    assert verdicts(lines, "backup") == expected


def test_client_programs_older_than_the_backup_or_the_server_are_named(
    before: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dump(before, tmp_path / "custom", "--format=custom")
    tool = tmp_path / "bin" / "pg_restore"
    tool.parent.mkdir()
    words = "pg_restore: error: unsupported version (1.16) in file header"
    tool.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    tool.chmod(0o755)
    old = backups.Installation(13, tool.parent)
    monkeypatch.setattr("exporter.preflight.run.choose_tools", lambda _: old)
    _, lines = ask(before, tmp_path, "--backup", str(file))
    assert lines["client programs"]["verdict"] == "no-go"
    assert "the client programs here are of 13" in lines["client programs"]["found"]
    assert lines["whole"]["verdict"] == "unknown"
    assert lines["whole"]["found"] == "pg_restore 13 is older than its format 1.16"


def test_what_is_pending_is_told_with_checksums(before: Platform, tmp_path: Path) -> None:
    files = sorted(MIGRATIONS.glob("*.sql"))
    sums = tmp_path / "sums"
    sums.write_text(
        "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)
    )
    arguments = ("--migrations", str(MIGRATIONS), "--reviewed", str(sums))
    _, lines = ask(before, tmp_path, *arguments)
    assert lines["the fix's objects"]["verdict"] == "go"
    assert "none of" in lines["the fix's objects"]["found"]
    assert lines["applied migrations"]["verdict"] == "unknown"
    pending = verdicts(lines, "pending")
    danger = verdicts(lines, "danger")
    assert danger.pop("rehearsal") == "unknown"
    assert danger == {f"locks of {file.name}": "unknown" for file in files}
    assert {pending[file.name] for file in files} == {"go"}

    before.execute("CREATE SCHEMA supabase_migrations")
    try:
        before.execute("CREATE TABLE supabase_migrations.schema_migrations (version text)")
        before.execute("INSERT INTO supabase_migrations.schema_migrations VALUES ('013'), ('014')")
        _, lines = ask(before, tmp_path, *arguments)
        assert lines["applied migrations"]["found"] == "1 of 3 files are applied"
        assert "014_chat_states.sql" not in lines
        before.execute("UPDATE supabase_migrations.schema_migrations SET version = '016'")
        _, lines = ask(before, tmp_path, *arguments)
        assert lines["applied migrations"]["verdict"] == "no-go"
    finally:
        before.execute("DROP SCHEMA supabase_migrations CASCADE")


def test_a_fix_that_is_half_there_is_a_no_go(before: Platform, tmp_path: Path) -> None:
    before.execute("ALTER TABLE public.chats ADD COLUMN last_operator_id uuid")
    try:
        code, lines = ask(before, tmp_path)
        assert (code, lines["the fix's objects"]["verdict"]) == (1, "no-go")
        assert "1 of" in lines["the fix's objects"]["found"]
    finally:
        before.execute("ALTER TABLE public.chats DROP COLUMN last_operator_id")


def test_a_long_transaction_and_a_lock_that_is_waited_for_are_no_gos(
    before: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.preflight.now.LONG_S", 0.0)
    with psycopg.connect(before.dsn) as holder, psycopg.connect(before.dsn) as waiter:
        holder.execute("LOCK TABLE public.operator_stats")
        waiter.execute("SET lock_timeout = '20s'")
        pipeline = waiter.pgconn
        pipeline.send_query(b"LOCK TABLE public.operator_stats")
        _, lines = ask(before, tmp_path)
        while lines["lock waits"]["verdict"] == "go":
            _, lines = ask(before, tmp_path)
        assert lines["lock waits"]["details"] == ["operator_stats"]
        assert lines["transactions"]["verdict"] == "no-go"
        holder.rollback()
        pipeline.get_result()
        waiter.close()
    _, lines = ask(before, tmp_path)
    assert lines["lock waits"]["verdict"] == "go"


def test_a_role_that_may_only_read_gets_an_answer_to_everything(
    before: Platform, tmp_path: Path
) -> None:
    before.execute("CREATE ROLE looker LOGIN")
    try:
        before.execute("GRANT USAGE ON SCHEMA public TO looker")
        config = write_config(
            tmp_path, {"main": psycopg.conninfo.make_conninfo(before.dsn, user="looker")}
        )
        result = CliRunner().invoke(cli, ["preflight", "--config.file", str(config), "--json"])
        lines = {line["name"]: line for line in json.loads(result.stdout)["lines"]}
        assert lines["people"]["verdict"] == lines["hour"]["verdict"] == "unknown"
        assert lines["connections"]["verdict"] == "go"
        assert "chats" in lines["people"]["found"]
    finally:
        before.execute("DROP OWNED BY looker")
        before.execute("DROP ROLE looker")
