"""`chatqueue rehearse`: the deployment and the way back, played on a copy."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli import options
from exporter.cli.output import print_json, write_files
from exporter.config import Config, load_config
from exporter.errors import ChatqueueError
from exporter.text import format_duration

if TYPE_CHECKING:
    from exporter.rehearsal.report import Report
    from exporter.rehearsal.run import Request

_PATH = click.Path(path_type=Path)
# What a plain disk restores in a second, for the estimate alone.
_RESTORED_PER_S = 8e6


@click.command()
@options.config_file
@options.database
@click.option("--backup", type=_PATH, help="Of pg_dump: SQL, custom, directory or tar, or gzip.")
@click.option(
    "--schema-only", is_flag=True, help="Dump production's schema instead, without any row."
)
@click.option(
    "--migrations",
    "migrations",
    multiple=True,
    required=True,
    type=_PATH,
    help="A folder with the files still to apply, or a file; may be given more than once.",
)
@click.option(
    "--scratch-dsn",
    metavar="VARIABLE",
    help="Environment variable with a superuser's connection string of a server to play on; by "
    "default one is started and removed.",
)
@click.option(
    "--people",
    "people_s",
    default=60,
    show_default=True,
    type=click.IntRange(0, 3600),
    help="Seconds that simulated people work on the copy.",
)
@click.option("--drop-columns", is_flag=True, help="Roll back with the fix's columns dropped.")
@click.option("--output", type=_PATH, help="Also write the report to this file, as Markdown.")
@options.dsn_from
@options.as_json
def rehearse(
    config_file: Path,
    name: str | None,
    backup: Path | None,
    schema_only: bool,
    migrations: tuple[Path, ...],
    scratch_dsn: str | None,
    people_s: int,
    drop_columns: bool,
    output: Path | None,
    dsn_from: str | None,
    as_json: bool,
) -> None:
    """Play the deployment and the way back on a copy of the database.

    Production is only read. On the copy the backup is restored, the migrations are applied one by
    one, verify and its flow are run, simulated people work, all is rolled back and deployed again.

    Exit code 0: it went as it should. 1: it did not, and where is printed.
    """
    if schema_only == (backup is not None):
        raise click.UsageError("expected either --backup FILE or --schema-only")
    from exporter.database import check_dsn
    from exporter.rehearsal.backup import detect_format
    from exporter.rehearsal.migrations import find_migrations
    from exporter.rehearsal.report import to_document, to_markdown, to_text
    from exporter.rehearsal.run import Request

    config = load_config(config_file, check_dsn=check_dsn)
    name, section = options.pick_database(config.databases, name)
    dsn = section.dsn.get_secret_value()
    if dsn_from is not None:
        dsn = options.read_writing_dsn(config, name, dsn_from)
    if backup is not None:
        detect_format(backup)
    files = find_migrations(migrations)
    request = Request(config, name, dsn, backup, files, drop_columns, float(people_s))
    report = _play(request, _read_variable(config, name, scratch_dsn))
    if output is not None:
        with contextlib.redirect_stdout(sys.stderr):
            write_files(output.parent, {output.name: to_markdown(report)})
    if as_json:
        print_json(to_document(report))
    else:
        click.echo(to_text(report), nl=False)
    sys.exit(0 if report.ok else 1)


def _read_variable(config: Config, name: str, variable: str | None) -> str | None:
    """The connection string of the server to play on."""
    if variable is None:
        return None
    try:
        return options.read_writing_dsn(config, name, variable)
    except ChatqueueError as error:
        raise ChatqueueError(str(error).replace("--dsn-from", "--scratch-dsn")) from error


def _play(request: Request, scratch_dsn: str | None) -> Report:
    """Play it, and return the report."""
    from exporter.rehearsal.programs import choose_server, choose_tools, find_installations
    from exporter.rehearsal.report import Report
    from exporter.rehearsal.run import Rehearsal, read_production
    from exporter.rehearsal.scratch import given_server, own_server

    installations = find_installations()
    tools = choose_tools(installations)
    connect_timeout_s = request.config.poll.connect_timeout.total_seconds()
    production = read_production(request.production_dsn, connect_timeout_s)
    version = production.place.version_num // 10_000
    place = (
        own_server(choose_server(installations, version), tools)
        if scratch_dsn is None
        else given_server(scratch_dsn, production.place, tools)
    )
    with place as scratch:
        source = f"{request.backup}" if request.backup else "production's schema, without rows"
        report = Report(request.database, version, scratch.version, source)
        progress = _Progress(request, Rehearsal.count_steps(request))
        Rehearsal(request, production, scratch, tools, report, progress.note).run()
    return report


class _Progress:
    """One line per step, with what is left as far as it is known."""

    def __init__(self, request: Request, steps: int) -> None:
        self._steps = steps
        self._started = time.monotonic()
        size = _size(request.backup)
        self._estimate_s = 15 + request.people_s + 3 * size / _RESTORED_PER_S

    def note(self, step: str, done: int) -> None:
        """Print that a step begins."""
        left_s = self._estimate_s - (time.monotonic() - self._started)
        left = format_duration(timedelta(seconds=max(left_s, 1)), rounded=True)
        click.echo(f"[{done + 1:>2}/{self._steps}] {step} (about {left} left)", err=True)


def _size(backup: Path | None) -> int:
    if backup is None:
        return 0
    files = backup.rglob("*") if backup.is_dir() else (backup,)
    return sum(file.stat().st_size for file in files if file.is_file())
