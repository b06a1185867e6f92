"""`chatqueue dashboards`: the Grafana dashboards and provisioning as files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.cli.output import write_files
from exporter.config.resources import find_resource

_PATH = "/var/lib/grafana/dashboards/chatqueue"
_URL = "http://localhost:9090"


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write to; made where it is missing.",
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
def dashboards(output: Path, prometheus: str, runbook_url: str | None) -> None:
    """Write three dashboards for Grafana 10 to 13, and provisioning files that show them at once.

    Import the JSON files in Grafana, or start it with GF_PATHS_PROVISIONING=DIR/provisioning.
    """
    folder = output.resolve()
    files = {
        file.name: _link(file.read_text("utf-8"), runbook_url)
        for file in sorted(find_resource("dashboards").glob("*.json"))
    }
    provisioning = find_resource("deploy") / "grafana" / "provisioning"
    for kind, old, new in (("dashboards", _PATH, str(folder)), ("datasources", _URL, prometheus)):
        text = (provisioning / kind / "chatqueue.yaml").read_text("utf-8")
        # A string of JSON is one of YAML; a single $ would begin a variable of Grafana.
        quoted = json.dumps(new.replace("$", "$$"), ensure_ascii=False)
        files[f"provisioning/{kind}/chatqueue.yaml"] = text.replace(old, quoted)
    write_files(folder, files)


def _link(text: str, runbook_url: str | None) -> str:
    """The dashboard, its links to runbooks replaced where an address is given."""
    if runbook_url is None:
        return text
    dashboard = json.loads(text)
    for variable in dashboard["templating"]["list"]:
        if variable["name"] == "runbooks":
            variable["query"] = runbook_url
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
