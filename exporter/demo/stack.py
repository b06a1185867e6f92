"""Prometheus and Alertmanager beside the demo, with the shipped rules, on loopback and free ports.

The rules and routes are those of an installation, unedited; only intervals are shorter, by
configuration. Nothing is sent anywhere: the receivers have no addresses.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.config.resources import find_resource
from exporter.demo.machine import end_guarded, find_free_port, start_guarded
from exporter.errors import ChatqueueError
from exporter.ops.rules import JOB, Links, write_rules

HOST = "127.0.0.1"
# Debian's name first.
_PROGRAMS = {
    "prometheus": (("prometheus",), "prometheus"),
    "alertmanager": (("prometheus-alertmanager", "alertmanager"), "prometheus-alertmanager"),
}
_READY_S = 30.0
_END_S = 10.0


class StackNotInstalled(ChatqueueError):
    """Prometheus or Alertmanager is missing; the message names them."""


class StackNotStarted(ChatqueueError):
    """One of them ended or does not answer; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs lie."""

    prometheus: str
    alertmanager: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The running pair.

    Attributes:
        prometheus_url: Of its pages; alerts are below `/alerts`.
        alertmanager_url: Of its pages.
    """

    prometheus_url: str
    alertmanager_url: str


def find_programs() -> Programs:
    """Find Prometheus and Alertmanager, on PATH and in /usr/sbin.

    Raises:
        StackNotInstalled: One or both are missing.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
    found, missing = {}, []
    for name, (commands, package) in _PROGRAMS.items():
        program = next(filter(None, (shutil.which(c, path=path) for c in commands)), None)
        if program is None:
            missing.append(f"{name} (Debian's package {package})")
        else:
            found[name] = program
    if missing:
        raise StackNotInstalled(f"demo --full needs {' and '.join(missing)} on PATH")
    return Programs(**found)


@contextlib.contextmanager
def run_stack(
    programs: Programs,
    folder: Path,
    targets: Sequence[str],
    receivers: Sequence[dict[str, Any]] | None = None,
    interval: str = "1s",
    edit: Callable[[Path], object] = lambda _: None,
) -> Iterator[Stack]:
    """Run both until the block ends.

    Args:
        programs: What to run.
        folder: An existing folder for configurations, data and logs.
        targets: `host:port` of the exporters.
        receivers: Alertmanager's; by default they exist and send nothing.
        interval: Between scrapes, and between evaluations of the rules.
        edit: Called with the folder once the configurations and rules are written.

    Raises:
        StackNotStarted: One of them does not start.
    """
    ports = find_free_port(), find_free_port()
    prometheus, alertmanager = (f"http://{HOST}:{port}" for port in ports)
    files = write_stack_config(folder, targets, ports[1], receivers, interval)
    edit(folder)
    commands = {
        "alertmanager": [
            programs.alertmanager,
            f"--config.file={files[1]}",
            f"--storage.path={folder / 'alertmanager-data'}",
            f"--web.listen-address={HOST}:{ports[1]}",
            "--cluster.listen-address=",
        ],
        "prometheus": [
            programs.prometheus,
            f"--config.file={files[0]}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address={HOST}:{ports[0]}",
            # A missed page must not wait for the default minute.
            "--rules.alert.resend-delay=1s",
        ],
    }
    with contextlib.ExitStack() as running:
        started = {
            name: running.enter_context(_run(command, folder / f"{name}.log"))
            for name, command in commands.items()
        }
        for name, port in zip(("prometheus", "alertmanager"), ports, strict=True):
            _wait_until_ready(name, port, started[name], folder / f"{name}.log")
        yield Stack(prometheus, alertmanager)


def write_stack_config(
    folder: Path,
    targets: Sequence[str],
    alertmanager_port: int,
    receivers: Sequence[dict[str, Any]] | None,
    interval: str,
) -> tuple[Path, Path]:
    """Write both configurations and the rules; return Prometheus's and Alertmanager's file."""
    write_rules(folder / "rules", Links())
    prometheus = {
        "global": dict.fromkeys(
            ("scrape_interval", "scrape_timeout", "evaluation_interval"), interval
        ),
        "rule_files": ["rules/*.rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"{HOST}:{alertmanager_port}"]}]}]
        },
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
    }
    example = find_resource("alerts") / "alertmanager.example.yml"
    alertmanager = yaml.safe_load(example.read_text(encoding="utf-8"))
    alertmanager["receivers"] = list(
        receivers or [{"name": receiver["name"]} for receiver in alertmanager["receivers"]]
    )
    # A newcomer waits seconds for what an installation groups for half a minute.
    alertmanager["route"] |= {"group_wait": "5s", "group_interval": "5s"}
    files = folder / "prometheus.yml", folder / "alertmanager.yml"
    for file, document in zip(files, (prometheus, alertmanager), strict=True):
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return files


@contextlib.contextmanager
def _run(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that ends with the block, and with this process even if that is killed."""
    with log.open("wb") as output:
        process = start_guarded(command, output, "", cwd=log.parent)
    try:
        yield process
    finally:
        end_guarded(process, signal.SIGTERM, _END_S)


def _wait_until_ready(name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once it answers.

    Raises:
        StackNotStarted: It ended, or is not ready in time.
    """
    deadline = time.monotonic() + _READY_S
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise StackNotStarted(f"{name} does not start:\n{tail}")
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    return False
