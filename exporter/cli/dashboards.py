"""`chatqueue dashboards`: the Grafana dashboards and provisioning as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

import click
import yaml

from exporter.cli.output import write_files
from exporter.cli.rules import check_namespace, read_labels
from exporter.config.resources import find_resource

_PATH = "/var/lib/grafana/dashboards/chatqueue"
_URL = "http://localhost:9090"


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; made where it is missing.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("files", "configmap")),
    default="files",
    show_default=True,
    help="As files for Grafana, or printed as ConfigMaps for the sidecar of its Helm chart.",
)
@click.option("--namespace", default="", callback=check_namespace, help="Of the ConfigMaps.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    default=("grafana_dashboard=1",),
    show_default=True,
    callback=read_labels,
    help="A label of theirs, key=value, by which the sidecar finds them.",
)
@click.option(
    "--prometheus",
    default=_URL,
    show_default=True,
    help="Address of Prometheus, for Grafana's provisioning.",
)
@click.option(
    "--runbook-url",
    help="Where you publish docs/runbooks.md; panels then link to its sections.",
)
def dashboards(
    output: Path | None,
    form: str,
    namespace: str,
    labels: dict[str, str],
    prometheus: str,
    runbook_url: str | None,
) -> None:
    """Write three dashboards for Grafana 10 to 13, and provisioning files that show them at once.

    Import the JSON files in Grafana, or start it with GF_PATHS_PROVISIONING=DIR/provisioning.
    """
    files = {
        file.name: _link(file.read_text("utf-8"), runbook_url)
        for file in sorted(find_resource("dashboards").glob("*.json"))
    }
    if form == "configmap":
        if output is not None:
            raise click.UsageError("--format configmap is printed; --output is for files.")
        click.echo(_build_config_maps(files, namespace, labels), nl=False)
        return
    if output is None:
        raise click.UsageError("missing --output, the folder to write to")
    folder = output.resolve()
    provisioning = find_resource("deploy") / "grafana" / "provisioning"
    for kind, old, new in (("dashboards", _PATH, str(folder)), ("datasources", _URL, prometheus)):
        text = (provisioning / kind / "chatqueue.yaml").read_text("utf-8")
        # A string of JSON is one of YAML; a single $ would begin a variable of Grafana.
        quoted = json.dumps(new.replace("$", "$$"), ensure_ascii=False)
        files[f"provisioning/{kind}/chatqueue.yaml"] = text.replace(old, quoted)
    write_files(folder, files)


def _build_config_maps(files: Mapping[str, str], namespace: str, labels: Mapping[str, str]) -> str:
    """One ConfigMap for each dashboard, as YAML."""
    parts = []
    for name, text in files.items():
        metadata: dict[str, object] = {"name": Path(name).stem}
        if namespace:
            metadata["namespace"] = namespace
        metadata["labels"] = dict(labels)
        head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        parts.append(
            yaml.safe_dump(head, sort_keys=False) + f"data:\n  {name}: |\n{indent(text, '    ')}"
        )
    return "---\n".join(parts)


def _link(text: str, runbook_url: str | None) -> str:
    """The dashboard, its links to runbooks replaced where an address is given."""
    if runbook_url is None:
        return text
    dashboard = json.loads(text)
    for variable in dashboard["templating"]["list"]:
        if variable["name"] == "runbooks":
            variable["query"] = runbook_url
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
