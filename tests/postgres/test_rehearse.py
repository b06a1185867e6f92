"""`chatqueue rehearse` as a process, on a backup of a platform from before the fix."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from exporter.demo.platform import MIGRATIONS
from exporter.demo.postgres import LocalServer, embedded_bin_dir
from exporter.rehearsal.migrations import MigrationFailed, apply_migration
from tests.postgres.test_cli_helpers import COMMAND, Command, tidy_environment
from tests.postgres.test_rollback import definitions
from tests.servers import Platform, memory_directory, old_platform
from tests.watch import write_config


@pytest.fixture
def before(postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform of 400 chats without the fix."""
    with old_platform(postgres_server, 400) as platform:
        platform.execute("ANALYZE")
        yield platform


@pytest.fixture
def scratch_parent() -> Iterator[Path]:
    """A folder for temporary files that every account can reach."""
    with tempfile.TemporaryDirectory(dir=memory_directory()) as name:
        folder = Path(name)
        folder.chmod(0o1777)  # as /tmp: the server runs as another account
        yield folder


def dump(platform: Platform, file: Path, *arguments: str) -> Path:
    """A backup of the platform."""
    program = embedded_bin_dir() / "pg_dump"
    subprocess.run([program, *arguments, f"--file={file}", platform.dsn], check=True)
    return file


def rehearse(
    platform: Platform, folder: Path, *arguments: str, **environment: str
) -> tuple[int, str, str]:
    """Run the command to its end; exit code, output and error output."""
    config = write_config(folder, {"main": platform.dsn})
    command = [*COMMAND, "rehearse", "--config.file", str(config), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**tidy_environment(), **environment},
    )
    return done.returncode, done.stdout, done.stderr


def names(document: dict[str, Any]) -> list[str]:
    """The steps of a report."""
    return [step["name"] for step in document["steps"]]


@pytest.mark.slow
def test_the_deployment_and_the_way_back_on_a_copy(
    before: Platform, tmp_path: Path, scratch_parent: Path
) -> None:
    backup = dump(before, tmp_path / "backup", "--format=custom")
    was = definitions(before)

    code, text, errors = rehearse(
        before,
        tmp_path,
        *("--backup", str(backup), "--migrations", str(MIGRATIONS), "--people", "2"),
        *("--json", "--output", str(tmp_path / "report.md")),
        TMPDIR=str(scratch_parent),
    )

    document = json.loads(text)
    assert code == 0, document["steps"]
    assert document["scratch_version"] >= before.server.version_num // 10_000
    first, *_ = document["migrations"]
    assert first["rewrites"] == [{"relation": "public.chats", "is_whole": False, "rows": 400}]
    assert (first["locks"][0]["relation"], first["locks"][0]["mode"]) == (
        "public.chats",
        "AccessExclusiveLock",
    )
    assert document["rows"]["chats"] == {"copy": 400, "production": 400}
    assert names(document)[-1] == "verify again"
    assert "[ 1/15] restore (about" in errors
    assert "# Rehearsal of main: it went as it should" in (tmp_path / "report.md").read_text()
    assert definitions(before) == was
    assert list(scratch_parent.iterdir()) == []


@pytest.mark.newest
def test_a_dump_of_the_schema_alone_and_dropped_columns(before: Platform, tmp_path: Path) -> None:
    code, text, _ = rehearse(
        before,
        tmp_path,
        *("--schema-only", "--migrations", str(MIGRATIONS), "--people", "0", "--drop-columns"),
    )

    assert code == 0, text
    assert "in production unknown: the copy holds no rows" in text


@pytest.mark.newest
def test_a_given_server_is_used_and_left_empty(
    before: Platform, own_server: LocalServer, tmp_path: Path
) -> None:
    backup = dump(before, tmp_path / "backup.sql")
    arguments = ("--backup", str(backup), "--migrations", str(MIGRATIONS), "--people", "0")

    code, text, _ = rehearse(
        before, tmp_path, *arguments, "--scratch-dsn", "SCRATCH", SCRATCH=own_server.dsn()
    )

    assert code == 0, text
    listing = subprocess.run(
        [embedded_bin_dir() / "psql", "-Atc", "SELECT datname FROM pg_database", own_server.dsn()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rehearsal" not in listing.stdout


@pytest.mark.newest
def test_production_is_never_played_on(before: Platform, tmp_path: Path) -> None:
    backup = dump(before, tmp_path / "backup.sql")

    code, text, errors = rehearse(
        before,
        tmp_path,
        *("--backup", str(backup), "--migrations", str(MIGRATIONS)),
        *("--scratch-dsn", "SCRATCH"),
        SCRATCH=before.server.dsn(),
    )

    assert (code, text) == (1, "")
    assert "--scratch-dsn: this is the production server" in errors


@pytest.mark.newest
def test_a_migration_that_fails_ends_the_rehearsal_with_its_name(
    before: Platform, tmp_path: Path
) -> None:
    backup = dump(before, tmp_path / "backup.sql")
    (tmp_path / "014_wrong.sql").write_text("ALTER TABLE public.chat ADD COLUMN a int;")

    code, text, _ = rehearse(
        before,
        tmp_path,
        *("--backup", str(backup), "--migrations", str(tmp_path / "014_wrong.sql")),
    )

    assert code == 1
    assert '014_wrong.sql: relation "public.chat" does not exist' in text
    assert text.endswith("The rehearsal failed.\n")


@pytest.mark.newest
def test_a_file_with_its_own_transactions_is_applied_statement_by_statement(
    before: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "017.sql"
    file.write_text(
        "CREATE INDEX CONCURRENTLY i ON public.chats (updated_at);\n"
        "BEGIN;\nUPDATE public.chats SET message_count = 4;\nCOMMIT;\n"
        "VACUUM FULL public.operators;\n"
    )

    applied = apply_migration(file, before.dsn, embedded_bin_dir(), tmp_path)

    assert not applied.in_one_transaction
    assert {(r.relation, r.is_whole, r.rows) for r in applied.rewrites} == {
        ("public.chats", False, 400),
        ("public.operators", True, 0),
    }


@pytest.mark.newest
def test_a_migration_that_fails_half_way_is_undone(before: Platform, tmp_path: Path) -> None:
    was = definitions(before)
    file = tmp_path / "017.sql"
    file.write_text("ALTER TABLE public.chats ADD COLUMN a int;\nSELECT 1 / 0;\n")

    with pytest.raises(MigrationFailed, match=r"017\.sql: division by zero"):
        apply_migration(file, before.dsn, embedded_bin_dir(), tmp_path)

    assert definitions(before) == was


@pytest.mark.newest
@pytest.mark.parametrize("step", ["restore", "migration 014", "people at work"])
def test_killed_in_the_middle_it_leaves_nothing(
    before: Platform, tmp_path: Path, scratch_parent: Path, step: str
) -> None:
    backup = dump(before, tmp_path / "backup.sql")
    was = definitions(before)
    command = Command(
        *("rehearse", "--config.file", str(write_config(tmp_path, {"main": before.dsn}))),
        *("--backup", str(backup), "--migrations", str(MIGRATIONS)),
        folder=tmp_path,
        env={"TMPDIR": str(scratch_parent)},
    )
    command.wait_until(lambda: f"] {step}" in command.stderr)

    command.process.kill()
    command.process.wait()

    command.wait_until(lambda: not list(scratch_parent.iterdir()))
    command.wait_until(lambda: not _running_in(scratch_parent))
    assert definitions(before) == was


def _running_in(folder: Path) -> list[int]:
    """Processes that name the folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in argument for argument in process.info["cmdline"] or ())
    ]
