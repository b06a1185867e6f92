"""`chatqueue rules`: the alert rules, as files for Prometheus or an object for Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from exporter.cli.output import write_files

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LONGEST_INTERVAL_S = 120
_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*")


def _must_match(pattern: str, expected: str) -> Callable[..., str]:
    """A callback that refuses an option's text unless the whole of it matches."""

    def check(_context: click.Context, _option: click.Parameter, text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise click.BadParameter(expected)
        return text

    return check


_check_job = _must_match(r"[A-Za-z0-9_./:-]+", "expected letters, digits and _ . / : -")
_check_url = _must_match(
    r"((https?://|/)?[^\s#\"'{}]+)?",
    "expected a URL such as https://wiki.example.com/runbooks, no #",
)
check_namespace = _must_match(
    r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)?", "expected small letters, digits and -"
)


def read_labels(
    _context: click.Context, _option: click.Parameter, pairs: Sequence[str]
) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not (_KEY.fullmatch(key) and _LABEL.fullmatch(value)):
            raise click.BadParameter(f"{pair!r} is not a label, expected key=value")
        labels[key] = value
    return labels


def _read_interval(_context: click.Context, _option: click.Parameter, text: str) -> int:
    from exporter.config.durations import parse_duration

    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 1 <= seconds <= LONGEST_INTERVAL_S or seconds % 1:
        # Prometheus ignores samples older than five minutes, and rules look back further.
        raise click.BadParameter("expected whole seconds, from 1s to 2m")
    return int(seconds)


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write them as files into this folder, instead of printing them.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("prometheus", "prometheusrule")),
    default="prometheus",
    show_default=True,
    help="As Prometheus reads them, or as one PrometheusRule of the Prometheus Operator.",
)
@click.option("--namespace", default="", callback=check_namespace, help="Its namespace.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=read_labels,
    help="A label of it, key=value, by which your operator's ruleSelector finds it.",
)
@click.option(
    "--job",
    default="chatqueue",
    show_default=True,
    callback=_check_job,
    help="The scrape job's name in your Prometheus.",
)
@click.option(
    "--scrape-interval",
    "scrape_interval_s",
    default="30s",
    show_default=True,
    callback=_read_interval,
    help="Of that job; above 30s the rules look back further.",
)
@click.option(
    "--runbook-url",
    default="docs/runbooks.md",
    callback=_check_url,
    help="Where people read the runbooks, such as http://HOST:10847/runbooks of the daemon.",
)
@click.option(
    "--grafana-url",
    default="",
    callback=_check_url,
    help="Root of your Grafana; pages then link to its dashboards, else they hold paths.",
)
@click.option(
    "--exporter-url",
    default="",
    callback=_check_url,
    help="Where people open the daemon's own page, such as http://HOST:10847; pages then link to "
    "the chats they are about, else they hold paths.",
)
def rules(
    output: Path | None,
    form: str,
    namespace: str,
    labels: dict[str, str],
    job: str,
    scrape_interval_s: int,
    runbook_url: str,
    grafana_url: str,
    exporter_url: str,
) -> None:
    """Print the alert rules, or write them into a folder.

    Thresholds are not in them: they come from the exporter's configuration, as metrics.
    """
    from exporter.ops.rules import Links, build_prometheus_rule, read_rules

    is_object = form == "prometheusrule"
    if (namespace or labels) and not is_object:
        raise click.UsageError("--namespace and --label need --format prometheusrule.")
    if is_object and output:
        raise click.UsageError("--format prometheusrule is printed; --output is for plain files.")
    links = Links(
        job,
        runbook_url.rstrip("/"),
        grafana_url.rstrip("/"),
        scrape_interval_s,
        exporter_url.rstrip("/"),
    )
    if is_object:
        click.echo(build_prometheus_rule(links, namespace=namespace, labels=labels), nl=False)
        return
    if output is None:
        # All files in one: their groups under one key.
        texts = [text.replace("\ngroups:\n", "\n", 1) for text in read_rules(links).values()]
        click.echo("groups:\n" + "\n".join(texts), nl=False)
        return
    write_files(output, read_rules(links))
