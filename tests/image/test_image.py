"""The container image, really built and really run, on a base made of Debian's own archive.

Needs root, buildah and mmdebstrap, and takes minutes: `make test-image` runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from exporter.demo.machine import find_free_port
from tests.matrix.__main__ import find_pip_places
from tests.servers import Platform, require_tool

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Storage of its own, and no daemon."""
    if os.geteuid() != 0:
        pytest.skip("building an image without a daemon needs root here")
    folder = tmp_path_factory.mktemp("images")
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    )
    return {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(config),
        "BUILDAH_ISOLATION": "chroot",
        "IMAGE_TOOL": "buildah",
        "PYTHON": sys.executable,
    }


def run(*command: object, env: dict[str, str], cwd: Path = ROOT) -> str:
    done = subprocess.run(
        list(map(str, command)), env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def image(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A container of the built image and the folder where its files are."""
    buildah = require_tool("buildah", "buildah")
    folder = tmp_path_factory.mktemp("base")
    packages = "--include=python3,python3-venv,ca-certificates"
    mmdebstrap = require_tool("mmdebstrap", "mmdebstrap")
    run(mmdebstrap, "--quiet", "--variant=minbase", packages, "bookworm", folder / "base.tar",
        env=environment)  # fmt: skip
    (folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
    run(buildah, "build", "--quiet", "--tag", "localhost/base", ".", env=environment, cwd=folder)
    places = [f"--volume={place}:{place}:ro" for place in find_pip_places()]
    run(ROOT / ".ci/image", "localhost/exporter", "--pull=false", "--build-arg",
        "BASE=localhost/base", *places, env=environment)  # fmt: skip
    container = run(buildah, "from", "--pull=false", "localhost/exporter", env=environment).strip()
    mounted = run(buildah, "mount", container, env=environment).strip()
    yield container, Path(mounted)
    run(buildah, "rm", container, env=environment)


def test_it_says_what_it_is_and_runs_as_nobody(
    image: tuple[str, Path], environment: dict[str, str]
) -> None:
    text = run("buildah", "inspect", "--type", "image", "localhost/exporter", env=environment)
    config = json.loads(text)["Docker"]["config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["chatqueue"]
    assert config["Healthcheck"]["Test"] == ["CMD", "chatqueue", "healthcheck"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "chatqueue-exporter"
    assert labels["org.opencontainers.image.version"] not in ("", "unknown")


def test_the_list_of_what_is_in_it_names_every_package(image: tuple[str, Path]) -> None:
    _, root = image
    listed = json.loads((root / "opt/chatqueue/sbom.cdx.json").read_text())
    names = {component["name"].replace("_", "-") for component in listed["components"]}
    assert {"chatqueue-exporter", "psycopg", "prometheus-client", "uvicorn"} <= names
    assert not list((root / "opt/chatqueue").rglob("pip"))
    assert not list((root / "opt/chatqueue").rglob("__pycache__"))


@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
def test_it_is_scraped_reloaded_and_stopped_on_a_root_that_cannot_be_written_to(
    image: tuple[str, Path], platform: Platform, tmp_path: Path
) -> None:
    _, root = image
    port = find_free_port()
    file = root / "etc/chatqueue/chatqueue.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("databases: {main: {dsn: '${CHATQUEUE_DSN}'}}\n")
    # A mount namespace of its own, the root bound read-only, a user without a name or a home.
    enter = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
        ' && mount --bind /proc "$1/proc" && mount --bind /dev "$1/dev"'
        ' && exec chroot --userspec=65532:65532 "$1" /usr/bin/env -i'
        ' PATH=/opt/chatqueue/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1 "CHATQUEUE_DSN=$2"'
        " chatqueue run --config.file /etc/chatqueue/chatqueue.yaml"
        ' --web.listen-address "127.0.0.1:$3"'
    )
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", enter, "sh", root, platform.dsn, str(port)],
            stdout=out,
            stderr=out,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: requests.get(f"{url}/-/ready", timeout=2).ok, process, log)
        page = requests.get(f"{url}/metrics", timeout=10).text
        assert 'chatqueue_database_up{database="main"} 1.0' in page
        file.write_text("databases: {again: {dsn: '${CHATQUEUE_DSN}'}}\n")
        process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: 'database="again"' in requests.get(f"{url}/metrics", timeout=2).text,
            process,
            log,
        )
        health = subprocess.run(
            [shutil.which("chroot"), "--userspec=65532:65532", root, "/opt/chatqueue/bin/chatqueue",
             "healthcheck", "--url", f"{url}/-/healthy"],
            capture_output=True, text=True, check=False, env={},
        )  # fmt: skip
        assert health.returncode == 0, health.stderr
    finally:
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert time.monotonic() - started < 2
    assert "Traceback" not in log.read_text()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    started = time.monotonic()
    while True:
        try:
            if condition():
                return
        except requests.RequestException:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - started < DEADLINE_S, log.read_text()
        time.sleep(0.1)
