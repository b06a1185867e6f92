"""What the documentation says works: commands run, YAML loads, links lead somewhere.

Each page is walked as a reader would: a block after a line like "`chatqueue.yaml`:" is written to
that file, then the commands run one after the other against a database of the page's own. A command
that cannot run here stands in `NOT_RUN` with the reason.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from exporter.catalogue.mapping import (
    OWN_NAMES,
    OWN_PREFIXES,
    RESERVED_LABELS,
    MetricMapping,
    NeedMapping,
    QueryMapping,
)
from exporter.config import Config, load_config
from exporter.demo.machine import find_free_port
from exporter.demo.postgres import LocalServer
from exporter.demo.scenarios import SCENARIOS
from exporter.errors import Reason
from exporter.server.web_config import WebFile, load_web_config
from tests.builders import make_assigned_chat, make_waiting_chat
from tests.servers import Platform, clone_platform, require_tool, run_server
from tests.watch import run_watch, write_config

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
SHELL = ("console", "bash", "sh")
DSN = "postgresql://watch@db.example.com/chat"

EXPORTER = "chatqueue-exporter"
PROMETHEUS_YML = "/etc/prometheus/prometheus.yml"
ALERTMANAGER_YML = "/etc/prometheus/alertmanager.yml"
# The installation, page by page: what it puts on the machine is put into a root of its own, below.
# What needs a registry, a terminal, an account or a running systemd has a stand-in.
INSTALLATION: dict[str, dict[str, str | None]] = {
    "README.md": {
        "python3 -m venv /opt/chatqueue": "mkdir -p /opt/chatqueue/bin",
        "/opt/chatqueue/bin/pip install .": (
            'install "$(command -v chatqueue)" /opt/chatqueue/bin'
        ),
        "ln -sf /opt/chatqueue/bin/chatqueue /usr/local/bin/chatqueue": None,
        "install -d /etc/chatqueue": None,
        "install -m 0600 /dev/null /etc/chatqueue/dsn": None,
        "${EDITOR:-vi} /etc/chatqueue/dsn": f"echo {DSN} > /etc/chatqueue/dsn",
        f"cp deploy/systemd/{EXPORTER}.service /etc/systemd/system/": None,
        "systemctl daemon-reload": f"systemd-analyze --root=/ verify {EXPORTER}.service",
        f"systemctl enable --now {EXPORTER}": f"systemctl --root=/ enable {EXPORTER}",
        f"cp -b deploy/prometheus/prometheus.example.yml {PROMETHEUS_YML}": None,
        "chatqueue rules --output /etc/prometheus/chatqueue"
        " --runbook-url http://chatqueue.example.com:10847/runbooks": None,
        f"cp -b alerts/alertmanager.example.yml {ALERTMANAGER_YML}": None,
        # The three addresses that the page speaks of.
        f"${{EDITOR:-vi}} {ALERTMANAGER_YML}": (
            f"grep -c '^      - url: https://.*example.com/' {ALERTMANAGER_YML} | grep -x 3"
        ),
        f"promtool check config {PROMETHEUS_YML}": (
            f"promtool check config {PROMETHEUS_YML} | grep '4 rule files found'"
        ),
        f"amtool check-config {ALERTMANAGER_YML}": None,
    },
    "docs/web-configuration.md": {
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365"
        " -subj /CN=chatqueue -addext subjectAltName=DNS:localhost,DNS:chatqueue.example.com"
        " -keyout /etc/chatqueue/key.pem -out /etc/chatqueue/cert.pem": (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365"
            " -subj '/'CN=chatqueue -addext subjectAltName=DNS:localhost,DNS:chatqueue.example.com"
            " -keyout /etc/chatqueue/key.pem -out /etc/chatqueue/cert.pem"
        ),
        "install -D -m 0644 deploy/systemd/web.conf"
        f" /etc/systemd/system/{EXPORTER}.service.d/web.conf": None,
        "systemctl daemon-reload": f"systemd-analyze --root=/ verify {EXPORTER}.service",
        "install -m 0644 /etc/chatqueue/cert.pem /etc/prometheus/chatqueue-ca.pem": None,
        "install -m 0640 -g prometheus /dev/null /etc/prometheus/chatqueue-password": (
            "install -m 0640 /dev/null /etc/prometheus/chatqueue-password"
        ),
        "${EDITOR:-vi} /etc/prometheus/chatqueue-password": (
            "echo secret > /etc/prometheus/chatqueue-password"
        ),
        f"${{EDITOR:-vi}} {PROMETHEUS_YML}": (
            rf"sed -Ei 's,^    # (  |\w+:( \w+)?$),    \1,' {PROMETHEUS_YML}"
            f" && promtool check config {PROMETHEUS_YML}"
            f" && grep -x '    scheme. https' {PROMETHEUS_YML}"
        ),
        "chatqueue rules --output /etc/prometheus/chatqueue"
        " --runbook-url https://chatqueue.example.com:10847/runbooks": None,
    },
    "docs/alerting.md": {
        "install -d -m 0750 -g prometheus /etc/prometheus/secrets": (
            "install -d -m 0750 /etc/prometheus/secrets"
        ),
        "install -m 0640 -g prometheus /dev/null /etc/prometheus/secrets/page-token": (
            "install -m 0640 /dev/null /etc/prometheus/secrets/page-token"
        ),
        "${EDITOR:-vi} /etc/prometheus/secrets/page-token": (
            "echo secret > /etc/prometheus/secrets/page-token"
        ),
    },
    "docs/README.md": {
        "_CHATQUEUE_COMPLETE=bash_source chatqueue > /etc/bash_completion.d/chatqueue": None
    },
}

# Commands that the walk does not run, and why.
NOT_RUN = {
    **dict.fromkeys(itertools.chain(*INSTALLATION.values()), "run in a root of its own below"),
    **dict.fromkeys(
        (
            "apt-get install -y python3-venv postgresql-client curl",
            "apt-get install -y prometheus prometheus-alertmanager",
        ),
        "needs a package archive",
    ),
    **dict.fromkeys(
        (
            "systemctl restart chatqueue-exporter",
            "systemctl restart prometheus prometheus-alertmanager",
            "systemctl reload prometheus",
            "journalctl -u prometheus-alertmanager -g 'Notify'",
        ),
        "needs a running systemd",
    ),
    **dict.fromkeys(
        (
            "curl -fsS --retry 5 --retry-connrefused http://localhost:9093/-/ready",
            (
                "amtool alert add ChatQueueDrill severity=critical job=chatqueue"
                " --alertmanager.url=http://localhost:9093"
            ),
            "promtool query instant http://localhost:9090 'up{job=\"chatqueue\"}'",
            "promtool query instant http://localhost:9090 'ALERTS{alertstate=\"firing\"}'",
            "amtool alert query --alertmanager.url=http://localhost:9093",
        ),
        "needs both running; tests/prometheus/test_first_page.py runs it on them",
    ),
    **{
        f"chatqueue fix {name} CHAT": "needs the id of such a chat; tests/postgres/test_fix.py"
        for name in ("stuck", "last-operator", "requeue", "reopen")
    },
    **dict.fromkeys(
        (
            "chatqueue rollback --plan --output rollback.sql",
            "chatqueue rollback --check rollback.sql",
            "chatqueue rollback --apply rollback.sql --dsn-from DATABASE_URL",
        ),
        "needs a platform before the fix; tests/postgres/test_rollback_command.py",
    ),
    **dict.fromkeys(
        (
            f"chatqueue rehearse {options}"
            for options in (
                "--backup backup.dump --migrations migrations/ --output rehearsal.md",
                "--schema-only --migrations migrations/ --people 0 --dsn-from DATABASE_URL",
            )
        ),
        "needs a platform before the fix; tests/postgres/test_rehearse.py",
    ),
    **dict.fromkeys(
        (
            (
                "chatqueue checklist --plan rollback.sql --rehearsal rehearsal.json"
                " --answers answers.yaml"
            ),
            "chatqueue preflight --migrations migrations/",
            (
                "chatqueue preflight --backup backup.dump --migrations migrations/"
                " --reviewed reviewed.sha256 --rehearsal rehearsal.json --output preflight.md"
            ),
            'chatqueue announce rolled-back --message "We try again tomorrow."',
        ),
        "needs a platform before the fix; tests/postgres/test_deployment.py",
    ),
    'chatqueue announce planned --window "Tuesday 06:00 to 07:00 UTC" --dry-run': (
        "its page's configuration has a webhook's URL; tests/unit/test_announcements.py"
    ),
    "chatqueue watch start": "needs the schema; tests/postgres/test_watch_started.py",
    "chatqueue watch stop": "needs the schema; tests/postgres/test_watch_started.py",
    "chatqueue install --apply": "needs the owner; tests/postgres/test_releaser.py runs it",
    "make image": "takes minutes; make test-image builds it and runs it",
    **dict.fromkeys(
        (
            (
                "docker run --read-only -p 10847:10847 -e CHATQUEUE_DSN"
                " -v ./chatqueue.yaml:/etc/chatqueue/chatqueue.yaml:ro chatqueue-exporter"
            ),
            "docker exec CONTAINER chatqueue check-config --live",
        ),
        "needs docker; make test-image runs the image by other means",
    ),
    "docker compose -f deploy/compose/compose.yaml --profile demo up": (
        "needs docker; tests/prometheus/test_compose.py starts its parts"
    ),
    **dict.fromkeys(
        (
            'kubectl create secret generic chatqueue --from-literal=dsn="$CHATQUEUE_DSN"',
            "kubectl apply --kustomize deploy/kubernetes/base",
            "cd deploy/kubernetes/overlays/prometheus-operator",
            (
                "chatqueue rules --format prometheusrule --label release=kube-prometheus-stack"
                " > prometheusrule.yaml"
            ),
            "chatqueue dashboards --format configmap > dashboards.yaml",
            "kubectl apply --kustomize .",
        ),
        "needs a cluster; tests/contracts/test_kubernetes.py builds and validates all of it",
    ),
    "make demo": "needs a package registry; tests/unit and tests/postgres cover the demo",
    "make test": "runs this very test",
    'make demo ARGS="--scenario rush"': "as make demo; the scenario's name is checked below",
    'make demo ARGS="--scenario vanished-operators --release enforce"': (
        "as make demo; tests/postgres/test_cli_demo.py plays it"
    ),
    "make lint": "needs a package registry; .ci/run runs it",
    "make format": "rewrites the sources",
    "chatqueue dashboards --output grafana --prometheus http://prometheus.example.com:9090"
    " --runbook-url https://wiki.example.com/chatqueue/runbooks": (
        "another host's addresses; tests/unit/test_cli_dashboards.py"
    ),
    "GF_PATHS_PROVISIONING=$PWD/grafana/provisioning grafana server": "needs Grafana",
    "kubectl create configmap chatqueue-databases --from-file=databases.d --dry-run=client -o yaml"
    " | kubectl apply --server-side -f -": "needs a cluster",
    "kubectl rollout restart statefulset/chatqueue": (
        "needs a cluster; test_operating_at_scale.py runs what the manifest starts"
    ),
    "make docs": "rewrites the sources; tests/contracts runs both generators",
    "psql \"$DATABASE_URL\" -c '\\password chatqueue_reader'": "asks for a password on a terminal",
    "psql \"$DATABASE_URL\" -c '\\password chatqueue_releaser'": (
        "asks for a password on a terminal"
    ),
    "journalctl -u chatqueue-exporter --since -1h | grep -E 'reason=other|poller failed'": (
        "needs systemd; the words are checked below"
    ),
    "openssl x509 -noout -enddate -in client.crt": "reads the exporter's own certificate",
    "chatqueue notify --test": (
        "needs a receiver; tests/unit/test_cli_notify.py runs it against one"
    ),
    "chatqueue watch": ("runs until Ctrl-C; tests/unit/test_cli_watch.py runs it on a terminal"),
    "chatqueue report --format html --output report.html": (
        "needs a Prometheus; tests/prometheus/test_watched_day.py runs it on one"
    ),
    "chatqueue report --answers answers.yaml": (
        "needs a Prometheus; tests/prometheus/test_watched_day.py runs it on one"
    ),
    "chatqueue answers answers.yaml": (
        "ends with 3 while something is open; tests/unit/test_answers.py runs it"
    ),
    "/opt/chatqueue/bin/python -c 'import bcrypt, getpass; print(bcrypt.hashpw("
    "getpass.getpass().encode(), bcrypt.gensalt(10)).decode())'": "asks for a password; run below",
    "curl --retry 5 --retry-connrefused --cacert /etc/chatqueue/cert.pem -u prometheus"
    " https://localhost:10847/metrics": (
        "asks for a password on a terminal; tests/unit/test_server_tls.py serves TLS and users"
    ),
}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path below the root.
        line: Where it begins.
        language: The word after the fence.
        text: Its content.
        file: The file the line before it names, or empty.
    """

    page: str
    line: int
    language: str
    text: str
    file: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a shell block; in a console block those after a prompt."""
        if self.language not in SHELL:
            return ()
        text = self.text.replace("\\\n", " ")
        lines = [re.sub(r" {2,}", " ", line).strip() for line in text.splitlines()]
        if self.language == "console":
            return tuple(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        return tuple(line for line in lines if line and not line.startswith("#"))


def read_blocks(page: str) -> list[Block]:
    """Every fenced block of a page."""
    blocks = []
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = next((text for text in reversed(lines[:start]) if text), "")
        named = re.search(r"(?:^|[ (])`([\w./-]+\.(?:yaml|yml|sql))`:$", before)
        text = "\n".join(lines[start + 1 : number]) + "\n"
        language = lines[start].removeprefix("```").strip()
        blocks.append(Block(page, start + 1, language, text, named[1] if named else ""))
        start = None
    assert start is None, f"{page}:{start}: a block is not closed"
    return blocks


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def run_program(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without a terminal; the caller judges its exit code."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        **options,
    )


def copy_tree(target: Path) -> Path:
    """Copy what the generators and the commands of the pages read."""
    for name in ("alerts", "docs", "deploy", "queries"):
        shutil.copytree(ROOT / name, target / name)
    for name in ("pyproject.toml", "config.example.yaml"):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture(scope="module")
def docs_server() -> Iterator[LocalServer]:
    """A server of these tests' own, for the role belongs to the whole server."""
    with run_server("pg18") as server:
        yield server


