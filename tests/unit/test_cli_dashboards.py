"""`chatqueue dashboards`: the files, and what of them is the reader's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from exporter.cli import cli, main
from exporter.config.resources import find_resource

NAMES = ["chat-queue-exporter.json", "chat-queue-operators.json", "chat-queue-watch.json"]


def write(folder: Path, *options: str) -> Result:
    """Run the command."""
    arguments = ["dashboards", "--output", str(folder), *options]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def runbooks(file: Path) -> str:
    """Where the links of a dashboard's panels lead."""
    variables = json.loads(file.read_text())["templating"]["list"]
    return str(next(v["query"] for v in variables if v["name"] == "runbooks"))


def test_the_dashboards_are_written_as_they_are(tmp_path: Path) -> None:
    done = write(tmp_path / "new" / "folder")

    assert done.exit_code == 0
    written = sorted((tmp_path / "new" / "folder").glob("*.json"))
    assert [file.name for file in written] == NAMES
    for file in written:
        assert file.read_bytes() == (find_resource("dashboards") / file.name).read_bytes()
    listed = done.output.splitlines()
    assert len(listed) == len(NAMES) + 2
    assert all(Path(line).is_file() for line in listed)


def test_grafana_is_told_where_they_are_and_whom_to_ask(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" for $5: #1'
    write(folder, "--prometheus", "https://prometheus.example.com/?tenant=$a")

    provisioning = folder / "provisioning"
    boards = yaml.safe_load((provisioning / "dashboards" / "chatqueue.yaml").read_text())
    sources = yaml.safe_load((provisioning / "datasources" / "chatqueue.yaml").read_text())
    (provider,), (source,) = boards["providers"], sources["datasources"]
    assert boards["apiVersion"] == sources["apiVersion"] == 1
    # Grafana replaces $name by the environment's, and $$ by $.
    assert provider["options"]["path"].replace("$$", "$") == str(folder)
    assert source["url"] == "https://prometheus.example.com/?tenant=$$a"
    assert provider["type"] == "file"
    assert source["type"] == "prometheus"


def test_the_links_lead_to_the_runbooks_that_are_named(tmp_path: Path) -> None:
    write(tmp_path, "--runbook-url", "https://wiki.example.com/chat")

    for name in NAMES:
        assert runbooks(tmp_path / name) == "https://wiki.example.com/chat"
        ours = json.loads((find_resource("dashboards") / name).read_text())
        theirs = json.loads((tmp_path / name).read_text())
        del ours["templating"], theirs["templating"]
        assert theirs == ours


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, "--runbook-url", "https://wiki.example.com/chat")
    write(tmp_path)

    assert runbooks(tmp_path / NAMES[0]) == "docs/runbooks.md"


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SystemExit) as exit_info:
        main(["dashboards", "--output", str(tmp_path / "file" / "below")])

    wanted = tmp_path / "file" / "below" / NAMES[0]
    assert exit_info.value.code == 1
    assert capsys.readouterr().err == f"chatqueue: cannot write {wanted}: Not a directory\n"
