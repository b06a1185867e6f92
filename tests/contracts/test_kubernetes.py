"""The manifests for Kubernetes: as kubectl builds them, valid for the oldest and newest version."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from exporter.config import load_config
from tests.servers import require_tool

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
CRDS = yaml.safe_load((Path(__file__).parent / "kubernetes_crds.yaml").read_text())
VERSIONS = ("1.25", kubernetes_validate.latest_version())
Object = Mapping[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests, with what the program prints for the operator's overlay."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(MANIFESTS, copy)
    overlay = copy / "overlays/prometheus-operator"
    text = (overlay / "kustomization.yaml").read_text()
    commands = [line[4:] for line in text.splitlines() if line.startswith("#   chatqueue ")]
    assert len(commands) == 2
    for command in commands:
        words = command.replace("chatqueue", f"{sys.executable} -m exporter", 1)
        subprocess.run(["sh", "-c", words], cwd=overlay, check=True, env={"PYTHONPATH": str(ROOT)})
    return copy


class _Loader(yaml.SafeLoader):
    """YAML 1.2 has no value that is called =."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)


def build(folder: Path, name: str) -> list[Object]:
    kubectl = require_tool("kubectl", "kubernetes-client")
    done = subprocess.run(
        [kubectl, "kustomize", folder / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, _Loader))


FOLDERS = ("base", "overlays/prometheus-operator", "overlays/shards")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_object_is_valid(folder: Path, name: str, version: str) -> None:
    for each in build(folder, name):
        if each["kind"] in CRDS:
            schema = {**CRDS[each["kind"]], "$defs": CRDS["$defs"]}
            jsonschema.validate(each["spec"], schema)
        else:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_operators_overlay_holds_what_it_is_for(folder: Path) -> None:
    kinds = [each["kind"] for each in build(folder, "overlays/prometheus-operator")]
    for kind in ("Deployment", "ServiceMonitor", "PrometheusRule", "AlertmanagerConfig"):
        assert kinds.count(kind) == 1
    assert kinds.count("ConfigMap") == 1 + len(list((ROOT / "dashboards").glob("*.json")))


def pods(objects: list[Object]) -> Iterator[Object]:
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_pod_meets_the_restricted_standard(folder: Path, name: str) -> None:
    found = list(pods(build(folder, name)))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert not any("hostPath" in volume for volume in pod["volumes"])
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
            assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"


def test_what_belongs_together_does(folder: Path) -> None:
    objects = {each["kind"]: each for each in build(folder, "base")}
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = (
        objects["Service"]["spec"]["selector"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
    )
    assert all(selector.items() <= labels.items() for selector in selectors)
    monitor = build(folder, "overlays/prometheus-operator")
    (selector,) = (m["spec"]["selector"] for m in monitor if m["kind"] == "ServiceMonitor")
    assert selector["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()


def test_the_configuration_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    (found,) = (each for each in build(folder, "base") if each["kind"] == "ConfigMap")
    secret = tmp_path / "dsn"
    secret.write_text("host=db user=chatqueue_reader")
    file = tmp_path / "chatqueue.yaml"
    text = found["data"]["chatqueue.yaml"].replace("/run/secrets/chatqueue/dsn", str(secret))
    file.write_text(text)
    assert set(load_config(file).databases) == {"main"}


def test_a_key_that_is_misspelt_is_found() -> None:
    schema = {**CRDS["ServiceMonitor"], "$defs": CRDS["$defs"]}
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        jsonschema.validate({"selector": {}, "endpoints": [{"intervall": "15s"}]}, schema)
