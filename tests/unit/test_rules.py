"""`chatqueue rules`: the shipped files as they are, fitted, or as an object for Kubernetes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli import cli, main
from exporter.config.durations import parse_duration
from exporter.config.resources import find_resource

FILES = sorted(find_resource("alerts").glob("*.rules.yml"))
GROUPS = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["rules", *arguments])
    return result.exit_code, result.output


def test_it_prints_all_rules_as_one_file() -> None:
    code, text = run()

    assert code == 0
    assert yaml.safe_load(text) == {"groups": GROUPS}
    assert "# Thresholds come from the exporter's own configuration" in text


def test_it_writes_the_files_as_they_are_and_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "rules"
    code, text = run("--output", str(folder))

    assert code == 0
    assert text.splitlines() == [str(folder / file.name) for file in FILES]
    assert len(FILES) == 4
    for file in FILES:
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["rules", "--output", str(tmp_path / "file" / "below")])

    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"chatqueue: cannot write {tmp_path}/file/below/{FILES[0].name}: {os.strerror(20)}\n"
    )


def test_it_prints_a_prometheus_rule() -> None:
    arguments = ("--namespace", "monitoring", "--label", "release=prometheus", "--label", "a/b=c")
    code, text = run("--format", "prometheusrule", *arguments)

    assert code == 0
    assert yaml.safe_load(text) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "chatqueue-exporter",
            "namespace": "monitoring",
            "labels": {"release": "prometheus", "a/b": "c"},
        },
        "spec": {"groups": GROUPS},
    }
    assert "expr: |" in text
    assert "metadata:\n  name: chatqueue-exporter\nspec:" in run("--format", "prometheusrule")[1]


def test_it_fits_the_job_and_the_links() -> None:
    code, text = run(
        *("--job", "eu/chat"),
        *("--runbook-url", "https://wiki.example.com/runbooks/"),
        *("--grafana-url", "https://grafana.example.com"),
        *("--exporter-url", "https://chatqueue.example.com:10847/"),
    )
    groups = yaml.safe_load(text)["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}

    assert code == 0
    assert rules["ChatQueueExporterDown"]["expr"] == 'up{job="eu/chat"} == 0'
    assert rules["ChatQueueExporterAbsent"]["expr"] == 'absent(up{job="eu/chat"})'
    assert rules["ChatQueueWatchdog"]["labels"]["job"] == "eu/chat"
    assert rules["ChatQueueWatchdog"]["annotations"]["runbook_url"] == (
        "https://wiki.example.com/runbooks#chatqueuewatchdog"
    )
    for rule in rules.values():
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example.com/d/")
    assert rules["ChatQueueLostReply"]["annotations"]["page_url"] == (
        "https://chatqueue.example.com:10847/#chats-{{ $labels.database }}"
    )
    assert 'job="chatqueue"' not in text


@pytest.mark.parametrize("interval", ["1s", "15s", "30s"])
def test_rules_are_made_for_30_seconds_and_less(interval: str) -> None:
    assert run("--scrape-interval", interval) == run()


@pytest.mark.parametrize(("interval", "scrape_s"), [("45s", 45), ("1m", 60), ("2m", 120)])
def test_a_window_holds_four_scrapes_and_a_for_two(interval: str, scrape_s: int) -> None:
    # That of a subquery, [10m:1m], is of minutes, whatever the scrape.
    windows = [parse_duration(w).total_seconds() for w in re.findall(r"\[(\w+)\]", run()[1])]
    shown = run("--scrape-interval", interval)[1]
    fitted = [parse_duration(w).total_seconds() for w in re.findall(r"\[(\w+)\]", shown)]
    rules = [rule for group in yaml.safe_load(shown)["groups"] for rule in group["rules"]]

    assert fitted == [max(4 * scrape_s, window_s) for window_s in windows]
    for rule in rules:
        if "for" in rule:
            assert parse_duration(rule["for"]).total_seconds() >= 2 * scrape_s


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--namespace", "x"], "--namespace and --label need --format prometheusrule."),
        (["--label", "a=b"], "--namespace and --label need --format prometheusrule."),
        (["--format", "prometheusrule", "--output", "x"], "--output is for plain files."),
        (["--format", "prometheusrule", "--label", "a"], "'a' is not a label, expected key=value"),
        (
            ["--format", "prometheusrule", "--namespace", "A b"],
            "expected small letters, digits and -",
        ),
        (["--job", 'a"b'], "expected letters, digits and _ . / : -"),
        (["--runbook-url", "x#y"], "expected a URL such as"),
        (["--scrape-interval", "60"], "'60' is not a duration, expected"),
        (["--scrape-interval", "0s"], "expected whole seconds, from 1s to 2m"),
        (["--scrape-interval", "1500ms"], "expected whole seconds, from 1s to 2m"),
        (["--scrape-interval", "3m"], "expected whole seconds, from 1s to 2m"),
    ],
)
def test_a_wrong_use_is_named(arguments: list[str], message: str) -> None:
    code, text = run(*arguments)

    assert code == 2
    assert message in " ".join(text.split())