class Walk:
    """One page's commands in a folder of their own, against a database of their own."""

    def __init__(self, folder: Path, platform: Platform) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "DATABASE_URL": platform.dsn,
            "CHATQUEUE_DSN": platform.dsn_as("chatqueue_reader"),
            "PAGER": "",
            "TERM": "dumb",
            "COLUMNS": "200",
        }
        self.daemon: subprocess.Popen[bytes] | None = None

    def write(self, block: Block) -> None:
        """Write the file a block shows."""
        path = self.folder / block.file.removeprefix("/etc/chatqueue/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        (self.folder / "dsn").write_text(self.environment["CHATQUEUE_DSN"])

    def run(self, block: Block, command: str) -> str:
        """Run one command; return what it wrote."""
        command = command.replace("localhost:10847", f"127.0.0.1:{self.port}")
        if command.startswith("curl "):
            self.start_daemon(f"chatqueue run --config.file {self.config_file()}")
        if f"{command} ".startswith("chatqueue run "):
            self.start_daemon(command)
            return ""
        done = run_program(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
        )
        assert done.returncode == 0, f"{block}: {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def config_file(self) -> Path:
        """The page's configuration, or the shortest one where the page shows none."""
        file = self.folder / "chatqueue.yaml"
        if not file.exists():
            file.write_text("databases:\n  main:\n    dsn: ${CHATQUEUE_DSN}\n")
        return file

    def start_daemon(self, command: str) -> None:
        """Start the daemon, once a page, and wait until it serves figures."""
        if self.daemon is not None:
            return
        with (self.folder / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                [*command.split(), "--web.listen-address", f"127.0.0.1:{self.port}"],
                cwd=self.folder,
                env=self.environment,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        ready = f"http://127.0.0.1:{self.port}/-/ready"
        while time.monotonic() < deadline and self.daemon.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(ready, timeout=5):
                return
            time.sleep(0.05)
        pytest.fail((self.folder / "log").read_text(), pytrace=False)

    def stop(self) -> None:
        """Stop the daemon, if one runs."""
        if self.daemon is not None:
            self.daemon.terminate()
            assert self.daemon.wait(10) == 0


@pytest.fixture
def walk(docs_server: LocalServer, tmp_path: Path) -> Iterator[Walk]:
    """A platform with a calm queue and its reader, and an empty folder with the sources' files."""
    psql = require_tool("psql", "postgresql-client")
    with clone_platform(docs_server) as platform:
        make_waiting_chat(platform, age_s=5)
        make_assigned_chat(platform, age_s=5)
        reader = (ROOT / "deploy" / "postgresql" / "reader.sql").read_bytes()
        platform.connection.execute(reader)
        walk = Walk(copy_tree(tmp_path / "tree"), platform)
        walk.environment["PATH"] += os.pathsep + str(psql.parent)
        try:
            yield walk
        finally:
            walk.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.commands for b in BLOCKS if b.page == page)]
)
def test_every_command_of_a_page_works(page: str, walk: Walk) -> None:
    walk.config_file()
    done: set[str] = set()
    for block in (block for block in BLOCKS if block.page == page):
        if block.file and not block.file.endswith("web.yml"):
            walk.write(block)
            done.clear()
        for command in block.commands:
            if command not in NOT_RUN and command not in done:
                walk.run(block, command)
                done.add(command)


