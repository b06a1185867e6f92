"""`chatqueue healthcheck`: does the daemon here live? For containers, without curl."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

import click


@click.command()
@click.option(
    "--url",
    default="http://localhost:10847/-/healthy",
    show_default=True,
    help="What to ask; with --web.route-prefix or TLS it differs.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificates to trust.  [default: the system's]",
)
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=5.0, show_default=True)
def healthcheck(url: str, ca_file: Path | None, timeout: float) -> None:
    """Ask the daemon whether it lives: no thread of it is stalled.

    A database that does not answer is no reason to restart it, and is healthy.

    Exit code 0: it is healthy. 1: it is not, or does not answer.
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url {url!r} is not a URL, expected http:// or https://")
    try:
        trusted = ssl.create_default_context(cafile=ca_file) if url.startswith("https") else None
        with urllib.request.urlopen(url, timeout=timeout, context=trusted) as answer:  # noqa: S310
            words = answer.read(1000).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(1000).decode("utf-8", "replace").strip()
        click.echo(f"answered {error.code}: {text}", err=True)
        sys.exit(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        click.echo(f"no answer: {reason}", err=True)
        sys.exit(1)
    click.echo(words)
