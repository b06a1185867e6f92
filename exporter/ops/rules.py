"""The shipped alert rules, fitted to a Prometheus: job, scrape interval and links."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.config.resources import find_resource

JOB = "chatqueue"
RUNBOOKS = "docs/runbooks.md"
# The shipped windows fit this: the shortest, 2m, holds four scrapes, of which one may be missed.
SCRAPE_INTERVAL_S = 30
_SCRAPES_IN_WINDOW = 4
# A condition must hold for two scrapes.
_SCRAPES_IN_FOR = 2
_SUFFIX = ".rules.yml"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])")
_FOR = re.compile(r"(?<=^        for: )(\d+)([smhd])$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Links:
    """Properties of the Prometheus that the rules are fitted to.

    Attributes:
        job: Name of the scrape job.
        runbooks: Where the runbooks are published; each alert's section follows after `#`.
        grafana: Root of Grafana, without a slash at the end; empty leaves paths.
        scrape_interval_s: Between two scrapes of the exporter, in seconds.
        exporter: Root of the daemon's own page, without a slash at the end; empty leaves paths.
    """

    job: str = JOB
    runbooks: str = RUNBOOKS
    grafana: str = ""
    scrape_interval_s: int = SCRAPE_INTERVAL_S
    exporter: str = ""


def read_rules(links: Links) -> dict[str, str]:
    """Return file name to text of every rule file, fitted to `links`."""
    return {
        path.name: _fit(path.read_text(encoding="utf-8"), links)
        for path in sorted(find_resource("alerts").glob(f"*{_SUFFIX}"))
    }


def write_rules(folder: Path, links: Links) -> None:
    """Write the rule files into a folder, which is made where it is missing.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in read_rules(links).items():
        (folder / name).write_text(text, encoding="utf-8")


def build_prometheus_rule(
    links: Links, *, namespace: str = "", labels: Mapping[str, str] | None = None
) -> str:
    """Return the rules as a PrometheusRule of the Prometheus operator.

    Args:
        links: What they are fitted to.
        namespace: Of the object; none where empty.
        labels: Of the object, by which an operator's ruleSelector finds it.
    """
    metadata: dict[str, Any] = {"name": "chatqueue-exporter"}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    groups = [
        group for text in read_rules(links).values() for group in yaml.safe_load(text)["groups"]
    ]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {"groups": groups},
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes expressions as the blocks they are."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else "")


_Dumper.add_representer(str, _write_text)


def _fit(text: str, links: Links) -> str:
    """Put the job, the windows and the links into a file's text."""
    text = _lengthen(_WINDOW, text, _SCRAPES_IN_WINDOW * links.scrape_interval_s)
    text = _lengthen(_FOR, text, _SCRAPES_IN_FOR * links.scrape_interval_s)
    return (
        text.replace(f'job="{JOB}"', f'job="{links.job}"')
        .replace(f"job: {JOB}\n", f"job: {links.job}\n")
        .replace(f"runbook_url: {RUNBOOKS}", f"runbook_url: {links.runbooks}")
        .replace("dashboard_url: /d/", f"dashboard_url: {links.grafana}/d/")
        .replace("page_url: /#", f"page_url: {links.exporter}/#")
    )


def _lengthen(durations: re.Pattern[str], text: str, least_s: int) -> str:
    """Replace shorter durations by `least_s`."""

    def longer(match: re.Match[str]) -> str:
        if int(match[1]) * _UNITS_S[match[2]] >= least_s:
            return match[0]
        return f"{least_s // 60}m" if least_s % 60 == 0 else f"{least_s}s"

    return durations.sub(longer, text)
