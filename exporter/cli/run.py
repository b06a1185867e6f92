"""`chatqueue run`: the daemon."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from exporter.cli import options
from exporter.config.shard import Shard


@click.command()
@options.config_file
@options.shard
@click.option(
    "--web.listen-address",
    "listen_addresses",
    multiple=True,
    default=[options.DEFAULT_ADDRESS],
    show_default=True,
    help="Address to listen on, host:port or unix:/path; repeatable.",
)
@click.option(
    "--web.systemd-socket",
    "is_activated",
    is_flag=True,
    help="Listen on the sockets that systemd opened, and on no address.",
)
@click.option(
    "--web.external-url",
    "external_url",
    metavar="URL",
    help="URL under which the daemon is reachable from outside, for example through a proxy; "
    "used for links and redirects. May be only a path.",
)
@click.option(
    "--web.route-prefix",
    "route_prefix",
    metavar="PATH",
    help="Prefix for the paths of all endpoints.  [default: path of the external URL]",
)
@options.web_config_file
@options.enable_lifecycle
@options.log_level
@options.log_format
def run(
    config_file: Path,
    shard: Shard | None,
    listen_addresses: Sequence[str],
    is_activated: bool,
    external_url: str | None,
    route_prefix: str | None,
    web_config_file: Path | None,
    enable_lifecycle: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Poll the databases and serve /metrics until stopped.

    SIGTERM and SIGINT stop it, SIGHUP reloads the configuration.
    """
    _import_structlog_without_rich()
    from exporter.daemon import Daemon
    from exporter.server.listen import SYSTEMD
    from exporter.server.routes import build_place
    from exporter.service import configure_logging, serve

    try:
        place = build_place(external_url, route_prefix)
    except ValueError as error:
        raise click.UsageError(f"--web.external-url or --web.route-prefix: {error}") from None
    configure_logging(log_level, log_format)
    _collect_garbage_rarely()
    daemon = Daemon(config_file, shard)
    serve(
        daemon,
        (SYSTEMD,) if is_activated else listen_addresses,
        web_config_file=web_config_file,
        enable_lifecycle=enable_lifecycle,
        place=place,
    )


def _collect_garbage_rarely() -> None:
    """Leave out most full collections: each stops all threads, 0.1 s with 100 databases.

    Younger generations take what exceptions leave behind; a full one finds next to nothing.
    """
    gc.freeze()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, 100)  # ten times Python's own


def _import_structlog_without_rich() -> None:
    """Keep rich out of the daemon: structlog imports it for coloured tracebacks (3.5 MB)."""
    if not {"rich", "structlog"} & sys.modules.keys():
        sys.modules["rich"] = None  # type: ignore[assignment]  # Python's way to say "not installed"
        import structlog  # noqa: F401

        del sys.modules["rich"]
