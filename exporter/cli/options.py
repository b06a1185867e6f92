"""Options that several commands share, named as Prometheus names its own."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.logs import FORMATS, LEVELS

DEFAULT_ADDRESS = ":10847"

config_file = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    default=Path("chatqueue.yaml"),
    show_default=True,
    help="The configuration.",
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
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Drop log lines below this level.",
)
log_format = click.option(
    "--log.format",
    "log_format",
    type=click.Choice(FORMATS),
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
as_json = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
