"""Options that several commands share, named as Prometheus names its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from exporter.config import parse_duration
from exporter.errors import ChatqueueError

DEFAULT_ADDRESS = ":10847"
CONFIG_FILES = (Path("chatqueue.yaml"), Path("/etc/chatqueue/chatqueue.yaml"))
"""Where the configuration is looked for, in this order, unless it is named."""

_Section = TypeVar("_Section")


class Span(click.ParamType[timedelta]):
    """A duration as in the configuration, and more than none."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it, or say what was expected."""
        if isinstance(value, timedelta):
            return value
        try:
            span = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not span:
            self.fail("0 is no time, expected a duration such as 2h", param, ctx)
        return span


def pick_database(databases: Mapping[str, _Section], name: str | None) -> tuple[str, _Section]:
    """Return the database that `--database` means, and its name; the only one where none is given.

    Raises:
        ChatqueueError: There is none of that name, or there are several.
    """
    if name is None and len(databases) == 1:
        return next(iter(databases.items()))
    if name is None or name not in databases:
        found = "is not configured" if name else "is not given"
        raise ChatqueueError(f"--database {found}, expected one of {', '.join(databases)}")
    return name, databases[name]


def _find_config_file(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
    """The named file, or the first of `CONFIG_FILES` that is there."""
    path = value or next((path for path in CONFIG_FILES if path.exists()), None)
    if path is None and not ctx.resilient_parsing:
        places = " nor ".join(str(path) for path in CONFIG_FILES)
        raise click.UsageError(f"neither {places} is there, name a file with --config.file")
    return path or CONFIG_FILES[0]


def _find_config_file_if_any(_: click.Context, __: click.Parameter, value: Path | None) -> Path:
    """As above, for a command that may not need one; to load a missing one is an error then."""
    return value or next((path for path in CONFIG_FILES if path.exists()), CONFIG_FILES[0])


config_file, config_file_if_any = (
    click.option(
        "--config.file",
        "config_file",
        type=click.Path(path_type=Path),
        callback=callback,
        help="The configuration; unless given, chatqueue.yaml here or in /etc/chatqueue.",
    )
    for callback in (_find_config_file, _find_config_file_if_any)
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
    help="Drop log lines below this level.",
)
log_format = click.option(
    "--log.format",
    "log_format",
    type=click.Choice(("logfmt", "json")),
    default="logfmt",
    show_default=True,
    help="Form of the log lines on standard error.",
)
dsn_from = click.option(
    "--dsn-from",
    metavar="VARIABLE",
    help="Environment variable with the connection string to write with; release_dsn, or else "
    "dsn, unless given.",
)
database = click.option(
    "--database", "name", default=None, help="Which database; needed where there are several."
)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
