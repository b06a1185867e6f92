"""docs/operating-at-scale.md and deploy/kubernetes: its numbers, the shards, its rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter.config.shard import Shard
from tests.prometheus import promtool
from tests.servers import Platform
from tests.watch import run_watch, write_config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating-at-scale.md").read_text(encoding="utf-8")
MANIFEST = ROOT / "deploy" / "kubernetes" / "overlays" / "shards" / "statefulset.yaml"
CLUSTERS = ("eu", "us")


def table() -> dict[str, tuple[int, int]]:
    """The table of series and samples: of one database, and of a thousand."""
    rows = re.findall(
        r"^\| ((?:series|samples) [^|]+?) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE
    )
    numbers = {name: [int(n.replace(",", "")) for n in some] for name, *some in rows}
    return {name: (one, thousand) for name, (one, thousand) in numbers.items()}


@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
def test_the_page_counts_the_series_that_a_database_has(platform: Platform, tmp_path: Path) -> None:
    names = ("one", "two")
    with run_watch(write_config(tmp_path, dict.fromkeys(names, platform.dsn))) as watch:
        page = watch.page()
    of_one = [
        sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels.get("database") == names[0]
    ]
    ages = [sample for sample in of_one if sample.name == "chatqueue_state_age_chats"]

    # Whoever adds a metric or two need not write the page anew.
    assert table()["series without operators"][0] == pytest.approx(len(of_one), rel=0.05)
    assert f"the {len(ages)} series of `chatqueue_state_age_chats`" in PAGE


def test_the_rest_of_the_table_follows() -> None:
    series, thousand = table()["series with 50 operators"]

    assert series == table()["series without operators"][0] + 50
    for every_s in (15, 30):
        samples = table()[f"samples per second, scraped every {every_s} s"]
        assert samples == (round(series / every_s), round(thousand / every_s, -3))
    assert f"An eighth of that is {round(thousand / 8, -3):,.0f} series on a page" in PAGE
    for name, (one, all_of_them) in table().items():
        assert all_of_them == pytest.approx(1000 * one, rel=0.01), name


def documents() -> dict[tuple[str, str], Any]:
    """The manifest's objects by kind and name."""
    objects = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def mount(folder: Path, data: dict[str, str]) -> None:
    """Lay a ConfigMap out as the kubelet does: each key is a link into a hidden folder."""
    (folder / "..2026_11_27").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_11_27")
    for name, text in data.items():
        (folder / "..2026_11_27" / name).write_text(text, encoding="utf-8")
        (folder / name).symlink_to(f"..data/{name}")


def start(container: Any, pod: str, root: Path) -> str:
    """Run a container's command below a root, with check-config in place of run."""
    command = [part.replace(" run ", " check-config ") for part in container["command"]]
    command = [part.replace("/etc/", f"{root}/etc/") for part in command]
    done = subprocess.run(
        command,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOSTNAME": pod,
            **{variable["name"]: "secret" for variable in container["env"]},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pods_of_the_manifest_share_all_databases(tmp_path: Path) -> None:
    objects = documents()
    workload = objects["StatefulSet", "chatqueue"]["spec"]
    (container,) = workload["template"]["spec"]["containers"]
    maps = {
        volume["name"]: objects["ConfigMap", volume["configMap"]["name"]]["data"]
        for volume in workload["template"]["spec"]["volumes"]
    }
    shown = maps["databases"]
    # As many as a generator may write, each as the manifest shows it.
    text = next(iter(shown.values()))
    maps["databases"] = shown | {f"tenant-{n:04}.yaml": text for n in range(3, 33)}
    for at in container["volumeMounts"]:
        folder = tmp_path / at["mountPath"].removeprefix("/")
        mount(folder, maps[at["name"]])
        for file in folder.glob("*.yaml"):
            file.write_text(file.read_text().replace("/etc/", f"{tmp_path}/etc/"))

    said = [start(container, f"chatqueue-{n}", tmp_path) for n in range(workload["replicas"])]

    counts = [int(re.findall(r": (\d+) databases?, ", text)[0]) for text in said]
    shards = [Shard(n, workload["replicas"]) for n in range(workload["replicas"])]
    names = [name.removesuffix(".yaml") for name in maps["databases"]]
    assert counts == [sum(map(shard.takes, names)) for shard in shards]
    assert sum(counts) == 32


def test_the_manifest_fits_itself_and_the_daemon() -> None:
    objects = documents()
    service = objects["Service", "chatqueue"]
    workload = objects["StatefulSet", "chatqueue"]["spec"]
    (container,) = workload["template"]["spec"]["containers"]
    labels = workload["template"]["metadata"]["labels"]
    (port,) = container["ports"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("readiness", "liveness")]

    assert workload["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == workload["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"] == [{"name": port["name"], "port": port["containerPort"]}]
    assert service["spec"]["clusterIP"] == "None"
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/-/ready", port["name"]),
        ("/-/healthy", port["name"]),
    ]
    assert f"_{port['name']}._tcp.{service['metadata']['name']}." in PAGE
    assert port["containerPort"] == 10847


def test_what_is_missing_in_one_cluster_is_said_of_that_one(tmp_path: Path) -> None:
    (text,) = (
        b for b in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if b.startswith("groups:")
    )
    (tmp_path / "page.rules.yml").write_text(text)
    (group,) = yaml.safe_load(text)["groups"]
    rules = {rule["alert"]: rule for rule in group["rules"]}
    # A database counts once, also while two shards watch it.
    databases = [
        (f'chatqueue_database_up{{cluster="eu",database="d{n}",instance="{i}"}}', "1x80")
        for n in range(1000)
        for i in (("a", "b") if n < 5 else ("a",))
    ]
    up = [
        (f'up{{job="chatqueue",cluster="{c}",instance="{n}"}}', n, c)
        for n in range(8)
        for c in CLUSTERS
    ]

    def expect(alert: str, up_series: list[Any], watched: list[Any], *, fires: bool) -> Any:
        alerts = [
            {"exp_labels": rules[alert]["labels"], "exp_annotations": rules[alert]["annotations"]}
        ]
        series = [{"series": name, "values": values} for name, values in (*up_series, *watched)]
        return {
            "interval": "15s",
            "input_series": series,
            "alert_rule_test": [
                {"eval_time": "15m", "alertname": alert, "exp_alerts": alerts if fires else []}
            ],
        }

    shard, database = rules
    all_up = [(name, "0x80") for name, *_ in up]
    tests = {
        "all shards, though down": expect(shard, all_up, [], fires=False),
        "one is gone": expect(
            shard, [(n, "0x80") for n, i, c in up if (i, c) != (3, "eu")], [], fires=True
        ),
        "all are gone": expect(shard, [(n, "0x80") for n, _, c in up if c != "eu"], [], fires=True),
        "all databases": expect(database, [], databases, fires=False),
        "one is not watched": expect(database, [], databases[:-1], fires=True),
    }

    assert promtool.run_tests(tmp_path, tests, [tmp_path / "page.rules.yml"]) == ""