def test_no_reason_is_left_over_for_a_command_that_is_gone() -> None:
    there = {command for block in BLOCKS for command in block.commands}

    assert NOT_RUN.keys() - there == set()


def test_every_block_says_what_it_holds() -> None:
    known = {*SHELL, "yaml", "sql", "promql", ""}

    assert [str(block) for block in BLOCKS if block.language not in known] == []
    # A command cannot hide in a block without a language.
    assert [
        str(b) for b in BLOCKS if not b.language and re.search(r"^\$ ", b.text, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_every_yaml_block_is_what_it_seems(block: Block, tmp_path: Path) -> None:
    data = yaml.safe_load(block.text)
    if "groups" in data:
        check_rules(tmp_path / "rules.yml", block.text)
    elif "scrape_configs" in data:
        for name in ("chatqueue-ca.pem", "chatqueue-password"):
            (tmp_path / name).touch()
        check_prometheus(tmp_path / "prometheus.yml", block.text)
    elif "metrics" in data:
        QueryMapping.model_validate(data)
    elif "tls_server_config" in data:
        # Certificates and hashes are the reader's; tests/unit/test_web_config.py has the keys.
        assert data["tls_server_config"]["cert_file"] == "cert.pem"
    else:
        assert data.keys() <= Config.model_fields.keys(), "neither of the forms known here"
        load_example(tmp_path, block.text)


def load_example(folder: Path, text: str) -> Config:
    """Load a part of a configuration, with the files and the database it takes for granted."""
    if "databases:" not in text:
        text = f"databases:\n  main:\n    dsn: {DSN}\n{text}"
    for name in ("queries.d", "databases.d"):
        (folder / name).mkdir()
    for name in ("dsn", "eu.dsn", "us.dsn"):
        (folder / name).write_text(DSN)
    (folder / "log.token").write_text("x" * 32)
    file = folder / "chatqueue.yaml"
    file.write_text(text, encoding="utf-8")
    environ = {
        "CHATQUEUE_DSN": DSN,
        "CHATQUEUE_RELEASE_DSN": DSN,
        "CHATQUEUE_WEBHOOK_URL": "https://hooks.example.com/x",
    }
    return load_config(file, environ)


def check_rules(file: Path, text: str) -> None:
    """Have promtool judge a file of rules."""
    promtool = require_tool("promtool", "prometheus")
    file.write_text(text, encoding="utf-8")
    done = run_program([promtool, "check", "rules", "--lint-fatal", file])
    assert done.returncode == 0, done.stdout + done.stderr


def check_prometheus(file: Path, text: str) -> None:
    """Have promtool judge a configuration of Prometheus."""
    promtool = require_tool("promtool", "prometheus")
    file.write_text(text, encoding="utf-8")
    done = run_program([promtool, "check", "config", file], cwd=file.parent)
    assert done.returncode == 0, done.stderr


def test_the_first_alert_fires_past_its_threshold_and_not_when_off(tmp_path: Path) -> None:
    promtool = require_tool("promtool", "prometheus")
    (expression,) = [b.text for b in BLOCKS if b.language == "promql"]
    labels = 'database="main", instance="i", job="chatqueue"'
    wait = f"chatqueue_customer_oldest_wait_seconds{{{labels}}}"
    limit = "chatqueue_threshold_customer_wait_seconds{" + labels + ', severity="%s"}'
    test = {
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": wait, "values": "400"},
                    {"series": limit % "warning", "values": "300"},
                    {"series": limit % "critical", "values": "+Inf"},
                ],
                "promql_expr_test": [
                    {
                        "expr": " ".join(expression.split()),
                        "eval_time": "0m",
                        "exp_samples": [{"labels": limit % "warning", "value": 400}],
                    }
                ],
            }
        ]
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    done = run_program([promtool, "test", "rules", file])

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worked_example_gives_the_figures_it_shows(
    docs_server: LocalServer, tmp_path: Path
) -> None:
    blocks = {block.file: block for block in BLOCKS if block.page == "docs/queries.md"}
    for name in ("queries.d/waiting_users.sql", "queries.d/waiting_users.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(blocks[name].text, encoding="utf-8")
    queries: dict[str, Any] = {
        "dirs": [str(tmp_path / "queries.d")],
        "parameters": {"long_after": 20},
    }
    (shown,) = [b.text for b in BLOCKS if b.page == "docs/queries.md" and not b.language]
    with clone_platform(docs_server) as platform:
        make_waiting_chat(platform)
        config = write_config(tmp_path, {"main": platform.dsn}, queries=queries)
        with run_watch(config) as watch:
            watch.wait_until(lambda: "myteam_waiting_chats" in watch.page())
            page = watch.page()

    assert [line for line in page.splitlines() if line.startswith("myteam_")] == shown.splitlines()


def test_the_demo_table_names_every_scenario_once() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)

    assert sorted(named) == sorted(SCENARIOS)


