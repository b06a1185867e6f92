"""The shipped alert rules, fitted to a Prometheus: its job's name and where pages link to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.resources import find_resource

JOB = "chatqueue"
RUNBOOKS = "docs/runbooks.md"
_SUFFIX = ".rules.yml"


@dataclass(frozen=True, slots=True)
class Links:
    """What the rules are fitted to.

    Attributes:
        job: Name of the scrape job.
        runbooks: Where the runbooks are published; each alert's section follows after `#`.
        grafana: Root of Grafana, without a slash at the end; empty leaves paths.
    """

    job: str = JOB
    runbooks: str = RUNBOOKS
    grafana: str = ""


def read_rules(links: Links) -> dict[str, str]:
    """Return file name to text of every rule file, fitted to `links`."""
    return {
        path.name: _fit(path.read_text(encoding="utf-8"), links)
        for path in sorted(find_resource("alerts").glob(f"*{_SUFFIX}"))
    }


def write_rules(folder: Path, links: Links) -> tuple[Path, ...]:
    """Write the rule files into a folder, which is made where it is missing.

    Returns:
        The files.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in read_rules(links).items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return tuple(written)


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
    """Put the job and the links into a file's text."""
    return (
        text.replace(f'job="{JOB}"', f'job="{links.job}"')
        .replace(f"job: {JOB}\n", f"job: {links.job}\n")
        .replace(f"runbook_url: {RUNBOOKS}", f"runbook_url: {links.runbooks}")
        .replace("dashboard_url: /d/", f"dashboard_url: {links.grafana}/d/")
    )
