"""`chatqueue preflight`: may the deployment begin? Read-only."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import print_json, write_files
from exporter.config import load_config

_PATH = click.Path(path_type=Path)


@click.command()
@options.config_file
@options.database
@click.option("--backup", type=_PATH, help="Of pg_dump: SQL, custom, directory or tar, or gzip.")
@click.option(
    "--max-age",
    type=options.Span(),
    default="24h",
    show_default=True,
    help="How old the backup may be.",
)
@click.option(
    "--migrations",
    "migrations",
    multiple=True,
    type=_PATH,
    help="A folder with migrations, or a file; may be given more than once.",
)
@click.option("--reviewed", type=_PATH, help="Checksums of what was reviewed, as of sha256sum.")
@click.option("--rehearsal", type=_PATH, help="What chatqueue rehearse --json printed.")
@click.option(
    "--max-lock",
    type=options.Span(),
    default="5s",
    show_default=True,
    help="How long a table of the queue may be locked against somebody.",
)
@click.option("--strict", is_flag=True, help="Let an unknown line be a no-go.")
@click.option("--output", type=_PATH, help="Also write it to this file, as Markdown.")
@options.as_json
def preflight(
    config_file: Path,
    name: str | None,
    backup: Path | None,
    max_age: timedelta,
    migrations: tuple[Path, ...],
    reviewed: Path | None,
    rehearsal: Path | None,
    max_lock: timedelta,
    strict: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Say whether the deployment may begin: go, no-go or unknown for each line, and why.

    The reading role is enough, and nothing is written to the database.

    Exit code 0: no line is a no-go. 1: one is, or with --strict one is unknown.
    """
    from exporter.database import check_dsn
    from exporter.preflight.lines import conclude, to_document, to_markdown, to_text
    from exporter.preflight.run import Request, run

    config = load_config(config_file, check_dsn=check_dsn)
    database, _ = options.pick_database(config.databases, name)
    request = Request(config, database, backup, max_age, migrations, reviewed, rehearsal, max_lock)
    with tempfile.TemporaryDirectory(prefix="chatqueue-preflight-") as folder:
        lines = run(request, Path(folder))
    verdict = conclude(lines, is_strict=strict)
    if output is not None:
        with contextlib.redirect_stdout(sys.stderr):
            write_files(output.parent, {output.name: to_markdown(database, lines, verdict)})
    if as_json:
        print_json(to_document(database, lines, verdict))
    else:
        click.echo(to_text(database, lines, verdict), nl=False)
    sys.exit(1 if verdict == "no-go" else 0)