def test_troubleshooting_explains_every_reason_and_quotes_the_log() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    modules = sorted((ROOT / "exporter" / "polling").glob("*.py"))
    poller = "".join(module.read_text(encoding="utf-8") for module in modules)

    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [str(reason) for reason in Reason]
    for event in ("query failed", "poller failed"):
        assert event in text
        assert f'"{event}"' in poller


def test_queries_page_names_every_key() -> None:
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    keys = {*QueryMapping.model_fields, *MetricMapping.model_fields}
    for key in keys:
        assert f"| `{key}` |" in text, key
    for name in (*OWN_PREFIXES, *OWN_NAMES, *RESERVED_LABELS):
        assert f"`{name}`" in text, name
    for need in NeedMapping.model_fields:
        assert f"{need}:" in text, need


def read_prose(page: Path) -> str:
    """A page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of a page's headings."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_internal_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        todo += [(path.parent / link).resolve() for link in links if "://" not in link]

    assert {ROOT / page for page in PAGES} - reached <= {ROOT / "docs" / "README.md"}


def test_the_pages_speak_of_the_product_alone() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        hosts = set(re.findall(r"https?://([\w.-]+)", text))
        # example.com is nobody's: it is kept for documentation.
        real = {host for host in hosts if not host.endswith(".example.com")}

        assert real <= {"localhost", "keepachangelog.com", "semver.org"}, page
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
        assert not re.search(r"/work/|/tmp/|/home/|/root", text), page


def make_root(root: Path) -> None:
    """What a machine has before the installation, as far as it is needed."""
    for folder in (
        *("opt", "usr/local/bin", "etc/systemd/system", "etc/prometheus"),
        *("etc/bash_completion.d", "bin"),
    ):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/true", root / "bin" / "kill")
    for target in ("network-online", "multi-user", "basic", "sysinit", "shutdown"):
        (root / f"etc/systemd/system/{target}.target").write_text("[Unit]\n")


def install_page(page: str, root: Path) -> None:
    """Run a page's part of the installation below `root`."""
    commands = [c for b in read_blocks(page) for c in b.commands if c in INSTALLATION[page]]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    assert commands == list(INSTALLATION[page])
    for command in commands:
        mapped = re.sub(r"(?<=[ =])/(?!dev/)", f"{root}/", INSTALLATION[page][command] or command)
        done = run_program(["bash", "-o", "pipefail", "-c", mapped], cwd=ROOT, env=environment)
        assert done.returncode == 0, f"{command}\n{mapped}\n{done.stdout}\n{done.stderr}"
        assert "chatqueue-exporter.service:" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with all that the pages install, and the files that they show."""
    for tool, package in (
        *(("systemd-analyze", "systemd"), ("systemctl", "systemd"), ("openssl", "openssl")),
        *(("promtool", "prometheus"), ("amtool", "prometheus-alertmanager")),
    ):
        require_tool(tool, package)
    root = tmp_path_factory.mktemp("root")
    make_root(root)
    for page in INSTALLATION:
        install_page(page, root)
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    for page in ("README.md", "docs/web-configuration.md"):
        for block in read_blocks(page):
            if block.file.startswith("/etc/"):
                text = block.text.replace("$2b$10$…", hashed)
                (root / block.file.removeprefix("/")).write_text(text)
    return root


def read_unit(root: Path) -> dict[str, list[str]]:
    """Values by key of the installed unit and its drop-in, as systemd joins them."""
    folder = root / "etc/systemd/system"
    files = (f"{EXPORTER}.service", f"{EXPORTER}.service.d/web.conf")
    unit: dict[str, list[str]] = {}
    for file in files:
        text = (folder / file).read_text().replace("\\\n", " ")
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            unit[key] = [*unit.get(key, []), value] if value else []
    return unit


def test_the_installation_fits_the_unit(installed: Path) -> None:
    unit = read_unit(installed)
    (start,) = unit["ExecStart"]
    needed = [start.split()[0], start.split()[start.split().index("--config.file") + 1]]
    needed += [value.partition(":")[2] for value in unit["LoadCredential"]]
    there = {path.removeprefix("/") for path in needed}
    dsn = installed / "etc/chatqueue/dsn"
    version = run_program([installed / "usr/local/bin/chatqueue", "--version"])
    wants = installed / f"etc/systemd/system/multi-user.target.wants/{EXPORTER}.service"

    assert len(there) == 6
    assert [path for path in there if not (installed / path).exists()] == []
    assert stat.S_IMODE(dsn.stat().st_mode) == 0o600
    assert version.returncode == 0, version.stderr
    assert wants.is_symlink()


def test_one_configuration_serves_root_and_the_service(installed: Path, tmp_path: Path) -> None:
    # Root reads the secret itself, the service has systemd's copy and may not read root's.
    config = installed / "etc/chatqueue/chatqueue.yaml"
    for value in read_unit(installed)["LoadCredential"]:
        name, _, path = value.partition(":")
        shutil.copy(installed / path.removeprefix("/"), tmp_path / name)
    copy = tmp_path / "chatqueue.yaml"
    shutil.copy(config, copy)
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert load_config(config, {}).databases["main"].dsn.get_secret_value() == DSN
    assert load_config(copy, credentials).databases["main"].dsn.get_secret_value() == DSN
    web = load_web_config(tmp_path / "web.yml")
    assert web.tls is not None
    assert list(web.users) == ["prometheus"]


def test_commands_and_options_are_completed_in_bash(installed: Path) -> None:
    script = """
        . "$1"; COMP_WORDS=(chatqueue {}); COMP_CWORD=${{#COMP_WORDS[@]}}; ((COMP_CWORD--))
        _chatqueue_completion chatqueue; echo "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    file = installed / "etc/bash_completion.d/chatqueue"

    for typed, completed in (("check-", "check-config"), ("rules --runb", "--runbook-url")):
        done = run_program(["bash", "-c", script.format(typed), "-", file], env=environment)
        assert done.stdout == f"{completed}\n", done.stderr


def test_a_password_is_hashed_by_the_line_that_the_page_shows() -> None:
    (command,) = (c for b in BLOCKS for c in b.commands if "bcrypt" in c)
    command = command.replace("/opt/chatqueue/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-c", command],
        input="secret\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,  # without a terminal it is asked for on standard input
    )

    hashed = done.stdout.splitlines()[-1].removeprefix("Password: ")
    assert bcrypt.checkpw(b"secret", hashed.encode())
    assert WebFile.model_validate({"basic_auth_users": {"prometheus": hashed}})


def test_the_systemd_unit_has_only_directives_systemd_knows(tmp_path: Path) -> None:
    analyze = require_tool("systemd-analyze", "systemd")
    unit = ROOT / "deploy" / "systemd" / "chatqueue-exporter.service"
    text = unit.read_text(encoding="utf-8")
    copy = tmp_path / unit.name
    # The only part that is not on this machine.
    copy.write_text(text.replace("/opt/chatqueue/bin/chatqueue", "/bin/true"))
    done = run_program([analyze, "verify", copy])

    assert (done.returncode, done.stderr) == (0, "")
