"""Options that several commands share, with the names that Prometheus uses."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from exporter.config import Config, parse_duration
from exporter.config.shard import Shard
from exporter.config.watch import TIME_FORM, parse_time
from exporter.errors import ChatqueueError

DEFAULT_ADDRESS = ":10847"
CONFIG_FILES = (Path("chatqueue.yaml"), Path("/etc/chatqueue/chatqueue.yaml"))
"""Searched for the configuration in this order if --config.file is not given."""

_Section = TypeVar("_Section")


class Span(click.ParamType[timedelta]):
    """A duration above 0, written as in the configuration."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse a duration; the error names the expected form."""
        if isinstance(value, timedelta):
            return value
        try:
            span = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not span:
            self.fail("0 is too short, expected a duration such as 2h", param, ctx)
        return span


def read_time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time with its zone, or refuse it with the form that is expected."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}, expected {TIME_FORM}") from None


def pick_database(databases: Mapping[str, _Section], name: str | None) -> tuple[str, _Section]:
    """Return name and section of the database that `--database` names, by default the only one.

    Raises:
        ChatqueueError: No database has that name, or none is named and there are several.
    """
    if name is None and len(databases) == 1:
        return next(iter(databases.items()))
    if name is None or name not in databases:
        problem = f"{name} is not configured" if name else "is not given"
        raise ChatqueueError(f"--database {problem}, expected one of {', '.join(databases)}")
    return name, databases[name]


def pick_databases(databases: Mapping[str, _Section], name: str | None) -> Mapping[str, _Section]:
    """Return the database that `--database` means by its name; all where none is given.

    Raises:
        ChatqueueError: There is none of that name.
    """
    return databases if name is None else dict((pick_database(databases, name),))


def read_writing_dsn(config: Config, database: str, variable: str | None) -> str:
    """Return the connection string in the environment variable, or else the releaser's.

    Raises:
        ChatqueueError: The variable holds no connection string.
    """
    if variable is None:
        section = config.databases[database]
        return (section.release_dsn or section.dsn).get_secret_value()
    from exporter.database import check_dsn

    dsn = os.environ.get(variable, "").strip()
    problem = check_dsn(dsn) if dsn else ("is not set", "a connection string")
    if problem:
        raise ChatqueueError(f"--dsn-from {variable}: {', expected '.join(problem)}")
    return dsn


def _find_config_file(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
    """Return the given file, or the first of `CONFIG_FILES` that exists."""
    path = value or next((path for path in CONFIG_FILES if path.exists()), None)
    if path is None and not ctx.resilient_parsing:
        places = " nor ".join(str(path) for path in CONFIG_FILES)
        raise click.UsageError(f"neither {places} exists, name a file with --config.file")
    return path or CONFIG_FILES[0]


def require_config_file(context: click.Context, found: Path) -> None:
    """Refuse to go on without a configuration where `config_file_if_any` found none."""
    if found == CONFIG_FILES[0] and not found.exists():
        _find_config_file(context, click.Option(["--config.file", "config_file"]), None)


def _find_config_file_if_any(_: click.Context, __: click.Parameter, value: Path | None) -> Path:
    """The same without an error, for a command that may not need the file."""
    return value or next((path for path in CONFIG_FILES if path.exists()), CONFIG_FILES[0])


config_file, config_file_if_any = (
    click.option(
        "--config.file",
        "config_file",
        type=click.Path(path_type=Path),
        callback=callback,
        help="Configuration file; by default chatqueue.yaml here or in /etc/chatqueue.",
    )
    for callback in (_find_config_file, _find_config_file_if_any)
)


def _parse_shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    try:
        return Shard.parse(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


shard = click.option(
    "--shard",
    metavar="NUMBER/COUNT",
    callback=_parse_shard,
    help="Take only this share of the databases, by a hash of their names: 0/8 to 7/8 for eight "
    "daemons with one configuration.  [default: all]",
)
web_config_file = click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    default=None,
    help="TLS and basic authentication, in the format of Prometheus's exporter-toolkit.",
)
enable_lifecycle = click.option(
    "--web.enable-lifecycle",
    "enable_lifecycle",
    is_flag=True,
    help="Allow a reload by POST /-/reload.",
)
log_level = click.option(
    "--log.level",
    "log_level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    show_default=True,
    help="Only log messages with this level or above.",
)
log_format = click.option(
    "--log.format",
    "log_format",
    type=click.Choice(("logfmt", "json")),
    default="logfmt",
    show_default=True,
    help="Format of log messages on standard error.",
)
dsn_from = click.option(
    "--dsn-from",
    metavar="VARIABLE",
    help="Environment variable that holds the connection string for writing; by default "
    "release_dsn, else dsn.",
)
database = click.option(
    "--database",
    "name",
    default=None,
    help="Name of the database; required if several are configured.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
by = click.option(
    "--by",
    default=getpass.getuser,
    show_default="your login",
    help="Recorded as actor.",
)
